"""Arrive again at signatures that others made: what our rules derive, and what had to be copied.

A signature is rebuilt from the code and the files around it. Where our rule gives what stands in
the signature, that is derived; where the signer chose otherwise, the choice is copied and named.
Page hashes, layout, special slots, team, versions and seals are never copied; of the CMS only the
signature octets, their time, the certificates and the token are, since their keys are not ours.
The result is compared byte for byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from release_tool import errors
from release_tool.apple import (
    certificates,
    cms,
    code_directory,
    code_objects,
    code_resources,
    code_signature,
    der,
    der_dictionary,
    entitlements,
    identifiers,
    macho,
    macho_writer,
    property_list,
    requirement,
    signing,
    superblob,
    ticket,
)
from release_tool.apple.code_directory import CodeDirectory
from release_tool.apple.code_objects import Bundle, CodeObject
from release_tool.apple.code_resources import NestedCode
from release_tool.apple.der_dictionary import Document
from release_tool.apple.identity import Identity
from release_tool.apple.macho_writer import Chunk
from release_tool.apple.signing import Given, Intent, Prepared
from release_tool.apple.tree import BundleTree, Subtree

_ALWAYS_DERIVED = ("page hashes", "layout", "special slots", "version")
_OPEN_SEQUENCE = b"\x30\x80"
_COMPARED_BYTES = 1 << 16
# Enough to see which part differs; a slice that is wrong everywhere needs no list.
_NAMED_RANGES = 5


class Difference(NamedTuple):
    """What did not come out as it stands."""

    what: str
    expected: str
    """What the signature says."""
    observed: str
    """What we made."""
    reason: str = ""
    """Why that is right; empty where nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """One slice or one seal, made again."""

    item: str
    part: str
    """The slice's architecture, `file` for all of it, or `seal`, `ticket`, `profile`."""
    expected: str
    """The cdhash of a slice, else a SHA-256."""
    observed: str
    derived: tuple[str, ...]
    copied: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    absent: str = ""
    """Why there is nothing to make again; empty where there is."""

    @property
    def reproduced(self) -> bool:
        """Whether the same bytes came out."""
        return self.expected == self.observed and not self.differences and not self.absent

    @property
    def explained(self) -> bool:
        """Whether all came out, or it is known why not, difference by difference."""
        known = bool(self.differences) and all(one.reason for one in self.differences)
        return self.reproduced or known or bool(self.absent)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One slice with what its signature says."""

    code: macho.Slice
    slices: tuple[macho.Slice, ...]
    owner: CodeObject
    room: memoryview
    blobs: superblob.SuperBlob
    directories: tuple[CodeDirectory, ...]
    signed: cms.SignedData | None
    leaf: certificates.Certificate | None
    info_plist: bytes | None
    seal: bytes | None

    @property
    def primary(self) -> CodeDirectory:
        return self.directories[0]

    @property
    def team_id(self) -> str | None:
        """From the certificate, never from the code directory."""
        return None if self.leaf is None else certificates.organizational_unit(self.leaf)


def of_file(name: str, data: bytes | memoryview) -> tuple[Reproduction, ...]:
    """Make the signatures of a bare Mach-O file again, slice by slice, and the file of them.

    Raises:
        FormatError: it is no signed Mach-O.
    """
    owner = CodeObject(path=name, slices=macho.parse(data))
    return _code(name, data, [_open(code, owner, None, None) for code in owner.slices])


def of_bundle(tree: BundleTree, *, name: str) -> tuple[Reproduction, ...]:
    """Make every signature and every seal of a bundle again, nested ones included.

    Args:
        tree: the bundle's root.
        name: of its folder.

    Raises:
        VerificationError: it is no bundle of signed code.
    """
    found: list[Reproduction] = []
    nested: dict[str, NestedCode] = {}
    for owner in code_objects.discover(tree, name=name, data=None):
        item = f"{name}/{owner.path}"
        info = seal = None
        bundle = owner.bundle
        if bundle is not None:
            info = tree.read(bundle.at(bundle.layout.info))
            seal = tree.read(f"{bundle.prefix}{code_resources.PATH}")
            found.append(_seal(tree, owner, bundle, nested, seal, name))
        cases = [_open(code, owner, info, seal) for code in owner.slices]
        found += _code(item, tree.view(owner.path), cases)
        if owner.named_as:
            nested[owner.named_as] = _as_sealed(cases)
    return tuple(found)


def of_ticket(name: str, data: bytes) -> Reproduction:
    """Write a notarization ticket again from what was read of it.

    Raises:
        FormatError: it is no ticket.
    """
    made = ticket.encode(ticket.parse(data))
    return _written(
        name, "ticket", data, made, derived=("layout", "payload"), copied=("chain", "signature")
    )


def of_profile(name: str, data: bytes) -> tuple[Reproduction, ...]:
    """Write a profile's CMS again from its parts, and derive what its inner form must grant.

    The property list comes from a template of Apple's portal, so it is copied; the entitlements of
    the inner form follow from it.

    Raises:
        FormatError: it is no profile, or its two forms cannot be read.
    """
    signed = cms.parse(data)
    outer = property_list.parse(signed.content or b"")
    claims, inner = outer.get("Entitlements"), outer.get("DER-Encoded-Profile")
    if not isinstance(claims, dict):
        raise errors.FormatError("the profile grants no entitlements", subject=name)
    copied = ("property list", "certificates", "attributes", "signature octets")
    whole = _written(name, "profile", data, cms.encode(signed), derived=("layout",), copied=copied)
    if not isinstance(inner, bytes):
        return (whole,)
    made = entitlements.encode_der(claims)
    pairs = map(der.as_sequence, der.as_set(der.parse(cms.parse(inner).content or b"")))
    stands = next((value.raw for key, value in pairs if der.as_text(key) == "Entitlements"), b"")
    return (
        whole,
        _written(name, "inner profile", stands, made, derived=("entitlements as DER",)),
    )


def _written(
    item: str,
    part: str,
    stands: bytes,
    made: bytes,
    *,
    derived: tuple[str, ...],
    copied: tuple[str, ...] = (),
) -> Reproduction:
    return Reproduction(
        item=item,
        part=part,
        expected=hashlib.sha256(stands).hexdigest(),
        observed=hashlib.sha256(made).hexdigest(),
        derived=derived,
        copied=copied,
        differences=tuple(_ranges(part, stands, made)),
    )


def _code(item: str, data: bytes | memoryview, cases: Sequence[_Case]) -> tuple[Reproduction, ...]:
    made = [_slice(case, item) for case in cases]
    whole = macho_writer.join(
        data, [(case.code, chunks) for case, (_, chunks) in zip(cases, made, strict=True)]
    )
    digest = hashlib.sha256()
    for chunk in whole:
        digest.update(chunk)
    universal = macho.is_universal(data)
    file = Reproduction(
        item=item,
        part="file",
        expected=hashlib.sha256(data).hexdigest(),
        observed=digest.hexdigest(),
        derived=("padding", *(("places of the slices", "gaps") if universal else ())),
        copied=("alignment of the slices",) if universal else (),
    )
    return (*(one for one, _ in made), file)


def _as_sealed(cases: Sequence[_Case]) -> NestedCode:
    """Nested code as a seal names it, out of the code's own signature."""
    host = identifiers.host_slice([case.code for case in cases])
    case = next(one for one in cases if one.code is host)
    blob = case.blobs.get(superblob.SLOT_REQUIREMENTS)
    requirements = requirement.parse_set(blob) if blob is not None else {}
    ordered = sorted(cases, key=lambda one: one is not case)
    cdhashes = [
        code_directory.cdhash(directory.raw) for one in ordered for directory in one.directories
    ]
    return NestedCode(
        cdhash=code_directory.cdhash(case.directories[-1].raw),
        requirement_text=requirement.to_text(requirement.designated(requirements, cdhashes)),
    )


def _seal(
    tree: BundleTree,
    owner: CodeObject,
    bundle: Bundle,
    nested: Mapping[str, NestedCode],
    seal: bytes,
    name: str,
) -> Reproduction:
    prefix = bundle.prefix
    made = code_resources.build(
        Subtree(tree=tree, prefix=bundle.contents),
        {path.removeprefix(prefix): one for path, one in nested.items() if path.startswith(prefix)},
        main_executable=owner.path.removeprefix(prefix),
        resources=bundle.layout.resources,
        with_sha1=code_directory.SHA1 in signing.digests_for(owner.slices),
    )
    item = f"{name}/{prefix}{code_resources.PATH}"
    derived = ("rules", "files", "files2", "nested code")
    return _written(item, "seal", seal, made, derived=derived)


def _open(
    code: macho.Slice, owner: CodeObject, info_plist: bytes | None, seal: bytes | None
) -> _Case:
    room = code.signature_bytes
    if room is None:
        raise errors.FormatError("is not signed", subject=owner.path)
    blobs = superblob.parse(room)
    directories = tuple(map(code_directory.parse, blobs.code_directories))
    if not directories:
        raise errors.FormatError("the signature has no code directory", subject=owner.path)
    signed = leaf = None
    wrapped = blobs.get(superblob.SLOT_CMS)
    content = superblob.unwrap(wrapped, superblob.MAGIC_WRAPPER) if wrapped is not None else b""
    if content:
        signed = cms.parse(content)
        leaf = _leaf(signed)
    return _Case(
        code=code,
        slices=owner.slices,
        owner=owner,
        room=room,
        blobs=blobs,
        directories=directories,
        signed=signed,
        leaf=leaf,
        info_plist=info_plist,
        seal=seal,
    )


def _leaf(signed: cms.SignedData) -> certificates.Certificate:
    """The certificate that issued no other of them."""
    loaded = [certificates.load(raw) for raw in signed.certificates]
    issuers = {one.issuer for one in loaded}
    leafs = [one for one in loaded if one.subject not in issuers]
    if len(leafs) != 1:
        raise errors.FormatError("the signature names no one signer", observed=str(len(leafs)))
    return leafs[0]


class _Choice(NamedTuple):
    """One thing that a signer chooses: our rule's value, the signature's, and how to give it."""

    name: str
    rule: object
    stands: object
    give: Callable[[Intent], Intent]


def _slice(case: _Case, item: str) -> tuple[Reproduction, tuple[Chunk, ...]]:
    intent = _intent(case)
    derived, copied = list(_ALWAYS_DERIVED), ["flags"]
    if case.team_id is not None:
        derived.append("team")
    if intent.entitlements is not None:
        copied.append("entitlements as XML")
    if intent.hardened_runtime:
        derived.append("runtime")
    for choose in _CHOICES:
        choice = choose(case, intent)
        if choice is None:
            continue
        same = choice.rule == choice.stands
        (derived if same else copied).append(choice.name)
        intent = choice.give(intent)
    prepared = signing.prepare(case.code, intent, case.team_id)
    differences: list[Difference] = []
    cms_blob = case.blobs.get(superblob.SLOT_CMS)
    if case.signed is not None and case.leaf is not None:
        derived.append("CMS" if _has_open_lengths(case) else "CMS with definite lengths")
        copied += ["signature octets", "signing time", "certificates", "timestamp token"]
        if case.signed.signers[0].signature_algorithm != code_signature.algorithm_of(case.leaf):
            copied.append("name of the signature's algorithm")
        try:
            cms_blob = _cms(case, prepared)
        except errors.ReleaseError as problem:
            differences.append(Difference("CMS", "one that codesign writes", str(problem)))
    signature = prepared.signed(cms_blob)
    differences += _compare(case, prepared, signature)
    made = Reproduction(
        item=item,
        part=case.code.arch,
        expected=code_directory.cdhash(case.directories[-1].raw).hex(),
        observed=code_directory.cdhash(prepared.strongest).hex(),
        derived=tuple(derived),
        copied=tuple(copied),
        differences=tuple(differences),
    )
    return made, prepared.chunks(signature)


def _intent(case: _Case) -> Intent:
    """What the signer certainly chose: flags, entitlements, an identifier of its own."""
    flags = case.primary.flags
    xml = case.blobs.get(superblob.SLOT_ENTITLEMENTS)
    return Intent(
        identifier=case.primary.identifier,
        hardened_runtime=bool(flags & code_directory.RUNTIME),
        entitlements=(None if xml is None else superblob.unwrap(xml, superblob.MAGIC_ENTITLEMENTS)),
        info_plist=case.info_plist,
        code_resources=case.seal,
        given=Given(flags=flags, linker=bool(flags & code_directory.LINKER_SIGNED)),
    )


def _given(intent: Intent, **values: object) -> Intent:
    return replace(intent, given=replace(intent.given, **values))  # type: ignore[arg-type]


def _identifier(case: _Case, intent: Intent) -> _Choice:
    adhoc = case.team_id is None
    return _Choice(
        "identifier",
        case.owner.identifier(adhoc=adhoc and not intent.given.linker),
        case.primary.identifier,
        lambda intent: intent,
    )


def _digests(case: _Case, intent: Intent) -> _Choice:
    stands = tuple(one.hash_type for one in case.directories)
    rule = (code_directory.SHA256,) if intent.given.linker else signing.digests_for(case.slices)
    return _Choice("digests", rule, stands, lambda intent: _given(intent, hash_types=stands))


def _page_size(case: _Case, intent: Intent) -> _Choice:
    del intent
    stands = case.primary.page_size_log2
    rule = signing.page_size_log2(case.code)
    return _Choice("page size", rule, stands, lambda intent: _given(intent, page_size_log2=stands))


def _exec_segment(case: _Case, intent: Intent) -> _Choice:
    found = case.primary
    stands = (found.exec_segment_base, found.exec_segment_limit, found.exec_segment_flags)
    rule = signing.exec_segment(case.code, intent)
    return _Choice("exec segment", rule, stands, lambda intent: _given(intent, exec_segment=stands))


def _requirement(case: _Case, intent: Intent) -> _Choice | None:
    stands = case.blobs.get(superblob.SLOT_REQUIREMENTS)
    if stands is None:
        return None
    rule = signing.requirements(intent, case.team_id)
    name = "default requirement" if rule == stands else "an explicit requirement"
    return _Choice(name, rule, stands, lambda intent: _given(intent, requirements=stands))


def _der_form(case: _Case, intent: Intent) -> _Choice | None:
    """By today's rule, or by that of 2020; older signers wrote none."""
    if intent.entitlements is None:
        return None
    values = entitlements.parse_xml(intent.entitlements)
    stands = case.blobs.get(superblob.SLOT_ENTITLEMENTS_DER)
    rule, name = entitlements.der_blob(values), "entitlements as DER"
    if stands is None:
        name = "no entitlements as DER"
    elif stands != rule and stands == (old := _der_of_2020(values)):
        rule, name = old, "entitlements as DER of 2020"
    return _Choice(
        name, rule, stands, lambda intent: _given(intent, entitlements_der=stands or b"")
    )


def _der_of_2020(values: Mapping[str, object]) -> bytes:
    """A SET in DER's own order, which is that of the encoded pairs."""

    def encoded(key: str) -> bytes:
        return der_dictionary.encode(Document({key: values[key]}, "2020"))

    ordered = {key: values[key] for key in sorted(values, key=encoded)}
    payload = der_dictionary.encode(Document(ordered, "2020"))
    return superblob.wrap(superblob.MAGIC_ENTITLEMENTS_DER, payload)


def _reserved(case: _Case, intent: Intent) -> _Choice:
    stands = len(case.room)
    rule = signing.prepare(case.code, intent, case.team_id).reserved
    return _Choice("reserved size", rule, stands, lambda intent: _given(intent, reserved=stands))


def _memory(case: _Case, intent: Intent) -> _Choice | None:
    del intent
    found = case.code.linkedit
    if found is None:
        return None
    page = macho_writer.MEMORY_PAGE
    if found.vm_size != -(-found.size // page) * page:
        page = macho_writer.OLD_MEMORY_PAGE
    return _Choice(
        "memory of __LINKEDIT",
        macho_writer.MEMORY_PAGE,
        page,
        lambda intent: _given(intent, memory_page=page),
    )


_CHOICES = (
    _digests,
    _page_size,
    _exec_segment,
    _requirement,
    _identifier,
    _der_form,
    _memory,
    _reserved,
)


def _compare(case: _Case, prepared: Prepared, signature: bytes) -> Iterator[Difference]:
    """Fields of the code directories, the signature, and the load commands."""
    for original, made in zip(case.directories, prepared.directories, strict=True):
        if original.raw != made:
            yield from _fields(original, code_directory.parse(made))
    whole = signature + bytes(prepared.reserved - len(signature))
    yield from _ranges("signature", bytes(case.room), whole)
    head, fill = prepared.image.head, prepared.image.fill
    yield from _ranges("load commands", bytes(case.code.data[: len(head)]), head)
    start = prepared.image.size - len(fill)
    yield from _ranges("alignment", bytes(case.code.data[start : start + len(fill)]), fill)


def _fields(original: CodeDirectory, made: CodeDirectory) -> Iterator[Difference]:
    for one in fields(CodeDirectory):
        stands, ours = getattr(original, one.name), getattr(made, one.name)
        if one.name != "raw" and stands != ours:
            yield Difference(f"code directory: {one.name}", str(stands)[:200], str(ours)[:200])


def _ranges(what: str, expected: bytes, observed: bytes) -> Iterator[Difference]:
    """Where two byte strings differ, in runs; nothing where they are equal."""
    if expected == observed:
        return
    if len(expected) != len(observed):
        yield Difference(f"{what}: length", str(len(expected)), str(len(observed)))
    count = 0
    position, end = 0, min(len(expected), len(observed))
    while position < end and count < _NAMED_RANGES:
        step = slice(position, position + _COMPARED_BYTES)
        if expected[step] == observed[step]:
            position += _COMPARED_BYTES
            continue
        while expected[position] == observed[position]:
            position += 1
        start = position
        while position < end and expected[position] != observed[position]:
            position += 1
        count += 1
        place = f"{what}: bytes {start} to {position}"
        yield Difference(
            place, expected[start:position][:32].hex(), observed[start:position][:32].hex()
        )


class _Replay:
    """A signer whose key is gone: it gives the octets that were once made."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def sign(self, digest: bytes) -> bytes:
        del digest
        return self._octets


def _cms(case: _Case, prepared: Prepared) -> bytes:
    """The CMS slot with the old signature octets and token in it.

    Raises:
        CredentialError: the octets do not sign what we would have signed.
    """
    if case.signed is None or case.leaf is None:
        raise errors.FormatError("nobody signed it", subject=case.owner.path)
    signer = case.signed.signers[0]
    if signer.signing_time is None:
        raise errors.FormatError("the signature claims no time", subject=case.owner.path)
    others = [certificates.load(raw) for raw in case.signed.certificates]
    token = signer.unsigned.get(cms.TIMESTAMP_TOKEN)
    made = code_signature.build_cms(
        prepared.directories,
        identity=Identity(
            leaf=case.leaf,
            chain=tuple(one for one in others if one.der != case.leaf.der),
            signer=_Replay(signer.signature),
        ),
        signing_time=signer.signing_time,
        timestamp=None if token is None else lambda _: token[0].raw,
        lengths="indefinite" if _has_open_lengths(case) else "definite",
        algorithm=signer.signature_algorithm,
    )
    return superblob.wrap(superblob.MAGIC_WRAPPER, made)


def _has_open_lengths(case: _Case) -> bool:
    blob = case.blobs.get(superblob.SLOT_CMS) or b""
    return blob[8:10] == _OPEN_SEQUENCE
