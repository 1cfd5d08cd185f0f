"""The functions of a Metal library and their modules."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import metal_functions, metal_library
from release_tool.apple.checks import Check

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
LIBRARY = metal_functions.library({"gemv_float16": b"one", "rope_float32": b"two"})


def failed(data: bytes, *required: str) -> list[Check]:
    found = metal_functions.judge(data, required=required, subject="lib")
    return [check for check in found if check.outcome == "failed"]


@given(
    functions=st.dictionaries(NAMES, st.binary(max_size=50), max_size=8), filler=st.integers(0, 9)
)
def test_what_is_written_is_read(functions: dict[str, bytes], filler: int) -> None:
    """Names and modules come back in order, and every module is as its digest says."""
    data = metal_functions.library(functions, filler=filler)
    found = metal_functions.parse(data)
    start, _ = metal_library.parse(data[: metal_library.HEADER_SIZE], size=len(data)).modules
    read = {one.name: data[start + one.offset :][: one.size] for one in found}
    assert read == functions
    assert failed(data, *functions) == []


@given(at=st.integers(0, len(LIBRARY) - 1), value=st.integers(0, 255), cut=st.booleans())
def test_any_change_is_a_value_or_a_format_error(at: int, value: int, *, cut: bool) -> None:
    """A changed byte, or a file that ends early, raises nothing else, and is judged."""
    changed = bytearray(LIBRARY)
    changed[at] = value
    data = bytes(changed[:at] if cut else changed)
    try:
        metal_functions.parse(data)
    except errors.FormatError:
        assert failed(data)


@given(data=st.binary(max_size=300))
def test_any_list_ends_in_a_value_or_a_format_error(data: bytes) -> None:
    """Whatever stands where the list is, nothing but the format's error is raised."""
    size = metal_library.HEADER_SIZE + len(data)
    listed = max(0, len(data) - 4)
    parts = (
        metal_library.HEADER_SIZE,
        listed,
        size,
        0,
        size,
        0,
        metal_library.HEADER_SIZE,
        len(data),
    )
    try:
        metal_functions.parse(metal_library.header(size=size, parts=parts) + data)
    except errors.FormatError:
        return


def patched(old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    assert LIBRARY.count(old) >= 1
    return LIBRARY.replace(old, new, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: patched(b"\x02\0\0\0", b"\x03\0\0\0"), "ends early"),
        (lambda: patched(b"\x02\0\0\0", b"\xff\xff\xff\xff"), "too many functions"),
        (lambda: patched(b"\x02\0\0\0", b"\x01\0\0\0"), "follow the last"),
        (lambda: patched(b"ENDT", b"ENDX"), "without its end"),
        (lambda: patched(b"VERS\x08\0", b"VERS\xff\xff"), "ends behind its entry"),
        (lambda: patched(b"VERS", b"HASH"), "twice"),
        (lambda: patched(b"HASH", b"HUSH"), "incomplete"),
        (lambda: patched(b"float16\0", b"float16!"), "no C string"),
        (lambda: patched(b"gemv", b"\xff\xfe\xff\xfe"), "no text"),
        (lambda: patched(b"MDSZ\x08\0\x03", b"MDSZ\x08\0\xff"), "outside of the library"),
        (lambda: patched(b"MDSZ\x08\0\x03", b"MDSZ\x08\0\x04"), "overlap"),
    ],
)
def test_a_broken_list_is_refused_by_its_fault(change: Callable[[], bytes], message: str) -> None:
    """Each contradiction is named."""
    with pytest.raises(errors.FormatError, match=message):
        metal_functions.parse(change())


def test_a_changed_module_is_named() -> None:
    """One bit of compiled code: the function and how many are concerned."""
    (check,) = failed(LIBRARY.replace(b"two", b"tw0"))
    assert (check.name, check.observed) == (
        "Metal functions",
        "1 changed, the first is rope_float32",
    )


def test_a_missing_function_is_named_with_what_comes_closest() -> None:
    """The library of an older MLX lacks what the engine asks for."""
    (check,) = failed(LIBRARY, "rope", "rope_bfloat16", "gemv")
    assert check.expected == "rope_bfloat16"
    assert check.observed == "in none of 2 names, the closest is rope_float32"
    assert check.hint


def test_a_library_without_functions_lacks_them_all() -> None:
    """A header alone is no engine's library."""
    head = metal_library.header(size=500).ljust(500, b"x")
    assert metal_functions.parse(head) == ()
    assert [check.expected for check in failed(head, "gemv")] == ["gemv"]


@pytest.mark.online
@pytest.mark.parametrize(
    ("wheel", "python", "platform", "count"),
    [
        ("mlx==0.5.1", "3.11", "macosx_14_0_arm64", 19_148),
        ("mlx-metal==0.31.1", "3.11", "macosx_14_0_arm64", 15_002),
        ("mlx-metal==0.32.4", "3.11", "macosx_15_0_arm64", 17_251),
    ],
)
def test_real_libraries_hold_and_say_what_they_lack(
    tmp_path: Path, wheel: str, python: str, platform: str, count: int
) -> None:
    """Three compilers of Metal: every module is as its digest says; `_nax` is in none of them."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--platform", platform, "--python-version", python]
    subprocess.run([*command, "--dest", str(tmp_path), wheel], check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as opened:
        data = opened.read("mlx/lib/mlx.metallib")
    assert len(metal_functions.parse(data)) == count
    assert [check.expected for check in failed(data, "gemv", "rope", "_nax")] == ["_nax"]
    flipped = bytearray(data)
    start, size = metal_library.parse(data[: metal_library.HEADER_SIZE], size=len(data)).modules
    flipped[start + size // 2] ^= 1
    assert [check.name for check in failed(bytes(flipped))] == ["Metal functions"]
