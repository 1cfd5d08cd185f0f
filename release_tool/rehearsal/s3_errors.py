"""Errors of the object store's look-alike, in S3's XML.

Names and statuses are those of R2's table (developers.cloudflare.com/r2/api/error-codes/).
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from werkzeug.wrappers import Response


class S3Error(Exception):
    """A refusal: HTTP status, S3's code and a text."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def response(self, *, with_body: bool = True) -> Response:
        """The answer; one to HEAD has no body."""
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f"<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message></Error>"
        )
        return Response(text if with_body else "", self.status, content_type="application/xml")


def unauthorized(message: str = "Unauthorized") -> S3Error:
    """R2's 10002."""
    return S3Error(401, "Unauthorized", message)


def access_denied() -> S3Error:
    """R2's 10003: outside what the token may touch."""
    return S3Error(403, "AccessDenied", "Access Denied")


def signature_does_not_match() -> S3Error:
    """R2's 10035."""
    return S3Error(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. "
        "Check your secret access key and signing method.",
    )


def not_implemented(what: str) -> S3Error:
    """R2's 10022: known to S3, not to R2."""
    return S3Error(501, "NotImplemented", f"{what} not implemented")


def precondition_failed() -> S3Error:
    """R2's 10031."""
    return S3Error(
        412,
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold.",
    )


def bad_digest(name: str) -> S3Error:
    """R2's 10037."""
    return S3Error(400, "BadDigest", f"The {name} you specified did not match what we received.")


def invalid_part(message: str) -> S3Error:
    """R2's 10048."""
    return S3Error(400, "InvalidPart", message)


def no_such_upload() -> S3Error:
    """R2's 10024."""
    return S3Error(404, "NoSuchUpload", "The specified multipart upload does not exist.")


def too_many_requests() -> S3Error:
    """R2's 10058: one write a second for each key."""
    return S3Error(
        429, "TooManyRequests", "Reduce your concurrent request rate for the same object."
    )


def unavailable() -> S3Error:
    """R2's 10043."""
    return S3Error(503, "ServiceUnavailable", "Please try again.")
