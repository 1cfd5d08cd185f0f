"""A look-alike of Apple's authority, made fresh for a run: identity, profiles, tokens, tickets.

It signs as Apple does, awkward sides included: profiles and tokens over SHA-1, certificates that
are in no order, an inner profile under another root. It proves our wiring, never Apple's
acceptance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from release_tool import errors
from release_tool.apple import cms, der
from release_tool.files import atomic
from release_tool.rehearsal import certificate_parts
from release_tool.rehearsal.certificate_parts import Owner, Party

# Hosts' clocks differ; nothing that was just made may seem to come from the future.
_MARGIN = timedelta(days=1)
_DIGESTS: Mapping[str, Callable[[], hashes.SHA1 | hashes.SHA256]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
}
# Roles that folders of earlier rehearsals lack.
_LATER = frozenset({certificate_parts.TICKET_SIGNER})
# Attributes that Apple's profile signer adds: the capabilities are 3DES, RC2 and DES.
_PROTECTION = "1.2.840.113549.1.9.52"
_CAPABILITIES = "1.2.840.113549.1.9.15"


class Authority:
    """Certificates with their keys, and what they sign.

    Args:
        owner: for whom the Developer ID certificate is.
        parties: by role, see `certificate_parts.ROLES`.
    """

    def __init__(self, owner: Owner, parties: Mapping[str, Party]) -> None:
        self.owner = owner
        self._parties = dict(parties)

    @classmethod
    def create(
        cls, team_id: str, *, organization: str = "Look-alike", begins: datetime | None = None
    ) -> Authority:
        """Make an authority that nobody trusts yet.

        Args:
            team_id: ten letters and digits.
            organization: stands in the leaf's name before the team.
            begins: when its certificates begin to be valid; by default a day ago.
        """
        owner = Owner(team_id=team_id, organization=organization)
        start = (begins or _begins()).replace(microsecond=0)
        return cls(owner, certificate_parts.make(owner, start))

    @classmethod
    def load(cls, folder: Path, team_id: str, *, organization: str = "Look-alike") -> Authority:
        """Read an authority that `save` wrote; worn-out short-lived signers are replaced.

        A folder of an earlier rehearsal may lack a role that came later; it is issued and kept.

        Raises:
            FormatError: the folder does not hold one for this team.
        """
        owner = Owner(team_id=team_id, organization=organization)
        parties: dict[str, Party] = {}
        for name in certificate_parts.ROLES:
            path = folder / f"{name}.pem"
            if name in _LATER and not path.exists():
                parties[name] = certificate_parts.renew(name, owner, _begins(), parties)
                _write(path, parties[name])
            else:
                parties[name] = _read(path)
        made = cls(owner, parties)
        names = made.developer_id.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if [name.value for name in names] != [certificate_parts.leaf_name(owner)]:
            raise errors.FormatError("this authority is for another team", subject=str(folder))
        made._replace_worn_signers()
        return made

    def save(self, folder: Path) -> None:
        """Write each certificate with its key, readable by the owner only."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, party in self._parties.items():
            _write(folder / f"{name}.pem", party)

    @property
    def developer_id(self) -> x509.Certificate:
        """The leaf that code is signed with."""
        return self._parties[certificate_parts.DEVELOPER_ID].certificate

    def certificate(self, name: str) -> x509.Certificate:
        """The certificate of a role."""
        return self._parties[name].certificate

    def trust_pem(self) -> bytes:
        """Both roots: Apple's, too, has one of EC, for inner profiles and tickets."""
        roots = (certificate_parts.ROOT, certificate_parts.ROOT_G3)
        return b"".join(
            self.certificate(name).public_bytes(serialization.Encoding.PEM) for name in roots
        )

    def identity_p12(self, password: str, *, with_chain: bool = False) -> bytes:
        """The Developer ID identity as PKCS#12.

        Args:
            password: protects it.
            with_chain: whether the intermediate goes in. A look-alike's stands in no list of
                Apple's certificates, so a signer gets it from here; Apple's exports lack it.
        """
        party = self._parties[certificate_parts.DEVELOPER_ID]
        chain = [self.certificate(certificate_parts.DEVELOPER_ID_CA)] if with_chain else None
        return pkcs12.serialize_key_and_certificates(
            b"Developer ID",
            party.key,
            party.certificate,
            chain,
            serialization.BestAvailableEncryption(password.encode()),
        )

    def sign(self, octets: bytes, signer: str, *, digest: str) -> bytes:
        """Sign octets with the key of a role: PKCS#1 v1.5 or DER of ECDSA."""
        return _sign(self._parties[signer], octets, digest)

    def sign_cms(
        self,
        content: bytes,
        signer: str,
        *,
        digest: str,
        content_type: str = cms.DATA,
        attributes: Sequence[bytes] = (),
    ) -> bytes:
        """Sign content as Apple's services do: definite lengths, certificates unsorted.

        Args:
            content: goes inside.
            signer: the role that signs; its chain goes along with the root.
            digest: `sha1` or `sha256`.
            content_type: identifier of the content.
            attributes: signed ones beside the standard two.
        """
        party = self._parties[signer]
        chain = [_der(certificate) for certificate in self._chain(signer)]
        return cms.build(
            content=content,
            content_type=content_type,
            detached=False,
            digest=digest,
            signer_certificate=_der(party.certificate),
            certificates=_unsorted(chain),
            sign=lambda octets: _sign(party, octets, digest),
            attributes=attributes,
        )

    def sign_profile(self, content: bytes, signer: str, *, digest: str, at: datetime) -> bytes:
        """Sign a profile's content with the attributes that Apple's signer adds."""
        algorithm = "1.3.14.3.2.26" if digest == "sha1" else "2.16.840.1.101.3.4.2.1"
        protection = der.sequence(
            cms.algorithm_identifier(algorithm, with_null=digest == "sha1"),
            der.context(1, *_signature_algorithm(self._parties[signer])),
        )
        attributes = [
            cms.attribute(cms.SIGNING_TIME, der.utc_time(at)),
            cms.attribute(_PROTECTION, protection),
            cms.attribute(_CAPABILITIES, _capabilities()),
        ]
        return self.sign_cms(content, signer, digest=digest, attributes=attributes)

    def _chain(self, name: str) -> list[x509.Certificate]:
        """Intermediate, root, leaf: the order in which real ones were found."""
        above = certificate_parts.ROLES[name].issuer
        root = certificate_parts.ROLES[above].issuer
        return [self.certificate(role) for role in (above, root, name)]

    def _replace_worn_signers(self) -> None:
        for name in certificate_parts.SHORT_LIVED:
            if self.certificate(name).not_valid_after_utc < datetime.now(UTC) + _MARGIN:
                self._parties[name] = certificate_parts.renew(
                    name, self.owner, _begins(), self._parties
                )


def _begins() -> datetime:
    return (datetime.now(UTC) - _MARGIN).replace(microsecond=0)


def _write(path: Path, party: Party) -> None:
    key = party.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificate = party.certificate.public_bytes(serialization.Encoding.PEM)
    atomic.write_atomically(path, certificate + key, mode=0o600)


def _read(path: Path) -> Party:
    try:
        text = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(text)
        key = serialization.load_pem_private_key(text, password=None)
    except (OSError, ValueError) as problem:
        raise errors.FormatError("no certificate with its key", subject=str(path)) from problem
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise errors.FormatError("a key of another type", subject=str(path))
    return Party(certificate=certificate, key=key)


def _sign(party: Party, octets: bytes, digest: str) -> bytes:
    algorithm = _DIGESTS[digest]()
    if isinstance(party.key, rsa.RSAPrivateKey):
        return party.key.sign(octets, padding.PKCS1v15(), algorithm)
    return party.key.sign(octets, ec.ECDSA(algorithm))


def _signature_algorithm(party: Party) -> tuple[bytes, ...]:
    """The fields of the algorithm identifier, as the attribute's implicit tag holds them."""
    if isinstance(party.key, rsa.RSAPrivateKey):
        return der.oid("1.2.840.113549.1.1.1"), der.null()
    return (der.oid("1.2.840.10045.4.3.2"),)


def _capabilities() -> bytes:
    def capability(oid: str, *bits: int) -> bytes:
        return der.sequence(der.oid(oid), *(der.integer(count) for count in bits))

    return der.sequence(
        capability("1.2.840.113549.3.7"),
        capability("1.2.840.113549.3.2", 128),
        capability("1.2.840.113549.3.2", 64),
        capability("1.3.14.3.2.7"),
        capability("1.2.840.113549.3.2", 40),
    )


def _unsorted(certificates: Sequence[bytes]) -> list[bytes]:
    """Certificates in an order that is not DER's: a reader must not sort, nor ask for it."""
    found = list(certificates)
    return found[::-1] if found == sorted(found) else found


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
