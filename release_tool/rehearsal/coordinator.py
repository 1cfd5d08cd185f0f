"""The coordinator's look-alike: its release interface, section 1 of the contract.

It speaks the contract of May or that of October 2026, chosen at its start. May's awkward sides
are kept: `latest` is cached for 60 s and a registration does not clear it, a registration
replaces and re-activates whatever stands there, and a prerelease ranks above its release. So are
October's: one error type for two refusals, and 503 while its approvals are not read.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from release_tool.rehearsal import artifact, faults, qualification, registration, servers
from release_tool.rehearsal.artifact import ArtifactError
from release_tool.rehearsal.coordinator_answers import answer, bearer_is, error
from release_tool.rehearsal.qualification import Approvals, Build, Submission
from release_tool.rehearsal.qualification_routes import QualificationRoutes
from release_tool.rehearsal.registration import AUTUMN, MAY, Contract, MetadataError
from release_tool.rehearsal.release_store import ImmutableError, ReleaseStore

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
    contract: Contract = MAY
    approval_always: bool = False
    """October only: whether every registration needs an approval, asked for or not."""
    approval_question: bool = True
    """October only: whether `POST /v1/releases/qualification` exists."""
    limits: artifact.Limits = field(default_factory=artifact.Limits)


@dataclass(kw_only=True)
class Fleet:
    """The providers that are connected, as far as releases touch them."""

    connected: dict[str, int] = field(default_factory=dict)
    """By the hash of the executable that they report."""
    capacity: float = 21_100.0
    told: bool = True
    """Whether the dashboard's numbers have the capacity among them."""
    """Tokens a second that requests can be routed to; told by October."""


class Coordinator:
    """The WSGI application.

    Args:
        store: its rows.
        settings: its configuration.
        scratch: folder for downloads.
        broken: faults on demand.
        fleet: who is connected.
    """

    def __init__(
        self,
        store: ReleaseStore,
        settings: Settings,
        *,
        scratch: Path,
        broken: faults.Faults,
        fleet: Fleet | None = None,
    ) -> None:
        self._fleet = fleet or Fleet()
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
            "/v1/stats": {"GET": self._stats},
        }
        self._autumn = settings.contract == AUTUMN
        if self._autumn:
            self._approvals = Approvals(store)
            self._routes |= QualificationRoutes(
                self._approvals,
                release_key=settings.release_key,
                admin_key=settings.admin_key,
                verify=self._approvable,
                asks=settings.approval_question,
                broken=broken,
            ).routes()

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
            return error(500, "internal_error", "failed to store release")

    def _register(self, request: Request) -> Response:
        settings = self._settings
        if not bearer_is(request, settings.release_key):
            return error(401, "unauthorized", "invalid release key")
        if self._broken.take(faults.COORDINATOR_UNAVAILABLE):
            return error(503, "service_unavailable", "try again")
        try:
            submission = self._read(request)
            if not settings.cdn_url:
                return error(503, "not_configured", "release CDN URL is not configured")
            release = submission.build.release
            self._verify(release)
        except MetadataError as problem:
            return error(400, "invalid_request_error", str(problem))
        except ArtifactError as problem:
            return error(400, "invalid_request_error", f"{_ARTIFACT_PREFIX}{problem}")
        needs_approval = self._autumn and (submission.required or settings.approval_always)
        if needs_approval and (refusal := self._refusal(submission.build)):
            return refusal
        try:
            row = self._store.accept(release, immutable=needs_approval)
        except ImmutableError:
            return _not_approved("qualification or published release identity is immutable")
        self._afterwards(release)
        if self._broken.take(faults.COORDINATOR_DROP_AFTER_ACCEPT):
            servers.drop_connection(request.environ)
        return answer(200, {"status": "release_registered", "release": _shown(row)})

    def _read(self, request: Request) -> Submission:
        if self._autumn:
            return qualification.validated(qualification.decode(request.stream))
        release = registration.validate(registration.decode(request.stream))
        return Submission(build=Build(release=release), required=False)

    def _refusal(self, build: Build) -> Response | None:
        """Why a build may not be published; both reasons have one type, told apart by text."""
        if self._broken.take(faults.COORDINATOR_QUALIFICATION_UNAVAILABLE):
            return error(503, "qualification_unavailable", "qualification refresh failed")
        if fault := build.fault():
            return _not_approved(fault)
        if self._approvals.status(build)["status"] != "approved":
            return _not_approved("no matching active approval of this signed build")
        return None

    def _afterwards(self, release: registration.Registration) -> None:
        if self._autumn:
            self._cache.forget_everything()
        else:
            # May's bug: this key is not the one that `latest` is cached under.
            self._cache.forget("latest_release:v1")
            self._cache.forget("api_version:v1")
        if self._broken.take(faults.COORDINATOR_EVICTS):
            self._store.deactivate_others(release.version, release.platform)
        if self._broken.take(faults.COORDINATOR_CAPACITY_FALLS):
            self._fleet.capacity /= 10

    def _verify(self, release: registration.Registration) -> None:
        settings = self._settings
        addresses = registration.expected_urls(settings.cdn_url, release, settings.contract)
        artifact.verify(
            registration.check_url(release.url, addresses),
            bundle_hash=release.bundle_hash,
            binary_hash=release.binary_hash,
            scratch=self._scratch,
            limits=settings.limits,
        )

    def _approvable(self, build: Build) -> None:
        registration.validate(build.release)
        try:
            self._verify(build.release)
        except ArtifactError as problem:
            raise MetadataError(f"{_ARTIFACT_PREFIX}{problem}") from problem

    def _latest(self, request: Request) -> Response:
        if self._autumn and self._broken.take(faults.COORDINATOR_NOT_READY):
            return error(503, "release_not_ready", "the catalog is not fresh")
        platform = request.args.get("platform") or registration.DEFAULT_PLATFORM
        row = self._cache.get(f"latest_release:v1:{platform}", lambda: self._store.latest(platform))
        if row is None:
            return error(404, "not_found", "no active release")
        return answer(200, _shown(row))

    def _version(self, request: Request) -> Response:
        if self._autumn and self._broken.take(faults.COORDINATOR_NOT_READY):
            return error(503, "release_not_ready", "the catalog is not fresh")
        row = self._cache.get(
            "api_version:v1", lambda: self._store.latest(registration.DEFAULT_PLATFORM)
        )
        if row is not None:
            kept = {name: row[name] for name in ("version", "bundle_hash", "changelog")}
            return answer(200, {"version": row["version"], "download_url": row["url"]} | kept)
        place = f"{request.host_url}dl/eigeninference-bundle-macos-arm64.tar.gz"
        return answer(
            200,
            {
                "version": LATEST_PROVIDER_VERSION,
                "download_url": place,
                "bundle_hash": "",
                "changelog": "",
            },
        )

    def _stats(self, request: Request) -> Response:
        """A few of the dashboard's numbers; the original has many more."""
        del request
        told: dict[str, object] = {"active_providers": sum(self._fleet.connected.values())}
        if self._autumn and self._fleet.told:
            told["network_capacity_tps"] = self._fleet.capacity
        return answer(200, told)

    def _list(self, request: Request) -> Response:
        if not bearer_is(request, self._settings.admin_key):
            return error(403, "forbidden", "admin access required")
        return answer(200, {"releases": [_shown(row) for row in self._store.everything()]})

    def _deactivate(self, request: Request) -> Response:
        if not bearer_is(request, self._settings.admin_key):
            return error(403, "forbidden", "admin access required")
        try:
            # No body cap and no rule on unknown fields here, as in the original.
            body = json.loads(request.get_data())
        except (ValueError, RecursionError):
            return error(400, "invalid_request_error", "invalid JSON")
        version = body.get("version") if isinstance(body, dict) else None
        if not isinstance(version, str) or not version:
            return error(400, "invalid_request_error", "version is required")
        platform = str(body.get("platform") or registration.DEFAULT_PLATFORM)
        row = self._store.find(version, platform)
        if row is None:
            return error(404, "not_found", "release not found")
        connected = self._fleet.connected.get(str(row["binary_hash"]), 0)
        if self._autumn and connected and body.get("force") is not True:
            return error(409, "release_in_use", f"{connected} connected providers report it")
        self._store.deactivate(version, platform)
        # May's other bug: nothing is forgotten here at all.
        if self._autumn:
            self._cache.forget_everything()
        told = {"status": "release_deactivated", "version": version, "platform": platform}
        if self._autumn and connected:
            told["warning"] = f"{connected} connected providers still report it"
        return answer(200, told)


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

    def forget_everything(self) -> None:
        with self._lock:
            self._kept.clear()


def _not_approved(reason: str) -> Response:
    text = f"approve the exact signed artifact, then register again: {reason}"
    return error(409, "app_attest_qualification_required", text)


def _shown(row: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if value or name not in _OPTIONAL}
