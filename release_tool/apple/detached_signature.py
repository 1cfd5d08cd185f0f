"""Signatures that lie beside a file, in its extended attributes.

codesign signs what is no Mach-O in a place for code (scripts, Metal libraries) this way: each part
of the signature is one attribute, `com.apple.cs.` and the part's name. Rule and source: Apple's
published code signing sources (`filediskrep`, the canonical names of slots); the attributes' names
were seen in public listings of signed releases. Only macOS's own tools carry them along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from release_tool import errors
from release_tool.apple import superblob

PREFIX = "com.apple.cs."
"""Of the attributes' names."""
MAX_PART_BYTES = 1024 * 1024
"""A signature with its timestamp has 9 KB; 32 bytes for each page of a 100 MB file make 800 KB."""
_SLOTS: Mapping[str, int] = {
    "CodeDirectory": superblob.SLOT_CODE_DIRECTORY,
    "CodeRequirements": superblob.SLOT_REQUIREMENTS,
    "CodeEntitlements": superblob.SLOT_ENTITLEMENTS,
    "CodeEntitlementDER": superblob.SLOT_ENTITLEMENTS_DER,
    # Apple names alternate code directories after the requirements.
    **{f"CodeRequirements-{slot - 0xFFF}": slot for slot in superblob.SLOTS_ALTERNATE},
    "CodeSignature": superblob.SLOT_CMS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedData:
    """A file with its signature, seen as code: one part, no architecture, all of it covered."""

    data: memoryview = field(repr=False)
    signature_bytes: bytes = field(repr=False)
    """The parts as the superblob that they would be inside a Mach-O."""

    arch: str = ""
    linkedit: None = None
    info_plist: None = None
    minos: None = None
    sdk: None = None
    is_executable: bool = False
    linked_libraries: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """All bytes of the file."""
        return len(self.data)

    @property
    def signature(self) -> tuple[int, int]:
        """It starts where the file ends, and takes nothing of it."""
        return len(self.data), 0


def assemble(data: memoryview, parts: Mapping[str, bytes]) -> SignedData:
    """Put the parts together.

    Args:
        data: the file.
        parts: content by name without `PREFIX`.

    Raises:
        FormatError: an unknown part, one that is too large, or no code directory.
    """
    if "CodeDirectory" not in parts:
        raise errors.FormatError("its signature beside it has no code directory")
    blobs = []
    for name, content in parts.items():
        if name not in _SLOTS or len(content) > MAX_PART_BYTES:
            raise errors.FormatError(
                "an unknown or oversized part of a signature lies beside it",
                observed=f"{name[:60]}, {len(content)} bytes",
            )
        slot = _SLOTS[name]
        # The CMS lies there without the wrapper that a superblob puts around it.
        wrapped = superblob.wrap(superblob.MAGIC_WRAPPER, content)
        blobs.append((slot, wrapped if slot == superblob.SLOT_CMS else content))
    return SignedData(data=data, signature_bytes=superblob.encode(sorted(blobs)))
