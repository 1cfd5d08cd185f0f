"""A real environment smokes a model that release.yaml pins, or a folder; and says early which."""

from __future__ import annotations

from pathlib import Path

import pytest

from release_tool import errors
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.services.model_store import ModelStore
from release_tool.stages import smoke_model
from tests import hub_world
from tests.hub_world import COMMIT, FILES, MODEL


def planned(plan: ReleasePlan, provider: str, **smoke: str) -> ReleasePlan:
    environment = plan.environment.model_copy(update={"provider": provider})
    changes = {"model_revision": "", "model_sha256": "", **smoke}
    part = plan.smoke.model_copy(update=changes)
    return plan.model_copy(update={"environment": environment, "smoke": part})


def test_a_model_that_is_not_pinned_is_refused_with_the_way_to_pin_it(plan: ReleasePlan) -> None:
    """Before anybody is asked: what lacks, and the command that tells it."""
    nobody = ModelStore(shared=Path("/nowhere"))
    for pinned, lacking in (
        ({}, "smoke.model_revision and smoke.model_sha256"),
        ({"model_revision": COMMIT}, "smoke.model_sha256"),
        ({"model_sha256": "a" * 64}, "smoke.model_revision"),
    ):
        asked = planned(plan, "bundle", model=MODEL, **pinned)
        for ask in (
            lambda asked=asked: smoke_model.check(asked, None, nobody),
            lambda asked=asked: smoke_model.obtain(asked, None, nobody, Silent()),
        ):
            with pytest.raises(errors.UsageError, match="not pinned") as caught:
                ask()
            assert caught.value.expected == lacking
            assert "`release-tool model pin`" in caught.value.hint


def test_the_pinned_model_comes_and_another_is_refused(plan: ReleasePlan, tmp_path: Path) -> None:
    """By the digest of all its files, whatever the hub lists."""
    with hub_world.living(tmp_path) as world:
        good = hub_world.digest(FILES)
        for digest in (good, "0" * 64):
            asked = planned(plan, "bundle", model=MODEL, model_revision=COMMIT, model_sha256=digest)
            smoke_model.check(asked, None, world.store())
            folder = smoke_model.obtain(asked, None, world.store(), Silent())
            if digest == good:
                assert smoke_model.require_digest(asked, folder) == good
                continue
            with pytest.raises(errors.VerificationError, match="not the model") as caught:
                smoke_model.require_digest(asked, folder)
            assert (caught.value.expected, caught.value.observed) == (digest, good)


def test_a_folder_needs_no_hub_and_no_pin(plan: ReleasePlan, tmp_path: Path) -> None:
    """Named on the command line or in release.yaml; its digest goes into the evidence."""
    folder = hub_world.write(tmp_path / "model", FILES)
    nobody = ModelStore(shared=Path("/nowhere"))
    for asked, given in (
        (planned(plan, "bundle", model=MODEL), folder),
        (planned(plan, "bundle", model=str(folder)), None),
        (planned(plan, "stand-in", model=MODEL), folder),
    ):
        smoke_model.check(asked, given, nobody)
        assert smoke_model.obtain(asked, given, nobody, Silent()) == folder.resolve()
        assert smoke_model.require_digest(asked, folder) == hub_world.digest(FILES)
