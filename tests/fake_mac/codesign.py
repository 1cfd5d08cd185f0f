"""Stands in for `/usr/bin/codesign`: refuses as it does, and signs with our own signer.

So what it writes proves nothing about Apple's codesign; it lets everything behind it be real.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fake_mac.play import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from release_tool.apple.code_resources import NestedCode
    from release_tool.apple.signing import Authority
    from release_tool.apple.tree import BundleTree

_SIGN = {
    "--force": 0,
    "--options": 1,
    "--identifier": 1,
    "--sign": 1,
    "--keychain": 1,
    "--timestamp": 0,
    "--timestamp=none": 0,
    "--entitlements": 1,
}
_XATTR = "com.apple.cs." if sys.platform == "darwin" else "user.com.apple.cs."


def answer(stage: Stage, argv: list[str]) -> None:
    """One start."""
    stage.record(argv)
    if argv[:4] == ["--verify", "--deep", "--strict", "--verbose=2"] and len(argv) == 5:
        stage.fault("codesign --verify")
        sys.stderr.write(f"{argv[4]}: valid on disk\n{argv[4]}: satisfies its Requirement\n")
    elif argv[:5] == ["--display", "--verbose=4", "--entitlements", "-", "--xml"]:
        stage.fault("codesign --display")
        _display(stage, Path(argv[5]))
    else:
        _sign(stage, argv)


def _sign(stage: Stage, argv: list[str]) -> None:
    path, options = Path(argv[-1]), {}
    rest = argv[:-1]
    while rest:
        name = rest.pop(0)
        if name not in _SIGN or name in options:
            stage.usage(argv)
        options[name] = rest.pop(0) if _SIGN[name] else ""
    ad_hoc = options.get("--sign") == "-"
    stamped = "--timestamp=none" if ad_hoc else "--timestamp"
    wanted = {"--force", "--options", "--identifier", "--sign", stamped}
    if not wanted <= set(options) or options["--options"] != "runtime" or not path.is_absolute():
        stage.usage(argv)
    entitlements = options.get("--entitlements")
    if entitlements and Path(entitlements).stat().st_mode & 0o077:
        stage.usage([*argv, "others can read the entitlements"])
    stage.fault("codesign --sign")
    if not ad_hoc:
        _find(stage, path, options)
    # Other tools may work meanwhile, as the timestamp service does.
    stage.with_packages()
    _write(stage, path, options, None if ad_hoc else _authority(stage))


def _find(stage: Stage, path: Path, options: dict[str, str]) -> None:
    """The identity, where codesign would look for it and where it may use its key."""
    wanted, place = options["--sign"], options.get("--keychain")
    for keychain in [place] if place else stage.state["search"]:
        known = stage.state["keychains"].get(keychain, {})
        for sha1, _ in known.get("identities", ()):
            if sha1 == wanted and keychain in stage.state["search"]:
                if "codesign:" not in known["partitions"] or not known["unlocked"]:
                    stage.leave(1, f"{path}: errSecInternalComponent")
                return
    stage.leave(1, "error: The specified item could not be found in the keychain.")


def _authority(stage: Stage) -> Authority:
    from datetime import UTC, datetime

    from release_tool.apple import certificates, identity, signing
    from release_tool.services.timestamp import TimestampService

    data = (stage.root / "imported.p12").read_bytes()
    found = identity.load(data, (stage.root / "imported.password").read_text())
    trust = certificates.Trust(name="look-alike", roots=found.chain[-1:])
    service = TimestampService(url=stage.state["timestamp_url"], trust=trust)
    now = datetime.now(UTC).replace(microsecond=0)
    return signing.Authority(identity=found, signing_time=now, timestamp=service.stamp)


def _write(stage: Stage, path: Path, options: dict[str, str], authority: Authority | None) -> None:
    from release_tool.apple import code_resources
    from release_tool.services import portable_signer

    claims = options.get("--entitlements")
    entitlements = Path(claims).read_bytes() if claims else None
    identifier = options["--identifier"]
    if path.is_dir():
        _write_app(stage, path, identifier, entitlements, authority)
    elif code_resources.is_code(path.read_bytes()[:4]):
        portable_signer.sign_file(
            path, identifier=identifier, entitlements=entitlements, authority=authority
        )
    else:
        _write_beside(path, identifier, authority)


def _write_app(
    stage: Stage,
    app: Path,
    identifier: str,
    entitlements: bytes | None,
    authority: Authority | None,
) -> None:
    import plistlib

    from release_tool.apple import code_resources, signing
    from release_tool.apple.tree import Subtree
    from release_tool.files.tree import DiskTree

    info = (app / "Contents/Info.plist").read_bytes()
    main = f"MacOS/{plistlib.loads(info)['CFBundleExecutable']}"
    tree = Subtree(tree=DiskTree(app), prefix="Contents")
    nested: dict[str, NestedCode] = {}
    for path in sorted((app / "Contents/MacOS").iterdir()):
        inner = f"MacOS/{path.name}"
        if inner != main:
            nested[inner] = _nested(stage, app, tree, inner)
    seal = code_resources.build(tree, nested, main_executable=main)
    folder = app / "Contents/_CodeSignature"
    folder.mkdir(exist_ok=True)
    (folder / "CodeResources").write_bytes(seal)
    intent = signing.Intent(
        identifier=identifier, entitlements=entitlements, info_plist=info, code_resources=seal
    )
    signed = signing.sign((app / "Contents" / main).read_bytes(), intent, authority)
    (app / "Contents" / main).write_bytes(b"".join(signed.chunks))


def _nested(stage: Stage, app: Path, tree: BundleTree, inner: str) -> NestedCode:
    """What the seal says of signed code: its cdhash and its designated requirement."""
    from release_tool.apple import code_directory, macho, requirement, superblob
    from release_tool.apple.code_resources import NestedCode, is_code

    view = tree.view(inner)
    if is_code(bytes(view[:4])):
        blob = superblob.parse(macho.parse(view)[0].signature_bytes or b"")
        directory, rules = blob.code_directories[0], blob.get(superblob.SLOT_REQUIREMENTS)
    else:
        parts = tree.detached(inner)
        if not parts:
            stage.leave(
                1,
                f"{app}: code object is not signed at all\nIn subcomponent: {app}/Contents/{inner}",
            )
        directory, rules = parts["CodeDirectory"], parts["CodeRequirements"]
    cdhash = code_directory.cdhash(directory)
    designated = requirement.designated(requirement.parse_set(rules or b""), [cdhash])
    return NestedCode(cdhash=cdhash, requirement_text=requirement.to_text(designated))


def _write_beside(path: Path, identifier: str, authority: Authority | None) -> None:
    """A signature in extended attributes, as what is no Mach-O gets it."""
    import os

    for name, content in beside(path.read_bytes(), identifier, authority).items():
        os.setxattr(path, f"{_XATTR}{name}", content)


def beside(data: bytes, identifier: str, authority: Authority | None) -> dict[str, bytes]:
    """The parts of a signature over data."""
    import hashlib
    from dataclasses import replace

    from release_tool.apple import (
        code_directory,
        code_directory_builder,
        code_signature,
        requirement,
        superblob,
    )

    team = authority.identity.team_id if authority else None
    rules = (
        requirement.designated_developer_id(identifier, team)
        if team
        else requirement.encode_set({})
    )
    planned = code_directory_builder.planned(
        hash_type=code_directory.SHA256,
        page_size_log2=12,
        code_limit=len(data),
        identifier=identifier,
        team_id=team,
        flags=code_directory.RUNTIME | (0 if authority else code_directory.ADHOC),
        special={superblob.SLOT_REQUIREMENTS: code_directory.digest(rules, code_directory.SHA256)},
        exec_segment=(0, 0, 0),
        runtime=0,
    )
    pages = tuple(
        hashlib.sha256(data[start : start + 4096]).digest() for start in range(0, len(data), 4096)
    )
    directory = code_directory.encode(replace(planned, code_hashes=pages))
    parts = {"CodeDirectory": directory, "CodeRequirements": rules, "CodeSignature": b""}
    if authority is not None:
        parts["CodeSignature"] = code_signature.build_cms(
            [directory],
            identity=authority.identity,
            signing_time=authority.signing_time,
            timestamp=authority.timestamp,
        )
    return parts


def _display(stage: Stage, app: Path) -> None:
    """The words of `codesign -d --verbose=4`, of what lies in the file."""
    stage.with_packages()
    import plistlib

    from release_tool.apple import certificates, cms, code_directory, macho, superblob

    main, bare = app, app.is_file()
    if not bare:
        info = plistlib.loads((app / "Contents/Info.plist").read_bytes())
        main = app / "Contents/MacOS" / info["CFBundleExecutable"]
    blob = superblob.parse(macho.parse(main.read_bytes())[0].signature_bytes or b"")
    raw = blob.code_directories[0]
    directory = code_directory.parse(raw)
    full = code_directory.full_digest(raw).hex()
    content = superblob.unwrap(blob.get(superblob.SLOT_CMS) or b"", superblob.MAGIC_WRAPPER)
    held = map(certificates.load, cms.parse(content).certificates)
    names = [certificates.display_name(one) for one in held]
    lines = [
        f"Executable={main}",
        f"Identifier={directory.identifier}",
        f"Format={'' if bare else 'app bundle with '}Mach-O thin (arm64)",
        f"CodeDirectory v={directory.version:x} size={len(raw)} flags={directory.flags:#x}(runtime)"
        f" hashes={len(directory.code_hashes)}+{directory.special_slots} location=embedded",
        "Hash type=sha256 size=32",
        f"CandidateCDHash sha256={full[:40]}",
        f"CandidateCDHashFull sha256={full}",
        "Hash choices=sha256",
        f"CMSDigest={full}",
        "CMSDigestType=2",
        f"CDHash={full[:40]}",
        "Signature size=8975",
        # The leaf stands last in the CMS and first here.
        *(f"Authority={name}" for name in reversed(names)),
        "Timestamp=26 Nov 2026 at 20:00:00",
        f"TeamIdentifier={directory.team_id}",
        "Runtime Version=14.0.0",
        "Sealed Resources=none" if bare else "Sealed Resources version=2 rules=13 files=3",
        "Internal requirements count=1 size=188",
    ]
    sys.stderr.write("\n".join(lines) + "\n")
