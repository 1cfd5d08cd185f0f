"""Client of the coordinator's release interface: the contracts of May and October 2026, section 1.

The keys go to the configured host only, in one header, made at the moment of sending. Redirects
are refused, so nothing can carry them elsewhere.
"""

from __future__ import annotations

import json
import math
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Literal

from release_tool import errors
from release_tool.services import (
    addresses,
    coordinator_answers,
    coordinator_refusals,
    coordinator_rules,
    http_client,
    retries,
)
from release_tool.services.coordinator_rules import Build, Contract, Release

# A row is at most the 64 KiB that were registered, escaped by the JSON encoder (`<` takes six).
_ANSWER_BYTES = 512 * 1024
# The dashboard's numbers list every connected provider with a KiB each, the inventory every row.
_LISTING_BYTES = 32 * 1024 * 1024
# What can stand in a header as one word. RFC 6750 is narrower, but the key is anybody's choice.
_TOKEN = re.compile(r"[\x21-\x7e]+")
_ABSENT = (404, 405)
# An identity has ten fields; more are no answer to show.
_MOST_FIELDS = 20
ApprovalStatus = Literal["approved", "pending", "revoked", "mismatched"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """How the approval of a build stands."""

    status: ApprovalStatus
    mismatched: tuple[str, ...] = ()
    """Fields in which the approved build differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What the coordinator tells anybody of its providers."""

    providers: int
    capacity: float | None
    """Tokens a second that requests can be routed to; None where it does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One release of the inventory."""

    release: Release
    active: bool
    """Whether providers with its hashes are accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deactivation:
    """The coordinator's answer to a deactivation."""

    known: bool
    """Whether it holds such a release at all."""
    warning: str = ""
    """What it wants to be known although it did as it was told."""


class Coordinator:
    """One coordinator.

    Args:
        base_url: its address; a path prefix is allowed.
        release_key: returns the key; called when a header is built and not before.
        seconds: budget of one request. The coordinator downloads for up to two minutes.
        policy: how to retry reading; a registration is never repeated here.
        contract: what it is spoken to in; its answers may show that it is another.
        admin_key: returns the key of an administrator, where there is one.
        prefix: of the settings' names in this environment, such as `PROD_`; for next steps.

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
        contract: Contract = "2026-05",
        admin_key: Callable[[], str] | None = None,
        prefix: str = "",
    ) -> None:
        self.base_url = addresses.base(base_url, name="COORDINATOR_URL")
        self._release_key = release_key
        self._seconds = seconds
        self._policy = policy
        self._contract: Contract = contract
        self._admin_key = admin_key
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"Coordinator({self.base_url!r})"

    @property
    def has_admin_key(self) -> bool:
        """Whether it can be asked what only an administrator may know."""
        return self._admin_key is not None

    @property
    def admin_key_name(self) -> str:
        """The setting that holds an administrator's key, under its name in this environment."""
        return f"{self._prefix}ADMIN_KEY"

    def register(self, release: Release, build: Build | None = None) -> Registration:
        """POST the release, once.

        Args:
            release: what is registered.
            build: where it comes from, for a coordinator of October.

        Raises:
            UsageError: the body would be over the coordinator's 64 KiB, or it speaks the other
                contract.
            UnapprovedError: it wants an approval of this build first.
            CredentialError: the key is refused or cannot be one.
            TransientError: no answer, 5xx, or the coordinator could not download the archive.
            RemoteRefusedError: any other refusal, in the coordinator's words.
            VerificationError: the answer is not what a registration answers.
        """
        body = coordinator_rules.encode(release, build)
        if len(body) > coordinator_rules.BODY_BYTES:
            raise errors.UsageError(
                "the registration is larger than the coordinator takes",
                expected=f"at most {coordinator_rules.BODY_BYTES} bytes",
                observed=f"{len(body)} bytes",
                hint="shorten the changelog",
            )
        answer = self._post("v1/releases", body)
        if answer.status != 200:
            raise self._refusal(answer, "the registration")
        return self._registration(answer.body)

    def approval(self, release: Release, build: Build) -> Approval | None:
        """Ask whether exactly this build is approved; None where that cannot be asked.

        Raises:
            CredentialError: the key is refused.
            TransientError, RemoteRefusedError, VerificationError: as for `latest`.
        """
        body = coordinator_rules.encode(release, build)
        answer = retries.call(
            lambda: self._lasting(self._post("v1/releases/qualification", body)), self._policy
        )
        if answer.status in _ABSENT:
            return None
        if answer.status != 200:
            raise self._refusal(answer, "the question for an approval")
        return _approval(
            coordinator_answers.read_object(answer.body, self.base_url),
            self.base_url,
        )

    def fleet(self) -> Fleet | None:
        """What the dashboard's numbers tell of the providers; None where they tell nothing.

        Raises:
            TransientError: no answer.
        """
        answer = self._get("v1/stats", limit_bytes=_LISTING_BYTES)
        if answer.status != 200:
            return None
        try:
            told = coordinator_answers.read_object(answer.body, self.base_url)
        except errors.VerificationError:
            return None
        providers = told.get("active_providers")
        if not isinstance(providers, int) or isinstance(providers, bool):
            return None
        return Fleet(providers=providers, capacity=_number(told.get("network_capacity_tps")))

    def inventory(self) -> list[Row]:
        """Every release that the coordinator holds, active or not.

        Raises:
            CredentialError: there is no administrator's key, or it is refused.
            TransientError, RemoteRefusedError, VerificationError: as for `latest`.
        """
        key = self._administrator()
        answer = self._get("v1/admin/releases", limit_bytes=_LISTING_BYTES, key=key)
        if answer.status != 200:
            raise self._refusal(answer, "the question for its releases", administrator=True)
        rows = coordinator_answers.read_object(answer.body, self.base_url).get("releases")
        if not isinstance(rows, list):
            raise coordinator_answers.unexpected(self.base_url, "its releases are no list")
        return [_row(row, self.base_url) for row in rows]

    def deactivate(self, version: str, platform: str, *, force: bool) -> Deactivation:
        """Withdraw a release: it is served to nobody, and no longer accepted.

        Doing it twice is the same as once, so what failed in passing is tried again.

        Args:
            version: of the release.
            platform: of the release.
            force: even while connected providers run it. A coordinator of May never asks.

        Raises:
            CredentialError: there is no administrator's key, or it is refused.
            RemoteRefusedError: it is in use.
            TransientError: no answer.
        """
        key = self._administrator()
        wanted = {"version": version, "platform": platform} | ({"force": True} if force else {})
        body = json.dumps(wanted).encode()
        answer = retries.call(
            lambda: self._lasting(self._send("DELETE", "v1/admin/releases", body, key)),
            self._policy,
        )
        if answer.status == 404 and coordinator_answers.error(answer.body).type == "not_found":
            return Deactivation(known=False)
        if answer.status != 200:
            raise self._refusal(answer, f"to deactivate {version}", administrator=True)
        told = coordinator_answers.read_object(answer.body, self.base_url)
        warning = coordinator_answers.text(told, "warning", self.base_url)
        return Deactivation(known=True, warning=coordinator_answers.printable(warning))

    def check_key(self) -> None:
        """Ask whether the key is accepted, by a registration that can never succeed.

        An empty object lacks the version, so the coordinator answers 400 once the key holds.

        Raises:
            CredentialError: the key is refused.
            TransientError, RemoteRefusedError: the coordinator did not judge the key.
        """
        answer = self._post("v1/releases", b"{}")
        if answer.status != 400:
            raise self._refusal(answer, "the release key's probe")

    def latest(self, platform: str) -> Release | None:
        """The release that installers get, or None when none is active. May be 60 s old.

        Raises:
            TransientError, RemoteRefusedError, VerificationError: as for `register`.
        """
        query = urllib.parse.urlencode({"platform": platform})
        answer = self._get(f"v1/releases/latest?{query}")
        if answer.status == 404 and coordinator_answers.error(answer.body).type == "not_found":
            return None
        if answer.status != 200:
            raise self._refusal(answer, "the question for the latest release")
        found = _release(coordinator_answers.read_object(answer.body, self.base_url), self.base_url)
        if not found.version or not found.bundle_hash:
            # Taken for some other release, it would let a registration be sent again.
            raise coordinator_answers.unexpected(
                self.base_url, "the latest release lacks its version or bundle_hash"
            )
        return found

    def current(self) -> Current | None:
        """What `/api/version` serves, or None where it does not tell a registered release.

        Raises:
            TransientError: no answer.
        """
        answer = self._get("api/version")
        if answer.status != 200:
            return None
        try:
            row = coordinator_answers.read_object(answer.body, self.base_url)
            return Current(
                version=coordinator_answers.text(row, "version", self.base_url),
                bundle_hash=coordinator_answers.text(row, "bundle_hash", self.base_url),
                download_url=coordinator_answers.text(row, "download_url", self.base_url),
            )
        except errors.VerificationError:
            # The newest coordinators are known to answer otherwise; `latest` decides then.
            return None

    def _get(
        self, path: str, *, limit_bytes: int = _ANSWER_BYTES, key: str = ""
    ) -> http_client.Answer:
        return retries.call(
            lambda: self._lasting(self._send("GET", path, None, key, limit_bytes)), self._policy
        )

    def _lasting(self, answer: http_client.Answer) -> http_client.Answer:
        """An answer that asking again would not change; one that is no JSON is asked for again."""
        if coordinator_refusals.is_passing(answer, self._contract):
            raise self._refusal(answer, "the question")
        if answer.status == 200:
            coordinator_answers.parsed(answer.body, self.base_url)
        return answer

    def _post(self, path: str, body: bytes) -> http_client.Answer:
        return self._send(
            "POST", path, body, _checked(self._release_key(), f"{self._prefix}RELEASE_KEY")
        )

    def _administrator(self) -> str:
        if self._admin_key is None:
            raise errors.CredentialError(
                "only an administrator may do this",
                subject=self.base_url,
                hint=f"set {self.admin_key_name}",
            )
        return _checked(self._admin_key(), self.admin_key_name)

    def _send(
        self, method: str, path: str, body: bytes | None, key: str, limit: int = _ANSWER_BYTES
    ) -> http_client.Answer:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return http_client.exchange(
            method,
            f"{self.base_url}/{path}",
            seconds=self._seconds,
            limit_bytes=limit,
            headers=headers,
            body=body,
        )

    def _refusal(
        self, answer: http_client.Answer, what: str, *, administrator: bool = False
    ) -> errors.ReleaseError:
        return coordinator_refusals.refusal(
            answer,
            what,
            address=self.base_url,
            contract=self._contract,
            administrator=administrator,
            prefix=self._prefix,
        )

    def _registration(self, body: bytes) -> Registration:
        whole = coordinator_answers.read_object(body, self.base_url)
        row = whole.get("release")
        if not isinstance(row, dict):
            raise coordinator_answers.unexpected(
                self.base_url, "a registration's answer holds no release"
            )
        return Registration(
            status=coordinator_answers.text(whole, "status", self.base_url),
            release=_release(row, self.base_url),
        )


def _checked(key: str, name: str) -> str:
    """A key that can stand in a header; an error of the library would show it."""
    if not _TOKEN.fullmatch(key):
        raise errors.CredentialError(
            f"{name} cannot be a bearer token",
            expected="visible ASCII characters without spaces",
            observed="empty" if not key else "other characters, perhaps a line end",
            hint=f"set {name} to the bare key",
        )
    return key


def _release(row: Mapping[str, object], subject: str) -> Release:
    """A served row; fields that are not of May's contract are left aside."""
    return Release(
        **{
            field.name: coordinator_answers.text(row, field.name, subject)
            for field in fields(Release)
        }
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _row(row: object, subject: str) -> Row:
    if not isinstance(row, dict) or not isinstance(row.get("active"), bool):
        raise coordinator_answers.unexpected(subject, "a release is no row")
    return Row(release=_release(row, subject), active=row["active"])


_STATUSES: Mapping[str, ApprovalStatus] = {
    "approved": "approved",
    "pending": "pending",
    "revoked": "revoked",
    "mismatched": "mismatched",
}


def _approval(told: Mapping[str, object], subject: str) -> Approval:
    status = _STATUSES.get(coordinator_answers.text(told, "status", subject))
    if status is None:
        raise coordinator_answers.unexpected(
            subject, "an approval has another status", str(told.get("status"))[:60]
        )
    listed = told.get("mismatched_fields")
    named = listed if isinstance(listed, list) else []
    return Approval(
        status=status, mismatched=tuple(str(name)[:60] for name in named[:_MOST_FIELDS])
    )
