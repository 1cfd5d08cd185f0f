"""Inputs that once ended in something else than a value or the format's own error."""

from __future__ import annotations

import io
import ssl
import zipfile
from collections.abc import Callable, Mapping
from typing import NamedTuple

from release_tool.apple import der
from release_tool.rehearsal import profiles
from tests import signed_release, signing_identity


def _many_rounds() -> bytes:
    """A PKCS#12 file of many parts, each of which asks for as much hashing as one may."""
    version, content, mac = der.as_sequence(der.parse(signing_identity.authority().p12(b"secret")))
    kind, holder = der.as_sequence(content)
    parts = der.as_sequence(der.parse(der.as_octets(holder.children[0])))
    pbes1 = der.oid("1.2.840.113549.1.12.1.3")
    asked = [
        der.sequence(
            der.oid("1.2.840.113549.1.7.6"),
            der.context(
                0,
                der.sequence(
                    der.integer(0),
                    der.sequence(
                        der.oid("1.2.840.113549.1.7.1"),
                        der.sequence(
                            pbes1, der.sequence(der.octets(bytes(8)), der.integer(rounds))
                        ),
                        der.encode(0x80, bytes(16)),
                    ),
                ),
            ),
        )
        for rounds in (*[1_900_000] * 50, -(2**62))
    ]
    safe = der.octets(der.sequence(*(part.raw for part in parts), *asked))
    return der.sequence(version.raw, der.sequence(kind.raw, der.context(0, safe)), mac.raw)


def _odd_version() -> bytes:
    """A PEM identity whose certificate says that it is of X.509's fifth version."""
    authority = signing_identity.authority()
    odd = authority.leaf.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04", 1)
    return authority.pem().replace(authority.leaf.pem, ssl.DER_cert_to_PEM_cert(odd).encode())


def _odd_name() -> bytes:
    """A profile that allows a certificate whose subject's common name has no identifier."""
    leaf = signing_identity.authority().leaf.der
    odd = leaf.replace(b"\x06\x03\x55\x04\x03", b"\x02\x03\x55\x04\x03")
    wish = profiles.Wish(team_id=signing_identity.TEAM, bundle_id="io.example", certificates=(odd,))
    return profiles.make(signed_release.look_alike(), wish)


def _greedy_zip() -> bytes:
    """A zip whose member asks for a dictionary of 4 GiB before the first byte is unpacked."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as packed:
        packed.writestr("a.app/Contents/Info.plist", bytes(1000))
    data = bytearray(stream.getvalue())
    properties = data.index(b"Info.plist") + len("Info.plist") + 4
    data[properties + 1 : properties + 5] = b"\xff\xff\xff\xff"
    return bytes(data)


def _early_member() -> bytes:
    """A zip cut at its beginning, so that its first member lies before it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("a.app/x", bytes(100))
    return stream.getvalue()[20:]


class Regression(NamedTuple):
    """One such input."""

    reader: str
    fault: str
    """What happened then."""
    data: Callable[[], bytes]


REGRESSIONS: Mapping[str, Regression] = {
    "a zip that asks for memory": Regression(
        "zip", "packed by LZMA, whose decoder takes what memory the data asks for", _greedy_zip
    ),
    "a zip cut at its beginning": Regression(
        "zip",
        "the system's refusal to seek before a file was called this host's fault",
        _early_member,
    ),
    "many beginnings of PEM": Regression(
        "armor",
        "each beginning without an end was searched to the end of the text: minutes for 8 MB",
        lambda: b"-----BEGIN CERTIFICATE-----\n" * (8 * 1024 * 1024 // 28),
    ),
    "many parts of many rounds": Regression(
        "signing identity",
        "each part's rounds were bounded and their sum was not: a second for each of any number",
        _many_rounds,
    ),
    "a certificate of an unknown version": Regression(
        "signing identity",
        "the library's own exception for it is no ValueError, and went through",
        _odd_version,
    ),
    "a certificate without a name in a profile": Regression(
        "portrait",
        "names are read when they are shown, and diff ended where it should only describe",
        _odd_name,
    ),
}
