"""Clients of S3 that nothing outside a release steers; the only maker of boto3 clients."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from release_tool.services import addresses

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONNECT_SECONDS = 15
_ANSWER_SECONDS = 120
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
        BotoCoreError: botocore refuses the endpoint.
    """
    import boto3
    import botocore.config
    import botocore.session

    own: dict[str, Any] = {"addressing_style": "path", "payload_signing_enabled": True}
    aws: dict[str, Any] = {"use_accelerate_endpoint": True, "payload_signing_enabled": True}
    settings: dict[str, Any] = {
        "region_name": region,
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _ANSWER_SECONDS,
        # Tries are counted in one place, with what stands there asked for between them.
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        # R2 refuses the chunked trailers that boto3 sends otherwise.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "use_dualstack_endpoint": False,
        "use_fips_endpoint": False,
        "ignore_configured_endpoint_urls": True,
        "s3": own if endpoint else aws,
        # A proxy never stands before this machine itself.
        "proxies": {} if endpoint and addresses.is_loopback(endpoint) else None,
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
    return client


@cache
def _models() -> Any:  # noqa: ANN401 - botocore's own
    """Descriptions of the services, read once: each session would parse them again."""
    import botocore.loaders

    return botocore.loaders.create_loader()


def _without_expect(request: Any, **_: object) -> None:  # noqa: ANN401
    """R2 never answers `100-continue`, so each upload would wait a second for nothing."""
    del request.headers["Expect"]
