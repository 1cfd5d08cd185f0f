"""The look-alike authority as tests use it: one for the run, its trust, identity and services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from release_tool.apple import certificates, identity
from release_tool.rehearsal import faults
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.servers import Server
from release_tool.rehearsal.timestamp_server import PATH, TimestampServer

TEAM = "SLDQ2GJ6TL"
PASSWORD = "look-alike"


@lru_cache
def authority() -> Authority:
    return Authority.create(TEAM)


@lru_cache
def trust() -> certificates.Trust:
    roots = x509.load_pem_x509_certificates(authority().trust_pem())
    encoded = [root.public_bytes(serialization.Encoding.DER) for root in roots]
    return certificates.Trust(name="look-alike", roots=tuple(map(certificates.load, encoded)))


@lru_cache
def signer() -> identity.Identity:
    """As a release gets it: the p12 with its intermediate, the root from what is trusted."""
    p12 = authority().identity_p12(PASSWORD, with_chain=True)
    return identity.load(p12, PASSWORD, known=trust().roots)


@contextmanager
def timestamp_server(
    broken: faults.Faults | None = None, *, ahead: timedelta = timedelta()
) -> Iterator[str]:
    """The address of a running look-alike of Apple's timestamp service; its clock may differ."""
    server = Server(
        TimestampServer(
            authority(),
            broken=broken or faults.Faults(),
            clock=lambda: datetime.now(UTC) + ahead,
        )
    )
    server.start()
    try:
        yield server.url + PATH
    finally:
        server.stop()
