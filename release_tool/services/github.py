"""GitHub's releases of one repository, by its REST interface.

The token goes to two hosts, the interface and the one that takes uploads, both named by the
configuration: an address out of an answer is compared, never trusted. Downloads are redirected
to a storage that must not see it. Each method asks once; who calls knows what may be repeated.

Rules: https://docs.github.com/en/rest/releases (drafts are listed and not found by tag; a broken
upload may leave an asset in the state `starter`, which may be deleted; a permission that is
missing answers 403 or 404).
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from release_tool import errors, progress
from release_tool.files import atomic
from release_tool.progress import Reporter
from release_tool.services import addresses, github_errors, github_storage, http_client
from release_tool.services.github_storage import Transfer
from release_tool.services.http_client import Answer, FileBody
from release_tool.services.public_url import Served

API_VERSION = "2022-11-28"
_JSON = "application/vnd.github+json"
# A page of thirty releases, each with notes of up to 125 000 characters.
_ANSWER_BYTES = 16 * 1024 * 1024
_PER_PAGE = 30
# GitHub lists the newest first: a draft of ours is on the first page.
_PAGES = 10
# A release may hold 1000 assets; ours holds two.
_ASSET_PAGES = 3
_TEXT_CHARACTERS = 8192
# Upload and download of an archive, at the slowest rate that still is one.
_BYTES_A_SECOND = 100_000
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FOUND = frozenset({200, 201})
UPLOADED = "uploaded"
STARTER = "starter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One asset of a release."""

    id: int
    name: str
    state: str
    """`uploaded`, or `starter`: what a broken upload leaves."""
    size: int
    sha256: str
    """As GitHub computed it; empty where it does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One release or draft."""

    id: int
    tag: str
    draft: bool
    immutable: bool
    upload_url: str
    page: str
    """Its page for people."""
    assets: tuple[Asset, ...]
    name: str = ""
    """Its title."""
    notes: str = field(default="", repr=False)
    """Its text; GitHub takes up to 125 000 characters."""
    prerelease: bool = False


class GitHub:
    """The releases of one repository.

    Args:
        api_url: the interface, `https://api.github.com`.
        uploads_url: where uploads go, `https://uploads.github.com`.
        repository: `owner/name`.
        token: returns the token; called when a header is built and not before.
        seconds: budget of one request, of its transfer aside.

    Raises:
        UsageError: an address is not https, nor http on loopback, or the name is none.
    """

    def __init__(
        self,
        *,
        api_url: str,
        uploads_url: str,
        repository: str,
        token: Callable[[], str],
        seconds: float = 60.0,
    ) -> None:
        if not _REPOSITORY.fullmatch(repository):
            raise errors.UsageError(
                "this is no repository of GitHub", subject=repository[:100], expected="OWNER/NAME"
            )
        self.repository = repository
        self._api = addresses.base(api_url, name="github_api_url")
        self._uploads = addresses.base(uploads_url, name="github_uploads_url")
        self._token = token
        self._seconds = seconds

    right: ClassVar[str] = "contents: write"
    """The permission that the token needs, for whoever lacks it."""

    def __repr__(self) -> str:
        return f"GitHub({self.repository!r})"

    def check(self) -> None:
        """Ask whether the token may write, by a release that can never be made.

        An empty object lacks the required tag, so GitHub answers 422 once the permission holds.

        Raises:
            CredentialError: the token is refused, or may not write.
            TransientError, PendingError, RemoteRefusedError: GitHub did not judge it.
        """
        answer = self._ask("POST", "/releases", {})
        if answer.status != github_errors.INVALID:
            raise self._refusal(answer, "the token's probe")

    def commit_of(self, tag: str) -> str | None:
        """The commit that a tag of the repository leads to, or None where there is no such tag.

        Raises:
            CredentialError, TransientError, PendingError, RemoteRefusedError, VerificationError:
                as for every question.
        """
        path = f"/commits/tags/{urllib.parse.quote(tag, safe='')}"
        answer = self._ask("GET", path, accept="application/vnd.github.sha")
        if answer.status == github_errors.INVALID:
            return None
        if answer.status != 200:
            raise self._refusal(answer, "the question for the tag's commit")
        found = answer.body.decode(errors="replace").strip()
        if not _COMMIT.fullmatch(found):
            raise _damaged(answer, "the tag's commit")
        return found

    def published(self, tag: str) -> Release | None:
        """The published release of a tag, or None. Drafts are never found this way.

        Raises:
            As for `commit_of`.
        """
        answer = self._ask("GET", f"/releases/tags/{urllib.parse.quote(tag, safe='')}")
        if answer.status == github_errors.NOT_FOUND:
            return None
        return self._release(self._object(answer, "the question for the release"))

    def drafts(self, tag: str) -> tuple[Release, ...]:
        """The drafts of a tag; GitHub keeps any number of them.

        Raises:
            As for `commit_of`; without the right to write, GitHub lists none.
        """
        rows = self._pages("/releases", _PAGES, "the list of releases")
        return tuple(
            self._release(row)
            for row in rows
            if row.get("draft") is True and row.get("tag_name") == tag
        )

    def published_at(self, is_wanted: Callable[[str], bool]) -> tuple[Release, ...]:
        """The published releases whose tags are wanted, of the newest three hundred releases.

        Raises:
            As for `commit_of`.
        """
        rows = self._pages("/releases", _PAGES, "the list of releases")
        return tuple(
            self._release(row)
            for row in rows
            if row.get("draft") is False and is_wanted(str(row.get("tag_name")))
        )

    def create_draft(self, tag: str, *, name: str, notes: str) -> Release:
        """Make a draft. After a lost answer it may stand: look before another try.

        No target is named: the tag stands, and GitHub asks for one more permission with a target.

        Raises:
            As for `commit_of`.
        """
        told = {"tag_name": tag, "name": name, "body": notes, "draft": True}
        answer = self._ask("POST", "/releases", told)
        return self._release(self._object(answer, "the draft"))

    def assets(self, release: Release) -> tuple[Asset, ...]:
        """The assets of a release as they are now, placeholders included.

        Raises:
            As for `commit_of`.
        """
        path = f"/releases/{release.id}/assets"
        rows = self._pages(path, _ASSET_PAGES, "the list of assets")
        return tuple(self._asset(row) for row in rows)

    def upload(self, release: Release, source: Path, *, name: str, reporter: Reporter) -> Asset:
        """Upload a file as an asset, once. It may leave a `starter`, or stand without an answer.

        Raises:
            HostError: the file cannot be read.
            VerificationError: GitHub names another host for uploads; nothing was sent there.
            As for `commit_of`.
        """
        address = self._upload_address(release)
        query = urllib.parse.urlencode({"name": name})
        with atomic.naming(source, "read"):
            size = source.stat().st_size
            opened = source.open("rb")
        seconds = self._seconds + size / _BYTES_A_SECOND
        with opened, progress.task(reporter, f"upload {name}", size):
            body = FileBody(
                opened,
                size=size,
                seconds=seconds,
                told=lambda count: reporter.advance(f"upload {name}", count),
            )
            answer = self._exchange(
                "POST",
                f"{address}?{query}",
                seconds=seconds,
                headers={"Content-Type": "application/octet-stream", "Accept": _JSON},
                body=body,
            )
        return self._asset(self._object(answer, f"the upload of {name}"))

    def discard(self, asset: Asset) -> None:
        """Delete a placeholder.

        Raises:
            ValueError: the asset is whole; whole assets are never deleted here.
            As for `commit_of`.
        """
        if asset.state != STARTER:
            message = f"{asset.name} is {asset.state}, and only a placeholder is ever deleted"
            raise ValueError(message)
        answer = self._ask("DELETE", f"/releases/assets/{asset.id}")
        if answer.status not in (204, github_errors.NOT_FOUND):
            raise self._refusal(answer, f"to delete the placeholder {asset.name}")

    def read_back(self, asset: Asset, *, limit_bytes: int, reporter: Reporter) -> Served:
        """Download an asset and digest it. The storage is asked without the token.

        Raises:
            VerificationError: it lies where nothing is fetched from.
            As for `commit_of`.
        """
        seconds = self._seconds + asset.size / _BYTES_A_SECOND
        transfer = Transfer(name=asset.name, limit_bytes=limit_bytes, reporter=reporter)
        with self._download(asset, seconds) as answer:
            if answer.status == 200:
                return github_storage.digested(answer, transfer)
            location = answer.headers.get("location", "")
        local = addresses.is_loopback(self._api)
        return github_storage.fetch(location, transfer, seconds=seconds, local=local)

    def content(self, asset: Asset, *, limit_bytes: int) -> bytes:
        """Download a small asset whole. The storage is asked without the token.

        Raises:
            VerificationError: it is larger, or lies where nothing is fetched from.
            As for `commit_of`.
        """
        with self._download(asset, self._seconds) as answer:
            if answer.status == 200:
                return github_storage.small(answer, asset.name, limit_bytes)
            location = answer.headers.get("location", "")
        return github_storage.fetch_small(
            location,
            asset.name,
            limit_bytes=limit_bytes,
            seconds=self._seconds,
            local=addresses.is_loopback(self._api),
        )

    @contextmanager
    def _download(self, asset: Asset, seconds: float) -> Iterator[http_client.Stream]:
        """GitHub's answer: the bytes, or where they are."""
        address = f"{self._api}/repos/{self.repository}/releases/assets/{asset.id}"
        headers = self._headers({"Accept": "application/octet-stream"})
        with http_client.stream("GET", address, seconds=seconds, headers=headers) as answer:
            if answer.status not in (200, *_REDIRECTS):
                whole = Answer(
                    status=answer.status, headers=answer.headers, body=answer.body(_ANSWER_BYTES)
                )
                raise self._refusal(whole, f"the download of {asset.name}")
            yield answer

    def publish(self, release: Release, *, name: str, notes: str, latest: bool) -> Release:
        """Publish a draft with its final notes. After a lost answer it may be published.

        Raises:
            As for `commit_of`.
        """
        told = {
            "name": name,
            "body": notes,
            "draft": False,
            "prerelease": False,
            "make_latest": "true" if latest else "false",
        }
        answer = self._ask("PATCH", f"/releases/{release.id}", told)
        return self._release(self._object(answer, "the publication"))

    def latest(self) -> Release | None:
        """The release that GitHub shows as the latest: no draft and no prerelease; None without.

        Raises:
            As for `commit_of`.
        """
        answer = self._ask("GET", "/releases/latest")
        if answer.status == github_errors.NOT_FOUND:
            return None
        return self._release(self._object(answer, "the question for the latest release"))

    def show_as_latest(self, release: Release) -> None:
        """Let GitHub show a published release as the latest. It may be said again.

        Raises:
            As for `commit_of`.
        """
        answer = self._ask("PATCH", f"/releases/{release.id}", {"make_latest": "true"})
        self._object(answer, "to show it as the latest")

    def retitle(self, release: Release, *, name: str, notes: str, prerelease: bool) -> Release:
        """Change title, text and kind of a published release; the same again changes nothing.

        An immutable release still takes a title and a text, and is asked for no more than those.

        Raises:
            As for `commit_of`.
        """
        told: dict[str, object] = {"name": name, "body": notes}
        if not release.immutable:
            told["prerelease"] = prerelease
            # GitHub refuses a prerelease as the latest.
            told["make_latest"] = "false"
        answer = self._ask("PATCH", f"/releases/{release.id}", told)
        return self._release(self._object(answer, "the change of a release"))

    # How it asks.

    def _ask(self, method: str, path: str, told: object = None, *, accept: str = _JSON) -> Answer:
        headers = {"Accept": accept}
        body = None
        if told is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(told).encode()
        address = f"{self._api}/repos/{self.repository}{path}"
        return self._exchange(method, address, seconds=self._seconds, headers=headers, body=body)

    def _exchange(
        self,
        method: str,
        address: str,
        *,
        seconds: float,
        headers: Mapping[str, str],
        body: bytes | FileBody | None,
    ) -> Answer:
        return http_client.exchange(
            method,
            address,
            seconds=seconds,
            limit_bytes=_ANSWER_BYTES,
            headers=self._headers(headers),
            body=body,
        )

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        token = self._checked_token()
        standard = {"Authorization": f"Bearer {token}", "X-GitHub-Api-Version": API_VERSION}
        return standard | dict(more)

    def _checked_token(self) -> str:
        token = self._token()
        if not _TOKEN.fullmatch(token):
            raise errors.CredentialError(
                "GITHUB_TOKEN cannot be a bearer token",
                expected="visible ASCII characters without spaces",
                observed="empty" if not token else "other characters, perhaps a line end",
                hint="set GITHUB_TOKEN to the bare token",
            )
        return token

    def _pages(self, path: str, most: int, what: str) -> list[Mapping[str, object]]:
        rows: list[Mapping[str, object]] = []
        for page in range(1, most + 1):
            answer = self._ask("GET", f"{path}?per_page={_PER_PAGE}&page={page}")
            found = self._parsed(answer, what)
            if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
                raise self._unexpected(f"{what} is no list")
            rows += found
            if len(found) < _PER_PAGE:
                break
        return rows

    def _object(self, answer: Answer, what: str) -> Mapping[str, object]:
        found = self._parsed(answer, what)
        if not isinstance(found, dict):
            raise self._unexpected(f"{what} is no object")
        return found

    def _parsed(self, answer: Answer, what: str) -> object:
        if answer.status not in _FOUND:
            raise self._refusal(answer, what)
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            raise _damaged(answer, what) from None

    def _refusal(self, answer: Answer, what: str) -> errors.ReleaseError:
        return github_errors.refusal(
            answer, what, repository=self.repository, now=time.time(), right=self.right
        )

    def _unexpected(self, why: str) -> errors.VerificationError:
        return errors.VerificationError(
            f"GitHub's answer cannot be read: {why}",
            subject=self.repository,
            hint="run again; if it stays, the interface has changed",
        )

    # What it was told.

    def _release(self, row: Mapping[str, object]) -> Release:
        assets = row.get("assets")
        listed: Sequence[object] = assets if isinstance(assets, list) else ()
        return Release(
            id=self._number(row, "id"),
            tag=self._text(row, "tag_name"),
            draft=row.get("draft") is True,
            immutable=row.get("immutable") is True,
            upload_url=self._text(row, "upload_url"),
            page=self._text(row, "html_url"),
            assets=tuple(self._asset(asset) for asset in listed if isinstance(asset, dict)),
            # Anybody's text, only ever sent back to where it came from; no title is null.
            name=str(row.get("name") or ""),
            notes=str(row.get("body") or ""),
            prerelease=row.get("prerelease") is True,
        )

    def _asset(self, row: Mapping[str, object]) -> Asset:
        digest = _DIGEST.fullmatch(str(row.get("digest") or ""))
        return Asset(
            id=self._number(row, "id"),
            name=self._text(row, "name"),
            state=self._text(row, "state"),
            size=self._number(row, "size"),
            sha256=digest.group(1) if digest else "",
        )

    def _number(self, row: Mapping[str, object], name: str) -> int:
        found = row.get(name)
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 2**63:
            raise self._unexpected(f"{name} is no number")
        return found

    def _text(self, row: Mapping[str, object], name: str) -> str:
        found = row.get(name)
        if not isinstance(found, str) or len(found) > _TEXT_CHARACTERS:
            raise self._unexpected(f"{name} is no text")
        if not found.isprintable():
            raise self._unexpected(f"{name} is no plain text")
        return found

    def _upload_address(self, release: Release) -> str:
        """The place for uploads by our own configuration; GitHub's word must be the same."""
        expected = f"{self._uploads}/repos/{self.repository}/releases/{release.id}/assets"
        told = release.upload_url.partition("{")[0]
        # The name of a repository is compared by GitHub without regard to case.
        if told.lower() != expected.lower():
            raise errors.VerificationError(
                "GitHub names another place for uploads than the configuration",
                subject=self.repository,
                expected=expected,
                observed=told[:200],
                hint="nothing was sent there; set github_uploads_url and github_repository",
            )
        return expected


def _damaged(answer: Answer, what: str) -> errors.TransientError:
    return errors.TransientError(
        "GitHub's answer is cut or damaged",
        subject=what,
        observed=repr(answer.body[:60].decode(errors="replace")),
        hint="run again",
    )
