"""Sample executables with texts of a build written into them."""

from __future__ import annotations

from release_tool.rehearsal import samples

_MARK = b"sample-record:commit\0\0\0\0"
_WIDTH = 48


def holding(*constants: str, version: str = "0.5.0") -> bytes:
    """The main executable with these C strings among its constants: 48 bytes in all."""
    field = b"".join(text.encode() + b"\0" for text in constants)
    assert len(field) <= _WIDTH
    code = bytearray(samples.executable("darkbloom", version))
    at = code.index(_MARK) + len(_MARK)
    code[at : at + _WIDTH] = field.ljust(_WIDTH, b"\0")
    return bytes(code)
