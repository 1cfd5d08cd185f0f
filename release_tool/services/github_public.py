"""What anybody reads of a repository's releases, with no token: the heads of the log there.

GitHub answers sixty such questions an hour to an address, so few are asked: for the newest page
of releases, and then for the head that is the longest by its name and for those of the releases
that were published last. All of them are beginnings of one log, so no other one says more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from release_tool import errors
from release_tool.provenance import dsse, head_notes, log
from release_tool.services import addresses, github_storage, http_client, retries
from release_tool.services.http_client import Stream

API_VERSION = "2022-11-28"
_SECONDS = 30.0
_PER_PAGE = 30
# A page of thirty releases, each with notes of up to 125 000 characters.
_ANSWER_BYTES = 16 * 1024 * 1024
# A release of an older version than the newest has a shorter head; three leave room for two such.
_NEWEST = 3
_TEXT_CHARACTERS = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LIMITING = frozenset({403, 429})
_SERVER_FAULT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadAsset:
    """A head that can be downloaded."""

    id: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicRelease:
    """One published release, as far as heads go."""

    tag: str
    published: str
    """ISO 8601, UTC: these sort as texts."""
    assets: tuple[HeadAsset, ...]
    noted: tuple[tuple[str, bytes], ...]
    """Heads in its notes: name and content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicHead:
    """A head as GitHub serves it; nobody has looked at its signature."""

    tag: str
    name: str
    content: bytes

    def __str__(self) -> str:
        return f"{self.name} of {self.tag}"


@dataclass(frozen=True, kw_only=True)
class PublicReleases:
    """The releases of one repository, as anybody sees them.

    Args:
        api_url: the interface, `https://api.github.com`.
        repository: `owner/name`.
        policy: how to try again.
    """

    api_url: str
    repository: str
    policy: retries.Policy = retries.DEFAULT

    def heads(self) -> list[PublicHead]:
        """The heads that say the most, the longest by name first; none where there is none.

        Raises:
            TransientError: GitHub does not answer now.
            RemoteRefusedError: it shows nobody such a repository, answers no more questions of
                this address, or refuses otherwise.
            VerificationError: what it answers is no list of releases, or no head.
        """
        listed = retries.call(self._listed, self.policy)
        found = [*_noted(listed)]
        for tag, asset in _wanted(listed):
            content = retries.call(lambda asset=asset: self._content(asset), self.policy)  # type: ignore[misc]
            found.append(PublicHead(tag=tag, name=asset.name, content=content))
        return sorted(found, key=lambda one: log.lines_named(one.name) or 0, reverse=True)

    def _listed(self) -> tuple[PublicRelease, ...]:
        with self._ask(f"?per_page={_PER_PAGE}", "application/vnd.github+json") as answer:
            if answer.status != 200:
                raise self._refusal(answer, "the list of releases")
            return parse(answer.body(_ANSWER_BYTES))

    def _content(self, asset: HeadAsset) -> bytes:
        with self._ask(f"/assets/{asset.id}", "application/octet-stream") as answer:
            if answer.status == 200:
                return github_storage.small(answer, asset.name, dsse.LIMIT_BYTES)
            if answer.status not in _REDIRECTS:
                raise self._refusal(answer, asset.name)
            location = answer.headers.get("location", "")
        local = addresses.is_loopback(self.api_url)
        return github_storage.fetch_small(
            location, asset.name, limit_bytes=dsse.LIMIT_BYTES, seconds=_SECONDS, local=local
        )

    def _ask(self, path: str, accept: str) -> AbstractContextManager[Stream]:
        base = addresses.base(self.api_url, name="github_api_url")
        return http_client.stream(
            "GET",
            f"{base}/repos/{self.repository}/releases{path}",
            seconds=_SECONDS,
            headers={"Accept": accept, "X-GitHub-Api-Version": API_VERSION},
        )

    def _refusal(self, answer: Stream, what: str) -> errors.ReleaseError:
        status = answer.status
        if status >= _SERVER_FAULT:
            kind: type[errors.ReleaseError] = errors.TransientError
            message = f"GitHub does not hand out {what} now"
        else:
            kind, message = errors.RemoteRefusedError, f"GitHub does not hand out {what}"
        if status in _LIMITING:
            message = "GitHub answers no more questions without a token to this address for now"
        elif status == 404:
            message = "GitHub shows nobody such a repository"
        elif status in _REDIRECTS:
            message = "the repository has another name by now"
        return kind(message, subject=self.repository, observed=f"{status}")


def _noted(listed: Sequence[PublicRelease]) -> Iterator[PublicHead]:
    """Of the heads in notes the longest by its name."""
    found = [
        PublicHead(tag=one.tag, name=name, content=content)
        for one in listed
        for name, content in one.noted
    ]
    found.sort(key=lambda head: log.lines_named(head.name) or 0, reverse=True)
    yield from found[:1]


def _wanted(listed: Sequence[PublicRelease]) -> Iterator[tuple[str, HeadAsset]]:
    """The longest head by its name, and those that the newest releases were published with."""
    assets = [(one.tag, asset) for one in listed for asset in one.assets]
    later = [(tag, asset) for tag, asset in assets if log.is_later_name(asset.name)]
    if later:
        yield max(later, key=lambda pair: log.lines_named(pair[1].name) or 0)
    newest = sorted(listed, key=lambda one: one.published, reverse=True)
    first = [
        (one.tag, asset) for one in newest for asset in one.assets if asset.name == log.HEAD_NAME
    ]
    yield from first[:_NEWEST]


def parse(content: bytes) -> tuple[PublicRelease, ...]:
    """Read GitHub's list of releases; drafts and assets that are not whole are left out.

    Raises:
        FormatError: it is no such list.
    """
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise errors.FormatError("is not JSON") from problem
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise errors.FormatError("is no list of releases")
    return tuple(_release(row) for row in rows if row.get("draft") is False)


def _release(row: dict[str, Any]) -> PublicRelease:
    assets = row.get("assets")
    if not isinstance(assets, list) or not all(isinstance(one, dict) for one in assets):
        raise errors.FormatError("names no assets of a release")
    return PublicRelease(
        tag=_text(row, "tag_name"),
        published=_text(row, "published_at"),
        assets=tuple(_asset(one) for one in assets if _is_head(one)),
        noted=head_notes.parse(notes) if isinstance(notes := row.get("body"), str) else (),
    )


def _is_head(row: dict[str, Any]) -> bool:
    name = row.get("name")
    named = isinstance(name, str) and (name == log.HEAD_NAME or log.is_later_name(name))
    return named and row.get("state") == "uploaded"


def _asset(row: dict[str, Any]) -> HeadAsset:
    number = row.get("id")
    if type(number) is not int or number < 0:
        raise errors.FormatError("names an asset without an id")
    return HeadAsset(id=number, name=row["name"])


def _text(row: dict[str, Any], name: str) -> str:
    found = row.get(name)
    if not isinstance(found, str) or not found.isprintable() or len(found) > _TEXT_CHARACTERS:
        raise errors.FormatError(f"holds no fit {name}", observed=repr(found)[:80])
    return found
