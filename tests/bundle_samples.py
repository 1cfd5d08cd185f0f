"""Bundles for tests: every kind that lies in a real app, made of the committed samples."""

from __future__ import annotations

import plistlib
import struct
from collections.abc import Mapping
from pathlib import Path

from tests import macho_samples

DYLIB, PLUG_IN = 6, 8
IDENTIFIER = "io.example.app"
FRAMEWORK = "Contents/Frameworks/Kit.framework"


def code(file_type: int = 2, name: str = macho_samples.ARM) -> bytes:
    """A sample as an executable, a library or a plug-in."""
    data = bytearray(macho_samples.unsigned(name))
    struct.pack_into("<I", data, 12, file_type)
    return bytes(data)


def info(executable: str, identifier: str, **more: object) -> bytes:
    values = {"CFBundleExecutable": executable, "CFBundleIdentifier": identifier}
    return plistlib.dumps({**values, **more})


def write(root: Path, files: Mapping[str, bytes], links: Mapping[str, str]) -> None:
    """Lay out files and links; Mach-O files may be executed."""
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o755 if content[:4] in (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe") else 0o644)
    for path, to in links.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(to)


def framework(root: str = FRAMEWORK, *, version: str = "A") -> dict[str, bytes]:
    """One version of a framework, with an XPC service and a helper in it."""
    base = f"{root}/Versions/{version}"
    service = f"{base}/XPCServices/Fetch.xpc/Contents"
    return {
        f"{base}/Kit": code(DYLIB),
        f"{base}/Resources/Info.plist": info("Kit", "io.example.kit"),
        f"{base}/Resources/en.lproj/Kit.strings": b"kit",
        f"{base}/Helpers/kit-helper": code(),
        f"{service}/Info.plist": info("Fetch", "io.example.kit.fetch"),
        f"{service}/MacOS/Fetch": code(),
    }


FRAMEWORK_LINKS = {
    f"{FRAMEWORK}/Versions/Current": "A",
    f"{FRAMEWORK}/Kit": "Versions/Current/Kit",
    f"{FRAMEWORK}/Resources": "Versions/Current/Resources",
}


def app() -> tuple[dict[str, bytes], dict[str, str]]:
    """An app with a bundle of each kind in it: its files and its links."""
    nested = "Contents/Helpers/Agent.app/Contents"
    login = "Contents/Library/LoginItems/Start.app/Contents"
    return {
        "Contents/Info.plist": info("main", IDENTIFIER),
        "Contents/PkgInfo": b"APPL????",
        "Contents/embedded.provisionprofile": b"a profile",
        "Contents/MacOS/main": macho_samples.universal(),
        "Contents/MacOS/tool": code(),
        "Contents/Frameworks/libfrotz7.3.5.dylib": code(DYLIB),
        **framework(),
        f"{nested}/Info.plist": info("Agent", "io.example.agent"),
        f"{nested}/embedded.provisionprofile": b"another profile",
        f"{nested}/MacOS/Agent": code(),
        f"{nested}/Resources/icon.icns": b"icon",
        f"{login}/Info.plist": info("Start", "io.example.start"),
        f"{login}/MacOS/Start": code(),
        "Contents/PlugIns/Extra.plugin/Contents/Info.plist": info("Extra", "io.example.extra"),
        "Contents/PlugIns/Extra.plugin/Contents/MacOS/Extra": code(PLUG_IN),
        "Contents/XPCServices/Work.xpc/Contents/Info.plist": info("Work", "io.example.work"),
        "Contents/XPCServices/Work.xpc/Contents/MacOS/Work": code(),
        "Contents/Resources/en.lproj/Main.strings": b"main",
        "Contents/Resources/en.lproj/locversion.plist": b"version",
        "Contents/Resources/Base.lproj/Main.nib": b"nib",
        "Contents/Resources/Media.bundle/Contents/Info.plist": plistlib.dumps({"x": 1}),
        "Contents/Resources/Media.bundle/Contents/Resources/sound": b"sound",
        "Contents/Resources/script.sh": b"#!/bin/sh\n",
        "Contents/Resources/worker": code(),
        "Contents/Resources/.DS_Store": b"finder",
        "Contents/version.plist": b"version",
    }, dict(FRAMEWORK_LINKS)
