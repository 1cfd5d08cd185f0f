"""Find the code of a bundle, inside out, as Apple's codesign meets it when it seals.

Rule and source: Apple's published resource builder and bundle representation. A file in a code
place is code, a folder there with a dot in its name a bundle. Code in other places is signed too,
since the notary asks for it, and sealed like any file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from release_tool import errors
from release_tool.apple import (
    bundle_layout,
    code_resources,
    identifiers,
    macho,
    property_list,
    resource_rules,
)
from release_tool.apple.bundle_layout import Layout
from release_tool.apple.tree import BundleTree, TreeEntry

# Real apps nest three levels: an app, a framework, a helper in it.
MAX_NESTING = 8

# What codesign signs: executables, preloaded and dynamic libraries, linkers, bundles, kernel
# extensions. Object files and debug companions are data.
_SIGNED_TYPES = frozenset({macho.MH_EXECUTE, 5, 6, 7, 8, 11})
_HEAD = 8
_BUNDLE_SIGNS = ("Contents/Info.plist", "Versions/Current", "Info.plist", "Resources/Info.plist")
_NAMED_REFUSALS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle around its main executable."""

    root: str
    """Its folder; empty for the whole tree. Of a framework, the folder of the version."""
    name: str
    """Of its folder; of a framework, without the version's."""
    layout: Layout
    info: Mapping[str, object] = field(repr=False)

    def at(self, path: str) -> str:
        """A path of the layout, relative to the whole tree."""
        return _joined(self.root, path)

    @property
    def contents(self) -> str:
        """What the seal's paths are relative to."""
        return self.at(self.layout.contents) if self.layout.contents else self.root

    @property
    def prefix(self) -> str:
        """What stands before the seal's paths in those of the whole tree."""
        return f"{self.contents}/" if self.contents else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeObject:
    """One file of code."""

    path: str
    slices: tuple[macho.Slice, ...] = field(repr=False)
    bundle: Bundle | None = None
    """The bundle whose main executable it is; None for a bare file."""
    named_as: str = ""
    """How the seal around it names it; empty where no seal names it as code."""

    @property
    def is_executable(self) -> bool:
        return identifiers.host_slice(self.slices).is_executable

    def identifier(self, *, adhoc: bool) -> str:
        """The identifier that codesign derives.

        Raises:
            FormatError: what it derives from is malformed.
        """
        if self.bundle is None:
            return identifiers.of_tool(self.path, self.slices, adhoc=adhoc)
        return identifiers.of_bundle(self.bundle.name, self.bundle.info, self.slices, adhoc=adhoc)


def discover(
    tree: BundleTree, *, name: str, data: Collection[str] | None = ()
) -> tuple[CodeObject, ...]:
    """All code of a bundle in the order in which it is signed, the bundle's own last.

    Args:
        tree: the bundle's root.
        name: of its folder, `Darkbloom.app`.
        data: files in code places that are no code and may be sealed as data; None for any.

    Raises:
        VerificationError: it is no bundle with code, or something in it cannot be signed; up to
            ten are named.
        FormatError: a property list or a Mach-O in it is malformed.
    """
    finder = _Finder(tree, data)
    found = tuple(finder.bundle("", name, nesting=0))
    finder.require()
    return found


class _Finder:
    """One walk; refusals are collected, so that all are told at once."""

    def __init__(self, tree: BundleTree, data: Collection[str] | None) -> None:
        self._tree = tree
        self._data = data
        self._entries = {entry.path: entry for entry in tree.entries()}
        self._children: dict[str, list[TreeEntry]] = {}
        for entry in self._entries.values():
            self._children.setdefault(entry.path.rpartition("/")[0], []).append(entry)
        self._refusals: list[tuple[str, str, str]] = []

    def require(self) -> None:
        """Raise what was collected."""
        if not self._refusals:
            return
        path, problem, hint = self._refusals[0]
        others = "; ".join(f"{path}: {said}" for path, said, _ in self._refusals[1:_NAMED_REFUSALS])
        raise errors.VerificationError(
            problem, subject=path, observed=f"also {others}" if others else "", hint=hint
        )

    def bundle(self, root: str, folder: str, *, nesting: int) -> Iterator[CodeObject]:
        """The code of a bundle that must be one; a framework gives that of each version."""
        if nesting > MAX_NESTING:
            raise errors.VerificationError("bundles are nested too deeply", subject=root)
        entries = self._below(root)
        try:
            layout = bundle_layout.find(entries)
        except errors.VerificationError as problem:
            problem.subject = problem.subject or root
            raise
        for path, expected in bundle_layout.strangers(layout, entries):
            self._refuse(_joined(root, path), f"lies in a bundle's root, where {expected} may lie")
        for version in bundle_layout.other_versions(layout, entries):
            yield from self._one(_joined(root, version), folder, None, nesting, named_as="")
        base = _joined(root, layout.contents) if layout.version else root
        inner = None if layout.version else layout
        yield from self._one(base, folder, inner, nesting, named_as=root)

    def _one(
        self, root: str, folder: str, layout: Layout | None, nesting: int, *, named_as: str
    ) -> Iterator[CodeObject]:
        layout = layout or bundle_layout.find(self._below(root))
        info = self._info(_joined(root, layout.info))
        bundle = Bundle(root=root, name=folder.rpartition("/")[2], layout=layout, info=info)
        main = _main_executable(bundle)
        entry = self._entries.get(main)
        slices = self._code(entry) if entry is not None and entry.kind == "file" else None
        if slices is None:
            self._refuse(main, "is no code, and the bundle's Info.plist names it as its executable")
            return
        yield from self._inside(bundle, main, nesting)
        yield CodeObject(path=main, slices=slices, bundle=bundle, named_as=named_as)

    def _inside(self, bundle: Bundle, main: str, nesting: int) -> Iterator[CodeObject]:
        rules = resource_rules.compile_rules(resource_rules.tables(bundle.layout.resources)[1])
        prefix = bundle.prefix
        waiting = self._last_first(bundle.contents)
        while waiting:
            entry = waiting.pop()
            inner = entry.path.removeprefix(prefix)
            if inner in code_resources.EXCLUDED or entry.path == main or entry.kind == "symlink":
                continue
            nested = resource_rules.choose(rules, inner).nested
            if entry.kind == "file":
                yield from self._file(entry, nested=nested)
            elif "." in entry.path.rpartition("/")[2] and self._is_bundle(entry, nested=nested):
                found = self.bundle(entry.path, entry.path, nesting=nesting + 1)
                yield from (one if nested else _unnamed(one, entry.path) for one in found)
            else:
                waiting += self._last_first(entry.path)

    def _file(self, entry: TreeEntry, *, nested: bool) -> Iterator[CodeObject]:
        slices = self._code(entry)
        if slices is not None:
            yield CodeObject(path=entry.path, slices=slices, named_as=entry.path if nested else "")
        elif nested and not self._may_be_data(entry.path):
            self._refuse(
                entry.path,
                "is no code, but lies in a code place",
                hint="move it to Resources, or name it as data",
            )

    def _is_bundle(self, entry: TreeEntry, *, nested: bool) -> bool:
        """Whether a folder holds code of its own; one in a code place must."""
        signs = (_joined(entry.path, sign) in self._entries for sign in _BUNDLE_SIGNS)
        has_code = any(signs) and self._holds_code(entry)
        if nested and not has_code:
            self._refuse(
                entry.path,
                "is a folder with a dot in its name in a code place, but no bundle with code",
                hint="move it to Resources, or rename it",
            )
        return has_code

    def _holds_code(self, entry: TreeEntry) -> bool:
        try:
            layout = bundle_layout.find(self._below(entry.path))
            info = self._info(_joined(entry.path, layout.info))
            name = entry.path.rpartition("/")[2]
            bundle = Bundle(root=entry.path, name=name, layout=layout, info=info)
            main = self._entries.get(_main_executable(bundle))
            return main is not None and main.kind == "file" and self._code(main) is not None
        except errors.VerificationError:
            return False

    def _may_be_data(self, path: str) -> bool:
        return self._data is None or path in self._data

    def _code(self, entry: TreeEntry) -> tuple[macho.Slice, ...] | None:
        """The slices of a file that codesign signs; None for any other file."""
        if entry.size < _HEAD or not macho.is_macho(self._tree.head(entry.path, _HEAD)):
            return None
        try:
            slices = macho.parse(self._tree.view(entry.path))
        except errors.FormatError as problem:
            problem.subject = problem.subject or entry.path
            raise
        return slices if {code.file_type for code in slices} <= _SIGNED_TYPES else None

    def _info(self, path: str) -> Mapping[str, object]:
        try:
            return property_list.parse_any(self._tree.read(path))
        except errors.FormatError as problem:
            problem.subject = path
            raise

    def _refuse(self, path: str, problem: str, *, hint: str = "") -> None:
        self._refusals.append((path, problem, hint))

    def _below(self, root: str) -> Mapping[str, TreeEntry]:
        """The entries of a folder by their path in it."""
        if not root:
            return self._entries
        found: dict[str, TreeEntry] = {}
        waiting = [root]
        while waiting:
            for entry in self._children.get(waiting.pop(), ()):
                path = entry.path.removeprefix(f"{root}/")
                found[path] = replace(entry, path=path)
                if entry.kind == "directory":
                    waiting.append(entry.path)
        return found

    def _last_first(self, folder: str) -> list[TreeEntry]:
        return sorted(self._children.get(folder, ()), key=lambda entry: entry.path, reverse=True)


def _unnamed(code: CodeObject, bundle: str) -> CodeObject:
    """Code of a bundle outside of code places: only the seals inside it name code."""
    return replace(code, named_as="") if code.named_as == bundle else code


def _main_executable(bundle: Bundle) -> str:
    """The executable that `Info.plist` names, or that the folder's name implies."""
    name = bundle.info.get("CFBundleExecutable", bundle.name.rpartition(".")[0])
    if not isinstance(name, str) or not name or "/" in name or name in (".", ".."):
        raise errors.VerificationError(
            "names no main executable",
            subject=bundle.at(bundle.layout.info),
            expected="CFBundleExecutable",
        )
    folder = bundle.layout.executables
    return bundle.at(bundle.layout.at(f"{folder}/{name}" if folder else name))


def _joined(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder and path else folder or path
