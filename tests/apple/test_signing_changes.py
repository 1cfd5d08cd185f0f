"""Signing an app: what was added is named, and anything else that changed is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from release_tool.apple import signing_changes
from release_tool.apple.tree import MemoryTree, in_memory
from release_tool.files.tree import DiskTree
from tests import signed_release
from tests.signed_release import APP, ENCLAVE, MAIN, METALLIB

SEAL = "Contents/_CodeSignature/CodeResources"
PROFILE = "Contents/embedded.provisionprofile"


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> MemoryTree:
    folder = tmp_path_factory.mktemp("unsigned")
    app = signed_release.assemble(folder)
    (app / PROFILE).unlink()
    return _held(app)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, unsigned: MemoryTree) -> MemoryTree:
    folder = tmp_path_factory.mktemp("signed")
    app = signed_release.assemble(folder)
    signed_release.sign(app)
    (app / "Contents/CodeResources").write_bytes(b"s8ch, a ticket")
    found = _held(app)
    shutil.rmtree(app)
    return found


def _held(app: Path) -> MemoryTree:
    tree = DiskTree(app)
    entries = [entry for entry in tree.entries() if entry.kind == "file"]
    return in_memory(
        {entry.path: tree.read(entry.path) for entry in entries},
        modes={entry.path: entry.mode for entry in entries},
    )


def _failed(unsigned: MemoryTree, signed: MemoryTree) -> list[tuple[str, str]]:
    found = signing_changes.compare(unsigned, signed, path=APP)
    return [(check.name, check.subject) for check in found if check.outcome == "failed"]


def test_what_was_added_is_named_and_the_rest_is_the_same(
    unsigned: MemoryTree, signed: MemoryTree
) -> None:
    """Seal, ticket and profile are named; both executables agree outside their signatures."""
    found = {
        check.subject.removeprefix(f"{APP}/"): (check.name, check.outcome, check.observed)
        for check in signing_changes.compare(unsigned, signed, path=APP)
    }
    assert found[SEAL] == ("added by signing", "passed", "resource seal")
    assert found["Contents/CodeResources"] == ("added by signing", "passed", "notarization ticket")
    assert found[PROFILE] == ("added by signing", "passed", "provisioning profile")
    assert found["Contents/_CodeSignature"][0] == "added by signing"
    for path in (MAIN, ENCLAVE):
        assert found[path][:2] == ("outside the signature", "passed")
    assert {outcome for _, outcome, _ in found.values()} == {"passed"}
    assert found[METALLIB][0] == "file"


def test_anything_else_is_refused(unsigned: MemoryTree, signed: MemoryTree) -> None:
    """A changed, a missing and an extra file, a mode, a link, and one byte of code."""
    files = dict(signed.files)
    code = bytearray(files[MAIN])
    code[0x4000] ^= 1

    def with_files(changed: dict[str, bytes]) -> MemoryTree:
        return in_memory(changed, modes=signed.modes)

    without = {path: data for path, data in files.items() if path != METALLIB}
    stray = f"Contents/Resources/{PROFILE}"
    linked = in_memory(files, modes=signed.modes, links={"Contents/link": "/tmp"})
    changes = [
        (with_files({**files, MAIN: bytes(code)}), signing_changes.OUTSIDE, MAIN),
        (with_files({**files, METALLIB: b"MTLB"}), "file", METALLIB),
        (with_files(without), "file", METALLIB),
        (with_files({**files, "Contents/x": b""}), "file", "Contents/x"),
        (with_files({**files, stray: b""}), "file", stray),
        (in_memory(files, modes={**signed.modes, MAIN: 0o777}), "mode", MAIN),
        (linked, "file", "Contents/link"),
    ]
    for changed, name, path in changes:
        assert (name, f"{APP}/{path}") in _failed(unsigned, changed), path


def test_links_are_compared_by_what_they_say() -> None:
    """A link that leads elsewhere after signing is a change."""
    one, other = (in_memory({"a": b"", "b": b""}, links={"link": to}) for to in ("a", "b"))
    assert _failed(one, one) == []
    assert _failed(one, other) == [("link", f"{APP}/link")]


def test_a_file_that_is_no_code_any_more_is_a_changed_file(unsigned: MemoryTree) -> None:
    """Code replaced by something else, and code without the place for a signature."""
    replaced = in_memory({**unsigned.files, MAIN: b"#!/bin/sh\n"}, modes=unsigned.modes)
    assert _failed(unsigned, replaced) == [("file", f"{APP}/{MAIN}")]
    cut = in_memory({**unsigned.files, MAIN: unsigned.files[MAIN][:-1]}, modes=unsigned.modes)
    assert _failed(unsigned, cut) == [(signing_changes.OUTSIDE, f"{APP}/{MAIN}")]


def test_nested_bundles_have_their_own_seals() -> None:
    """A framework's version, a nested app and a flat bundle; a seal beside no bundle is a file."""
    inside = ("F.framework/Versions/A/Resources", "Helpers/H.app/Contents", "P.bundle")
    files = {f"Contents/{path}/Info.plist": b"" for path in inside}
    before = in_memory(files)
    seals = [
        f"Contents/{path}/_CodeSignature/CodeResources"
        for path in ("F.framework/Versions/A", *inside[1:])
    ]
    assert _failed(before, in_memory({**files, **dict.fromkeys(seals, b"")})) == []
    stray = "Contents/Resources/_CodeSignature/CodeResources"
    found = _failed(before, in_memory({**files, stray: b""}))
    assert ("file", f"{APP}/{stray}") in found
