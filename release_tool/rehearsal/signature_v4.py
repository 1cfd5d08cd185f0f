"""Verify AWS Signature Version 4 of a request, as an S3 server does.

Source: AWS, "Create a signed AWS API request"; S3 encodes the path once. Only signatures in the
header are taken; those in a query are `presigned_urls`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import urllib.parse
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from release_tool.rehearsal import s3_errors

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/, ]+)/(?P<date>\d{8})/(?P<region>[^/, ]*)/s3/"
    r"aws4_request, ?SignedHeaders=(?P<headers>[a-z0-9;._-]+), "
    r"?Signature=(?P<signature>[0-9a-f]{64})"
)
# `us-east-1` and the empty region are aliases of R2's only one.
R2_REGIONS = ("auto", "us-east-1", "")
_MOST_SKEW = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The one access key of the bucket."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


def access_key_id(environ: WSGIEnvironment) -> str:
    """The access key that a request names; empty where it is not signed in its header."""
    found = _AUTHORIZATION.fullmatch(environ.get("HTTP_AUTHORIZATION", ""))
    return found["key"] if found else ""


def verify(
    environ: WSGIEnvironment, credentials: Credentials, *, regions: Collection[str] = R2_REGIONS
) -> None:
    """Refuse a request that was not signed with these credentials within 15 minutes.

    Raises:
        S3Error: unsigned, another key, region or time, or another signature.
    """
    found = _AUTHORIZATION.fullmatch(environ.get("HTTP_AUTHORIZATION", ""))
    if found is None or found["key"] != credentials.access_key_id:
        raise s3_errors.unauthorized()
    if found["region"] not in regions:
        raise s3_errors.S3Error(
            400, "InvalidRegionName", f"The region name '{found['region']}' is not valid."
        )
    stamp = _time(environ, found["date"])
    names = found["headers"].split(";")
    _require_signed(environ, names)
    scope = f"{found['date']}/{found['region']}/s3/aws4_request"
    digest = hashlib.sha256(_canonical(environ, names).encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    ours = sign(credentials.secret_access_key, scope, text)
    if not hmac.compare_digest(ours, found["signature"]):
        raise s3_errors.signature_does_not_match()


def sign(secret: str, scope: str, text: str) -> str:
    """The signature of a string to sign, in hex.

    Args:
        secret: the secret access key.
        scope: `DATE/REGION/s3/aws4_request`.
        text: the whole string to sign.
    """
    return _mac(_key(secret, scope), text).hex()


def _time(environ: WSGIEnvironment, date: str) -> str:
    stamp: str = environ.get("HTTP_X_AMZ_DATE", "")
    try:
        moment = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as problem:
        raise s3_errors.unauthorized("x-amz-date is missing") from problem
    if stamp[:8] != date or abs(datetime.now(UTC) - moment) > _MOST_SKEW:
        raise s3_errors.S3Error(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the server's time is too large.",
        )
    return stamp


def _require_signed(environ: WSGIEnvironment, names: list[str]) -> None:
    """The host and every `x-amz-` header must be among the signed ones."""
    sent = {
        name[5:].replace("_", "-").lower()
        for name in environ
        if name.startswith(("HTTP_X_AMZ_", "HTTP_CF_COPY_"))
    }
    covered = {name.replace("_", "-") for name in names}
    if "host" not in covered or not sent <= covered:
        raise s3_errors.S3Error(
            403, "AccessDenied", "There were headers present in the request which were not signed"
        )


def _canonical(environ: WSGIEnvironment, names: list[str]) -> str:
    path, _, query = environ["RAW_URI"].partition("?")
    path = urllib.parse.quote(urllib.parse.unquote_to_bytes(path), safe="/-_.~")
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    quoted = sorted((_quote(name), _quote(value)) for name, value in pairs)
    headers = "".join(f"{name}:{_header(environ, name)}\n" for name in names)
    return "\n".join(
        [
            environ["REQUEST_METHOD"],
            path,
            "&".join(f"{name}={value}" for name, value in quoted),
            headers,
            ";".join(names),
            environ.get("HTTP_X_AMZ_CONTENT_SHA256", ""),
        ]
    )


def _header(environ: WSGIEnvironment, name: str) -> str:
    key = name.upper().replace("-", "_")
    if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = f"HTTP_{key}"
    value: str = environ.get(key, "")
    return " ".join(value.encode("latin-1").decode("utf-8", errors="replace").split())


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="-_.~")


def _key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = _mac(key, part)
    return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
