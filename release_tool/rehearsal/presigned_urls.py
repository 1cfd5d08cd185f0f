"""Presigned URLs: AWS Signature Version 4 in the query, with an expiry.

Source: AWS, "Authenticating requests: using query parameters". Nothing but the host is signed
beside path and query; the payload is not.
"""

from __future__ import annotations

import hashlib
import hmac
import urllib.parse
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from release_tool.rehearsal import s3_errors, signature_v4

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_ALGORITHM = "AWS4-HMAC-SHA256"
_SIGNATURE = "X-Amz-Signature"
_STAMP = "%Y%m%dT%H%M%SZ"


def make(
    base: str,
    path: str,
    credentials: signature_v4.Credentials,
    *,
    region: str,
    at: datetime,
    lives: timedelta,
) -> str:
    """The URL that lets anyone GET a path of a host for a while.

    Args:
        base: `http://HOST:PORT`.
        path: with a leading slash, not quoted.
        credentials: whose signature it bears.
        region: of the scope.
        at: when it begins.
        lives: for how long it is good.
    """
    scope = f"{at:%Y%m%d}/{region}/s3/aws4_request"
    query = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key_id}/{scope}",
        "X-Amz-Date": at.strftime(_STAMP),
        "X-Amz-Expires": str(int(lives.total_seconds())),
        "X-Amz-SignedHeaders": "host",
    }
    host = urllib.parse.urlsplit(base).netloc
    query[_SIGNATURE] = _signature("GET", path, query, host, credentials.secret_access_key)
    return f"{base}{urllib.parse.quote(path)}?{_encoded(query)}"


def verify(
    environ: WSGIEnvironment, path: str, credentials: signature_v4.Credentials, *, now: datetime
) -> None:
    """Refuse a request that such a URL does not allow.

    Raises:
        S3Error: two kinds of authentication at once, none, an expired or another signature.
    """
    query = dict(urllib.parse.parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    if "HTTP_AUTHORIZATION" in environ:
        raise s3_errors.S3Error(
            400,
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature "
            "query string parameter or the Authorization header should be specified",
        )
    signature = query.pop(_SIGNATURE, "")
    if query.get("X-Amz-Algorithm") != _ALGORITHM or not signature:
        raise s3_errors.access_denied()
    if _expiry(query) < now:
        raise s3_errors.S3Error(403, "AccessDenied", "Request has expired")
    host = environ.get("HTTP_HOST", "")
    ours = _signature(environ["REQUEST_METHOD"], path, query, host, credentials.secret_access_key)
    if not hmac.compare_digest(ours, signature):
        raise s3_errors.signature_does_not_match()


def _expiry(query: dict[str, str]) -> datetime:
    try:
        begins = datetime.strptime(query["X-Amz-Date"], _STAMP).replace(tzinfo=UTC)
        return begins + timedelta(seconds=int(query["X-Amz-Expires"]))
    except (KeyError, ValueError, OverflowError) as problem:
        raise s3_errors.access_denied() from problem


def _signature(method: str, path: str, query: dict[str, str], host: str, secret: str) -> str:
    scope = query.get("X-Amz-Credential", "").partition("/")[2]
    canonical = "\n".join(
        [
            method,
            urllib.parse.quote(path, safe="/-_.~"),
            _encoded(query),
            f"host:{host}\n",
            "host",
            "UNSIGNED-PAYLOAD",
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return signature_v4.sign(
        secret, scope, f"{_ALGORITHM}\n{query['X-Amz-Date']}\n{scope}\n{digest}"
    )


def _encoded(query: dict[str, str]) -> str:
    quoted = sorted(
        (urllib.parse.quote(name, safe="-_.~"), urllib.parse.quote(value, safe="-_.~"))
        for name, value in query.items()
    )
    return "&".join(f"{name}={value}" for name, value in quoted)
