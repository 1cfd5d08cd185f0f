"""CMS: read and verified against OpenSSL and asn1crypto, built in both dialects."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pytest
from asn1crypto import cms as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import cms, der, signatures

SHA256 = frozenset(("sha256",))
CONTENT = b"the bytes that were signed\n" * 7
NOW = datetime(2026, 11, 24, tzinfo=UTC)

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Pair:
    """A self-made certificate with its key."""

    def __init__(self, key: Key, name: str) -> None:
        self.key = key
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=400))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .sign(key, hashes.SHA256())
        )
        self.der = self.certificate.public_bytes(serialization.Encoding.DER)

    def sign(self, octets: bytes) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
        return self.key.sign(octets, ec.ECDSA(hashes.SHA256()))

    def build(self, *, detached: bool = False, indefinite: bool = False) -> bytes:
        return cms.build(
            content=CONTENT,
            detached=detached,
            digest="sha256",
            signer_certificate=self.der,
            certificates=[self.der],
            sign=self.sign,
            attributes=[cms.attribute(cms.SIGNING_TIME, der.utc_time(NOW))],
            indefinite=indefinite,
        )

    def write(self, folder: Path) -> tuple[Path, Path]:
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        certificate.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, key


@pytest.fixture(scope="module")
def rsa_pair() -> Pair:
    return Pair(rsa.generate_private_key(65537, 2048), "RSA")


@pytest.fixture(scope="module", params=["rsa", "ec"])
def pair(request: pytest.FixtureRequest, rsa_pair: Pair) -> Pair:
    if request.param == "rsa":
        return rsa_pair
    return Pair(ec.generate_private_key(ec.SECP256R1()), "EC")


def _openssl(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, check=False, timeout=60
    )


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("indefinite", [False, True])
def test_openssl_verifies_what_we_build(
    pair: Pair, tmp_path: Path, *, detached: bool, indefinite: bool
) -> None:
    """OpenSSL accepts our signatures in both dialects, attached and detached, RSA and ECDSA."""
    certificate, _key = pair.write(tmp_path)
    (tmp_path / "content").write_bytes(CONTENT)
    (tmp_path / "cms").write_bytes(pair.build(detached=detached, indefinite=indefinite))
    extra = ["-content", tmp_path / "content"] if detached else []
    done = _openssl(
        *("cms", "-verify", "-inform", "DER", "-in", tmp_path / "cms", "-binary"),
        *("-CAfile", certificate, "-purpose", "any", "-no_check_time", *extra),
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == CONTENT


@pytest.mark.parametrize("options", [[], ["-stream"], ["-keyid"], ["-nodetach"]])
def test_we_verify_what_openssl_builds(pair: Pair, tmp_path: Path, options: list[str]) -> None:
    """We accept OpenSSL's: definite, indefinite with split content, by key identifier."""
    certificate, key = pair.write(tmp_path)
    (tmp_path / "content").write_bytes(CONTENT)
    done = _openssl(
        *("cms", "-sign", "-binary", "-in", tmp_path / "content", "-signer", certificate),
        *("-inkey", key, "-outform", "DER", "-md", "sha256", "-nodetach", *options),
    )
    assert done.returncode == 0, done.stderr.decode()
    proof = cms.verify(cms.parse(done.stdout), content=None, allowed_digests=SHA256)
    assert proof.content == CONTENT
    assert proof.certificate.der == pair.der


def test_without_signed_attributes_nothing_is_accepted(rsa_pair: Pair, tmp_path: Path) -> None:
    """A signature over bare content is refused, although OpenSSL makes and accepts it."""
    certificate, key = rsa_pair.write(tmp_path)
    (tmp_path / "content").write_bytes(CONTENT)
    done = _openssl(
        *("cms", "-sign", "-binary", "-noattr", "-in", tmp_path / "content"),
        *("-signer", certificate, "-inkey", key, "-outform", "DER", "-nodetach"),
    )
    with pytest.raises(errors.VerificationError, match="no signed attributes"):
        cms.verify(cms.parse(done.stdout), content=None, allowed_digests=SHA256)


def test_asn1crypto_reads_the_same(pair: Pair) -> None:
    """An independent reader finds the same fields in what we build."""
    ours = cms.parse(pair.build())
    theirs = asn1.ContentInfo.load(pair.build())["content"]
    signer = theirs["signer_infos"][0]
    assert theirs["version"].native == f"v{ours.version}"
    assert theirs["encap_content_info"]["content"].native == ours.content
    assert signer["digest_algorithm"]["algorithm"].native == "sha256"
    assert [item["type"].dotted for item in signer["signed_attrs"]] == list(
        ours.signers[0].attributes
    )
    assert ours.signers[0].signing_time == NOW


def test_apples_dialect_is_indefinite_in_four_places(rsa_pair: Pair) -> None:
    """ContentInfo, its [0], SignedData and the certificates' [0] are open, nothing else is."""
    data = rsa_pair.build(detached=True, indefinite=True)
    assert data.startswith(b"\x30\x80")
    outer = der.parse(data)
    tagged = outer.children[1]
    signed = tagged.children[0]
    found = [node for node in (outer, tagged, signed, *signed.children) if node.raw[1] == 0x80]
    assert [node.tag for node in found] == [16, 0, 16, 0]
    assert cms.parse(data).content is None


def test_the_order_of_attributes_is_kept_when_asked(rsa_pair: Pair) -> None:
    """Attributes stand as given, and the signature holds over them as they stand."""
    given_order = [
        cms.attribute("1.2.840.113635.100.9.2", der.octets(b"z" * 90)),
        cms.attribute(cms.SIGNING_TIME, der.utc_time(NOW)),
        cms.attribute(cms.CONTENT_TYPE, der.oid(cms.DATA)),
        cms.attribute(cms.MESSAGE_DIGEST, der.octets(signatures.digest("sha256", CONTENT))),
    ]
    data = cms.build(
        content=CONTENT,
        detached=False,
        digest="sha256",
        signer_certificate=rsa_pair.der,
        certificates=[rsa_pair.der],
        sign=rsa_pair.sign,
        attributes=given_order,
        attribute_order="given",
    )
    signed = cms.parse(data)
    assert list(signed.signers[0].attributes) == [
        der.as_oid(der.parse(item).children[0]) for item in given_order
    ]
    assert cms.verify(signed, content=None, allowed_digests=SHA256).content == CONTENT


def test_another_digest_is_refused_by_name(rsa_pair: Pair) -> None:
    """A digest that the caller did not allow is refused even when the signature holds."""
    with pytest.raises(errors.VerificationError, match="not allowed"):
        cms.verify(cms.parse(rsa_pair.build()), content=None, allowed_digests=frozenset(("sha1",)))


@pytest.mark.parametrize("content", [None, CONTENT + b"!", b""])
def test_detached_content_must_be_the_signed_one(rsa_pair: Pair, content: bytes | None) -> None:
    """No content, other content and empty content are refused."""
    with pytest.raises(errors.VerificationError):
        cms.verify(
            cms.parse(rsa_pair.build(detached=True)), content=content, allowed_digests=SHA256
        )


def test_content_inside_must_be_the_one_given(rsa_pair: Pair) -> None:
    """Attached content beside other expected content is refused."""
    signed = cms.parse(rsa_pair.build())
    with pytest.raises(errors.VerificationError, match="other content"):
        cms.verify(signed, content=b"else", allowed_digests=SHA256)


def test_a_signer_without_its_certificate_is_refused(rsa_pair: Pair) -> None:
    """The signer's certificate must come along."""
    other = Pair(ec.generate_private_key(ec.SECP256R1()), "Other")
    data = cms.build(
        content=CONTENT,
        detached=False,
        digest="sha256",
        signer_certificate=rsa_pair.der,
        certificates=[other.der],
        sign=rsa_pair.sign,
    )
    with pytest.raises(errors.VerificationError, match="signer's certificate"):
        cms.verify(cms.parse(data), content=None, allowed_digests=SHA256)


def test_a_doubled_signed_attribute_is_refused(rsa_pair: Pair) -> None:
    """Two message digests could be read in two ways."""
    twice = [cms.attribute(cms.SIGNING_TIME, der.utc_time(NOW))] * 2
    data = cms.build(
        content=CONTENT,
        detached=False,
        digest="sha256",
        signer_certificate=rsa_pair.der,
        certificates=[rsa_pair.der],
        sign=rsa_pair.sign,
        attributes=twice,
    )
    with pytest.raises(errors.FormatError, match="twice"):
        cms.parse(data)


@pytest.mark.parametrize(
    "data",
    [
        der.sequence(der.oid(cms.DATA), der.context(0, der.octets(b"x"))),
        der.sequence(der.oid(cms.SIGNED_DATA)),
        der.sequence(der.oid(cms.SIGNED_DATA), der.context(0)),
        der.sequence(der.oid(cms.SIGNED_DATA), der.context(0, der.sequence())),
        der.sequence(),
        der.octets(b"x"),
        b"hello",
    ],
)
def test_something_else_is_no_signed_data(data: bytes) -> None:
    """Other content types and empty shells are refused by our own error."""
    with pytest.raises(errors.FormatError):
        cms.parse(data)


@given(st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(rsa_pair: Pair, draw: st.DataObject) -> None:
    """Whatever byte changes: our error, or exactly the same proof as before."""
    original = _RSA_BUILT.setdefault("data", rsa_pair.build())
    index = draw.draw(st.integers(0, len(original) - 1))
    bit = draw.draw(st.integers(0, 7))
    changed = bytearray(original)
    changed[index] ^= 1 << bit
    try:
        proof = cms.verify(cms.parse(bytes(changed)), content=None, allowed_digests=SHA256)
    except errors.VerificationError:
        return
    assert proof.content == CONTENT
    assert (
        proof.certificate.public_key_info
        == cms.verify(
            cms.parse(original), content=None, allowed_digests=SHA256
        ).certificate.public_key_info
    )
    assert proof.signer.signing_time == NOW


_RSA_BUILT: dict[str, bytes] = {}


def test_real_profiles_verify_as_openssl_says(real_data: Path, tmp_path: Path) -> None:
    """For every real CMS, OpenSSL and we agree on the signature and on the content."""
    for path in sorted((real_data / "profiles").glob("*provision*")):
        output = tmp_path / "content"
        done = _openssl(
            *("cms", "-verify", "-inform", "DER", "-in", path, "-noverify", "-out", output),
        )
        try:
            proof = cms.verify(
                cms.parse(path.read_bytes()),
                content=None,
                allowed_digests=frozenset(("sha1", "sha256")),
            )
        except errors.FormatError:
            assert done.returncode != 0, path.name
            continue
        assert done.returncode == 0, path.name
        assert proof.content == output.read_bytes()


@pytest.mark.parametrize("bits", [1024, 512])
def test_small_rsa_keys_are_refused(bits: int) -> None:
    """A key under 2048 bits is refused before anything is computed with it."""
    modulus = der.integer((1 << bits) - 159)
    info = der.sequence(
        cms.algorithm_identifier(signatures.RSA_ENCRYPTION, with_null=True),
        der.bits(der.sequence(modulus, der.integer(65537))),
    )
    with pytest.raises(errors.FormatError, match=f"{bits} bits"):
        signatures.load_public_key(info)


def test_a_point_off_its_curve_is_refused() -> None:
    """An EC key that is no point of its curve is our error."""
    info = der.sequence(
        der.sequence(der.oid(signatures.EC_PUBLIC_KEY), der.oid("1.2.840.10045.3.1.7")),
        der.bits(b"\x04" + b"\x01" * 64),
    )
    with pytest.raises(errors.FormatError, match="curve"):
        signatures.load_public_key(info)


# Signatures over the content itself


def _bare(pair: Pair, content: bytes, *, content_type: str = cms.DATA) -> cms.SignedData:
    """A signature without signed attributes over this content, which stays outside."""
    signed = cms.parse(pair.build(detached=True))
    signer = signed.signers[0]._replace(signed_attributes_raw=None, signature=pair.sign(content))
    made = signed._replace(signers=(signer,), encapsulated=der.sequence(der.oid(content_type)))
    return cms.parse(cms.encode(made))


def _signed_by_openssl(pair: Pair, folder: Path, options: list[str]) -> bytes:
    certificate, key = pair.write(folder)
    (folder / "content").write_bytes(CONTENT)
    done = _openssl(
        *("cms", "-sign", "-binary", "-in", folder / "content", "-signer", certificate),
        *("-inkey", key, "-outform", "DER", "-md", "sha256", *options),
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("options", [["-noattr"], ["-noattr", "-nodetach"], ["-noattr", "-stream"]])
def test_a_signature_over_the_content_itself_is_read_and_verified(
    pair: Pair, tmp_path: Path, options: list[str]
) -> None:
    """OpenSSL's signatures without attributes hold where a format allows them, and only there."""
    data = _signed_by_openssl(pair, tmp_path, options)
    signed = cms.parse(data)
    assert cms.encode(signed) == data
    assert signed.signers[0].signs_content_itself
    content = None if signed.content is not None else CONTENT
    with pytest.raises(errors.VerificationError, match="no signed attributes"):
        cms.verify(signed, content=content, allowed_digests=SHA256)
    proof = cms.verify(signed, content=content, allowed_digests=SHA256, attributes_required=False)
    assert proof.content == CONTENT
    assert proof.certificate.der == pair.der
    assert proof.signer.signing_time is None


def test_a_bare_signature_holds_for_its_content_only(pair: Pair) -> None:
    """One bit of the content, and it does not verify."""
    signed = _bare(pair, CONTENT)
    cms.verify(signed, content=CONTENT, allowed_digests=SHA256, attributes_required=False)
    with pytest.raises(errors.VerificationError, match="does not verify"):
        cms.verify(
            signed, content=CONTENT + b"x", allowed_digests=SHA256, attributes_required=False
        )


def test_attributes_never_pass_for_content(pair: Pair) -> None:
    """What a signature with attributes is over, shown as content without attributes, is refused.

    The octets are the same, so the signature would hold: its signer meant another content.
    """
    signed = cms.parse(pair.build(detached=True))
    attributes = b"\x31" + (signed.signers[0].signed_attributes_raw or b"")[1:]
    turned = signed._replace(signers=(signed.signers[0]._replace(signed_attributes_raw=None),))
    turned = cms.parse(cms.encode(turned))
    with pytest.raises(errors.VerificationError, match="another content's attributes"):
        cms.verify(turned, content=attributes, allowed_digests=SHA256, attributes_required=False)


def test_content_of_another_type_needs_attributes(pair: Pair) -> None:
    """RFC 5652: without attributes nothing says what the content is, so it must be plain data."""
    signed = _bare(pair, CONTENT, content_type="1.2.840.113549.1.9.16.1.4")
    with pytest.raises(errors.VerificationError, match="which its content type needs"):
        cms.verify(signed, content=CONTENT, allowed_digests=SHA256, attributes_required=False)


def test_bare_signatures_keep_the_rules_of_digests(pair: Pair) -> None:
    """SHA-1 is no more allowed than with attributes."""
    with pytest.raises(errors.VerificationError, match="not allowed here"):
        cms.verify(
            _bare(pair, CONTENT),
            content=CONTENT,
            allowed_digests=frozenset(("sha512",)),
            attributes_required=False,
        )


# Written as read


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("indefinite", [False, True])
def test_signed_data_comes_out_as_it_was(pair: Pair, *, detached: bool, indefinite: bool) -> None:
    """Both dialects, content inside or not, RSA and ECDSA."""
    data = pair.build(detached=detached, indefinite=indefinite)
    assert cms.encode(cms.parse(data)) == data


@pytest.mark.parametrize("options", [[], ["-stream"], ["-keyid"], ["-nodetach"], ["-nocerts"]])
def test_openssls_signed_data_comes_out_as_it_was(
    pair: Pair, tmp_path: Path, options: list[str]
) -> None:
    """Content in pieces, key identifiers, no certificates: whatever form another writer has."""
    data = _signed_by_openssl(pair, tmp_path, options)
    assert cms.encode(cms.parse(data)) == data


def test_parts_can_be_replaced(pair: Pair) -> None:
    """Another form of the lengths, or certificates left out: the signature stands."""
    signed = cms.parse(pair.build())
    forms = cms.Forms(
        content_info=der.INDEFINITE, explicit=4, signed_data=der.INDEFINITE, certificates=3
    )
    again = cms.parse(cms.encode(signed._replace(forms=forms)))
    assert again.forms == forms
    assert cms.verify(again, content=None, allowed_digests=SHA256).content == CONTENT
    without = signed._replace(certificates=(), forms=forms._replace(certificates=None))
    assert cms.parse(cms.encode(without)).certificates == ()


def test_forms_that_nobody_uses_are_refused(pair: Pair) -> None:
    """A padded length in a part that has one form only, as readers would differ about it."""
    data = pair.build(detached=True)
    signed = cms.parse(data)
    kind = der.oid(cms.SIGNED_DATA)
    padded = kind[:1] + b"\x81" + kind[1:]
    rest = der.as_sequence(der.parse(data))[1].raw
    with pytest.raises(errors.FormatError, match="nobody uses"):
        cms.parse(der.sequence(padded, rest))
    assert cms.parse(der.sequence(kind, rest)) == signed


@given(st.data())
def test_hostile_signed_data_is_refused_or_comes_out_as_it_was(data: st.DataObject) -> None:
    """Changed anywhere, what is still read is written back byte for byte."""
    whole = bytearray(_sample(indefinite=data.draw(st.booleans())))
    start = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=6))
    whole[start : start + len(noise)] = noise
    try:
        found = cms.parse(bytes(whole))
    except errors.FormatError:
        return
    assert cms.encode(found) == bytes(whole)


@lru_cache
def _sample(*, indefinite: bool) -> bytes:
    pair = Pair(rsa.generate_private_key(65537, 2048), "sample")
    return pair.build(detached=True, indefinite=indefinite)
