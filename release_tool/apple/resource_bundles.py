"""Which resource bundles a program opens, and whether they lie where it looks for them.

For a target with resources SwiftPM generates an accessor that holds two constants: the name of
the bundle, `Package_Target.bundle`, and the path of the one in the build tree. Where the first is
missing the program ends with a trap, unless the build tree is there: on the build machine it runs,
on a user's it does not. A program whose accessors Xcode generated holds no such path, and says
nothing here.

Source: the `resource_bundle_accessor.swift` that SwiftPM writes; a release without one of its
bundles took the fleet down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from posixpath import basename

from release_tool import errors
from release_tool.apple import checks, code_resources
from release_tool.apple.checks import Check
from release_tool.apple.tree import BundleTree, TreeEntry

PLACE = "Contents/Resources"
_RUNNABLE = 0o111
_END = re.compile(rb"\.bundle\0")
_SUFFIX_SIZE = len(b".bundle")
# PATH_MAX of macOS: no path of a build is longer.
_MAX_PATH = 1024
_NAME = re.compile(r"[A-Za-z0-9.-][A-Za-z0-9._-]*_[A-Za-z0-9._-]+\.bundle")
# A program links some dozen packages.
MAX_BUNDLES = 1000


def opened(code: bytes | memoryview) -> tuple[str, ...]:
    """The resource bundles that a program's accessors open, by name, sorted.

    Args:
        code: the program's file; any bytes will do.

    Raises:
        FormatError: more than any program opens.
    """
    named: set[str] = set()
    built: set[str] = set()
    for match in _END.finditer(code):
        constant = _constant_before(code, match.start() + _SUFFIX_SIZE)
        name = basename(constant)
        if _NAME.fullmatch(name):
            (built if constant.startswith("/") else named).add(name)
        if len(named) + len(built) > MAX_BUNDLES:
            raise errors.FormatError("too many resource bundles", expected=f"at most {MAX_BUNDLES}")
    return tuple(sorted(named & built))


def _constant_before(code: bytes | memoryview, end: int) -> str:
    """The C string that ends at an offset; what is longer than a path is cut."""
    text = bytes(code[max(0, end - _MAX_PATH) : end])
    return text[text.rfind(b"\0") + 1 :].decode("latin-1")


def judge(tree: BundleTree, main: str, *, path: str = "") -> Iterator[Check]:
    """Whether every bundle that the main executable opens is there, and none holds code.

    Args:
        tree: the app's root.
        main: the main executable, relative to it.
        path: how checks name the app.

    Raises:
        VerificationError: the executable cannot be read.
    """
    entries = [entry for entry in tree.entries() if entry.path.startswith(f"{PLACE}/")]
    folders = {entry.path for entry in entries if entry.kind == "directory"}
    try:
        wanted = opened(tree.view(main))
    except errors.FormatError as problem:
        yield checks.failed(
            "resource bundle",
            subject=_named(path, main),
            expected=problem.expected,
            observed="more",
        )
        return
    for name in wanted:
        place = f"{PLACE}/{name}"
        yield checks.compare(
            "resource bundle",
            expected=place,
            observed=place if place in folders else "not there",
            subject=_named(path, main),
            hint=f"the program ends where it opens it: name {name} under bundle.resources",
        )
    yield from _code(tree, entries, path)


def _code(tree: BundleTree, entries: list[TreeEntry], path: str) -> Iterator[Check]:
    """Nothing in `Resources` may run: no Mach-O, and nothing that is marked as a program."""
    failed = False
    files = [entry for entry in entries if entry.kind == "file"]
    for entry in files:
        observed = _as_code(tree, entry)
        if observed:
            failed = True
            yield checks.failed(
                "resources",
                subject=_named(path, entry.path),
                expected="no code",
                observed=observed,
                hint="code belongs under bundle.executables or bundle.helpers",
            )
    if not failed:
        yield checks.passed("resources", f"{len(files)} files, no code", subject=path)


def _as_code(tree: BundleTree, entry: TreeEntry) -> str:
    if code_resources.is_code(tree.head(entry.path, 8)):
        return "a Mach-O"
    return f"a file that may be run, {entry.mode:04o}" if entry.mode & _RUNNABLE else ""


def _named(path: str, own: str) -> str:
    return f"{path}/{own}" if path else own
