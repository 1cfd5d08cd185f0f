"""Mach-O files for tests: the committed samples, and universal files made of them."""

from __future__ import annotations

import struct
from functools import lru_cache

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
