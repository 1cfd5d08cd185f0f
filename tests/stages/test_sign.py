"""The sign stage: a copy is signed, read back, compared, and only then gets its name."""

from __future__ import annotations

import plistlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import JsonValue

from release_tool import errors
from release_tool.apple import unsigned_content
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.rehearsal import profiles, samples
from release_tool.services import portable_signer
from release_tool.stages import listing, sign
from release_tool.values import AssembledBundle, SignedBundle
from tests import look_alike

TEAM = look_alike.TEAM
MAIN, HELPER = "Contents/MacOS/darkbloom", "Contents/MacOS/darkbloom-enclave"
CLAIMS: dict[str, JsonValue] = {
    "com.apple.application-identifier": f"{TEAM}.io.darkbloom.provider",
    "com.apple.developer.team-identifier": TEAM,
    "com.apple.security.network.client": True,
    "com.apple.security.network.server": True,
    "keychain-access-groups": [f"{TEAM}.io.darkbloom.provider"],
}
ENTITLEMENTS: dict[str, dict[str, JsonValue] | None] = {
    "darkbloom": CLAIMS,
    "darkbloom-enclave": {"com.apple.security.network.client": True},
}


@pytest.fixture(scope="module")
def timestamp_url() -> Iterator[str]:
    with look_alike.timestamp_server() as url:
        yield url


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "dist")


@pytest.fixture
def assembled(workspace: Workspace, plan: ReleasePlan) -> AssembledBundle:
    return assemble_small(workspace, plan)


def assemble_small(workspace: Workspace, plan: ReleasePlan) -> AssembledBundle:
    """A complete unsigned app of small files, on disk."""
    wish = profiles.Wish(team_id=TEAM, bundle_id="io.darkbloom.provider")
    return _assemble(workspace, plan, wish)


def _assemble(
    workspace: Workspace,
    plan: ReleasePlan,
    wish: profiles.Wish,
    claims: dict[str, dict[str, JsonValue] | None] | None = None,
) -> AssembledBundle:
    app = workspace.path("assembled/Darkbloom.app")
    (app / "Contents/MacOS").mkdir(parents=True)
    files = {
        MAIN: (samples.executable("darkbloom", plan.version), 0o755),
        HELPER: (samples.executable("darkbloom-enclave", plan.version), 0o755),
        "Contents/MacOS/mlx.metallib": (samples.metallib(3000), 0o644),
        "Contents/embedded.provisionprofile": (
            profiles.make(look_alike.authority(), wish),
            0o644,
        ),
        "Contents/Info.plist": (
            plistlib.dumps(
                {
                    "CFBundleExecutable": "darkbloom",
                    "CFBundleIdentifier": "io.darkbloom.provider",
                    "CFBundleShortVersionString": plan.version,
                    "LSMinimumSystemVersion": "14.0",
                }
            ),
            0o644,
        ),
    }
    for path, (data, mode) in files.items():
        (app / path).write_bytes(data)
        (app / path).chmod(mode)
    return AssembledBundle(
        root="assembled",
        app="Darkbloom.app",
        files=listing.sealed_files(workspace.path("assembled")),
        source_commit="unknown",
        test_outcome="unknown",
        binaries=(),
        metallib_sha256="0" * 64,
        metallib_origin="a test",
        entitlements=claims or ENTITLEMENTS,
    )


def _run(
    plan: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, timestamp_url: str
) -> SignedBundle:
    return sign.run(
        plan,
        assembled,
        workspace=workspace,
        reporter=Silent(),
        identity=look_alike.signer(),
        trust=look_alike.trust(),
        timestamp_url=timestamp_url,
    )


def test_the_value_says_what_was_read_back(
    plan: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, timestamp_url: str
) -> None:
    """Each code object with identifier, team, digests, flags, entitlements and time."""
    before = listing.sealed_files(workspace.path("assembled"))
    value = _run(plan, assembled, workspace, timestamp_url)
    assert listing.sealed_files(workspace.path("assembled")) == before
    assert listing.sealed_files(workspace.path("signed")) == value.files
    main, helper = value.code
    assert (main.path, helper.path) == ("Darkbloom.app", f"Darkbloom.app/{HELPER}")
    assert (main.identifier, helper.identifier) == ("io.darkbloom.provider", "io.darkbloom.enclave")
    assert main.entitlements == CLAIMS
    assert helper.entitlements == ENTITLEMENTS["darkbloom-enclave"]
    for code in value.code:
        assert code.team_id == TEAM
        assert code.flags == 0x10000
        assert code.code_directory_sha256.startswith(code.cdhash)
        assert len(code.code_directory_sha256) == 64
        assert f"subject.OU] = {TEAM}" in code.requirement
        stamped = datetime.fromisoformat(code.signed_at)
        assert abs((stamped - datetime.now(UTC)).total_seconds()) < 60
    assert value.signer == "portable"
    assert value.certificate_sha256 == look_alike.signer().fingerprint
    assert TEAM in value.certificate_name
    assert value.sealed_files == 3
    assert SignedBundle.model_validate_json(value.model_dump_json()) == value


def test_only_code_and_seal_change(
    plan: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, timestamp_url: str
) -> None:
    """Everything else keeps content and mode, and all have inodes of their own."""
    value = _run(plan, assembled, workspace, timestamp_url)
    before = {one.path: one for one in assembled.files}
    after = {one.path: one for one in value.files}
    changed = {path for path in after if before.get(path) != after[path]}
    assert changed == {
        f"Darkbloom.app/{MAIN}",
        f"Darkbloom.app/{HELPER}",
        "Darkbloom.app/Contents/_CodeSignature/CodeResources",
    }
    assert [after[path].mode for path in sorted(changed)] == [0o755, 0o755, 0o644]
    for path in before:
        one, other = (workspace.path(f"{root}/{path}") for root in ("assembled", "signed"))
        assert one.stat().st_ino != other.stat().st_ino


def test_the_record_links_the_build_to_the_shipped_bytes(
    plan: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, timestamp_url: str
) -> None:
    """Each executable's digest outside its signature is that of the assembled one."""
    value = _run(plan, assembled, workspace, timestamp_url)
    app = workspace.path("assembled/Darkbloom.app")
    expected = [unsigned_content.digest((app / path).read_bytes()) for path in (MAIN, HELPER)]
    assert [code.unsigned_sha256 for code in value.code] == expected


def test_a_signer_that_changes_code_is_caught(
    plan: ReleasePlan,
    assembled: AssembledBundle,
    workspace: Workspace,
    timestamp_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Code that was changed before it was validly signed is named by segment and offset."""
    signing = portable_signer.sign_app

    def change(app: Path, **arguments: object) -> tuple[portable_signer.SignedExecutable, ...]:
        data = bytearray((app / HELPER).read_bytes())
        data[0x4000] ^= 1
        (app / HELPER).write_bytes(data)
        return signing(app, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(portable_signer, "sign_app", change)
    with pytest.raises(errors.VerificationError) as caught:
        _run(plan, assembled, workspace, timestamp_url)
    assert len(caught.value.details) == 1
    assert "outside the signature" in caught.value.details[0]
    assert "0x4000" in caught.value.details[0]


def test_it_may_be_killed_and_run_again(
    plan: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, timestamp_url: str
) -> None:
    """Leftovers of scratch and of an unrecorded output are replaced, and nothing else is left."""
    (workspace.path(".scratch/sign/signed/Darkbloom.app")).mkdir(parents=True)
    _run(plan, assembled, workspace, timestamp_url)
    again = _run(plan, assembled, workspace, timestamp_url)
    assert listing.sealed_files(workspace.path("signed")) == again.files
    assert not workspace.path(".scratch/sign").exists()


def test_entitlements_that_the_profile_does_not_grant_are_refused(
    plan: ReleasePlan, workspace: Workspace, timestamp_url: str
) -> None:
    """AMFI would kill it; nothing gets the output's name."""
    wish = profiles.Wish(team_id=TEAM, bundle_id="io.darkbloom.provider")
    claims = ENTITLEMENTS | {"darkbloom": CLAIMS | {"com.apple.developer.networking.vpn.api": True}}
    assembled = _assemble(workspace, plan, wish, claims)
    with pytest.raises(errors.VerificationError) as caught:
        _run(plan, assembled, workspace, timestamp_url)
    assert any("vpn" in line for line in caught.value.details)
    assert not workspace.path("signed").exists()


def test_all_reasons_come_at_once(
    plan: ReleasePlan, workspace: Workspace, timestamp_url: str
) -> None:
    """A helper with a restricted key and a profile for another app are told together."""
    wish = profiles.Wish(team_id=TEAM, bundle_id="io.other")
    claims = ENTITLEMENTS | {"darkbloom-enclave": {"keychain-access-groups": [f"{TEAM}.x"]}}
    assembled = _assemble(workspace, plan, wish, claims)
    with pytest.raises(errors.VerificationError) as caught:
        _run(plan, assembled, workspace, timestamp_url)
    text = " ".join(caught.value.details)
    assert "restricted entitlements" in text
    assert "io.other" in text


def test_a_file_that_changed_since_assembly_is_named(
    plan: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, timestamp_url: str
) -> None:
    """What is signed must be what was assembled."""
    path = workspace.path("assembled/Darkbloom.app/Contents/MacOS/mlx.metallib")
    path.write_bytes(b"MTLB" + b"\1" * 3000)
    extra = path.parent.with_name("Resources") / "extra.txt"
    extra.parent.mkdir(exist_ok=True)
    extra.write_bytes(b"x")
    with pytest.raises(errors.VerificationError) as caught:
        _run(plan, assembled, workspace, timestamp_url)
    text = " ".join(caught.value.details)
    assert "mlx.metallib" in text
    assert "extra.txt" in text


def test_only_the_declared_library_may_lie_among_the_executables(
    plan: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, timestamp_url: str
) -> None:
    """Another file that is no code is refused by its path before anything is signed."""
    folder = workspace.path("assembled/Darkbloom.app/Contents/MacOS")
    (folder / "notes.txt").write_bytes(b"x")
    with pytest.raises(errors.VerificationError, match="code place") as caught:
        _run(plan, assembled, workspace, timestamp_url)
    assert caught.value.subject == "Contents/MacOS/notes.txt"


def test_a_signer_that_errs_is_caught(
    plan: ReleasePlan,
    assembled: AssembledBundle,
    workspace: Workspace,
    timestamp_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is read back from disk is judged, not what the signer said."""
    signing = portable_signer.sign_app

    def err(app: Path, **arguments: object) -> tuple[portable_signer.SignedExecutable, ...]:
        told = signing(app, **arguments)  # type: ignore[arg-type]
        data = bytearray((app / HELPER).read_bytes())
        data[5000] ^= 1
        (app / HELPER).write_bytes(data)
        return told

    monkeypatch.setattr(portable_signer, "sign_app", err)
    with pytest.raises(errors.VerificationError) as caught:
        _run(plan, assembled, workspace, timestamp_url)
    assert any(HELPER in line for line in caught.value.details)
    assert not workspace.path("signed").exists()


def test_the_identity_must_be_the_teams(
    plan: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, timestamp_url: str
) -> None:
    """No identity, or another team's: a credential error before anything is signed."""
    product = plan.product.model_copy(update={"team_id": "ABCDE12345"})
    other = plan.model_copy(update={"product": product})
    with pytest.raises(errors.CredentialError, match="another team"):
        _run(other, assembled, workspace, timestamp_url)
    with pytest.raises(errors.CredentialError, match="no signing identity"):
        sign.run(
            plan,
            assembled,
            workspace=workspace,
            reporter=Silent(),
            identity=None,
            trust=look_alike.trust(),
            timestamp_url=timestamp_url,
        )


@pytest.mark.skipif(shutil.which("codesign") is not None, reason="this host has codesign")
def test_codesign_needs_a_mac(
    plan: ReleasePlan, assembled: AssembledBundle, workspace: Workspace, timestamp_url: str
) -> None:
    """The route by name ends in HostError elsewhere."""
    environment = plan.environment.model_copy(update={"signer": "codesign"})
    with pytest.raises(errors.HostError, match="codesign"):
        _run(
            plan.model_copy(update={"environment": environment}),
            assembled,
            workspace,
            timestamp_url,
        )


def test_the_plan_parts_that_it_reads_exist(plan: ReleasePlan) -> None:
    """Another address of the timestamp service is no reason to sign again."""
    endpoints = plan.endpoints.model_copy(update={"timestamp_url": "http://127.0.0.1:9/ts01"})
    moved = plan.model_copy(update={"endpoints": endpoints})
    assert plan.part_digest(sign.READS) == moved.part_digest(sign.READS)
