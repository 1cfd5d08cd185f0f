"""PKCS#12 and PEM as other tools write them: each algorithm, each spelling, each wrong password."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from release_tool import errors
from release_tool.apple import certificates, der, identity, pkcs12
from tests import signing_identity
from tests.signing_identity import TEAM

AUTHORITY = signing_identity.authority()
ROOT = Path(__file__).resolve().parent.parent.parent
OPENSSL = shutil.which("openssl")
NEEDS_OPENSSL = pytest.mark.skipif(OPENSSL is None, reason="openssl writes these files")
PASSWORD = "r\u00fcckw\u00e4rts \u65e5\u672c"
SHA1_PBE = "-legacy -keypbe {0} -certpbe {0} -macalg sha1"
PBES2 = "-keypbe {0} -certpbe {0} -macalg sha256"


def openssl(folder: Path, *arguments: str, password: bytes = b"") -> bytes:
    """Run the command line tool; the password travels in a file."""
    (folder / "password").write_bytes(password + b"\n")
    done = subprocess.run(
        [OPENSSL or "openssl", *arguments], cwd=folder, capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this openssl lacks it: {done.stderr.decode()[-120:]}")
    return done.stdout


def export(folder: Path, options: str, password: bytes, pem: bytes = b"") -> bytes:
    """A PKCS#12 file of openssl's."""
    (folder / "all.pem").write_bytes(pem or AUTHORITY.pem())
    arguments = ["pkcs12", "-export", "-in", "all.pem", "-passout", "file:password"]
    return openssl(folder, *arguments, *options.split(), password=password)


@NEEDS_OPENSSL
@pytest.mark.parametrize("password", ["right", PASSWORD])
@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("-legacy", "RC2-40 with SHA-1"),
        (SHA1_PBE.format("PBE-SHA1-RC2-40"), "RC2-40 with SHA-1"),
        (SHA1_PBE.format("PBE-SHA1-RC2-128"), "RC2-128 with SHA-1"),
        (SHA1_PBE.format("PBE-SHA1-3DES"), "Triple DES with SHA-1"),
        (SHA1_PBE.format("PBE-SHA1-2DES"), "two-key Triple DES with SHA-1"),
        (SHA1_PBE.format("PBE-SHA1-RC4-40"), "RC4-40 with SHA-1"),
        (SHA1_PBE.format("PBE-SHA1-RC4-128"), "RC4-128 with SHA-1"),
        (PBES2.format("AES-128-CBC"), "AES-128 (PBES2)"),
        (PBES2.format("AES-192-CBC"), "AES-192 (PBES2)"),
        (PBES2.format("AES-256-CBC"), "AES-256 (PBES2)"),
        (PBES2.format("DES-EDE3-CBC"), "Triple DES (PBES2)"),
        ("-macalg sha224", "AES-256 (PBES2)"),
        ("-macalg sha384", "AES-256 (PBES2)"),
        ("-macalg sha512", "AES-256 (PBES2)"),
        ("-legacy -macalg md5", "RC2-40 with SHA-1"),
        ("-noiter -nomaciter", "AES-256 (PBES2)"),
    ],
)
def test_every_algorithm_in_the_field_opens(
    options: str, name: str, password: str, tmp_path: Path
) -> None:
    """Right password: the identity. Wrong password: said so, told by the MAC, with the algorithm.

    The password may be ASCII or not. Proved by files that the openssl command line wrote.
    """
    data = export(tmp_path, options, password.encode())
    outer = pkcs12.read(data)
    assert name in outer.algorithms
    assert outer.keys == 1
    assert pkcs12.password_holds(outer, password) is True
    found = identity.load(data, password)
    assert found.leaf.der == AUTHORITY.leaf.der
    assert [one.der for one in found.chain] == [AUTHORITY.developer_id.der, AUTHORITY.root.der]
    for wrong in ("wrong", "", None, "r\u00fcckwarts"):
        with pytest.raises(errors.CredentialError, match="password") as caught:
            identity.load(data, wrong)
        assert "cannot read" not in caught.value.message
        assert name in caught.value.observed


@NEEDS_OPENSSL
@pytest.mark.parametrize("options", ["-legacy", "-macalg sha256", SHA1_PBE.format("PBE-SHA1-3DES")])
def test_an_empty_password_opens(options: str, tmp_path: Path) -> None:
    """Encrypted under the empty password, as some exports are; spelled empty or not given."""
    data = export(tmp_path, options, b"")
    for password in ("", None):
        assert identity.load(data, password).team_id == TEAM
    with pytest.raises(errors.CredentialError, match="is wrong"):
        identity.load(data, "something")


@NEEDS_OPENSSL
@pytest.mark.parametrize(
    ("options", "octets"),
    [
        # OpenSSL before 1.1 widened each octet of UTF-8; the same file comes of this spelling.
        ("-legacy", PASSWORD[:9].encode().decode("latin-1").encode()),
        # A terminal that speaks Latin-1.
        ("-legacy", PASSWORD[:9].encode("latin-1")),
    ],
)
def test_other_spellings_of_a_password_open(options: str, octets: bytes, tmp_path: Path) -> None:
    """Whoever knows the password need not know how its writer spelled it in octets."""
    data = export(tmp_path, options, octets)
    assert identity.load(data, PASSWORD[:9]).team_id == TEAM


@NEEDS_OPENSSL
def test_a_file_without_mac_names_the_password_where_every_build_reads_it(tmp_path: Path) -> None:
    """AES leaves the password alone to blame; with RC2 either may be wrong, and that is said."""
    data = export(tmp_path, "-nomac", b"right")
    assert identity.load(data, "right").team_id == TEAM
    with pytest.raises(errors.CredentialError, match="is wrong"):
        identity.load(data, "wrong")
    data = export(tmp_path, "-nomac " + SHA1_PBE.format("PBE-SHA1-RC2-40"), b"right")
    with pytest.raises(errors.CredentialError, match="wrong password, or an algorithm") as caught:
        identity.load(data, "wrong")
    assert "RC2-40" in caught.value.observed


_WITHOUT_LEGACY = """
import sys
from pathlib import Path
from release_tool import errors
from release_tool.apple import identity
try:
    print("opened", identity.load(Path(sys.argv[1]).read_bytes(), sys.argv[2]).team_id)
except errors.CredentialError as problem:
    print(problem.message, "|", problem.observed)
"""


@NEEDS_OPENSSL
@pytest.mark.parametrize(
    ("options", "password", "said"),
    [
        ("-legacy", "right", "cannot read how"),
        ("-legacy", "wrong", "the password of the signing identity is wrong"),
        (SHA1_PBE.format("PBE-SHA1-RC4-128"), "right", "cannot read how"),
        ("-macalg sha256", "right", "opened"),
        ("-macalg sha256", "wrong", "the password of the signing identity is wrong"),
    ],
)
def test_a_library_without_legacy_algorithms_blames_the_algorithm(
    options: str, password: str, said: str, tmp_path: Path
) -> None:
    """Proved with the real library in a process of its own, its legacy algorithms switched off."""
    path = tmp_path / "identity.p12"
    path.write_bytes(export(tmp_path, options, b"right"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _WITHOUT_LEGACY, str(path), password],
        cwd=ROOT,
        env={**os.environ, "CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith((said, "this host " + said))
    assert done.stdout.startswith("opened") or any(
        name in done.stdout for name in ("RC2-40", "RC4-128", "AES-256")
    )


def _pbmac1(data: bytes, password: bytes, *, key_size: int = 32, rounds: int = 2048) -> bytes:
    """The file with a MAC of RFC 9579, computed by the library's own PBKDF2 and HMAC."""
    version, content = der.as_sequence(der.parse(data))[:2]
    octets = der.as_octets(content.children[1].children[0])
    salt = bytes(range(16))
    key = PBKDF2HMAC(hashes.SHA256(), key_size, salt, rounds).derive(password)
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(octets)
    hmac_sha256 = der.sequence(der.oid("1.2.840.113549.2.9"), der.null())
    derivation = der.sequence(
        der.oid("1.2.840.113549.1.5.12"),
        der.sequence(der.octets(salt), der.integer(rounds), der.integer(key_size), hmac_sha256),
    )
    algorithm = der.sequence(
        der.oid("1.2.840.113549.1.5.14"), der.sequence(derivation, hmac_sha256)
    )
    digest_info = der.sequence(algorithm, der.octets(mac.finalize()))
    return der.sequence(
        version.raw, content.raw, der.sequence(digest_info, der.octets(b"unused"), der.integer(1))
    )


@pytest.mark.parametrize("password", ["right", PASSWORD])
def test_pbmac1_is_checked(password: str) -> None:
    """The MAC of RFC 9579: right and wrong passwords are told apart, and the file opens."""
    data = _pbmac1(AUTHORITY.p12(password.encode()), password.encode())
    outer = pkcs12.read(data)
    assert pkcs12.password_holds(outer, password) is True
    assert pkcs12.password_holds(outer, "wrong") is False
    assert identity.load(data, password).team_id == TEAM
    with pytest.raises(errors.CredentialError, match="is wrong"):
        identity.load(data, "wrong")


def _indefinite(node: der.Node) -> bytes:
    """The same in BER: no length is known beforehand."""
    tag = der.encode_tag(node.tag_class, node.tag, constructed=True)
    if node.constructed:
        return der.indefinite(tag, *map(_indefinite, node.children))
    if not node.is_universal(der.OCTET_STRING) or len(node.content) < 40:
        return node.raw
    pieces = (node.content[i : i + 1000] for i in range(0, len(node.content), 1000))
    return der.indefinite(b"\x24", *map(der.octets, pieces))


@pytest.mark.parametrize("password", ["right", ""])
def test_indefinite_lengths_are_read(password: str) -> None:
    """BER with indefinite lengths and octet strings in pieces says the same as DER."""
    data = AUTHORITY.p12(password.encode())
    loose = _indefinite(der.parse(data))
    assert loose != data
    assert identity.load(loose, password).leaf == identity.load(data, password).leaf
    assert pkcs12.read(loose) == pkcs12.read(data)
    with pytest.raises(errors.CredentialError, match="is wrong"):
        identity.load(loose, "wrong")


def test_ber_under_the_mac_is_read() -> None:
    """The MAC covers the content as it stands, so BER inside stays; the library still reads it."""
    version, content, _ = der.as_sequence(der.parse(AUTHORITY.p12(b"right")))
    inner = der.parse(der.as_octets(content.children[1].children[0]))
    loose = der.indefinite(der.SEQUENCE, *(part.raw for part in inner.children))
    data = der.sequence(
        version.raw, der.sequence(content.children[0].raw, der.context(0, der.octets(loose)))
    )
    data = _pbmac1(data, b"right")
    assert identity.load(data, "right").team_id == TEAM


@NEEDS_OPENSSL
def test_certificates_may_stand_in_any_order(tmp_path: Path) -> None:
    """Root first, leaf last, or the leaf and its key alone: the chain is found or left open."""
    key = AUTHORITY.pem().partition(AUTHORITY.leaf.pem)[0]
    parts = [AUTHORITY.root.pem, AUTHORITY.developer_id.pem, AUTHORITY.leaf.pem]
    whole = [AUTHORITY.developer_id.der, AUTHORITY.root.der]
    for order in (parts, parts[::-1], [parts[1], parts[2], parts[0]]):
        found = identity.load(export(tmp_path, "-legacy", b"x", key + b"".join(order)), "x")
        assert found.leaf.der == AUTHORITY.leaf.der
        assert [one.der for one in found.chain] == whole
    alone = export(tmp_path, "-legacy", b"x", key + AUTHORITY.leaf.pem)
    assert identity.load(alone, "x").chain == ()
    known = [certificates.load(one) for one in whole]
    assert [one.der for one in identity.load(alone, "x", known=known).chain] == whole


def test_several_keys_are_refused() -> None:
    """Which of them would sign is not for chance to say."""
    both = AUTHORITY.pem() + AUTHORITY.pem(elliptic=True)
    with pytest.raises(errors.CredentialError, match="several private keys"):
        identity.load(both)
    data = AUTHORITY.p12(b"right")
    version, content, mac = der.as_sequence(der.parse(data))
    infos = der.as_sequence(der.parse(der.as_octets(content.children[1].children[0])))
    doubled = der.sequence(*(one.raw for one in [*infos, *infos]))
    again = der.sequence(
        version.raw,
        der.sequence(content.children[0].raw, der.context(0, der.octets(doubled))),
        mac.raw,
    )
    assert pkcs12.read(again).keys == 2
    with pytest.raises(errors.CredentialError, match="several private keys"):
        identity.load(again, "right")


def test_rounds_are_bounded_before_any_is_run() -> None:
    """A file may ask for years of hashing; it is refused at once."""
    version, content, mac = der.as_sequence(der.parse(AUTHORITY.p12(b"right")))
    salt = der.as_sequence(mac)[1]
    sha1 = der.sequence(der.sequence(der.oid("1.3.14.3.2.26"), der.null()), der.octets(bytes(20)))
    data = der.sequence(
        version.raw, content.raw, der.sequence(sha1, salt.raw, der.integer(2**31 - 1))
    )
    with pytest.raises(errors.FormatError, match="rounds"):
        identity.load(data, "right")


def _pem_key(encoding: serialization.PrivateFormat, password: bytes) -> bytes:
    return AUTHORITY.leaf.key.private_bytes(
        serialization.Encoding.PEM,
        encoding,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8]
)
@pytest.mark.parametrize("password", ["", "right", PASSWORD])
def test_pem_keys_open(form: serialization.PrivateFormat, password: str) -> None:
    """PKCS#1 and PKCS#8, plain and encrypted; the wrong password is named as such."""
    data = AUTHORITY.leaf.pem + _pem_key(form, password.encode())
    assert identity.load(data, password).team_id == TEAM
    for wrong in ("wrong", "", None) if password else ():
        with pytest.raises(errors.CredentialError, match="password") as caught:
            identity.load(data, wrong)
        assert "AES-256" in caught.value.observed
        assert "APPLE_CERTIFICATE_PASSWORD" in caught.value.hint


@pytest.mark.parametrize("pem", [False, True])
def test_a_line_break_behind_a_password_is_hinted_at(*, pem: bool) -> None:
    """Settings of jobs often end with one; the hint says so, and never the password."""
    data = AUTHORITY.p12(b"right")
    if pem:
        key = _pem_key(serialization.PrivateFormat.PKCS8, b"right")
        data = AUTHORITY.leaf.pem + key
    for given, said in (("right\n", "white space"), ("wrong", "to the password of the export")):
        with pytest.raises(errors.CredentialError, match="is wrong") as caught:
            identity.load(data, given)
        assert said in caught.value.hint
        assert "right" not in str(caught.value)


@NEEDS_OPENSSL
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("ec -aes-128-cbc", "is wrong"),
        ("ec -des3", "is wrong"),
        ("pkcs8 -topk8 -v2 aes-128-cbc", "is wrong"),
        ("pkcs8 -topk8 -v2 des3", "is wrong"),
        ("pkcs8 -topk8 -v1 PBE-SHA1-3DES", "is wrong"),
        ("pkcs8 -topk8 -scrypt", "wrong password, or an algorithm"),
    ],
)
def test_elliptic_keys_of_openssl_open(arguments: str, said: str, tmp_path: Path) -> None:
    """EC PRIVATE KEY and PKCS#8 under what openssl offers; its parameters block is no key."""
    whole = AUTHORITY.pem(elliptic=True)
    (tmp_path / "key.pem").write_bytes(whole)
    command, *options = arguments.split()
    made = openssl(
        tmp_path,
        command,
        "-in",
        "key.pem",
        *options,
        "-passout",
        "file:password",
        password=b"right",
    )
    certificates_only = whole[whole.index(b"-----BEGIN CERTIFICATE") :]
    data = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    data += made + certificates_only
    found = identity.load(data, "right")
    assert found.leaf.der == AUTHORITY.elliptic_leaf.der
    with pytest.raises(errors.CredentialError, match=said):
        identity.load(data, "wrong")


@NEEDS_OPENSSL
def test_a_pem_key_under_an_unusual_cipher_names_it(tmp_path: Path) -> None:
    """The library does not read ARIA: that is said beside the password, with the cipher."""
    (tmp_path / "key.pem").write_bytes(AUTHORITY.pem())
    arguments = "pkcs8 -topk8 -v2 aria256 -in key.pem -passout file:password"
    made = openssl(tmp_path, *arguments.split(), password=b"right")
    with pytest.raises(errors.CredentialError, match="or an algorithm") as caught:
        identity.load(made + AUTHORITY.leaf.pem, "right")
    assert "1.2.410.200046.1.1.12" in caught.value.observed


def test_pem_blocks_are_found_in_linear_time() -> None:
    """A file of beginnings without ends is refused, however many there are."""
    with pytest.raises(errors.FormatError, match="no end"):
        identity.load(b"-----BEGIN CERTIFICATE-----\n" * 30_000)


class _Token:
    """Stands for a token: another process holds the key, and only digests reach it."""

    def __init__(self, folder: Path, pem: bytes) -> None:
        self._folder = folder
        (folder / "token.pem").write_bytes(pem)
        self.digests: list[bytes] = []

    def sign(self, digest: bytes) -> bytes:
        self.digests.append(digest)
        arguments: Sequence[str] = ("pkeyutl", "-sign", "-inkey", "token.pem", "-in", "digest")
        (self._folder / "digest").write_bytes(digest)
        return openssl(self._folder, *arguments, "-pkeyopt", "digest:sha256")


@lru_cache
def _certificates(*, elliptic: bool) -> bytes:
    whole = AUTHORITY.pem(elliptic=elliptic)
    return whole[whole.index(b"-----BEGIN CERTIFICATE") :]


@NEEDS_OPENSSL
@pytest.mark.parametrize("elliptic", [False, True])
def test_a_token_signs(elliptic: bool, tmp_path: Path) -> None:
    """The key stays in another process; what it signs makes a signature that verifies.

    The leaf is the certificate that verifies the token's signature, wherever it stands.
    """
    token = _Token(tmp_path, AUTHORITY.pem(elliptic=elliptic))
    found = identity.held_elsewhere(AUTHORITY.root.pem + _certificates(elliptic=elliptic), token)
    leaf = AUTHORITY.elliptic_leaf if elliptic else AUTHORITY.leaf
    assert found.leaf.der == leaf.der
    assert [one.der for one in found.chain] == [AUTHORITY.developer_id.der, AUTHORITY.root.der]
    digest = bytes(range(32))
    assert found.sign(digest)
    assert token.digests[-1] == digest


def test_a_signer_of_another_certificate_is_refused() -> None:
    """What comes back is verified, so a token that holds another key signs nothing."""
    other = AUTHORITY.identity(elliptic=False).signer
    with pytest.raises(errors.CredentialError, match="no certificate belongs"):
        identity.held_elsewhere(_certificates(elliptic=True), other)
    mixed = identity.Identity(leaf=AUTHORITY.identity(elliptic=True).leaf, chain=(), signer=other)
    with pytest.raises(errors.CredentialError, match="does not sign for its certificate"):
        mixed.sign(bytes(32))


@pytest.mark.parametrize("password", ["right", "", PASSWORD])
def test_an_identity_is_rewritten_for_the_keychain(password: str) -> None:
    """Whatever the export was, macOS gets Triple DES with SHA-1, the chain, and a new password."""
    found, made = identity.for_keychain(
        AUTHORITY.p12(password.encode()), password, new_password="0123abcd"
    )
    outer = pkcs12.read(made)
    assert set(outer.algorithms) == {"Triple DES with SHA-1"}
    again = identity.load(made, "0123abcd")
    assert again.leaf == found.leaf
    assert again.chain == found.chain
    assert len(again.chain) == 2
