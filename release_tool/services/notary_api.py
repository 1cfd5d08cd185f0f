"""The notary's REST interface, version 2, asked with an App Store Connect key.

Source: Apple's "Notary API" documentation. The token goes to the notary's own address, never to
another host, never along a redirect, and never in the clear. The log is fetched without it.
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from release_tool import errors
from release_tool.apple import notary_log
from release_tool.progress import Reporter
from release_tool.services import addresses, http_client, notary_errors, notary_store, retries
from release_tool.services.http_client import Answer
from release_tool.services.notary import FINAL, Route, Submission
from release_tool.services.notary_token import APIKey
from release_tool.services.notary_uploads import Begun, Target, Uploads

# Apple's answers have some KiB, a history of a hundred entries some thirty.
_ANSWER_BYTES = 1024 * 1024
_SECONDS = 60.0
_LOG_SECONDS = 120.0
_HISTORY = 1000
_TEXT = 4096
_ID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# Where Apple was seen to keep logs: its own content hosts, and AWS.
_LOG_HOSTS = (".apple.com", ".amazonaws.com")
_LOG_ADDRESS = 16 * 1024
_OK = range(200, 300)


@dataclass(kw_only=True)
class NotaryAPI:
    """One team's notary.

    Raises:
        UsageError: the address is not https, nor http on loopback.
    """

    base_url: str
    """Of the submissions: `https://appstoreconnect.apple.com/notary/v2/submissions`."""
    upload_url: str
    """An S3 endpoint; empty for AWS itself."""
    key: APIKey = field(repr=False)
    uploads: Uploads
    policy: retries.Policy = retries.DEFAULT
    clock: Callable[[], float] = time.time
    multipart_bytes: int = notary_store.MULTIPART_BYTES
    part_bytes: int = notary_store.PART_BYTES

    def __post_init__(self) -> None:
        self.base_url = addresses.base(self.base_url, name="notary_url")
        if self.upload_url:
            self.upload_url = addresses.base(self.upload_url, name="notary_upload_url")

    @property
    def route(self) -> Route:
        return "api"

    def submit(self, archive: Path, *, name: str, sha256: str, reporter: Reporter) -> str:
        """See `Notary.submit`; a submission that a killed process began is finished."""
        self.uploads.drop_others(sha256)
        begun = self.uploads.find(sha256)
        if begun is not None:
            reporter.note(f"submission {begun.submission_id} was begun before, going on with it")
            try:
                return self._finish(archive, begun, reporter)
            except notary_store.ExpiredError:
                reporter.note("its credentials have ended, making a new submission")
        begun = self._create(name, sha256)
        self.uploads.keep(begun)
        return self._finish(archive, begun, reporter)

    def is_begun(self, sha256: str) -> bool:
        """See `Notary.is_begun`: its credentials lie here and are still good."""
        return self.uploads.find(sha256) is not None

    def status(self, submission_id: str) -> str:
        """See `Notary.status`."""
        what = "the status of a submission"
        data = _data(self._ask("GET", f"/{_checked(submission_id)}", what), what)
        if str(data.get("id", submission_id)).lower() != submission_id.lower():
            raise _unexpected(what, "it is another submission's")
        found = _text(_attributes(data, what), "status", what)
        if found in FINAL:
            self.uploads.forget_submission(submission_id)
        return found

    def log(self, submission_id: str) -> bytes | None:
        """See `Notary.log`; the address of the log is secret, and no error shows it."""
        what = "the log of a submission"
        whole = self._ask_log(submission_id, what)
        if whole is None:
            return None
        address = _text(_attributes(_data(whole, what), what), _LOG_URL, what)
        self._judge_log_address(address)
        return retries.call(lambda: _fetch_log(address), self.policy)

    def history(self) -> list[Submission]:
        """See `Notary.history`."""
        what = "the team's history"
        rows = self._ask("GET", "", what).get("data")
        if not isinstance(rows, list):
            raise _unexpected(what, "it has no list of submissions")
        return [_submission(row, what) for row in rows[:_HISTORY] if isinstance(row, dict)]

    def _create(self, name: str, sha256: str) -> Begun:
        what = "the submission"
        body = json.dumps({"submissionName": name, "sha256": sha256}).encode()
        data = _data(self._ask("POST", "", what, body), what)
        given = _attributes(data, what)
        bucket = _text(given, "bucket", what)
        if not _BUCKET.fullmatch(bucket):
            raise _unexpected(what, "its bucket is none")
        return Begun(
            submission_id=_checked(_text(data, "id", what)).lower(),
            sha256=sha256,
            created=self.clock(),
            target=Target(
                bucket=bucket,
                key=_text(given, "object", what),
                access_key_id=_text(given, "awsAccessKeyId", what),
                secret_access_key=_text(given, "awsSecretAccessKey", what),
                session_token=_text(given, "awsSessionToken", what),
            ),
        )

    def _finish(self, archive: Path, begun: Begun, reporter: Reporter) -> str:
        if begun.target is not None:
            self._send(archive, begun, begun.target, reporter)
        return begun.submission_id

    def _send(self, archive: Path, begun: Begun, target: Target, reporter: Reporter) -> None:
        sender = notary_store.Sender(
            endpoint=self.upload_url,
            uploads=self.uploads,
            policy=self.policy,
            multipart_bytes=self.multipart_bytes,
            part_bytes=self.part_bytes,
        )
        try:
            sender.send(archive, begun, target, reporter)
        except notary_store.ExpiredError:
            self.uploads.forget(begun.sha256)
            raise

    def _ask(
        self, method: str, path: str, what: str, body: bytes | None = None
    ) -> Mapping[str, object]:
        def once() -> Mapping[str, object]:
            return self._object(self._authorized(method, path, body), what)

        return retries.call(once, self.policy)

    def _ask_log(self, submission_id: str, what: str) -> Mapping[str, object] | None:
        def once() -> Mapping[str, object] | None:
            answer = self._authorized("GET", f"/{_checked(submission_id)}/logs", None)
            return None if answer.status == notary_errors.NOT_FOUND else self._object(answer, what)

        return retries.call(once, self.policy)

    def _authorized(self, method: str, path: str, body: bytes | None) -> Answer:
        answer = self._exchange(method, path, body)
        if answer.status == 401:
            # Once more with a fresh token: the first may have met a clock's edge.
            return self._exchange(method, path, body)
        return answer

    def _object(self, answer: Answer, what: str) -> Mapping[str, object]:
        if answer.status not in _OK:
            now = datetime.fromtimestamp(self.clock(), UTC)
            raise notary_errors.refusal(answer, what, host=self.base_url, now=now)
        _require_json(answer, what)
        try:
            whole = json.loads(answer.body)
        except (ValueError, RecursionError):
            raise errors.TransientError(
                "the notary's answer is cut or damaged", subject=what, hint="run again"
            ) from None
        if not isinstance(whole, dict):
            raise _unexpected(what, "it is no JSON object")
        return whole

    def _exchange(self, method: str, path: str, body: bytes | None) -> Answer:
        headers = {"Authorization": f"Bearer {self.key.token()}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return http_client.exchange(
            method,
            f"{self.base_url}{path}",
            seconds=_SECONDS,
            limit_bytes=_ANSWER_BYTES,
            headers=headers,
            body=body,
        )

    def _judge_log_address(self, address: str) -> None:
        """Only where Apple keeps logs; on this machine only where the notary itself is there."""
        parts = _split(address)
        host = addresses.host(address).lower() if parts else ""
        local = addresses.is_loopback(self.base_url)
        usable = (
            parts is not None
            and bool(host)
            and len(address) <= _LOG_ADDRESS
            and address.isascii()
            and address.isprintable()
            and not parts.username
            and not parts.password
        )
        there = host.endswith(_LOG_HOSTS) and parts is not None and parts.scheme == "https"
        here = local and usable and addresses.is_loopback(address)
        if not usable or not (there or here):
            raise errors.VerificationError(
                "the notary's log lies where Apple keeps none",
                subject=host[:100] or "no host",
                expected=f"https, a host below {' or '.join(_LOG_HOSTS)}",
                hint="the log was not fetched; look at what stands before the notary",
            )


_LOG_URL = "developerLogUrl"


def _split(address: str) -> urllib.parse.SplitResult | None:
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    usual = port in (None, 443) or addresses.is_loopback(address)
    return parts if parts.scheme in ("http", "https") and usual else None


def _fetch_log(address: str) -> bytes:
    """Fetch a presigned address; whatever goes wrong is told without it."""
    host = urllib.parse.urlsplit(address).hostname or ""
    try:
        answer = http_client.exchange(
            "GET", address, seconds=_LOG_SECONDS, limit_bytes=notary_log.MAX_BYTES
        )
    except errors.ReleaseError as problem:
        raise type(problem)(
            "the notary's log could not be fetched", subject=host, hint="run again"
        ) from None
    if answer.status == 200:
        return answer.body
    # A presigned address that has ended answers 403; the next run gets a fresh one.
    passing = answer.status in (403, 404, 408, 429) or answer.status >= 500
    raise (errors.TransientError if passing else errors.RemoteRefusedError)(
        "the notary's log is not handed out",
        subject=host,
        expected="200",
        observed=f"{answer.status}",
        hint="run again",
    )


def _require_json(answer: Answer, what: str) -> None:
    """Apple's edge answers with pages of HTML in trouble, with a good status too."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and "json" not in kind:
        start = answer.body[:80].decode(errors="replace")
        raise errors.TransientError(
            f"something before the notary answered for it, asked for {what}",
            expected="application/json",
            observed=f"{answer.status}, {kind[:60]}, {start!r}",
            hint="run again; if it stays, look at the proxy of this host",
        )


def _data(whole: Mapping[str, object], what: str) -> Mapping[str, object]:
    data = whole.get("data")
    if not isinstance(data, dict):
        raise _unexpected(what, "it has no data")
    return data


def _attributes(data: Mapping[str, object], what: str) -> Mapping[str, object]:
    found = data.get("attributes")
    if not isinstance(found, dict):
        raise _unexpected(what, "its data has no attributes")
    return found


def _text(row: Mapping[str, object], name: str, what: str) -> str:
    value = row.get(name)
    limit = _LOG_ADDRESS if name == _LOG_URL else _TEXT
    if not isinstance(value, str) or not value or len(value) > limit or not value.isprintable():
        raise _unexpected(what, f"its {name} is no text")
    return value


def _checked(submission_id: str) -> str:
    """An id that can stand in an address."""
    if not _ID.fullmatch(submission_id):
        raise errors.VerificationError(
            "this is no submission's id", expected="a UUID", observed=repr(submission_id[:60])
        )
    return submission_id


def _submission(row: Mapping[str, object], what: str) -> Submission:
    given = _attributes(row, what)
    return Submission(
        id=_checked(_text(row, "id", what)).lower(),
        name=_text(given, "name", what),
        created=_moment(given.get("createdDate")),
        status=_text(given, "status", what),
    )


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _unexpected(what: str, why: str) -> errors.VerificationError:
    """The answer's text stays untold: it may hold credentials."""
    return errors.VerificationError(
        f"the notary's answer cannot be read: {why}",
        subject=what,
        hint="run again; if it stays, the interface has changed",
    )
