"""HTTP with the cautions of a release: no redirects, bounded bodies, bounded time.

The only importer of requests. What requests and urllib3 raise becomes an error of ours; a status
is never an error here, the callers know what it means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import requests
import urllib3

import release_tool
from release_tool import errors, tracing
from release_tool.services import addresses, covering, deadlines, patience, proxies

# Cloudflare answers the default agents of HTTP libraries with 403 (error 1010).
USER_AGENT = f"release-tool/{release_tool.__version__}"
_CONNECT_SECONDS = 15.0
_CHUNK_BYTES = 1024 * 1024
_REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer, bounded."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class NoConnectionError(errors.TransientError):
    """There was no connection, so nothing was sent."""


class OversizedError(errors.RemoteRefusedError):
    """The answer is larger than any that belongs there: whoever gave it, it says nothing."""


class FileBody:
    """A file as the body of one request: read as it is sent, so that memory stays flat.

    Args:
        source: the open file, at its beginning.
        size: how many bytes it has; never 0, which HTTP libraries take for no body at all.
        seconds: how long sending it may take.
        told: is told of the bytes as they leave.
    """

    def __init__(
        self, source: BinaryIO, *, size: int, seconds: float, told: Callable[[int], None]
    ) -> None:
        self._source = source
        self._size = size
        self._deadline = time.monotonic() + patience.answer(seconds)
        self._told = told

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read(_CHUNK_BYTES):
            yield chunk

    def read(self, count: int = _CHUNK_BYTES) -> bytes:
        """The next bytes.

        Raises:
            TransientError: the time is up.
        """
        if time.monotonic() > self._deadline:
            raise errors.TransientError("sending did not end in time", hint="run again")
        chunk = self._source.read(count)
        self._told(len(chunk))
        return chunk


class Stream:
    """An answer whose body is still to be read, once."""

    def __init__(
        self,
        response: requests.Response,
        *,
        address: str,
        deadline: float,
        secrets: Sequence[str] = (),
    ) -> None:
        self.status: int = response.status_code
        self.headers = {
            name.lower(): covering.text(value, secrets) for name, value in response.headers.items()
        }
        self._raw = response.raw
        self._address = address
        self._deadline = deadline
        self._secrets = secrets

    def chunks(self) -> Iterator[bytes]:
        """The body as it travels, undecoded.

        Raises:
            TransientError: the connection broke or the time is up.
        """
        with _converted(self._address, self._secrets):
            while chunk := self._raw.read1(_CHUNK_BYTES, decode_content=False):
                if time.monotonic() > self._deadline:
                    raise _too_slow(self._address)
                yield chunk
            # A body without a length may end because its time is up, and looks whole.
            if time.monotonic() > self._deadline:
                raise _too_slow(self._address)

    def body(self, limit_bytes: int) -> bytes:
        """The whole body, with the credentials covered that the request carried.

        Raises:
            OversizedError: it is larger than `limit_bytes`.
        """
        collected = bytearray()
        for chunk in self.chunks():
            collected += chunk
            if len(collected) > limit_bytes:
                raise OversizedError(
                    "the answer is larger than any that belongs here",
                    subject=shown(self._address),
                    expected=f"at most {limit_bytes} bytes",
                )
        return covering.body(bytes(collected), self._secrets)


@contextmanager
def stream(
    method: str,
    address: str,
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | FileBody | None = None,
) -> Iterator[Stream]:
    """Send one request and hand out its answer; redirects are not followed.

    Args:
        method: the HTTP method.
        address: a full address.
        seconds: the whole budget, and the longest silence.
        headers: further headers. A credential among them is covered in everything that comes
            back and may be shown: headers, whole bodies and errors.
        body: the body to send.

    Raises:
        UsageError: a credential would travel in the clear, or the environment names a proxy that
            is none; nothing was sent.
        TransientError: no connection (`NoConnectionError`), a broken one, or out of time.
        VerificationError: the server's certificate does not hold.
    """
    secrets = _credentials(headers or {})
    if secrets and not addresses.is_confidential(address):
        raise errors.UsageError(
            "a credential would travel in the clear",
            subject=shown(address),
            expected="https, or http on a loopback host",
            hint="nothing was sent; correct the address",
        )
    seconds = patience.answer(seconds)
    before = proxies.before(address)
    deadline = time.monotonic() + seconds
    sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"} | dict(headers or {})
    with _OneRequest() as session, deadlines.within(seconds):
        # A proxy never stands before this machine itself.
        session.trust_env = not addresses.is_loopback(address)
        with tracing.asking(f"{method} {shown(address)}") as asked, _converted(address, secrets):
            response = session.request(
                method,
                address,
                data=body,
                headers=sent,
                auth=_as_it_is,
                proxies=before,
                allow_redirects=False,
                stream=True,
                timeout=(min(_CONNECT_SECONDS, seconds), seconds),
            )
            asked.answer = str(response.status_code)
        with response:
            yield Stream(response, address=address, deadline=deadline, secrets=secrets)


def exchange(
    method: str,
    address: str,
    *,
    seconds: float,
    limit_bytes: int,
    headers: Mapping[str, str] | None = None,
    body: bytes | FileBody | None = None,
) -> Answer:
    """Send one request and read its whole answer; arguments and errors as for `stream`."""
    with stream(method, address, seconds=seconds, headers=headers, body=body) as answer:
        return Answer(status=answer.status, headers=answer.headers, body=answer.body(limit_bytes))


class _Connection(deadlines.Watched, urllib3.connection.HTTPConnection):
    pass


class _SecureConnection(deadlines.Watched, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(requests.adapters.HTTPAdapter):
    """Makes connections whose answers have an end."""

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: bool | str | None,  # noqa: FBT001 - as requests calls it
        proxies: Mapping[str, str] | None = None,
        cert: tuple[str, str] | str | None = None,
    ) -> urllib3.connectionpool.ConnectionPool:
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return super().get_connection_with_tls_context(request, verify, proxies, cert)


class _OneRequest(requests.Session):
    """A session that does not look at redirects.

    Even without following one, requests reads its whole body and parses its address, and both
    are the other side's to choose.
    """

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        del resp
        return None


def _credentials(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The tokens that the headers carry, without the word for their kind."""
    named = (value for name, value in headers.items() if name.lower() == "authorization")
    return tuple(value.partition(" ")[2] or value for value in named)


def shown(address: str) -> str:
    """An address as an error may name it: without its query, which may be a signature."""
    return address.partition("?")[0]


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep the request: without this a `.netrc` would replace our Authorization header."""
    return request


@contextmanager
def _converted(address: str, secrets: Sequence[str] = ()) -> Iterator[None]:
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError) as problem:
        # `from None`: the libraries' own texts hold whole addresses and headers.
        raise convert(problem, address, secrets) from None


def convert(problem: Exception, address: str, secrets: Sequence[str] = ()) -> errors.ReleaseError:
    """The error of ours for one of requests or urllib3.

    Args:
        problem: what was raised.
        address: what was asked; its query is shown nowhere.
        secrets: what the request carried and no error may show.
    """
    hidden = (*secrets, address.partition("?")[2], *proxies.passwords())
    reason = covering.text(_reason(problem), hidden)[:_REASON_CHARACTERS]
    subject = shown(address)
    if "CERTIFICATE_VERIFY_FAILED" in str(problem):
        return errors.VerificationError(
            "the server's certificate does not hold",
            subject=subject,
            observed=reason,
            hint="check the address, this host's clock, and the certificates that it trusts",
        )
    if isinstance(problem, _WRONG_REQUEST):
        return errors.UsageError(
            "this cannot be requested", subject=subject, observed=reason, hint="correct the address"
        )
    kind = NoConnectionError if _is_unsent(problem) else errors.TransientError
    return kind("no answer", subject=subject, observed=reason, hint="run again")


def _is_unsent(problem: BaseException | None) -> bool:
    """Whether it failed before a connection stood; a proxy counts as the other side."""
    while problem is not None:
        if isinstance(problem, _UNCONNECTED):
            return True
        reason = getattr(problem, "reason", None)
        problem = reason if isinstance(reason, Exception) else problem.__context__
    return False


# A name that does not resolve is one of the first.
_UNCONNECTED = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
)


# The request itself cannot be made; trying again does not help.
_WRONG_REQUEST = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidProxyURL,
    requests.exceptions.UnrewindableBodyError,
    urllib3.exceptions.LocationValueError,
    urllib3.exceptions.URLSchemeUnknown,
)


def _reason(problem: Exception) -> str:
    """The innermost cause; the outer texts repeat pool and object addresses."""
    inner: BaseException = problem
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    return f"{type(inner).__name__}: {inner}"


def _too_slow(address: str) -> errors.TransientError:
    return errors.TransientError(
        "the answer did not end in time", subject=shown(address), hint="run again"
    )
