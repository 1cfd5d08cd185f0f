"""What unpackers, volumes and old systems make of an app's files."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool.apple import metal_library
from release_tool.apple.checks import Check
from release_tool.apple.policy import distribution, inventory, verdict
from release_tool.apple.tree import TreeEntry
from tests import linked_macho, policy_apps
from tests.signed_release import MAIN

METALLIB = "Contents/MacOS/mlx.metallib"
_NAMES = st.lists(
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6
    ),
    min_size=1,
    max_size=5,
    unique=True,
)


def failed(found: list[Check]) -> list[tuple[str, str]]:
    return [(one.name, one.subject) for one in found if one.outcome == "failed"]


@given(_NAMES)
def test_a_name_is_composed_or_named(names: list[str]) -> None:
    """A name fails for its form exactly when composing changes it."""
    found = failed(list(distribution.names(policy_apps.entries(*names))))
    told = {subject for name, subject in found if name == "name form"}
    assert told == {name for name in names if unicodedata.normalize("NFC", name) != name}


@given(_NAMES)
def test_names_collide_exactly_when_a_volume_takes_them_for_one(names: list[str]) -> None:
    """As many failures as there are names too many; folding twice changes nothing."""
    found = failed(list(distribution.names(policy_apps.entries(*names))))
    folds = [distribution.folded(name) for name in names]
    count = sum(name == "name collision" for name, _ in found)
    assert count == len(names) - len(set(folds))
    assert [distribution.folded(fold) for fold in folds] == folds


@pytest.mark.parametrize(
    ("target", "holds"),
    [
        ("darkbloom", True),
        ("../MacOS/darkbloom", True),
        ("..", True),
        ("current/darkbloom", True),
        ("missing", False),
        ("../../..", False),
        ("../../../Contents", False),
        ("/usr/bin/true", False),
        ("/", False),
    ],
)
def test_a_link_leads_to_something_in_the_app(target: str, *, holds: bool) -> None:
    """Relative, inside, and to what is there, through another link, too."""
    links = {"Contents/MacOS/link": target, "Contents/MacOS/current": "."}
    taken = policy_apps.app(links=links)
    found = failed(list(distribution.links(tuple(taken.entries.values()))))
    assert found == ([] if holds else [("link", "Contents/MacOS/link")])


@pytest.mark.parametrize(
    ("mode", "as_written", "holds"),
    [
        (0o755, True, True),
        (0o755, False, True),
        (0o700, False, True),
        (0o700, True, False),
        (0o775, True, False),
        (0o777, False, False),
        (0o644, False, False),
        (0o2755, False, False),
        (0o4755, False, False),
    ],
)
def test_modes_of_a_program(mode: int, *, as_written: bool, holds: bool) -> None:
    """0755 as it was written; an unpacker's umask may take from it, and nobody may add."""
    taken = policy_apps.app(modes={MAIN: mode})
    entries = tuple(taken.entries.values())
    found = failed(list(distribution.modes(entries, taken.programs, as_written=as_written)))
    assert found == ([] if holds else [("mode of a file", MAIN)])


def test_data_must_not_be_writable_for_everyone() -> None:
    """Nor executable, where nothing was unpacked yet."""
    entry = TreeEntry(path="Contents/Resources/x", kind="file", mode=0o666)
    assert failed(list(distribution.modes([entry], ())))
    entry = TreeEntry(path="Contents/Resources/x", kind="file", mode=0o755)
    assert not failed(list(distribution.modes([entry], ())))
    assert failed(list(distribution.modes([entry], (), as_written=True)))


@pytest.mark.parametrize("promise", ["", "fourteen", "14.0.0.0", "-1"])
def test_a_promise_that_is_no_version_is_told(promise: str) -> None:
    """An `Info.plist` may say anything; none at all is left open."""
    (check,) = distribution.targets(policy_apps.app(), minimum_macos=promise)
    assert check.outcome == ("failed" if promise else "not_checked")


def test_targets_are_compared_as_versions() -> None:
    """10.9 is before 10.10, and code without any is refused."""

    def outcome(minos: str | None, promise: str) -> bool:
        files = {MAIN: linked_macho.build(minos=minos)}
        return not failed(list(distribution.targets(policy_apps.app(files), minimum_macos=promise)))

    assert outcome("10.9", "10.10")
    assert not outcome("10.10", "10.9")
    assert outcome("14.0", "14")
    assert not outcome(None, "14.0")


@pytest.mark.parametrize(
    "content", [b"MTLB", metal_library.header(size=500), metal_library.header(size=88, system=0x82)]
)
def test_a_metal_library_that_is_none_is_refused(content: bytes) -> None:
    """Cut short, longer than the file, or for another system."""
    taken = policy_apps.app({METALLIB: content})
    found = failed(list(distribution.targets(taken, minimum_macos="14.0")))
    assert found == [("Metal target", METALLIB)]


@pytest.mark.parametrize(
    ("path", "holds"),
    [
        ("Contents/Helpers/notes.txt", False),
        ("Contents/Frameworks/lib.txt", False),
        ("Contents/PlugIns/x", False),
        ("Contents/stray", False),
        ("Contents/Resources/x", True),
        ("Contents/Library/x", True),
        ("Contents/PkgInfo", True),
        ("Contents/embedded.provisionprofile", True),
        ("Contents/_CodeSignature/CodeResources", True),
        ("Contents/CodeResources", True),
        ("Contents/Frameworks/Part.framework/Versions/A/Resources/x", True),
        ("Contents/Helpers/Host.app/Contents/Resources/x", True),
    ],
)
def test_where_only_code_may_lie(path: str, *, holds: bool) -> None:
    """The places of Apple's resource rules; what a nested bundle holds is its own matter."""
    found = failed(list(distribution.code_places(policy_apps.app({path: b"text"}))))
    assert found == ([] if holds else [("code place", path)])


def test_every_rule_for_files_is_asked_at_once() -> None:
    """An app with a fault of each kind: all of them come together."""
    taken = inventory.take(
        policy_apps.tree(
            {
                "Contents/Resources/._x": b"",
                "Contents/Resources/e\u0301": b"",
                "Contents/Resources/A": b"",
                "Contents/Resources/a": b"",
                "Contents/MacOS/run.sh": b"",
                METALLIB: metal_library.header(size=88, minimum="26.2"),
            },
            links={"Contents/Resources/out": "/etc"},
            modes={MAIN: 0o4755},
        )
    )
    found = {name for name, _ in failed(verdict.files(taken, minimum_macos="13.0"))}
    assert found == {
        *("AppleDouble file", "name form", "name collision", "link", "mode of a file"),
        *("minimum macOS of the code", "Metal target", "code place"),
    }
