"""Clients of S3 that nothing outside a release steers; the only maker of boto3 clients."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from release_tool import errors, tracing
from release_tool.services import covering, deadlines, patience, proxies

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONNECT_SECONDS = 15
ANSWER_SECONDS = 120
"""The longest silence, and the bound of every answer that is no object."""
_FIRST_REFUSAL = 300
_SIGNATURE = re.compile(r"Signature=([0-9a-f]{64})")
# What can stand in a header; the library's error for anything else would show it.
_KEY = re.compile(r"[\x21-\x7e]+")
# Stands for every bucket of AWS, whose own address has the bucket in it.
_AWS = "https://s3-accelerate.amazonaws.com"
# No profile, region or endpoint of the user's own AWS configuration may steer a release.
_NOT_THEIRS: dict[str, tuple[Any, Any, Any, Any]] = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


def connect(
    *,
    endpoint: str,
    region: str,
    access_key_id: str,
    secret_access_key: str,
    session_token: str | None = None,
) -> S3Client:
    """Make a client; boto3 takes a third of a second to import, so it waits until here.

    Args:
        endpoint: the S3 endpoint, which gets path-style requests; empty for AWS itself, whose
            accelerated endpoint is used.
        region: for signatures, and for AWS's own address.
        access_key_id: of the credentials.
        secret_access_key: likewise.
        session_token: of temporary credentials.

    Raises:
        CredentialError: a key cannot be one.
        BotoCoreError: botocore refuses the endpoint.
    """
    keys = [access_key_id, secret_access_key, *([session_token] if session_token else [])]
    if not all(_KEY.fullmatch(key) for key in keys):
        raise errors.CredentialError(
            "a key of the object store cannot be one",
            expected="visible ASCII characters without spaces",
            observed="an empty one" if not all(keys) else "other characters, perhaps a line end",
            hint="set the bare keys again",
        )
    import boto3
    import botocore.config
    import botocore.session

    own: dict[str, Any] = {"addressing_style": "path", "payload_signing_enabled": True}
    aws: dict[str, Any] = {"use_accelerate_endpoint": True, "payload_signing_enabled": True}
    settings: dict[str, Any] = {
        "region_name": region,
        "connect_timeout": patience.answer(_CONNECT_SECONDS),
        "read_timeout": patience.answer(ANSWER_SECONDS),
        # Tries are counted in one place, with what stands there asked for between them.
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        # R2 refuses the chunked trailers that boto3 sends otherwise.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "use_dualstack_endpoint": False,
        "use_fips_endpoint": False,
        "ignore_configured_endpoint_urls": True,
        "s3": own if endpoint else aws,
        "proxies": proxies.before(endpoint or _AWS),
    }
    config = botocore.config.Config(**settings)
    inner = botocore.session.Session(session_vars=_NOT_THEIRS)
    inner.register_component("data_loader", _models())
    session = boto3.session.Session(
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        aws_session_token=session_token,
        botocore_session=inner,
    )
    client: S3Client = session.client("s3", endpoint_url=endpoint or None, config=config)
    client.meta.events.register("before-sign.s3", _without_expect)
    client.meta.events.register("before-parameter-build.s3", _as_redirected)
    _watch(client)
    client.meta.events.register("before-parse.s3", _covering(keys))
    client.meta.events.register("before-call.s3", _asked)
    client.meta.events.register_last("request-created.s3", _signed)
    client.meta.events.register("after-call.s3", _answered)
    client.meta.events.register("after-call.s3", _covering_what_was_read(keys))
    client.meta.events.register("after-call-error.s3", _unanswered)
    return client


@cache
def _models() -> Any:  # noqa: ANN401 - botocore's own
    """Descriptions of the services, read once: each session would parse them again."""
    import botocore.loaders

    return botocore.loaders.create_loader()


def _as_redirected(context: dict[str, Any], **_: object) -> None:
    """Let botocore follow no redirect: looking for the bucket's region, it asks without end."""
    context["s3_redirect"]["redirected"] = True


def _watch(client: Any) -> None:  # noqa: ANN401 - botocore's own
    """Give every answer an end. botocore has no setting for its connections' class."""
    session = client._endpoint.http_session  # noqa: SLF001
    session._pool_classes_by_scheme = _pools()  # noqa: SLF001
    session._manager.pool_classes_by_scheme = _pools()  # noqa: SLF001


@cache
def _pools() -> dict[str, Any]:
    from botocore import awsrequest

    def watched(pool: Any) -> Any:  # noqa: ANN401 - botocore's own
        kind = type("Connection", (deadlines.Watched, pool.ConnectionCls), {})
        return type("Pool", (pool,), {"ConnectionCls": kind})

    return {
        "http": watched(awsrequest.AWSHTTPConnectionPool),
        "https": watched(awsrequest.AWSHTTPSConnectionPool),
    }


def _asked(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    # The address is not signed yet.
    address = str(params.get("url", "")).partition("?")[0]
    context["release_tool"] = (f"{params.get('method', '')} {address}", time.monotonic())


def _answered(http_response: Any, context: dict[str, Any], **_: object) -> None:  # noqa: ANN401
    _tell(context, str(http_response.status_code))


def _unanswered(context: dict[str, Any], **_: object) -> None:
    _tell(context, "no answer")


def _tell(context: dict[str, Any], answer: str) -> None:
    what, started = context["release_tool"]
    tracing.tell(f"{what}: {answer}, {time.monotonic() - started:.2f} s")


def _without_expect(request: Any, **_: object) -> None:  # noqa: ANN401
    """R2 never answers `100-continue`, so each upload would wait a second for nothing."""
    del request.headers["Expect"]


def _covering(keys: list[str]) -> Callable[..., None]:
    """Covers the keys in refusals: a store may echo the request, and its words are shown."""

    def cover(response_dict: dict[str, Any], **_: object) -> None:
        if response_dict["status_code"] >= _FIRST_REFUSAL:
            response_dict["body"] = covering.body(response_dict["body"], keys)

    return cover


def _signed(request: Any, **_: object) -> None:  # noqa: ANN401
    found = _SIGNATURE.search(str(request.headers.get("Authorization", "")))
    request.context["release_tool_signature"] = found[1] if found else ""


def _covering_what_was_read(keys: list[str]) -> Callable[..., None]:
    """The same once more: a reader of XML undoes numbers, entities of its own and encodings."""

    def cover(parsed: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        told = parsed.get("Error", {})
        secrets = [*keys, context.get("release_tool_signature", "")]
        for name, said in told.items():
            if isinstance(said, str):
                told[name] = covering.text(said, secrets)

    return cover
