"""What is wrong with an entitlements file, before anything is signed with it.

`rules` names each rule with its source. What macOS would silently ignore is a warning; what makes
it kill the code, or what no reader understands alike, is a failed check.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from release_tool import errors
from release_tool.apple import checks, entitlements
from release_tool.apple.checks import Check

Type = Literal["boolean", "text", "texts", "anything"]

LONG_KEYCHAIN_KEY = "com.apple.security.keychain-access-groups"
_SECURITY = "com.apple.security."
_DEVELOPER = "com.apple.developer."

IOS_SPELLINGS: Final = {
    "application-identifier": entitlements.APPLICATION_IDENTIFIER,
    "aps-environment": "com.apple.developer.aps-environment",
    "get-task-allow": "com.apple.security.get-task-allow",
}
"""What iOS calls them, and macOS does not honour, with macOS's own name."""

ALLOW_JIT: Final = (
    "com.apple.security.cs.allow-jit",
    "com.apple.security.cs.allow-unsigned-executable-memory",
    "com.apple.security.cs.disable-executable-page-protection",
)
"""Each allows what the one before it does, and more."""

KNOWN_SECURITY: Final = frozenset(
    _SECURITY + name
    for name in (
        *("app-sandbox", "application-groups", "automation.apple-events", "get-task-allow"),
        *("hypervisor", "inherit", "print", "scripting-targets", "smartcard", "virtualization"),
        *(
            f"assets.{what}.{how}"
            for what in ("movies", "music", "pictures")
            for how in ("read-only", "read-write")
        ),
        *(
            f"cs.{name}"
            for name in (
                *("allow-dyld-environment-variables", "allow-jit", "debugger"),
                *("allow-unsigned-executable-memory", "disable-executable-page-protection"),
                *("disable-library-validation", "jit-write-allowlist"),
                "jit-write-allowlist-freeze-late",
            )
        ),
        *(
            f"device.{name}"
            for name in (
                *("audio-input", "audio-video-bridging", "bluetooth", "camera", "firewire"),
                *("microphone", "serial", "usb"),
            )
        ),
        *(
            f"files.{name}"
            for name in (
                *("all", "bookmarks.app-scope", "bookmarks.document-scope"),
                *("downloads.read-only", "downloads.read-write", "user-selected.executable"),
                *("user-selected.read-only", "user-selected.read-write"),
            )
        ),
        "hardened-process",
        *(
            f"hardened-process.{name}"
            for name in (
                *("checked-allocations", "dyld-ro", "hardened-heap", "no-guard-objects"),
                *(f"enhanced-security-version{form}" for form in ("", "-string")),
                *(f"platform-restrictions{form}" for form in ("", "-string")),
            )
        ),
        *("network.client", "network.server"),
        *(
            f"personal-information.{name}"
            for name in ("addressbook", "calendars", "location", "photos-library")
        ),
    )
)
"""The keys of this family that Apple documents, exceptions of the sandbox aside."""

_TEMPORARY = f"{_SECURITY}temporary-exception."
_TEXTS: Final = frozenset(
    {
        entitlements.KEYCHAIN_ACCESS_GROUPS,
        LONG_KEYCHAIN_KEY,
        entitlements.APPLICATION_GROUPS,
        *(
            _DEVELOPER + name
            for name in (
                *("associated-domains", "icloud-container-identifiers", "icloud-services"),
                *("networking.networkextension", "pass-type-identifiers"),
                *("ubiquity-container-identifiers", "networking.vpn.api"),
            )
        ),
    }
)
_TEXT: Final = frozenset(
    {
        *entitlements.APPLICATION_IDENTIFIER_SPELLINGS,
        entitlements.TEAM_IDENTIFIER,
        "aps-environment",
        *(
            _DEVELOPER + name
            for name in (
                *("aps-environment", "devicecheck.appattest-environment"),
                *("icloud-container-environment", "ubiquity-kvstore-identifier"),
            )
        ),
    }
)
_NOT_BOOLEAN: Final = frozenset(
    {
        f"{_SECURITY}scripting-targets",
        *(
            f"{_SECURITY}hardened-process.{what}{form}"
            for what in ("enhanced-security-version", "platform-restrictions")
            for form in ("", "-string")
        ),
    }
)
"""Of the known ones: a dictionary, and levels as a number or as text."""

_BOOLEANS: Final = frozenset(
    {
        "com.apple.vm.networking",
        *(
            _DEVELOPER + name
            for name in (
                *("driverkit", "endpoint-security.client", "networking.multicast"),
                *("networking.wifi-info", "system-extension.install"),
            )
        ),
    }
)
_PLACEHOLDER = re.compile(r"\$[({][A-Za-z_][A-Za-z0-9_:]*[)}]?|\$\(")
_COMMENT = b"<!--"
_BINARY = b"bplist"
_CONVERT = "convert it with: plutil -convert xml1 FILE"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_DEPTH = 16


class Lint(NamedTuple):
    """What was found in one file."""

    values: Mapping[str, object] | None
    """What the file says; None where it cannot be read."""
    checks: tuple[Check, ...]
    warnings: tuple[str, ...]
    """What macOS will ignore, or other tools may read in another way; one sentence each."""

    @property
    def holds(self) -> bool:
        return checks.all_hold(self.checks)


def lint(data: bytes, *, name: str, jit: bool = False) -> Lint:
    """Judge an entitlements file.

    Args:
        data: the file.
        name: how checks call it.
        jit: whether the code that is signed with it compiles code at run time.
    """
    try:
        values = entitlements.parse_xml(data)
    except errors.FormatError as problem:
        refused = checks.failed(
            "entitlements file",
            subject=name,
            expected="a property list in XML that says each thing once",
            observed=f"{problem.message} {problem.observed}".strip(),
            hint=_CONVERT if data.startswith(_BINARY) else "",
        )
        return Lint(values=None, checks=(refused,), warnings=())
    found = [checks.passed("entitlements file", f"{len(values)} keys", subject=name)]
    found += judge(values, name=name, jit=jit)
    told = (*_of_the_text(data, name), *warnings(values, name=name))
    return Lint(values=values, checks=tuple(found), warnings=told)


def judge(values: Mapping[str, object], *, name: str, jit: bool = False) -> list[Check]:
    """Judge what an entitlements file says, wherever it came from.

    Args:
        values: the entitlements.
        name: how checks call them.
        jit: whether the code that is signed with them compiles code at run time.
    """
    found = [_placeholders(values, name), _keychain_key(values, name), _types(values, name)]
    if jit:
        found.append(_jit(values, name))
    return found


def warnings(values: Mapping[str, object], *, name: str) -> Iterator[str]:
    """What macOS ignores: spellings of iOS, and keys of Apple's family that nobody knows."""
    for key in sorted(values):
        if key in IOS_SPELLINGS:
            yield f"{name}: {key} is how iOS spells it; macOS reads {IOS_SPELLINGS[key]}"
        elif _is_unknown(key):
            close = difflib.get_close_matches(key, sorted(KNOWN_SECURITY), n=1, cutoff=0.85)
            meant = f"; did you mean {close[0]}?" if close else ""
            yield f"{name}: {key} is not a key that Apple documents{meant}"


def _is_unknown(key: str) -> bool:
    known = key in KNOWN_SECURITY or key.startswith(_TEMPORARY) or key == LONG_KEYCHAIN_KEY
    return key.startswith(_SECURITY) and not known


def _of_the_text(data: bytes, name: str) -> Iterator[str]:
    """The form that Apple asks for, since its parser in the kernel is a simple one."""
    if data.startswith(_BYTE_ORDER_MARK):
        yield f"{name}: begins with a byte order mark; Apple asks for none"
    if _COMMENT in data:
        yield f"{name}: holds a comment; Apple asks for none, and what is sealed has none"
    if b"\r" in data:
        yield f"{name}: has line ends of another system; Apple asks for LF"


def _placeholders(values: Mapping[str, object], name: str) -> Check:
    texts = [text for text in _texts(values, 0) if _PLACEHOLDER.search(text)]
    if not texts:
        return checks.passed("placeholder", "none", subject=name)
    return checks.failed(
        "placeholder",
        subject=name,
        expected="none: Xcode fills them in, codesign does not",
        observed=", ".join(texts[:5]),
        hint="write the team identifier and the bundle identifier out",
    )


def _texts(value: object, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key, depth + 1)
            yield from _texts(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, depth + 1)


def _keychain_key(values: Mapping[str, object], name: str) -> Check:
    return checks.compare(
        "keychain access groups key",
        expected="not the long spelling",
        observed=LONG_KEYCHAIN_KEY if LONG_KEYCHAIN_KEY in values else "not the long spelling",
        subject=name,
        hint=f"securityd reads {entitlements.KEYCHAIN_ACCESS_GROUPS}, without com.apple.security",
    )


def type_of(key: str) -> Type:
    """What kind of value a key takes, as Apple documents it."""
    if key in _TEXTS:
        return "texts"
    if key in _TEXT:
        return "text"
    if key in _BOOLEANS or key in entitlements.GET_TASK_ALLOW_SPELLINGS:
        return "boolean"
    if key in KNOWN_SECURITY and key not in _NOT_BOOLEAN:
        return "boolean"
    return "anything"


def _types(values: Mapping[str, object], name: str) -> Check:
    wrong = [
        f"{key} is {_kind(value)}, not {_TYPE_NAMES[type_of(key)]}"
        for key, value in sorted(values.items())
        if not _fits(type_of(key), value)
    ]
    if not wrong:
        return checks.passed("entitlement type", "as Apple documents them", subject=name)
    return checks.failed(
        "entitlement type",
        subject=name,
        expected="the types that Apple documents",
        observed="; ".join(wrong),
        hint="a value of another type is not read, or has the code killed",
    )


_TYPE_NAMES: Mapping[Type, str] = {
    "boolean": "true or false",
    "text": "a string",
    "texts": "an array of strings",
    "anything": "anything",
}


def _fits(wanted: Type, value: object) -> bool:
    if wanted == "boolean":
        return isinstance(value, bool)
    if wanted == "text":
        return isinstance(value, str)
    if wanted == "texts":
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    return True


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    if isinstance(value, list | tuple):
        return "an array" if not value else f"an array with {_kind(value[0])}"
    return {dict: "a dictionary", int: "an integer", float: "a real", bytes: "data"}.get(
        type(value), "a date"
    )


def _jit(values: Mapping[str, object], name: str) -> Check:
    allowed = [key for key in ALLOW_JIT if values.get(key) is True]
    if allowed:
        return checks.passed("JIT entitlement", ", ".join(allowed), subject=name)
    return checks.failed(
        "JIT entitlement",
        subject=name,
        expected=f"{ALLOW_JIT[0]}, since release.yaml says that this code compiles at run time",
        observed="none",
        hint="under the hardened runtime it ends with SIGTRAP at its first compiled function",
    )
