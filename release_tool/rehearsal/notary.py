"""A look-alike of Apple's notary service: its REST API, version 2.

Answers, codes and names are those of Apple's documentation and of exchanges that were seen. It
judges with our own rules (`notary_judge`), so it proves the wiring and never Apple's opinion.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from release_tool.rehearsal import faults, notary_tokens, servers
from release_tool.rehearsal.notary_store import NotaryStore, Submission

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATH = "/notary/v2/submissions"
IN_PROGRESS = "In Progress"
UNKNOWN_STATUS = "Under Manual Review"
_HISTORY = 100
# A submission is some two hundred bytes.
_BODY_BYTES = 64 * 1024
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_OF_ONE = re.compile(re.escape(PATH) + r"/(?P<id>[^/]+)(?P<logs>/logs)?")
_HTML = (
    "<!DOCTYPE html><html><head><title>Bad gateway</title></head>"
    "<body><h1>The service is busy</h1></body></html>"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this notary behaves."""

    key: notary_tokens.ApiKey
    processing_seconds: float = 1.0
    """How long an upload stays in progress at least."""
    slow_seconds: float = 5.0
    """How late a slow answer comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RefusedError(Exception):
    """An answer with an error."""

    status: int
    code: str
    title: str
    detail: str


class Notary:
    """The WSGI application.

    Args:
        store: submissions and verdicts.
        settings: key and times.
        log_url: makes the address of a submission's log, good for some hours.
        redirect_url: where the fault `notary.redirect` leads.
        broken: faults on demand.
        clock: the notary's time.
    """

    def __init__(
        self,
        store: NotaryStore,
        settings: Settings,
        *,
        log_url: Callable[[Submission], str],
        redirect_url: str,
        broken: faults.Faults,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._settings = settings
        self._log_url = log_url
        self._redirect_url = redirect_url
        self._broken = broken
        self._clock = clock

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            answer = self._faulty(request) or self._answer(request)
        except _RefusedError as refusal:
            answer = _error(refusal)
        return answer(environ, start_response)

    def _faulty(self, request: Request) -> Response | None:
        """The answer of a fault, or None where the request is to be looked at."""
        if self._broken.take(faults.NOTARY_RESET):
            servers.drop_connection(request.environ)
            return Response("")
        if self._broken.take(faults.NOTARY_SLOW):
            time.sleep(self._settings.slow_seconds)
        if self._broken.take(faults.NOTARY_REDIRECT):
            return Response("", 307, {"Location": self._redirect_url})
        for name, status in ((faults.NOTARY_HTML, 502), (faults.NOTARY_HTML_OK, 200)):
            if self._broken.take(name):
                return Response(_HTML, status, content_type="text/html")
        for name, refusal in _FAULTS.items():
            if self._broken.take(name):
                answer = _error(refusal)
                if refusal.status == 429:
                    answer.headers["Retry-After"] = "1"
                return answer
        return None

    def _answer(self, request: Request) -> Response:
        self._authorize(request)
        answer = self._dispatch(request)
        if self._broken.take(faults.NOTARY_TRUNCATED):
            whole = answer.get_data()
            answer.set_data(whole[: len(whole) // 2])
        if self._broken.take(faults.NOTARY_CUT_SHORT):
            answer.response = _half(answer.get_data(), request.environ)
        return answer

    def _authorize(self, request: Request) -> None:
        try:
            notary_tokens.verify(
                request.headers.get("Authorization", ""),
                self._settings.key,
                now=self._clock(),
                method=request.method,
                path=request.path,
            )
        except notary_tokens.TokenError as problem:
            self._store.note("unauthorized", str(problem))
            raise _UNAUTHORIZED from problem

    def _dispatch(self, request: Request) -> Response:
        if request.path == PATH:
            match request.method:
                case "POST":
                    return self._submit(request)
                case "GET":
                    return self._history()
            raise _method_not_allowed()
        found = _OF_ONE.fullmatch(request.path)
        if found is None:
            raise _not_found("There is no resource at this path.")
        if request.method != "GET":
            raise _method_not_allowed()
        submission = self._store.get(found["id"])
        if submission is None:
            raise _not_found(f"There is no resource of type 'submissions' with id '{found['id']}'")
        return self._log(submission) if found["logs"] else self._status(submission)

    def _submit(self, request: Request) -> Response:
        name, sha256 = _wish(request)
        made = self._store.submit(name, sha256, self._clock())
        if self._broken.take(faults.NOTARY_DROP_AFTER_SUBMIT):
            servers.drop_connection(request.environ)
        attributes = {
            "awsAccessKeyId": made.access_key_id,
            "awsSecretAccessKey": made.secret_access_key,
            "awsSessionToken": made.session_token,
            "bucket": made.bucket,
            "object": made.object_key,
        }
        return _json({"data": _resource(made.id, "submissionsPostResponse", attributes)})

    def _history(self) -> Response:
        self._store.note("history")
        return _json({"data": [self._described(item) for item in self._store.newest(_HISTORY)]})

    def _status(self, submission: Submission) -> Response:
        self._store.note("status", submission.id)
        told = self._described(submission)
        if self._broken.take(faults.NOTARY_UNKNOWN_STATUS):
            told["attributes"] = told["attributes"] | {"status": UNKNOWN_STATUS}  # type: ignore[operator]
        return _json({"data": told})

    def _log(self, submission: Submission) -> Response:
        self._store.note("log", submission.id)
        done = self._status_of(submission) != IN_PROGRESS
        if not done or self._broken.take(faults.NOTARY_LOG_LATE):
            raise _not_found(
                f"There is no resource of type 'submissionsLog' with id '{submission.id}'"
            )
        attributes = {"developerLogUrl": self._log_url(submission)}
        return _json({"data": _resource(submission.id, "submissionsLog", attributes)})

    def _described(self, submission: Submission) -> dict[str, object]:
        """History and status tell the same: neither tells the SHA-256."""
        attributes = {
            "createdDate": timestamp(submission.created_at),
            "name": submission.name,
            "status": self._status_of(submission),
        }
        return _resource(submission.id, "submissions", attributes)

    def _status_of(self, submission: Submission) -> str:
        return status(submission, self._clock(), self._settings.processing_seconds)


def status(submission: Submission, now: datetime, processing_seconds: float) -> str:
    """The word for a submission at a time.

    Args:
        submission: as it stands.
        now: the notary's time.
        processing_seconds: how long an upload stays in progress at least.
    """
    if submission.verdict is None or submission.uploaded_at is None:
        return IN_PROGRESS
    if (now - submission.uploaded_at).total_seconds() < processing_seconds:
        return IN_PROGRESS
    return submission.verdict.status


def timestamp(moment: datetime) -> str:
    """A time as the notary writes it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _wish(request: Request) -> tuple[str, str]:
    """Name and declared SHA-256 of a wish to submit."""
    if request.mimetype != "application/json":
        raise _RefusedError(
            status=415,
            code="UNSUPPORTED_MEDIA_TYPE",
            title="The media type of the request is not supported.",
            detail="Send application/json.",
        )
    body = request.stream.read(_BODY_BYTES + 1)
    try:
        told = json.loads(body) if len(body) <= _BODY_BYTES else None
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise _invalid("The request body is not a JSON object.")
    unknown = set(told) - {"submissionName", "sha256", "notifications"}
    if unknown:
        raise _invalid(f"Unknown attributes: {', '.join(sorted(unknown))}")
    name, sha256 = told.get("submissionName"), told.get("sha256")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise _invalid("The attribute 'submissionName' is required.")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise _invalid("The attribute 'sha256' is not 64 hexadecimal digits.")
    return name, sha256.lower()


def _half(whole: bytes, environ: WSGIEnvironment) -> Iterator[bytes]:
    yield whole[: len(whole) // 2]
    servers.drop_connection(environ)


def _resource(identity: str, kind: str, attributes: dict[str, str]) -> dict[str, object]:
    return {"id": identity, "type": kind, "attributes": attributes}


def _json(told: dict[str, object], status: int = 200) -> Response:
    # A field that no documentation names: a client must not stumble over it.
    text = json.dumps({**told, "meta": {}})
    return Response(text, status, content_type="application/json")


def _error(refusal: _RefusedError) -> Response:
    told = {
        "id": str(uuid.uuid4()),
        "status": str(refusal.status),
        "code": refusal.code,
        "title": refusal.title,
        "detail": refusal.detail,
    }
    text = json.dumps({"errors": [told]})
    return Response(text, refusal.status, content_type="application/json")


def _not_found(detail: str) -> _RefusedError:
    return _RefusedError(
        status=404, code="NOT_FOUND", title="The resource does not exist", detail=detail
    )


def _invalid(detail: str) -> _RefusedError:
    return _RefusedError(
        status=400, code="PARAMETER_ERROR.INVALID", title="A parameter is invalid", detail=detail
    )


def _method_not_allowed() -> _RefusedError:
    return _RefusedError(
        status=405,
        code="METHOD_NOT_ALLOWED",
        title="The request method is not allowed",
        detail="See the documentation of this resource.",
    )


_UNAUTHORIZED = _RefusedError(
    status=401,
    code="NOT_AUTHORIZED",
    title="The credentials are missing or invalid.",
    detail="Send a bearer token that is configured, signed and not expired.",
)
_FAULTS = {
    faults.NOTARY_UNAUTHORIZED: _UNAUTHORIZED,
    faults.NOTARY_AGREEMENT: _RefusedError(
        status=403,
        code="FORBIDDEN.REQUIRED_AGREEMENTS_MISSING_OR_EXPIRED",
        title="A required agreement is missing or has expired.",
        detail="This request requires an in-effect agreement that has not been signed.",
    ),
    faults.NOTARY_PROVIDER: _RefusedError(
        status=403,
        code="FORBIDDEN.MISSING_PROVIDER",
        title="The request has no provider.",
        detail="The team of this key is not set up for the service.",
    ),
    faults.NOTARY_THROTTLED: _RefusedError(
        status=429,
        code="RATE_LIMIT_EXCEEDED",
        title="The request rate limit has been reached.",
        detail="Try again later.",
    ),
    faults.NOTARY_ERROR: _RefusedError(
        status=500,
        code="UNEXPECTED_ERROR",
        title="An unexpected error occurred.",
        detail="An unexpected error occurred on the server side.",
    ),
    faults.NOTARY_UNAVAILABLE: _RefusedError(
        status=503,
        code="SERVICE_UNAVAILABLE",
        title="The service is unavailable.",
        detail="Try again later.",
    ),
}
