"""XML property lists, read as bytes from anyone, written as Apple's tools write them.

Python's plistlib lets a second key of the same name win in silence and sets no bounds; a profile
or an entitlements file that says two things must be refused instead. Rule and source: Apple's
PropertyList-1.0 DTD.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from xml.parsers import expat

from release_tool import errors

# The largest resource seal seen has a few megabytes; a profile stays under 100 kB.
MAX_BYTES = 32 * 1024 * 1024
MAX_ELEMENTS = 1_000_000
# Real lists nest under ten levels; readers of the result may recurse.
MAX_DEPTH = 64
# Core Foundation reads integers into 64 bits.
_MIN_INTEGER, _MAX_INTEGER = -(1 << 63), (1 << 64) - 1

_CONTAINERS = ("dict", "array")
_BINARY = b"bplist00"
_WHITE_SPACE = b" \t\r\n"


def parse(data: bytes, *, limit: int = MAX_BYTES) -> dict[str, object]:
    """Read an XML property list whose outermost value is a dictionary.

    Dates come back aware, in UTC.

    Raises:
        FormatError: it is not one, declares entities, names a key twice or exceeds a cap.
    """
    if len(data) > limit:
        raise errors.FormatError(
            "the property list is too large", expected=f"at most {limit}", observed=str(len(data))
        )
    if data.startswith(_BINARY):
        raise errors.FormatError("the property list is binary, not XML")
    builder = _Builder()
    try:
        builder.feed(data)
    except expat.ExpatError as problem:
        raise errors.FormatError(f"not an XML property list: {problem}") from problem
    except (LookupError, ValueError) as problem:
        raise errors.FormatError("not an XML property list: unknown encoding") from problem
    return builder.result()


def parse_any(data: bytes, *, limit: int = 4 * 1024 * 1024) -> dict[str, object]:
    """Read an XML or a binary property list, as `Info.plist` files of others come in both.

    Raises:
        FormatError: it is neither, or not a dictionary.
    """
    if not data.startswith(_BINARY):
        return parse(data, limit=limit)
    if len(data) > limit:
        raise errors.FormatError("the property list is too large", observed=str(len(data)))
    import plistlib  # here and below: reading XML, which must start fast, needs none of it

    try:
        value = plistlib.loads(data, fmt=plistlib.FMT_BINARY)
    except (
        plistlib.InvalidFileException,
        ValueError,
        OverflowError,
        MemoryError,
        RecursionError,
        TypeError,
        IndexError,
    ) as problem:
        raise errors.FormatError("not a binary property list") from problem
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise errors.FormatError("the property list is not a dictionary")
    return value


def write(value: Mapping[str, object]) -> bytes:
    """Write an XML property list, keys sorted, tabs for indentation: Apple's own layout."""
    return write_as_read(value, sort_keys=True)


def write_as_read(value: Mapping[str, object], *, sort_keys: bool = False) -> bytes:
    """Write an XML property list in Apple's own layout, keys in the order given.

    What Apple's tools wrote (resource seals, property lists in bundles) comes out of `parse` and
    this as it was; what others wrote keeps its values, not its white space.
    """
    import plistlib

    plain = _naive(value)
    assert isinstance(plain, dict)  # noqa: S101 - it was a mapping
    return plistlib.dumps(plain, fmt=plistlib.FMT_XML, sort_keys=sort_keys)


def _naive(value: object) -> object:
    """Dates without their zone, as plistlib wants them: they are UTC on both sides."""
    if isinstance(value, Mapping):
        return {key: _naive(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_naive(item) for item in value]
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


class WholeReal(float):
    """A real that is written without a fraction: Apple's tools write weights as `1000`."""

    def __repr__(self) -> str:
        return str(int(self))


class _Builder:
    """Collects values while expat reads; no recursion, so depth costs nothing."""

    def __init__(self) -> None:
        self._stack: list[dict[str, object] | list[object]] = []
        self._keys: list[str | None] = []
        self._path: list[str] = []
        self._text: list[str] = []
        self._elements = 0
        self._values: list[object] = []

    def feed(self, data: bytes) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = _doctype
        parser.EntityDeclHandler = _refuse_entity
        # Apple's readers pass over white space before the declaration, and real entitlements of
        # Developer ID code have some; XML itself allows none.
        parser.Parse(data.lstrip(_WHITE_SPACE), True)  # noqa: FBT003 - expat takes it by position

    def result(self) -> dict[str, object]:
        if len(self._values) != 1 or not isinstance(self._values[0], dict):
            raise errors.FormatError("the property list is not one dictionary")
        return self._values[0]

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS or len(self._path) > MAX_DEPTH:
            raise errors.FormatError("the property list is too deep or has too many values")
        parent = self._path[-1] if self._path else ""
        self._admit(name, parent)
        self._path.append(name)
        if name in _CONTAINERS:
            self._stack.append({} if name == "dict" else [])
            self._keys.append(None)

    def _admit(self, name: str, parent: str) -> None:
        fitting = (name == "plist") == (not parent) and parent in ("", "plist", *_CONTAINERS)
        known = name in ("plist", "key", *_CONTAINERS) or name in _SCALARS
        if not fitting or not known or (name == "key" and parent != "dict"):
            raise errors.FormatError("not a property list", observed=f"<{name[:40]}> in {parent!r}")
        if "".join(self._text).strip():
            raise errors.FormatError("text stands between the property list's values")
        self._text.clear()
        if parent == "dict" and (name == "key") == (self._keys[-1] is not None):
            raise errors.FormatError("the property list's keys and values do not alternate")

    def _characters(self, text: str) -> None:
        self._text.append(text)

    def _end(self, name: str) -> None:
        self._path.pop()
        text = "".join(self._text)
        self._text.clear()
        if name in ("plist", *_CONTAINERS) and text.strip():
            raise errors.FormatError("text stands between the property list's values")
        if name == "key":
            self._name_key(text)
        elif name in _CONTAINERS:
            if self._keys.pop() is not None:
                raise errors.FormatError("a key of the property list has no value")
            self._add(self._stack.pop())
        elif name != "plist":
            self._add(_SCALARS[name](text))

    def _name_key(self, text: str) -> None:
        holder = self._stack[-1]
        if text in holder:
            raise errors.FormatError("the property list names a key twice", observed=text[:80])
        self._keys[-1] = text

    def _add(self, value: object) -> None:
        if not self._stack:
            self._values.append(value)
            return
        holder = self._stack[-1]
        if isinstance(holder, list):
            holder.append(value)
            return
        key = self._keys[-1]
        if key is not None:
            holder[key] = value
        self._keys[-1] = None


def _doctype(_name: str, _system: str | None, _public: str | None, internal: int) -> None:
    if internal:
        raise errors.FormatError("the property list declares its own document type")


def _refuse_entity(*_details: object) -> None:
    raise errors.FormatError("the property list declares entities")


def _integer(text: str) -> int:
    text = text.strip()
    if re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        number = int(text)
    elif re.fullmatch(r"[+-]?0[xX][0-9a-fA-F]{1,16}", text):
        number = int(text, 16)
    else:
        raise errors.FormatError("not an integer", observed=text[:40])
    if not _MIN_INTEGER <= number <= _MAX_INTEGER:
        raise errors.FormatError("the integer does not fit 64 bits", observed=text)
    return number


def _real(text: str) -> float:
    try:
        # A whole number is written without a fraction again.
        whole = re.fullmatch(r"-?[0-9]{1,15}", text)
        return WholeReal(text) if whole else float(text[:400])
    except ValueError as problem:
        raise errors.FormatError("not a real number", observed=text[:40]) from problem


def _data(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as problem:
        raise errors.FormatError("not base64 data", observed=text.strip()[:40]) from problem


def _date(text: str) -> datetime:
    text = text.strip()
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", text):
        raise errors.FormatError("not a date", observed=text[:40])
    try:
        return datetime.fromisoformat(text)
    except ValueError as problem:
        raise errors.FormatError("not a date", observed=text[:40]) from problem


def _empty(value: bool) -> Callable[[str], object]:  # noqa: FBT001 - the value is what is made
    def read(text: str) -> object:
        if text.strip():
            raise errors.FormatError("a boolean of the property list has content")
        return value

    return read


_SCALARS: Mapping[str, Callable[[str], object]] = {
    "string": lambda text: text,
    "data": _data,
    "integer": _integer,
    "real": _real,
    "date": _date,
    "true": _empty(True),  # noqa: FBT003
    "false": _empty(False),  # noqa: FBT003
}
