"""Plan and fill the code directory of a new signature, as Apple's codesign does (measured).

Version 0x20500 with hardened runtime, else 0x20400; its size is known before a page is hashed, and
must be, since the load command that names the signature's room lies in the first page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from release_tool.apple import code_directory, macho_writer

EXEC_MAIN_BINARY = 0x1
EXEC_ALLOW_UNSIGNED = 0x10
# Entitlements that codesign mirrors in the exec segment's flags when they are true; macOS's own
# spelling of get-task-allow is not among them (Apple's published signer, and measured).
_EXEC_FLAGS: Mapping[str, int] = MappingProxyType(
    {
        "get-task-allow": EXEC_ALLOW_UNSIGNED,
        "run-unsigned-code": EXEC_ALLOW_UNSIGNED,
        "com.apple.private.cs.debugger": 0x20,
        "dynamic-codesigning": 0x40,
        "com.apple.private.skip-library-validation": 0x80,
        "com.apple.private.amfi.can-load-cdhash": 0x100,
        "com.apple.private.amfi.can-execute-cdhash": 0x200,
    }
)


def page_size_log2(arch: str) -> int:
    """The page that codesign hashes: 16 KiB on arm64, 4 KiB elsewhere (measured, both verify)."""
    return 14 if arch.startswith("arm64") else 12


def exec_segment_flags(*, main_binary: bool, entitlements: Mapping[str, object]) -> int:
    """The exec segment's flags for a main executable with these entitlements."""
    if not main_binary:
        return 0
    flags = EXEC_MAIN_BINARY
    for key, bit in _EXEC_FLAGS.items():
        if entitlements.get(key) is True:
            flags |= bit
    return flags


def planned(
    *,
    hash_type: int,
    page_size_log2: int,
    code_limit: int,
    identifier: str,
    team_id: str | None,
    flags: int,
    special: Mapping[int, bytes],
    exec_segment: tuple[int, int, int],
    runtime: int,
) -> code_directory.CodeDirectory:
    """Lay out a code directory as Apple's codesign does, the code not yet hashed.

    Args:
        hash_type: the digest of its slots.
        page_size_log2: bytes under one code hash.
        code_limit: where the signature begins.
        identifier: the code's signing identifier.
        team_id: the team; None for an ad-hoc signature.
        flags: `ADHOC`, `RUNTIME`.
        special: digest by special slot; the highest decides how many places there are.
        exec_segment: file offset and size of `__TEXT`, and its flags.
        runtime: the SDK's packed version; written only with hardened runtime.
    """
    hardened = bool(flags & code_directory.RUNTIME)
    base, limit, exec_flags = exec_segment
    return code_directory.CodeDirectory(
        version=code_directory.VERSION_RUNTIME if hardened else code_directory.VERSION_EXEC_SEGMENT,
        flags=flags,
        identifier=identifier,
        team_id=team_id,
        hash_type=hash_type,
        page_size_log2=page_size_log2,
        code_limit=code_limit,
        special_slots=max(special, default=0),
        special=special,
        code_hashes=(),
        exec_segment_base=base,
        exec_segment_limit=limit,
        exec_segment_flags=exec_flags,
        runtime=runtime if hardened else 0,
    )


def encoded_size(directory: code_directory.CodeDirectory) -> int:
    """Bytes that a planned directory will have once its code is hashed."""
    pages = -(-directory.code_limit // directory.page_size)
    unhashed = code_directory.encode(replace(directory, code_hashes=()))
    return len(unhashed) + pages * directory.hash_size


def build(directory: code_directory.CodeDirectory, image: macho_writer.Image) -> bytes:
    """Hash the code of a planned directory.

    Args:
        directory: from `planned`.
        image: the code with its final load commands.

    Returns:
        The whole blob.
    """
    return code_directory.encode(
        replace(directory, code_hashes=tuple(_page_hashes(directory, image)))
    )


def _page_hashes(
    directory: code_directory.CodeDirectory, image: macho_writer.Image
) -> Iterator[bytes]:
    """The last page is short. Pages are hashed where they lie, the first across two pieces."""
    for start in range(0, directory.code_limit, directory.page_size):
        page = hashlib.new(directory.algorithm)
        for piece in image.span(start, min(start + directory.page_size, directory.code_limit)):
            page.update(piece)
        yield page.digest()[: directory.hash_size]
