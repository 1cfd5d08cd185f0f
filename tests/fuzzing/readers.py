"""Every reader of bytes that somebody else made: how to call it, and what it may answer with.

Seeds are what our own writers and the look-alike authority make, and the real data where it is at
hand. A reader that refuses before it reads (a wrong checksum, a signature that does not hold) gets
its inputs mended first, so that what lies behind is read too.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import plistlib
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path

from release_tool import errors
from release_tool.apple import (
    apple_double,
    armor,
    built_in,
    certificates,
    cms,
    code_directory,
    code_resources,
    der,
    der_dictionary,
    difference,
    entitlements,
    identity,
    inner_profile,
    launch_constraints,
    macho,
    metal_functions,
    metal_library,
    notary_log,
    pkcs12,
    portrait,
    property_list,
    provisioning_profile,
    release,
    requirement,
    requirement_evaluation,
    resource_bundles,
    seal_verification,
    signatures,
    signing,
    superblob,
    ticket,
    timestamp_token,
    unsigned_content,
    verification,
)
from release_tool.apple.policy import inventory, library_validation, linter, verdict
from release_tool.apple.tree import in_memory
from release_tool.files import archive_writer, tar_header, zip_reader, zip_unpacker
from release_tool.files.archive_reader import ArchiveReader
from release_tool.provenance import canonical, dsse, head_notes, keys, log, sbom, statement
from release_tool.rehearsal import profiles
from release_tool.services import (
    chat,
    codesign,
    coordinator,
    coordinator_answers,
    github_public,
    hub_listing,
    listening,
    notary_api,
    notary_errors,
    notarytool,
    process_table,
    registration_claim,
    release_pointer,
    stapler,
    tombstone,
)
from release_tool.services.http_client import Answer
from tests import built, linked_macho, macho_samples, signed_release, signing_identity
from tests.fake_mac import attributes
from tests.fuzzing.mutation import MAX_BYTES, Structure
from tests.provenance import samples as provenance_samples
from tests.signing_identity import NOW, TEAM

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "realdata"


def _as_it_is(data: bytes) -> bytes:
    return data


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One reader."""

    name: str
    read: Callable[[bytes], object]
    make_seeds: Callable[[], Sequence[bytes]] = field(repr=False)
    structure: Structure = "bytes"
    refusals: tuple[type[Exception], ...] = (errors.FormatError,)
    """The errors that are an answer."""
    seconds: float = 1.0
    """Of processor time for one input: the machine's other work must not count."""
    finish: Callable[[bytes], bytes] = _as_it_is
    """Mends what a mutation broke and what would be refused first."""

    @cached_property
    def seeds(self) -> tuple[bytes, ...]:
        found = tuple(dict.fromkeys(seed for seed in self.make_seeds() if len(seed) < MAX_BYTES))
        assert found, f"{self.name} has no seeds"
        return found


AUTHORITY = signing_identity.authority()
JUDGE = verification.Judge(trust=AUTHORITY.trust, now=NOW, strict=False)
_PASSWORD = "secret"
_REFUSED = (errors.VerificationError,)


# Seeds


def _real(folder: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((REAL_DATA / folder).glob("*"))]


@lru_cache
def _signed() -> list[bytes]:
    """Signed code: a real signature, an ad-hoc one, both architectures, universal."""
    signer = signing.Authority(
        identity=AUTHORITY.identity(), signing_time=NOW, timestamp=AUTHORITY.token
    )
    claims = plistlib.dumps(
        {"com.apple.security.network.client": True, "keychain-access-groups": [f"{TEAM}.x"]}
    )
    intent = signing.Intent(identifier="io.example", entitlements=claims)
    return [
        signing.sign(macho_samples.thin(), intent, signer).data,
        signing.sign(macho_samples.thin(macho_samples.INTEL), intent, None).data,
        signing.sign(macho_samples.universal(), intent, signer).data,
    ]


def _code() -> list[bytes]:
    return [*_signed(), macho_samples.unsigned(), macho_samples.universal(wide=True)]


def _detached_signatures() -> list[bytes]:
    embedded = [superblob.encode(superblob.parse(room).blobs) for room in _superblobs()]
    pairs = list(enumerate(embedded))
    return [superblob.encode(pairs, magic=superblob.MAGIC_DETACHED)]


def _pointers() -> list[bytes]:
    return [
        release_pointer.encode(
            release_pointer.Pointer(
                version="0.5.0",
                platform="macos-arm64",
                key="releases/v0.5.0/bundle.tar.gz",
                url="https://downloads.example/releases/v0.5.0/bundle.tar.gz",
                sha256="ab" * 32,
                size=1024,
            )
        )
    ]


def _pointer(data: bytes) -> object:
    found = release_pointer.parse(data)
    assert release_pointer.parse(release_pointer.encode(found)) == found
    return found


def _release_logs() -> list[bytes]:
    made = log.EMPTY
    for kind in log.KINDS:
        made = log.parse(made.extended(provenance_samples.entry(kind), provenance_samples.key()))
    return [made.content]


def _public_releases() -> list[bytes]:
    assets = [{"id": 7, "name": f"log.head{more}.json", "state": "uploaded"} for more in ("", ".9")]
    notes = head_notes.block("log.head.12.json", "{}")
    row = {"tag_name": "v1", "published_at": "2026", "draft": False, "body": notes}
    return [json.dumps([row | {"assets": assets}]).encode()]


def _release_log(data: bytes) -> object:
    found = log.parse(data)
    assert found.head("").size == len(data)
    assert found.covers(found.head("", len(found.lines) // 2))
    return found


def _chained(data: bytes) -> bytes:
    """Lines in our spelling, each behind those before it: what else is wrong shall be read."""
    whole = b""
    for number, line in enumerate(data.splitlines()):
        digest = hashlib.sha256(whole).hexdigest()
        after = {"count": number, "sha256": digest, "size": len(whole)}
        try:
            whole += canonical.encode(json.loads(line) | {"after": after}) + b"\n"
        except (ValueError, TypeError, RecursionError):
            whole += line + b"\n"
    return whole


def _tombstones() -> list[bytes]:
    return [
        tombstone.encode(
            tombstone.Tombstone(
                version="0.5.1",
                platform="macos-arm64",
                sha256="ab" * 32,
                at="2026-05-14T21:51:07+00:00",
                by="somebody",
                reason="it does not start",
            )
        )
    ]


def _tombstone(data: bytes) -> object:
    found = tombstone.parse(data)
    assert tombstone.parse(tombstone.encode(found)) == found
    return found


def _registration_claims() -> list[bytes]:
    made = registration_claim.Claim(
        version="0.5.1",
        platform="macos-arm64",
        sha256="ab" * 32,
        state="sending",
        whose="0f" * 16,
    )
    return [registration_claim.encode(made)]


def _registration_claim(data: bytes) -> object:
    found = registration_claim.parse(data)
    assert registration_claim.parse(registration_claim.encode(found)) == found
    return found


def _apple_doubles() -> list[bytes]:
    values = {"com.apple.cs.CodeDirectory": b"\xfa\xde\x0c\x02", "com.apple.quarantine": b""}
    return [attributes.apple_double(values), attributes.apple_double({})]


def _old_code() -> list[bytes]:
    """Of other processors: 32-bit and big-endian, and a universal file of them."""
    forms: list[tuple[int, macho_samples.Order, bool]] = [
        (7, "<", False),
        (18, ">", False),
        (0x01000012, ">", True),
    ]
    thin = []
    for cpu_type, order, wide in forms:
        commands = [
            macho_samples.segment(
                "__TEXT", 0, 900, ("__info_plist", 800, 9), order=order, wide=wide
            ),
            macho_samples.segment("__LINKEDIT", 900, 100, order=order, wide=wide),
            macho_samples.command(0xC, "IIII", 24, 2, 3, 4, order=order, text="/usr/lib/a.dylib"),
            macho_samples.command(0x8000001C, "I", 12, order=order, text="@loader_path"),
            macho_samples.command(0x1D, "II", 920, 64, order=order),
        ]
        cpu = (cpu_type, 3)
        thin.append(
            macho_samples.crafted(*commands, cpu=cpu, order=order, wide=wide).ljust(1000, b"\0")
        )
    return [*thin, macho_samples.fat(*thin), macho_samples.fat(*thin, wide=True)]


def _scattered() -> list[bytes]:
    """A directory whose slots are for parts of the code, and one with gaps and spare fields."""
    ranges = (
        code_directory.ScatterRange(1, 0, 0),
        code_directory.ScatterRange(2, 3, 0x1000),
    )
    made = code_directory.CodeDirectory(
        version=0x20600,
        flags=0xFFFF,
        identifier="io.example",
        team_id=TEAM,
        hash_type=code_directory.SHA384,
        page_size_log2=12,
        code_limit=5 * 4096 - 1,
        special_slots=3,
        special={3: b"\1" * 48},
        code_hashes=(b"\2" * 48,) * 3,
        scatter=ranges,
        spare2=1,
        spare3=2,
        linkage=bytes(range(12)),
    )
    raw = code_directory.encode(made)
    gap = bytearray(raw + b"gap behind it")
    gap[4:8] = len(gap).to_bytes(4, "big")
    return [raw, bytes(gap)]


def _constraints() -> list[bytes]:
    facts: dict[str, object] = {
        "cdhash": {"$in": [bytes(20), b"\1" * 20]},
        "team-identifier": TEAM,
        "$or": {"is-init-proc": True, "validation-category": 6},
    }
    return [launch_constraints.encode(launch_constraints.build(facts))]


@lru_cache
def _superblobs() -> list[bytes]:
    rooms = [code.signature_bytes for data in _signed() for code in macho.parse(data)]
    return [bytes(room) for room in rooms if room is not None]


def _slot(slot: int) -> Callable[[], list[bytes]]:
    def found() -> list[bytes]:
        blobs = [superblob.parse(room).get(slot) for room in _superblobs()]
        return [blob for blob in blobs if blob is not None]

    return found


def _unwrapped(slot: int, magic: int) -> Callable[[], list[bytes]]:
    return lambda: [superblob.unwrap(blob, magic) for blob in _slot(slot)()]


@lru_cache
def _profiles() -> list[bytes]:
    wish = profiles.Wish(team_id=TEAM, bundle_id="io.example")
    return [profiles.make(signed_release.look_alike(), wish), *_real("profiles")]


@lru_cache
def _profile_parts() -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Of each profile: its property list, its inner CMS, and what that holds."""
    lists, inner, payloads = [], [], []
    for data in _profiles():
        try:
            content = cms.parse(data).content or b""
        except errors.FormatError:
            continue
        lists.append(content)
        value = property_list.parse(content).get("DER-Encoded-Profile")
        if isinstance(value, bytes):
            inner.append(value)
            payloads.append(cms.parse(value).content or b"")
    return lists, inner, payloads


def _cms() -> list[bytes]:
    wrapped = _unwrapped(superblob.SLOT_CMS, superblob.MAGIC_WRAPPER)()
    return [*filter(None, wrapped), *_profiles()[:3], *_profile_parts()[1], *_tokens()]


@lru_cache
def _tokens() -> list[bytes]:
    return [AUTHORITY.token(b"octets"), AUTHORITY.token(b"octets", nonce=7)]


def _responses() -> list[bytes]:
    granted = [der.sequence(der.sequence(der.integer(0)), token) for token in _tokens()]
    refusal = der.sequence(der.integer(2), der.sequence(der.utf8("no")), der.bits(b"\x80"))
    return [*granted, der.sequence(refusal)]


@lru_cache
def _certificates() -> list[bytes]:
    ours = [AUTHORITY.root.der, AUTHORITY.leaf.der, AUTHORITY.timestamp.der]
    known = [*certificates.apple_trust().roots, *certificates.intermediates()]
    return [*ours, *(item.der for item in known)]


@lru_cache
def _tickets() -> list[bytes]:
    return [*_real("tickets"), _ticket()]


def _ticket() -> bytes:
    """A look-alike's, signed by a key of the throwaway authority."""
    chain = (AUTHORITY.timestamp.der, AUTHORITY.timestamp_ca.der)
    entries = tuple(ticket.TicketEntry(2, bytes([number]) * 20) for number in range(3))
    made = ticket.Ticket(
        1, chain, NOW, 0, entries, der.sequence(der.integer(1), der.integer(1)), b""
    )
    return ticket.encode(made)


def _seals() -> list[bytes]:
    """The seal of an app, and one with all that Apple's rules can say."""
    path = f"{signed_release.APP}/Contents/{code_resources.PATH}"
    entry = {"hash2": bytes(32), "optional": True}
    nested = {"cdhash": bytes(20), "requirement": 'identifier "x" and anchor apple'}
    rules = {"^Resources/": True, "^.*/x$": {"omit": True, "weight": 20.0}, "^M": {"nested": True}}
    files2 = {"a": entry, "b": {"symlink": "a"}, "MacOS/c": nested}
    whole = {"files": {"a": bytes(20)}, "files2": files2, "rules": rules, "rules2": rules}
    return [signed_release.made().files[path], plistlib.dumps(whole)]


def _lists() -> list[bytes]:
    values: dict[str, object] = {
        "text": "ü & <x>", "data": bytes(40), "date": datetime(2026, 1, 1), "real": 1.5,  # noqa: DTZ001
        "whole": -(2**63), "flag": True, "list": [1, [2, {"a": {}}]], "none": [],
    }  # fmt: skip
    return [plistlib.dumps(values), *_profile_parts()[0], *_seals()]


def _binary_lists() -> list[bytes]:
    values = [plistlib.loads(data) for data in _lists()[:3]]
    return [plistlib.dumps(value, fmt=plistlib.FMT_BINARY) for value in values]


def _entitlements_der() -> list[bytes]:
    values: dict[str, object] = {"a": True, "b": [1, "x", False], "c": {"d": {"e": "f"}}}
    older = b"\x70\x0a\x02\x01\x01\x31\x05" + der.sequence(der.utf8("a"))
    magic = superblob.MAGIC_ENTITLEMENTS_DER
    return [
        entitlements.encode_der(values),
        older,
        *_unwrapped(superblob.SLOT_ENTITLEMENTS_DER, magic)(),
    ]


REQUIREMENT_TEXTS = (
    'identifier "io.example" and anchor apple generic and certificate 1[field.1.2.840.113635'
    ".100.6.2.6] /* exists */ and certificate leaf[field.1.2.840.113635.100.6.1.13] exists and"
    f" certificate leaf[subject.OU] = {TEAM}",
    'cdhash H"00112233445566778899aabbccddeeff00112233" or (always and !never)',
    'info [CFBundleVersion] >= "1.0" and entitlement["a.b"] exists or anchor trusted',
    'anchor apple and (platform = 1 or notarized) and info[x] = *"y"* and certificate root = H"'
    + "00" * 20
    + '"',
    'certificate leaf[timestamp.1.2.3] > timestamp "20200101000000Z"',
)


def _requirements() -> list[bytes]:
    found = []
    for text in REQUIREMENT_TEXTS:
        try:
            found.append(requirement.encode(requirement.parse_text(text)))
        except errors.FormatError:
            continue
    return found


@lru_cache
def _identities() -> list[bytes]:
    files = [AUTHORITY.p12(_PASSWORD.encode()), AUTHORITY.p12(b"")]
    return [*files, signed_release.look_alike().identity_p12(_PASSWORD, with_chain=True)]


def _armored() -> list[bytes]:
    lines = base64.encodebytes(_profiles()[0])
    return [AUTHORITY.pem(), lines, AUTHORITY.leaf.pem, b"\xef\xbb\xbf" + AUTHORITY.leaf.pem]


@lru_cache
def _tars() -> list[bytes]:
    import tarfile
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        for name in ("app/Contents/MacOS/x", "bin/y", "app/Contents/" + "long" * 40):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"content " * 40)
        packed = Path(folder) / "packed.tar.gz"
        archive_writer.pack(root, packed, date=signed_release.DATE)
        ours = gzip.decompress(packed.read_bytes())
        (root / "bin/link").symlink_to("y")
        others = []
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
                archive.add(root, arcname=".")
            others.append(stream.getvalue())
    return [ours, *others]


# Readers


def _walk(data: bytes) -> int:
    """Read every element, and each in every way that it could be meant."""
    readers: Sequence[Callable[[der.Node], object]] = (
        der.as_boolean, der.as_integer, der.as_oid, der.as_octets, der.as_bits, der.as_text,
        der.as_time,
    )  # fmt: skip
    waiting, count = [der.parse(data)], 0
    while waiting:
        node = waiting.pop()
        count += 1
        for read in readers:
            try:
                read(node)
            except errors.FormatError:
                continue
        if node.constructed:
            waiting += node.children
    return count


def _macho(data: bytes) -> object:
    slices = macho.parse(data)
    return [(one.flag_names, one.minos, one.commands_end, one.signature_bytes) for one in slices]


def _unsigned_content(data: bytes) -> object:
    """Its digest, and where it differs from code that was signed."""
    return unsigned_content.digest(data), unsigned_content.compare(_signed()[0], data)


def _portrait(data: bytes) -> object:
    """What two releases are compared by, and how this one differs from a good one."""
    places = ("Contents/MacOS/x", "Contents/Info.plist", "Contents/CodeResources")
    tree = in_memory(dict.fromkeys((*places, "Contents/embedded.provisionprofile"), data))
    drawn = portrait.draw(tree, judge=JUDGE)
    return difference.compare(_good_portrait(), drawn)


@lru_cache
def _good_portrait() -> portrait.Portrait:
    return portrait.draw(in_memory({"Contents/MacOS/x": _signed()[0]}), judge=JUDGE)


def _superblob(data: bytes) -> object:
    blob = superblob.parse(data)
    assert superblob.encode_as_read(blob) == data[: blob.length]
    return [blob.get(slot) for slot in range(12)]


def _detached(data: bytes) -> object:
    outer = superblob.parse(data, magic=superblob.MAGIC_DETACHED)
    assert superblob.encode_as_read(outer) == data[: outer.length]
    return superblob.parse_detached(data)


def _code_directory(data: bytes) -> object:
    found = code_directory.parse(data)
    assert code_directory.encode(found) == data
    return list(found.covered())


def _entitlements_of(data: bytes) -> object:
    found = entitlements.read_der(data)
    assert der_dictionary.encode(found) == data
    return found


def _constraint(data: bytes) -> object:
    found = launch_constraints.parse(data)
    assert launch_constraints.encode(found) == data
    return found


def _requirement_set_text(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    found = requirement.parse_set_text(text, nesting="right")
    printed = requirement.set_to_text(found)
    assert requirement.set_to_text(requirement.parse_set_text(printed)) == printed
    return found


def _requirement(data: bytes) -> object:
    """Read, write, print, read the print, and decide."""
    expression = requirement.parse(data)
    assert requirement.encode(expression) == data
    context = requirement.Context(
        identifier="io.example",
        cdhashes=frozenset(),
        certificates=tuple(map(certificates.load, _certificates()[:2])),
        apple_root=True,
        info={"x": "y"},
        entitlements={"a.b": True},
    )
    requirement_evaluation.decide(expression, context)
    return requirement.parse_text(requirement.to_text(expression))


def _requirement_text(data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape")
    return requirement.encode(requirement.parse_text(text))


def _timestamp(data: bytes) -> object:
    return timestamp_token.verify(data, signed_octets=b"octets", trust=AUTHORITY.trust)


def _ticket_of(data: bytes) -> object:
    found = ticket.parse(data)
    assert ticket.encode(found) == data
    try:
        return ticket.verify(found, trust=AUTHORITY.trust)
    except errors.FormatError:
        raise
    except errors.VerificationError:
        # Nobody here can sign one in Apple's name.
        return found


def _sealed(data: bytes) -> object:
    tree = in_memory({"a": b"", "Resources/b": b"x", "MacOS/c": b"", code_resources.PATH: data})
    return seal_verification.verify(data, tree, main_executable="MacOS/c")


def _signed_cms(data: bytes) -> object:
    digests = frozenset(("sha1", "sha256"))
    found = cms.parse(data)
    assert cms.encode(found) == data
    return cms.verify(found, content=None, allowed_digests=digests, attributes_required=False)


def _profile(data: bytes) -> object:
    return provisioning_profile.read(data, trust=signed_release.trust())


def _in_profile(plist: bytes) -> bytes:
    """A property list as the content of a CMS; who signed it is another question."""
    return cms.build(
        content=plist,
        content_type=cms.DATA,
        detached=False,
        digest="sha256",
        signer_certificate=AUTHORITY.timestamp.der,
        certificates=[AUTHORITY.timestamp.der],
        sign=lambda _: bytes(64),
        attributes=[],
    )


def _identity(data: bytes) -> object:
    return identity.load(data, _PASSWORD)


def _pkcs12(data: bytes) -> object:
    outer = pkcs12.read(data)
    if outer.rounds > pkcs12.MAX_ROUNDS:
        return outer
    return pkcs12.password_holds(outer, _PASSWORD)


_SLOW = 6.0
"""Deriving a key from a password is slow on purpose: up to `pkcs12.MAX_ROUNDS` of hashing, tried
with each spelling of the password, in the library and once more by us to tell what was wrong."""


def _archive(data: bytes) -> object:
    reader = ArchiveReader(io.BytesIO(data), links=True)
    return [(member, sum(map(len, reader.content()))) for member in reader.members()]


def _zips() -> list[bytes]:
    """Stored and deflated, with a link, a folder, a name beyond ASCII, and what ditto adds."""
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as packed:
            packed.mkdir("a.app/Contents")
            packed.writestr("a.app/Contents/Info.plist", plistlib.dumps({"CFBundleName": "a"}))
            packed.writestr("a.app/Contents/\u00e4", bytes(range(256)) * 4)
            link = zipfile.ZipInfo("a.app/link")
            link.create_system, link.external_attr = 3, 0o120777 << 16
            packed.writestr(link, "Contents/Info.plist")
            packed.writestr("__MACOSX/a.app/Contents/._Info.plist", _apple_doubles()[0])
        found.append(stream.getvalue())
    return found


def _zip(data: bytes) -> object:
    """Listed as our own zip would be, and unpacked as a stranger's."""
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as scratch:
        archive, folder = Path(scratch) / "a.zip", Path(scratch) / "folder"
        archive.write_bytes(data)
        folder.mkdir()
        try:
            found = zip_reader.read(archive).members
        except errors.FormatError:
            found = ()
        return found, zip_unpacker.unpack(archive, folder)


def _packed(tar: bytes) -> bytes:
    """A tar stream with right checksums, compressed."""
    found = bytearray(tar)
    for at in range(0, len(found) - 511, 512):
        if found[at + 257 : at + 262] == b"ustar":
            block = found[at : at + 512]
            total = sum(block[:148]) + 8 * 0x20 + sum(block[156:])
            found[at + 148 : at + 156] = b"%06o\0 " % total
    return gzip.compress(bytes(found), 1, mtime=0)


def _cms_as_read(data: bytes) -> object:
    """Whatever is read is written again as it was."""
    found = cms.encode(cms.parse(data))
    assert found == data
    return found


def _notary_log(data: bytes) -> object:
    log = notary_log.parse(data)
    hashes = ("1" * 40,)
    found = notary_log.judge(log, submission_id=_UUID, sha256="a" * 64, cdhashes=hashes)
    return [check.as_json() for check in found], [issue.line() for issue in log.issues]


_UUID = "2efe2717-52ef-43a5-96dc-0797e4ca1041"
_RECORD = f"2/2/{'1' * 40}"


def _logs() -> list[bytes]:
    content = {"path": "a.zip/x", "digestAlgorithm": "SHA-256", "cdhash": "1" * 40, "arch": "arm64"}
    issue = {"severity": "error", "code": None, "path": "a.zip/x", "message": "no", "docUrl": "y"}
    accepted = {
        "logFormatVersion": 1, "jobId": _UUID, "status": "Accepted", "statusCode": 0,
        "statusSummary": "Ready", "archiveFilename": "a.zip", "sha256": "a" * 64,
        "ticketContents": [content, content], "issues": None,
    }  # fmt: skip
    refused = {**accepted, "status": "Invalid", "statusCode": 4000, "issues": [issue, issue]}
    return [json.dumps(whole).encode() for whole in (accepted, refused)]


_CONSTRAINTS: Sequence[dict[str, object]] = (
    {"team-identifier": TEAM, "cdhash": {"$in": [bytes(20), bytes(20)]}},
    {"$or": {"is-init-proc": True, "validation-category": 6}, "launch-type": [1, 2]},
)


def _notary_answers() -> list[bytes]:
    """One submission, the history, a new submission, an error."""
    attributes = {"createdDate": "2026-11-24T17:02:11.000Z", "name": "a.zip", "status": "Accepted"}
    row = {"id": _UUID, "type": "submissions", "attributes": attributes}
    error = {"id": _UUID, "status": "403", "code": "FORBIDDEN", "title": "no", "detail": "no"}
    return [json.dumps(whole).encode() for whole in ({"data": row}, {"errors": [error]})]


def _notary_answer(data: bytes) -> object:
    """As the client takes an answer apart: the body, then the error or the submission in it."""
    said = notary_errors.read(data)
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return said
    if not isinstance(whole, dict):
        return said
    return notary_api._submission(notary_api._data(whole, "x"), "x")


def _coordinator_answers() -> list[bytes]:
    """What is served, and an error."""
    row = {"version": "0.5.0", "platform": "macos-arm64", "bundle_hash": "a" * 64, "url": "x"}
    error = {"error": {"type": "invalid_request_error", "message": "no"}}
    listed = {"releases": [{**row, "active": True, "rollout": 1.0}, row]}
    return [json.dumps(whole).encode() for whole in (row, error, listed)]


def _coordinator_answer(data: bytes) -> object:
    said = coordinator_answers.error(data).shown(400)
    whole = coordinator_answers.read_object(data, "x")
    rows = whole.get("releases")
    listed = [coordinator._row(row, "x") for row in rows] if isinstance(rows, list) else []
    return said, listed, coordinator._release(whole, "x")


def _hub_pages() -> list[bytes]:
    """A page with a folder, a small file and a large one."""
    plain = {"type": "file", "path": "config.json", "size": 7, "oid": "1" * 40}
    large = {"oid": "2" * 64, "size": 9, "pointerSize": 134}
    rows = [
        {"type": "directory", "path": "nested", "size": 0, "oid": "3" * 40},
        plain,
        {**plain, "path": "nested/model.safetensors", "size": 9, "lfs": large, "xetHash": "4" * 64},
    ]
    return [json.dumps(rows).encode(), json.dumps([plain]).encode()]


def _hub_page(data: bytes) -> object:
    return hub_listing.judge(hub_listing.parse_page(data))


def _provider_answers() -> list[bytes]:
    delta = {"role": "assistant", "content": "Paris"}
    choice = {"index": 0, "delta": delta, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return [
        json.dumps({"id": "x", "model": "m", "choices": choices, "usage": usage}).encode()
        for choices in ([choice], [])
    ]


def _provider_answer(data: bytes) -> object:
    document = chat._json(data)
    question = chat.Question(model="m", prompt="q", max_tokens=2)
    return chat._Shape(question).take(document), chat._tokens(document)


def _notarytool_answers() -> list[bytes]:
    whole = json.dumps({"id": _UUID, "status": "Accepted", "message": "Processing complete"})
    return [whole.encode(), f"Conducting pre-submission checks\n{whole}\n".encode()]


def _lookups() -> list[bytes]:
    value = base64.b64encode(b"s8ch").decode()
    found = {
        "recordName": _RECORD,
        "recordType": "DeveloperIDTicket",
        "fields": {"signedTicket": {"type": "BYTES", "value": value}},
        "recordChangeTag": "x",
        "created": {"timestamp": 1_780_000_000_000, "userRecordName": "_x", "deviceID": "y"},
        "deleted": False,
    }
    missing = {"recordName": _RECORD, "reason": "Record not found", "serverErrorCode": "NOT_FOUND"}
    return [json.dumps({"records": [record]}).encode() for record in (found, missing)]


def _lookup(data: bytes) -> object:
    answer = Answer(status=200, headers={}, body=data)
    return stapler._ticket(stapler._record(answer, _RECORD), _RECORD)


def _description() -> list[bytes]:
    lines = (
        "Executable=/x/y", "Identifier=io.example", "Format=app bundle with Mach-O thin (arm64)",
        "CodeDirectory v=20500 size=1234 flags=0x10000(runtime) hashes=30+7 location=embedded",
        f"CandidateCDHash sha256={'ab' * 20}", f"CandidateCDHashFull sha256={'ab' * 32}",
        f"CDHash={'ab' * 20}", "Signature size=9046", "Authority=Apple Root CA",
        "TeamIdentifier=SLDQ2GJ6TL",
    )  # fmt: skip
    return ["\n".join(lines).encode()]


_PS = b"  501     1   501 S    /tmp/a/darkbloom start HOME=/tmp/x RELEASE_TOOL_CHILD=ab12\n"
_LSOF = b"p501\nf12\nn127.0.0.1:8000\nn*:8000\nn[::1]:8000\n"
_PROC_NET = (
    b"  sl  local_address rem_address   st tx_queue rx_queue\n"
    b"   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1\n"
    b"   1: 00000000000000000000000001000000:1F40 00000000:0000 0A 0:0 0:0 0 0 0 2\n"
)


def _said(read: Callable[[str, int], Iterable[object]]) -> Callable[[bytes], object]:
    """A reader of what a program says of a port."""
    return lambda data: list(read(data.decode("utf-8", "replace"), 8000))


def _verified_code(data: bytes) -> object:
    return verification.verify(data, judge=JUDGE)


def _flat_release(data: bytes) -> object:
    """Executables that no seal holds together, one of them this code: checks, and no error."""
    tree = in_memory({"bin/darkbloom": data, "bin/other": data[: len(data) // 2]})
    return release.verify_flat(tree, judge=JUDGE, wanted=("darkbloom",))


def _public_key(data: bytes) -> object:
    return signatures.load_public_key(certificates.load(data).public_key_info)


def _metal(data: bytes) -> object:
    return metal_library.parse(data, size=len(data))


def _gates(data: bytes) -> object:
    """The gates that need no signature, asked of an app with this code: checks, and no error."""
    taken = inventory.take(in_memory({signed_release.MAIN: data}))
    return [
        *library_validation.judge(taken),
        *verdict.files(taken, minimum_macos="14.0"),
    ]


def _linked() -> list[bytes]:
    paths = ["@rpath/libpart.dylib", "/usr/lib/libSystem.B.dylib"]
    search = ["@loader_path/../Frameworks", "/usr/lib/swift"]
    return [linked_macho.build(libraries=paths, search_paths=search, weak=paths), *_code()]


READERS: tuple[Reader, ...] = (
    Reader(name="der", read=_walk, make_seeds=lambda: [*_cms(), *_certificates()], structure="der"),
    Reader(name="macho", read=_macho, make_seeds=_code),
    Reader(name="macho unsigned content", read=_unsigned_content, make_seeds=_code),
    Reader(
        name="portrait",
        read=_portrait,
        make_seeds=lambda: [*_signed(), *_binary_lists(), *_tickets(), *_profiles()[:2]],
        refusals=(),
    ),
    Reader(name="gates", read=_gates, make_seeds=_linked, refusals=()),
    Reader(
        name="metal library",
        read=_metal,
        make_seeds=lambda: [metal_library.header(size=metal_library.HEADER_SIZE)],
    ),
    Reader(
        name="metal functions",
        read=metal_functions.parse,
        make_seeds=lambda: [metal_functions.library({"gemv": b"one", "rope": b"two"})],
    ),
    Reader(
        name="built-in addresses",
        read=built_in.addresses,
        make_seeds=lambda: [built.holding("https://one.test", "http://two.test:8080/v1"), *_code()],
    ),
    Reader(
        name="resource bundles",
        read=resource_bundles.opened,
        make_seeds=lambda: [b"\0/b/kit_Core.bundle\0kit_Core.bundle\0"],
    ),
    Reader(name="superblob", read=_superblob, make_seeds=_superblobs),
    Reader(name="macho of other processors", read=_macho, make_seeds=_old_code),
    Reader(name="detached signature", read=_detached, make_seeds=_detached_signatures),
    Reader(name="release pointer", read=_pointer, make_seeds=_pointers, structure="json"),
    Reader(
        name="release log",
        read=_release_log,
        make_seeds=_release_logs,
        structure="json",
        finish=_chained,
    ),
    Reader(
        name="envelope",
        read=dsse.parse,
        make_seeds=lambda: [dsse.seal("application/a", b"{}", provenance_samples.key())],
        structure="json",
    ),
    Reader(
        name="releases on github",
        read=github_public.parse,
        make_seeds=_public_releases,
        structure="json",
    ),
    Reader(
        name="heads in notes",
        read=lambda data: head_notes.parse(data.decode("utf-8", "replace")),
        make_seeds=lambda: [head_notes.block("log.head.12.json", '{"a":1}').encode()],
    ),
    Reader(
        name="statement",
        read=statement.read,
        make_seeds=lambda: [provenance_samples.payload()],
        structure="json",
    ),
    Reader(
        name="bill of materials",
        read=sbom.read,
        make_seeds=lambda: [provenance_samples.bill()],
        structure="json",
    ),
    Reader(
        name="signing key",
        read=keys.load,
        make_seeds=lambda: [keys.make().encode()],
        structure="text",
    ),
    Reader(
        name="public key",
        read=lambda data: keys.parse(data.decode("utf-8", "replace")),
        make_seeds=lambda: [
            provenance_samples.key().public.line.encode(),
            provenance_samples.key().public.pem.encode(),
        ],
        structure="text",
    ),
    Reader(name="tombstone", read=_tombstone, make_seeds=_tombstones, structure="json"),
    Reader(
        name="registration claim",
        read=_registration_claim,
        make_seeds=_registration_claims,
        structure="json",
    ),
    Reader(name="apple double", read=apple_double.parse, make_seeds=_apple_doubles),
    Reader(
        name="code directory",
        read=_code_directory,
        make_seeds=lambda: [*_slot(superblob.SLOT_CODE_DIRECTORY)(), *_scattered()],
    ),
    Reader(name="launch constraint", read=_constraint, make_seeds=_constraints),
    Reader(
        name="requirement set text",
        read=_requirement_set_text,
        make_seeds=lambda: [
            f"designated => {text} library => always".encode() for text in REQUIREMENT_TEXTS[:4]
        ],
        structure="text",
    ),
    Reader(name="requirement", read=_requirement, make_seeds=_requirements),
    Reader(
        name="requirement set",
        read=lambda data: requirement.encode_set(requirement.parse_set(data)),
        make_seeds=_slot(superblob.SLOT_REQUIREMENTS),
    ),
    Reader(
        name="requirement text",
        read=_requirement_text,
        make_seeds=lambda: [text.encode() for text in REQUIREMENT_TEXTS],
        structure="text",
    ),
    Reader(
        name="entitlements xml",
        read=entitlements.parse_xml,
        make_seeds=_unwrapped(superblob.SLOT_ENTITLEMENTS, superblob.MAGIC_ENTITLEMENTS),
        structure="xml",
    ),
    Reader(
        name="entitlements linter",
        read=lambda data: linter.lint(data, name="a file", jit=True),
        make_seeds=_unwrapped(superblob.SLOT_ENTITLEMENTS, superblob.MAGIC_ENTITLEMENTS),
        structure="xml",
        refusals=(),
    ),
    Reader(
        name="entitlements der",
        read=_entitlements_of,
        make_seeds=_entitlements_der,
        structure="der",
    ),
    Reader(name="cms", read=_signed_cms, make_seeds=_cms, structure="der", refusals=_REFUSED),
    Reader(
        name="timestamp token",
        read=_timestamp,
        make_seeds=_tokens,
        structure="der",
        refusals=_REFUSED,
    ),
    Reader(
        name="timestamp response",
        read=timestamp_token.parse_response,
        make_seeds=_responses,
        structure="der",
        refusals=(errors.FormatError, errors.RemoteRefusedError),
    ),
    Reader(
        name="certificate",
        read=_public_key,
        make_seeds=_certificates,
        structure="der",
        refusals=_REFUSED,
    ),
    Reader(name="code resources", read=_sealed, make_seeds=_seals, structure="xml"),
    Reader(name="property list", read=property_list.parse, make_seeds=_lists, structure="xml"),
    Reader(name="binary property list", read=property_list.parse_any, make_seeds=_binary_lists),
    Reader(name="profile", read=_profile, make_seeds=_profiles, structure="der"),
    Reader(
        name="profile property list",
        read=_profile,
        make_seeds=lambda: _profile_parts()[0],
        structure="xml",
        finish=_in_profile,
    ),
    Reader(
        name="inner profile",
        read=inner_profile.decode,
        make_seeds=lambda: _profile_parts()[2],
        structure="der",
    ),
    Reader(name="ticket", read=_ticket_of, make_seeds=_tickets),
    Reader(name="pkcs12", read=_pkcs12, make_seeds=_identities, structure="der", seconds=_SLOW),
    Reader(
        name="signing identity",
        read=_identity,
        make_seeds=lambda: [*_identities(), AUTHORITY.pem()],
        structure="der",
        refusals=(errors.VerificationError, errors.CredentialError),
        seconds=_SLOW,
    ),
    Reader(
        name="armor",
        read=lambda data: armor.unwrap_all(data, "a test"),
        make_seeds=_armored,
        structure="text",
    ),
    Reader(name="archive", read=_archive, make_seeds=lambda: list(map(_packed, _tars()))),
    Reader(name="tar stream", read=_archive, make_seeds=_tars, finish=_packed),
    Reader(
        name="pax records",
        read=tar_header.decode_records,
        make_seeds=lambda: [b"30 mtime=1780000000.123456789\n12 path=a/b\n", b"8 a=b=c\n"],
    ),
    Reader(name="signed code", read=_verified_code, make_seeds=_signed),
    Reader(name="flat release", read=_flat_release, make_seeds=_signed),
    Reader(name="cms as read", read=_cms_as_read, make_seeds=_cms, structure="der"),
    Reader(
        name="launch constraint dictionary",
        read=_constraint,
        make_seeds=lambda: [
            superblob.unwrap(
                launch_constraints.encode(launch_constraints.build(facts)),
                superblob.MAGIC_LAUNCH_CONSTRAINT,
            )
            for facts in _CONSTRAINTS
        ],
        structure="der",
        finish=lambda data: superblob.wrap(superblob.MAGIC_LAUNCH_CONSTRAINT, data),
    ),
    Reader(
        name="notary log",
        read=_notary_log,
        make_seeds=_logs,
        structure="json",
    ),
    Reader(
        name="notary answer",
        read=_notary_answer,
        make_seeds=_notary_answers,
        structure="json",
        refusals=_REFUSED,
    ),
    Reader(
        name="ticket lookup",
        read=_lookup,
        make_seeds=_lookups,
        structure="json",
        refusals=(errors.TransientError, errors.RemoteRefusedError),
    ),
    Reader(name="zip", read=_zip, make_seeds=_zips),
    Reader(
        name="hub's revision",
        read=hub_listing.parse_commit,
        make_seeds=lambda: [json.dumps({"id": "a/b", "sha": "1" * 40}).encode()],
        structure="json",
    ),
    Reader(name="hub's listing", read=_hub_page, make_seeds=_hub_pages, structure="json"),
    Reader(
        name="coordinator's answer",
        read=_coordinator_answer,
        make_seeds=_coordinator_answers,
        structure="json",
        refusals=(*_REFUSED, errors.TransientError),
    ),
    Reader(
        name="provider's answer",
        read=_provider_answer,
        make_seeds=_provider_answers,
        structure="json",
        refusals=(chat.AnswerError,),
    ),
    Reader(
        name="notarytool's answer",
        read=lambda data: notarytool._document(data.decode("utf-8", "replace")),
        make_seeds=_notarytool_answers,
        structure="json",
    ),
    Reader(
        name="codesign's description",
        read=lambda data: codesign.parse_description(data.decode("utf-8", "replace")),
        make_seeds=_description,
        structure="text",
        refusals=_REFUSED,
    ),
    Reader(
        name="list of processes",
        read=lambda data: list(process_table.parse_ps(data.decode("utf-8", "replace"), "A=b")),
        make_seeds=lambda: [_PS],
        structure="text",
    ),
    Reader(
        name="listeners of Linux",
        read=_said(listening.parse_proc),
        make_seeds=lambda: [_PROC_NET],
        structure="text",
    ),
    Reader(
        name="listeners of macOS",
        read=_said(listening.parse_lsof),
        make_seeds=lambda: [_LSOF],
        structure="text",
    ),
)
"""In the order in which they are run."""
BY_NAME = {reader.name: reader for reader in READERS}
