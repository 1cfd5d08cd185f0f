"""Entitlements: their XML and DER forms, and which of them a profile has to grant.

Rule and source: the XML blob is the file's bytes; the DER form is measured on real code of two
dialects (see `der_dictionary`); the split into restricted and unrestricted follows Apple's TN3125.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from release_tool import errors
from release_tool.apple import checks, der_dictionary, property_list
from release_tool.apple.checks import Check

XML_MAGIC = 0xFADE7171
DER_MAGIC = 0xFADE7172

APPLICATION_IDENTIFIER = "com.apple.application-identifier"
APPLICATION_IDENTIFIER_SPELLINGS = (APPLICATION_IDENTIFIER, "application-identifier")
TEAM_IDENTIFIER = "com.apple.developer.team-identifier"
KEYCHAIN_ACCESS_GROUPS = "keychain-access-groups"
APPLICATION_GROUPS = "com.apple.security.application-groups"
GET_TASK_ALLOW_SPELLINGS = ("com.apple.security.get-task-allow", "get-task-allow")

# Real entitlements stay under 20 kB, however many exceptions they list.
MAX_BYTES = 1024 * 1024

UNRESTRICTED: Final = frozenset(
    {
        "com.apple.security.app-sandbox",
        "com.apple.security.automation.apple-events",
        "com.apple.security.hypervisor",
        "com.apple.security.inherit",
        "com.apple.security.print",
        "com.apple.security.scripting-targets",
        "com.apple.security.smartcard",
        "com.apple.security.virtualization",
        *GET_TASK_ALLOW_SPELLINGS,
    }
)
"""Keys that macOS honours without a profile."""

UNRESTRICTED_PREFIXES: Final = (
    "com.apple.security.assets.",
    "com.apple.security.cs.",
    "com.apple.security.device.",
    "com.apple.security.files.",
    "com.apple.security.network.",
    "com.apple.security.personal-information.",
    "com.apple.security.temporary-exception.",
)
"""Families of them: App Sandbox, its exceptions, device access and the hardened runtime."""

TEAM_PREFIXED: Final = frozenset(
    {
        *APPLICATION_IDENTIFIER_SPELLINGS,
        KEYCHAIN_ACCESS_GROUPS,
        APPLICATION_GROUPS,
        "com.apple.developer.pass-type-identifiers",
        "com.apple.developer.ubiquity-kvstore-identifier",
        "com.apple.developer.ubiquity-container-identifiers",
    }
)
"""Keys whose values begin with a team: a wildcard covers its own team's values only."""

_MAX_DEPTH = 16


def parse_xml(data: bytes) -> dict[str, object]:
    """Read an entitlements file or the content of slot 5.

    Raises:
        FormatError: not a property list, a key twice, entities, or larger than a cap.
    """
    return property_list.parse(data, limit=MAX_BYTES)


def encode_der(values: Mapping[str, object]) -> bytes:
    """Write the DER form as Apple's codesign has since 2021, keys sorted.

    Raises:
        FormatError: a value has a type that the form cannot say: data, date or real.
    """
    return der_dictionary.encode(der_dictionary.Document(_sorted(values, 0)))


def _sorted(values: Mapping[str, object], depth: int) -> dict[str, object]:
    return {key: _ordered(values[key], depth + 1) for key in sorted(values, key=str.encode)}


def _ordered(value: object, depth: int) -> object:
    if depth > _MAX_DEPTH:
        raise errors.FormatError("entitlements are nested too deeply")
    if isinstance(value, Mapping):
        return _sorted(value, depth)
    if isinstance(value, list | tuple):
        return [_ordered(item, depth + 1) for item in value]
    return value


def read_der(data: bytes) -> der_dictionary.Document:
    """Read the DER form of either dialect, so that `der_dictionary.encode` gives it back.

    Raises:
        FormatError: neither dialect, a key twice, or a value of an unknown type.
    """
    if len(data) > MAX_BYTES:
        raise errors.FormatError(f"DER entitlements of {len(data)} bytes")
    return der_dictionary.decode(data)


def decode_der(data: bytes) -> dict[str, object]:
    """The values of the DER form, of either dialect.

    Raises:
        FormatError: as of `read_der`.
    """
    return read_der(data).values


def xml_blob(data: bytes) -> bytes:
    """Wrap an entitlements file for slot 5, its bytes as they are."""
    return struct.pack(">II", XML_MAGIC, len(data) + 8) + data


def der_blob(values: Mapping[str, object]) -> bytes:
    """Make the blob of slot 7."""
    payload = encode_der(values)
    return struct.pack(">II", DER_MAGIC, len(payload) + 8) + payload


def is_restricted(key: str) -> bool:
    """Whether macOS kills code that claims this without a profile that grants it.

    A key that is not known to be unrestricted is restricted.
    """
    return key not in UNRESTRICTED and not key.startswith(UNRESTRICTED_PREFIXES)


def allows_debugging(values: Mapping[str, object]) -> bool:
    """Whether `get-task-allow` is claimed or granted, in either spelling."""
    return any(values.get(key, False) is not False for key in GET_TASK_ALLOW_SPELLINGS)


def restricted_keys(values: Mapping[str, object], team_id: str) -> list[str]:
    """The claimed keys that need a grant; an own team's application groups do not."""
    return [
        key
        for key, value in sorted(values.items())
        if is_restricted(key) and not _own_groups(key, value, team_id)
    ]


def _own_groups(key: str, value: object, team_id: str) -> bool:
    groups = value if isinstance(value, list) else [value]
    return key == APPLICATION_GROUPS and all(
        isinstance(group, str) and group.startswith(f"{team_id}.") for group in groups
    )


def covered(key: str, value: object, granted: Mapping[str, object], team_id: str) -> bool:
    """Whether a profile's grants allow one claimed entitlement.

    An application identifier may be granted under either spelling; where both stand, both must
    cover it.
    """
    spellings: tuple[str, ...] = (key,)
    if key in APPLICATION_IDENTIFIER_SPELLINGS:
        spellings = APPLICATION_IDENTIFIER_SPELLINGS
    grants = [granted[spelling] for spelling in spellings if spelling in granted]
    return bool(grants) and all(_allows(key, grant, value, team_id) for grant in grants)


def _allows(key: str, grant: object, value: object, team_id: str) -> bool:
    if isinstance(value, list | tuple):
        return isinstance(grant, str | list | tuple) and all(
            _allows(key, grant, item, team_id) for item in value
        )
    if isinstance(grant, list | tuple):
        return any(_allows(key, allowed, value, team_id) for allowed in grant)
    if isinstance(value, Mapping):
        return isinstance(grant, Mapping) and all(
            name in grant and _allows(key, grant[name], item, team_id)
            for name, item in value.items()
        )
    if isinstance(value, bool):
        return isinstance(grant, bool) and (grant or not value)
    if isinstance(value, str):
        return isinstance(grant, str) and matches(key, grant, value, team_id)
    return type(grant) is type(value) and grant == value


def matches(key: str, pattern: str, value: str, team_id: str) -> bool:
    """Whether one granted text covers one claimed text.

    `*` is a wildcard at the end only. In keys whose values begin with a team it must follow that
    team's own prefix: `TEAM.*` covers `TEAM.anything` and no other team's.
    """
    if pattern == value:
        return True
    if not pattern.endswith("*") or "*" in pattern[:-1]:
        return False
    prefix = pattern[:-1]
    if key in TEAM_PREFIXED and not prefix.startswith(f"{team_id}."):
        return False
    return value.startswith(prefix) and len(value) > len(prefix)


def coverage(
    values: Mapping[str, object],
    granted: Mapping[str, object],
    team_id: str,
    *,
    prefixes: Sequence[str] = (),
) -> list[Check]:
    """Judge every claimed entitlement that needs a grant, all at once.

    Args:
        values: the claims.
        granted: what the profile grants.
        team_id: of who signs.
        prefixes: what the team's application identifiers may begin with beside that: teams of
            before 2011 have others.
    """
    found = []
    own = dict.fromkeys((team_id, *prefixes))
    for key in restricted_keys(values, team_id):
        claim = describe(values[key])
        if any(covered(key, values[key], granted, prefix) for prefix in own):
            found.append(checks.passed("entitlement granted", claim, subject=key))
            continue
        found.append(
            checks.failed(
                "entitlement granted",
                subject=key,
                expected=f"a grant that covers {claim}",
                observed=_grants_text(key, granted),
                hint="enable the capability for the App ID and make the profile anew",
            )
        )
    return found


def _grants_text(key: str, granted: Mapping[str, object]) -> str:
    if key not in granted:
        return "the profile does not grant it"
    return f"the profile grants {describe(granted[key])}"


def describe(value: object) -> str:
    """One entitlement's value for people."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ", ".join(describe(item) for item in value) or "an empty list"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {describe(item)}" for key, item in value.items()) or "nothing"
    return str(value)
