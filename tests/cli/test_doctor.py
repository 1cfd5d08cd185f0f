"""`release-tool doctor`: what it finds, what it says to do, and how it leaves."""

from __future__ import annotations

import base64
import io
import json
import plistlib
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from release_tool import data
from release_tool.apple.policy import rules
from release_tool.cli import diagnosis, github_commands, main
from release_tool.cli.session import Session
from release_tool.provenance import keys
from release_tool.rehearsal import profiles
from tests import look_alike
from tests.cli.test_plan_command import APPLE, HIDDEN, SEVEN
from tests.fake_mac import mac as fake_mac
from tests.look_alike import PASSWORD, TEAM
from tests.services import test_notary_token as token_parts

ONE_LINE = r"-----BEGIN PRIVATE KEY-----\nMIGT\n-----END PRIVATE KEY-----"
OF_RSA = token_parts.pem(rsa.generate_private_key(65537, 2048)).decode()
DEV = {f"DEV_{name}": value for name, value in SEVEN.items()}


def doctor(*argv: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    out = io.StringIO()
    code = main.invoke(["doctor", *argv], Session(dict(environ or {}), out=out, err=out))
    return code, out.getvalue()


def document(*argv: str, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    _, text = doctor(*argv, "--json", environ=environ)
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def failed(found: dict[str, Any]) -> list[str]:
    return [one["name"] for one in found["checks"] if one["outcome"] == "failed"]


def portable(folder: Path) -> str:
    """A release file whose dev environment signs anywhere, so that no Mac is asked for."""
    path = folder / "portable.yaml"
    text = data.release_file().read_text().replace("signer: codesign", "signer: portable")
    pins = {
        "keys: []": f"keys: [{keys.load(keys.make().encode()).public.line}]",
        'model_revision: ""': f'model_revision: "{"0" * 40}"',
        'model_sha256: ""': f'model_sha256: "{"0" * 64}"',
    }
    for empty, full in pins.items():
        assert empty in text
        text = text.replace(empty, full)
    path.write_text(text)
    return str(path)


def test_what_release_yaml_has_to_pin_is_told_with_how_to() -> None:
    """A real run would refuse it later; a rehearsal needs none of it."""
    code, text = doctor("--env", "dev", environ=DEV)
    assert code != 0
    for name in ("pinned provenance keys", "pinned smoke model"):
        assert name in failed(document("--env", "dev", environ=DEV))
    assert "release-tool model pin" in text
    assert "release-tool provenance-key" in text
    assert "pinned" not in " ".join(failed(document("--env", "rehearsal")))


@pytest.fixture
def trust(tmp_path: Path) -> str:
    path = tmp_path / "trust.pem"
    path.write_bytes(look_alike.authority().trust_pem())
    return str(path)


def secrets(*, life_days: int = 6570) -> dict[str, str]:
    """The look-alike's identity and a profile of it, as settings."""
    wish = profiles.Wish(
        team_id=TEAM,
        bundle_id="io.darkbloom.provider",
        granted={"keychain-access-groups": [f"{TEAM}.*"]},
        life_days=life_days,
    )
    profile = profiles.make(look_alike.authority(), wish)
    p12 = look_alike.authority().identity_p12(PASSWORD, with_chain=True)
    return {
        **APPLE,
        "APPLE_API_KEY_P8": token_parts.pem(ec.generate_private_key(ec.SECP256R1())).decode(),
        "APPLE_API_KEY_ID": "2X9R4HXF34",
        "APPLE_API_ISSUER_ID": token_parts.ISSUER,
        "APPLE_CERTIFICATE_P12": base64.b64encode(p12).decode(),
        "APPLE_CERTIFICATE_PASSWORD": PASSWORD,
        "PROVISIONING_PROFILE_BASE64": base64.b64encode(profile).decode(),
    }


def test_everything_that_is_there_and_good_holds(tmp_path: Path, trust: str) -> None:
    """Settings, identity, profile and entitlements of a look-alike release: exit 0."""
    environ = {**DEV, **secrets()}
    arguments = ("--env", "dev", "--config", portable(tmp_path), "--trust", trust)
    code, text = doctor(*arguments, environ=environ)
    assert code == 0, text
    assert "doctor: nothing failed" in text
    found = document(*arguments, environ=environ)
    assert found["ok"]
    assert {row["what"] for row in found["expiries"]} >= {
        *("signing certificate", "intermediate", "profile", "timestamp CA"),
    }
    assert all(row["todo"] for row in found["expiries"])


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("APPLE_API_KEY_P8", ONE_LINE, "PEM"),
        ("APPLE_API_KEY_P8", OF_RSA, "another kind"),
        ("APPLE_API_KEY_ID", "2X9R 4HXF34", "APPLE_API_KEY_ID"),
        ("APPLE_API_ISSUER_ID", "me@example.com", "a UUID"),
    ],
)
def test_a_key_that_makes_no_token_is_told(
    tmp_path: Path, trust: str, name: str, value: str, told: str
) -> None:
    """Each part by its own shape, without asking Apple and without showing it: exit 4."""
    environ = {**DEV, **secrets(), name: value}
    arguments = ("--env", "dev", "--config", portable(tmp_path), "--trust", trust)
    code, text = doctor(*arguments, environ=environ)
    assert code == 4
    assert told in text
    assert value not in text


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    """Names only, whatever the values are; wrong ones, too."""
    environ = {**DEV, **APPLE, "APPLE_CERTIFICATE_P12": "not base64 %%% secret-part"}
    for form in ((), ("--json",)):
        _, text = doctor("--env", "dev", *form, environ=environ)
        for value in (*HIDDEN, "secret-part"):
            assert value not in text


def test_each_missing_setting_is_told_with_how_to_come_by_it(tmp_path: Path) -> None:
    """Exit 4, every name at once; the notary's key with the place where it is made."""
    code, text = doctor("--env", "dev", "--config", portable(tmp_path))
    assert code == 4
    for name in DEV:
        if name not in ("DEV_R2_BUCKET", "DEV_COORDINATOR_URL"):
            assert name in text
    for name in ("APPLE_API_KEY_P8", "APPLE_API_KEY_ID", "APPLE_API_ISSUER_ID"):
        assert name in text
    assert "App Store Connect" in text


def test_without_an_environment_nothing_is_missed() -> None:
    """Nobody said which release is meant: settings are listed as not looked for."""
    code, text = doctor()
    assert code == 0
    assert "name an environment: --env" in " ".join(text.split())


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has the tools")
def test_a_host_without_apple_s_tools_is_told_first() -> None:
    """Dev signs with codesign: exit 3 goes before the missing settings' 4."""
    code, text = doctor("--env", "dev")
    assert code == 3
    assert "/usr/bin/codesign" in text
    assert "sign on a Mac" in text


def test_a_profile_for_another_app_must_not_be_used(tmp_path: Path, real_data: Path) -> None:
    """A real profile of another team: exit 6 and every reason."""
    path = real_data / "profiles" / "developer-id-2026.provisionprofile"
    code, text = doctor("--profile", str(path))
    assert code == 6
    assert "X44L3QQYVR" in text
    assert "profile team" in text
    assert "profile app id" in text


def test_a_forged_profile_is_refused(real_data: Path) -> None:
    """A CMS that verifies, but not to Apple."""
    path = real_data / "profiles" / "forged-self-signed.mobileprovision"
    assert doctor("--profile", str(path))[0] == 6


def test_a_wrong_password_is_no_other_error(tmp_path: Path, trust: str) -> None:
    """The identity does not open: exit 4, by its own name."""
    environ = {**secrets(), "APPLE_CERTIFICATE_PASSWORD": "wrong"}
    code, text = doctor("--trust", trust, environ=environ)
    assert code == 4
    assert "password" in text
    assert "wrong" in text


@pytest.mark.parametrize(("within", "expected"), [("0", 0), ("30", 0), ("60", 4)])
def test_a_scheduled_job_learns_what_ends(trust: str, within: str, expected: int) -> None:
    """`--fail-within` refuses a profile that ends before so many days."""
    environ = secrets(life_days=45)
    code, text = doctor("--trust", trust, "--fail-within", within, environ=environ)
    assert code == expected, text
    assert ("expiry of the profile" in text) == bool(expected)


def test_entitlements_are_linted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A placeholder in an entitlements file is an error, an iOS spelling a warning."""
    folder = tmp_path / "entitlements"
    folder.mkdir()
    for path in data.entitlements_folder().iterdir():
        text = path.read_text().replace("<dict>", "<dict><key>aps-environment</key><string/>")
        (folder / path.name).write_text(text.replace("SLDQ2GJ6TL.io", "$(Prefix)io"))
    monkeypatch.setattr(data, "entitlements_folder", lambda: folder)
    found = document()
    assert "placeholder" in failed(found)
    assert any("aps-environment" in warning for warning in found["warnings"])


def test_a_single_entitlements_file_can_be_looked_at(tmp_path: Path) -> None:
    """`--entitlements FILE`: exit 6 and the reason, whatever the release's own files say."""
    path = tmp_path / "mine.plist"
    path.write_bytes(plistlib.dumps({"com.apple.security.keychain-access-groups": ["TEAM.x"]}))
    code, text = doctor("--entitlements", str(path))
    assert code == 6
    assert "keychain access groups key mine.plist" in text


def test_findings_are_annotated_for_the_runner(tmp_path: Path) -> None:
    """On GitHub every finding is an annotation, with what to do; ten are shown there."""
    path = tmp_path / "mine.plist"
    path.write_bytes(b"no list")
    environ = {"GITHUB_ACTIONS": "true"}
    _, text = doctor("--entitlements", str(path), environ=environ)
    assert text.count("::error") == 1
    assert "entitlements file" in text.split("::error")[1]
    _, text = doctor("--env", "dev", environ=environ)
    told = text.split("::error")[1:]
    assert len(told) == github_commands.SHOWN
    assert "and " in told[-1]
    assert "more" in told[-1]
    missing = next(one for one in told if "pinned smoke model" in one or "setting " in one)
    assert "%0A" in missing


def test_an_environment_that_names_no_address_is_warned_of(tmp_path: Path) -> None:
    """A real one: any build would pass for it; the place in the file and what to name."""
    path = tmp_path / "release.yaml"
    text = data.release_file().read_text()
    path.write_text(text.replace("    built_in: [api.dev.darkbloom.xyz]\n", ""))
    assert path.read_text() != text
    [warning] = [one for one in document("--config", str(path))["warnings"] if "built_in" in one]
    assert "release.yaml:" in warning
    assert "dev names no built_in: a build for a developer's machine" in warning
    assert not any("built_in" in one for one in document()["warnings"])


def test_an_unknown_environment_is_a_slip() -> None:
    """Exit 2 and the names that there are."""
    code, text = doctor("--env", "porduction")
    assert code == 2
    assert "prod" in text


def test_every_rule_is_printed_with_source_and_proof() -> None:
    """`--rules` prints the whole table, as text and as JSON."""
    code, text = doctor("--rules")
    assert code == 0
    assert all(rule.id in text and rule.says in text for rule in rules.RULES)
    _, listed = doctor("--rules", "--json")
    assert [one["id"] for one in json.loads(listed)] == [rule.id for rule in rules.RULES]


def test_certificates_are_judged_at_the_time_that_is_asked(tmp_path: Path) -> None:
    """In a hundred years the look-alike's certificate has ended, and so has its chain."""
    question = diagnosis.Question(
        environ={"APPLE_CERTIFICATE_PASSWORD": PASSWORD},
        working_folder=tmp_path,
        now=datetime.now(UTC) + timedelta(days=36_500),
        identity=look_alike.authority().identity_p12(PASSWORD, with_chain=True),
        trust=look_alike.trust(),
    )
    names = {one.check.name for one in diagnosis.examine(question).failed}
    assert {"chain of the certificate", "expiry of the signing certificate"} <= names


def on_a_mac(folder: Path, *identities: tuple[str, str]) -> diagnosis.Diagnosis:
    """What is found where stand-ins of Apple's tools list these identities."""
    mac = fake_mac.install(folder / "mac")
    state = mac.state
    login = str(mac.root / "home" / "login.keychain-db")
    state["keychains"] = {login: {"identities": [list(one) for one in identities]}}
    mac.write(state)
    return diagnosis.examine(
        diagnosis.Question(
            environ={},
            working_folder=folder,
            now=datetime.now(UTC),
            environment="dev",
            tools=mac.tools,
        )
    )


def test_an_identity_of_the_keychain_serves_where_codesign_signs(tmp_path: Path) -> None:
    """The one that release.yaml names is found by its name."""
    name = "Developer ID Application: Eigen Labs, Inc. (SLDQ2GJ6TL)"
    found = on_a_mac(tmp_path, ("AB" * 20, name), ("CD" * 20, "Another (TEAM000001)"))
    told = {one.check.name: one.check for one in found.findings}
    assert told["signing identity"].outcome == "passed"
    assert "abababababab" in told["signing identity"].observed
    assert all(told[f"tool {tool}"].outcome == "passed" for tool in ("codesign", "security"))


def test_a_keychain_without_the_identity_is_told(tmp_path: Path) -> None:
    """Another team's identity is none: exit 4 with what the keychains hold."""
    found = on_a_mac(tmp_path, ("CD" * 20, "Another (TEAM000001)"))
    told = {one.check.name: one.check for one in found.failed}
    assert "signing identity" in told
    assert found.exit_code == 4
