"""Read which functions a Metal library holds, and whether their compiled modules are whole.

The list begins with a u32 count. Each entry is a u32 size, which counts itself, then tagged
values: four letters, u16 length, the value; `ENDT` ends it and has neither. `NAME` is a C string,
`HASH` the SHA-256 of the function's module, `MDSZ` its u64 size, `OFFT` three u64 offsets of which
the last is the module's. Order and number of the other tags differ by compiler and are passed
over. Measured on three libraries of MLX of 2024 to 2026, 51,401 functions: every digest is that of
its module. Apple documents none of it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from posixpath import commonprefix
from typing import NamedTuple

from release_tool import errors
from release_tool.apple import checks, metal_library
from release_tool.apple.checks import Check

# MLX, the largest library that is known, has 19,148.
MAX_FUNCTIONS = 200_000
# The longest name of MLX has 117 bytes; mangled templates of others have some hundred.
MAX_NAME = 4096
# Entries have six to eight tags; further ones describe reflection and tessellation.
_MAX_TAGS = 64
_WANTED = (b"NAME", b"HASH", b"MDSZ", b"OFFT")
_END = b"ENDT"
_DIGEST, _SIZE, _OFFSETS = 32, 8, 24
_HINT = "take the library of the MLX that the provider is built from"


class MetalFunction(NamedTuple):
    """One function of a library."""

    name: str
    digest: bytes
    """SHA-256 of its module, as the list states it."""
    offset: int
    """Of its module, in the part that holds the modules."""
    size: int
    """Of its module, in bytes."""


def parse(data: bytes | memoryview) -> tuple[MetalFunction, ...]:
    """Read the list of functions.

    Args:
        data: the whole library.

    Raises:
        FormatError: no Metal library, or one whose list or modules do not lie where it says.
    """
    view = memoryview(data)
    library = metal_library.parse(view[: metal_library.HEADER_SIZE], size=len(view))
    offset, size = library.functions
    if size == 0:
        return ()
    # The stated size does not count the count.
    if offset + 4 + size > len(view):
        raise _bad("the list of functions ends behind the file")
    body = bytes(view[offset : offset + 4 + size])
    (count,) = struct.unpack_from("<I", body)
    if count > MAX_FUNCTIONS:
        raise _bad("too many functions", expected=f"at most {MAX_FUNCTIONS}", observed=f"{count}")
    found = tuple(_entries(body, count))
    _require_room(found, library.modules[1])
    return found


def _entries(body: bytes, count: int) -> Iterator[MetalFunction]:
    at = 4
    for _ in range(count):
        if at + 4 > len(body):
            raise _bad("the list of functions ends early")
        (size,) = struct.unpack_from("<I", body, at)
        if size < 4 or at + size > len(body):
            raise _bad("an entry ends behind the list of functions")
        yield _function(body[at + 4 : at + size])
        at += size
    if at != len(body):
        raise _bad("bytes follow the last function", observed=f"{len(body) - at} bytes")


def _function(entry: bytes) -> MetalFunction:
    tags = _tags(entry)
    missing = [tag.decode() for tag in _WANTED if tag not in tags]
    if missing:
        raise _bad("an entry is incomplete", expected=missing[0])
    name, digest, size, offsets = (tags[tag] for tag in _WANTED)
    if (len(digest), len(size), len(offsets)) != (_DIGEST, _SIZE, _OFFSETS):
        raise _bad("a value of an entry has another length")
    return MetalFunction(
        name=_name(name),
        digest=digest,
        offset=int.from_bytes(offsets[16:], "little"),
        size=int.from_bytes(size, "little"),
    )


def _tags(entry: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    for _ in range(_MAX_TAGS):
        tag = entry[at : at + 4]
        if tag == _END:
            if at + 4 != len(entry):
                raise _bad("bytes follow the end of an entry")
            return found
        if len(entry) < at + 6:
            raise _bad("an entry ends without its end")
        (length,) = struct.unpack_from("<H", entry, at + 4)
        if at + 6 + length > len(entry):
            raise _bad("a value ends behind its entry")
        if tag in found:
            raise _bad("a value stands twice in an entry", observed=repr(tag))
        found[tag] = entry[at + 6 : at + 6 + length]
        at += 6 + length
    raise _bad("too many values in an entry", expected=f"at most {_MAX_TAGS}")


def _name(value: bytes) -> str:
    if not value.endswith(b"\0") or b"\0" in value[:-1] or not 1 < len(value) <= MAX_NAME:
        raise _bad("the name of a function is no C string", observed=repr(value[:40]))
    try:
        return value[:-1].decode()
    except UnicodeDecodeError:
        raise _bad("the name of a function is no text", observed=repr(value[:40])) from None


def _require_room(functions: Sequence[MetalFunction], room: int) -> None:
    """Modules lie in their part; those that overlap would be hashed again and again."""
    places = {(one.offset, one.size) for one in functions}
    if any(offset + size > room for offset, size in places):
        raise _bad("a module lies outside of the library", expected=f"within {room} bytes")
    if sum(size for _, size in places) > room:
        raise _bad("modules overlap")


def judge(data: bytes | memoryview, *, required: Sequence[str], subject: str) -> Iterator[Check]:
    """Whether a library is whole and has what the runtime will ask it for.

    Args:
        data: the whole library.
        required: texts, each of which the name of some function must hold.
        subject: how checks name the library.
    """
    try:
        functions = parse(data)
    except errors.FormatError as problem:
        observed = f"{problem.message} {problem.observed}".strip()
        yield checks.failed(
            "Metal functions",
            expected=problem.expected or "a list of functions",
            observed=observed,
            subject=subject,
            hint=_HINT,
        )
        return
    yield _whole(data, functions, subject)
    names = [one.name for one in functions]
    for text in required:
        yield _held(text, names, subject)


def _whole(data: bytes | memoryview, functions: Sequence[MetalFunction], subject: str) -> Check:
    view = memoryview(data)
    start, _ = metal_library.parse(view[: metal_library.HEADER_SIZE], size=len(view)).modules
    digests: dict[tuple[int, int], bytes] = {}
    wrong = []
    for one in functions:
        place = (one.offset, one.size)
        if place not in digests:
            begin = start + one.offset
            digests[place] = hashlib.sha256(view[begin : begin + one.size]).digest()
        if digests[place] != one.digest:
            wrong.append(one.name)
    if wrong:
        return checks.failed(
            "Metal functions",
            expected=f"{len(functions)}, each as it was compiled",
            observed=f"{len(wrong)} changed, the first is {wrong[0]}",
            subject=subject,
            hint=_HINT,
        )
    return checks.passed(
        "Metal functions", f"{len(functions)}, each as it was compiled", subject=subject
    )


def _held(text: str, names: Sequence[str], subject: str) -> Check:
    count = sum(text in name for name in names)
    if count:
        return checks.passed("Metal function", f"{count} of it", subject=subject, expected=text)
    closest = max(names, key=lambda name: len(commonprefix((name, text))), default="")
    near = f", the closest is {closest}" if commonprefix((closest, text)) else ""
    return checks.failed(
        "Metal function",
        expected=text,
        observed=f"in none of {len(names)} names{near}",
        subject=subject,
        hint=_HINT,
    )


def library(
    functions: Mapping[str, bytes], *, minimum: str = "14.0", filler: int = 0, system: int = 0x81
) -> bytes:
    """Write a library with these functions: what look-alikes are made of.

    Args:
        functions: the module of each, by name.
        minimum: the target system's version, `major.minor`.
        filler: zeros behind the modules.
        system: the target system's number; 0x81 is macOS.
    """
    entries, offset = [], 0
    for name, module in functions.items():
        entries.append(_entry(name, module, offset))
        offset += len(module)
    listed = struct.pack("<I", len(functions)) + b"".join(entries)
    modules = b"".join(functions.values())
    first = metal_library.HEADER_SIZE
    behind = first + len(listed) + len(_END)
    parts = (first, len(listed) - 4, behind, 0, behind, 0, behind, len(modules))
    head = metal_library.header(
        size=behind + len(modules) + filler, minimum=minimum, system=system, parts=parts
    )
    return head + listed + _END + modules + bytes(filler)


def _entry(name: str, module: bytes, offset: int) -> bytes:
    values = {
        b"NAME": name.encode() + b"\0",
        b"TYPE": b"\x02",
        b"HASH": hashlib.sha256(module).digest(),
        b"MDSZ": struct.pack("<Q", len(module)),
        b"OFFT": struct.pack("<QQQ", 0, 0, offset),
        b"VERS": struct.pack("<HHHH", 2, 6, 3, 1),
    }
    body = b"".join(tag + struct.pack("<H", len(value)) + value for tag, value in values.items())
    return struct.pack("<I", 4 + len(body) + len(_END)) + body + _END


def _bad(message: str, *, expected: str = "", observed: str = "") -> errors.FormatError:
    return errors.FormatError(
        f"not a Metal library: {message}", expected=expected, observed=observed
    )
