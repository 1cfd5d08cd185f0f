"""Sign Mach-O code in memory: room, code directory, requirements, entitlements, CMS.

Rules and source: measured on Developer ID code that Apple's codesign signed (order of the blobs,
places of the special slots, page sizes, reserved room).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from release_tool import errors
from release_tool.apple import (
    code_directory,
    code_directory_builder,
    code_signature,
    entitlements,
    macho,
    macho_writer,
    requirement,
    superblob,
)
from release_tool.apple.code_signature import Timestamp
from release_tool.apple.identity import Identity

# codesign reserves this for the CMS before it knows it (100 of 102 measured slices).
_CMS_ROOM = 18_000
_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What one code object is to be signed as."""

    identifier: str
    hardened_runtime: bool = True
    entitlements: bytes | None = field(default=None, repr=False)
    """The property list, sealed verbatim beside its DER form; None for none at all."""
    info_plist: bytes | None = field(default=None, repr=False)
    """Of the bundle whose main executable this is; a bare tool's section counts otherwise."""
    code_resources: bytes | None = field(default=None, repr=False)
    """The seal of the bundle whose main executable this is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Who signs, and when."""

    identity: Identity
    signing_time: datetime
    timestamp: Timestamp | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedSlice:
    """The signature of one slice."""

    arch: str
    cdhash: bytes
    code_directory_digest: bytes
    """The whole SHA-256 of the code directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCode:
    """A signed file, all slices."""

    data: bytes = field(repr=False)
    slices: tuple[SignedSlice, ...]
    team_id: str | None
    """None for an ad-hoc signature."""
    requirement_text: str
    """The designated requirement in source form, as a bundle's seal names it."""

    @property
    def cdhash(self) -> bytes:
        """The one that a seal names: the arm64 slice's where there are several."""
        chosen = (one for one in self.slices if one.arch.startswith("arm64"))
        return next(chosen, self.slices[0]).cdhash


def sign(data: bytes, intent: Intent, authority: Authority | None) -> SignedCode:
    """Sign every slice of a Mach-O file; an old signature is replaced.

    Args:
        data: the file, signed or not.
        intent: what it is signed as.
        authority: who signs; None makes an ad-hoc signature.

    Raises:
        FormatError: not a Mach-O that can be signed.
        CredentialError: the identity names no team, or its chain is not known.
    """
    team_id = _team(authority)
    made = [(code, _sign_slice(code, intent, authority, team_id)) for code in macho.parse(data)]
    slices = tuple(one for _, (_, one) in made)
    parts = [(code, content) for code, (content, _) in made]
    designated = requirement.designated(
        requirement.parse_set(_requirements(intent.identifier, team_id)),
        [one.cdhash for one in slices],
    )
    return SignedCode(
        data=macho_writer.join(data, parts),
        slices=slices,
        team_id=team_id,
        requirement_text=requirement.to_text(designated),
    )


def _team(authority: Authority | None) -> str | None:
    if authority is None:
        return None
    team_id = authority.identity.team_id
    if not team_id:
        raise errors.CredentialError(
            "the signing certificate names no team",
            subject=authority.identity.name,
            expected="one organizational unit: the team's ten characters",
        )
    return team_id


def _requirements(identifier: str, team_id: str | None) -> bytes:
    """The requirement set; ad-hoc code has an empty one, its cdhash alone identifies it."""
    if team_id is None:
        return requirement.encode_set({})
    return requirement.designated_developer_id(identifier, team_id)


def _sign_slice(
    code: macho.Slice, intent: Intent, authority: Authority | None, team_id: str | None
) -> tuple[bytes, SignedSlice]:
    blobs = _sealed_blobs(code, intent, team_id)
    planned = _planned(code, intent, team_id, blobs)
    room = _CMS_ROOM
    while True:
        reserved = _reserved(planned, blobs, room)
        image = macho_writer.with_room(code, reserved)
        directory = code_directory_builder.build(planned, image)
        signature = superblob.encode(
            [
                (superblob.SLOT_CODE_DIRECTORY, directory),
                *blobs,
                (superblob.SLOT_CMS, _cms_blob(directory, authority)),
            ]
        )
        if len(signature) <= reserved:
            break
        # The load command names the room and is hashed, so a larger room needs a new signature.
        room += len(signature) - reserved + 1024
    image += signature
    image.extend(bytes(reserved - len(signature)))
    return bytes(image), SignedSlice(
        arch=code.arch,
        cdhash=code_directory.cdhash(directory),
        code_directory_digest=code_directory.full_digest(directory),
    )


def _cms_blob(directory: bytes, authority: Authority | None) -> bytes:
    content = b""
    if authority is not None:
        content = code_signature.build_cms(
            [directory],
            identity=authority.identity,
            signing_time=authority.signing_time,
            timestamp=authority.timestamp,
        )
    return superblob.wrap(superblob.MAGIC_WRAPPER, content)


def _sealed_blobs(
    code: macho.Slice, intent: Intent, team_id: str | None
) -> list[tuple[int, bytes]]:
    """The blobs between code directory and CMS, in codesign's order."""
    blobs = [(superblob.SLOT_REQUIREMENTS, _requirements(intent.identifier, team_id))]
    if intent.entitlements is not None:
        if not code.is_executable:
            raise errors.FormatError(
                "only a main executable can carry entitlements", subject=intent.identifier
            )
        values = entitlements.parse_xml(intent.entitlements)
        blobs += [
            (superblob.SLOT_ENTITLEMENTS, entitlements.xml_blob(intent.entitlements)),
            (superblob.SLOT_ENTITLEMENTS_DER, entitlements.der_blob(values)),
        ]
    return blobs


def _planned(
    code: macho.Slice, intent: Intent, team_id: str | None, blobs: list[tuple[int, bytes]]
) -> code_directory.CodeDirectory:
    info_plist = code.info_plist if intent.info_plist is None else intent.info_plist
    sealed = dict(blobs)
    if info_plist is not None:
        sealed[superblob.SLOT_INFO_PLIST] = info_plist
    if intent.code_resources is not None:
        sealed[superblob.SLOT_CODE_RESOURCES] = intent.code_resources
    special = {
        slot: code_directory.digest(content, code_directory.SHA256)
        for slot, content in sealed.items()
    }
    flags = code_directory.RUNTIME if intent.hardened_runtime else 0
    return code_directory_builder.planned(
        arch=code.arch,
        code_limit=macho_writer.code_limit(code),
        identifier=intent.identifier,
        team_id=team_id,
        flags=flags | (code_directory.ADHOC if team_id is None else 0),
        special=special,
        exec_segment=_exec_segment(code, intent),
        runtime=code.sdk_packed,
    )


def _exec_segment(code: macho.Slice, intent: Intent) -> tuple[int, int, int]:
    values = (
        _NOTHING if intent.entitlements is None else entitlements.parse_xml(intent.entitlements)
    )
    flags = code_directory_builder.exec_segment_flags(
        main_binary=code.is_executable, entitlements=values
    )
    text = code.text_segment
    return (0, 0, flags) if text is None else (text.offset, text.size, flags)


def _reserved(
    planned: code_directory.CodeDirectory, blobs: list[tuple[int, bytes]], room: int
) -> int:
    """Room for the index of all blobs, the blobs but the CMS, and 18,000 bytes for that."""
    index = 12 + 8 * (len(blobs) + 2)
    known = code_directory_builder.encoded_size(planned) + sum(len(blob) for _, blob in blobs)
    return (index + known + room + 15) // 16 * 16
