"""The code of a bundle, found inside out."""

from __future__ import annotations

import plistlib

import pytest

from release_tool import errors
from release_tool.apple import code_objects
from release_tool.apple.code_objects import CodeObject
from release_tool.apple.tree import in_memory
from tests import bundle_samples, macho_samples
from tests.bundle_samples import FRAMEWORK

METALLIB = "Contents/MacOS/default.metallib"


def _found(
    changes: dict[str, bytes | None], links: dict[str, str] | None = None, **options: object
) -> tuple[CodeObject, ...]:
    files, known = bundle_samples.app()
    whole = {path: data for path, data in {**files, **changes}.items() if data is not None}
    tree = in_memory(whole, links={**known, **(links or {})})
    return code_objects.discover(tree, name="Example.app", **options)  # type: ignore[arg-type]


def test_code_is_found_inside_out() -> None:
    """Every bundle after all that lies in it; each named as its own seal and its parent's do."""
    found = _found({})
    order = [code.path for code in found]
    assert order[-1] == "Contents/MacOS/main"
    assert len(order) == len(set(order)) == 11
    bundles = {code.bundle.root: code for code in found if code.bundle is not None}
    for root, owner in bundles.items():
        inside = [path for path in order if path.startswith(f"{root}/") and path != owner.path]
        assert all(order.index(path) < order.index(owner.path) for path in inside)
    version = bundles[f"{FRAMEWORK}/Versions/A"]
    assert version.named_as == FRAMEWORK
    assert bundles["Contents/XPCServices/Work.xpc"].named_as == "Contents/XPCServices/Work.xpc"
    named = {code.path: code.named_as for code in found}
    assert named["Contents/Resources/worker"] == ""
    assert named["Contents/MacOS/tool"] == "Contents/MacOS/tool"
    assert named["Contents/MacOS/main"] == ""


def test_a_bundle_of_data_in_resources_is_no_code() -> None:
    """Its files are sealed as they are; a bundle with code there is signed for itself."""
    with_code = {
        "Contents/Resources/Media.bundle/Contents/Info.plist": bundle_samples.info("x", "io.x"),
        "Contents/Resources/Media.bundle/Contents/MacOS/x": bundle_samples.code(),
    }
    before = {code.path for code in _found({})}
    found = {code.path: code for code in _found(dict(with_code))}
    (added,) = found.keys() - before
    assert added == "Contents/Resources/Media.bundle/Contents/MacOS/x"
    assert found[added].bundle is not None
    assert found[added].named_as == ""


def test_every_version_of_a_framework_is_code() -> None:
    """The seal around it names the current one; dyld may load the others as well."""
    found = {code.path: code for code in _found(dict(bundle_samples.framework(version="B")))}
    assert found[f"{FRAMEWORK}/Versions/A/Kit"].named_as == FRAMEWORK
    assert found[f"{FRAMEWORK}/Versions/B/Kit"].named_as == ""


@pytest.mark.parametrize("file_type", [1, 10])
def test_object_files_and_debug_companions_are_data(file_type: int) -> None:
    """Codesign signs neither: fine in Resources and in a dSYM, refused in a code place."""
    data = bundle_samples.code(file_type)
    beside = "Contents/MacOS/main.dSYM/Contents/Resources/DWARF/main"
    found = _found({"Contents/Resources/part.o": data, beside: data})
    assert len(found) == 11
    with pytest.raises(errors.VerificationError, match="is no code"):
        _found({"Contents/MacOS/part": data})


@pytest.mark.parametrize(
    ("changes", "subject", "problem"),
    [
        ({METALLIB: b"MTLB"}, METALLIB, "lies in a code place"),
        ({"Contents/notes": b"x"}, "Contents/notes", "lies in a code place"),
        (
            {"Contents/Frameworks/python3.11/lib.py": b"x"},
            "Contents/Frameworks/python3.11",
            "no bundle with code",
        ),
        (
            {"Contents/PlugIns/Media.bundle/Contents/Info.plist": plistlib.dumps({"x": 1})},
            "Contents/PlugIns/Media.bundle",
            "no bundle with code",
        ),
        ({"readme": b"x"}, "readme", "in a bundle's root"),
        ({f"{FRAMEWORK}/readme": b"x"}, f"{FRAMEWORK}/readme", "in a bundle's root"),
        ({"Contents/MacOS/main": b"#!/bin/sh\n"}, "Contents/MacOS/main", "is no code"),
        ({f"{FRAMEWORK}/Versions/A/Kit": None}, FRAMEWORK, "no bundle with code"),
    ],
)
def test_what_cannot_be_sealed_is_named(
    changes: dict[str, bytes | None], subject: str, problem: str
) -> None:
    """Each by its path, before anything is signed."""
    with pytest.raises(errors.VerificationError, match=problem) as caught:
        _found(changes)
    assert caught.value.subject == subject


def test_all_reasons_are_told_at_once() -> None:
    """The second is named beside the first."""
    with pytest.raises(errors.VerificationError) as caught:
        _found({METALLIB: b"MTLB", "Contents/MacOS/notes": b"x"})
    assert caught.value.subject == METALLIB
    assert "Contents/MacOS/notes" in caught.value.observed


def test_named_data_may_lie_in_code_places() -> None:
    """Only what is named, or anything where nothing is refused."""
    assert _found({METALLIB: b"MTLB"}, data={METALLIB})
    assert _found({METALLIB: b"MTLB", "Contents/MacOS/notes": b"x"}, data=None)
    with pytest.raises(errors.VerificationError, match="code place") as caught:
        _found({METALLIB: b"MTLB", "Contents/MacOS/notes": b"x"}, data={METALLIB})
    assert caught.value.subject == "Contents/MacOS/notes"


def test_malformed_parts_are_named() -> None:
    """A cut Mach-O and a property list of noise end in a format error with their path."""
    with pytest.raises(errors.FormatError) as caught:
        _found({"Contents/MacOS/tool": macho_samples.thin()[:5000]})
    assert caught.value.subject == "Contents/MacOS/tool"
    with pytest.raises(errors.FormatError) as noise:
        _found({"Contents/Info.plist": b"noise"})
    assert noise.value.subject == "Contents/Info.plist"


def test_bundles_nested_without_end_are_refused() -> None:
    """Deeper than any real app."""
    files: dict[str, bytes | None] = {}
    root = "Contents/Helpers"
    for number in range(12):
        root = f"{root}/a{number}.app/Contents"
        files[f"{root}/Info.plist"] = bundle_samples.info("x", "io.x")
        files[f"{root}/MacOS/x"] = bundle_samples.code()
        root = f"{root}/Helpers"
    with pytest.raises(errors.VerificationError, match="nested too deeply"):
        _found(files)


def test_a_folder_that_is_no_bundle_is_refused() -> None:
    """With the place of the property list that it lacks."""
    with pytest.raises(errors.VerificationError, match="is not a bundle"):
        code_objects.discover(in_memory({"bin/tool": bundle_samples.code()}), name="x")
