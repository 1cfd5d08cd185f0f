"""A byte now and then meets no timeout of a socket, and still every answer has an end."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from release_tool import errors
from release_tool.progress import Silent
from release_tool.services import (
    deadlines,
    http_client,
    object_store_calls,
    patience,
    public_url,
    retries,
)
from release_tool.services.object_store import ObjectStore
from release_tool.services.patience import Patience

_HEAD = b"HTTP/1.1 200 OK\r\nETag: x\r\nLast-Modified: Thu, 14 May 2026 21:51:07 GMT\r\n"
# Far beyond the bound, far below what the trickle itself would take.
_CAP_SECONDS = 60.0
ONCE = retries.Policy(attempts=1)


@contextmanager
def dripping(start: bytes, piece: bytes, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """An address that answers with a start, and then with the same piece for minutes."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)

        def drip(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                if context is None:
                    speak(connection)
                    return
                with context.wrap_socket(connection, server_side=True) as covered:
                    speak(covered)

        def speak(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(start)
            while not ended.wait(0.05):
                connection.sendall(piece)

        def serve() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                threading.Thread(target=drip, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


IN_THE_HEAD = (b"HTTP/1.1 200 OK\r\nX-Endless: ", b"x")
IN_THE_BODY = (_HEAD + b"Content-Length: 100000\r\n\r\n", b"x")
WITHOUT_LENGTH = (_HEAD + b"Connection: close\r\n\r\n", b"x")


@pytest.fixture(autouse=True)
def short() -> Iterator[None]:
    patience.hold(Patience(answer_seconds=0.3))
    before = time.monotonic()
    yield
    patience.hold(Patience())
    assert time.monotonic() - before < _CAP_SECONDS


@pytest.mark.parametrize("answer", [IN_THE_HEAD, IN_THE_BODY, WITHOUT_LENGTH])
def test_http_ends_in_time(answer: tuple[bytes, bytes]) -> None:
    """Whether headers or a body trickle; a body without a length is not taken for whole."""
    with dripping(*answer) as url, pytest.raises(errors.TransientError):
        http_client.exchange("GET", url, seconds=600, limit_bytes=1_000_000)


def test_a_public_download_ends_in_time() -> None:
    """The digest of a part is never handed out as that of the whole."""
    with dripping(*WITHOUT_LENGTH) as url, pytest.raises(errors.TransientError):
        public_url.read(url, limit_bytes=10**6, seconds=600, reporter=Silent(), policy=ONCE)


@pytest.mark.parametrize("answer", [IN_THE_HEAD, IN_THE_BODY])
def test_s3_ends_in_time(answer: tuple[bytes, bytes]) -> None:
    """The library bounds one silence only; the clock beside it bounds the answer."""
    with dripping(*answer) as url:
        store = ObjectStore(
            endpoint=url,
            bucket="releases",
            access_key_id=lambda: "AKID",
            secret_access_key=lambda: "secret",
            policy=ONCE,
        )
        with pytest.raises(errors.TransientError) as caught:
            store.read("key", limit_bytes=1_000_000)
    assert caught.value.hint == "run again"


def test_an_answer_in_time_is_left_alone() -> None:
    """The clock ends with the block, and never touches what comes later."""
    one, other = socket.socketpair()

    class Connection:
        sock = one

        def getresponse(self) -> bytes:
            return one.recv(10)

    class Watched(deadlines.Watched, Connection):
        pass

    with one, other:
        other.sendall(b"in time")
        with deadlines.within(0.1):
            assert Watched().getresponse() == b"in time"
        time.sleep(0.2)
        other.sendall(b"later")
        assert one.recv(10) == b"later"


def _certificate(folder: Path) -> Path:
    """A certificate of this machine's own, with its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "own.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_an_answer_under_tls_ends_in_time(tmp_path: Path) -> None:
    """The clock shuts the plain connection below the session; who reads meets an error, no bug."""
    own = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    for start, piece in (IN_THE_HEAD, IN_THE_BODY):
        with dripping(start, piece, context) as url:
            port = int(url.rpartition(":")[2])
            with (
                http_client._SecurePool("127.0.0.1", port, ca_certs=str(own)) as pool,
                deadlines.within(0.3),
                pytest.raises(urllib3.exceptions.HTTPError),
            ):
                pool.urlopen("GET", "/", retries=False, timeout=60)


def test_a_store_that_takes_a_little_now_and_then_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending has an end: two minutes, and ten seconds for each megabyte."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    patience.hold(Patience())
    body = object_store_calls.Body(BytesIO(b"x" * 1_000_000), lambda _: None, start=0, size=10**6)
    assert len(body.read()) == 10**6
    body.seek(0)
    body.begin()
    now = 1129.0
    assert body.read(10) == b"x" * 10
    now = 1131.0
    with pytest.raises(errors.TransientError):
        body.read(10)
