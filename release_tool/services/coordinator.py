"""Client of the coordinator's release interface (its contract of May 2026, section 1).

The release key goes to the configured host only, in one header, made at the moment of sending.
Redirects are refused, so nothing can carry it elsewhere.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

from release_tool import errors
from release_tool.services import addresses, coordinator_rules, http_client, retries
from release_tool.services.coordinator_rules import Release

# A row is at most the 64 KiB that were registered, escaped by the JSON encoder (`<` takes six).
_ANSWER_BYTES = 512 * 1024
# What can stand in a header as one word. RFC 6750 is narrower, but the key is anybody's choice.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_ARTIFACT_PREFIX = "release artifact verification failed:"
# The coordinator's own download failed; its verdicts on the bytes have other texts.
_DOWNLOAD_TROUBLE = ("download bundle", "read bundle")
_PASSING_STATUSES = (408, 425, 429)
_SERVER_FAULT = 500
_REDIRECTS = range(300, 400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """The coordinator's answer to a registration."""

    status: str
    release: Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """What `/api/version` tells: less than `latest`, but cleared when something registers."""

    version: str
    bundle_hash: str
    download_url: str


class Coordinator:
    """One coordinator.

    Args:
        base_url: its address; a path prefix is allowed.
        release_key: returns the key; called when a header is built and not before.
        seconds: budget of one request. The coordinator downloads for up to two minutes.
        policy: how to retry reading; a registration is never repeated here.

    Raises:
        UsageError: the address is not https, nor http on loopback.
    """

    def __init__(
        self,
        *,
        base_url: str,
        release_key: Callable[[], str],
        seconds: float = 150.0,
        policy: retries.Policy = retries.DEFAULT,
    ) -> None:
        self.base_url = addresses.base(base_url, name="COORDINATOR_URL")
        self._release_key = release_key
        self._seconds = seconds
        self._policy = policy

    def __repr__(self) -> str:
        return f"Coordinator({self.base_url!r})"

    def register(self, release: Release) -> Registration:
        """POST the release, once.

        Raises:
            UsageError: the body would be over the coordinator's 64 KiB.
            CredentialError: the key is refused or cannot be one.
            TransientError: no answer, 5xx, or the coordinator could not download the archive.
            RemoteRefusedError: any other refusal, in the coordinator's words.
            VerificationError: the answer is not what a registration answers.
        """
        body = coordinator_rules.encode(release)
        if len(body) > coordinator_rules.BODY_BYTES:
            raise errors.UsageError(
                "the registration is larger than the coordinator takes",
                expected=f"at most {coordinator_rules.BODY_BYTES} bytes",
                observed=f"{len(body)} bytes",
                hint="shorten the changelog",
            )
        answer = self._post(body)
        if answer.status != 200:
            raise self._refusal(answer, "the registration")
        return self._registration(answer.body)

    def check_key(self) -> None:
        """Ask whether the key is accepted, by a registration that can never succeed.

        An empty object lacks the version, so the coordinator answers 400 once the key holds.

        Raises:
            CredentialError: the key is refused.
            TransientError, RemoteRefusedError: the coordinator did not judge the key.
        """
        answer = self._post(b"{}")
        if answer.status != 400:
            raise self._refusal(answer, "the release key's probe")

    def latest(self, platform: str) -> Release | None:
        """The release that installers get, or None when none is active. May be 60 s old.

        Raises:
            TransientError, RemoteRefusedError, VerificationError: as for `register`.
        """
        query = urllib.parse.urlencode({"platform": platform})
        answer = self._get(f"v1/releases/latest?{query}")
        if answer.status == 404 and _error(answer.body).type == "not_found":
            return None
        if answer.status != 200:
            raise self._refusal(answer, "the question for the latest release")
        return _release(_object(answer.body, self.base_url), self.base_url)

    def current(self) -> Current | None:
        """What `/api/version` serves, or None where it does not tell a registered release.

        Raises:
            TransientError: no answer.
        """
        answer = self._get("api/version")
        if answer.status != 200:
            return None
        try:
            row = _object(answer.body, self.base_url)
            return Current(
                version=_text(row, "version", self.base_url),
                bundle_hash=_text(row, "bundle_hash", self.base_url),
                download_url=_text(row, "download_url", self.base_url),
            )
        except errors.VerificationError:
            # The newest coordinators are known to answer otherwise; `latest` decides then.
            return None

    def _get(self, path: str) -> http_client.Answer:
        address = f"{self.base_url}/{path}"

        def once() -> http_client.Answer:
            answer = http_client.exchange(
                "GET", address, seconds=self._seconds, limit_bytes=_ANSWER_BYTES
            )
            if _is_passing(answer):
                raise self._refusal(answer, "the question")
            return answer

        return retries.call(once, self._policy)

    def _post(self, body: bytes) -> http_client.Answer:
        key = _checked(self._release_key())
        answer = http_client.exchange(
            "POST",
            f"{self.base_url}/v1/releases",
            seconds=self._seconds,
            limit_bytes=_ANSWER_BYTES,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            body=body,
        )
        # The body may be shown; what stands before a coordinator could echo the header.
        return replace(answer, body=_without(answer.body, key))

    def _registration(self, body: bytes) -> Registration:
        whole = _object(body, self.base_url)
        row = whole.get("release")
        if not isinstance(row, dict):
            raise _unexpected(self.base_url, "a registration's answer holds no release")
        return Registration(
            status=_text(whole, "status", self.base_url), release=_release(row, self.base_url)
        )

    def _refusal(self, answer: http_client.Answer, what: str) -> errors.ReleaseError:
        said = _error(answer.body)
        told = said.shown(answer.status)
        if answer.status in _REDIRECTS:
            location = answer.headers.get("location", "nowhere")[:200]
            return errors.RemoteRefusedError(
                f"the coordinator answered {what} with a redirect, which is never followed",
                subject=self.base_url,
                observed=f"{answer.status} to {location}",
                hint="set COORDINATOR_URL to the address that answers itself",
            )
        if answer.status == 401:
            return errors.CredentialError(
                "the coordinator refused the release key",
                subject=self.base_url,
                observed=told,
                hint="RELEASE_KEY must equal the coordinator's EIGENINFERENCE_RELEASE_KEY",
            )
        kind, hint = _remedy(answer.status, said)
        return kind(
            f"the coordinator refused {what}", subject=self.base_url, observed=told, hint=hint
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """The coordinator's error body, as far as it could be read."""

    type: str
    message: str

    def shown(self, status: int) -> str:
        text = f"{status} {self.type}: {self.message}" if self.type else f"{status} {self.message}"
        return "".join(mark if mark.isprintable() else " " for mark in text)[:600]


def _remedy(status: int, said: _Said) -> tuple[type[errors.ReleaseError], str]:
    if said.type == "not_configured":
        return errors.RemoteRefusedError, "set EIGENINFERENCE_R2_CDN_URL on the coordinator"
    if status == 400 and is_download_trouble(said.message):
        return errors.TransientError, "the coordinator could not download the archive; run again"
    if status in _PASSING_STATUSES or status >= _SERVER_FAULT:
        return errors.TransientError, "run again"
    return errors.RemoteRefusedError, _HINTS.get(status, "nothing was registered")


_HINTS = {
    403: "something before the coordinator refuses this host or its user agent",
    404: "COORDINATOR_URL does not lead to a coordinator",
    409: "the coordinator holds another approval or other bytes for this version",
}


def is_download_trouble(message: str) -> bool:
    """Whether a 400 tells of the coordinator's own download, which may succeed later.

    Verdicts on the downloaded bytes (digest, members, size) are final.
    """
    reason = message.removeprefix(_ARTIFACT_PREFIX).strip().lower()
    return reason.startswith(_DOWNLOAD_TROUBLE)


def _is_passing(answer: http_client.Answer) -> bool:
    status = answer.status
    configured = _error(answer.body).type != "not_configured"
    return status in _PASSING_STATUSES or (status >= _SERVER_FAULT and configured)


def _checked(key: str) -> str:
    """A key that can stand in a header; an error of the library would show it."""
    if not _TOKEN.fullmatch(key):
        raise errors.CredentialError(
            "RELEASE_KEY cannot be a bearer token",
            expected="visible ASCII characters without spaces",
            observed="empty" if not key else "other characters, perhaps a line end",
            hint="set RELEASE_KEY to the bare key",
        )
    return key


def _without(body: bytes, key: str) -> bytes:
    for spelling in (key, json.dumps(key)[1:-1]):
        body = body.replace(spelling.encode(), b"...")
    return body


def _error(body: bytes) -> _Said:
    try:
        whole = json.loads(body)
        inner = whole["error"]
        return _Said(type=str(inner["type"]), message=str(inner["message"]))
    except (ValueError, RecursionError, TypeError, KeyError):
        return _Said(type="", message=body[:300].decode(errors="replace").strip())


def _object(body: bytes, subject: str) -> Mapping[str, object]:
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError):
        whole = None
    if not isinstance(whole, dict):
        start = body[:80].decode(errors="replace")
        raise _unexpected(subject, "the answer is no JSON object", repr(start))
    return whole


def _release(row: Mapping[str, object], subject: str) -> Release:
    """A served row; fields that are not of May's contract are left aside."""
    return Release(**{field.name: _text(row, field.name, subject) for field in fields(Release)})


def _text(row: Mapping[str, object], name: str, subject: str) -> str:
    """A text field; one that is left out is empty, as Go's encoder leaves out empty ones."""
    value = row.get(name, "")
    if not isinstance(value, str):
        raise _unexpected(subject, f"{name} is not text", type(value).__name__)
    return value


def _unexpected(subject: str, message: str, observed: str = "") -> errors.VerificationError:
    return errors.VerificationError(
        f"the coordinator's answer cannot be read: {message}",
        subject=subject,
        observed=observed,
        hint="check COORDINATOR_URL; run again to ask what the coordinator holds",
    )
