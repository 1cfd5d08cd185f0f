"""Tamperings of a whole signed app: files, seal, nested code, links, the stapled ticket."""

from __future__ import annotations

import hashlib
import plistlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from release_tool.apple import (
    bundle,
    certificates,
    code_directory,
    macho,
    signing,
)
from release_tool.apple.facts import BundleReport
from release_tool.apple.signing import Authority, Intent
from release_tool.apple.tree import MemoryTree, in_memory
from release_tool.apple.verification import Judge
from tests import macho_samples
from tests.tamperings import ticket
from tests.tamperings.code import Code

INFO = "Contents/Info.plist"
SEAL = "Contents/_CodeSignature/CodeResources"
TICKET = "Contents/CodeResources"


@dataclass(frozen=True, kw_only=True)
class App:
    """A signed and stapled app, and where its parts are."""

    tree: MemoryTree
    trust: certificates.Trust
    main: str
    tool: str
    """A helper tool, a bare Mach-O in a code place."""
    inner: str
    """A nested app."""
    inner_main: str
    resource: str
    """A sealed file in `Contents/Resources`."""
    second: str
    """Another sealed data file, elsewhere."""
    other: bytes = field(repr=False)
    """Signed code of somebody else."""
    other_ticket: bytes = field(repr=False)
    """An authentic ticket for something else."""
    impostor: Authority = field(repr=False)
    """Signs with certificates that bear Apple's markers and names, under a root of its own."""
    owner: Authority | None = field(default=None, repr=False)
    """Who signed it; None where that is not us."""

    def read(self, path: str) -> bytes:
        return self.tree.files[path]

    def put(
        self, files: dict[str, bytes | None], links: dict[str, str] | None = None
    ) -> MemoryTree:
        """The app with files changed, added or (None) taken away, and links added."""
        merged = {**self.tree.files, **files}
        kept = {path: content for path, content in merged.items() if content is not None}
        return in_memory(kept, links={**self.tree.links, **(links or {})}, modes=self.tree.modes)

    def without(self, prefix: str) -> MemoryTree:
        """The app without a file or a whole folder."""
        gone = [p for p in self.tree.files if p == prefix or p.startswith(f"{prefix}/")]
        assert gone
        return self.put(dict.fromkeys(gone))

    def code(self, path: str, arch: str = "arm64") -> Code:
        return Code(self.read(path), arch, self.other)

    def judge(self, tree: MemoryTree) -> BundleReport:
        judge = Judge(trust=self.trust, now=datetime.now(UTC), strict=False)
        return bundle.verify(tree, judge=judge, path="The.app")


class AppTampering(NamedTuple):
    """One change of the app."""

    name: str
    change: Callable[[App], MemoryTree]
    caught_by: str


def table() -> Iterator[AppTampering]:
    """Every tampering with what surrounds the main executable's own bytes."""
    yield from _info()
    yield from _files()
    yield from _links()
    yield from _hidden()
    yield from _seal()
    yield from _main()
    yield from _tool()
    yield from _inner()
    yield from _ticket()


def _flipped(content: bytes, at: int = 0, mask: int = 1) -> bytes:
    at %= len(content)
    return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


# Info.plist


def _info() -> Iterator[AppTampering]:
    def keyed(
        name: str, key: str, value: object, caught_by: str = "Info.plist hash"
    ) -> AppTampering:
        def change(app: App) -> MemoryTree:
            values = plistlib.loads(app.read(INFO))
            values[key] = value
            return app.put({INFO: plistlib.dumps(values)})

        return AppTampering(f"Info.plist: {name}", change, caught_by)

    yield AppTampering(
        "Info.plist: a space at the end",
        lambda app: app.put({INFO: app.read(INFO) + b" "}),
        "Info.plist hash",
    )
    yield AppTampering("Info.plist: in binary form", _binary_info, "Info.plist hash")
    yield AppTampering("Info.plist: gone", lambda app: app.without(INFO), "bundle")
    yield AppTampering("Info.plist: emptied", lambda app: app.put({INFO: b""}), "bundle")
    yield AppTampering(
        "Info.plist: the nested app's",
        lambda app: app.put({INFO: app.read(f"{app.inner}/{INFO}")}),
        "main executable",
    )
    yield keyed("another identifier", "CFBundleIdentifier", "com.example.other")
    yield keyed("another version", "CFBundleShortVersionString", "999.0")
    yield keyed("an older macOS", "LSMinimumSystemVersion", "10.9")
    yield keyed("environment for the app", "LSEnvironment", {"DYLD_INSERT_LIBRARIES": "x"})
    yield keyed("a main executable elsewhere", "CFBundleExecutable", "../Helpers/x", "bundle")
    yield keyed(
        "a main executable that is not there", "CFBundleExecutable", "other", "main executable"
    )
    yield keyed("no name of a main executable", "CFBundleExecutable", "", "bundle")


def _binary_info(app: App) -> MemoryTree:
    values = plistlib.loads(app.read(INFO))
    return app.put({INFO: plistlib.dumps(values, fmt=plistlib.FMT_BINARY)})


# Sealed and unsealed files


_ADDED = (
    "Contents/Resources/extra",
    "Contents/Resources/._AppIcon.icns",
    "Contents/Resources/en.lproj/extra.strings",
    "Contents/MacOS/extra.txt",
    "Contents/Helpers/extra.sh",
    "Contents/Frameworks/extra.dylib",
    "Contents/PlugIns/extra.bundle/Contents/Info.plist",
    "Contents/Library/LaunchDaemons/extra.plist",
    "Contents/extra",
    "Contents/embedded.provisionprofile2",
    "Contents/version.plist",
    "Contents/new/folder/extra",
)
_BESIDE = ("extra", "Resources/extra", "._Contents", "Contents2/Info.plist")
_CONTENT: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("its first byte", _flipped),
    ("its last byte", lambda content: _flipped(content, -1)),
    ("a byte more", lambda content: content + b"\n"),
    ("a byte less", lambda content: content[:-1]),
    ("emptied", lambda _: b""),
)


def _files() -> Iterator[AppTampering]:
    sealed = "sealed file"
    for which in ("resource", "second"):
        for name, change in _CONTENT:
            yield AppTampering(f"{which}: {name}", _replacing(which, change), sealed)
        yield AppTampering(f"{which}: gone", _at(which, App.without), sealed)
        yield AppTampering(f"{which}: renamed", _at(which, _renamed), sealed)
        yield AppTampering(f"{which}: in other case", _at(which, _recased), sealed)
        yield AppTampering(f"{which}: a folder of its name", _at(which, _folder), sealed)
    yield AppTampering("two files exchanged", _exchanged, sealed)
    for path in _ADDED:
        yield AppTampering(f"added: {path}", _adding(path), sealed)
    for path in _BESIDE:
        yield AppTampering(f"added beside Contents: {path}", _adding(path), "bundle root")


def _at(which: str, change: Callable[[App, str], MemoryTree]) -> Callable[[App], MemoryTree]:
    """A change at the place of one of the app's parts."""
    return lambda app: change(app, getattr(app, which))


def _replacing(which: str, change: Callable[[bytes], bytes]) -> Callable[[App], MemoryTree]:
    return _at(which, lambda app, path: app.put({path: change(app.read(path))}))


def _adding(path: str) -> Callable[[App], MemoryTree]:
    return lambda app: app.put({path: b"x"})


def _renamed(app: App, path: str) -> MemoryTree:
    return app.put({path: None, f"{path}2": app.read(path)})


def _recased(app: App, path: str) -> MemoryTree:
    folder, _, name = path.rpartition("/")
    return app.put({path: None, f"{folder}/{name.swapcase()}": app.read(path)})


def _folder(app: App, path: str) -> MemoryTree:
    return app.put({path: None, f"{path}/inside": app.read(path)})


def _exchanged(app: App) -> MemoryTree:
    return app.put({app.resource: app.read(app.second), app.second: app.read(app.resource)})


# Links


_TARGETS = (
    ("out of the app", "../../../../etc/passwd"),
    ("to an absolute place", "/tmp/x"),
    ("into the system", "/System/Library/CoreServices"),
    ("to a file of the app", "../Info.plist"),
    ("to itself", "link"),
)


def _links() -> Iterator[AppTampering]:
    for name, target in _TARGETS:
        yield AppTampering(f"a link {name}", _linking(target), "sealed file")
        yield AppTampering(f"the resource a link {name}", _relinking(target), "sealed file")
    yield AppTampering("the main executable a link", _at("main", _linked), "main executable")
    yield AppTampering("the helper tool a link", _at("tool", _linked), "nested code")
    yield AppTampering("the Info.plist a link", lambda app: _linked(app, INFO), "bundle")
    yield AppTampering("the seal a link", lambda app: _linked(app, SEAL), "resource seal")
    yield AppTampering("the ticket a link", lambda app: _linked(app, TICKET), "ticket")
    yield AppTampering("the nested app a link", _linked_inner, "nested code")
    yield AppTampering(
        "a link in the root", lambda app: app.put({}, {"link": "Contents"}), "bundle root"
    )


def _linking(target: str) -> Callable[[App], MemoryTree]:
    return lambda app: app.put({}, {"Contents/Resources/link": target})


def _relinking(target: str) -> Callable[[App], MemoryTree]:
    return lambda app: app.put({app.resource: None}, {app.resource: target})


def _linked(app: App, path: str) -> MemoryTree:
    return app.put({path: None}, {path: "/tmp/" + path.rpartition("/")[2]})


def _linked_inner(app: App) -> MemoryTree:
    gone = [path for path in app.tree.files if path.startswith(f"{app.inner}/")]
    return app.put(dict.fromkeys(gone), {app.inner: "/Applications/Inner.app"})


# Names that readers, volumes and people take for others


def _hidden() -> Iterator[AppTampering]:
    def added(name: str, path: str, caught_by: str = "sealed file") -> AppTampering:
        return AppTampering(f"hidden: {name}", lambda app: app.put({path: b"x"}), caught_by)

    yield added("a name that begins with a dot", "Contents/MacOS/.extra")
    yield added("an Info.plist for macOS alone", "Contents/Info-macos.plist")
    yield added("the seal's place of long ago", "Contents/Resources/CodeResources")
    yield added("the seal's folder in other case", "Contents/_codesignature/CodeResources")
    yield added("the ticket's name in other case", "Contents/coderesources")
    yield added("Info.plist in other case", "Contents/info.plist")
    yield added("a decomposed name", "Contents/Resources/e\u0301.txt")
    yield added("a name of bytes that are no text", "Contents/Resources/\udcff")
    yield added("a name with a line break", "Contents/Resources/a\nb")
    yield added("a name that clears the screen", "Contents/Resources/\x1b[2J")
    yield added("contents in other case", "contents/Info.plist", "bundle root")
    yield added("an icon for Finder", "Icon\r", "bundle root")
    yield added("an unpacker's folder", "__MACOSX/Contents/._Info.plist", "bundle root")
    yield AppTampering(
        "hidden: the resource under a name that looks alike",
        lambda app: app.put({app.resource: None, f"{app.resource}\u200b": app.read(app.resource)}),
        "sealed file",
    )
    yield AppTampering(
        "hidden: the main executable in other case beside it",
        lambda app: app.put({app.main.swapcase().replace("cONTENTS", "Contents"): b"x"}),
        "sealed file",
    )
    yield AppTampering(
        "hidden: the file of the bundle's kind a link out",
        lambda app: app.put({"Contents/PkgInfo": None}, {"Contents/PkgInfo": "/tmp/x"}),
        "sealed link",
    )
    yield AppTampering(
        "hidden: Finder's state a link out",
        lambda app: app.put({}, {"Contents/Resources/.DS_Store": "../../../x"}),
        "sealed link",
    )
    yield AppTampering(
        "hidden: the nested app's ticket a link to the app's",
        lambda app: app.put({}, {f"{app.inner}/{TICKET}": "../../../CodeResources"}),
        "ticket",
    )


# The seal


Table = dict[str, Any]


def _seal() -> Iterator[AppTampering]:
    sealed_hash = "resource seal hash"
    yield AppTampering(
        "seal: a space at the end", lambda app: app.put({SEAL: app.read(SEAL) + b" "}), sealed_hash
    )
    yield AppTampering("seal: in binary form", _binary_seal, sealed_hash)
    yield AppTampering("seal: gone", lambda app: app.without(SEAL), "resource seal")
    yield AppTampering("seal: emptied", lambda app: app.put({SEAL: b""}), "resource seal")
    yield AppTampering(
        "seal: the nested app's",
        lambda app: app.put({SEAL: app.read(f"{app.inner}/{SEAL}")}),
        sealed_hash,
    )
    yield AppTampering("seal: adjusted to a changed resource", _adjusted_seal, sealed_hash)
    yield AppTampering(
        "seal: adjusted, and its slot in the code directory with it", adjusted, "signature"
    )
    for name, change in _SEAL_EDITS:
        yield AppTampering(f"seal: {name}", _edited(change), sealed_hash)


def _edited(change: Callable[[App, Table], object]) -> Callable[[App], MemoryTree]:
    def whole(app: App) -> MemoryTree:
        document = plistlib.loads(app.read(SEAL))
        change(app, document)
        return app.put({SEAL: plistlib.dumps(document)})

    return whole


def _inside(path: str) -> str:
    return path.removeprefix("Contents/")


def _of_tool(app: App, document: Table) -> Table:
    found: Table = document["files2"][_inside(app.tool)]
    return found


def _of_resource(app: App, document: Table) -> Table:
    found: Table = document["files2"][_inside(app.resource)]
    return found


def _tool_as_data(app: App, document: Table) -> None:
    digest = hashlib.sha256(app.read(app.tool)).digest()
    document["files2"][_inside(app.tool)] = {"hash2": digest}


def _first_version_only(_: App, document: Table) -> None:
    del document["files2"], document["rules2"]


_SEAL_EDITS: tuple[tuple[str, Callable[[App, Table], object]], ...] = (
    ("an entry left out", lambda app, d: d["files2"].pop(_inside(app.resource))),
    ("an entry made optional", lambda app, d: _of_resource(app, d).update(optional=True)),
    ("an entry without a digest", lambda app, d: _of_resource(app, d).clear()),
    ("an entry by SHA-1 only", lambda app, d: _weakened(app, d, _inside(app.resource))),
    (
        "an entry added",
        lambda _, d: d["files2"].update({"Resources/extra": {"hash2": bytes(32)}}),
    ),
    ("nested code left out", lambda app, d: d["files2"].pop(_inside(app.tool))),
    ("nested code's cdhash", lambda app, d: _of_tool(app, d).update(cdhash=bytes(20))),
    (
        "nested code's requirement weakened",
        lambda app, d: _of_tool(app, d).update(requirement="always"),
    ),
    ("nested code as data", lambda app, d: _tool_as_data(app, d)),
    ("the nested app left out", lambda app, d: d["files2"].pop(_inside(app.inner))),
    (
        "a rule that omits",
        lambda _, d: d["rules2"].update({"^Resources/": {"omit": True, "weight": 5000.0}}),
    ),
    ("the rule for everything left out", lambda _, d: d["rules2"].pop("^.*")),
    ("the rule for nested code left out", lambda app, d: _no_nested(app, d)),
    ("all of it optional", lambda _, d: d["rules2"].update({"^.*": {"optional": True}})),
    ("of the first version only", _first_version_only),
)


def _binary_seal(app: App) -> MemoryTree:
    document = plistlib.loads(app.read(SEAL))
    return app.put({SEAL: plistlib.dumps(document, fmt=plistlib.FMT_BINARY)})


def _adjusted_seal(app: App) -> MemoryTree:
    changed = app.read(app.resource) + b"payload"
    document = plistlib.loads(app.read(SEAL))
    document["files2"][app.resource.removeprefix("Contents/")]["hash2"] = hashlib.sha256(
        changed
    ).digest()
    return app.put({app.resource: changed, SEAL: plistlib.dumps(document)})


def _weakened(app: App, document: Table, path: str) -> None:
    document["files2"][path] = {"hash": hashlib.sha1(app.read(app.resource)).digest()}


def _no_nested(_: App, document: Table) -> None:
    rules = document["rules2"]
    for pattern in [
        key for key, value in rules.items() if isinstance(value, dict) and value.get("nested")
    ]:
        del rules[pattern]


# The main executable as a whole


def _main() -> Iterator[AppTampering]:
    yield AppTampering("main: gone", lambda app: app.without(app.main), "main executable")
    yield AppTampering("main: a script", lambda app: app.put({app.main: b"#!/bin/sh\n"}), "format")
    yield AppTampering(
        "main: unsigned", lambda app: app.put({app.main: macho_samples.unsigned()}), "signature"
    )
    yield AppTampering(
        "main: the helper tool",
        lambda app: app.put({app.main: app.read(app.tool)}),
        "Info.plist hash",
    )
    yield AppTampering(
        "main: the nested app's",
        lambda app: app.put({app.main: app.read(app.inner_main)}),
        "Info.plist hash",
    )
    yield AppTampering(
        "main: somebody else's", lambda app: app.put({app.main: app.other}), "resource seal hash"
    )
    yield AppTampering(
        "main: signed again ad-hoc", lambda app: _main_signed(app, None), "ticket cdhashes"
    )
    yield AppTampering(
        "main: signed again by an impostor",
        lambda app: _main_signed(app, app.impostor),
        "certificate chain",
    )
    yield AppTampering("main: one slice signed again ad-hoc", _main_mixed, "slices")
    yield AppTampering("main: without its seal's slot", _main_unsealed, "signature")


def _intent(app: App, path: str, *, of_bundle: bool) -> Intent:
    directory = code_directory.parse(app.code(path).directory)
    return Intent(
        identifier=directory.identifier,
        info_plist=app.read(INFO) if of_bundle else None,
        code_resources=app.read(SEAL) if of_bundle else None,
    )


def _main_signed(app: App, authority: Authority | None) -> MemoryTree:
    """Signed again with everything in its place: only who signed differs."""
    again = signing.sign(app.read(app.main), _intent(app, app.main, of_bundle=True), authority)
    return app.put({app.main: again.data})


def _main_mixed(app: App) -> MemoryTree:
    """The slice that a Mac of today does not run is somebody's own."""
    old = app.read(app.main)
    again = signing.sign(old, _intent(app, app.main, of_bundle=True), None).data
    mine = next(item for item in macho.parse(old) if item.arch == "x86_64")
    theirs = next(item for item in macho.parse(again) if item.arch == "x86_64")
    assert theirs.size <= mine.size
    body = bytes(theirs.data).ljust(mine.size, b"\0")
    return app.put({app.main: old[: mine.offset] + body + old[mine.offset + mine.size :]})


def _main_unsealed(app: App) -> MemoryTree:
    code = app.code(app.main)
    raw = code_directory.parse(code.directory)
    offset = int.from_bytes(code.directory[16:20], "big")
    return app.put(
        {app.main: code.with_directory(offset - 3 * raw.hash_size, bytes(raw.hash_size))}
    )


# The helper tool


def _tool() -> Iterator[AppTampering]:
    yield AppTampering("tool: gone", lambda app: app.without(app.tool), "sealed file")
    yield AppTampering(
        "tool: a script", lambda app: app.put({app.tool: b"#!/bin/sh\n"}), "nested code"
    )
    yield AppTampering("tool: emptied", lambda app: app.put({app.tool: b""}), "nested code")
    yield AppTampering(
        "tool: unsigned", lambda app: app.put({app.tool: macho_samples.unsigned()}), "signature"
    )
    yield AppTampering(
        "tool: the main executable",
        lambda app: app.put({app.tool: app.read(app.main)}),
        "nested cdhash",
    )
    yield AppTampering(
        "tool: somebody else's", lambda app: app.put({app.tool: app.other}), "nested requirement"
    )
    yield AppTampering(
        "tool: signed again ad-hoc", lambda app: _tool_signed(app, None), "nested requirement"
    )
    yield AppTampering(
        "tool: signed again by an impostor",
        lambda app: _tool_signed(app, app.impostor),
        "nested requirement",
    )
    yield AppTampering("tool: under the identifier of another", _tool_renamed, "nested requirement")
    yield AppTampering(
        "tool: moved",
        lambda app: app.put({app.tool: None, "Contents/MacOS/tool": app.read(app.tool)}),
        "sealed file",
    )
    yield AppTampering(
        "tool: a folder", lambda app: app.put({app.tool: None, f"{app.tool}/x": b""}), "bundle"
    )
    yield AppTampering(
        "tool: copied to another name",
        lambda app: app.put({f"{app.tool}2": app.read(app.tool)}),
        "sealed file",
    )


def _tool_signed(app: App, authority: Authority | None) -> MemoryTree:
    again = signing.sign(app.read(app.tool), _intent(app, app.tool, of_bundle=False), authority)
    return app.put({app.tool: again.data})


def _tool_renamed(app: App) -> MemoryTree:
    again = signing.sign(app.read(app.tool), Intent(identifier="com.example.other"), app.impostor)
    return app.put({app.tool: again.data})


# The nested app


def _inner() -> Iterator[AppTampering]:
    def inside(path: str) -> Callable[[App], str]:
        return lambda app: f"{app.inner}/{path}"

    def added(name: str, path: str, caught_by: str) -> AppTampering:
        return AppTampering(
            f"nested app: {name}", lambda app: app.put({inside(path)(app): b"x"}), caught_by
        )

    def replaced(
        name: str, path: str, change: Callable[[bytes], bytes], caught_by: str
    ) -> AppTampering:
        where = inside(path)
        return AppTampering(
            f"nested app: {name}",
            lambda app: app.put({where(app): change(app.read(where(app)))}),
            caught_by,
        )

    yield AppTampering("nested app: gone", lambda app: app.without(app.inner), "sealed file")
    yield AppTampering("nested app: a file", lambda app: _inner_file(app), "nested code")
    yield replaced("its Info.plist", INFO, lambda content: content + b" ", "Info.plist hash")
    yield replaced("its seal", SEAL, lambda content: content + b" ", "resource seal hash")
    yield AppTampering(
        "nested app: its seal gone", lambda app: app.without(f"{app.inner}/{SEAL}"), "resource seal"
    )
    yield AppTampering(
        "nested app: its Info.plist gone", lambda app: app.without(f"{app.inner}/{INFO}"), "bundle"
    )
    yield AppTampering(
        "nested app: its main executable gone",
        lambda app: app.without(app.inner_main),
        "main executable",
    )
    yield added("a resource added", "Contents/Resources/extra", "sealed file")
    yield added("a file in its root", "extra", "bundle root")
    yield added("a file among its code", "Contents/MacOS/extra", "sealed file")
    yield AppTampering(
        "nested app: its main executable the tool",
        lambda app: app.put({app.inner_main: app.read(app.tool)}),
        "nested cdhash",
    )
    yield AppTampering(
        "nested app: signed again ad-hoc",
        lambda app: _inner_signed(app, None),
        "nested requirement",
    )
    yield AppTampering(
        "nested app: signed again by an impostor",
        lambda app: _inner_signed(app, app.impostor),
        "certificate chain",
    )
    yield AppTampering("nested app: a second one", _second_inner, "sealed file")
    yield AppTampering("nested app: in another place", _moved_inner, "sealed file")
    yield AppTampering(
        "nested app: somebody's ticket in it",
        lambda app: app.put({f"{app.inner}/{TICKET}": app.other_ticket}),
        "ticket cdhashes",
    )
    yield AppTampering(
        "nested app: no ticket in its ticket's place",
        lambda app: app.put({f"{app.inner}/{TICKET}": b"x"}),
        "ticket",
    )


def _inner_file(app: App) -> MemoryTree:
    gone = [path for path in app.tree.files if path.startswith(f"{app.inner}/")]
    return app.put({**dict.fromkeys(gone), app.inner: b"x"})


def _inner_signed(app: App, authority: Authority | None) -> MemoryTree:
    intent = Intent(
        identifier=code_directory.parse(app.code(app.inner_main).directory).identifier,
        info_plist=app.read(f"{app.inner}/{INFO}"),
        code_resources=app.read(f"{app.inner}/{SEAL}"),
    )
    return app.put({app.inner_main: signing.sign(app.read(app.inner_main), intent, authority).data})


def _copied(app: App, to: str) -> dict[str, bytes]:
    return {
        to + path.removeprefix(app.inner): content
        for path, content in app.tree.files.items()
        if path.startswith(f"{app.inner}/")
    }


def _second_inner(app: App) -> MemoryTree:
    return app.put({**_copied(app, "Contents/Helpers/Second.app")})


def _moved_inner(app: App) -> MemoryTree:
    gone = [path for path in app.tree.files if path.startswith(f"{app.inner}/")]
    return app.put({**dict.fromkeys(gone), **_copied(app, "Contents/PlugIns/Moved.app")})


# The ticket


def _ticket() -> Iterator[AppTampering]:
    for case in ticket.table():
        yield AppTampering(f"ticket: {case.name}", _ticket_changed(case.change), case.caught_by)
    yield AppTampering(
        "ticket: another app's", lambda app: app.put({TICKET: app.other_ticket}), "ticket cdhashes"
    )
    yield AppTampering("ticket: the seal", lambda app: app.put({TICKET: app.read(SEAL)}), "ticket")
    yield AppTampering(
        "ticket: a folder", lambda app: app.put({TICKET: None, f"{TICKET}/x": b""}), "ticket"
    )


def _ticket_changed(change: Callable[[bytes], bytes]) -> Callable[[App], MemoryTree]:
    return lambda app: app.put({TICKET: change(app.read(TICKET))})


def adjusted(app: App) -> MemoryTree:
    """A resource, the seal, and the seal's slot all adjusted: only the signature is left."""
    changed = app.read(app.resource) + b"payload"
    document = plistlib.loads(app.read(SEAL))
    document["files2"][app.resource.removeprefix("Contents/")]["hash2"] = hashlib.sha256(
        changed
    ).digest()
    seal = plistlib.dumps(document)
    data = app.read(app.main)
    for arch in [item.arch for item in macho.parse(data)]:
        code = Code(data, arch, app.other)
        raw = code_directory.parse(code.directory)
        offset = int.from_bytes(code.directory[16:20], "big")
        digest = code_directory.digest(seal, raw.hash_type)
        data = code.with_directory(offset - 3 * raw.hash_size, digest)
    return app.put({app.resource: changed, SEAL: seal, app.main: data})
