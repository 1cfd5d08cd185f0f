"""Assets of a release on GitHub: brought once, never overwritten, and downloaded again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from release_tool import errors
from release_tool.files import atomic
from release_tool.progress import Reporter
from release_tool.provenance import dsse, log
from release_tool.provenance.keys import PublicKey
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
    trusted: Sequence[PublicKey] = (),
) -> ReleasedAsset:
    """Upload one asset, unless it stands there. It may be called again after a lost answer.

    Args:
        github: the repository.
        release: where it goes.
        ours: what it is.
        path: its bytes.
        reporter: is told of bytes.
        trusted: the keys by which a head of the log may be signed, see `standing`.

    Returns:
        what stands there.

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
        ours = standing(github, ours, there, path, trusted=trusted)
        require_same(ours, there)
        return ours
    require_same(ours, github.upload(release, path, name=ours.name, reporter=reporter))
    return ours


def standing(
    github: GitHub,
    ours: ReleasedAsset,
    there: service.Asset,
    path: Path,
    *,
    trusted: Sequence[PublicKey],
) -> ReleasedAsset:
    """What belongs where something stands: ours, or the same head of the log by an earlier key.

    Whoever changes the environment's key signs the same head anew, to other bytes. The one that
    stands is as good while its own key is listed, and no asset is ever replaced.

    Raises:
        HostError: the file cannot be read.
        CredentialError, TransientError, PendingError, RemoteRefusedError, VerificationError:
            GitHub.
    """
    is_head = ours.name == log.HEAD_NAME or log.is_later_name(ours.name)
    whole = there.state == service.UPLOADED and there.size <= dsse.LIMIT_BYTES
    if not is_head or not whole or there.sha256 == ours.sha256:
        return ours
    with atomic.naming(path, "read"):
        content = path.read_bytes()
    stands = github.content(there, limit_bytes=dsse.LIMIT_BYTES)
    if not log.is_same_head(stands, content, trusted=trusted):
        return ours
    digest = hashlib.sha256(stands).hexdigest()
    return ReleasedAsset(name=ours.name, size=len(stands), sha256=digest)


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
