"""Where dyld finds what code links, and whose code it may be."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool.apple.checks import Check
from release_tool.apple.policy import inventory, library_validation
from release_tool.apple.policy.links import follow
from tests import linked_macho, policy_apps
from tests.signed_release import MAIN

FRAMEWORKS = "Contents/Frameworks"
PART = f"{FRAMEWORKS}/libpart.dylib"
FRAMEWORK = f"{FRAMEWORKS}/Part.framework"


def judged(
    files: Mapping[str, bytes], *, links: Mapping[str, str] | None = None, own: bool = True
) -> list[Check]:
    return library_validation.judge(policy_apps.app(files, links=links), own=own)


def failed(found: list[Check]) -> list[tuple[str, str]]:
    return [(check.subject, check.observed) for check in found if check.outcome == "failed"]


def main(*libraries: str, search: tuple[str, ...] = (), weak: tuple[str, ...] = ()) -> bytes:
    return linked_macho.build(libraries=libraries, search_paths=search, weak=weak)


def dylib(*libraries: str, search: tuple[str, ...] = ()) -> bytes:
    return linked_macho.build(libraries=libraries, search_paths=search, executable=False)


@pytest.mark.parametrize(
    ("library", "search"),
    [
        ("@executable_path/../Frameworks/libpart.dylib", ()),
        ("@loader_path/../Frameworks/libpart.dylib", ()),
        ("@rpath/libpart.dylib", ("@executable_path/../Frameworks",)),
        ("@rpath/libpart.dylib", ("/usr/lib/swift", "@loader_path/../Frameworks")),
        ("@rpath/libpart.dylib", ("@loader_path/nowhere", "@loader_path/../Frameworks/")),
        ("@rpath/../Frameworks/libpart.dylib", ("@loader_path",)),
    ],
)
def test_each_word_of_dyld_is_expanded(library: str, search: tuple[str, ...]) -> None:
    """The executable's folder, the loader's, and every search path in order."""
    found = judged({MAIN: main(library, search=search), PART: dylib()})
    assert failed(found) == []
    told = {check.subject: check.observed for check in found if check.name == "linked library"}
    assert told[MAIN] == "0 of the system, 1 in the bundle"


@pytest.mark.parametrize(
    "library",
    [
        "/opt/homebrew/lib/libpart.dylib",
        "/usr/local/lib/libpart.dylib",
        "/Users/ci/work/.build/release/libpart.dylib",
        "/private/tmp/build/libpart.dylib",
        "/Library/Frameworks/Part.framework/Part",
        "libpart.dylib",
        "@rpath/libpart.dylib",
        "@executable_path/../../../libpart.dylib",
        "@loader_path/libpart.dylib",
        "/usr/lib/../../opt/libpart.dylib",
        "/System/../opt/libpart.dylib",
    ],
)
def test_what_is_not_in_the_bundle_is_refused(library: str) -> None:
    """Absolute, relative, outside of the bundle, or where no search path leads."""
    assert failed(judged({MAIN: main(library), PART: dylib()})) == [(MAIN, library)]


def test_a_weak_library_may_be_missing() -> None:
    """The code starts without it; that it is missing is said."""
    found = judged({MAIN: main(weak=("@rpath/libother.dylib",))})
    assert failed(found) == []
    assert "not_checked" in [check.outcome for check in found]


def test_a_framework_is_found_through_its_links() -> None:
    """`Part.framework/Part` leads by two links to the version's file."""
    found = judged(
        {
            MAIN: main("@rpath/Part.framework/Part", search=("@loader_path/../Frameworks",)),
            f"{FRAMEWORK}/Versions/A/Part": dylib(),
        },
        links={
            f"{FRAMEWORK}/Part": "Versions/Current/Part",
            f"{FRAMEWORK}/Versions/Current": "A",
        },
    )
    assert failed(found) == []


@pytest.mark.parametrize("target", ["/opt/Part", "../../../../outside", "Part"])
def test_links_that_leave_or_turn_in_circles_lead_nowhere(target: str) -> None:
    """A link in the bundle is no proof that the library is."""
    library = "@loader_path/../Frameworks/Part.framework/Part"
    found = judged({MAIN: main(library)}, links={f"{FRAMEWORK}/Part": target})
    assert failed(found) == [(MAIN, library)]


def test_a_library_uses_the_search_paths_of_who_loads_it() -> None:
    """`@rpath` in a library is looked for along its own paths, then the executable's."""
    other = f"{FRAMEWORKS}/libother.dylib"
    files = {PART: dylib("@rpath/libother.dylib"), other: dylib()}
    assert failed(judged({MAIN: main(search=("@loader_path/../Frameworks",)), **files})) == []
    assert failed(judged({MAIN: main(), **files})) == [(PART, "@rpath/libother.dylib")]
    files[PART] = dylib("@rpath/libother.dylib", search=("@loader_path",))
    assert failed(judged({MAIN: main(), **files})) == []


def test_the_swift_runtime_is_the_system_s() -> None:
    """Swift's libraries come out of the shared cache along `/usr/lib/swift`."""
    swift = "@rpath/libswift_Concurrency.dylib"
    assert failed(judged({MAIN: main(swift, search=("/usr/lib/swift",))})) == []
    assert failed(judged({MAIN: main(swift)})) == [(MAIN, swift)]


@pytest.mark.parametrize(
    "folder",
    [
        "/opt/homebrew/lib",
        "/usr/local/lib",
        "/Users/runner/work/provider/.build/arm64-apple-macosx/release",
        "/private/var/folders/xy/build",
        "@executable_path/../../../elsewhere",
        "relative/lib",
    ],
)
def test_search_paths_of_a_build_are_refused(folder: str) -> None:
    """Users have no such folder, and somebody else might."""
    assert failed(judged({MAIN: main(search=(folder,))})) == [(MAIN, folder)]


@pytest.mark.parametrize(
    "folder",
    [
        "/Applications/Xcode_16.4.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib/swift-5.5/macosx",
        "/Library/Developer/CommandLineTools/usr/lib/swift-5.5/macosx",
    ],
)
def test_the_compiler_s_own_folder_is_told_and_kept(folder: str) -> None:
    """SwiftPM leaves it in every build; it is listed as what nothing protects."""
    found = judged({MAIN: main(search=(folder,))})
    assert failed(found) == []
    assert [check.observed.split(":")[0] for check in found if check.outcome == "unprotected"] == [
        folder
    ]


def test_foreign_code_may_link_what_cannot_be_seen() -> None:
    """What an installer put elsewhere is left open; what the bundle lacks is not."""
    found = judged(
        {
            MAIN: main(
                "/Library/Frameworks/F.framework/F", "@loader_path/gone", search=("/opt/lib",)
            )
        },
        own=False,
    )
    assert failed(found) == [(MAIN, "@loader_path/gone")]
    assert [check.outcome for check in found].count("not_checked") == 2


@pytest.mark.parametrize("resources", [True, False])
def test_a_library_among_the_resources_is_found(*, resources: bool) -> None:
    """Also where nobody looked at the resources one by one: a linked file is looked at."""
    place = "Contents/Resources/lib/libpart.dylib"
    files = {MAIN: main("@executable_path/../Resources/lib/libpart.dylib"), place: dylib()}
    taken = inventory.take(policy_apps.tree(files), resources=resources)
    assert (place in taken.code) == resources
    assert failed(library_validation.judge(taken)) == []
    text = inventory.take(policy_apps.tree({**files, place: b"text"}), resources=resources)
    assert "which is none" in failed(library_validation.judge(text))[0][1]


def test_a_library_that_is_no_code_is_refused() -> None:
    """A text where the library should be."""
    found = judged({MAIN: main("@executable_path/../Frameworks/libpart.dylib"), PART: b"text"})
    assert "which is none" in failed(found)[0][1]


_NAMES = st.sampled_from(["a", "b", "..", ".", "a/b", "../a", "/a", ""])


@given(
    path=st.lists(_NAMES, min_size=1, max_size=4).map("/".join),
    links=st.dictionaries(st.sampled_from(["a", "b", "a/b"]), _NAMES, max_size=3),
)
def test_following_links_always_ends(path: str, links: dict[str, str]) -> None:
    """Whatever the links say, the answer is a place below the root or none."""
    found = follow(path, links, lambda _: True)
    assert found is None or not found.startswith(("/", "../"))


def test_a_maze_of_search_paths_is_given_up() -> None:
    """Two thousand libraries along two thousand search paths end in a refusal, and soon."""
    libraries = tuple(f"@rpath/{number}" for number in range(2000))
    search = tuple(f"@loader_path/{number}" for number in range(2000))
    found = judged({MAIN: main(*libraries, search=search)})
    assert len(failed(found)) >= 2000
    assert any("too many search paths" in observed for _, observed in failed(found))


def test_long_ways_and_chains_of_links_count_by_their_steps() -> None:
    """Deep paths through thirty links, thousandfold, are given up as well."""
    deep = "/".join("a" for _ in range(400))
    links = {f"Contents/MacOS/l{number}": f"l{number + 1}" for number in range(30)}
    libraries = tuple(f"@loader_path/l0/{deep}/{number}" for number in range(2000))
    found = judged({MAIN: main(*libraries)}, links=links)
    assert any("too many search paths" in observed for _, observed in failed(found))
