"""What botocore may raise, in errors of ours.

Classes are told by name, so that nothing of botocore is imported before a store is used. A test
walks botocore's own list and fails when a class appears that no table here knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from release_tool import errors
from release_tool.services import clocks, covering, proxies, retry_after

_TRANSIENT = (
    "CapacityNotAvailableError",
    "ConnectionError",
    "HTTPClientError",
    "IncompleteReadError",
)
_CREDENTIAL = (
    "CredentialRetrievalError",
    "LoginError",
    "MetadataRetrievalError",
    "NoAuthTokenError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "RefreshWithMFAUnsupportedError",
    "SSOError",
    "TokenRetrievalError",
    "UnknownCredentialError",
    "UnknownTokenProviderError",
)
_VERIFICATION = ("ChecksumError", "FlexibleChecksumError")
_HOST = (
    "ApiVersionNotFoundError",
    "DataNotFoundError",
    "MD5UnavailableError",
    "MissingDependencyException",
)
_USAGE = (
    "BaseEndpointResolverError",
    "ConfigNotFound",
    "ConfigParseError",
    "EndpointProviderError",
    "InvalidChecksumConfigError",
    "InvalidConfigError",
    "InvalidDNSNameError",
    "InvalidDefaultsMode",
    "InvalidEndpointConfigurationError",
    "InvalidEndpointDiscoveryConfigurationError",
    "InvalidHostLabelError",
    "InvalidIMDSEndpointError",
    "InvalidIMDSEndpointModeError",
    "InvalidProxiesConfigError",
    "InvalidRetryConfigurationError",
    "InvalidRetryModeError",
    "InvalidS3AddressingStyleError",
    "InvalidS3UsEast1RegionalEndpointConfigError",
    "InvalidSTSRegionalEndpointsConfigError",
    "MissingParametersError",
    "ParamValidationError",
    "ProfileNotFound",
    "ServiceNotInRegionError",
    "UnknownRegionError",
    "UnknownSignatureVersionError",
    "UnsupportedS3ConfigurationError",
    "ValidationError",
)
# Not met by the few calls that we make; kept so that a new class is noticed.
_REFUSED = (
    "AwsChunkedWrapperError",
    "EventStreamError",
    "InvalidExpressionError",
    "OperationNotPageableError",
    "PaginationError",
    "StubResponseError",
    "UndefinedModelAttributeError",
    "UnknownClientMethodError",
    "UnknownServiceStyle",
    "UnseekableStreamError",
    "UnsupportedOutpostResourceError",
    "UnsupportedS3AccesspointConfigurationError",
    "UnsupportedS3ArnError",
    "UnsupportedS3ControlArnError",
    "UnsupportedS3ControlConfigurationError",
    "UnsupportedServiceProtocolsError",
    "UnsupportedSignatureVersionError",
    "WaiterConfigError",
    "WaiterError",
)

KINDS: Mapping[str, type[errors.ReleaseError]] = {
    name: kind
    for kind, names in (
        (errors.TransientError, _TRANSIENT),
        (errors.CredentialError, _CREDENTIAL),
        (errors.VerificationError, _VERIFICATION),
        (errors.HostError, _HOST),
        (errors.UsageError, _USAGE),
        (errors.RemoteRefusedError, _REFUSED),
    )
    for name in names
}

_HINTS = {
    errors.TransientError: "run again",
    errors.CredentialError: "check R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY",
    errors.UsageError: "check R2_ENDPOINT and R2_BUCKET",
}

# Codes of S3 and of R2 whose remedy is not what their status says.
_CODES: Mapping[str, tuple[type[errors.ReleaseError], str]] = {
    "ObjectLockedByBucketPolicy": (errors.RemoteRefusedError, "a bucket lock protects this key"),
    "NoSuchBucket": (errors.RemoteRefusedError, "check R2_BUCKET and R2_ENDPOINT"),
    "BadDigest": (errors.TransientError, "the bytes were damaged on their way; run again"),
    "XAmzContentSHA256Mismatch": (
        errors.TransientError,
        "the bytes were damaged on their way; run again",
    ),
    "RequestTimeout": (errors.TransientError, "run again"),
    "ConditionalRequestConflict": (errors.TransientError, "run again"),
    "InvalidAccessKeyId": (errors.CredentialError, _HINTS[errors.CredentialError]),
    "SignatureDoesNotMatch": (errors.CredentialError, _HINTS[errors.CredentialError]),
    "Unauthorized": (errors.CredentialError, _HINTS[errors.CredentialError]),
    "ExpiredToken": (errors.CredentialError, _HINTS[errors.CredentialError]),
}
_FORBIDDEN = (401, 403)
_SKEWED = "RequestTimeTooSkewed"
_MOST_SKEW_SECONDS = 15 * 60
_REDIRECTS = range(300, 400)
_REDIRECTED = "redirects are never followed: set R2_ENDPOINT to the address that answers itself"
_LOOK = "look at what stands before the object store, then run again"
_TOO_MANY = 429
_SERVER_FAULT = 500


def from_botocore(problem: Exception, subject: str) -> errors.ReleaseError:
    """The error of ours for an exception of botocore that is no answer of the store."""
    if "CERTIFICATE_VERIFY_FAILED" in str(problem):
        return errors.VerificationError(
            "the object store's certificate does not hold",
            subject=subject,
            observed=_of_library(str(problem)),
            hint="check R2_ENDPOINT, this host's clock, and the certificates that it trusts",
        )
    kind = kind_of(type(problem)) or errors.RemoteRefusedError
    return kind(
        "the object store could not be asked",
        subject=subject,
        observed=_of_library(f"{type(problem).__name__}: {problem}"),
        hint=_HINTS.get(kind, _LOOK),
    )


def broken_off(subject: str, problem: Exception) -> errors.TransientError:
    """The error for an answer that broke off; botocore lets its HTTP library's own through."""
    return errors.TransientError(
        "the object store's answer broke off",
        subject=subject,
        observed=_of_library(f"{type(problem).__name__}: {problem}"),
        hint="run again",
    )


def unreadable(subject: str) -> errors.TransientError:
    """The error for an answer that is none of S3's; its text stays untold, it may hold anything."""
    return errors.TransientError(
        "the object store's answer cannot be read",
        subject=subject,
        expected="XML of S3",
        hint="run again; if it stays, look at what stands before the store",
    )


def kind_of(foreign: type[BaseException]) -> type[errors.ReleaseError] | None:
    """The error of ours for a class of botocore: the nearest class that a table names."""
    for base in foreign.__mro__:
        if base.__module__.startswith("botocore") and base.__name__ in KINDS:
            return KINDS[base.__name__]
    return None


def from_answer(response: Mapping[str, Any], subject: str) -> errors.ReleaseError:
    """The error of ours for an answer that says no."""
    code, status = code_and_status(response)
    message = str(response.get("Error", {}).get("Message", ""))
    apart = ahead(response)
    # A HEAD has no body that names the reason; R2 refuses what is 15 minutes off.
    if status in _FORBIDDEN and (code == _SKEWED or abs(apart) > _MOST_SKEW_SECONDS):
        return clocks.refused(
            apart,
            "the object store's",
            why="signatures tell time",
            subject=subject,
            observed=_plain(f"{status} {code}: {message}"),
        )
    kind, hint = _CODES.get(code, (None, ""))
    if kind is None:
        kind = _by_status(status)
        hint = _REDIRECTED if status in _REDIRECTS else _HINTS.get(kind, _LOOK)
    refused = "the object store refused"
    observed = _plain(f"{status} {code}: {message}")
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if kind is errors.TransientError and "retry-after" in headers:
        return retry_after.passing(refused, subject=subject, observed=observed, headers=headers)
    return kind(refused, subject=subject, observed=observed, hint=hint)


def ahead(response: Mapping[str, Any]) -> float:
    """By how many seconds this host's clock is ahead of the store's."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return clocks.ahead(headers, datetime.now(UTC))


def code_and_status(response: Mapping[str, Any]) -> tuple[str, int]:
    """The code and the HTTP status of an answer that says no."""
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return code, status


def _by_status(status: int) -> type[errors.ReleaseError]:
    if status in _FORBIDDEN:
        return errors.CredentialError
    if status == _TOO_MANY or status >= _SERVER_FAULT:
        return errors.TransientError
    return errors.RemoteRefusedError


def _of_library(text: str) -> str:
    """What botocore says; of a proxy it shows the whole address where it cannot read it."""
    return _plain(covering.text(text, proxies.passwords()))


def _plain(text: str) -> str:
    return "".join(mark if mark.isprintable() else " " for mark in text)[:400]
