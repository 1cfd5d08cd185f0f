"""Mach-O files for tests: the committed samples, and universal files made of them."""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import Literal

from release_tool.apple import macho
from release_tool.rehearsal import samples

ARM, INTEL = "darkbloom", "darkbloom-x86_64"


@lru_cache
def thin(name: str = ARM) -> bytes:
    return samples.template(name)


@lru_cache
def universal(*, wide: bool = False) -> bytes:
    """Both samples behind one universal header, aligned to 16 KiB as Apple's linker does."""
    slices = [thin(INTEL), thin(ARM)]
    header, bodies, start = b"", b"", 0x4000
    for data in slices:
        (code,) = macho.parse(data)
        fields = (code.cpu_type, code.cpu_subtype, start, len(data), 14)
        header += struct.pack(">IIQQII", *fields, 0) if wide else struct.pack(">IIIII", *fields)
        room = -(-len(data) // 0x4000) * 0x4000
        bodies += data.ljust(room, b"\0")
        start += room
    magic = macho.FAT_MAGIC_64 if wide else macho.FAT_MAGIC
    whole = (struct.pack(">II", magic, 2) + header).ljust(0x4000, b"\0") + bodies
    return whole[: 0x4000 + -(-len(slices[0]) // 0x4000) * 0x4000 + len(slices[1])]


def unsigned(name: str = ARM) -> bytes:
    """A sample without its signature: as a linker that signs nothing leaves it."""
    data = thin(name)
    (code,) = macho.parse(data)
    if code.signature is None:
        return data
    offset, _ = code.signature
    assert code.linkedit is not None
    image = bytearray(data[:offset])
    command = next(one for one in code.commands if one.command == macho.LC_CODE_SIGNATURE)
    assert command.offset + command.size == code.commands_end, "it is the last command"
    image[command.offset : command.offset + command.size] = bytes(command.size)
    sizes = (len(code.commands) - 1, code.commands_end - command.size - macho.HEADER_SIZE)
    struct.pack_into("<II", image, 16, *sizes)
    struct.pack_into("<Q", image, code.linkedit.command.offset + 48, offset - code.linkedit.offset)
    return bytes(image)


Order = Literal["<", ">"]


def crafted(
    *commands: bytes,
    cpu: tuple[int, int] = (0x0100000C, 0),
    order: Order = "<",
    wide: bool = True,
    file_type: int = 2,
    flags: int = 0x200085,
    content: bytes = b"",
) -> bytes:
    """A Mach-O of a header, these load commands and bytes behind them, for any processor."""
    magic = macho.MAGIC_64 if wide else macho.MAGIC_32
    size = sum(map(len, commands))
    fields = (magic, *cpu, file_type, len(commands), size, flags)
    header = struct.pack(f"{order}7I", *fields) + (bytes(4) if wide else b"")
    return header + b"".join(commands) + content


def command(number: int, layout: str, *fields: object, order: Order = "<", text: str = "") -> bytes:
    """One load command; a text stands behind its fields, filled up to eight bytes."""
    body = struct.pack(order + layout, *fields)
    if text:
        raw = text.encode() + b"\0"
        body += raw.ljust(-(-(8 + len(body) + len(raw)) // 8) * 8 - 8 - len(body), b"\0")
    return struct.pack(order + "II", number, 8 + len(body)) + body


def segment(
    name: str,
    offset: int,
    size: int,
    *sections: tuple[str, int, int],
    order: Order = "<",
    wide: bool = True,
) -> bytes:
    """A segment's command with sections of name, offset and size."""
    number, head, each = (0x19, "16sQQQQiiII", "16s16sQQIIIIIIII")
    if not wide:
        number, head, each = (0x1, "16sIIIIiiII", "16s16sIIIIIIIII")
    raw = name.encode()
    body = struct.pack(order + head, raw, 0, size, offset, size, 7, 5, len(sections), 0)
    for title, start, length in sections:
        zeros = (0,) * (6 if wide else 5)
        body += struct.pack(order + each, title.encode(), raw, 0, length, start, 0, *zeros[1:], 0)
    return struct.pack(order + "II", number, 8 + len(body)) + body


def linked(
    *,
    arch: str = "arm64",
    text: int = 5000,
    data: int = 0,
    linkedit: int = 300,
    info_plist: bytes = b"",
    minos: str = "14.0",
    sdk: str = "26.0",
    file_type: int = 2,
    room: int = 64,
) -> bytes:
    """An unsigned Mach-O as a linker lays it out: text, data if any, `__LINKEDIT` last.

    Args:
        arch: `arm64` or `x86_64`.
        text: bytes of code.
        data: bytes of `__DATA`; none for 0.
        linkedit: bytes of `__LINKEDIT`.
        info_plist: content of the section of that name; none for empty.
        minos: the oldest macOS.
        sdk: that it was built with.
        file_type: of the header.
        room: free bytes behind the load commands.
    """
    page = 0x4000
    cpu = (0x0100000C, 0) if arch == "arm64" else (0x01000007, 3)
    packed = (1, macho.packed_version(minos), macho.packed_version(sdk), 0)
    others = [command(0x32, "IIII", *packed), command(0x1B, "16s", bytes(range(16)))]
    sections = 2 if info_plist else 1
    segments = 72 * (3 if data else 2) + 80 * sections
    start = macho.HEADER_SIZE + segments + sum(map(len, others)) + room
    end = -(-(start + text + len(info_plist)) // page) * page
    data_end = end + -(-data // page) * page
    named = [("__text", start, text)]
    named += [("__info_plist", start + text, len(info_plist))] if info_plist else []
    parts = [segment("__TEXT", 0, end, *named)]
    parts += [segment("__DATA", end, data_end - end)] if data else []
    parts.append(segment("__LINKEDIT", data_end, linkedit))
    body = bytes(room) + b"\x1f" * text + info_plist
    image = crafted(*parts, *others, cpu=cpu, file_type=file_type, content=body)
    return image.ljust(data_end, b"\x2f") + b"\x3f" * linkedit


def fat(*slices: bytes, wide: bool = False, subtypes: dict[int, int] | None = None) -> bytes:
    """A universal file of thin ones, aligned to 4 KiB; subtypes by index stand for their own."""
    header, bodies, start = b"", b"", 0x1000
    for index, data in enumerate(slices):
        (code,) = macho.parse(data)
        subtype = (subtypes or {}).get(index, code.cpu_subtype)
        fields = (code.cpu_type, subtype, start, len(data), 12)
        header += struct.pack(">IIQQII", *fields, 0) if wide else struct.pack(">IIIII", *fields)
        body = data.ljust(-(-len(data) // 0x1000) * 0x1000, b"\0")
        bodies += body
        start += len(body)
    magic = macho.FAT_MAGIC_64 if wide else macho.FAT_MAGIC
    return (struct.pack(">II", magic, len(slices)) + header).ljust(0x1000, b"\0") + bodies


def enlarged(path: Path, size: int) -> None:
    """Write an unsigned sample whose `__LINKEDIT` reaches to `size`, the added bytes a hole."""
    data = bytearray(unsigned())
    (code,) = macho.parse(bytes(data))
    assert code.linkedit is not None
    grown = size - code.linkedit.offset
    struct.pack_into("<Q", data, code.linkedit.command.offset + 32, -(-grown // 0x4000) * 0x4000)
    struct.pack_into("<Q", data, code.linkedit.command.offset + 48, grown)
    path.write_bytes(data)
    with path.open("r+b") as target:
        target.truncate(size)


def targeting(minos: str) -> bytes:
    """An unsigned sample that says it runs on an older macOS."""
    data = bytearray(unsigned())
    (code,) = macho.parse(bytes(data))
    build = next(one for one in code.commands if one.command == 0x32)
    struct.pack_into("<I", data, build.offset + 12, macho.packed_version(minos))
    return bytes(data)
