"""Sign Mach-O files and app bundles on disk, on any host, without Apple's tools.

Inside out: nested code, then the seal that names it, then the main executable that carries the
seal's digest. A file is replaced by rename and never overwritten: macOS caches signatures by
inode and kills code whose bytes changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from release_tool import errors
from release_tool.apple import code_resources, property_list, signing
from release_tool.apple.code_resources import NestedCode
from release_tool.apple.signing import Authority, SignedCode
from release_tool.apple.tree import BundleTree, Subtree
from release_tool.files import atomic
from release_tool.files.tree import DiskTree

_CONTENTS = "Contents"
_INFO_PLIST = "Contents/Info.plist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Executable:
    """One executable to sign, and as what."""

    path: str
    """Relative to the app: `Contents/MacOS/darkbloom`."""
    identifier: str
    entitlements: bytes | None = field(default=None, repr=False)
    """A property list; None for an executable without entitlements."""
    hardened_runtime: bool = True


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
    identifier: str,
    entitlements: bytes | None = None,
    hardened_runtime: bool = True,
    authority: Authority | None = None,
) -> SignedExecutable:
    """Sign a Mach-O file that belongs to no bundle.

    Args:
        path: the file; it is replaced by a new one of the same mode.
        identifier: the code's signing identifier.
        entitlements: a property list, sealed verbatim; None for none.
        hardened_runtime: whether to set the flag that notarization asks for.
        authority: identity, time and timestamp service; None signs ad-hoc.

    Raises:
        FormatError: not a Mach-O that can be signed.
        CredentialError: the identity names no team, its chain is not known, or it is not valid.
    """
    _require_valid(authority)
    executable = Executable(
        path=path.name,
        identifier=identifier,
        entitlements=entitlements,
        hardened_runtime=hardened_runtime,
    )
    return _told(executable, _sign(path.parent, executable, _intent(executable), authority))


def sign_app(
    app: Path,
    *,
    main: Executable,
    nested: Sequence[Executable] = (),
    authority: Authority | None = None,
) -> tuple[SignedExecutable, ...]:
    """Sign an app bundle inside out.

    Args:
        app: the bundle; its files are replaced one by one, so hand over a copy.
        main: the executable that `Info.plist` names; it carries the seal.
        nested: all other code of the bundle.
        authority: identity, time and timestamp service; None signs ad-hoc.

    Returns:
        What was signed, the main executable last.

    Raises:
        VerificationError: `Info.plist` names another executable or identifier, or code lies in
            the bundle that is not among `nested`.
        FormatError: not a Mach-O that can be signed.
        CredentialError: the identity names no team, its chain is not known, or it is not valid.
    """
    _require_valid(authority)
    tree = DiskTree(app)
    info_plist = tree.read(_INFO_PLIST)
    _require_agreement(info_plist, main)
    done = [_sign_nested(app, executable, authority) for executable in nested]
    seal = code_resources.build(
        Subtree(tree=tree, prefix=_CONTENTS),
        {_in_contents(executable.path): _as_sealed(code) for executable, code in done},
        main_executable=_in_contents(main.path),
    )
    _write_seal(app, seal)
    intent = _intent(main, info_plist=info_plist, code_resources=seal)
    done.append((main, _sign(app, main, intent, authority)))
    return tuple(_told(executable, code) for executable, code in done)


def _sign_nested(
    app: Path, executable: Executable, authority: Authority | None
) -> tuple[Executable, SignedCode]:
    return executable, _sign(app, executable, _intent(executable), authority)


def _sign(
    root: Path, executable: Executable, intent: signing.Intent, authority: Authority | None
) -> SignedCode:
    tree = DiskTree(root)
    mode = _mode(tree, executable.path)
    try:
        signed = signing.sign(tree.view(executable.path), intent, authority)
    except errors.ReleaseError as problem:
        problem.subject = problem.subject or executable.path
        raise
    with atomic.new_file(root / executable.path, mode=mode) as target:
        target.writelines(signed.chunks)
    return signed


def _mode(tree: BundleTree, path: str) -> int:
    for entry in tree.entries():
        if entry.path == path:
            return entry.mode
    raise errors.VerificationError("there is no such executable to sign", subject=path)


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


def _as_sealed(code: SignedCode) -> NestedCode:
    return NestedCode(cdhash=code.cdhash, requirement_text=code.requirement_text)


def _write_seal(app: Path, seal: bytes) -> None:
    path = app / _CONTENTS / code_resources.PATH
    with atomic.naming(path.parent, "make"):
        path.parent.mkdir(mode=0o755, exist_ok=True)
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


def _in_contents(path: str) -> str:
    if not path.startswith(f"{_CONTENTS}/"):
        raise errors.VerificationError("code lies outside the bundle's Contents", subject=path)
    return path.removeprefix(f"{_CONTENTS}/")


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
