"""Tamperings of the CMS of a code signature: attributes, certificates, timestamp."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from release_tool.apple import certificates, cms, der, macho, superblob
from tests.tamperings.code import Code, CodeTampering

_SIGNED, _UNSIGNED = 0xA0, 0xA1
_SHA1 = "1.3.14.3.2.26"
_SHA512 = "2.16.840.1.101.3.4.2.3"
_ECDSA = "1.2.840.10045.4.3.2"
_BASIC_CONSTRAINTS = der.oid("2.5.29.19")
_EXTENDED_KEY_USAGE = der.oid("2.5.29.37")
_TST_INFO = der.oid("1.2.840.113549.1.9.16.1.4")
_DATA = der.oid(cms.DATA)

Change = Callable[[bytes], bytes]


def table() -> Iterator[CodeTampering]:
    """Every tampering with a CMS."""
    yield from _octets()
    yield from _attributes()
    yield from _signers()
    yield from _certificates()
    yield from _token()


def content_of(code: Code) -> bytes:
    blob = code.blob.get(superblob.SLOT_CMS)
    assert blob is not None
    return superblob.unwrap(blob, superblob.MAGIC_WRAPPER)


def with_content(code: Code, content: bytes) -> bytes:
    return code.with_blob(superblob.SLOT_CMS, superblob.wrap(superblob.MAGIC_WRAPPER, content))


def _case(name: str, change: Change, caught_by: str = "signature") -> CodeTampering:
    return CodeTampering(
        f"CMS: {name}", lambda code: with_content(code, change(content_of(code))), caught_by
    )


def _signer(content: bytes) -> cms.Signer:
    return cms.parse(content).signers[0]


def _flip(content: bytes, needle: bytes, at: int = -1, mask: int = 1) -> bytes:
    """Another byte inside a part of the content that is there once, or first."""
    start = content.index(needle) + at % len(needle)
    return content[:start] + bytes([content[start] ^ mask]) + content[start + 1 :]


def _attribute(content: bytes, oid: str) -> bytes:
    """The one value of a signed attribute, as it stands."""
    return _signer(content).attributes[oid][0].raw


# Octets


def _octets() -> Iterator[CodeTampering]:
    yield _case("the signature's first octet", lambda c: _flip(c, _signer(c).signature, 0))
    yield _case("the signature's last octet", lambda c: _flip(c, _signer(c).signature))
    yield _case("the signature of zeros", _zeroed)
    yield _case("cut in the middle", lambda c: c[: len(c) // 2])
    yield _case("cut by an octet", lambda c: c[:-1])
    yield _case("bytes behind it", lambda c: c + b"\0")
    yield _case("no signed data", lambda c: _flip(c, der.oid(cms.SIGNED_DATA)))
    yield _case("its first tag", lambda c: b"\x31" + c[1:])
    yield _case("the content inside", _attached)
    yield _case("the content's type", lambda c: _flip(c, _DATA))


def _zeroed(content: bytes) -> bytes:
    signature = _signer(content).signature
    return content.replace(signature, bytes(len(signature)))


# Signed attributes


def _attributes() -> Iterator[CodeTampering]:
    yield _case("the message digest", lambda c: _flip(c, _attribute(c, cms.MESSAGE_DIGEST)))
    yield _case("the claimed time", lambda c: _flip(c, _attribute(c, cms.SIGNING_TIME), -2))
    yield _case("the content type attribute", lambda c: _flip(c, _attribute(c, cms.CONTENT_TYPE)))
    yield _case(
        "a byte of the list of cdhashes",
        lambda c: _flip(c, _attribute(c, cms.APPLE_CDHASHES_PLIST), 200),
    )
    yield _case("a byte of the full digests", lambda c: _flip(c, _attribute(c, cms.APPLE_CDHASHES)))
    for name, oid in (
        ("the message digest", cms.MESSAGE_DIGEST),
        ("the claimed time", cms.SIGNING_TIME),
        ("the content type", cms.CONTENT_TYPE),
        ("the list of cdhashes", cms.APPLE_CDHASHES_PLIST),
        ("the full digests", cms.APPLE_CDHASHES),
    ):
        yield _case(f"{name} left out", _without(oid))
    yield _case("the attributes reversed", lambda c: rebuilt(c, attributes=lambda a: a[::-1]))
    yield _case("an attribute added", lambda c: rebuilt(c, attributes=lambda a: [*a, _extra()]))
    yield _case("an attribute twice", lambda c: rebuilt(c, attributes=lambda a: [*a, a[0]]))
    yield _case("no attributes", lambda c: rebuilt(c, attributes=lambda _: []))


def _without(oid: str) -> Change:
    return lambda c: rebuilt(c, attributes=lambda found: [raw for raw in found if _oid(raw) != oid])


def _oid(raw: bytes) -> str:
    return der.as_oid(der.as_sequence(der.parse(raw))[0])


def _extra() -> bytes:
    return cms.attribute("1.2.3.4", der.integer(1))


# The signer


def _signers() -> Iterator[CodeTampering]:
    yield _case("its digest called SHA-1", lambda c: _digest(c, _SHA1))
    yield _case("its digest called SHA-512", lambda c: _digest(c, _SHA512))
    yield _case("its algorithm called ECDSA", lambda c: rebuilt(c, fields=_ecdsa))
    yield _case("parameters of its digest", lambda c: rebuilt(c, fields=lambda f: _odd(f, 2)))
    yield _case("parameters of its algorithm", lambda c: rebuilt(c, fields=lambda f: _odd(f, 4)))
    yield _case("another serial number", lambda c: rebuilt(c, fields=_serial))
    yield _case("another issuer", lambda c: rebuilt(c, fields=_issuer))
    yield _case("a second signer", lambda c: rebuilt(c, signers=lambda s: [*s, *s]))
    yield _case("no signer", lambda c: rebuilt(c, signers=lambda _: []))


def _digest(content: bytes, oid: str) -> bytes:
    def change(fields: list[bytes]) -> list[bytes]:
        return [*fields[:2], cms.algorithm_identifier(oid, with_null=True), *fields[3:]]

    return rebuilt(content, fields=change)


def _ecdsa(fields: list[bytes]) -> list[bytes]:
    index = next(i for i, raw in enumerate(fields) if i > 2 and raw[0] == 0x30)
    return [
        *fields[:index],
        cms.algorithm_identifier(_ECDSA, with_null=False),
        *fields[index + 1 :],
    ]


def _odd(fields: list[bytes], index: int) -> list[bytes]:
    """An algorithm with parameters that it has not: readers may make anything of them."""
    oid = der.as_sequence(der.parse(fields[index]))[0]
    odd = der.sequence(oid.raw, der.octets(b""))
    return [*fields[:index], odd, *fields[index + 1 :]]


def _serial(fields: list[bytes]) -> list[bytes]:
    issuer, serial = der.as_sequence(der.parse(fields[1]))
    other = der.integer(der.as_integer(serial) + 1)
    return [fields[0], der.sequence(issuer.raw, other), *fields[2:]]


def _issuer(fields: list[bytes]) -> list[bytes]:
    return [fields[0], fields[1][:-40] + bytes([fields[1][-40] ^ 1]) + fields[1][-39:], *fields[2:]]


# Certificates


def leaf_of(content: bytes) -> bytes:
    """The signer's certificate."""
    signer = _signer(content)
    for raw in cms.parse(content).certificates:
        if certificates.load(raw).serial == signer.serial:
            return raw
    raise AssertionError("no leaf")


def _certificates() -> Iterator[CodeTampering]:
    chain = "certificate chain"

    def leaf(name: str, change: Change, caught_by: str = chain) -> CodeTampering:
        return _case(
            f"the leaf's {name}", lambda c: c.replace(leaf_of(c), change(leaf_of(c))), caught_by
        )

    yield leaf("signature", lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))
    yield leaf("common name", lambda raw: _flip(raw, b"Developer ID Application", 0))
    yield leaf("team", _other_team)
    yield leaf("end of validity", _longer)
    yield leaf("beginning of validity", _earlier)
    yield leaf(
        "public key",
        lambda raw: _flip(raw, certificates.load(raw).public_key_info, -20),
        "signature",
    )
    yield leaf("serial number", _other_serial, "signature")
    yield leaf("issuer", lambda raw: _flip(raw, certificates.load(raw).issuer, -6), "signature")
    yield leaf("marker", lambda raw: _flip(raw, der.oid(certificates.DEVELOPER_ID_APPLICATION)))
    yield leaf("purpose", lambda raw: _flip(raw, der.oid(certificates.CODE_SIGNING)))
    yield leaf("basic constraints", lambda raw: _flip(raw, _BASIC_CONSTRAINTS))
    yield leaf("first tag", lambda raw: b"\x31" + raw[1:], "signature")
    yield _case("without the leaf", lambda c: _kept(c, lambda raw: raw != leaf_of(c)))
    yield _case("without any certificate", lambda c: _kept(c, lambda _: False))
    yield CodeTampering("CMS: somebody else's leaf", _exchanged_leaf, "signature")
    yield CodeTampering("CMS: somebody else's certificates", _exchanged_all, "signature")


def _other_team(raw: bytes) -> bytes:
    unit = certificates.organizational_unit(certificates.load(raw)) or ""
    at = raw.rindex(unit.encode())
    return raw[:at] + b"X" + raw[at + 1 :]


def _longer(raw: bytes) -> bytes:
    dates = list(re.finditer(rb"\x17\x0d(\d{12})Z", raw))
    at = dates[1].start(1)
    return raw[:at] + b"4" + raw[at + 1 :]


def _earlier(raw: bytes) -> bytes:
    at = next(re.finditer(rb"\x17\x0d(\d{12})Z", raw)).start(1)
    return raw[:at] + b"00" + raw[at + 2 :]


def _other_serial(raw: bytes) -> bytes:
    serial = der.integer(certificates.load(raw).serial)
    return _flip(raw, serial)


def _kept(content: bytes, keep: Callable[[bytes], bool]) -> bytes:
    return rebuilt(content, holders=lambda found: [raw for raw in found if keep(raw)])


def _other_content(code: Code) -> bytes:
    room = macho.parse(code.other)[-1].signature_bytes
    assert room is not None
    blob = superblob.parse(room).get(superblob.SLOT_CMS)
    assert blob is not None
    return superblob.unwrap(blob, superblob.MAGIC_WRAPPER)


def _exchanged_leaf(code: Code) -> bytes:
    content, other = content_of(code), leaf_of(_other_content(code))
    mine = leaf_of(content)
    return with_content(
        code,
        rebuilt(content, holders=lambda found: [other if raw == mine else raw for raw in found]),
    )


def _exchanged_all(code: Code) -> bytes:
    others = list(cms.parse(_other_content(code)).certificates)
    return with_content(code, rebuilt(content_of(code), holders=lambda _: others))


# The timestamp token


def _token() -> Iterator[CodeTampering]:
    def token(name: str, change: Change) -> CodeTampering:
        def whole(content: bytes) -> bytes:
            old = token_of(content)
            return with_token(content, change(old))

        return _case(f"the timestamp's {name}", whole, "timestamp")

    yield token("imprint", lambda t: _flip(t, _imprint(t)))
    yield token("time", lambda t: _flip(t, _times(t), -3))
    yield token("serial number", lambda t: _flip(t, _info(t)[3].raw))
    yield token("policy", lambda t: _flip(t, _info(t)[1].raw))
    yield token("version", lambda t: _flip(t, _info(t)[0].raw + _info(t)[1].raw, 2))
    yield token("signature", lambda t: _flip(t, _signer(t).signature))
    yield token("message digest", lambda t: _flip(t, _attribute(t, cms.MESSAGE_DIGEST)))
    yield token("content type", lambda t: t.replace(_TST_INFO, _TST_INFO[:-1] + b"\x05"))
    yield token("binding to its signer", lambda t: _flip(t, _binding(t), -1))
    yield token(
        "signer's certificate: its key",
        _stamp_leaf(lambda raw: _flip(raw, certificates.load(raw).public_key_info, -20)),
    )
    yield token("signer's certificate: its validity", _stamp_leaf(_longer))
    yield token(
        "signer's certificate: its purpose",
        _stamp_leaf(lambda raw: _flip(raw, der.oid(certificates.TIME_STAMPING))),
    )
    yield token(
        "signer's certificate: its purpose named twice",
        _stamp_leaf(lambda raw: _flip(raw, _EXTENDED_KEY_USAGE)),
    )
    yield token(
        "signer's certificate: its signature",
        _stamp_leaf(lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])),
    )
    yield token(
        "signer's certificate left out",
        lambda t: rebuilt(t, holders=lambda found: [raw for raw in found if raw != leaf_of(t)]),
    )
    yield token("attributes reversed", lambda t: rebuilt(t, attributes=lambda a: a[::-1]))
    yield token("attributes left out", lambda t: rebuilt(t, attributes=lambda _: []))
    yield token("second signer", lambda t: rebuilt(t, signers=lambda s: [*s, *s]))
    yield _case("the timestamp cut by an octet", lambda c: with_token(c, token_of(c)[:-1]))
    yield token("whole content: a number", lambda _: der.integer(1))
    yield _case("two timestamps", _two_tokens, "timestamp")
    yield CodeTampering("CMS: somebody else's timestamp", _other_token, "timestamp")
    yield _case(
        "the code's own CMS as its timestamp",
        lambda c: with_token(c, without_token(c)),
        "timestamp",
    )


def token_of(content: bytes) -> bytes:
    return _signer(content).unsigned[cms.TIMESTAMP_TOKEN][0].raw


def with_token(content: bytes, token: bytes) -> bytes:
    return rebuilt(content, unsigned=lambda _: [_stamped(token)])


def without_token(content: bytes) -> bytes:
    """The signature with its timestamp taken off: nothing in the signature forbids it."""
    return rebuilt(content, unsigned=lambda _: [])


def _stamped(*tokens: bytes) -> bytes:
    return der.sequence(der.oid(cms.TIMESTAMP_TOKEN), der.set_as_given(*tokens))


def _two_tokens(content: bytes) -> bytes:
    token = token_of(content)
    return rebuilt(content, unsigned=lambda _: [_stamped(token, token)])


def _other_token(code: Code) -> bytes:
    return with_content(code, with_token(content_of(code), token_of(_other_content(code))))


def _info(token: bytes) -> tuple[der.Node, ...]:
    return der.as_sequence(der.parse(cms.parse(token).content or b""))


def _imprint(token: bytes) -> bytes:
    return _info(token)[2].raw


def _times(token: bytes) -> bytes:
    return _info(token)[4].raw


def _binding(token: bytes) -> bytes:
    attributes = _signer(token).attributes
    known = ("1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47")
    (value,) = next(attributes[oid] for oid in known if oid in attributes)
    certificate_id = der.as_sequence(der.as_sequence(der.as_sequence(value)[0])[0])
    return next(node.raw for node in certificate_id if node.is_universal(der.OCTET_STRING))


def _stamp_leaf(change: Change) -> Change:
    def whole(token: bytes) -> bytes:
        leaf = leaf_of(token)
        return token.replace(leaf, change(leaf))

    return whole


# Building anew


def _same(parts: list[bytes]) -> list[bytes]:
    return parts


def rebuilt(
    content: bytes,
    *,
    attributes: Callable[[list[bytes]], Sequence[bytes]] = _same,
    unsigned: Callable[[list[bytes]], Sequence[bytes]] = _same,
    fields: Callable[[list[bytes]], list[bytes]] = _same,
    holders: Callable[[list[bytes]], Sequence[bytes]] = _same,
    signers: Callable[[list[bytes]], Sequence[bytes]] = _same,
) -> bytes:
    """Signed data of the same parts, some of them changed; everything else as it stood."""
    whole = der.as_sequence(der.as_sequence(der.parse(content))[1].children[0])
    version, digests, encapsulated, there, group = whole
    (signer,) = der.as_set(group)
    old = [node.raw for node in der.as_sequence(signer)]
    new = fields(_with_attributes(old, attributes, unsigned))
    certificates_part = holders([node.raw for node in there.children])
    body = der.sequence(
        version.raw,
        digests.raw,
        encapsulated.raw,
        *((der.encode(_SIGNED, *certificates_part),) if certificates_part else ()),
        der.set_as_given(*signers([der.sequence(*new)])),
    )
    return der.sequence(der.oid(cms.SIGNED_DATA), der.context(0, body))


def _with_attributes(
    old: list[bytes],
    attributes: Callable[[list[bytes]], Sequence[bytes]],
    unsigned: Callable[[list[bytes]], Sequence[bytes]],
) -> list[bytes]:
    plain = [raw for raw in old if raw[0] not in (_SIGNED, _UNSIGNED)]
    there = attributes(_children(old, _SIGNED))
    open_part = unsigned(_children(old, _UNSIGNED))
    found = plain[:3]
    found += [der.encode(_SIGNED, *there)] if there else []
    found += plain[3:]
    return found + ([der.encode(_UNSIGNED, *open_part)] if open_part else [])


def _children(fields: list[bytes], tag: int) -> list[bytes]:
    part = next((raw for raw in fields if raw[0] == tag), None)
    return [node.raw for node in der.parse(part).children] if part else []


def _attached(content: bytes) -> bytes:
    """Other content inside: a reader that prefers it would judge that."""
    whole = list(der.as_sequence(der.as_sequence(der.parse(content))[1].children[0]))
    inside = der.sequence(_DATA, der.context(0, der.octets(b"other content")))
    parts = [inside if index == 2 else node.raw for index, node in enumerate(whole)]
    return der.sequence(der.oid(cms.SIGNED_DATA), der.context(0, der.sequence(*parts)))
