"""The notary with its S3, its logs and the ticket server, wired together."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from werkzeug.serving import WSGIRequestHandler

from release_tool.apple import certificates
from release_tool.rehearsal import faults, notary, notary_tokens, servers, ticket_server
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.notary_judge import Judge
from release_tool.rehearsal.notary_logs import REDIRECTED, NotaryLogs
from release_tool.rehearsal.notary_store import NotaryStore
from release_tool.rehearsal.notary_worker import Delays, NotaryWorker
from release_tool.rehearsal.ticket_server import TicketServer
from release_tool.rehearsal.ticket_signer import TicketSigner
from release_tool.rehearsal.upload_store import UploadStore

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

NOTARY, UPLOADS, LOGS, TICKETS = "notary", "notary-uploads", "notary-logs", "tickets"


class Start(Protocol):
    """Starts a server under a name, on the port that it had before."""

    def __call__(
        self,
        name: str,
        application: WSGIApplication,
        handler: type[WSGIRequestHandler] = servers.QuietHandler,
    ) -> servers.Server: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Who may ask, and how long things take."""

    key: notary_tokens.ApiKey
    delays: Delays = field(default_factory=Delays)
    slow_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a client finds it; no slash at the end."""

    notary_url: str
    """Of the submissions, with their path."""
    notary_upload_url: str
    """The S3 endpoint of the uploads."""
    ticket_url: str
    """Of the lookup, with its path."""


def api_key(pem: str, *, key_id: str, issuer_id: str) -> notary_tokens.ApiKey:
    """The public half of an App Store Connect API key.

    Args:
        pem: the private key, PKCS#8.
        key_id: how tokens name it.
        issuer_id: whose it is.

    Raises:
        ValueError: another key.
    """
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ValueError("not a key on P-256")
    return notary_tokens.ApiKey(key_id=key_id, issuer_id=issuer_id, public_key=key.public_key())


def serve(
    folder: Path,
    authority: Authority,
    settings: Settings,
    *,
    broken: faults.Faults,
    stack: ExitStack,
    start: Start,
) -> Addresses:
    """Start all four servers and the work behind them, until the stack unwinds.

    Args:
        folder: what the notary holds; made where absent.
        authority: trusted for code, and signer of tickets.
        settings: key and times.
        broken: faults on demand.
        stack: ends all of it.
        start: starts a server.
    """
    store = NotaryStore(folder)
    stack.callback(store.close)
    signer = TicketSigner(authority)
    worker = stack.enter_context(
        NotaryWorker(
            store, Judge(_trust(authority), store.scratch), signer, settings.delays, broken=broken
        )
    )
    kept = NotaryLogs(store, broken=broken)
    logs = start(LOGS, kept)
    counter = notary.Notary(
        store,
        notary.Settings(
            key=settings.key,
            processing_seconds=settings.delays.processing_seconds,
            slow_seconds=settings.slow_seconds,
        ),
        log_url=lambda submission: kept.url(logs.url, submission),
        # Another host by its name, and the same machine.
        redirect_url=f"http://localhost:{logs.port}{REDIRECTED}",
        broken=broken,
    )
    uploads = UploadStore(store, uploaded=worker.add, broken=broken)
    tickets = TicketServer(store, signer, broken=broken)
    return Addresses(
        notary_url=f"{start(NOTARY, counter).url}{notary.PATH}",
        notary_upload_url=start(UPLOADS, uploads, servers.ContinuingHandler).url,
        ticket_url=f"{start(TICKETS, tickets).url}{ticket_server.PATH}",
    )


def _trust(authority: Authority) -> certificates.Trust:
    roots = x509.load_pem_x509_certificates(authority.trust_pem())
    encoded = [root.public_bytes(serialization.Encoding.DER) for root in roots]
    return certificates.Trust(name="look-alike", roots=tuple(map(certificates.load, encoded)))
