"""Timestamps: requests, answers and tokens, with OpenSSL's time stamping as second opinion."""

from __future__ import annotations

import contextlib
import io
import plistlib
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import tsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import certificates, cms, der, signatures, timestamp_token

OCTETS = b"the octets of a signature"
NONCE = 0x1B0CC45D33E10186
NOW = datetime.now(UTC).replace(microsecond=0)
CRITICAL = True


class Stamping:
    """A time stamping authority of OpenSSL's in a folder."""

    def __init__(self, folder: Path, *, marked: bool = True, purposes: int = 1) -> None:
        program = shutil.which("openssl")
        if program is None:
            pytest.skip("openssl is not installed")
        self.program, self.folder = program, folder
        self.root_key = rsa.generate_private_key(65537, 2048)
        key = rsa.generate_private_key(65537, 2048)
        self.root = self._certificate("root", self.root_key, marked=marked, purposes=0)
        leaf = self._certificate("signer", key, marked=False, purposes=purposes)
        self.leaf_der = leaf.public_bytes(serialization.Encoding.DER)
        (folder / "root.pem").write_bytes(self.root.public_bytes(serialization.Encoding.PEM))
        (folder / "signer.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        (folder / "signer.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (folder / "serial").write_text("01\n")
        (folder / "tsa.cnf").write_text(_CONFIGURATION)

    def _certificate(
        self, name: str, key: rsa.RSAPrivateKey, *, marked: bool, purposes: int
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=40))
            .add_extension(x509.BasicConstraints(name == "root", None), CRITICAL)
        )
        if marked:
            oid = x509.ObjectIdentifier(certificates.TIMESTAMP_CA)
            builder = builder.add_extension(
                x509.UnrecognizedExtension(oid, b"\x05\x00"), not CRITICAL
            )
        if purposes:
            every = [ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING]
            builder = builder.add_extension(x509.ExtendedKeyUsage(every[:purposes]), CRITICAL)
        return builder.sign(self.root_key, hashes.SHA256())

    @property
    def trust(self) -> certificates.Trust:
        root = certificates.load(self.root.public_bytes(serialization.Encoding.DER))
        return certificates.Trust(name="test", roots=(root,))

    def run(self, *arguments: str) -> None:
        done = subprocess.run(
            [self.program, *arguments],
            cwd=self.folder,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()

    def answer(self, request: bytes) -> bytes:
        (self.folder / "request").write_bytes(request)
        self.run("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "request", "-out", "answer")
        return (self.folder / "answer").read_bytes()


_CONFIGURATION = """
[tsa]
default_tsa = here
[here]
dir = .
serial = serial
signer_cert = signer.pem
signer_key = signer.key
certs = root.pem
signer_digest = sha256
default_policy = 1.2.3.4.5.6
digests = sha1, sha256
ess_cert_id_alg = sha256
"""


def _request(octets: bytes = OCTETS) -> bytes:
    return timestamp_token.encode_request(signatures.digest("sha256", octets), NONCE)


@pytest.fixture(scope="module")
def stamping(tmp_path_factory: pytest.TempPathFactory) -> Stamping:
    return Stamping(tmp_path_factory.mktemp("tsa"))


@pytest.fixture(scope="module")
def token(stamping: Stamping) -> bytes:
    return timestamp_token.parse_response(stamping.answer(_request()))


def test_asn1crypto_reads_our_request() -> None:
    """An independent reader finds what we ask: imprint, nonce and certificates wanted."""
    request = tsp.TimeStampReq.load(_request())
    assert request["version"].native == "v1"
    assert request["nonce"].native == NONCE
    assert request["cert_req"].native is True
    imprint = request["message_imprint"]
    assert imprint["hash_algorithm"]["algorithm"].native == "sha256"
    assert imprint["hashed_message"].native == signatures.digest("sha256", OCTETS)


def test_a_token_of_openssl_proves_its_time(stamping: Stamping, token: bytes) -> None:
    """OpenSSL answers our request, and we verify its token up to the given root."""
    proof = timestamp_token.verify(token, signed_octets=OCTETS, trust=stamping.trust, nonce=NONCE)
    assert abs(proof.gen_time - datetime.now(UTC)) < timedelta(minutes=5)
    assert (proof.policy, proof.imprint_algorithm) == ("1.2.3.4.5.6", "sha256")
    assert proof.chain[0].der == stamping.leaf_der


def test_a_token_is_bound_to_its_octets_and_request(stamping: Stamping, token: bytes) -> None:
    """Other octets and another nonce are refused."""
    with pytest.raises(errors.VerificationError, match="other octets"):
        timestamp_token.verify(token, signed_octets=b"else", trust=stamping.trust)
    with pytest.raises(errors.VerificationError, match="nonce"):
        timestamp_token.verify(token, signed_octets=OCTETS, trust=stamping.trust, nonce=1)


def test_apple_is_not_openssl(token: bytes) -> None:
    """Under Apple's roots the same token is refused."""
    with pytest.raises(errors.VerificationError, match="no chain"):
        timestamp_token.verify(token, signed_octets=OCTETS, trust=certificates.apple_trust())


def test_the_issuer_needs_the_timestamp_marker(tmp_path: Path) -> None:
    """A trusted authority that is not marked for timestamps does not serve."""
    plain = Stamping(tmp_path, marked=False)
    token = timestamp_token.parse_response(plain.answer(_request()))
    with pytest.raises(errors.VerificationError) as caught:
        timestamp_token.verify(token, signed_octets=OCTETS, trust=plain.trust)
    assert "6.2.9" in "\n".join(caught.value.lines())


def _resigned(stamping: Stamping, *, attributes: list[bytes], gen_time: datetime) -> bytes:
    """A token of our own making, signed by the same signer."""
    key = serialization.load_pem_private_key((stamping.folder / "signer.key").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    info = der.sequence(
        der.integer(1),
        der.oid("1.2.3"),
        der.sequence(
            cms.algorithm_identifier(signatures.OIDS_OF_DIGESTS["sha1"], with_null=True),
            der.octets(signatures.digest("sha1", OCTETS)),
        ),
        der.integer(7),
        der.generalized_time(gen_time),
    )
    return cms.build(
        content=info,
        content_type=timestamp_token.TST_INFO,
        detached=False,
        digest="sha1",
        signer_certificate=stamping.leaf_der,
        certificates=[stamping.leaf_der],
        sign=lambda octets: key.sign(octets, padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303 - as Apple's tokens
        attributes=attributes,
    )


def _binding(certificate: bytes) -> bytes:
    identifier = der.sequence(der.octets(signatures.digest("sha1", certificate)))
    return cms.attribute("1.2.840.113549.1.9.16.2.12", der.sequence(der.sequence(identifier)))


def test_sha1_serves_in_tokens_alone(stamping: Stamping) -> None:
    """Apple's shape of a token, SHA-1 in signer and imprint of 2019, is accepted."""
    token = _resigned(stamping, attributes=[_binding(stamping.leaf_der)], gen_time=NOW)
    proof = timestamp_token.verify(token, signed_octets=OCTETS, trust=stamping.trust)
    assert (proof.gen_time, proof.serial, proof.nonce) == (NOW, 7, None)
    assert proof.imprint_algorithm == "sha1"


def test_the_chain_is_judged_at_the_tokens_time(stamping: Stamping) -> None:
    """A token of a time when its signer was not valid is refused."""
    for moment in (NOW - timedelta(days=30), NOW + timedelta(days=300)):
        token = _resigned(stamping, attributes=[_binding(stamping.leaf_der)], gen_time=moment)
        with pytest.raises(errors.VerificationError, match="no chain"):
            timestamp_token.verify(token, signed_octets=OCTETS, trust=stamping.trust)


def test_the_signer_must_be_bound(stamping: Stamping) -> None:
    """A token must hash its signer's certificate into what it signs."""
    for attributes, reason in (([], "bind"), ([_binding(b"another")], "another certificate")):
        token = _resigned(stamping, attributes=attributes, gen_time=NOW)
        with pytest.raises(errors.VerificationError, match=reason):
            timestamp_token.verify(token, signed_octets=OCTETS, trust=stamping.trust)


def test_a_signer_for_more_than_timestamps_is_refused(tmp_path: Path) -> None:
    """The extended key usage must be critical and name time stamping alone."""
    wide = Stamping(tmp_path, purposes=2)
    token = _resigned(wide, attributes=[_binding(wide.leaf_der)], gen_time=NOW)
    with pytest.raises(errors.VerificationError, match="not limited"):
        timestamp_token.verify(token, signed_octets=OCTETS, trust=wide.trust)


def test_a_refusal_is_told_in_the_servers_words() -> None:
    """A rejected request is the server's refusal, with its text."""
    answer = der.sequence(der.sequence(der.integer(2), der.sequence(der.utf8("bad\x1b request"))))
    with pytest.raises(errors.RemoteRefusedError) as caught:
        timestamp_token.parse_response(answer)
    assert caught.value.observed == "rejected · bad? request"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        der.sequence(),
        der.sequence(der.sequence(der.integer(0))),
        der.sequence(der.sequence(der.integer(9))),
        bytes(timestamp_token.MAX_RESPONSE_BYTES + 1),
    ],
)
def test_no_response_is_our_error(data: bytes) -> None:
    """Anything else than a timestamp response is a format error."""
    with pytest.raises(errors.FormatError):
        timestamp_token.parse_response(data)


@given(st.data())
def test_a_changed_token_is_refused_or_proves_the_same(
    stamping: Stamping, token: bytes, draw: st.DataObject
) -> None:
    """Whatever bit changes: our error, or the same time for the same octets."""
    changed = bytearray(token)
    changed[draw.draw(st.integers(0, len(token) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    before = timestamp_token.verify(token, signed_octets=OCTETS, trust=stamping.trust)
    with contextlib.suppress(errors.VerificationError):
        after = timestamp_token.verify(bytes(changed), signed_octets=OCTETS, trust=stamping.trust)
        assert (after.gen_time, after.serial) == (before.gen_time, before.serial)


@pytest.mark.online
def test_apples_own_signatures_and_tokens_verify(tmp_path: Path) -> None:
    """Every CMS and token that Apple's tools wrote into a real app verifies to Apple's roots."""
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                str(tmp_path),
            ),
            *("--only-binary", ":all:", "--platform", "macosx_14_0_universal2"),
            "permanent-agent-record==0.1.11",
        ],
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    seen = [proof for data in _members(next(tmp_path.glob("*.whl"))) for proof in _stamps(data)]
    assert len(seen) == 6
    assert {item.chain[1].serial for item in seen} == {0x7D4C57639FF3F0B7}


def _members(wheel: Path) -> list[bytes]:
    with zipfile.ZipFile(wheel) as outer:
        inner = next(name for name in outer.namelist() if name.endswith(".app.zip"))
        with zipfile.ZipFile(io.BytesIO(outer.read(inner))) as app:
            return [app.read(name) for name in app.namelist() if "." not in name.split("/")[-1]]


def _stamps(data: bytes) -> list[timestamp_token.TimestampProof]:
    found = []
    position = data.find(b"\xfa\xde\x0c\xc0")
    while position >= 0:
        blobs = _blobs(data[position:])
        if len(blobs.get(0x10000, b"")) > 8:
            found.append(_stamp(blobs))
        position = data.find(b"\xfa\xde\x0c\xc0", position + 4)
    return found


def _blobs(data: bytes) -> dict[int, bytes]:
    words = [int.from_bytes(data[i : i + 4], "big") for i in range(0, 12 + 8 * 16, 4)]
    found = {}
    for index in range(min(words[2], 16)):
        slot, offset = words[3 + 2 * index], words[4 + 2 * index]
        length = int.from_bytes(data[offset + 4 : offset + 8], "big")
        found[slot] = data[offset : offset + length]
    return found


def _stamp(blobs: dict[int, bytes]) -> timestamp_token.TimestampProof:
    trust = certificates.apple_trust()
    signed = cms.verify(
        cms.parse(blobs[0x10000][8:]), content=blobs[0], allowed_digests=frozenset(("sha256",))
    )
    proof = timestamp_token.verify(
        signed.signer.unsigned[cms.TIMESTAMP_TOKEN][0].raw,
        signed_octets=signed.signer.signature,
        trust=trust,
    )
    certificates.build_chain(
        signed.certificate,
        signed.pool,
        trust=trust,
        at=proof.gen_time,
        required_leaf_marker=certificates.DEVELOPER_ID_APPLICATION,
        required_issuer_marker=certificates.DEVELOPER_ID_CA,
        required_purpose=certificates.CODE_SIGNING,
    )
    listed = plistlib.loads(der.as_octets(signed.signer.attributes[cms.APPLE_CDHASHES_PLIST][0]))
    assert listed["cdhashes"] == [signatures.digest("sha256", blobs[0])[:20]]
    return proof
