"""What users download is judged from the seal down before anything is registered."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.apple import release
from release_tool.files import archive_reader, archive_writer
from release_tool.plan import ReleasePlan
from release_tool.stages import public_copy
from release_tool.values import ReleaseArchive, SealedFile
from tests import signed_release
from tests.scripted_server import Reply, Request
from tests.small_world import SmallWorld
from tests.stages import release_chain
from tests.stages.release_chain import NAME, Chain

KEY = f"releases/v0.5.0/{NAME}"
DATE = signed_release.DATE


def _described(content: bytes, cdhash: str) -> ReleaseArchive:
    """The record of an archive, as the archive stage would have written it."""
    with tempfile.TemporaryDirectory() as folder:
        unpacked = archive_reader.unpack_from(io.BytesIO(content), Path(folder))
    digests = {one.path: one.sha256 for one in unpacked.members}
    return ReleaseArchive(
        path=NAME,
        sha256=unpacked.sha256,
        size=unpacked.size,
        tar_sha256=unpacked.tar_sha256,
        binary_sha256=digests["bin/darkbloom"],
        enclave_sha256=digests["bin/darkbloom-enclave"],
        metallib_sha256=digests["bin/mlx.metallib"],
        cdhash=cdhash,
        code_directory_sha256="0" * 64,
        source_commit="unknown",
        test_outcome="unknown",
        members=tuple(
            SealedFile(path=one.path, mode=one.mode, size=one.size, sha256=one.sha256)
            for one in unpacked.members
            if one.kind != "directory"
        ),
    )


def _cdhash() -> str:
    made = signed_release.made()
    report = release.verify(made.tree(), judge=made.judge())
    assert report.facts
    assert report.facts.main
    return report.facts.main.cdhash


def _packed(folder: Path, change: Callable[[Path], None]) -> bytes:
    root = signed_release.made().write(folder / "root")
    change(root)
    archive_writer.pack(root, folder / "changed.tar.gz", date=DATE)
    return (folder / "changed.tar.gz").read_bytes()


def _start(world: SmallWorld, plan: ReleasePlan, folder: Path, content: bytes) -> Chain:
    """A chain whose archive holds these bytes, with a record and evidence that fit them."""
    chain = release_chain.start(world, plan, folder)
    (folder / NAME).write_bytes(content)
    chain.archive = _described(content, _cdhash())
    chain.evidence = chain.evidence.model_copy(
        update={
            "archive_sha256": chain.archive.sha256,
            "executable_sha256": chain.archive.binary_sha256,
            "cdhash": chain.archive.cdhash,
        }
    )
    made = signed_release.made()
    chain.judge = public_copy.from_the_seal_down(made.trust, clock=lambda: made.now)
    return chain


def test_a_sound_release_is_downloaded_once_and_verified(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """One download gives size, digest and the unpacked tree; nothing of it is left behind."""
    downloads: list[str] = []

    def watch(request: Request) -> Reply | None:
        if request.path.startswith("/public"):
            downloads.append(request.method)
        return None

    world.before = watch
    chain = _start(world, plan, tmp_path / "dist", signed_release.made().archive)
    assert chain.publish().created
    assert downloads == ["GET"]
    assert not [path for path in (tmp_path / "dist").rglob("*") if path.name == "served"]


def test_a_download_that_broke_begins_anew(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Half of it was unpacked already; the next try starts in an empty folder."""
    content = signed_release.made().archive
    answers = [Reply(200, content[: len(content) // 2], declared=len(content)), None]
    world.before = lambda request: answers.pop(0) if "/public" in request.path else None
    assert _start(world, plan, tmp_path / "dist", content).publish().created
    assert not answers


def _other_byte_in_the_seal(root: Path) -> None:
    path = root / "Darkbloom.app/Contents/_CodeSignature/CodeResources"
    path.write_bytes(path.read_bytes().replace(b"<key>", b"<key >", 1))


def _other_byte_of_code(root: Path) -> None:
    path = root / "Darkbloom.app/Contents/MacOS/darkbloom"
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)


def _stranger(root: Path) -> None:
    (root / "Darkbloom.app/Contents/MacOS/stranger").write_bytes(b"x")


def _no_flat_copy(root: Path) -> None:
    (root / "bin/darkbloom-enclave").write_bytes(b"another")


@pytest.mark.parametrize(
    "change", [_other_byte_in_the_seal, _other_byte_of_code, _stranger, _no_flat_copy]
)
def test_what_does_not_verify_is_never_handed_on(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """The record may say what it will, and the digests fit: the seal decides, exit 6."""
    content = _packed(tmp_path, change)
    with pytest.raises(errors.VerificationError, match="does not verify") as caught:
        _start(world, plan, tmp_path / "dist", content).publish()
    assert caught.value.exit_code == 6
    assert caught.value.details


def test_a_signer_that_nobody_trusts_is_refused(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The same names under another root."""
    chain = _start(world, plan, tmp_path / "dist", signed_release.made().archive)
    impostor = signed_release.trust_of(signed_release.impostor())
    chain.judge = public_copy.from_the_seal_down(impostor)
    with pytest.raises(errors.VerificationError, match="does not verify"):
        chain.publish()


def test_code_that_was_not_signed_here_is_refused(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """A sound release, but not the one whose cdhash was recorded."""
    chain = _start(world, plan, tmp_path / "dist", signed_release.made().archive)
    chain.archive = chain.archive.model_copy(update={"cdhash": "0" * 40})
    with pytest.raises(errors.VerificationError) as caught:
        chain.publish()
    assert [detail.split(":")[0] for detail in caught.value.details] == ["cdhash"]


@pytest.mark.parametrize("cut", [0, 100])
def test_other_bytes_are_named_by_their_digest(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path, cut: int
) -> None:
    """Bytes that cannot be unpacked are still read to their end: the digest is what is wrong."""
    chain = _start(world, plan, tmp_path / "dist", signed_release.made().archive)
    served = chain.content[:cut]
    world.before = lambda request: Reply(200, served) if "/public" in request.path else None
    with pytest.raises(errors.VerificationError, match="does not serve what was put") as caught:
        chain.publish()
    assert caught.value.observed == f"{hashlib.sha256(served).hexdigest()}, {cut} bytes"


def test_the_right_bytes_that_cannot_be_unpacked_are_refused(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path
) -> None:
    """A link that leads out: the digest fits what was recorded, and nobody may unpack it."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        member = tarfile.TarInfo("bin/darkbloom")
        member.type = tarfile.SYMTYPE
        member.linkname = "/etc/passwd"
        tar.addfile(member)
    content = whole.getvalue()
    chain = release_chain.start(world, plan, tmp_path / "dist")
    (tmp_path / "dist" / NAME).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    chain.archive = chain.archive.model_copy(update={"sha256": sha256, "size": len(content)})
    chain.evidence = chain.evidence.model_copy(update={"archive_sha256": sha256})
    with pytest.raises(errors.VerificationError, match="cannot be unpacked"):
        chain.publish()
