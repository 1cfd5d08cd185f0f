"""Sign Mach-O code: room, code directory, requirements, entitlements, CMS.

The code is looked at and never copied: a signed file comes out as chunks, most of them views of
what came in. Rules and source: measured on Developer ID code that Apple's codesign signed (order
of the blobs, places of the special slots, page sizes, reserved room).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from release_tool.apple.macho_writer import Chunk

# codesign reserves this for the CMS before it knows it (100 of 102 measured slices).
_CMS_ROOM = 18_000
# Since macOS 10.11.4 a SHA-256 code directory alone is enough (Apple's published signer).
_FIRST_WITH_SHA256 = macho.packed_version("10.11.4")
_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the bytes of the code do not tell and a signer chooses; None for codesign's choice."""

    flags: int | None = None
    """All flags of the code directory, `ADHOC` included."""
    page_size_log2: int | None = None
    hash_types: tuple[int, ...] | None = None
    """One code directory for each, the first in the first slot."""
    requirements: bytes | None = field(default=None, repr=False)
    """An explicit requirement set."""
    entitlements_der: bytes | None = field(default=None, repr=False)
    """The blob of the entitlements' DER form; empty for none beside their XML."""
    reserved: int | None = None
    """Room for the whole signature, which its load command names."""
    memory_page: int | None = None
    """What the memory of `__LINKEDIT` is rounded to."""
    exec_segment: tuple[int, int, int] | None = None
    """Offset, size and flags."""
    linker: bool = False
    """As linkers sign: a code directory and nothing else."""


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
    given: Given = Given()


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
    cdhashes: tuple[bytes, ...]
    """Of every code directory, the strongest last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCode:
    """A signed file, all slices."""

    chunks: tuple[Chunk, ...] = field(repr=False)
    """Its content in order; views of what was signed, which must outlive them."""
    slices: tuple[SignedSlice, ...]
    team_id: str | None
    """None for an ad-hoc signature."""
    requirement_text: str
    """The designated requirement in source form, as a bundle's seal names it."""

    @property
    def data(self) -> bytes:
        """The whole content; for code that is small."""
        return b"".join(self.chunks)

    @property
    def cdhash(self) -> bytes:
        """The one that a seal names: the arm64 slice's where there are several."""
        chosen = (one for one in self.slices if one.arch.startswith("arm64"))
        return next(chosen, self.slices[0]).cdhash


def sign(data: bytes | memoryview, intent: Intent, authority: Authority | None) -> SignedCode:
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
    slices = macho.parse(data)
    if intent.given.hash_types is None:
        given = replace(intent.given, hash_types=digests_for(slices))
        intent = replace(intent, given=given)
    made = [(code, sign_slice(code, intent, authority)) for code in slices]
    told = tuple(one for _, (_, one) in made)
    designated = requirement.designated(
        requirement.parse_set(requirements(intent, team_id)), cdhashes_in_order(told)
    )
    return SignedCode(
        chunks=macho_writer.join(data, [(code, chunks) for code, (chunks, _) in made]),
        slices=told,
        team_id=team_id,
        requirement_text=requirement.to_text(designated),
    )


def cdhashes_in_order(slices: Sequence[SignedSlice]) -> list[bytes]:
    """All cdhashes of a file as the requirement of ad-hoc code names them: the host's first.

    Rule and source: Apple's published static code.
    """
    ordered = sorted(slices, key=lambda one: not one.arch.startswith("arm64"))
    return [cdhash for one in ordered for cdhash in one.cdhashes]


def digests_for(slices: Sequence[macho.Slice]) -> tuple[int, ...]:
    """The digests that codesign chooses for a file: SHA-1 too for what macOS 10.11.3 may run.

    One slice decides for all, as codesign asks the one of its own host: arm64 where there is one.
    """
    host = next((code for code in slices if code.arch.startswith("arm64")), slices[0])
    if host.minos is not None and macho.packed_version(host.minos) >= _FIRST_WITH_SHA256:
        return (code_directory.SHA256,)
    return code_directory.SHA1, code_directory.SHA256


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One slice with all of its signature but the CMS."""

    image: macho_writer.Image
    directories: tuple[bytes, ...] = field(repr=False)
    blobs: tuple[tuple[int, bytes], ...] = field(repr=False)
    """Between the first code directory and its alternates, by slot."""
    reserved: int
    """Room for the whole signature."""

    @property
    def strongest(self) -> bytes:
        """The code directory by which the system knows the code."""
        return self.directories[-1]

    def signed(self, cms_blob: bytes | None) -> bytes:
        """The whole signature, in codesign's order, which is that of the slots."""
        alternates = zip(superblob.SLOTS_ALTERNATE, self.directories[1:], strict=False)
        cms = [] if cms_blob is None else [(superblob.SLOT_CMS, cms_blob)]
        first = (superblob.SLOT_CODE_DIRECTORY, self.directories[0])
        return superblob.encode([first, *self.blobs, *alternates, *cms])

    def chunks(self, signature: bytes) -> tuple[Chunk, ...]:
        """The slice's new content."""
        return (*self.image.chunks, signature, bytes(self.reserved - len(signature)))


def prepare(
    code: macho.Slice, intent: Intent, team_id: str | None, *, cms_room: int = _CMS_ROOM
) -> Prepared:
    """Make room in a slice and hash it: everything of its signature but the CMS.

    Args:
        code: the slice, signed or not.
        intent: what it is signed as.
        team_id: None for an ad-hoc signature.
        cms_room: bytes to reserve for the CMS where no room is given.

    Raises:
        FormatError: it cannot be signed.
    """
    blobs = tuple(_sealed_blobs(code, intent, team_id))
    planned = [
        _planned(code, intent, team_id, blobs, hash_type) for hash_type in _hash_types(intent)
    ]
    reserved = intent.given.reserved
    if reserved is None:
        reserved = _reserved(planned, blobs, cms_room)
    image = macho_writer.with_room(
        code, reserved, memory_page=intent.given.memory_page or macho_writer.MEMORY_PAGE
    )
    return Prepared(
        image=image,
        directories=tuple(code_directory_builder.build(one, image) for one in planned),
        blobs=blobs,
        reserved=reserved,
    )


def sign_slice(
    code: macho.Slice, intent: Intent, authority: Authority | None
) -> tuple[tuple[Chunk, ...], SignedSlice]:
    """Sign one slice: its new content in chunks, and what its signature is.

    Raises:
        FormatError: it cannot be signed, or the given room is too small.
        CredentialError: the identity names no team, or its chain is not known.
    """
    room = _CMS_ROOM
    while True:
        prepared = prepare(code, intent, _team(authority), cms_room=room)
        cms_blob = None if intent.given.linker else _cms_blob(prepared.directories, authority)
        signature = prepared.signed(cms_blob)
        missing = len(signature) - prepared.reserved
        if missing <= 0:
            break
        if intent.given.reserved is not None:
            raise errors.FormatError(
                "the signature does not fit the given room",
                subject=intent.identifier,
                expected=f"at most {prepared.reserved} bytes",
                observed=f"{len(signature)} bytes",
            )
        # The load command names the room and is hashed, so a larger room needs a new signature.
        room += missing + 1024
    return prepared.chunks(signature), SignedSlice(
        arch=code.arch,
        cdhash=code_directory.cdhash(prepared.strongest),
        code_directory_digest=code_directory.full_digest(prepared.strongest),
        cdhashes=tuple(map(code_directory.cdhash, prepared.directories)),
    )


def _hash_types(intent: Intent) -> tuple[int, ...]:
    return intent.given.hash_types or (code_directory.SHA256,)


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


def requirements(intent: Intent, team_id: str | None) -> bytes:
    """The requirement set; ad-hoc code has an empty one, its cdhash alone identifies it."""
    if intent.given.requirements is not None:
        return intent.given.requirements
    if team_id is None:
        return requirement.encode_set({})
    return requirement.designated_developer_id(intent.identifier, team_id)


def _cms_blob(directories: Sequence[bytes], authority: Authority | None) -> bytes:
    content = b""
    if authority is not None:
        content = code_signature.build_cms(
            directories,
            identity=authority.identity,
            signing_time=authority.signing_time,
            timestamp=authority.timestamp,
        )
    return superblob.wrap(superblob.MAGIC_WRAPPER, content)


def _sealed_blobs(
    code: macho.Slice, intent: Intent, team_id: str | None
) -> list[tuple[int, bytes]]:
    """The blobs between code directory and CMS, in codesign's order."""
    if intent.given.linker:
        return []
    blobs = [(superblob.SLOT_REQUIREMENTS, requirements(intent, team_id))]
    if intent.entitlements is not None:
        if not code.is_executable:
            raise errors.FormatError(
                "only a main executable can carry entitlements", subject=intent.identifier
            )
        blobs.append((superblob.SLOT_ENTITLEMENTS, entitlements.xml_blob(intent.entitlements)))
        der_blob = intent.given.entitlements_der
        if der_blob is None:
            der_blob = entitlements.der_blob(entitlements.parse_xml(intent.entitlements))
        if der_blob:
            blobs.append((superblob.SLOT_ENTITLEMENTS_DER, der_blob))
    return blobs


def _planned(
    code: macho.Slice,
    intent: Intent,
    team_id: str | None,
    blobs: Sequence[tuple[int, bytes]],
    hash_type: int,
) -> code_directory.CodeDirectory:
    given = intent.given
    sealed = dict(blobs)
    info_plist = code.info_plist if intent.info_plist is None else intent.info_plist
    if info_plist is not None and not given.linker:
        sealed[superblob.SLOT_INFO_PLIST] = info_plist
    if intent.code_resources is not None:
        sealed[superblob.SLOT_CODE_RESOURCES] = intent.code_resources
    flags = code_directory.RUNTIME if intent.hardened_runtime else 0
    flags |= code_directory.ADHOC if team_id is None else 0
    log2 = page_size_log2(code) if given.page_size_log2 is None else given.page_size_log2
    return code_directory_builder.planned(
        hash_type=hash_type,
        page_size_log2=log2,
        code_limit=macho_writer.new_limit(code),
        identifier=intent.identifier,
        team_id=team_id,
        flags=flags if given.flags is None else given.flags,
        special={
            slot: code_directory.digest(content, hash_type) for slot, content in sealed.items()
        },
        exec_segment=given.exec_segment or exec_segment(code, intent),
        runtime=code.sdk_packed,
    )


def page_size_log2(code: macho.Slice) -> int:
    """Of the pages that codesign hashes."""
    return code_directory_builder.page_size_log2(code.arch)


def exec_segment(code: macho.Slice, intent: Intent) -> tuple[int, int, int]:
    """Offset and size of `__TEXT`, and the flags that the entitlements imply."""
    values = (
        _NOTHING if intent.entitlements is None else entitlements.parse_xml(intent.entitlements)
    )
    flags = code_directory_builder.exec_segment_flags(
        main_binary=code.is_executable, entitlements=values
    )
    text = code.text_segment
    return (0, 0, flags) if text is None else (text.offset, text.size, flags)


def _reserved(
    planned: Sequence[code_directory.CodeDirectory], blobs: Sequence[tuple[int, bytes]], room: int
) -> int:
    """Room for the index of all blobs, the blobs but the CMS, and 18,000 bytes for that."""
    index = 12 + 8 * (len(blobs) + len(planned) + 1)
    # codesign counts every directory with the header of its newest version, whatever it writes.
    newest = [replace(one, version=code_directory.VERSION_RUNTIME) for one in planned]
    known = sum(map(code_directory_builder.encoded_size, newest))
    known += sum(len(blob) for _, blob in blobs)
    return (index + known + room + 15) // 16 * 16
