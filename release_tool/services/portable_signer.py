"""Sign Mach-O files and app bundles on disk, on any host, without Apple's tools.

Inside out: nested code, then the seal that names it, then the main executable that carries the
seal's digest. A file is replaced by rename and never overwritten: macOS caches signatures by
inode and kills code whose bytes changed in place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from release_tool import errors
from release_tool.apple import (
    code_directory,
    code_objects,
    code_resources,
    identifiers,
    macho,
    property_list,
    signing,
)
from release_tool.apple.code_objects import Bundle, CodeObject
from release_tool.apple.code_resources import NestedCode
from release_tool.apple.signing import Authority, SignedCode
from release_tool.files import atomic
from release_tool.files.tree import DiskTree

_CONTENTS = "Contents"
_INFO_PLIST = "Contents/Info.plist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Executable:
    """One executable to sign, and as what."""

    path: str
    """Relative to the app: `Contents/MacOS/darkbloom`."""
    identifier: str = ""
    """Empty for the one that codesign derives."""
    entitlements: bytes | None = field(default=None, repr=False)
    """A property list; None for an executable without entitlements."""
    hardened_runtime: bool = True


Choose = Callable[[CodeObject], Executable | None]
"""Says as what a code object is signed; None refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One code object that would be signed, and as what."""

    code: CodeObject
    executable: Executable
    flags: int
    """Of its code directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedExecutable:
    """What was signed; the bytes lie on disk."""

    path: str
    identifier: str
    team_id: str | None
    """None for an ad-hoc signature."""
    slices: tuple[signing.SignedSlice, ...]
    requirement: str
    """The designated requirement in source form."""


def sign_file(
    path: Path,
    *,
    identifier: str = "",
    entitlements: bytes | None = None,
    hardened_runtime: bool = True,
    authority: Authority | None = None,
) -> SignedExecutable:
    """Sign a Mach-O file that belongs to no bundle.

    Args:
        path: the file; it is replaced by a new one of the same mode.
        identifier: the code's signing identifier; empty for the one that codesign derives.
        entitlements: a property list, sealed verbatim; None for none.
        hardened_runtime: whether to set the flag that notarization asks for.
        authority: identity, time and timestamp service; None signs ad-hoc.

    Raises:
        FormatError: not a Mach-O that can be signed.
        CredentialError: the identity names no team, its chain is not known, or it is not valid.
    """
    _require_valid(authority)
    view = DiskTree(path.parent).view(path.name)
    if not identifier:
        identifier = identifiers.of_tool(path.name, macho.parse(view), adhoc=authority is None)
    executable = Executable(
        path=path.name,
        identifier=identifier,
        entitlements=entitlements,
        hardened_runtime=hardened_runtime,
    )
    signed = _signed(executable.path, view, _intent(executable), authority)
    _replace(path, signed)
    return _told(executable, signed)


def sign_app(
    app: Path,
    *,
    main: Executable,
    nested: Sequence[Executable] = (),
    authority: Authority | None = None,
    data: Collection[str] | None = None,
) -> tuple[SignedExecutable, ...]:
    """Sign an app bundle inside out.

    Args:
        app: the bundle; its files are replaced one by one, so hand over a copy.
        main: the executable that `Info.plist` names; it carries the seal.
        nested: all other code of the bundle.
        authority: identity, time and timestamp service; None signs ad-hoc.
        data: files in code places that are no code and are sealed as data; None for any.

    Returns:
        What was signed, the main executable last.

    Raises:
        VerificationError: `Info.plist` names another executable or identifier, or code lies in
            the bundle that is not among `nested`.
        FormatError: not a Mach-O that can be signed.
        CredentialError: the identity names no team, its chain is not known, or it is not valid.
    """
    tree = DiskTree(app)
    _require_agreement(tree.read(_INFO_PLIST), main)
    wanted = {executable.path: executable for executable in (*nested, main)}
    _require_code(tree, wanted)
    return sign_bundle(app, lambda code: wanted.get(code.path), authority=authority, data=data)


def sign_bundle(
    root: Path,
    choose: Choose,
    *,
    authority: Authority | None = None,
    data: Collection[str] | None = (),
) -> tuple[SignedExecutable, ...]:
    """Sign a bundle with everything in it, inside out.

    Args:
        root: the bundle; its files are replaced one by one, so hand over a copy.
        choose: says as what each code object is signed; all are asked before anything changes.
        authority: identity, time and timestamp service; None signs ad-hoc.
        data: files in code places that are no code and are sealed as data; None for any.

    Returns:
        What was signed, the bundle's own executable last.

    Raises:
        VerificationError: something in it cannot be signed, or `choose` refuses it.
        FormatError: a Mach-O or a property list is malformed.
        CredentialError: the identity names no team, its chain is not known, or it is not valid.
    """
    _require_valid(authority)
    done: list[SignedExecutable] = []
    sealed: dict[str, NestedCode] = {}
    for planned in plan_bundle(root, choose, adhoc=authority is None, data=data):
        signed = _sign(root, planned, sealed, authority)
        if planned.code.named_as:
            sealed[planned.code.named_as] = NestedCode(
                cdhash=signed.cdhash, requirement_text=signed.requirement_text
            )
        done.append(_told(planned.executable, signed))
    return tuple(done)


def plan_bundle(
    root: Path,
    choose: Choose,
    *,
    adhoc: bool = False,
    data: Collection[str] | None = (),
) -> tuple[Planned, ...]:
    """What `sign_bundle` would sign, in its order; nothing is changed.

    Raises:
        VerificationError: something in it cannot be signed, or `choose` refuses it.
        FormatError: a Mach-O or a property list is malformed.
    """
    found = code_objects.discover(DiskTree(root), name=root.name, data=data)
    chosen = [(code, choose(code)) for code in found]
    refused = [code.path for code, executable in chosen if executable is None]
    if refused:
        raise errors.VerificationError(
            "is code that nobody asked to sign",
            subject=refused[0],
            observed=f"so are {', '.join(refused[1:])}" if refused[1:] else "",
            hint="name every executable of the bundle, or take it out",
        )
    return tuple(
        _planned(code, executable, adhoc=adhoc)
        for code, executable in chosen
        if executable is not None
    )


def plan_files(root: Path, executables: Sequence[Executable]) -> tuple[Planned, ...]:
    """What `sign_file` would sign of a folder of bare executables; nothing is changed.

    Raises:
        FormatError: one of them is no Mach-O.
    """
    tree = DiskTree(root)
    return tuple(
        _planned(
            CodeObject(path=one.path, slices=tuple(macho.parse(tree.view(one.path)))),
            one,
            adhoc=False,
        )
        for one in executables
    )


def _planned(code: CodeObject, executable: Executable, *, adhoc: bool) -> Planned:
    if executable.entitlements is not None and not code.is_executable:
        raise errors.VerificationError(
            "only a main executable can carry entitlements", subject=code.path
        )
    identifier = executable.identifier or code.identifier(adhoc=adhoc)
    flags = code_directory.RUNTIME if executable.hardened_runtime else 0
    return Planned(
        code=code,
        executable=replace(executable, identifier=identifier),
        flags=flags | (code_directory.ADHOC if adhoc else 0),
    )


def _sign(
    root: Path,
    planned: Planned,
    nested: dict[str, NestedCode],
    authority: Authority | None,
) -> SignedCode:
    code, executable, tree = planned.code, planned.executable, DiskTree(root)
    view = tree.view(code.path)
    bundle = code.bundle
    if bundle is None:
        signed = _signed(code.path, view, _intent(executable), authority)
        _replace(root / code.path, signed)
        return signed
    seal = _seal(root, code, bundle, nested)
    intent = _intent(
        executable, info_plist=tree.read(bundle.at(bundle.layout.info)), code_resources=seal
    )
    # Asking for a timestamp may fail, so nothing is written before.
    signed = _signed(code.path, view, intent, authority)
    _write_seal(root / bundle.contents, seal)
    _replace(root / code.path, signed)
    return signed


def _seal(root: Path, code: CodeObject, bundle: Bundle, nested: dict[str, NestedCode]) -> bytes:
    prefix = bundle.prefix
    try:
        return code_resources.build(
            DiskTree(root / bundle.contents),
            {
                path.removeprefix(prefix): one
                for path, one in nested.items()
                if path.startswith(prefix)
            },
            main_executable=code.path.removeprefix(prefix),
            resources=bundle.layout.resources,
            with_sha1=code_directory.SHA1 in signing.digests_for(code.slices),
        )
    except errors.VerificationError as problem:
        problem.subject = f"{prefix}{problem.subject}"
        raise


def _signed(
    path: str, view: memoryview, intent: signing.Intent, authority: Authority | None
) -> SignedCode:
    try:
        return signing.sign(view, intent, authority)
    except errors.ReleaseError as problem:
        problem.subject = problem.subject or path
        raise


def _replace(path: Path, signed: SignedCode) -> None:
    with atomic.naming(path, "read"):
        mode = stat.S_IMODE(path.stat(follow_symlinks=False).st_mode)
    with atomic.new_file(path, mode=mode) as target:
        target.writelines(signed.chunks)


def _intent(
    executable: Executable,
    *,
    info_plist: bytes | None = None,
    code_resources: bytes | None = None,
) -> signing.Intent:
    return signing.Intent(
        identifier=executable.identifier,
        hardened_runtime=executable.hardened_runtime,
        entitlements=executable.entitlements,
        info_plist=info_plist,
        code_resources=code_resources,
    )


def _write_seal(contents: Path, seal: bytes) -> None:
    """Write the seal; what an older signature left beside it goes, as codesign takes it away."""
    path = contents / code_resources.PATH
    with atomic.naming(path.parent, "make"):
        path.parent.mkdir(mode=0o755, exist_ok=True)
        with os.scandir(path.parent) as listing:
            others = [item for item in listing if item.name != path.name]
        for item in others:
            if not item.is_file(follow_symlinks=False):
                raise errors.VerificationError("lies where only a signature may", subject=item.path)
            Path(item.path).unlink()
    atomic.write_atomically(path, seal)


def _require_agreement(info_plist: bytes, main: Executable) -> None:
    values = property_list.parse_any(info_plist)
    named = values.get("CFBundleExecutable")
    if main.path != f"Contents/MacOS/{named}":
        raise errors.VerificationError(
            "names another main executable",
            subject=_INFO_PLIST,
            expected=main.path,
            observed=str(named)[:200],
        )
    if values.get("CFBundleIdentifier") != main.identifier:
        raise errors.VerificationError(
            "names another identifier than the main executable is signed with",
            subject=_INFO_PLIST,
            expected=main.identifier,
            observed=str(values.get("CFBundleIdentifier"))[:200],
        )


def _require_code(tree: DiskTree, wanted: Collection[str]) -> None:
    """Refuse a named executable that is missing or no Mach-O."""
    for path in wanted:
        try:
            macho.parse(tree.view(path))
        except errors.VerificationError as problem:
            problem.subject = path
            raise


def _require_valid(authority: Authority | None) -> None:
    if authority is not None:
        authority.identity.require_valid(authority.signing_time)


def _told(executable: Executable, code: SignedCode) -> SignedExecutable:
    return SignedExecutable(
        path=executable.path,
        identifier=executable.identifier,
        team_id=code.team_id,
        slices=code.slices,
        requirement=code.requirement_text,
    )
