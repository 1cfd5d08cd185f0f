"""Tamperings of a framework with several versions: of our own app, whose parts are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from release_tool.apple.signing import Authority
from release_tool.apple.tree import MemoryTree
from tests import macho_samples, nested_app
from tests.nested_app import KIT, Made
from tests.tamperings.app import App, AppTampering

_VERSIONS = f"{KIT}/Versions"


def table() -> Iterator[AppTampering]:
    """Changes of versions, of the links between them, and of what lies beside."""
    yield from _added_versions()
    yield from _links()
    yield from _versions()


def _added_versions() -> Iterator[AppTampering]:
    requirement = "nested requirement"

    def added(name: str, sign: Callable[[App], Authority | None], identifier: str) -> AppTampering:
        return AppTampering(
            f"framework: a version {name}",
            lambda app: _with_version(app, sign(app), identifier),
            requirement,
        )

    yield added("by nobody", lambda _: None, "com.example.kit")
    yield added("by another developer", lambda app: app.impostor, "com.example.kit")
    yield added("of other code", lambda app: app.owner, "com.example.evil")


def _with_version(app: App, authority: Authority | None, identifier: str) -> MemoryTree:
    """One more version that holds by itself: dyld loads whichever a load command names."""
    made = Made(files=dict(app.tree.files), links=dict(app.tree.links))
    root = f"{_VERSIONS}/C"
    made.files[f"{root}/Kit"] = macho_samples.thin()
    made.files[f"{root}/Resources/Info.plist"] = made.files[f"{_VERSIONS}/A/Resources/Info.plist"]
    info = "Resources/Info.plist"
    nested_app.sign_bundle(made, root, "Kit", identifier, authority, info=info)
    return made.tree


def _links() -> Iterator[AppTampering]:
    def linked(name: str, path: str, target: str, caught_by: str) -> AppTampering:
        where = f"{KIT}/{path}"
        return AppTampering(
            f"framework: {name}", lambda app: app.put({}, {where: target}), caught_by
        )

    yield linked("another version made current", "Versions/Current", "A", "nested cdhash")
    yield linked("no version current", "Versions/Current", "C", "bundle")
    yield linked("the current version elsewhere", "Versions/Current", "/Library/B", "bundle")
    yield linked("the current version above", "Versions/Current", "../../../MacOS", "bundle")
    yield linked("its code of the other version", "Kit", "Versions/A/Kit", "bundle root")
    yield linked("its code elsewhere", "Kit", "/Library/Kit", "bundle root")
    yield linked("a link beside its own", "Evil", "Versions/Current/Resources/data", "bundle root")
    yield linked("a version elsewhere", "Versions/C", "/Library/C", "bundle root")


def _versions() -> Iterator[AppTampering]:
    def put(name: str, files: dict[str, bytes | None], caught_by: str) -> AppTampering:
        return AppTampering(f"framework: {name}", lambda app: app.put(files), caught_by)

    other = f"{_VERSIONS}/A"
    seal = f"{other}/_CodeSignature/CodeResources"
    yield put("the other version's data", {f"{other}/Resources/data": b"evil"}, "sealed file")
    yield put("the other version's code gone", {f"{other}/Kit": None}, "main executable")
    yield put("the other version's seal gone", {seal: None}, "resource seal")
    yield put("a file beside the versions", {f"{_VERSIONS}/extra": b"x"}, "bundle root")
    yield put("a file in its root", {f"{KIT}/extra": b"x"}, "bundle root")
    yield put("contents as an app has", {f"{KIT}/Contents/Info.plist": b"x"}, "bundle")
    yield AppTampering("framework: the versions exchanged", _exchanged, "nested cdhash")


def _exchanged(app: App) -> MemoryTree:
    names = {f"{_VERSIONS}/A/": f"{_VERSIONS}/B/", f"{_VERSIONS}/B/": f"{_VERSIONS}/A/"}
    moved = {
        new + path.removeprefix(old): content
        for old, new in names.items()
        for path, content in app.tree.files.items()
        if path.startswith(old)
    }
    return app.put({**moved})
