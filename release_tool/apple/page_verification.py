"""The hashes of a code directory against what they stand for, and the bytes that nothing hashes.

The first half of judging code; `verification` adds who signed it. Rule and source: xnu's
`cs_blobs.h` and Apple's published code signing formats.
"""

from __future__ import annotations

import hmac
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from release_tool.apple import checks, code_directory, macho, superblob
from release_tool.apple.checks import Check
from release_tool.apple.code_directory import CodeDirectory
from release_tool.apple.detached_signature import SignedData
from release_tool.apple.signature_verification import Judge

_CONSTRAINT_SLOTS = range(8, 12)
_BLOB_SLOTS = (
    superblob.SLOT_REQUIREMENTS,
    superblob.SLOT_ENTITLEMENTS,
    superblob.SLOT_ENTITLEMENTS_DER,
    *_CONSTRAINT_SLOTS,
)
_BUNDLE_SLOTS = (superblob.SLOT_INFO_PLIST, superblob.SLOT_CODE_RESOURCES)
_SLOT_NAMES: Mapping[int, str] = {
    superblob.SLOT_INFO_PLIST: "Info.plist hash",
    superblob.SLOT_REQUIREMENTS: "requirements hash",
    superblob.SLOT_CODE_RESOURCES: "resource seal hash",
    superblob.SLOT_ENTITLEMENTS: "entitlements hash",
    superblob.SLOT_ENTITLEMENTS_DER: "DER entitlements hash",
}
_KNOWN_SLOTS = frozenset(
    (superblob.SLOT_CODE_DIRECTORY, superblob.SLOT_CMS, *superblob.SLOTS_ALTERNATE, *_BLOB_SLOTS)
)
_OUR_ORDER = (
    superblob.SLOT_CODE_DIRECTORY,
    superblob.SLOT_REQUIREMENTS,
    superblob.SLOT_ENTITLEMENTS,
    superblob.SLOT_ENTITLEMENTS_DER,
    superblob.SLOT_CMS,
)
_BOUND = "bound to a bundle: verify the app or the archive that it belongs to"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFiles:
    """The files of a bundle that its main executable hashes; None where one is missing."""

    info_plist: bytes | None = field(repr=False)
    code_resources: bytes | None = field(repr=False)
    paths: Mapping[int, str] = field(default_factory=dict)
    """How checks name them, by special slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One slice under judgement."""

    path: str
    subject: str
    code: macho.Slice | SignedData
    judge: Judge
    bundle: BundleFiles | None
    blob: superblob.SuperBlob
    directories: tuple[CodeDirectory, ...]

    @property
    def primary(self) -> CodeDirectory:
        """The SHA-256 directory where there are several, as macOS chooses."""
        strong = (item for item in self.directories if item.hash_type == code_directory.SHA256)
        return next(strong, self.directories[0])

    @property
    def info_plist(self) -> bytes | None:
        return self.code.info_plist if self.bundle is None else self.bundle.info_plist

    def content(self, slot: int) -> bytes | None:
        """What a special slot hashes."""
        if slot == superblob.SLOT_INFO_PLIST:
            return self.info_plist
        if slot == superblob.SLOT_CODE_RESOURCES:
            return None if self.bundle is None else self.bundle.code_resources
        return self.blob.get(slot) if slot in _BLOB_SLOTS else None


def verify(case: Case) -> list[Check]:
    """Judge one slice by its code directories and by the room of its signature."""
    return [*_layout(case), *_pages(case), *_slots(case), *_room(case)]


def _layout(case: Case) -> Iterator[Check]:
    """The directories cover all code up to the signature, and agree with each other."""
    offset, size = case.code.signature or (0, 0)
    limits = {item.code_limit for item in case.directories}
    yield checks.compare(
        "covered code",
        expected=f"up to the signature at {offset}",
        observed=" and ".join(f"up to the signature at {limit}" for limit in sorted(limits)),
        subject=case.subject,
    )
    yield from _behind(case, offset + size)
    named = {(item.identifier, item.team_id, item.flags) for item in case.directories}
    if len(named) > 1:
        yield checks.failed(
            "code directories", subject=case.subject, expected="one identity", observed="several"
        )


def _behind(case: Case, signature_end: int) -> Iterator[Check]:
    """A slice ends with its last segment, or else strict validation refuses it."""
    name, size, linkedit = "bytes behind the signature", case.code.size, case.code.linkedit
    if linkedit is not None and linkedit.end != size:
        yield checks.failed(
            name,
            subject=case.subject,
            expected="a slice that ends where __LINKEDIT ends",
            observed=f"{size} bytes, __LINKEDIT ends at {linkedit.end}",
            hint="codesign's strict validation refuses it, and so does Gatekeeper",
        )
    elif signature_end != size:
        yield _open_bytes(case, name, f"{size - signature_end} bytes")


def _open_bytes(case: Case, name: str, observed: str) -> Check:
    """Bytes that no hash covers: listed, but in our own code refused."""
    if case.judge.strict:
        return checks.failed(
            name, subject=case.subject, expected="what our writer writes", observed=observed
        )
    return checks.unprotected(name, observed, subject=case.subject)


def _pages(case: Case) -> Iterator[Check]:
    for directory in case.directories:
        if directory.code_limit > case.code.size:
            yield checks.failed(
                "page hashes",
                subject=case.subject,
                expected=f"{directory.code_limit} bytes of code",
                observed=f"{case.code.size}",
            )
            continue
        if not directory.is_whole:
            yield checks.failed(
                "page hashes",
                subject=case.subject,
                expected=f"a hash for each of {directory.page_count} pages",
                observed=f"{len(directory.code_hashes)} pages are hashed",
            )
        hashes = code_directory.slot_hashes(directory, case.code.data)
        wanted = directory.code_hashes
        bad = [
            page for page, (is_, was) in enumerate(zip(hashes, wanted, strict=True)) if is_ != was
        ]
        if bad:
            yield _bad_pages(case, directory, bad)
        else:
            observed = f"{len(wanted)} pages of {directory.page_size} bytes, {directory.algorithm}"
            yield checks.passed("page hashes", observed, subject=case.subject)


def _bad_pages(case: Case, directory: CodeDirectory, bad: Sequence[int]) -> Check:
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    start, _ = next(itertools.islice(directory.covered(), bad[0], None))
    return checks.failed(
        "page hashes",
        subject=case.subject,
        expected="every page as it was signed",
        observed=f"page {bad[0]} at offset {start}{more} changed",
    )


def _slots(case: Case) -> Iterator[Check]:
    """Every special slot against what it hashes, and nothing left unhashed."""
    for directory in case.directories:
        for slot in sorted({*directory.special, *_BLOB_SLOTS, *_BUNDLE_SLOTS}):
            yield from _slot(case, directory, slot)


def _slot(case: Case, directory: CodeDirectory, slot: int) -> Iterator[Check]:
    name = _SLOT_NAMES.get(slot, f"special slot {slot}")
    sealed, content = directory.special.get(slot), case.content(slot)
    subject = case.subject if case.bundle is None else case.bundle.paths.get(slot, case.subject)
    if sealed is None:
        # A section in __TEXT is covered by its pages, whether or not the slot names it.
        in_pages = slot == superblob.SLOT_INFO_PLIST and case.bundle is None
        if content is not None and not in_pages:
            yield checks.failed(
                name, subject=subject, expected="a hash", observed="it is not sealed"
            )
        return
    if content is None:
        if slot in _BUNDLE_SLOTS and case.bundle is None:
            yield checks.not_checked(name, _BOUND, subject=subject)
            return
        observed = "there is nothing to hash"
        yield checks.failed(name, subject=subject, expected=sealed.hex(), observed=observed)
        return
    found = code_directory.digest(content, directory.hash_type)
    if hmac.compare_digest(found, sealed):
        yield checks.passed(name, found.hex()[:12], subject=subject)
    else:
        yield checks.failed(name, subject=subject, expected=sealed.hex(), observed=found.hex())


def _room(case: Case) -> Iterator[Check]:
    """The signature's own bytes that nothing hashes: order, gaps, unknown blobs, padding."""
    room = bytes(case.code.signature_bytes or b"")
    padding = room[case.blob.length :]
    if any(padding):
        observed = f"{len(padding)} bytes behind the signature, not all zero"
        yield _open_bytes(case, "padding", observed)
    elif padding:
        zero = f"{len(padding)} zero bytes behind the signature"
        kind = checks.passed if case.judge.strict else checks.unprotected
        yield kind("padding", zero, subject=case.subject)
    unknown = [slot for slot in case.blob.slots if slot not in _KNOWN_SLOTS]
    if unknown:
        listed = ", ".join(f"{slot:#x}" for slot in unknown)
        yield _open_bytes(case, "unknown blobs", f"slots {listed}")
    if not case.blob.canonical:
        yield _open_bytes(case, "gaps in the signature", "blobs do not follow each other")
    if case.judge.strict:
        yield _written_order(case, room)


def _written_order(case: Case, room: bytes) -> Check:
    present = tuple(slot for slot in _OUR_ORDER if slot in case.blob.slots)
    again = superblob.encode(case.blob.blobs)
    if case.blob.slots == present and again == room[: case.blob.length]:
        return checks.passed("order of the blobs", "as our writer has it", subject=case.subject)
    return checks.failed(
        "order of the blobs",
        subject=case.subject,
        expected=", ".join(f"{slot:#x}" for slot in present),
        observed=", ".join(f"{slot:#x}" for slot in case.blob.slots),
    )
