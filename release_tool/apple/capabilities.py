"""Whether capability markers tell the truth: each stands if and only if its code is in the program.

Installers and the program itself read them as files of one folder whose content is `1`. What else
a capability needs, a resource or a helper, stands with its code as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from posixpath import basename
from typing import NamedTuple

from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.apple.tree import BundleTree, TreeEntry

FOLDER = "Contents/Resources/darkbloom-runtime-capabilities"
CONTENT = b"1"
_CONTENTS = "Contents"


class Capability(NamedTuple):
    """Something that a program can do, and says so."""

    marker: str
    """Name of the marker's file."""
    code_string: str
    """The text that the program holds if and only if it can do it."""
    needs: tuple[str, ...] = ()
    """Further files, relative to `Contents`, that stand exactly then."""


def judge(
    tree: BundleTree, main: str, *, capabilities: Sequence[Capability], path: str = ""
) -> Iterator[Check]:
    """Judge the markers of an app and what else their capabilities need.

    Args:
        tree: the app's root.
        main: the main executable, relative to it.
        capabilities: every one that is known.
        path: how checks name the app.

    Raises:
        VerificationError: the executable cannot be read.
    """
    entries = {entry.path: entry for entry in tree.entries()}
    code = tree.view(main)
    for one in capabilities:
        held = re.search(re.escape(one.code_string.encode()), code) is not None
        yield _marker(tree, entries, one, held=held, path=path)
        for need in one.needs:
            yield _need(entries, one, need, held=held, path=path)
    yield from _unknown(entries, capabilities, path)


def _marker(
    tree: BundleTree,
    entries: Mapping[str, TreeEntry],
    one: Capability,
    *,
    held: bool,
    path: str,
) -> Check:
    place = f"{FOLDER}/{one.marker}"
    observed = _state(entries.get(place))
    if observed == "a file":
        content = tree.head(place, len(CONTENT) + 1)
        observed = "a file with 1" if content == CONTENT else f"a file with {content!r}"
    return checks.compare(
        "capability marker",
        expected="a file with 1" if held else "none",
        observed=observed,
        subject=_named(path, place),
        hint=_hint(one, held=held),
    )


def _need(
    entries: Mapping[str, TreeEntry], one: Capability, need: str, *, held: bool, path: str
) -> Check:
    place = f"{_CONTENTS}/{need}"
    observed = _state(entries.get(place))
    others = [
        other
        for other, entry in entries.items()
        if entry.kind != "directory" and other != place and basename(other) == basename(need)
    ]
    if others:
        observed = f"{observed}, and {', '.join(others[:3])}"
    return checks.compare(
        "what a capability needs",
        expected="a file" if held else "none",
        observed=observed,
        subject=_named(path, place),
        hint=_hint(one, held=held),
    )


def _unknown(
    entries: Mapping[str, TreeEntry], capabilities: Sequence[Capability], path: str
) -> Iterator[Check]:
    known = {f"{FOLDER}/{one.marker}" for one in capabilities}
    for place in entries:
        if place.startswith(f"{FOLDER}/") and place not in known:
            yield checks.failed(
                "capability marker",
                subject=_named(path, place),
                expected="one that release.yaml declares",
                observed="another",
                hint="declare it under bundle.capability_markers, or leave it out of the build",
            )


def _state(entry: TreeEntry | None) -> str:
    if entry is None:
        return "none"
    return "a file" if entry.kind == "file" else f"a {entry.kind}"


def _hint(one: Capability, *, held: bool) -> str:
    if held:
        return f"the program holds {one.code_string}: assemble it with what that needs"
    return f"the program does not hold {one.code_string}: build it with it, or leave this out"


def _named(path: str, own: str) -> str:
    return f"{path}/{own}" if path else own
