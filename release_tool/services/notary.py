"""What a route to Apple's notary offers: the REST interface here, `notarytool` on a Mac.

Both routes answer in Apple's words. What the answers mean for a release is the stage's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from release_tool.progress import Reporter

ACCEPTED = "Accepted"
IN_PROGRESS = "In Progress"
INVALID = "Invalid"
REJECTED = "Rejected"
FINAL = frozenset({ACCEPTED, INVALID, REJECTED})
"""Every other word, a new one of Apple's included, means that the notary is still at work."""

Route = Literal["api", "notarytool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One entry of the team's history."""

    id: str
    """A UUID."""
    name: str
    created: datetime | None
    """UTC; None where the notary's text is no time."""
    status: str


class Notary(Protocol):
    """One route to the notary."""

    @property
    def route(self) -> Route:
        """Which one, for the record."""

    def submit(self, archive: Path, *, name: str, sha256: str, reporter: Reporter) -> str:
        """Hand an archive in, and return once all of it has arrived.

        A submission of the same bytes that an earlier process began is finished where that is
        possible, so that a call after a kill does not make a second one.

        Args:
            archive: a zip.
            name: how the submission is called, `.zip` included.
            sha256: of the archive, 64 hex digits.
            reporter: gets the bytes as the task `upload`.

        Returns:
            The submission's id.

        Raises:
            CredentialError, RemoteRefusedError, TransientError, HostError: it was not taken.
        """

    def is_begun(self, sha256: str) -> bool:
        """Whether `submit` would finish an earlier process's submission of this archive."""

    def status(self, submission_id: str) -> str:
        """Apple's word for the state; see `FINAL`.

        Raises:
            CredentialError, RemoteRefusedError, TransientError: it cannot be told.
        """

    def log(self, submission_id: str) -> bytes | None:
        """The log as Apple wrote it, JSON; None while there is none.

        Raises:
            CredentialError, RemoteRefusedError, TransientError, VerificationError: likewise.
        """

    def history(self) -> Sequence[Submission]:
        """The team's newest submissions, at most 100; it changes nothing, so it serves as a probe.

        Raises:
            CredentialError, RemoteRefusedError, TransientError: likewise.
        """
