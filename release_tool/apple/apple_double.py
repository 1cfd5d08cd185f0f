"""AppleDouble: what lies beside a file, in a file of its own where a zip has no place for it.

ditto and Archive Utility write one for each file with extended attributes. The layout is that of
Apple's published `copyfile` and XNU sources (`vfs_xattr.c`): numbers are big-endian, the entry for
Finder info is followed by a table of attributes whose values lie behind it. No real one is among
our items.
"""

from __future__ import annotations

import struct

from release_tool import errors

MAGIC = bytes.fromhex("00051607")
_VERSION = bytes.fromhex("00020000")
_HEADER = struct.Struct(">4s4s16xH")
_ENTRY = struct.Struct(">III")
_FINDER_INFO = 9
# Two entries stand in every one: Finder info and resource fork.
_MOST_ENTRIES = 16
# Behind 32 bytes of Finder info and two of padding.
_TABLE_AFTER = 34
_TABLE = struct.Struct(">4sIIII12xHH")
_TABLE_MAGIC = b"ATTR"
_ATTRIBUTE = struct.Struct(">IIHB")
# A file has a handful; the kernel keeps all of them in one table of 64 KB.
_MOST_ATTRIBUTES = 1024
_ALIGNMENT = 4


def parse(data: bytes) -> dict[str, bytes]:
    """The extended attributes in an AppleDouble file, by name.

    Finder info and the resource fork are none of them, as they are none in its table.

    Raises:
        FormatError: it is none, or damaged.
    """
    try:
        return _parse(data)
    except (struct.error, UnicodeDecodeError) as problem:
        raise errors.FormatError("AppleDouble that ends too early or names no text") from problem


def _parse(data: bytes) -> dict[str, bytes]:
    magic, version, count = _HEADER.unpack_from(data)
    if (magic, version) != (MAGIC, _VERSION) or count > _MOST_ENTRIES:
        raise errors.FormatError("not AppleDouble")
    entries = [_ENTRY.unpack_from(data, _HEADER.size + _ENTRY.size * at) for at in range(count)]
    info = next((offset for kind, offset, _ in entries if kind == _FINDER_INFO), None)
    place = 0 if info is None else info + _TABLE_AFTER
    if data[place : place + len(_TABLE_MAGIC)] != _TABLE_MAGIC:
        # Finder info alone has no table.
        return {}
    *_, number = _TABLE.unpack_from(data, place)
    if number > _MOST_ATTRIBUTES:
        raise errors.FormatError("AppleDouble of too many attributes", observed=str(number))
    found: dict[str, bytes] = {}
    position = place + _TABLE.size
    for _ in range(number):
        offset, length, _, name_length = _ATTRIBUTE.unpack_from(data, position)
        start = position + _ATTRIBUTE.size
        name = data[start : start + name_length]
        value = data[offset : offset + length]
        if len(value) != length or len(name) != name_length or not name.endswith(b"\0"):
            raise errors.FormatError("AppleDouble whose attribute leaves it")
        key = name[:-1].decode()
        if key in found:
            raise errors.FormatError("AppleDouble with one attribute twice")
        found[key] = value
        position += -(-(_ATTRIBUTE.size + name_length) // _ALIGNMENT) * _ALIGNMENT
    return found
