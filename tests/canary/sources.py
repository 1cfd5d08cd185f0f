"""Where secrets enter: each is noted there, so a new secret is watched without being listed."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from release_tool import credentials
from release_tool.services import (
    chat,
    http_client,
    keychain,
    notary_uploads,
    password_prompt,
    proxies,
    s3_client,
)
from tests.canary.needles import Needles

SECRET_NAMES = tuple(setting.name for setting in credentials.SETTINGS if setting.secret)


def install(needles: Needles, patch: pytest.MonkeyPatch) -> None:
    """Note every secret that becomes one, is sent, or is given to a tool."""

    def note_secret(secret: credentials.Secret, name: str, value: str) -> None:
        if name in SECRET_NAMES:
            needles.add(name, value)

    _before(patch, credentials.Secret, "__init__", note_secret)

    def note_credentials(**given: Any) -> None:  # noqa: ANN401
        for name, value in given.items():
            if name in ("access_key_id", "secret_access_key", "session_token") and value:
                needles.add(name, value)

    _before(patch, s3_client, "connect", note_credentials)
    _before(patch, notary_uploads.Target, "__init__", lambda _, **given: note_credentials(**given))
    _before(
        patch,
        chat.Endpoint,
        "__init__",
        lambda *_, **given: needles.add("token of the provider", given.get("token", "")),
    )
    proxied = proxies.passwords

    def noting() -> list[str]:
        for password in (known := proxied()):
            needles.add("password of a proxy", password)
        return known

    patch.setattr(proxies, "passwords", noting)
    _before(
        patch,
        keychain.RunKeychain,
        "__init__",
        lambda _, **given: needles.add("keychain password", given["password"]),
    )
    _before(
        patch,
        password_prompt,
        "answer",
        lambda *_, **given: needles.add("password at a prompt", given["password"]),
    )
    found = http_client._credentials

    def noted(headers: Mapping[str, str]) -> tuple[str, ...]:
        tokens = found(headers)
        for token in tokens:
            needles.add("Authorization", token)
        return tokens

    patch.setattr(http_client, "_credentials", noted)


def from_environment(needles: Needles, environ: Mapping[str, str]) -> None:
    """Note the secrets that a child is given by the names of settings."""
    for name, value in environ.items():
        if name.endswith(SECRET_NAMES):
            needles.add(name, value)


def from_file(needles: Needles, path: str) -> None:
    """Note a secret of the embedded environment, as it lies in its state folder."""
    try:
        with open(path, encoding="ascii") as source:  # noqa: PTH123
            needles.add(os.path.basename(path), source.read())  # noqa: PTH119
    except (OSError, ValueError):
        return


def _before(patch: pytest.MonkeyPatch, owner: object, name: str, note: Callable[..., None]) -> None:
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def noting(*arguments: Any, **given: Any) -> Any:  # noqa: ANN401
        note(*arguments, **given)
        return inner(*arguments, **given)

    patch.setattr(owner, name, noting)
