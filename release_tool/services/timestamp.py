"""Ask an RFC 3161 service for a timestamp over a signature, and verify what it answers.

Plain http is allowed here and nowhere else: Apple's service offers nothing else, and the token
carries its own proof (nonce, imprint, signature, chain), which is checked before it is used.
"""

from __future__ import annotations

import hashlib
import secrets
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from release_tool import errors
from release_tool.apple import timestamp_token
from release_tool.apple.certificates import Certificate, Trust
from release_tool.progress import Reporter
from release_tool.services import clocks, http_client, retries

# Apple's service answers within a second.
_SECONDS = 30.0
_HEADERS = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
REFUSED_SECONDS = 180
"""codesign was seen to refuse a difference of 182 s; a slow answer takes up to 30 s."""
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampService:
    """One service and whom it must be signed by."""

    url: str
    trust: Trust
    """Where the token's chain must end."""
    pool: Sequence[Certificate] = field(default=(), repr=False)
    """Further certificates that may stand between."""
    policy: retries.Policy = retries.DEFAULT
    reporter: Reporter | None = field(default=None, repr=False)
    _clocks_told: list[int] = field(default_factory=list, init=False, repr=False)

    def stamp(self, octets: bytes) -> bytes:
        """Get a token over the octets of a signature.

        Returns:
            The token's CMS, verified.

        Raises:
            UsageError: the address is not one of http or https.
            TransientError: no answer, after all retries.
            RemoteRefusedError: the service refused, or what answers is no timestamp service.
            VerificationError: the token is not a valid one for this request.
            HostError: this host's clock is too far from the service's.
        """
        _require_address(self.url)
        return retries.call(lambda: self._once(octets), self.policy, self.reporter)

    def _once(self, octets: bytes) -> bytes:
        nonce = secrets.randbits(63) | 1 << 63
        answer = http_client.exchange(
            "POST",
            self.url,
            seconds=_SECONDS,
            limit_bytes=timestamp_token.MAX_RESPONSE_BYTES,
            headers=_HEADERS,
            body=timestamp_token.encode_request(hashlib.sha256(octets).digest(), nonce),
        )
        _require_success(self.url, answer)
        token = timestamp_token.parse_response(answer.body)
        proof = timestamp_token.verify(
            token, signed_octets=octets, trust=self.trust, pool=self.pool, nonce=nonce
        )
        self._compare_clocks(proof.gen_time)
        return token

    def _compare_clocks(self, stamped: datetime) -> None:
        """Say when this host's clock is off: the signing time inside the signature is its word.

        Raises:
            HostError: by so much that a Mac refuses the signature.
        """
        ahead = round((datetime.now(UTC) - stamped).total_seconds())
        if abs(ahead) > REFUSED_SECONDS:
            raise clocks.refused(
                ahead,
                "the timestamp service's",
                why="a signature tells both times",
                subject=self.url,
                observed=f"{stamped:%Y-%m-%d %H:%M:%S} UTC there",
            )
        if self.reporter and abs(ahead) > clocks.TOLERANCE_SECONDS and not self._clocks_told:
            self._clocks_told.append(ahead)
            side = clocks.worded(ahead)
            self.reporter.warn(f"this host's clock is {side} the timestamp service's: set it")


def _require_address(url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in url
    except ValueError:
        usable = False
    if not usable:
        raise errors.UsageError(
            "not the address of a timestamp service",
            expected="http://HOST/PATH or https://HOST/PATH",
            observed=url[:200],
        )


def _require_success(url: str, answer: http_client.Answer) -> None:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    observed = f"status {answer.status}, {kind or 'no content type'}"
    if answer.status in _PASSING:
        raise errors.TransientError(
            "the timestamp service is not available",
            subject=url,
            observed=observed,
            hint="run again",
        )
    if answer.status != 200 or kind != "application/timestamp-reply":
        raise errors.RemoteRefusedError(
            "the timestamp service did not answer with a timestamp",
            subject=url,
            expected="status 200, application/timestamp-reply",
            observed=observed,
            hint="set the timestamp URL, or look at what stands before the service; then run again",
        )
