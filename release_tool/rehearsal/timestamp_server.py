"""A look-alike of Apple's timestamp service: RFC 3161 over plain http, with Apple's habits.

A SignerInfo over SHA-1, policy 1.2.3.4.5.6, certificates unsorted and always sent, the nonce
echoed, a signer that lives six weeks; and now and then no answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from werkzeug.wrappers import Request, Response

from release_tool import errors
from release_tool.apple import cms, der
from release_tool.rehearsal import certificate_parts, faults
from release_tool.rehearsal.authority import Authority

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATH = "/ts01"
POLICY = "1.2.3.4.5.6"
_TST_INFO = "1.2.840.113549.1.9.16.1.4"
_SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.12"
# A request is some seventy bytes.
_REQUEST_BYTES = 4096
_IMPRINT_SIZES = {
    "1.3.14.3.2.26": 20,
    "2.16.840.1.101.3.4.2.1": 32,
    "2.16.840.1.101.3.4.2.2": 48,
    "2.16.840.1.101.3.4.2.3": 64,
}
_QUERY, _REPLY = "application/timestamp-query", "application/timestamp-reply"
_GRANTED, _REJECTED = 0, 2
# Bits of PKIFailureInfo (RFC 3161, section 2.4.2).
_BAD_ALGORITHM, _BAD_DATA_FORMAT = 0, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    imprint: bytes
    """The whole MessageImprint, to be echoed."""
    nonce: int | None


class _RejectedError(Exception):
    """The request was read and is refused; the number is a bit of PKIFailureInfo."""

    def __init__(self, failure: int) -> None:
        super().__init__(failure)
        self.failure = failure


class TimestampServer:
    """The WSGI application.

    Args:
        authority: holds the signer.
        broken: faults on demand.
        clock: the time that is told.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        broken: faults.Faults,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._authority = authority
        self._broken = broken
        self._clock = clock

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if request.path != PATH:
            return Response("not found", 404)
        if request.method != "POST":
            return Response("", 405, {"Allow": "POST"})
        if self._broken.take(faults.TIMESTAMP_UNAVAILABLE):
            return Response("Service Unavailable", 503)
        if request.mimetype != _QUERY:
            return Response("unsupported", 415)
        body = request.stream.read(_REQUEST_BYTES + 1)
        try:
            answer = response(_GRANTED, self.token(_parse(body)))
        except _RejectedError as refusal:
            answer = response(_REJECTED, failure=refusal.failure)
        return Response(answer, 200, content_type=_REPLY)

    def token(self, query: _Query) -> bytes:
        """Sign a TSTInfo over an imprint."""
        now = self._clock().replace(microsecond=0)
        info = der.sequence(
            der.integer(1),
            der.oid(POLICY),
            query.imprint,
            der.integer(secrets.randbits(63)),
            der.generalized_time(now),
            *((der.integer(query.nonce),) if query.nonce is not None else ()),
        )
        signer = certificate_parts.TIMESTAMP_SIGNER
        fingerprint = self._authority.certificate(signer).fingerprint(hashes.SHA1())  # noqa: S303 ESS v1
        binding = der.sequence(der.sequence(der.sequence(der.octets(fingerprint))))
        return self._authority.sign_cms(
            info,
            signer,
            digest="sha1",
            content_type=_TST_INFO,
            attributes=[
                cms.attribute(cms.SIGNING_TIME, der.utc_time(now)),
                cms.attribute(_SIGNING_CERTIFICATE, binding),
            ],
        )


def response(status: int, token: bytes = b"", *, failure: int | None = None) -> bytes:
    """Write a TimeStampResp."""
    told = [der.integer(status)]
    if failure is not None:
        # A BIT STRING with this one bit set.
        octets = (1 << (31 - failure)).to_bytes(4)[: failure // 8 + 1]
        told.append(der.encode(der.BIT_STRING, bytes([7 - failure % 8]), octets))
    return der.sequence(der.sequence(*told), token)


def _parse(body: bytes) -> _Query:
    """Read a TimeStampReq; its certReq is not asked for, since Apple always sends certificates."""
    try:
        if len(body) > _REQUEST_BYTES:
            raise _RejectedError(_BAD_DATA_FORMAT)
        version, imprint, *rest = der.as_sequence(der.parse(body))
        algorithm, digest = der.as_sequence(imprint)
        size = _IMPRINT_SIZES.get(der.as_oid(der.as_sequence(algorithm)[0]))
        nonces = [der.as_integer(node) for node in rest if node.is_universal(der.INTEGER)]
        if der.as_integer(version) != 1 or len(nonces) > 1:
            raise _RejectedError(_BAD_DATA_FORMAT)
        if size is None or len(der.as_octets(digest)) != size:
            raise _RejectedError(_BAD_ALGORITHM)
    except (errors.FormatError, ValueError, IndexError) as problem:
        raise _RejectedError(_BAD_DATA_FORMAT) from problem
    return _Query(imprint=imprint.raw, nonce=nonces[0] if nonces else None)
