"""The archive stage over a signed look-alike release."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.apple import certificates
from release_tool.files import archive_proof
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.stages import archive, sign
from release_tool.values import AssembledBundle, ReleaseArchive, SignedBundle
from tests import look_alike
from tests.stages.release_parts import assembled, changed


@dataclass(frozen=True)
class Signed:
    """A signed release in its workspace."""

    plan: ReleasePlan
    root: Path
    assembled: AssembledBundle
    signed: SignedBundle

    def archive(self, plan: ReleasePlan | None = None) -> ReleaseArchive:
        return archive.run(
            plan or self.plan,
            self.signed,
            self.assembled,
            workspace=Workspace(self.root),
            reporter=Silent(),
            trust=look_alike.trust(),
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Signed]]:
    """One signed release for all tests here, made by the first of them."""
    found: dict[str, Signed] = {}
    yield found
    for one in found.values():
        shutil.rmtree(one.root)


@pytest.fixture
def release(
    made: dict[str, Signed],
    plan: ReleasePlan,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> Signed:
    """The signed release in a folder of its own."""
    if not made:
        folder = tmp_path_factory.mktemp("signed")
        value = assembled(plan, folder)
        with look_alike.timestamp_server() as url:
            signed = sign.run(
                plan,
                value,
                workspace=Workspace(folder / "work"),
                reporter=Silent(),
                identity=look_alike.signer(),
                trust=look_alike.trust(),
                timestamp_url=url,
            )
        made["one"] = Signed(plan, folder / "work", value, signed)
    one = made["one"]
    shutil.copytree(one.root, tmp_path / "work")
    return Signed(one.plan, tmp_path / "work", one.assembled, one.signed)


def _members(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_the_archive_has_the_contract_s_layout(release: Signed) -> None:
    """The flat copies are regular members that equal the app's; owner, mode and time are fixed."""
    value = release.archive()
    path = release.root / value.path
    listed = subprocess.run(
        ["tar", "tzf", str(path)], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in ("./bin/darkbloom", "./bin/darkbloom-enclave", "./bin/mlx.metallib"):
        assert name in listed
    members = _members(path)
    assert all(member.isreg() or member.isdir() for member in members.values())
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {
        (0, 0, release.plan.source.date)
    }
    assert members["./bin/darkbloom"].mode == 0o755
    assert members["./bin/mlx.metallib"].mode == 0o644
    with tarfile.open(path) as tar:
        for name in ("darkbloom", "darkbloom-enclave", "mlx.metallib"):
            flat = tar.extractfile(f"./bin/{name}")
            own = tar.extractfile(f"./Darkbloom.app/Contents/MacOS/{name}")
            assert flat is not None
            assert own is not None
            assert flat.read() == own.read()


def test_the_value_is_what_other_tools_compute(release: Signed) -> None:
    """Digests of the archive, the tar stream, both binaries and the metallib, by other tools."""
    value = release.archive()
    path = release.root / value.path
    content = path.read_bytes()
    assert value.sha256 == hashlib.sha256(content).hexdigest()
    assert value.size == len(content)
    stream = subprocess.run(["gzip", "-dc", str(path)], check=True, capture_output=True).stdout
    assert value.tar_sha256 == hashlib.sha256(stream).hexdigest()
    signed = {file.path: file.sha256 for file in release.signed.files}
    place = "Darkbloom.app/Contents/MacOS"
    assert value.binary_sha256 == signed[f"{place}/darkbloom"]
    assert value.enclave_sha256 == signed[f"{place}/darkbloom-enclave"]
    assert value.metallib_sha256 == signed[f"{place}/mlx.metallib"]
    (main,) = [code for code in release.signed.code if code.path == "Darkbloom.app"]
    assert value.cdhash == main.cdhash
    assert value.code_directory_sha256 == main.code_directory_sha256
    assert value.source_commit == release.plan.source.commit
    assert {member.path for member in value.members} >= {*signed, "bin/darkbloom"}
    assert value.outputs() == {release.plan.archive.name: value.sha256}


def test_the_same_release_gives_the_same_bytes(release: Signed) -> None:
    """Archived twice, it is the same file; with another date it is another."""
    first = release.archive()
    assert release.archive() == first
    assert archive_proof.require_canonical(release.root / first.path).sha256 == first.sha256
    later = changed(release.plan, source={"date": release.plan.source.date + 1})
    assert release.archive(later).sha256 != first.sha256


@pytest.mark.parametrize(
    "path", ["MacOS/darkbloom", "MacOS/mlx.metallib", "Info.plist", "_CodeSignature/CodeResources"]
)
def test_a_file_changed_after_signing_is_refused(release: Signed, path: str) -> None:
    """A changed byte in a signed file ends in one error that names the file, and no archive."""
    target = release.root / "signed" / "Darkbloom.app" / "Contents" / path
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    with pytest.raises(errors.VerificationError) as caught:
        release.archive()
    assert f"packed file of Darkbloom.app/Contents/{path}" in "\n".join(caught.value.lines())
    assert not (release.root / release.plan.archive.name).exists()


def test_added_removed_and_changed_files_are_told_at_once(release: Signed) -> None:
    """A new file, a missing one and a changed mode are each named."""
    contents = release.root / "signed" / "Darkbloom.app" / "Contents"
    (contents / "added").write_text("x")
    (contents / "embedded.provisionprofile").unlink()
    (contents / "MacOS" / "darkbloom-enclave").chmod(0o644)
    with pytest.raises(errors.VerificationError) as caught:
        release.archive()
    text = "\n".join(caught.value.lines())
    for path in ("added", "embedded.provisionprofile", "MacOS/darkbloom-enclave"):
        assert f"packed file of Darkbloom.app/Contents/{path}" in text


def test_an_untrusted_signature_is_refused(release: Signed) -> None:
    """What verifies to no trusted root does not become an archive."""
    with pytest.raises(errors.VerificationError):
        archive.run(
            release.plan,
            release.signed,
            release.assembled,
            workspace=Workspace(release.root),
            reporter=Silent(),
            trust=certificates.apple_trust(),
        )
    assert not (release.root / release.plan.archive.name).exists()


def test_the_limits_of_the_plan_hold(release: Signed) -> None:
    """An archive over the plan's limits is refused before anything is kept."""
    for limit in ("archive_bytes", "member_bytes", "members"):
        small = changed(release.plan, limits={limit: 5})
        with pytest.raises(errors.FormatError):
            release.archive(small)
    assert not (release.root / release.plan.archive.name).exists()
