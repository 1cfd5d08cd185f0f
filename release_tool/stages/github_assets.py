"""Assets of a release on GitHub: brought once, never overwritten, and downloaded again."""

from __future__ import annotations

from pathlib import Path

from release_tool import errors
from release_tool.progress import Reporter
from release_tool.services import github as service
from release_tool.services import retries
from release_tool.services.github import GitHub
from release_tool.values import ReleasedAsset


def bring(
    github: GitHub,
    release: service.Release,
    ours: ReleasedAsset,
    path: Path,
    *,
    reporter: Reporter,
) -> None:
    """Upload one asset, unless it stands there. It may be called again after a lost answer.

    Raises:
        RemoteRefusedError: other bytes stand under its name.
        HostError: the file cannot be read.
        CredentialError, TransientError, PendingError, VerificationError: GitHub.
    """
    listed = {asset.name: asset for asset in github.assets(release)}
    there = listed.get(ours.name)
    if there is not None and there.state == service.STARTER:
        reporter.note(f"replacing what a broken upload of {ours.name} left")
        github.discard(there)
    elif there is not None:
        require_same(ours, there)
        return
    require_same(ours, github.upload(release, path, name=ours.name, reporter=reporter))


def require_same(ours: ReleasedAsset, there: service.Asset) -> None:
    """Compare by what GitHub tells of an asset; not every server tells a digest.

    Raises:
        RemoteRefusedError: it holds other bytes, or is not whole.
    """
    same = there.size == ours.size and there.sha256 in ("", ours.sha256)
    if same and there.name == ours.name and there.state == service.UPLOADED:
        return
    raise errors.RemoteRefusedError(
        "the release on GitHub already holds other bytes under this name",
        subject=ours.name,
        expected=f"{ours.sha256}, {ours.size} bytes",
        observed=f"{there.name}, {there.state}, {there.sha256 or 'no digest'}, {there.size} bytes",
        hint="a finished asset is never overwritten: delete a wrong draft by hand, or release"
        " the next version",
    )


def read_back(
    github: GitHub,
    ours: ReleasedAsset,
    there: service.Asset,
    *,
    policy: retries.Policy,
    reporter: Reporter,
) -> None:
    """Download an asset again and compare it.

    Raises:
        VerificationError: it holds other bytes.
        CredentialError, TransientError, PendingError, RemoteRefusedError: GitHub.
    """
    served = retries.call(
        lambda: github.read_back(there, limit_bytes=ours.size, reporter=reporter), policy, reporter
    )
    if served.sha256 != ours.sha256:
        raise errors.VerificationError(
            "the asset, downloaded again, holds other bytes",
            subject=ours.name,
            expected=f"{ours.sha256}, {ours.size} bytes",
            observed=f"{served.sha256}, {served.size} bytes",
            hint="run again; if it stays, see who else writes to this release",
        )
