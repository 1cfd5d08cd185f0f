"""Tamperings of a provisioning profile: what it says, and who said it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from release_tool.apple import certificates, cms, der
from tests.tamperings.signature import leaf_of, rebuilt

_SHA512 = "2.16.840.1.101.3.4.2.3"


class ProfileTampering(NamedTuple):
    """One change of a profile."""

    name: str
    change: Callable[[bytes], bytes]
    caught_by: str = "signature"


def table() -> Iterator[ProfileTampering]:
    """Every tampering with a profile's bytes."""
    yield from _content()
    yield from _signature()
    yield from _leaf()
    yield from _container()


def _flip(data: bytes, needle: bytes, at: int = -1) -> bytes:
    start = data.index(needle) + at % len(needle)
    return data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :]


def _value(data: bytes, key: bytes, tag: bytes) -> int:
    """Where the value of a key begins: a text of the property list."""
    start = data.index(b"<key>" + key + b"</key>")
    return data.index(tag, start) + len(tag)


def _edited(key: bytes, tag: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        at = _value(data, key, tag)
        return data[:at] + new + data[at + len(new) :]

    return change


def _content() -> Iterator[ProfileTampering]:
    yield ProfileTampering("another team", _edited(b"TeamIdentifier", b"<string>", b"0"))
    yield ProfileTampering(
        "another prefix", _edited(b"ApplicationIdentifierPrefix", b"<string>", b"0")
    )
    yield ProfileTampering("a later end", _edited(b"ExpirationDate", b"<date>", b"9"))
    yield ProfileTampering("an earlier beginning", _edited(b"CreationDate", b"<date>", b"1"))
    yield ProfileTampering("another name", _edited(b"Name", b"<string>", b"~"))
    yield ProfileTampering("another UUID", _edited(b"UUID", b"<string>", b"~"))
    yield ProfileTampering("another platform", _edited(b"Platform", b"<string>", b"~"))
    yield ProfileTampering("another app", _other_app)
    yield ProfileTampering("wider access groups", _wider)
    yield ProfileTampering("another certificate", _other_certificate)
    yield ProfileTampering("a longer life", _edited(b"TimeToLive", b"<integer>", b"9"))
    yield ProfileTampering(
        "the content cut", lambda data: data.replace(b"</plist>", b"        "), "format"
    )
    yield ProfileTampering(
        "a key of another spelling", lambda data: data.replace(b"<key>TeamName", b"<key>TeamMane")
    )


def _other_app(data: bytes) -> bytes:
    start = data.index(b"<key>Entitlements</key>")
    at = data.index(b"<string>", data.index(b"application-identifier</key>", start)) + 8
    return data[:at] + b"0" + data[at + 1 :]


def _other_certificate(data: bytes) -> bytes:
    """Another key, where it does not break the certificate's form."""
    at = _value(data, b"DeveloperCertificates", b"<data>") + 800
    letter = b"B" if data[at : at + 1] == b"A" else b"A"
    return data[:at] + letter + data[at + 1 :]


def _wider(data: bytes) -> bytes:
    at = _value(data, b"keychain-access-groups", b"<string>")
    end = data.index(b"</string>", at)
    return data[:at] + b"*".ljust(end - at) + data[end:]


def _signer(data: bytes) -> cms.Signer:
    return cms.parse(data).signers[0]


def _attribute(data: bytes, oid: str) -> bytes:
    return _signer(data).attributes[oid][0].raw


def _signature() -> Iterator[ProfileTampering]:
    yield ProfileTampering(
        "the signature's first octet", lambda d: _flip(d, _signer(d).signature, 0)
    )
    yield ProfileTampering("the signature's last octet", lambda d: _flip(d, _signer(d).signature))
    yield ProfileTampering(
        "the message digest", lambda d: _flip(d, _attribute(d, cms.MESSAGE_DIGEST))
    )
    yield ProfileTampering(
        "the claimed time", lambda d: _flip(d, _attribute(d, cms.SIGNING_TIME), -2)
    )
    yield ProfileTampering("the content type", lambda d: _flip(d, _attribute(d, cms.CONTENT_TYPE)))
    yield ProfileTampering("no attributes", lambda d: rebuilt(d, attributes=lambda _: []))
    yield ProfileTampering(
        "the attributes reversed", lambda d: rebuilt(d, attributes=lambda a: a[::-1])
    )
    yield ProfileTampering(
        "an attribute left out", lambda d: rebuilt(d, attributes=lambda a: a[1:])
    )
    yield ProfileTampering("no signer", lambda d: rebuilt(d, signers=lambda _: []))
    yield ProfileTampering("two signers", lambda d: rebuilt(d, signers=lambda s: [*s, *s]))
    yield ProfileTampering("its digest called SHA-512", lambda d: rebuilt(d, fields=_sha512))


def _sha512(fields: list[bytes]) -> list[bytes]:
    return [*fields[:2], cms.algorithm_identifier(_SHA512, with_null=True), *fields[3:]]


def _leaf() -> Iterator[ProfileTampering]:
    def leaf(name: str, change: Callable[[bytes], bytes]) -> ProfileTampering:
        return ProfileTampering(
            f"the signer's {name}", lambda data: data.replace(leaf_of(data), change(leaf_of(data)))
        )

    yield leaf("signature", lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))
    yield leaf("key", lambda raw: _flip(raw, certificates.load(raw).public_key_info, -20))
    yield leaf("name", lambda raw: _flip(raw, certificates.load(raw).subject))
    yield leaf("issuer", lambda raw: _flip(raw, certificates.load(raw).issuer))
    yield leaf("serial number", lambda raw: _flip(raw, der.integer(certificates.load(raw).serial)))
    yield leaf("validity", _longer)
    yield leaf("usage", lambda raw: _flip(raw, der.oid("2.5.29.15")))
    yield ProfileTampering(
        "without the signer's certificate",
        lambda data: rebuilt(data, holders=lambda h: [raw for raw in h if raw != leaf_of(data)]),
    )
    yield ProfileTampering("without certificates", lambda data: rebuilt(data, holders=lambda _: []))


def _longer(raw: bytes) -> bytes:
    at = list(re.finditer(rb"\x17\x0d(\d{12})Z", raw))[1].start(1)
    return raw[:at] + b"4" + raw[at + 1 :]


def _container() -> Iterator[ProfileTampering]:
    yield ProfileTampering("emptied", lambda _: b"", "format")
    yield ProfileTampering("its first tag", lambda data: b"\x31" + data[1:], "format")
    yield ProfileTampering("cut in the middle", lambda data: data[: len(data) // 2], "format")
    yield ProfileTampering("cut by an octet", lambda data: data[:-1], "format")
    yield ProfileTampering("bytes behind it", lambda data: data + b"\0", "format")
    yield ProfileTampering(
        "no signed data", lambda data: _flip(data, der.oid(cms.SIGNED_DATA)), "format"
    )
    yield ProfileTampering(
        "the property list alone", lambda data: cms.parse(data).content or b"", "format"
    )
    yield ProfileTampering("no content", _hollow, "format")


def _hollow(data: bytes) -> bytes:
    whole = list(der.as_sequence(der.as_sequence(der.parse(data))[1].children[0]))
    parts = [
        der.sequence(der.oid(cms.DATA)) if i == 2 else node.raw for i, node in enumerate(whole)
    ]
    return der.sequence(der.oid(cms.SIGNED_DATA), der.context(0, der.sequence(*parts)))
