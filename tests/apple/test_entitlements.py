"""Entitlements: both encodings, and what a profile has to grant."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import der, der_dictionary, entitlements

TEAM = "SLDQ2GJ6TL"
APP_ID = f"{TEAM}.io.darkbloom.provider"

keys = st.text("abcdef.-é", min_size=1, max_size=12)
values = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=10,
)


@given(st.dictionaries(keys, values, max_size=6))
def test_der_round_trips(claims: dict[str, object]) -> None:
    """What is written as DER comes back, and comes out with sorted keys."""
    encoded = entitlements.encode_der(claims)
    decoded = entitlements.decode_der(encoded)
    assert decoded == claims
    assert list(decoded) == sorted(claims, key=str.encode)
    assert entitlements.encode_der(decoded) == encoded


@given(st.binary(max_size=80))
def test_hostile_der_ends_in_a_format_error(data: bytes) -> None:
    """Random bytes are refused or decoded, never anything else."""
    for candidate in (data, b"\x70" + bytes([len(data)]) + data, b"\x31" + data):
        try:
            entitlements.decode_der(candidate)
        except errors.FormatError:
            continue


def test_no_entitlements_have_apples_bytes() -> None:
    """The blob of an empty set is the one in the real `sentry-cli`: fifteen bytes."""
    assert entitlements.der_blob({}).hex() == "fade71720000000f7005020101b000"


def test_the_older_dialect_is_read() -> None:
    """A bare SET with true as `01`, as signatures of 2020 have it."""
    pair = der.sequence(der.utf8("a"), der.encode(der.BOOLEAN, b"\x01"))
    assert entitlements.decode_der(der.set_as_given(pair)) == {"a": True}


def test_the_older_dialect_comes_out_byte_for_byte() -> None:
    """Dictionaries as SET, true as `01`, keys in their own order: written as they were read."""
    inner = der.set_as_given(der.sequence(der.utf8("z"), der.encode(der.BOOLEAN, b"\x01")))
    data = der.set_as_given(
        der.sequence(der.utf8("b"), der.sequence(der.utf8("x"), der.integer(-5))),
        der.sequence(der.utf8("a"), inner),
        der.sequence(der.utf8("c"), der.boolean(False)),
    )
    found = entitlements.read_der(data)
    assert found.dialect == "2020"
    assert found.values == {"b": ["x", -5], "a": {"z": True}, "c": False}
    assert der_dictionary.encode(found) == data


@given(
    st.dictionaries(keys, values, max_size=6),
    st.sampled_from(["current", "2020"]),
    st.sampled_from([None, 0x01, 0xFF]),
)
def test_both_dialects_come_out_byte_for_byte(
    claims: dict[str, object], dialect: der_dictionary.Dialect, true_octet: int | None
) -> None:
    """Either envelope, either way to say true, any order of the keys."""
    written = der_dictionary.encode(der_dictionary.Document(claims, dialect, true_octet))
    found = entitlements.read_der(written)
    assert (found.values, found.dialect) == (claims, dialect)
    assert der_dictionary.encode(found) == written


@pytest.mark.parametrize(
    "value",
    [
        der.octets(b"x"),
        der.null(),
        der.oid("1.2.3"),
        der.encode(0x09, b"\x03"),
        der.generalized_time(datetime(2026, 1, 1, tzinfo=UTC)),
        der.context(3, der.null()),
        der.encode(der.BOOLEAN, b"\x42"),
        der.printable("a"),
        der.encode(0x0C, b"\xff"),
        b"\x0c\x81\x01a",
        der.sequence(der.boolean(True), der.encode(der.BOOLEAN, b"\x01")),
        der.set_as_given(der.sequence(der.utf8("b"), der.null())),
    ],
)
def test_unknown_values_are_refused(value: bytes) -> None:
    """Another type, another way to say true, or another encoding: the system would differ."""
    pair = der.sequence(der.utf8("a"), value)
    current = der.encode(0x70, der.integer(1), der.encode(0xB0, pair))
    for data in (der.set_as_given(pair), current):
        with pytest.raises(errors.FormatError):
            entitlements.decode_der(data)


def test_a_key_twice_is_refused_in_both_forms() -> None:
    """Two readers must not be able to see different values."""
    pair = der.sequence(der.utf8("a"), der.boolean(True))
    other = der.sequence(der.utf8("a"), der.boolean(False))
    with pytest.raises(errors.FormatError):
        entitlements.decode_der(der.set_as_given(pair, other))
    with pytest.raises(errors.FormatError):
        entitlements.parse_xml(
            b"<plist version='1.0'><dict><key>a</key><true/><key>a</key><false/></dict></plist>"
        )


@pytest.mark.parametrize("value", [1.5, b"x", None])
def test_types_without_a_der_form_are_refused(value: object) -> None:
    """Data, reals and dates cannot be said in DER."""
    with pytest.raises(errors.FormatError):
        entitlements.encode_der({"a": value})


@pytest.mark.parametrize(
    ("key", "restricted"),
    [
        ("com.apple.security.network.client", False),
        ("com.apple.security.cs.allow-jit", False),
        ("com.apple.security.app-sandbox", False),
        ("get-task-allow", False),
        ("keychain-access-groups", True),
        ("com.apple.application-identifier", True),
        ("com.apple.developer.aps-environment", True),
        ("com.apple.something.unheard.of", True),
        ("com.apple.security.csx", True),
    ],
)
def test_restricted_keys(key: str, restricted: bool) -> None:
    """Only what Apple names as unrestricted is; an unknown key is restricted."""
    assert entitlements.is_restricted(key) is restricted


@pytest.mark.parametrize(
    ("key", "pattern", "value", "expected"),
    [
        ("keychain-access-groups", f"{TEAM}.*", APP_ID, True),
        ("keychain-access-groups", f"{TEAM}.*", "OTHERTEAM1.io.darkbloom.provider", False),
        ("keychain-access-groups", "OTHERTEAM1.*", "OTHERTEAM1.x", False),
        ("keychain-access-groups", "*", APP_ID, False),
        ("keychain-access-groups", f"{TEAM}*", APP_ID, False),
        ("keychain-access-groups", f"{TEAM}.*.provider", APP_ID, False),
        ("keychain-access-groups", f"{TEAM}.*", f"{TEAM}.", False),
        ("keychain-access-groups", "com.apple.token", "com.apple.token", True),
        ("com.apple.application-identifier", f"{TEAM}.io.darkbloom.*", APP_ID, True),
        ("com.apple.application-identifier", f"{TEAM}.io.darkbloom.cli", APP_ID, False),
        ("com.apple.application-identifier", f"{TEAM}.io.darkbloom", APP_ID, False),
        ("com.apple.developer.associated-domains", "*", "applinks:darkbloom.io", True),
    ],
)
def test_wildcards(key: str, pattern: str, value: str, expected: bool) -> None:
    """A wildcard stands at the end only, and covers its own team's values only."""
    assert entitlements.matches(key, pattern, value, TEAM) is expected


def test_coverage_names_every_claim_that_is_not_granted() -> None:
    """Lists must be subsets, types must agree, absent keys are named, all at once."""
    claims = {
        "com.apple.application-identifier": APP_ID,
        "keychain-access-groups": [APP_ID, "OTHERTEAM1.x"],
        "com.apple.developer.aps-environment": "production",
        "com.apple.developer.team-identifier": TEAM,
        "com.apple.developer.flag": 1,
        "com.apple.security.network.client": True,
    }
    granted = {
        "com.apple.application-identifier": APP_ID,
        "keychain-access-groups": [f"{TEAM}.*"],
        "com.apple.developer.team-identifier": TEAM,
        "com.apple.developer.flag": True,
    }
    found = entitlements.coverage(claims, granted, TEAM)
    outcomes = {check.subject: check.outcome for check in found}
    assert outcomes == {
        "com.apple.application-identifier": "passed",
        "keychain-access-groups": "failed",
        "com.apple.developer.aps-environment": "failed",
        "com.apple.developer.team-identifier": "passed",
        "com.apple.developer.flag": "failed",
    }


def test_an_application_identifier_granted_twice_must_be_covered_twice() -> None:
    """Where a profile states both spellings, both must cover the claim."""
    key = entitlements.APPLICATION_IDENTIFIER
    assert entitlements.covered(key, APP_ID, {"application-identifier": APP_ID}, TEAM)
    both = {"application-identifier": f"{TEAM}.other", key: APP_ID}
    assert not entitlements.covered(key, APP_ID, both, TEAM)
    assert not entitlements.covered(key, APP_ID, {}, TEAM)


def test_own_application_groups_need_no_grant() -> None:
    """Groups with the team's own prefix are unrestricted on macOS, others are not."""
    key = entitlements.APPLICATION_GROUPS
    assert entitlements.restricted_keys({key: [f"{TEAM}.shared"]}, TEAM) == []
    assert entitlements.restricted_keys({key: ["group.shared"]}, TEAM) == [key]


@pytest.mark.parametrize("key", entitlements.GET_TASK_ALLOW_SPELLINGS)
def test_debugging_is_found_in_both_spellings(key: str) -> None:
    """Anything but an explicit false counts as allowed."""
    assert entitlements.allows_debugging({key: True})
    assert entitlements.allows_debugging({key: "yes"})
    assert not entitlements.allows_debugging({key: False})
    assert not entitlements.allows_debugging({})
