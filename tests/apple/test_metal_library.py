"""The header of a Metal library."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import metal_library


@given(major=st.integers(0, 0xFFFF), minor=st.integers(0, 0xFFFF), extra=st.integers(0, 1 << 40))
def test_what_is_written_is_read(major: int, minor: int, extra: int) -> None:
    """Every target and size comes back as it was written."""
    size = metal_library.HEADER_SIZE + extra
    found = metal_library.parse(
        metal_library.header(size=size, minimum=f"{major}.{minor}"), size=size
    )
    assert (found.system, found.minimum, found.size) == ("macOS", f"{major}.{minor}", size)
    assert found.is_macos
    assert found.kind == "executable"


@given(data=st.binary(max_size=200), size=st.integers(0, 1 << 64))
def test_any_bytes_end_in_a_value_or_a_format_error(data: bytes, size: int) -> None:
    """No input raises anything else, with the magic in front or not."""
    for content in (data, metal_library.MAGIC + data):
        try:
            metal_library.parse(content, size=size)
        except errors.FormatError:
            continue


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda head: head[:50], "not a Metal library"),
        (lambda head: b"MTLX" + head[4:], "not a Metal library"),
        (lambda head: head[:4] + b"\x01\x00" + head[6:], "names two platforms"),
        (lambda head: head[:24] + (501).to_bytes(8, "little") + head[32:], "outside the file"),
    ],
)
def test_a_broken_header_is_refused(change: object, message: str) -> None:
    """Truncated, another magic, contradictory, or with a part behind its end."""
    head = metal_library.header(size=500)
    with pytest.raises(errors.FormatError, match=message):
        metal_library.parse(change(head), size=500)  # type: ignore[operator]


def test_a_cut_library_is_refused() -> None:
    """A download that ended early is not as long as its header says."""
    with pytest.raises(errors.FormatError, match="not as long"):
        metal_library.parse(metal_library.header(size=500), size=499)


def test_another_system_is_named() -> None:
    """A library for iOS is told apart."""
    found = metal_library.parse(metal_library.header(size=500, system=0x82), size=500)
    assert (found.system, found.is_macos) == ("iOS", False)
    found = metal_library.parse(metal_library.header(size=500, system=0x42), size=500)
    assert found.system == "system 0x42"


@pytest.mark.online
def test_the_real_library_of_may_is_for_macos_14(tmp_path: Path) -> None:
    """The library that the May releases pinned says macOS 14.0, and its own size."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--platform", "macosx_14_0_arm64"]
    subprocess.run(
        [*command, "--dest", str(tmp_path), "mlx-metal==0.31.1"], check=True, capture_output=True
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        member = wheel.getinfo("mlx/lib/mlx.metallib")
        head = wheel.open(member).read(metal_library.HEADER_SIZE)
    found = metal_library.parse(head, size=member.file_size)
    assert (found.kind, found.system, found.minimum) == ("executable", "macOS", "14.0")
    assert found.size == 107_392_404
