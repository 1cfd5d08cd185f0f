"""Entitlements files before anything is signed with them."""

from __future__ import annotations

import plistlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import data
from release_tool.apple import certificates, entitlements, provisioning_profile
from release_tool.apple.policy import linter


def lint(values: object, **options: bool) -> linter.Lint:
    content = values if isinstance(values, bytes) else plistlib.dumps(values)  # type: ignore[arg-type]
    return linter.lint(content, name="role.plist", **options)


def failed(found: linter.Lint) -> list[str]:
    return [check.name for check in found.checks if check.outcome == "failed"]


def test_our_own_files_hold_without_a_warning() -> None:
    """Every entitlements file of the release passes."""
    files = sorted(data.entitlements_folder().glob("*.plist"))
    assert files
    for path in files:
        found = linter.lint(path.read_bytes(), name=path.name)
        assert (failed(found), found.warnings) == ([], ())


@pytest.mark.parametrize(
    "text",
    ["$(AppIdentifierPrefix)x", "x$(CFBundleIdentifier)", "${TeamIdentifierPrefix}x", "$(", "a$(b"],
)
def test_placeholders_are_found_wherever_they_stand(text: str) -> None:
    """In a value, in an array, in a dictionary, in a key: Xcode would have filled them in."""
    for values in ({"k": text}, {"k": ["a", text]}, {"k": {"inner": [text]}}, {text: True}):
        assert failed(lint(values)) == ["placeholder"]


def test_a_dollar_is_no_placeholder() -> None:
    """Only Xcode's own forms count."""
    assert failed(lint({"k": "costs $5", "l": "a$b", "m": "$HOME"})) == []


def test_the_long_keychain_key_is_refused_with_the_short_one() -> None:
    """Securityd reads `keychain-access-groups`; the hint says so."""
    found = lint({linter.LONG_KEYCHAIN_KEY: ["TEAM.x"]})
    (check,) = [one for one in found.checks if one.outcome == "failed"]
    assert check.name == "keychain access groups key"
    assert "keychain-access-groups" in check.hint
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("com.apple.security.cs.allow-jit", "true"),
        ("com.apple.security.network.client", 1),
        ("com.apple.security.get-task-allow", "NO"),
        ("keychain-access-groups", "TEAM.x"),
        ("keychain-access-groups", [1]),
        ("com.apple.security.application-groups", {"a": "b"}),
        ("com.apple.application-identifier", ["TEAM.x"]),
        ("com.apple.developer.team-identifier", True),
        ("com.apple.developer.aps-environment", False),
        ("com.apple.developer.system-extension.install", "YES"),
        ("com.apple.developer.endpoint-security.client", "true"),
        ("com.apple.vm.networking", 1),
        ("com.apple.security.hardened-process", 2),
    ],
)
def test_a_value_of_another_type_is_refused(key: str, value: object) -> None:
    """The key, what it holds and what it takes are named."""
    found = lint({key: value})
    (check,) = [one for one in found.checks if one.outcome == "failed"]
    assert check.name == "entitlement type"
    assert key in check.observed


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("application-identifier", "com.apple.application-identifier"),
        ("aps-environment", "com.apple.developer.aps-environment"),
        ("com.apple.security.cs.allow-jitt", "com.apple.security.cs.allow-jit"),
        ("com.apple.security.network.clients", "com.apple.security.network.client"),
    ],
)
def test_what_macos_ignores_is_a_warning(key: str, meant: str) -> None:
    """Spellings of iOS and slips of the pen break nothing, and do nothing."""
    value: object = "x" if "security" not in key else True
    found = lint({key: value})
    assert failed(found) == []
    (warning,) = found.warnings
    assert key in warning
    assert meant in warning


def test_enhanced_security_is_known() -> None:
    """Apple documents its switches, and its levels as a number or, since 26.4, as text."""
    family = "com.apple.security.hardened-process"
    found = lint(
        {
            family: True,
            f"{family}.hardened-heap": True,
            f"{family}.enhanced-security-version": 2,
            f"{family}.platform-restrictions-string": "2",
        }
    )
    assert (failed(found), found.warnings) == ([], ())


def test_an_unknown_key_of_another_family_is_no_matter_of_the_linter() -> None:
    """A profile decides about every other key."""
    assert lint({"com.apple.developer.new-thing": True, "org.example": 1}).warnings == ()


@given(st.text(st.characters(min_codepoint=0x61, max_codepoint=0x7A), min_size=1, max_size=20))
def test_every_developer_key_is_restricted(name: str) -> None:
    """No key of `com.apple.developer` is honoured without a profile, known or not."""
    assert entitlements.is_restricted(f"com.apple.developer.{name}")


@pytest.mark.parametrize("key", linter.ALLOW_JIT)
def test_each_exception_that_includes_jit_serves_a_jit_role(key: str) -> None:
    """allow-jit, or one that allows more; and only where it is true."""
    assert failed(lint({key: True}, jit=True)) == []
    assert failed(lint({key: False}, jit=True)) == ["JIT entitlement"]
    assert failed(lint({key: True})) == []


def test_a_binary_list_is_refused_with_the_command_that_converts_it() -> None:
    """Codesign asks for XML."""
    found = lint(plistlib.dumps({"a": True}, fmt=plistlib.FMT_BINARY))
    assert found.values is None
    (check,) = found.checks
    assert "plutil -convert xml1" in check.hint


def test_forms_that_apple_asks_to_avoid_are_warnings() -> None:
    """Comments, a byte order mark, line ends of other systems."""
    plain = plistlib.dumps({"a": True})
    assert "comment" in lint(plain.replace(b"<dict>", b"<dict><!-- why -->")).warnings[0]
    assert "byte order mark" in lint(b"\xef\xbb\xbf" + plain).warnings[0]
    assert "line ends" in lint(plain.replace(b"\n", b"\r\n")).warnings[0]


@given(st.binary(max_size=300))
def test_any_bytes_end_in_checks(content: bytes) -> None:
    """Nothing but a list of checks comes of hostile bytes."""
    found = linter.lint(content, name="x")
    assert found.checks


_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*linter.KNOWN_SECURITY, "x"]), _VALUES, max_size=4))
def test_any_entitlements_can_be_judged(values: dict[str, object]) -> None:
    """Whatever the values are, the linter names what is wrong and never breaks."""
    found = linter.judge(values, name="x", jit=True)
    wrong = any(
        not isinstance(value, bool)
        for key, value in values.items()
        if linter.type_of(key) == "boolean"
    )
    types = next(check for check in found if check.name == "entitlement type")
    if wrong:
        assert types.outcome == "failed"


@pytest.mark.parametrize(
    "name",
    [
        "developer-id-2026",
        "developer-id-2020-icloud",
        "developer-id-2019-endpoint-security",
        "mac-app-store-2026",
    ],
)
def test_what_real_profiles_grant_has_the_documented_types(real_data: Path, name: str) -> None:
    """Apple's own values fit the table of types, wildcards aside."""
    content = (real_data / "profiles" / f"{name}.provisionprofile").read_bytes()
    profile = provisioning_profile.read(content, trust=certificates.apple_trust())
    exact = {key: value for key, value in profile.entitlements.items() if value != "*"}
    found = linter.judge(exact, name=name)
    assert [check for check in found if check.outcome == "failed"] == []
