"""What is known about signed code once it was read, for people, records and comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from release_tool.apple import certificates, code_directory, requirement
from release_tool.apple.checks import Check
from release_tool.apple.code_directory import CodeDirectory
from release_tool.apple.seal_verification import SealReport
from release_tool.apple.superblob import SuperBlob
from release_tool.apple.ticket import Ticket


class Header(NamedTuple):
    """What a Mach-O header says beside its signature; empty for signed data files."""

    file_type: str = ""
    uuid: str = ""
    platforms: tuple[tuple[str, str, str], ...] = ()
    """Name, oldest version that runs it, SDK."""
    rpaths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFacts:
    """One slice of one Mach-O."""

    path: str
    arch: str
    identifier: str
    team_id: str | None
    """As the code directory says it; None for ad-hoc code."""
    cdhash: str
    """40 hex digits, of the SHA-256 code directory where there are several."""
    cdhashes: tuple[str, ...]
    """Of every code directory, in order."""
    full_digest: str
    """The code directory's whole digest."""
    flags: int
    version: int
    page_size: int
    code_limit: int
    sealed_slots: tuple[int, ...]
    """Special slots that the code directory hashes."""
    entitlements: Mapping[str, object] | None
    """None for code that carries none."""
    requirement_text: str
    """The designated requirement in source form."""
    signer_kind: str
    """What kind of signer it is, once its chain held; `ad-hoc` or `ad-hoc by a linker`."""
    signed_at: datetime | None
    """Time of the timestamp; None without a valid one."""
    signing_time: datetime | None
    """What the signer claims."""
    timestamp_certificates: tuple[certificates.Certificate, ...] = field(default=(), repr=False)
    """Chain of who signed the timestamp, leaf first; empty without a valid one."""
    certificates: tuple[certificates.Certificate, ...] = field(repr=False)
    """Leaf first, root last; the leaf alone where no chain holds; empty for ad-hoc code."""
    trusted: bool
    """Whether that chain ends in a trusted root."""
    minos: str | None
    sdk: str | None
    is_executable: bool
    linked_libraries: tuple[str, ...] = field(repr=False)
    directories: tuple[CodeDirectory, ...] = field(repr=False)
    """Every code directory, in order."""
    info: Mapping[str, object] = field(repr=False)
    """The `Info.plist` that belongs to it; empty without one."""
    signature: SuperBlob = field(repr=False)
    """The blobs of the signature as they stand."""
    reserved: int
    """Bytes of the room that the signature has, padding included."""
    header: Header

    @property
    def is_adhoc(self) -> bool:
        return bool(self.flags & code_directory.ADHOC)

    @property
    def is_hardened(self) -> bool:
        """Whether the hardened runtime is on."""
        return bool(self.flags & code_directory.RUNTIME)

    @property
    def flag_names(self) -> tuple[str, ...]:
        return flag_names(self.flags)

    @property
    def certificate_sha256(self) -> str:
        """Of the signing certificate; empty for ad-hoc code."""
        return certificates.fingerprint(self.certificates[0]) if self.certificates else ""

    @property
    def certificate_name(self) -> str:
        """The signing certificate's common name; empty for ad-hoc code."""
        return certificates.display_name(self.certificates[0]) if self.certificates else ""

    @property
    def context(self) -> requirement.Context:
        """This code as a requirement sees it."""
        return requirement.Context(
            identifier=self.identifier,
            cdhashes=frozenset(map(bytes.fromhex, self.cdhashes)),
            certificates=self.certificates,
            apple_root=self.trusted,
            info=self.info,
            entitlements=self.entitlements or {},
            platform=self.directories[0].platform if self.directories else 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeReport:
    """The judgement of one Mach-O file."""

    checks: tuple[Check, ...]
    slices: tuple[CodeFacts, ...]
    """Facts of every slice whose signature could be read."""

    @property
    def primary(self) -> CodeFacts | None:
        """The arm64 slice where there is one, else the first."""
        arm = (item for item in self.slices if item.arch.startswith("arm64"))
        return next(arm, self.slices[0] if self.slices else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFacts:
    """One app, and the code inside it."""

    path: str
    bundle_id: str
    version: str
    minimum_macos: str
    main_executable: str
    """Path relative to the app."""
    code: Mapping[str, CodeReport]
    """Every code object by its path relative to the app, the main executable first."""
    sealed: int
    """Entries of the app's own seal."""
    data_in_code_places: tuple[str, ...]
    profile: bytes | None = field(repr=False)
    """The embedded provisioning profile as it stands."""
    seal: SealReport | None = field(repr=False)
    """What the seal says of the app's files; None without one that can be read."""
    contents: str
    """What the seal's paths are relative to: `Contents`."""
    bundles: Mapping[str, BundleFacts] = field(repr=False)
    """Bundles inside this one and other versions of a framework, by path relative to it."""
    ticket: Ticket | None = field(repr=False)
    """The stapled notarization ticket, where there is one that can be read."""

    @property
    def main(self) -> CodeFacts | None:
        """The facts of the main executable's arm64 slice."""
        report = self.code.get(self.main_executable)
        return report.primary if report else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleReport:
    """The judgement of one app."""

    checks: tuple[Check, ...]
    facts: BundleFacts | None
    """None where the app could not be read at all."""


def flag_names(flags: int) -> tuple[str, ...]:
    """The set flags by name, an unnamed bit as its number."""
    bits = [1 << bit for bit in range(32) if flags >> bit & 1]
    return tuple(code_directory.FLAG_NAMES.get(bit, f"{bit:#x}") for bit in bits)


def plain(value: object) -> object:
    """A property list's value as JSON can say it: data in hexadecimal, dates in ISO 8601."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime) else value
