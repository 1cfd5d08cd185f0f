"""A stapled app with everything in it that apps have: nested app, tool, framework, links, locales.

Signed by the look-alike authority, universal as Apple's developers ship, and put together piece by
piece from the formats alone.
"""

from __future__ import annotations

import plistlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from release_tool.apple import bundle, code_directory, code_resources, signing
from release_tool.apple.code_resources import NestedCode
from release_tool.apple.facts import BundleReport
from release_tool.apple.signing import Authority, Intent, SignedCode
from release_tool.apple.tree import MemoryTree, Subtree, in_memory
from release_tool.apple.verification import Judge
from release_tool.rehearsal.ticket_signer import TicketSigner
from tests import macho_samples, signed_release

APP = "com.example.app"
MAIN = "Contents/MacOS/App"
TOOL = "Contents/Helpers/tool"
INNER = "Contents/Helpers/Inner.app"
INNER_MAIN = f"{INNER}/Contents/MacOS/Inner"
KIT = "Contents/Frameworks/Kit.framework"
RESOURCE = "Contents/Resources/icon.icns"
SECOND = "Contents/Library/LaunchAgents/agent.plist"
INFO = "Contents/Info.plist"
TICKET = "Contents/CodeResources"
_SEAL = code_resources.PATH


@dataclass(frozen=True)
class Made:
    """The files of an app under construction."""

    files: dict[str, bytes]
    links: dict[str, str]

    @property
    def tree(self) -> MemoryTree:
        return in_memory(self.files, links=self.links)


@lru_cache(maxsize=2)
def made(*, stapled: bool = True) -> MemoryTree:
    """The app, signed inside out."""
    authority = signed_release.signing_authority()
    app = Made(files=_files(), links=_links())
    nested = {
        "Helpers/tool": sign_file(app, TOOL, "com.example.tool", authority),
        "Helpers/Inner.app": sign_bundle(
            app, f"{INNER}/Contents", "MacOS/Inner", "com.example.inner", authority
        ),
    }
    for version in ("A", "B"):
        root = f"{KIT}/Versions/{version}"
        nested["Frameworks/Kit.framework"] = sign_bundle(
            app, root, "Kit", "com.example.kit", authority, info="Resources/Info.plist"
        )
    sign_bundle(app, "Contents", "MacOS/App", APP, authority, nested=nested)
    if stapled:
        app.files[TICKET] = ticket_for(app.tree)
    return app.tree


def signed_by(authority: Authority, identifier: str) -> bytes:
    """A lone universal tool."""
    return signing.sign(macho_samples.universal(), Intent(identifier=identifier), authority).data


def judged(tree: MemoryTree, *, strict: bool = False) -> BundleReport:
    """The app under its own roots."""
    judge = Judge(trust=signed_release.trust(), now=datetime.now(UTC), strict=strict)
    return bundle.verify(tree, judge=judge, path="The.app")


def ticket_for(tree: MemoryTree) -> bytes:
    """What the notary would issue for all code of the app."""
    facts = judged(tree).facts
    assert facts is not None
    cdhashes = [
        code_directory.cdhash(directory.raw)
        for report in facts.code.values()
        for item in report.slices
        for directory in item.directories
    ]
    return ticket_over(cdhashes)


def ticket_over(cdhashes: Sequence[bytes]) -> bytes:
    """A ticket for these, and as in real ones for others."""
    issued = datetime.now(UTC) - timedelta(minutes=5)
    return TicketSigner(signed_release.look_alike()).issue(cdhashes, issued)


def sign_file(app: Made, path: str, identifier: str, authority: Authority | None) -> NestedCode:
    signed = signing.sign(app.files[path], Intent(identifier=identifier), authority)
    app.files[path] = signed.data
    return _sealed(signed)


def sign_bundle(
    app: Made,
    contents: str,
    main: str,
    identifier: str,
    authority: Authority | None,
    *,
    info: str = "Info.plist",
    nested: dict[str, NestedCode] | None = None,
) -> NestedCode:
    """Seal a `Contents` folder or a framework's version, and sign its main executable."""
    inside = Subtree(tree=app.tree, prefix=contents)
    seal = code_resources.build(inside, nested or {}, main_executable=main)
    app.files[f"{contents}/{_SEAL}"] = seal
    intent = Intent(
        identifier=identifier, info_plist=app.files[f"{contents}/{info}"], code_resources=seal
    )
    signed = signing.sign(app.files[f"{contents}/{main}"], intent, authority)
    app.files[f"{contents}/{main}"] = signed.data
    return _sealed(signed)


def _sealed(code: SignedCode) -> NestedCode:
    return NestedCode(cdhash=code.cdhash, requirement_text=code.requirement_text)


def _info(identifier: str, name: str) -> bytes:
    values = {
        "CFBundleIdentifier": identifier,
        "CFBundleExecutable": name,
        "CFBundleShortVersionString": "1.0",
        "LSMinimumSystemVersion": "14.0",
    }
    return plistlib.dumps(values)


def _files() -> dict[str, bytes]:
    code = macho_samples.universal()
    found = {
        INFO: _info(APP, "App"),
        "Contents/PkgInfo": b"APPL????",
        MAIN: code,
        TOOL: code,
        RESOURCE: b"icns" + bytes(range(256)),
        "Contents/Resources/en.lproj/Localizable.strings": b'"a" = "b";\n',
        "Contents/Resources/Base.lproj/Main.nib": b"nib",
        SECOND: plistlib.dumps({"Label": "agent"}),
        f"{INNER}/{INFO}": _info("com.example.inner", "Inner"),
        f"{INNER}/Contents/PkgInfo": b"APPL????",
        INNER_MAIN: code,
    }
    for version in ("A", "B"):
        root = f"{KIT}/Versions/{version}"
        found[f"{root}/Kit"] = macho_samples.thin()
        found[f"{root}/Resources/Info.plist"] = _info("com.example.kit", "Kit")
        found[f"{root}/Resources/data"] = version.encode()
    return found


def _links() -> dict[str, str]:
    return {
        "Contents/Resources/latest": "icon.icns",
        f"{KIT}/Versions/Current": "B",
        f"{KIT}/Kit": "Versions/Current/Kit",
        f"{KIT}/Resources": "Versions/Current/Resources",
    }
