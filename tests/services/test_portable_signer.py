"""Files and apps signed on disk, with the look-alike's identity and ad-hoc."""

from __future__ import annotations

import hashlib
import plistlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.apple import bundle, checks, policy, signing, verification
from release_tool.apple.facts import BundleReport
from release_tool.files.tree import DiskTree
from release_tool.rehearsal import samples
from release_tool.services import portable_signer
from release_tool.services.portable_signer import Executable
from release_tool.services.timestamp import TimestampService
from tests import look_alike, macho_samples

MAIN, HELPER = "Contents/MacOS/darkbloom", "Contents/MacOS/darkbloom-enclave"
METALLIB = "Contents/MacOS/mlx.metallib"
IDENTIFIER = "io.darkbloom.provider"
CLAIMS = {"com.apple.security.network.client": True}
PROVIDER = Executable(path=MAIN, identifier=IDENTIFIER, entitlements=plistlib.dumps(CLAIMS))
ENCLAVE = Executable(path=HELPER, identifier="io.darkbloom.enclave")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The May layout with small samples."""
    root = tmp_path / "Darkbloom.app"
    (root / "Contents/MacOS").mkdir(parents=True)
    (root / "Contents/Resources").mkdir()
    for path, data, mode in (
        (MAIN, samples.executable("darkbloom", "0.5.0"), 0o755),
        (HELPER, samples.executable("darkbloom-enclave", "0.5.0"), 0o755),
        (METALLIB, samples.metallib(5000), 0o644),
        ("Contents/Resources/notes.txt", b"notes", 0o644),
        (
            "Contents/Info.plist",
            plistlib.dumps({"CFBundleExecutable": "darkbloom", "CFBundleIdentifier": IDENTIFIER}),
            0o644,
        ),
    ):
        (root / path).write_bytes(data)
        (root / path).chmod(mode)
    (root / "Contents/Resources/link.txt").symlink_to("notes.txt")
    return root


@pytest.fixture(scope="module")
def authority() -> Iterator[signing.Authority]:
    with look_alike.timestamp_server() as url:
        service = TimestampService(url=url, trust=look_alike.trust())
        yield signing.Authority(
            identity=look_alike.signer(),
            signing_time=datetime.now(UTC).replace(microsecond=0),
            timestamp=service.stamp,
        )


def _verify(app: Path, *, strict: bool = True) -> BundleReport:
    judge = verification.Judge(
        trust=look_alike.trust(), now=datetime.now(UTC) + timedelta(minutes=1), strict=strict
    )
    return bundle.verify(DiskTree(app), judge=judge, path=app.name)


def _failed(report: BundleReport) -> list[str]:
    return [
        f"{check.name} {check.subject}: {check.observed}"
        for check in report.checks
        if check.outcome == "failed"
    ]


def test_an_app_is_signed_inside_out(app: Path, authority: signing.Authority) -> None:
    """Everything verifies strictly from disk, as it was meant, the seal included."""
    told = portable_signer.sign_app(app, main=PROVIDER, nested=[ENCLAVE], authority=authority)
    report = _verify(app)
    assert _failed(report) == []
    assert report.facts is not None
    meant = policy.Meant(
        team_id=look_alike.TEAM,
        code={
            MAIN: policy.MeantCode(identifier=IDENTIFIER, entitlements=CLAIMS),
            HELPER: policy.MeantCode(identifier="io.darkbloom.enclave"),
        },
        certificate_sha256=look_alike.signer().fingerprint,
    )
    assert checks.all_hold(policy.compare(report.facts, meant))
    assert [one.path for one in told] == [HELPER, MAIN]
    for one in told:
        facts = report.facts.code[one.path].primary
        assert facts is not None
        assert facts.cdhash == one.slices[0].cdhash.hex()
        assert facts.full_digest == one.slices[0].code_directory_digest.hex()
        assert facts.requirement_text == one.requirement
    seal = plistlib.loads((app / "Contents/_CodeSignature/CodeResources").read_bytes())
    assert seal["files2"]["MacOS/darkbloom-enclave"]["cdhash"] == told[0].slices[0].cdhash
    assert (
        seal["files2"]["MacOS/mlx.metallib"]["hash2"]
        == hashlib.sha256((app / METALLIB).read_bytes()).digest()
    )
    assert seal["files2"]["Resources/link.txt"] == {"symlink": "notes.txt"}


def test_an_app_is_signed_ad_hoc(app: Path) -> None:
    """Without an identity the same holds, with nobody's name on it."""
    told = portable_signer.sign_app(app, main=PROVIDER, nested=[ENCLAVE])
    report = _verify(app)
    assert _failed(report) == []
    assert [one.team_id for one in told] == [None, None]
    assert report.facts is not None
    assert report.facts.main is not None
    assert report.facts.main.is_adhoc


def test_files_are_replaced_and_modes_kept(app: Path, authority: signing.Authority) -> None:
    """A new inode under the old name; whoever holds the old file keeps its bytes."""
    paths = [app / MAIN, app / HELPER]
    (app / HELPER).chmod(0o555)
    before = [(path.stat().st_ino, path.stat().st_mode, path.read_bytes()) for path in paths]
    with (app / MAIN).open("rb") as held:
        portable_signer.sign_app(app, main=PROVIDER, nested=[ENCLAVE], authority=authority)
        assert held.read() == before[0][2]
    for path, (inode, mode, content) in zip(paths, before, strict=True):
        assert path.stat().st_ino != inode
        assert path.stat().st_mode == mode
        assert path.read_bytes() != content


@pytest.mark.parametrize(
    "path",
    [
        MAIN,
        HELPER,
        METALLIB,
        "Contents/Info.plist",
        "Contents/Resources/notes.txt",
        "Contents/_CodeSignature/CodeResources",
    ],
)
def test_a_changed_file_is_named(path: str, app: Path, authority: signing.Authority) -> None:
    """One changed byte in any file of the signed app fails a check that names it."""
    portable_signer.sign_app(app, main=PROVIDER, nested=[ENCLAVE], authority=authority)
    data = bytearray((app / path).read_bytes())
    data[len(data) // 2] ^= 1
    (app / path).write_bytes(data)
    named = " ".join(_failed(_verify(app)))
    assert path in named or path.rpartition("/")[2] in named


def test_signing_again_changes_nothing_that_is_hashed(app: Path) -> None:
    """An app that was signed before comes out as a fresh one does."""
    copy = app.with_name("Again.app")
    portable_signer.sign_app(app, main=PROVIDER, nested=[ENCLAVE])
    shutil.copytree(app, copy, symlinks=True)
    portable_signer.sign_app(copy, main=PROVIDER, nested=[ENCLAVE])
    for path in (MAIN, HELPER, "Contents/_CodeSignature/CodeResources"):
        assert (app / path).read_bytes() == (copy / path).read_bytes()


def test_undeclared_code_is_refused(app: Path) -> None:
    """Code that nobody asked to sign would be sealed unsigned."""
    with pytest.raises(errors.VerificationError, match="not signed") as caught:
        portable_signer.sign_app(app, main=PROVIDER)
    assert "darkbloom-enclave" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("CFBundleExecutable", "other"),
        ("CFBundleIdentifier", "io.other"),
        ("CFBundleIdentifier", 7),
    ],
)
def test_an_info_plist_that_disagrees_is_refused(key: str, value: object, app: Path) -> None:
    """Before anything is changed."""
    info = app / "Contents/Info.plist"
    info.write_bytes(plistlib.dumps(plistlib.loads(info.read_bytes()) | {key: value}))
    before = (app / HELPER).read_bytes()
    with pytest.raises(errors.VerificationError, match="names another"):
        portable_signer.sign_app(app, main=PROVIDER, nested=[ENCLAVE])
    assert (app / HELPER).read_bytes() == before


def test_what_is_missing_or_no_code_is_named(app: Path) -> None:
    """The error carries the executable's path."""
    (app / HELPER).write_bytes(b"#!/bin/sh\n")
    with pytest.raises(errors.FormatError) as caught:
        portable_signer.sign_app(app, main=PROVIDER, nested=[ENCLAVE])
    assert caught.value.subject == HELPER
    (app / HELPER).unlink()
    with pytest.raises(errors.VerificationError) as missing:
        portable_signer.sign_app(app, main=PROVIDER, nested=[ENCLAVE])
    assert missing.value.subject == HELPER


def test_an_expired_identity_is_refused(app: Path) -> None:
    """Before anything is changed, with the dates."""
    authority = signing.Authority(
        identity=look_alike.signer(), signing_time=datetime(2090, 1, 1, tzinfo=UTC)
    )
    before = (app / HELPER).read_bytes()
    with pytest.raises(errors.CredentialError, match="not valid"):
        portable_signer.sign_app(app, main=PROVIDER, nested=[ENCLAVE], authority=authority)
    assert (app / HELPER).read_bytes() == before


def test_a_universal_tool_is_signed(tmp_path: Path, authority: signing.Authority) -> None:
    """Each slice by itself, the file's mode kept."""
    path = tmp_path / "tool"
    path.write_bytes(macho_samples.universal())
    path.chmod(0o711)
    told = portable_signer.sign_file(path, identifier="io.example.tool", authority=authority)
    assert [one.arch for one in told.slices] == ["x86_64", "arm64"]
    assert path.stat().st_mode & 0o777 == 0o711
    judge = verification.Judge(trust=look_alike.trust(), now=datetime.now(UTC), strict=False)
    report = verification.verify(path.read_bytes(), judge=judge)
    assert checks.all_hold(report.checks)
    assert [facts.team_id for facts in report.slices] == [look_alike.TEAM] * 2


def test_a_failing_timestamp_service_changes_nothing(app: Path) -> None:
    """The service is asked before the first file is replaced."""

    def refuse(octets: bytes) -> bytes:
        raise errors.TransientError("the timestamp service is not available")

    authority = signing.Authority(
        identity=look_alike.signer(), signing_time=datetime.now(UTC), timestamp=refuse
    )
    before = {path: path.read_bytes() for path in app.rglob("*") if path.is_file()}
    with pytest.raises(errors.TransientError):
        portable_signer.sign_app(app, main=PROVIDER, nested=[ENCLAVE], authority=authority)
    assert {path: path.read_bytes() for path in app.rglob("*") if path.is_file()} == before
