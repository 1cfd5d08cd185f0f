"""One file of the model hub, piece by piece: resumed, bounded, and behind the hub's redirects.

The hub keeps small files itself, behind a redirect on its own host, and sends readers of large ones
to a store, under an address that is signed and is nobody's to see. The store gets no token.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from release_tool import errors
from release_tool.services import addresses, http_client, hub_errors, retries
from release_tool.services.http_client import Stream
from release_tool.services.hub_listing import HubFile

PIECE_BYTES = 32 * 1024 * 1024
"""Of one answer: so small that its time has a bound, and what no broken connection loses whole."""
_SLOWEST_BYTES_PER_SECOND = 64 * 1024
_SECONDS = 30.0
"""Of an answer beside its body."""
_REDIRECTS = 3
"""One is usual; a mirror may add one."""
_MOVED = frozenset({301, 302, 303, 307, 308})
_OWN_STORE = "/api/resolve-cache/"
"""Where the hub sends readers of small files, on the same host."""
_LOCATION_CHARACTERS = 8192
_RANGE = re.compile(r"bytes ([0-9]{1,20})-([0-9]{1,20})/([0-9]{1,20})")
# An address of the store ends after a while; the next try gets a fresh one.
_ENDED = frozenset({401, 403, 404, 410, 416})
_CHANGED = "run again; if it stays so, somebody changes the model: do not use it"


class _Piece(NamedTuple):
    """Which bytes of the file are asked for."""

    begin: int
    size: int

    @property
    def end(self) -> int:
        return self.begin + self.size


class _Place(NamedTuple):
    """Who is asked."""

    address: str
    own: bool
    """Whether that is the hub itself, which knows the token."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file on its way.

    Args:
        endpoint: the hub's address.
        headers: what the hub itself is asked with.
        policy: how to retry what fails in passing; each piece has its own tries.
        address: of the file on the hub.
        name: of the file, for people.
        commit: that it belongs to.
        file: as it was listed.
    """

    endpoint: str
    headers: Callable[[], Mapping[str, str]]
    policy: retries.Policy
    address: str
    name: str
    commit: str
    file: HubFile

    def into(self, target: BinaryIO, told: Callable[[int], None]) -> None:
        """Append what the target lacks; errors as of `Hub.fetch`."""
        while target.seek(0, 2) < self.file.size:
            retries.call(lambda: self._append(target, told), self.policy)

    def _append(self, target: BinaryIO, told: Callable[[int], None]) -> None:
        begin = target.seek(0, 2)
        piece = _Piece(begin, min(PIECE_BYTES, self.file.size - begin))
        with self._answer(piece) as answer:
            if answer.status == 200:
                # It knows no ranges: all of the file comes.
                target.seek(0)
                target.truncate()
                piece = _Piece(0, self.file.size)
            self._receive(answer, piece, target, told)

    @contextmanager
    def _answer(self, piece: _Piece) -> Iterator[Stream]:
        """The answer behind the redirects, each of them judged."""
        place = _Place(self.address, own=True)
        for _ in range(_REDIRECTS + 1):
            with self._opened(place, piece) as answer:
                if place.own:
                    self._compare(answer.headers)
                if answer.status not in _MOVED:
                    self._require_served(answer, piece, place)
                    yield answer
                    return
                place = self._redirected(place, answer.headers.get("location", ""))
        raise errors.RemoteRefusedError(
            "the hub redirects again and again",
            subject=self.name,
            expected=f"at most {_REDIRECTS} times",
        )

    @contextmanager
    def _opened(self, place: _Place, piece: _Piece) -> Iterator[Stream]:
        headers = {"Range": f"bytes={piece.begin}-{piece.end - 1}"}
        if place.own:
            headers |= self.headers()
        seconds = _SECONDS + piece.size / _SLOWEST_BYTES_PER_SECOND
        with http_client.stream("GET", place.address, seconds=seconds, headers=headers) as answer:
            yield answer

    def _redirected(self, place: _Place, location: str) -> _Place:
        plain = location.isascii() and location.isprintable() and " " not in location
        if not plain or len(location) > _LOCATION_CHARACTERS:
            raise self._nowhere("no address")
        if place.own and location.startswith(_OWN_STORE):
            parts = urllib.parse.urlsplit(place.address)
            return _Place(f"{parts.scheme}://{parts.netloc}{location}", own=True)
        # Not joined with what was asked: what readers of addresses may read differently is not
        # asked at all.
        host = addresses.host(location)
        from_afar = addresses.is_loopback(location) and not addresses.is_loopback(self.endpoint)
        if not host or not addresses.is_confidential(location) or from_afar:
            raise self._nowhere(host or "no address")
        return _Place(location, own=False)

    def _nowhere(self, observed: str) -> errors.VerificationError:
        return errors.VerificationError(
            "the hub redirects to where nothing is fetched from",
            subject=self.name,
            expected="a redirect to https",
            observed=observed[:200],
            hint="nothing was fetched; look at what stands between this host and the hub",
        )

    def _compare(self, headers: Mapping[str, str]) -> None:
        """What the hub says of the file beside sending it: better before some gigabytes of it."""
        expected = {
            "x-repo-commit": self.commit,
            "x-linked-size": str(self.file.size),
            "x-linked-etag": self.file.sha256,
        }
        for name, wanted in expected.items():
            told = headers.get(name, "").removeprefix("W/").strip('"')
            if told and wanted and told != wanted:
                raise errors.VerificationError(
                    "the hub hands out another file than it listed",
                    subject=self.name,
                    expected=f"{name} {wanted}",
                    observed=told[:80],
                    hint=_CHANGED,
                )

    def _require_served(self, answer: Stream, piece: _Piece, place: _Place) -> None:
        status, headers = answer.status, answer.headers
        if status in (200, 206):
            self._require_plain(headers)
            if status == 206:
                self._require_range(headers, piece)
            return
        if not place.own and status in _ENDED:
            raise errors.TransientError(
                "the hub's store does not hand the file out now",
                subject=self.name,
                observed=f"{status}",
                hint="run again",
            )
        raise hub_errors.refusal(
            status, headers, self.name, with_token=place.own and bool(self.headers())
        )

    def _require_plain(self, headers: Mapping[str, str]) -> None:
        encoding = headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise errors.RemoteRefusedError(
                "the file comes in another encoding than asked for",
                subject=self.name,
                expected="identity",
                observed=encoding[:40],
            )

    def _require_range(self, headers: Mapping[str, str], piece: _Piece) -> None:
        told = headers.get("content-range", "").strip()
        found = _RANGE.fullmatch(told)
        expected = (piece.begin, piece.end - 1, self.file.size)
        if found is None or tuple(map(int, found.groups())) != expected:
            raise errors.VerificationError(
                "the hub hands out another part than asked for",
                subject=self.name,
                expected="bytes {}-{}/{}".format(*expected),
                observed=told[:80],
                hint=_CHANGED,
            )

    def _receive(
        self, answer: Stream, piece: _Piece, target: BinaryIO, told: Callable[[int], None]
    ) -> None:
        left = piece.size
        for chunk in answer.chunks():
            left -= len(chunk)
            if left < 0:
                raise errors.VerificationError(
                    "more comes than the hub lists", subject=self.name, hint=_CHANGED
                )
            target.write(chunk)
            told(len(chunk))
        if left:
            raise errors.TransientError(
                "the download broke off",
                subject=self.name,
                observed=f"{left} bytes are missing",
                hint="run again: it goes on where it was",
            )
