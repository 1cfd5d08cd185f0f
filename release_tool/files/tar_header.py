"""Tar header blocks: ours in one fixed form, foreign ones read strictly.

POSIX.1-2017, pax: the ustar interchange format and pax extended headers. GNU's long names are
read, never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from release_tool import errors
from release_tool.apple.detached_signature import PREFIX
from release_tool.files.members import Kind, Member, shown

BLOCK_BYTES = 512
RECORD_BYTES = 20 * BLOCK_BYTES
"""An archive ends at a multiple of this, as tar(1) writes it."""

FILE, LINK, DIRECTORY = b"0", b"2", b"5"
PAX, PAX_GLOBAL, GNU_NAME, GNU_TARGET = b"x", b"g", b"L", b"K"

RAW_ATTRIBUTE = "SCHILY.xattr."
"""Before the name of an extended attribute, whose raw bytes follow."""

_TYPES: Mapping[Kind, bytes] = {"file": FILE, "symlink": LINK, "directory": DIRECTORY}
_MAGIC = b"ustar\x0000"
_GNU_MAGIC = b"ustar  \x00"
_NAME_BYTES = 100
_DATE_LIMIT = 8**11
_PREFIX = "./"
"""As macOS tar of a folder writes it; installers and the coordinator strip it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One header block, with its fields as they stand."""

    name: bytes
    mode: int
    size: int
    date: int
    type: bytes
    target: bytes


def encode(member: Member, date: int, *, signatures: bool = False) -> bytes:
    """The header blocks of a member: fixed owner and group, modes by kind, the given time.

    A name or target that is longer than 100 bytes or not ASCII gets a pax header in front.

    Args:
        member: path, kind, size and target; of the mode, only whether it may be executed counts.
        date: Unix time of the member.
        signatures: whether its code signature in extended attributes comes along, raw in pax
            records, as libarchive writes it.
    """
    if not 0 <= date < _DATE_LIMIT:
        raise errors.UsageError("is no time for an archive", subject=str(date))
    name = _PREFIX + member.path + ("/" if member.kind == "directory" else "")
    records = b""
    if not _fits(name):
        records += _record("path", name)
    if not _fits(member.target):
        records += _record("linkpath", member.target)
    for part, content in member.signature if signatures else ():
        records += _record(f"{RAW_ATTRIBUTE}{PREFIX}{part}", content)
    block = _block(
        name=_short(name),
        mode=fixed_mode(member.kind, member.mode),
        size=member.size if member.kind == "file" else 0,
        date=date,
        type_flag=_TYPES[member.kind],
        target=_short(member.target),
    )
    return _pax_header(records, date) + block if records else block


def fixed_mode(kind: Kind, mode: int) -> int:
    """The mode that an archive gives: 0755 for what can be entered or run, 0644 otherwise."""
    if kind == "symlink":
        return 0o777
    return 0o755 if kind == "directory" or mode & 0o111 else 0o644


def padding(size: int) -> int:
    """How many zero bytes follow a content of this size."""
    return -size % BLOCK_BYTES


def decode(block: bytes) -> Header:
    """Read one header block.

    Raises:
        FormatError: wrong checksum, another format, or a field that is not a number.
    """
    stated = _octal(block[148:156], "checksum")
    if stated != _checksum(block):
        raise errors.FormatError("the checksum of a tar header is wrong")
    if block[257:265] not in (_MAGIC, _GNU_MAGIC):
        raise errors.FormatError("a tar header is not of the ustar format")
    name = block[:100].split(b"\0")[0]
    prefix = block[345:500].split(b"\0")[0] if block[257:265] == _MAGIC else b""
    return Header(
        name=prefix + b"/" + name if prefix else name,
        mode=_octal(block[100:108], "mode"),
        size=_octal(block[124:136], "size"),
        date=_octal(block[136:148], "time"),
        type=block[156:157],
        target=block[157:257].split(b"\0")[0],
    )


def decode_records(data: bytes) -> dict[str, bytes]:
    """Read the records of a pax extended header.

    Raises:
        FormatError: a record's length does not fit, or a keyword stands twice.
    """
    found: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 8)
        digits = data[position:space] if space > 0 else b""
        if not digits.isdigit():
            raise errors.FormatError("a pax record has no length")
        end = position + int(digits)
        record = data[space + 1 : end]
        if end > len(data) or not record.endswith(b"\n") or b"=" not in record:
            raise errors.FormatError("a pax record does not end where it says")
        key, value = record[:-1].split(b"=", 1)
        name = key.decode("utf-8", "replace")
        if name in found:
            raise errors.FormatError("a pax keyword stands twice", subject=shown(name))
        found[name] = value
        position = end
    return found


def _fits(text: str) -> bool:
    return text.isascii() and len(text) <= _NAME_BYTES


def _short(text: str) -> bytes:
    """What stands in the plain field where the pax record says it all."""
    return text.encode("ascii", "replace")[:_NAME_BYTES]


def _pax_header(records: bytes, date: int) -> bytes:
    block = _block(
        name=b"././@PaxHeader",
        mode=0o644,
        size=len(records),
        date=date,
        type_flag=PAX,
        target=b"",
    )
    return block + records + bytes(padding(len(records)))


def _record(key: str, value: str | bytes) -> bytes:
    """`length key=value`, where the length counts its own digits."""
    content = value.encode() if isinstance(value, str) else value
    body = f" {key}=".encode() + content + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def _block(
    *, name: bytes, mode: int, size: int, date: int, type_flag: bytes, target: bytes
) -> bytes:
    fields = [
        name.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,  # owner
        b"%07o\0" % 0,  # group
        b"%011o\0" % size,
        b"%011o\0" % date,
        b" " * 8,
        type_flag,
        target.ljust(100, b"\0"),
        _MAGIC,
    ]
    block = b"".join(fields).ljust(BLOCK_BYTES, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _checksum(block: bytes) -> int:
    return sum(block[:148]) + 8 * 0x20 + sum(block[156:])


def _octal(field: bytes, what: str) -> int:
    digits = field.rstrip(b"\0 ").lstrip(b" ")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise errors.FormatError(f"the {what} of a tar header is not a number")
    return int(digits, 8)
