"""The model of the smoke run: pinned by commit and by the digest of its files, looked for early.

A folder that somebody names is taken as it is: the evidence states its digest. A model of the hub
is whatever its owner pushed last: a real environment takes none that `release.yaml` does not pin.
"""

from __future__ import annotations

from pathlib import Path

from release_tool import errors
from release_tool.plan import ReleasePlan, Smoke
from release_tool.progress import Reporter
from release_tool.services import hub_cache
from release_tool.services.hub import MODEL
from release_tool.services.model_store import ModelStore, Pin


def check(plan: ReleasePlan, given: Path | None, store: ModelStore) -> None:
    """Whether the smoke stage will have its model; nothing is downloaded.

    Args:
        plan: the release plan.
        given: a folder, in place of the plan's model.
        store: where models are looked for.

    Raises:
        UsageError: the model is not pinned.
        ReleaseError: as of `ModelStore.check`.
    """
    _require_pinned(plan, given)
    store.check(_pin(plan, given))


def unpinned(smoke: Smoke) -> list[str]:
    """What release.yaml lacks of a model that the hub hands out; a folder needs nothing."""
    if not MODEL.fullmatch(smoke.model) or Path(smoke.model).is_dir():
        return []
    keys = ("model_revision", "model_sha256")
    return [f"smoke.{key}" for key in keys if not getattr(smoke, key)]


def obtain(plan: ReleasePlan, given: Path | None, store: ModelStore, reporter: Reporter) -> Path:
    """The model's folder, downloaded where this host does not have it.

    Raises:
        UsageError: the model is not pinned.
        ReleaseError: as of `ModelStore.obtain`.
    """
    _require_pinned(plan, given)
    return store.obtain(_pin(plan, given), reporter)


def require_digest(plan: ReleasePlan, folder: Path) -> str:
    """The digest of the model, before anything is started: another one proves something else.

    Raises:
        VerificationError: `release.yaml` pins another one.
    """
    observed, pinned = hub_cache.digest(folder), plan.smoke.model_sha256
    if plan.environment.provider == "bundle" and pinned not in ("", observed):
        raise errors.VerificationError(
            "this is not the model that release.yaml pins",
            subject=str(folder),
            expected=pinned,
            observed=observed,
            hint="download it again at smoke.model_revision, or correct smoke.model_sha256",
        )
    return observed


def _pin(plan: ReleasePlan, given: Path | None) -> Pin:
    smoke = plan.smoke
    return Pin(str(given or smoke.model), smoke.model_revision, smoke.model_sha256)


def _require_pinned(plan: ReleasePlan, given: Path | None) -> None:
    smoke = plan.smoke
    if given is not None or plan.environment.provider != "bundle":
        return
    missing = unpinned(smoke)
    if missing:
        raise errors.UsageError(
            "the smoke model is not pinned: the hub hands out whatever its owner pushed last",
            subject=smoke.model,
            expected=" and ".join(missing),
            observed="none in release.yaml",
            hint="`release-tool model pin` downloads it and prints both: review the files, then put"
            " them into release.yaml",
        )
