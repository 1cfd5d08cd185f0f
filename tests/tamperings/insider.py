"""What the developer's own key signed and no check of the signature can refuse: lies within."""

from __future__ import annotations

import plistlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

from release_tool.apple import entitlements, requirement, signing
from release_tool.apple.signing import Given, Intent
from release_tool.apple.tree import MemoryTree
from tests import nested_app
from tests.tamperings.app import INFO, SEAL, TICKET, App, AppTampering

Table = dict[str, Any]
_CLAIMS = {"com.apple.security.network.client": True}


def table() -> Iterator[AppTampering]:
    """Apps whose signatures hold, and which are refused all the same."""
    yield from _seals()
    yield from _links()
    yield from _code()


def _signed(
    app: App,
    *,
    seal: bytes | None = None,
    info: bytes | None = None,
    claims: bytes | None = None,
    given: Given | None = None,
    links: dict[str, str] | None = None,
) -> MemoryTree:
    """The app signed again by its owner, and without the ticket, which was for other code."""
    seal, info = seal or app.read(SEAL), info or app.read(INFO)
    intent = Intent(
        identifier=nested_app.APP,
        info_plist=info,
        code_resources=seal,
        entitlements=claims,
        given=given or Given(),
    )
    main = signing.sign(app.read(app.main), intent, app.owner).data
    return app.put({app.main: main, SEAL: seal, INFO: info, TICKET: None}, links)


def _sealing(
    app: App, change: Callable[[Table], object], links: dict[str, str] | None = None
) -> MemoryTree:
    document = plistlib.loads(app.read(SEAL))
    change(document)
    return _signed(app, seal=plistlib.dumps(document), links=links)


def _seals() -> Iterator[AppTampering]:
    def sealing(name: str, change: Callable[[Table], object], caught_by: str) -> AppTampering:
        return AppTampering(f"signed: {name}", lambda app: _sealing(app, change), caught_by)

    def rule(name: str, pattern: str, value: object) -> AppTampering:
        def change(document: Table) -> None:
            document["rules2"][pattern] = value

        return sealing(name, change, "resource rules")

    omitted = {"omit": True, "weight": 5000.0}
    yield rule("a rule that omits resources", "^Resources/", omitted)
    yield rule("a rule that omits libraries", r"^Frameworks/.*\.dylib$", omitted)
    yield rule("a rule that omits, of endless weight", "^x", {"omit": True, "weight": float("inf")})
    yield rule("everything optional", "^.*", {"optional": True})
    yield sealing(
        "a rule that takes for ever",
        lambda d: d["rules2"].update({"^(a+)+$": omitted}),
        "resource seal",
    )
    yield sealing(
        "a weight that is no number",
        lambda d: d["rules2"].update({"^x": {"omit": True, "weight": "9"}}),
        "resource seal",
    )
    yield sealing(
        "an entry outside the app",
        lambda d: d["files2"].update({"../extra": {"hash2": bytes(32)}}),
        "sealed file",
    )
    yield sealing(
        "an entry with an empty digest",
        lambda d: d["files2"].update({"Resources/icon.icns": {"hash2": b""}}),
        "sealed file",
    )
    yield sealing(
        "a resource called code",
        lambda d: d["files2"]["Resources/icon.icns"].update(requirement="always"),
        "nested code",
    )
    yield AppTampering("signed: a path twice in the seal", _path_twice, "resource seal")
    yield AppTampering("signed: a binary seal", _binary_seal, "resource seal")
    yield AppTampering(
        "signed: code that need not be any, and is somebody's", _any_tool, "nested cdhash"
    )


def _path_twice(app: App) -> MemoryTree:
    """Readers differ in which of the two they take."""
    key = b"<key>Resources/icon.icns</key>"
    other = b"<dict><key>hash2</key><data>" + b64encode(bytes(32)) + b"</data></dict>"
    return _signed(app, seal=app.read(SEAL).replace(key, key + other + key))


def _binary_seal(app: App) -> MemoryTree:
    document = plistlib.loads(app.read(SEAL))
    return _signed(app, seal=plistlib.dumps(document, fmt=plistlib.FMT_BINARY))


def _any_tool(app: App) -> MemoryTree:
    def change(document: Table) -> None:
        document["files2"]["Helpers/tool"].update(requirement="always")

    tree = _sealing(app, change)
    intent = Intent(identifier="com.example.tool")
    stranger = signing.sign(app.read(app.tool), intent, app.impostor).data
    return MemoryTree(files={**tree.files, app.tool: stranger}, links=tree.links, modes=tree.modes)


def _links() -> Iterator[AppTampering]:
    def linking(name: str, **links: str) -> AppTampering:
        def change(document: Table) -> None:
            sealed = {f"Resources/{key}": {"symlink": target} for key, target in links.items()}
            document["files2"].update(sealed)

        there = {f"Contents/Resources/{key}": target for key, target in links.items()}
        return AppTampering(
            f"signed: {name}", lambda app: _sealing(app, change, links=there), "sealed link"
        )

    yield linking("a link to an absolute place", evil="/tmp/x")
    yield linking("a link that climbs out", evil="../../../x")
    yield linking("a link that climbs out on a way round", evil="a/../../../../x")
    yield linking("a link out of the system's folder", evil="/System/../tmp/x")
    yield linking("a link out through another one", up="..", evil="up/../../x")
    yield linking("links in a circle", one="two", two="one")


def _code() -> Iterator[AppTampering]:
    def required(text: str) -> AppTampering:
        given = Given(requirements=requirement.encode_set({3: requirement.parse_text(text)}))
        return AppTampering(
            f"signed: requires {text}",
            lambda app: _signed(app, given=given),
            "designated requirement",
        )

    yield required("never")
    yield required("anchor apple")
    yield required('identifier "com.example.other"')
    yield required('cdhash H"0000000000000000000000000000000000000000"')
    yield AppTampering("signed: entitlements of two minds", _two_minds, "entitlements")
    yield AppTampering("signed: a key twice in Info.plist", _key_twice, "bundle")


def _two_minds(app: App) -> MemoryTree:
    """The kernel reads the DER, older readers the XML."""
    der = entitlements.der_blob({"com.apple.security.get-task-allow": True})
    return _signed(app, claims=plistlib.dumps(_CLAIMS), given=Given(entitlements_der=der))


def _key_twice(app: App) -> MemoryTree:
    key = b"<key>CFBundleExecutable</key>"
    return _signed(app, info=app.read(INFO).replace(key, key + b"<string>evil</string>" + key))
