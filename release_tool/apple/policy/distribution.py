"""What Gatekeeper, unpackers and old systems would make of an app's files, beside its signature.

`rules` names each rule with its source.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from release_tool import errors
from release_tool.apple import checks, code_resources, file_attributes, macho, resource_rules
from release_tool.apple.checks import Check
from release_tool.apple.policy import links as app_links
from release_tool.apple.policy.inventory import Inventory
from release_tool.apple.tree import TreeEntry

APPLE_DOUBLE = "._"
ARCHIVE_FOLDER = "__MACOSX"
_SPECIAL, _WORLD_WRITABLE, _OWNER_RUN = 0o7000, 0o002, 0o100
_RUNNABLE, _DATA = 0o755, 0o644
_CONTENTS = "Contents/"


def _named(path: str, own: str) -> str:
    return "/".join(piece for piece in (path, own) if piece)


def _verdict(name: str, wrong: Iterable[Check], *, subject: str, observed: str) -> Iterator[Check]:
    """The failed ones, or one that says what held."""
    failed = list(wrong)
    yield from failed or [checks.passed(name, observed, subject=subject)]


def names(entries: Sequence[TreeEntry], *, path: str = "") -> Iterator[Check]:
    """Names that other volumes and unpackers would change, merge or add.

    Args:
        entries: of the app.
        path: how checks name it.
    """
    count = f"{len(entries)} names"
    yield from _verdict(
        "AppleDouble file", _apple_double(entries, path), subject=path, observed=count
    )
    yield from _verdict("name form", _decomposed(entries, path), subject=path, observed=count)
    yield from _verdict("name collision", _collisions(entries, path), subject=path, observed=count)


def _apple_double(entries: Sequence[TreeEntry], path: str) -> Iterator[Check]:
    for entry in entries:
        name = entry.path.rpartition("/")[2]
        if name.startswith(APPLE_DOUBLE) or name == ARCHIVE_FOLDER:
            yield checks.failed(
                "AppleDouble file",
                subject=_named(path, entry.path),
                expected="none",
                observed=name,
                hint="copy without attributes (COPYFILE_DISABLE=1), unpack with ditto",
            )


def _decomposed(entries: Sequence[TreeEntry], path: str) -> Iterator[Check]:
    for entry in entries:
        name = entry.path.rpartition("/")[2]
        if unicodedata.normalize("NFC", name) != name:
            yield checks.failed(
                "name form",
                subject=_named(path, entry.path),
                expected="composed letters (NFC)",
                observed="decomposed ones (NFD)",
                hint="rename it: archives and volumes compose it, and the seal no longer fits",
            )


def folded(path: str) -> str:
    """A path as a volume sees it that ignores case and the form of letters."""
    composed = unicodedata.normalize("NFC", path).casefold()
    return unicodedata.normalize("NFC", composed)


def _collisions(entries: Sequence[TreeEntry], path: str) -> Iterator[Check]:
    seen: dict[str, str] = {}
    for entry in entries:
        first = seen.setdefault(folded(entry.path), entry.path)
        if first != entry.path:
            yield checks.failed(
                "name collision",
                subject=_named(path, entry.path),
                expected="a name of its own where case does not count",
                observed=f"the same as {first}",
                hint="rename one: on a Mac's volume only one of them is unpacked",
            )


def links(entries: Sequence[TreeEntry], *, path: str = "") -> Iterator[Check]:
    """Links that leave the app, or lead nowhere.

    Args:
        entries: of the app.
        path: how checks name it.
    """
    places = {".", *(entry.path for entry in entries)}
    targets = {entry.path: entry.target for entry in entries if entry.kind == "symlink"}
    wrong = (
        checks.failed(
            "link",
            subject=_named(path, own),
            expected="a relative link to something in the app",
            observed=target or "nothing",
            hint="link relatively to what the app holds",
        )
        for own, target in targets.items()
        if app_links.follow(own, targets, places.__contains__) is None
    )
    yield from _verdict("link", wrong, subject=path, observed=f"{len(targets)} links")


def modes(
    entries: Sequence[TreeEntry],
    programs: Collection[str],
    *,
    path: str = "",
    as_written: bool = False,
) -> Iterator[Check]:
    """Modes that no archive of ours may carry.

    Args:
        entries: of the app.
        programs: paths of code that the system starts.
        path: how checks name the app.
        as_written: whether no unpacker's umask stands between: exactly 0755 and 0644 then.
    """
    judged = [entry for entry in entries if entry.kind != "symlink"]
    wrong = (
        checks.failed(
            "mode of a file",
            subject=_named(path, entry.path),
            expected=f"{_meant(entry, programs):04o}",
            observed=f"{entry.mode:04o}",
            hint=f"chmod {_meant(entry, programs):o}: no signature covers a mode",
        )
        for entry in judged
        if _is_wrong(entry, programs, as_written=as_written)
    )
    yield from _verdict("mode of a file", wrong, subject=path, observed=f"{len(judged)} modes")


def _meant(entry: TreeEntry, programs: Collection[str]) -> int:
    return _RUNNABLE if entry.kind == "directory" or entry.path in programs else _DATA


def _is_wrong(entry: TreeEntry, programs: Collection[str], *, as_written: bool) -> bool:
    if as_written:
        return entry.mode != _meant(entry, programs)
    cannot_run = entry.path in programs and not entry.mode & _OWNER_RUN
    return bool(entry.mode & (_SPECIAL | _WORLD_WRITABLE)) or cannot_run


def attributes(found: Mapping[str, Sequence[str]], *, path: str = "") -> Check:
    """Extended attributes in something that is about to be signed: none belongs there.

    Args:
        found: their names by path.
        path: how checks name the app.
    """
    meant = {
        own: [name for name in names if name not in file_attributes.HARMLESS]
        for own, names in found.items()
    }
    told = [f"{own}: {', '.join(names)}" for own, names in sorted(meant.items()) if names]
    return checks.compare(
        "attributes before signing",
        expected="none",
        observed="; ".join(told[:10]) or "none",
        subject=path,
        hint="take them off: xattr -cr APP; codesign calls FinderInfo detritus",
    )


def targets(inventory: Inventory, *, minimum_macos: str, path: str = "") -> Iterator[Check]:
    """Whether everything runs on the oldest system that is promised.

    Args:
        inventory: the app's code and Metal libraries.
        minimum_macos: that system, `14.0`; empty where nothing promises one.
        path: how checks name the app.
    """
    name = "minimum macOS of the code"
    if not minimum_macos:
        yield checks.not_checked(name, "Info.plist has no LSMinimumSystemVersion", subject=path)
        return
    try:
        macho.packed_version(minimum_macos)
    except errors.FormatError as problem:
        yield checks.failed(name, subject=path, expected="a version", observed=problem.observed)
        return
    for own, file in inventory.code.items():
        for part in file.parts:
            subject = _named(path, own)
            yield _target(name, part.minos, minimum_macos, subject)
    for own, library in inventory.metal.items():
        subject = _named(path, own)
        name = "Metal target"
        if isinstance(library, errors.FormatError):
            told = f"{library.message} {library.observed}".strip()
            yield checks.failed(name, subject=subject, expected="a Metal library", observed=told)
        elif not library.is_macos:
            told = f"{library.system} {library.minimum}"
            yield checks.failed(name, subject=subject, expected="macOS", observed=told)
        else:
            yield _target(name, library.minimum, minimum_macos, subject)


def _target(name: str, observed: str | None, minimum: str, subject: str) -> Check:
    expected = f"at most {minimum}"
    if observed and macho.packed_version(observed) <= macho.packed_version(minimum):
        return checks.passed(name, observed, subject=subject, expected=expected)
    return checks.failed(
        name,
        subject=subject,
        expected=expected,
        observed=observed or "none stated",
        hint="build it for the system that release.yaml promises, or promise a newer one",
    )


def code_places(
    inventory: Inventory, *, allowed: Collection[str] = (), path: str = ""
) -> Iterator[Check]:
    """What is no code but lies where macOS expects nothing else.

    Args:
        inventory: what lies in the app.
        allowed: paths that are sealed as data on purpose.
        path: how checks name the app.
    """
    rules = resource_rules.compile_rules(resource_rules.RULES2)
    count = 0
    wrong = []
    for own, entry in inventory.entries.items():
        inner = own.removeprefix(_CONTENTS)
        if entry.kind != "file" or inner == own or _is_apart(inner):
            continue
        if not resource_rules.choose(rules, inner).nested or own in inventory.code:
            continue
        count += 1
        if own not in allowed:
            wrong.append(_misplaced(_named(path, own)))
    observed = f"{count} files sealed as data on purpose" if count else "code only"
    yield from _verdict("code place", wrong, subject=path, observed=observed)


def _is_apart(inner: str) -> bool:
    """Whether no seal covers it, or a bundle of its own does."""
    folders = inner.split("/")[:-1]
    nested = any("." in folder for folder in folders[1:])
    return nested or inner.split("/", 1)[0] in code_resources.EXCLUDED


def _misplaced(subject: str) -> Check:
    return checks.failed(
        "code place",
        subject=subject,
        expected="code",
        observed="a file that is none",
        hint="move it to Contents/Resources: codesign asks for signed code here",
    )
