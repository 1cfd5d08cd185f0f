"""Files and apps signed on disk, with the look-alike's identity and ad-hoc."""

from __future__ import annotations

import hashlib
import plistlib
import shutil
import tempfile
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import (
    bundle,
    checks,
    code_directory,
    macho,
    policy,
    signing,
    superblob,
    verification,
)
from release_tool.apple.code_objects import CodeObject
from release_tool.apple.facts import BundleReport
from release_tool.files.tree import DiskTree
from release_tool.rehearsal import samples
from release_tool.services import portable_signer
from release_tool.services.portable_signer import Executable
from release_tool.services.timestamp import TimestampService
from tests import bundle_samples, look_alike, macho_samples

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
    with pytest.raises(errors.VerificationError, match="nobody asked to sign") as caught:
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


def _derived(code: CodeObject) -> Executable:
    return Executable(path=code.path)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """An app with a bundle of each kind in it."""
    root = tmp_path / "Example.app"
    bundle_samples.write(root, *bundle_samples.app())
    return root


@pytest.mark.parametrize("adhoc", [False, True])
def test_bundles_of_every_kind_are_signed(
    adhoc: bool, whole: Path, authority: signing.Authority
) -> None:
    """Framework, services, plug-ins, apps in apps: all verify, each as its own seal names it."""
    told = portable_signer.sign_bundle(whole, _derived, authority=None if adhoc else authority)
    report = _verify(whole, strict=False)
    assert _failed(report) == []
    assert report.facts is not None
    by_path = {one.path: one for one in told}
    assert {*report.facts.code, "Contents/Resources/worker"} == {*by_path}
    seal = plistlib.loads((whole / "Contents/_CodeSignature/CodeResources").read_bytes())
    files2 = seal["files2"]
    kit = by_path[f"{bundle_samples.FRAMEWORK}/Versions/A/Kit"]
    assert files2["Frameworks/Kit.framework"] == {
        "cdhash": kit.slices[0].cdhash,
        "requirement": kit.requirement,
    }
    assert "hash2" in files2["Resources/worker"], "code outside of code places is sealed as a file"
    assert files2["Resources/en.lproj/Main.strings"]["optional"] is True
    assert "optional" not in files2["Resources/Base.lproj/Main.nib"]
    unsealed = {"Info.plist", "PkgInfo", "Resources/.DS_Store", "MacOS/main"}
    unsealed.add("Resources/en.lproj/locversion.plist")
    assert not unsealed & files2.keys()
    assert "embedded.provisionprofile" in files2
    inner = whole / "Contents/Helpers/Agent.app/Contents/_CodeSignature/CodeResources"
    assert "embedded.provisionprofile" in plistlib.loads(inner.read_bytes())["files2"]
    assert (whole / bundle_samples.FRAMEWORK / "Versions/A/_CodeSignature/CodeResources").exists()
    libraries = [one.identifier for one in told if one.path.endswith(".dylib")]
    assert libraries[0].startswith("libfrotz7-55554944" if adhoc else "libfrotz7")


def test_the_plan_is_what_is_signed(whole: Path) -> None:
    """Planning changes nothing and names the same code in the same order."""
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    planned = portable_signer.plan_bundle(whole, _derived, adhoc=True)
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before
    told = portable_signer.sign_bundle(whole, _derived)
    assert [(one.code.path, one.executable.identifier) for one in planned] == [
        (one.path, one.identifier) for one in told
    ]


def test_old_signatures_are_replaced_whole(whole: Path, authority: signing.Authority) -> None:
    """Signed again ad-hoc, an app is as if it had never been signed by anyone else."""
    fresh = whole.with_name("Fresh.app")
    shutil.copytree(whole, fresh, symlinks=True)
    portable_signer.sign_bundle(whole, _derived, authority=authority)
    for leftover in ("CodeDirectory", "CodeSignature"):
        (whole / "Contents/_CodeSignature" / leftover).write_bytes(b"of another signer")
    for root in (whole, fresh):
        portable_signer.sign_bundle(root, _derived)
    files = {path.relative_to(whole): path.read_bytes() for path in _files(whole)}
    assert files == {path.relative_to(fresh): path.read_bytes() for path in _files(fresh)}


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]


def test_nothing_changes_where_one_is_refused(whole: Path) -> None:
    """All are asked before the first file is replaced."""
    before = {path: path.read_bytes() for path in _files(whole)}
    with pytest.raises(errors.VerificationError, match="nobody asked") as caught:
        portable_signer.sign_bundle(
            whole, lambda code: None if code.path.endswith("/tool") else _derived(code)
        )
    assert caught.value.subject == "Contents/MacOS/tool"
    assert {path: path.read_bytes() for path in _files(whole)} == before


def test_old_systems_get_sha1_too(tmp_path: Path, authority: signing.Authority) -> None:
    """For macOS before 10.11.4: a SHA-1 code directory in front, both digests in the seal."""
    root = tmp_path / "Old.app"
    files = {
        "Contents/Info.plist": bundle_samples.info("old", "io.example.old"),
        "Contents/MacOS/old": macho_samples.targeting("10.9"),
        "Contents/Resources/notes.txt": b"notes",
    }
    bundle_samples.write(root, files, {})
    portable_signer.sign_bundle(root, _derived, authority=authority)
    report = _verify(root, strict=False)
    assert _failed(report) == []
    (code,) = macho.parse((root / "Contents/MacOS/old").read_bytes())
    assert code.signature_bytes is not None
    blobs = superblob.parse(code.signature_bytes)
    assert blobs.slots == (0, 2, 0x1000, 0x10000)
    kinds = [code_directory.parse(raw).hash_type for raw in blobs.code_directories]
    assert kinds == [code_directory.SHA1, code_directory.SHA256]
    seal = plistlib.loads((root / "Contents/_CodeSignature/CodeResources").read_bytes())
    assert seal["files2"]["Resources/notes.txt"] == {
        "hash": hashlib.sha1(b"notes").digest(),
        "hash2": hashlib.sha256(b"notes").digest(),
    }


def test_code_is_signed_without_being_held(tmp_path: Path) -> None:
    """The signer's memory does not grow with the file: 64 MB of code in less than 4 MB."""
    path = tmp_path / "tool"
    macho_samples.enlarged(path, 64_000_000)
    tracemalloc.start()
    try:
        portable_signer.sign_file(path, identifier="io.example.tool")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    judge = verification.Judge(trust=look_alike.trust(), now=datetime.now(UTC), strict=True)
    assert checks.all_hold(verification.verify(path.read_bytes(), judge=judge).checks)


_NAMES = st.from_regex(r"[a-z][a-z0-9 _é]{0,8}(\.[a-z]{1,5})?", fullmatch=True)
_PLACES = st.sampled_from(
    ["Resources", "Resources/en.lproj", "Resources/Base.lproj", "Resources/a.b/c", "SharedSupport"]
)
_RESOURCES = st.dictionaries(
    st.tuples(_PLACES, _NAMES).map("/".join), st.binary(max_size=40), max_size=8
)
_KINDS = st.sets(st.sampled_from(["Frameworks", "Helpers", "PlugIns", "XPCServices", "MacOS"]))


def _parts(kinds: set[str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Of the whole app, its own executable and what lies in these code places."""
    files, links = bundle_samples.app()
    own = ("Contents/Info.plist", "Contents/MacOS/main")
    wanted = tuple(f"Contents/{kind}/" for kind in kinds)
    kept = {path: data for path, data in files.items() if path in own or path.startswith(wanted)}
    return kept, {path: to for path, to in links.items() if path.startswith(wanted)}


@given(_KINDS, _RESOURCES, st.booleans(), st.data())
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_signed_verifies_and_nothing_else(
    authority: signing.Authority,
    kinds: set[str],
    resources: dict[str, bytes],
    adhoc: bool,
    data: st.DataObject,
) -> None:
    """Any mix of bundles and resources verifies once signed; any changed sealed file is caught."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "Any.app"
        files, links = _parts(kinds)
        added = {
            f"Contents/{path}": content
            for path, content in resources.items()
            if not any(other.startswith(f"{path}/") for other in resources)
        }
        bundle_samples.write(root, {**files, **added}, links)
        signer = (
            None
            if adhoc
            else signing.Authority(identity=authority.identity, signing_time=authority.signing_time)
        )
        portable_signer.sign_bundle(root, _derived, authority=signer)
        assert _failed(_verify(root, strict=False)) == []
        sealed = [path for path in _files(root) if not macho.is_macho(path.read_bytes()[:8])]
        changed = data.draw(st.sampled_from(sorted(sealed)))
        changed.write_bytes(changed.read_bytes() + b"x")
        assert _failed(_verify(root, strict=False))
