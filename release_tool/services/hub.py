"""The model hub: which commit a revision is, which files it holds, and their bytes.

Not the hub's own library: that follows redirects by itself, reads tokens and settings out of many
places, speaks to a second host in a protocol of its own, takes files of any number and size, and
believes the bytes that come. Here a token goes to the configured host alone, every answer has a
bound, and each file is believed by the digest that the listing names. A listing may lie: what a
release believes is the digest of all files, which `release.yaml` pins.
Source: https://huggingface.co/docs/hub/api, and what the hub's public client asks for.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from release_tool import errors
from release_tool.services import addresses, http_client, hub_errors, hub_listing, retries
from release_tool.services.hub_download import Download
from release_tool.services.hub_listing import HubFile

ENDPOINT = "https://huggingface.co"
COMMIT = re.compile(r"[0-9a-f]{40}")
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_SECONDS = 30.0
_ANSWER_BYTES = 4 * 1024 * 1024
"""A page of a listing has some 200 bytes for each file, and up to a thousand of them."""
_PAGES = 16
_CURSOR_CHARACTERS = 4096


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A hub of models.

    Args:
        endpoint: its address.
        token: gives the token when a request is made; None where there is none.
        policy: how to retry what fails in passing.

    Raises:
        UsageError: the address would let a token, or a model, travel in the clear.
    """

    endpoint: str = ENDPOINT
    token: Callable[[], str] | None = None
    policy: retries.Policy = retries.DEFAULT

    def __post_init__(self) -> None:
        object.__setattr__(self, "endpoint", addresses.base(self.endpoint, name="HF_ENDPOINT"))

    def commit(self, model: str, revision: str) -> str:
        """The commit that a revision is now.

        Args:
            model: `ORG/NAME`.
            revision: a branch, a tag or a commit.

        Raises:
            UsageError: no such model or revision.
            CredentialError: the hub wants a token, or another one.
            VerificationError: a commit was asked for, and another one came.
        """
        path = f"api/models/{_name(model)}/revision/{urllib.parse.quote(revision, safe='')}"
        answer = self._asked(self._address(path), model)
        found = hub_listing.parse_commit(answer.body)
        if COMMIT.fullmatch(revision) and found != revision:
            raise errors.VerificationError(
                "the hub has another commit at this revision", expected=revision, observed=found
            )
        return found

    def files(self, model: str, commit: str) -> tuple[HubFile, ...]:
        """The files of a commit, in the order of their paths.

        Raises:
            FormatError: the listing is none of a model that a smoke run may take.
        """
        address = self._address(f"api/models/{_name(model)}/tree/{commit}")
        # Its own words for the first page, the hub's own address for each further one.
        following: str | None = f"{address}?recursive=true&expand=false"
        found: list[HubFile] = []
        for _ in range(_PAGES):
            if following is None:
                return hub_listing.judge(found)
            answer = self._asked(following, model)
            found += hub_listing.parse_page(answer.body)
            following = self._next(answer.headers, address)
        raise errors.FormatError(
            "the hub's listing does not end", subject=model, expected=f"at most {_PAGES} pages"
        )

    def fetch(
        self,
        model: str,
        commit: str,
        file: HubFile,
        target: BinaryIO,
        *,
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Append to a local file what it lacks; its bytes are not believed here.

        Args:
            model: `ORG/NAME`.
            commit: of the file.
            file: as it was listed.
            target: open for reading and writing, with the first bytes of it or none.
            told: is told of the bytes as they come.

        Raises:
            TransientError: it broke off; what came is in the target, and the next call goes on.
            VerificationError: the hub tells another commit, size or digest of the file.
        """
        path = urllib.parse.quote(f"{_name(model)}/resolve/{commit}/{file.path}", safe="/+")
        download = Download(
            endpoint=self.endpoint,
            headers=self._headers,
            policy=self.policy,
            address=f"{self.endpoint}/{path}",
            name=f"{model}/{file.path}",
            commit=commit,
            file=file,
        )
        download.into(target, told)

    def _asked(self, address: str, what: str) -> http_client.Answer:
        def once() -> http_client.Answer:
            answer = http_client.exchange(
                "GET",
                address,
                seconds=_SECONDS,
                limit_bytes=_ANSWER_BYTES,
                headers={"Accept": "application/json", **self._headers()},
            )
            if answer.status != 200:
                raise hub_errors.refusal(
                    answer.status, answer.headers, what, with_token=self.token is not None
                )
            return answer

        return retries.call(once, self.policy)

    def _next(self, headers: Mapping[str, str], address: str) -> str | None:
        """The next page, which is more of the same listing and nothing else."""
        for link in headers.get("link", "").split(","):
            target, _, relation = link.partition(";")
            if 'rel="next"' not in relation:
                continue
            found = target.strip().removeprefix("<").removesuffix(">")
            # A mirror hands out the hub's own address: only what is asked for there is taken.
            query = urllib.parse.urlsplit(found).query
            cursor = urllib.parse.parse_qs(query).get("cursor", [""])[0]
            if not cursor or len(cursor) > _CURSOR_CHARACTERS:
                raise errors.FormatError("the hub's next page has no cursor")
            asked = urllib.parse.urlencode(
                {"recursive": "true", "expand": "false", "cursor": cursor}
            )
            return f"{address}?{asked}"
        return None

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token()}"} if self.token else {}

    def _address(self, path: str) -> str:
        return f"{self.endpoint}/{path}"


def _name(model: str) -> str:
    if not MODEL.fullmatch(model):
        raise errors.UsageError("is not the id of a model", subject=model[:200])
    return model
