"""The sign stage on the codesign route, on stand-ins for codesign and security.

They prove the wiring and every way to fail; that Apple's codesign does what they play is a Mac's
to prove.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.apple import bundle, identity, release
from release_tool.apple.verification import Judge
from release_tool.cli import main
from release_tool.cli.session import Session
from release_tool.files import archive_reader, archive_writer
from release_tool.files.tree import DiskTree
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.rehearsal.notary_judge import Judge as Notary
from release_tool.rehearsal.notary_judge import Upload
from release_tool.services import ditto, retries
from release_tool.services.codesign_signer import Route
from release_tool.stages import archive, sign
from release_tool.values import AssembledBundle, SignedBundle
from tests import look_alike
from tests.fake_mac import mac as fake_mac
from tests.fake_mac.mac import FakeMac
from tests.stages.release_parts import Told, changed
from tests.stages.test_sign import CLAIMS, ENTITLEMENTS, HELPER, assemble_small

METALLIB = "Contents/MacOS/mlx.metallib"
NAME = look_alike.signer().name


def _carries_attributes(folder: Path) -> bool:
    """Whether a signature of 9 KB fits beside a file here; ext4 has room for 4 KB."""
    probe = folder / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.probe", bytes(16 * 1024))
    except (AttributeError, OSError):
        return False
    return True


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    try:
        if not _carries_attributes(folder):
            pytest.skip("no file system here holds a signature in extended attributes")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def timestamp_url() -> Iterator[str]:
    with look_alike.timestamp_server() as url:
        yield url


def _ready(root: Path, timestamp_url: str) -> FakeMac:
    mac = fake_mac.install(root / "mac")
    leaf = look_alike.signer().leaf.der
    known = {"any": [hashlib.sha1(leaf).hexdigest().upper(), NAME]}
    mac.write(mac.state | {"timestamp_url": timestamp_url, "known": known})
    return mac


@pytest.fixture
def mac(root: Path, timestamp_url: str) -> Iterator[FakeMac]:
    mac = _ready(root, timestamp_url)
    yield mac
    assert not (mac.root / "misused").exists(), (mac.root / "misused").read_text()


@pytest.fixture
def apples(plan: ReleasePlan) -> ReleasePlan:
    return changed(plan, environment={"signer": "codesign"}, product={"signing_identity": NAME})


@pytest.fixture
def workspace(root: Path) -> Workspace:
    return Workspace(root / "dist")


@pytest.fixture
def assembled(workspace: Workspace, plan: ReleasePlan) -> AssembledBundle:
    return assemble_small(workspace, plan)


def _route(mac: FakeMac) -> Route:
    p12 = look_alike.authority().identity_p12("original", with_chain=True)
    return Route(
        export=lambda password: identity.for_keychain(
            p12, "original", new_password=password, known=look_alike.trust().roots
        ),
        folder=mac.folder,
        tools=mac.tools,
        patience=retries.Policy(attempts=3, sleep=lambda _: None),
    )


def _run(
    plan: ReleasePlan,
    assembled: AssembledBundle,
    workspace: Workspace,
    route: Route,
    told: Told | None = None,
) -> SignedBundle:
    return sign.run(
        plan,
        assembled,
        workspace=workspace,
        reporter=told or Told(),
        identity=None,
        trust=look_alike.trust(),
        timestamp_url="",
        route=route,
    )


@dataclass(frozen=True)
class _Done:
    """An app that went the whole route once, for tests that only look at it."""

    mac: FakeMac
    workspace: Workspace
    assembled: AssembledBundle
    value: SignedBundle


_DONE: list[_Done] = []


@pytest.fixture
def done(
    apples: ReleasePlan,
    plan: ReleasePlan,
    timestamp_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> _Done:
    """Made by the first test that asks; whoever changes it puts it back."""
    if not _DONE:
        memory = Path("/dev/shm")
        base = memory if memory.is_dir() else tmp_path_factory.getbasetemp()
        folder = Path(tempfile.mkdtemp(dir=base))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        if not _carries_attributes(folder):
            pytest.skip("no file system here holds a signature in extended attributes")
        mac = _ready(folder, timestamp_url)
        workspace = Workspace(folder / "dist")
        assembled = assemble_small(workspace, plan)
        value = _run(apples, assembled, workspace, _route(mac))
        _DONE.append(_Done(mac=mac, workspace=workspace, assembled=assembled, value=value))
    return _DONE[0]


def _login(mac: FakeMac) -> str:
    return str(mac.root / "home" / "login.keychain-db")


def _require_clean(mac: FakeMac) -> None:
    assert mac.search_list == [_login(mac)]
    assert set(mac.keychains) <= {_login(mac)}
    assert not list(mac.folder.glob("run-*"))


def test_the_whole_route(done: _Done) -> None:
    """Leaf to root, each with its identifier and entitlements, then read back as any signature.

    The metallib's signature lies in extended attributes, is verified there, and stands in the
    value beside the executables'.
    """
    mac, workspace, value = done.mac, done.workspace, done.value
    _require_clean(mac)
    assert not (mac.root / "misused").exists()
    signed = [words for words in mac.commands("codesign") if "--sign" in words]
    scratch = workspace.path(".scratch/sign/signed/Darkbloom.app")
    assert [words[-1] for words in signed] == [
        str(scratch / METALLIB),
        str(scratch / HELPER),
        str(scratch),
    ]
    assert [words[words.index("--identifier") + 1] for words in signed] == [
        "io.darkbloom.provider.mlx",
        "io.darkbloom.enclave",
        "io.darkbloom.provider",
    ]
    assert "--entitlements" not in signed[0]
    assert {code.path: code.entitlements for code in value.code} == {
        "Darkbloom.app": CLAIMS,
        f"Darkbloom.app/{HELPER}": ENTITLEMENTS["darkbloom-enclave"],
        f"Darkbloom.app/{METALLIB}": None,
    }
    assert value.signer == "codesign"
    assert value.certificate_sha256 == look_alike.signer().fingerprint
    assert all(code.signed_at for code in value.code)
    parts = DiskTree(workspace.path("signed/Darkbloom.app")).detached(METALLIB)
    assert set(parts) == {"CodeDirectory", "CodeRequirements", "CodeSignature"}


def test_the_preview_names_what_codesign_is_asked_to_sign(apples: ReleasePlan, done: _Done) -> None:
    """In the same order, under the same identifiers, with the same entitlements."""
    told = sign.preview(apples, done.assembled, workspace=done.workspace)
    asked = [words for words in done.mac.commands("codesign") if "--sign" in words]
    assert [one.identifier for one in told] == [
        words[words.index("--identifier") + 1] for words in asked
    ]
    assert [one.path for one in told] == [METALLIB, HELPER, "Contents/MacOS/darkbloom"]
    assert [one.architectures for one in told] == [(), ("arm64",), ("arm64",)]
    assert {one.flags for one in told} == {("runtime",)}
    signed = {code.identifier: code.entitlements for code in done.value.code}
    assert {one.identifier: one.entitlements for one in told} == signed


def test_a_changed_signature_beside_a_file_is_refused(done: _Done) -> None:
    """A byte in an attribute, or in the file: the check that caught it is named with its path."""
    app = done.workspace.path("signed/Darkbloom.app")
    path = app / METALLIB
    judge = Judge(trust=look_alike.trust(), now=datetime.now(UTC), strict=False)
    for part, said in (
        ("CodeDirectory", "nested cdhash"),
        ("CodeRequirements", "requirements hash"),
        ("CodeSignature", "signature"),
        ("", "page hashes"),
    ):
        name = f"user.com.apple.cs.{part}"
        whole = os.getxattr(path, name) if part else path.read_bytes()
        changed_byte = whole[:-3] + bytes((whole[-3] ^ 1,)) + whole[-2:]
        _put(path, name if part else "", changed_byte)
        report = bundle.verify(DiskTree(app), judge=judge, path="Darkbloom.app")
        failed = {(one.name, one.subject) for one in report.checks if one.outcome == "failed"}
        assert (said, f"Darkbloom.app/{METALLIB}") in failed
        _put(path, name if part else "", whole)
    name = "user.com.apple.cs.CodeDirectory"
    whole = os.getxattr(path, name)
    os.removexattr(path, name)
    report = bundle.verify(DiskTree(app), judge=judge, path="Darkbloom.app")
    _put(path, name, whole)
    assert [one for one in report.checks if one.outcome == "failed" and METALLIB in one.subject]


def _put(path: Path, name: str, content: bytes) -> None:
    if name:
        os.setxattr(path, name, content)
    else:
        path.write_bytes(content)


def test_only_the_timestamp_service_is_asked_again(
    apples: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, mac: FakeMac
) -> None:
    """Down twice, then up: signed. Down for good: exit 5, and no keychain is left."""
    down = {"stderr": "x: The timestamp service is not available.\n"}
    late = {"stderr": "x: A timestamp was expected but was not found.\n"}
    mac.fault("codesign --sign", down, late)
    told = Told()
    value = _run(apples, assembled, workspace, _route(mac), told)
    assert value.signer == "codesign"
    assert len([note for note in told.notes if "trying again" in note]) == 2
    mac.fault("codesign --sign", *[down] * 3)
    with pytest.raises(errors.TransientError, match="timestamp service"):
        _run(apples, assembled, workspace, _route(mac))
    _require_clean(mac)


def test_a_refusal_leaves_nothing(
    apples: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, mac: FakeMac
) -> None:
    """Asked once, told with codesign's own words; nothing is kept and no keychain is left."""
    mac.fault("codesign --sign", {"stderr": "x: errSecInternalComponent\n"})
    with pytest.raises(errors.CredentialError, match="does not let codesign use") as caught:
        _run(apples, assembled, workspace, _route(mac))
    assert caught.value.details == ("x: errSecInternalComponent",)
    assert len(mac.commands("codesign")) == 1
    assert not workspace.path("signed").exists()
    assert not workspace.path(".scratch").exists()
    _require_clean(mac)


def test_codesigns_verdict_and_reading_count(
    apples: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, mac: FakeMac
) -> None:
    """Its strict verdict refuses; another cdhash in its own words refuses too."""
    # What it would have written does not matter: its verdict comes before we look.
    mac.fault("codesign --sign", *[{"status": 0}] * 3)
    mac.fault("codesign --verify", {"stderr": "x: a sealed resource is missing or invalid\n"})
    with pytest.raises(errors.VerificationError, match="not those that were sealed"):
        _run(apples, assembled, workspace, _route(mac))
    words = (
        "Identifier=io.darkbloom.provider\nCodeDirectory v=20500 size=1 flags=0x10000(runtime)\n"
        f"CandidateCDHashFull sha256={'ab' * 32}\nCDHash={'ab' * 20}\nTeamIdentifier=not set\n"
    )
    mac.fault("codesign --display", {"status": 0, "stderr": words})
    with pytest.raises(errors.VerificationError, match="not what was meant") as caught:
        _run(apples, assembled, workspace, _route(mac))
    text = " ".join(caught.value.details)
    assert "code directory as codesign reads it" in text
    assert "team as codesign reads it" in text
    assert not workspace.path("signed").exists()


def test_an_identity_of_the_users_keychains_signs(
    apples: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, mac: FakeMac
) -> None:
    """Without a file the name in release.yaml is looked for; no keychain is made."""
    route = _route(mac)
    assert route.export is not None
    found, p12 = route.export("known")
    (mac.root / "imported.p12").write_bytes(p12)
    (mac.root / "imported.password").write_text("known")
    sha1 = hashlib.sha1(found.leaf.der).hexdigest().upper()
    mine = {"identities": [[sha1, NAME]], "partitions": "codesign:", "unlocked": True}
    mac.write(mac.state | {"keychains": {_login(mac): mine}})
    value = _run(apples, assembled, workspace, Route(folder=mac.folder, tools=mac.tools))
    assert value.certificate_name == NAME
    asked = {words[0] for words in mac.commands("security")}
    assert asked == {"find-identity"}
    mac.write(mac.state | {"keychains": {}})
    with pytest.raises(errors.CredentialError, match="does not hold"):
        _run(apples, assembled, workspace, Route(folder=mac.folder, tools=mac.tools))


def test_another_identity_than_the_release_names_is_refused(
    apples: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, mac: FakeMac
) -> None:
    """By name and by team, before any keychain is made."""
    other = changed(apples, product={"signing_identity": "Developer ID Application: Other"})
    with pytest.raises(errors.CredentialError, match="another one than the release names"):
        _run(other, assembled, workspace, _route(mac))
    other = changed(apples, product={"team_id": "ABCDE12345"})
    with pytest.raises(errors.CredentialError, match="another team"):
        _run(other, assembled, workspace, _route(mac))
    assert not mac.calls


def test_the_archive_carries_signatures_beside_files(
    apples: ReleasePlan, done: _Done, tmp_path: Path
) -> None:
    """MacOS's tar packs the app and the flat copies; unpacked by it, all verifies again.

    Sidecars are no members of the release; the digests are those of the signed files.
    """
    mac, workspace, value = done.mac, done.workspace, done.value
    made = archive.run(
        apples,
        value,
        done.assembled,
        workspace=workspace,
        reporter=Told(),
        trust=look_alike.trust(),
        tools=mac.tools,
    )
    path = workspace.path(made.path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == made.sha256
    digests = {member.path: member.sha256 for member in made.members}
    assert not [name for name in digests if "._" in name]
    assert set(digests) == {file.path for file in value.files} | {
        f"bin/{name}" for name in ("darkbloom", "darkbloom-enclave", "mlx.metallib")
    }
    assert digests["bin/mlx.metallib"] == digests[f"Darkbloom.app/{METALLIB}"]
    verified = [words for words in mac.commands("codesign") if words[0] == "--verify"]
    assert [Path(words[-1]).parent.name for words in verified][-2:] == ["signed", "unpacked"]
    # Anywhere else, without attributes on the disk, the archive's own headers tell the same.
    opened = tmp_path / "opened"
    opened.mkdir()
    raw = archive_reader.unpack(path, opened, sidecars=False)
    judge = Judge(trust=look_alike.trust(), now=datetime.now(UTC), strict=False)
    report = release.verify(DiskTree(opened, beside=raw.beside), judge=judge)
    assert [one for one in report.checks if one.outcome == "failed"] == []
    assert f"Darkbloom.app/{METALLIB}" in raw.beside
    assert "bin/mlx.metallib" in raw.beside
    lost = release.verify(DiskTree(opened), judge=judge)
    assert any(METALLIB in one.subject for one in lost.checks if one.outcome == "failed")


def test_dittos_zip_carries_signatures_beside_files(done: _Done, tmp_path: Path) -> None:
    """What goes to the notary is judged as it is, by `verify` and by the look-alike notary.

    Without the sidecars the seal names code that is not signed, and both refuse.
    """
    whole, lost, trust = (tmp_path / name for name in ("whole.zip", "lost.zip", "trust.pem"))
    trust.write_bytes(look_alike.authority().trust_pem())
    ditto.zip_app(done.workspace.path("signed/Darkbloom.app"), whole, tools=done.mac.tools)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(lost, "w") as target:
        for name in source.namelist():
            if not name.startswith("__MACOSX/"):
                target.writestr(name, source.read(name))
    for archive_path, code, status in ((whole, 0, "Accepted"), (lost, 6, "Invalid")):
        out = io.StringIO()
        said = ["verify", str(archive_path), "--foreign", "--trust", str(trust)]
        assert main.invoke(said, Session({}, out=out, err=out)) == code, out.getvalue()
        assert _notarys_word(archive_path, tmp_path) == status


def _notarys_word(path: Path, scratch: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    upload = Upload(archive=path, name=path.name, declared_sha256=digest, sha256=digest)
    return Notary(look_alike.trust(), scratch).judge(upload, now=datetime.now(UTC)).status


def test_an_archive_without_the_attributes_is_refused(
    apples: ReleasePlan, done: _Done, tmp_path: Path
) -> None:
    """A tar that loses them leaves code that the seal names unsigned; nothing gets the name."""
    workspace = Workspace(done.workspace.root.with_name("without"))
    # `shutil.copy` takes no attributes along.
    shutil.copytree(
        done.workspace.path("signed"), workspace.path("signed"), copy_function=shutil.copy
    )
    with pytest.raises(errors.VerificationError, match="archive is not what was meant") as caught:
        archive.run(
            apples,
            done.value,
            done.assembled,
            workspace=workspace,
            reporter=Told(),
            trust=look_alike.trust(),
            tools=done.mac.tools,
        )
    assert any(METALLIB in line for line in caught.value.details)
    assert not workspace.path(apples.archive.name).exists()


def test_our_own_archive_refuses_signatures_beside_files(done: _Done, tmp_path: Path) -> None:
    """The deterministic writer carries no attributes, so it says what would be lost."""
    with pytest.raises(errors.VerificationError, match="extended attributes") as caught:
        archive_writer.pack(done.workspace.path("signed"), tmp_path / "x.tar.gz", date=0)
    assert caught.value.subject == f"Darkbloom.app/{METALLIB}"
    assert "portable signer" in caught.value.hint
    assert not (tmp_path / "x.tar.gz").exists()


def test_a_wrong_password_of_the_export_is_told_first(
    apples: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, mac: FakeMac
) -> None:
    """Before any keychain is made."""
    p12 = look_alike.authority().identity_p12("original", with_chain=True)
    write = partial(identity.for_keychain, p12, "wrong")
    route = Route(
        export=lambda password: write(new_password=password), folder=mac.folder, tools=mac.tools
    )
    with pytest.raises(errors.CredentialError, match="password of the signing identity is wrong"):
        _run(apples, assembled, workspace, route)
    assert not mac.calls
