"""The coordinator's look-alike: its release interface of May 2026, section 1 of the contract.

It also keeps May's awkward sides: `latest` is cached for 60 s and a registration does not clear
it, a registration replaces and re-activates whatever stands there, and a prerelease ranks above
its release.
"""

from __future__ import annotations

import hmac
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from release_tool.rehearsal import artifact, faults, registration, servers
from release_tool.rehearsal.artifact import ArtifactError
from release_tool.rehearsal.registration import MetadataError
from release_tool.rehearsal.release_store import ReleaseStore

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CACHE_SECONDS = 60.0
# Served by `/api/version` while nothing was ever registered.
LATEST_PROVIDER_VERSION = "0.3.10"
_ARTIFACT_PREFIX = "release artifact verification failed: "
_OPTIONAL = ("backend", "python_hash", "runtime_hash", "metallib_hash", "template_hashes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the coordinator's own environment configures."""

    release_key: str = field(repr=False)
    """Empty: every registration is unauthorized."""
    admin_key: str = field(repr=False)
    cdn_url: str
    """Base of the public bucket; empty: registrations end in 503 `not_configured`."""
    cache_seconds: float = CACHE_SECONDS
    limits: artifact.Limits = field(default_factory=artifact.Limits)


class Coordinator:
    """The WSGI application.

    Args:
        store: its rows.
        settings: its configuration.
        scratch: folder for downloads.
        broken: faults on demand.
    """

    def __init__(
        self, store: ReleaseStore, settings: Settings, *, scratch: Path, broken: faults.Faults
    ) -> None:
        self._store = store
        self._settings = settings
        self._scratch = scratch
        self._broken = broken
        self._cache = _Cache(settings.cache_seconds)
        self._routes: dict[str, dict[str, Callable[[Request], Response]]] = {
            "/v1/releases": {"POST": self._register},
            "/v1/releases/latest": {"GET": self._latest},
            "/api/version": {"GET": self._version},
            "/v1/admin/releases": {"GET": self._list, "DELETE": self._deactivate},
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        return self._answer(request)(environ, start_response)

    def _answer(self, request: Request) -> Response:
        methods = self._routes.get(request.path)
        if methods is None:
            return Response("404 page not found\n", 404, content_type="text/plain")
        handler = methods.get(request.method)
        if handler is None:
            allowed = {"Allow": ", ".join(sorted(methods))}
            return Response("Method Not Allowed\n", 405, allowed, content_type="text/plain")
        try:
            return handler(request)
        except sqlite3.Error:
            return _error(500, "internal_error", "failed to store release")

    def _register(self, request: Request) -> Response:
        settings = self._settings
        if not _bearer_is(request, settings.release_key):
            return _error(401, "unauthorized", "invalid release key")
        if self._broken.take(faults.COORDINATOR_UNAVAILABLE):
            return _error(503, "service_unavailable", "try again")
        try:
            release = registration.validate(registration.decode(request.stream))
            if not settings.cdn_url:
                return _error(503, "not_configured", "release CDN URL is not configured")
            url = registration.expected_url(settings.cdn_url, release.version, release.platform)
            registration.check_url(release.url, url)
            self._verify(url, release)
        except MetadataError as problem:
            return _error(400, "invalid_request_error", str(problem))
        except ArtifactError as problem:
            return _error(400, "invalid_request_error", f"{_ARTIFACT_PREFIX}{problem}")
        row = self._store.accept(release)
        # May's bug: this key is not the one that `latest` is cached under.
        self._cache.forget("latest_release:v1")
        self._cache.forget("api_version:v1")
        if self._broken.take(faults.COORDINATOR_DROP_AFTER_ACCEPT):
            servers.drop_connection(request.environ)
        return _json(200, {"status": "release_registered", "release": _shown(row)})

    def _verify(self, url: str, release: registration.Registration) -> None:
        artifact.verify(
            url,
            bundle_hash=release.bundle_hash,
            binary_hash=release.binary_hash,
            scratch=self._scratch,
            limits=self._settings.limits,
        )

    def _latest(self, request: Request) -> Response:
        platform = request.args.get("platform") or registration.DEFAULT_PLATFORM
        row = self._cache.get(f"latest_release:v1:{platform}", lambda: self._store.latest(platform))
        if row is None:
            return _error(404, "not_found", "no active release")
        return _json(200, _shown(row))

    def _version(self, request: Request) -> Response:
        row = self._cache.get(
            "api_version:v1", lambda: self._store.latest(registration.DEFAULT_PLATFORM)
        )
        if row is not None:
            kept = {name: row[name] for name in ("version", "bundle_hash", "changelog")}
            return _json(200, {"version": row["version"], "download_url": row["url"]} | kept)
        place = f"{request.host_url}dl/eigeninference-bundle-macos-arm64.tar.gz"
        return _json(
            200,
            {
                "version": LATEST_PROVIDER_VERSION,
                "download_url": place,
                "bundle_hash": "",
                "changelog": "",
            },
        )

    def _list(self, request: Request) -> Response:
        if not _bearer_is(request, self._settings.admin_key):
            return _error(403, "forbidden", "admin access required")
        return _json(200, {"releases": [_shown(row) for row in self._store.everything()]})

    def _deactivate(self, request: Request) -> Response:
        if not _bearer_is(request, self._settings.admin_key):
            return _error(403, "forbidden", "admin access required")
        try:
            # No body cap and no rule on unknown fields here, as in the original.
            body = json.loads(request.get_data())
        except (ValueError, RecursionError):
            return _error(400, "invalid_request_error", "invalid JSON")
        version = body.get("version") if isinstance(body, dict) else None
        if not isinstance(version, str) or not version:
            return _error(400, "invalid_request_error", "version is required")
        platform = str(body.get("platform") or registration.DEFAULT_PLATFORM)
        if not self._store.deactivate(version, platform):
            return _error(404, "not_found", "release not found")
        # May's other bug: nothing is forgotten here at all.
        told = {"status": "release_deactivated", "version": version, "platform": platform}
        return _json(200, told)


class _Cache:
    """Found rows, each kept for a time whatever is written meanwhile."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, dict[str, object]]] = {}

    def get(
        self, key: str, load: Callable[[], dict[str, object] | None]
    ) -> dict[str, object] | None:
        with self._lock:
            until, row = self._kept.get(key, (0.0, {}))
            if time.monotonic() < until:
                return row
            found = load()
            if found is not None:
                self._kept[key] = (time.monotonic() + self._seconds, found)
            return found

    def forget(self, key: str) -> None:
        with self._lock:
            self._kept.pop(key, None)


def _bearer_is(request: Request, key: str) -> bool:
    """Compare the token in constant time; the scheme's case does not matter."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if not key or not token or scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(token.encode(), key.encode())


def _shown(row: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if value or name not in _OPTIONAL}


def _error(status: int, kind: str, message: str) -> Response:
    return _json(status, {"error": {"type": kind, "message": message, "code": kind}})


def _json(status: int, value: object) -> Response:
    """One compact line, escaped as Go escapes: installers read it with sed."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for mark in "&<>\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Response(text + "\n", status, content_type="application/json")
