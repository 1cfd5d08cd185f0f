"""What ships: the files as a tree, the signed code in them, and who grants what it claims."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from release_tool import values
from release_tool.apple import entitlements
from release_tool.report.page.told import Told
from release_tool.report.summary import size

MOST_ROWS = 600
"""Of the tree; a release has a dozen, and one that links whole resource bundles a few hundred."""
MOST_CODE = 64
"""Signed objects, and entitlements of each; ours has two, with five."""
DEEPEST = 8
"""Deeper levels are not indented any further."""
_HARDENED, _ADHOC, _LIBRARY = 0x10000, 0x2, 0x2000
_FLAGS = {_HARDENED: "hardened runtime", _ADHOC: "ad hoc", _LIBRARY: "library validation"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A folder or a file of the tree."""

    name: str
    path: str
    depth: int
    kind: str
    """`folder`, `file`, `program` or `link`."""
    size: str = ""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """One entitlement, and by whom code may claim it."""

    key: str
    value: str
    by: str
    """`profile`, `macOS`, `team`, `nobody` or `not known`."""
    restricted: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Code:
    """One signed code object."""

    path: str
    identifier: str
    team_id: str
    cdhash: str
    directory: str
    flags: str
    requirement: str
    signed_at: str
    unsigned: str
    grants: tuple[Grant, ...]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a release holds, as far as it has come."""

    source: str
    """Which stage tells it."""
    files: int
    total: str
    entries: tuple[Entry, ...]
    left_out: int
    code: tuple[Code, ...]
    signer: str = ""
    certificate: str = ""
    certificate_sha256: str = ""


def of(told: Told) -> Contents | None:
    """The files of the last stage that has any; None before the first."""
    source, files = _files(told)
    if not files:
        return None
    entries = _tree(files)
    signed = _signed(told)
    profile = told.get("profile", values.VerifiedProfile)
    return Contents(
        source=source,
        files=len(files),
        total=size(sum(one.size for one in files)),
        entries=tuple(entries[:MOST_ROWS]),
        left_out=max(len(entries) - MOST_ROWS, 0),
        code=tuple(_code(one, profile) for one in signed.code[:MOST_CODE]) if signed else (),
        signer=signed.signer if signed else "",
        certificate=signed.certificate_name if signed else "",
        certificate_sha256=signed.certificate_sha256 if signed else "",
    )


def _files(told: Told) -> tuple[str, Sequence[values.SealedFile]]:
    if archive := told.get("archive", values.ReleaseArchive):
        return "the archive that ships", archive.members
    if signed := _signed(told):
        return "the signed bundle", signed.files
    if assembled := told.get("assemble", values.AssembledBundle):
        return "the unsigned bundle", assembled.files
    return "", ()


def _signed(told: Told) -> values.SignedBundle | None:
    return told.get("staple", values.StapledBundle) or told.get("sign", values.SignedBundle)


def _tree(files: Sequence[values.SealedFile]) -> list[Entry]:
    found: list[Entry] = []
    open_folders: list[str] = []
    for one in sorted(files, key=lambda file: file.path.split("/")):
        *folders, name = one.path.split("/")
        same = _common(open_folders, folders)
        for depth in range(same, len(folders)):
            place = "/".join(folders[: depth + 1])
            found.append(
                Entry(name=folders[depth], path=place, depth=min(depth, DEEPEST), kind="folder")
            )
        open_folders = folders
        found.append(
            Entry(
                name=name,
                path=one.path,
                depth=min(len(folders), DEEPEST),
                kind=_kind(one),
                size=size(one.size),
                sha256=one.sha256,
            )
        )
    return found


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _kind(file: values.SealedFile) -> str:
    if file.link:
        return "link"
    return "program" if file.mode & 0o111 else "file"


def _code(code: values.CodeObject, profile: values.VerifiedProfile | None) -> Code:
    claimed = code.entitlements or {}
    return Code(
        path=code.path,
        identifier=code.identifier,
        team_id=code.team_id,
        cdhash=code.cdhash,
        directory=code.code_directory_sha256,
        flags=", ".join(text for bit, text in _FLAGS.items() if code.flags & bit) or "none",
        requirement=code.requirement,
        signed_at=code.signed_at,
        unsigned=code.unsigned_sha256,
        grants=tuple(_grants(claimed, code.team_id, profile)),
    )


def _grants(
    claimed: Mapping[str, JsonValue], team_id: str, profile: values.VerifiedProfile | None
) -> Iterator[Grant]:
    asked = entitlements.restricted_keys(claimed, team_id)
    for key, value in sorted(claimed.items())[:MOST_CODE]:
        by, text = _by(key, value, team_id, profile, needed=key in asked)
        yield Grant(
            key=key,
            value=_said(value),
            by=by,
            restricted=entitlements.is_restricted(key),
            text=text,
        )


def _by(
    key: str,
    value: JsonValue,
    team_id: str,
    profile: values.VerifiedProfile | None,
    *,
    needed: bool,
) -> tuple[str, str]:
    if not entitlements.is_restricted(key):
        return "macOS", "honoured by default, without a profile"
    if not needed:
        return "team", "restricted, but a team's own groups need no grant"
    if profile is None:
        return "not known", "restricted, and no profile is recorded"
    if entitlements.covered(key, value, profile.entitlements, team_id):
        return "profile", f"restricted, granted as {_granted(key, profile.entitlements)}"
    return "nobody", "restricted, and the profile does not grant it: macOS kills this code"


def _granted(key: str, grants: Mapping[str, JsonValue]) -> str:
    spellings = entitlements.APPLICATION_IDENTIFIER_SPELLINGS
    names = spellings if key in spellings else (key,)
    return ", ".join(_said(grants[name]) for name in names if name in grants)


def _said(value: JsonValue) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False)
