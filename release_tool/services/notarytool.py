"""Apple's notarytool, on a Mac, with an Apple ID and its app-specific password.

The password goes into the run's own keychain through notarytool's own prompt, and every later
command names that keychain. Answers are JSON; the exit code is never trusted: notarytool ends well
on submissions that Apple refused.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from release_tool import errors
from release_tool.files import atomic
from release_tool.progress import Reporter, task
from release_tool.services import apple_tools, keychain, password_prompt
from release_tool.services.apple_tools import TOOLS, AppleTools, Said
from release_tool.services.notary import Route, Submission

PROFILE = "release-tool"
"""Under which the run's keychain holds the credentials."""
_QUESTION = re.compile(r"(?i)app-specific password[^\n]{0,200}:\s*\Z")
_STORE_SECONDS = 300.0
_ASK_SECONDS = 300.0
# A gigabyte over a slow line; the upload's credentials live twelve hours.
_SUBMIT_SECONDS = 6 * 3600.0
MAX_LOG_BYTES = 64 * 1024 * 1024
"""A log lists each file of the archive with a few hundred bytes."""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HISTORY = 100
_NOT_YET = "log is not yet available"


@dataclass(frozen=True, slots=True)
class _Reason:
    texts: tuple[str, ...]
    kind: type[errors.ReleaseError]
    message: str
    hint: str


# In order: the first that fits. Texts as public logs show them.
_REASONS = (
    _Reason(
        ("unable to find utility", "xcode-select: error"),
        errors.HostError,
        "this Mac has no notarytool",
        "install Xcode 13 or later, or its command line tools, and see xcode-select -p",
    ),
    _Reason(
        ("required agreement is missing or has expired",),
        errors.RemoteRefusedError,
        "the team has an agreement to accept",
        "the Account Holder accepts it at https://developer.apple.com/account; no password can",
    ),
    _Reason(
        ("status code: 401", "invalid credentials", "unauthenticated"),
        errors.CredentialError,
        "Apple refused the Apple ID or its app-specific password",
        "make a new app-specific password at account.apple.com, and set APPLE_APP_PASSWORD",
    ),
    _Reason(
        ("no keychain password item found", "user interaction is not allowed"),
        errors.CredentialError,
        "notarytool cannot read its credentials in the keychain",
        "the run's keychain is locked or gone: run again",
    ),
    _Reason(
        ("status code: 403", "team is not yet configured", "missing_provider"),
        errors.CredentialError,
        "the Apple ID may not notarize for this team",
        "see that the account is a member of the team, with the role Developer or above",
    ),
    _Reason(
        ("status code: 429", "status code: 5", "timed out", "appears to be offline"),
        errors.TransientError,
        "the notary could not answer",
        "run again",
    ),
    _Reason(
        ("network connection was lost", "could not connect", "nsurlerrordomain", "abortedupload"),
        errors.TransientError,
        "the way to the notary failed in passing",
        "run again",
    ),
    _Reason(
        ("does not exist or does not belong to your team",),
        errors.RemoteRefusedError,
        "the team has no such submission",
        "is it the team that submitted?",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notarytool:
    """One route to the notary; implements `services.notary.Notary`."""

    keychain: Path
    tools: AppleTools = field(default=TOOLS, repr=False)

    @property
    def route(self) -> Route:
        """As `Notary` says."""
        return "notarytool"

    def submit(self, archive: Path, *, name: str, sha256: str, reporter: Reporter) -> str:
        """As `Notary` says; an upload that broke off is begun anew.

        notarytool calls a submission after its file, so the file is given that name.
        """
        del sha256  # notarytool computes it; the stage compares the log's
        size = archive.stat().st_size
        with (
            tempfile.TemporaryDirectory(dir=archive.parent, prefix=".submit-") as folder,
            task(reporter, "upload", size),
        ):
            named = Path(folder) / name
            with atomic.naming(named, "link"):
                os.link(archive, named)
            # Without progress bars; their control characters have no reader here.
            found = self._ask("submit", str(named), "--no-progress", seconds=_SUBMIT_SECONDS)
            reporter.advance("upload", size)
        return _identifier(found)

    def is_begun(self, sha256: str) -> bool:
        """As `Notary` says; notarytool keeps nothing of an upload that broke off."""
        del sha256
        return False

    def status(self, submission_id: str) -> str:
        """As `Notary` says."""
        found = self._ask("info", submission_id)
        if _identifier(found) != submission_id:
            raise _unexpected("info", "another submission's id")
        return _text(found, "status", "info")

    def log(self, submission_id: str) -> bytes | None:
        """As `Notary` says."""
        with tempfile.TemporaryDirectory(prefix="notary-log-") as folder:
            path = Path(folder) / "log.json"
            said = self._run("log", submission_id, str(path), seconds=_ASK_SECONDS)
            if not path.is_file():
                if said.has(_NOT_YET):
                    return None
                raise _refusal("log", said)
            with path.open("rb") as source:
                content = source.read(MAX_LOG_BYTES + 1)
        if len(content) > MAX_LOG_BYTES:
            raise errors.VerificationError(
                "the notary's log is too large", expected=f"at most {MAX_LOG_BYTES} bytes"
            )
        return content

    def history(self) -> Sequence[Submission]:
        """As `Notary` says."""
        found = self._ask("history").get("history")
        if not isinstance(found, list):
            raise _unexpected("history", "no list")
        return [_submission(entry) for entry in found[:_HISTORY]]

    def _ask(
        self, command: str, *arguments: str, seconds: float = _ASK_SECONDS
    ) -> Mapping[str, object]:
        said = self._run(command, *arguments, seconds=seconds)
        found = _document(said.stdout)
        if found is None:
            raise _refusal(command, said)
        return found

    def _run(self, command: str, *arguments: str, seconds: float) -> Said:
        where = ["--keychain-profile", PROFILE, "--keychain", str(self.keychain)]
        return apple_tools.run(
            self.tools.xcrun,
            ["notarytool", command, *arguments, *where, "--output-format", "json"],
            tools=self.tools,
            seconds=seconds,
        )


@contextmanager
def signed_in(
    *,
    apple_id: str,
    password: Callable[[], str],
    team_id: str,
    folder: Path,
    reporter: Reporter,
    tools: AppleTools = TOOLS,
) -> Iterator[Notarytool]:
    """The route while the block lasts: its credentials lie in a keychain made for it.

    Args:
        apple_id: of a member of the team.
        password: gives the app-specific password; asked once.
        team_id: which of the account's teams.
        folder: where keychains of runs stand (see `keychain.made_for_run`).
        reporter: sees what is put in order.
        tools: Apple's tools.

    Raises:
        CredentialError: Apple refuses the password, or the account is none of the team's.
        RemoteRefusedError: the team has an agreement to accept.
        TransientError: Apple could not be asked.
        HostError: this host lacks the tools.
    """
    apple_tools.require(tools.xcrun, "notarizing with an Apple ID")
    with keychain.made_for_run(folder, reporter=reporter, tools=tools) as made:
        store = ["notarytool", "store-credentials", PROFILE, "--apple-id", apple_id]
        store += ["--team-id", team_id, "--keychain", str(made.path)]
        said = password_prompt.answer(
            [str(tools.xcrun), *store],
            question=_QUESTION,
            password=password(),
            environment=tools.environment,
            seconds=_STORE_SECONDS,
        )
        if said.status or not said.has("credentials saved to keychain"):
            raise _refusal("store-credentials", said)
        yield Notarytool(keychain=made.path, tools=tools)


def _document(text: str) -> Mapping[str, object] | None:
    """The JSON object of an output; lines of other words may stand around it."""
    for candidate in (text, *(line for line in text.splitlines() if line.startswith("{"))):
        try:
            found = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return None


def _refusal(command: str, said: Said) -> errors.ReleaseError:
    for reason in _REASONS:
        if said.has(*reason.texts):
            return reason.kind(
                reason.message,
                subject=f"notarytool {command}",
                details=said.lines,
                hint=reason.hint,
            )
    return errors.RemoteRefusedError(
        "notarytool did not do it",
        subject=f"notarytool {command}",
        observed=f"exit code {said.status}, no JSON answer",
        details=said.lines,
        hint="see what it says; an API key (APPLE_API_KEY_P8) needs no notarytool",
    )


def _identifier(found: Mapping[str, object]) -> str:
    text = _text(found, "id", "submission").lower()
    if not _UUID.fullmatch(text):
        raise _unexpected("submission", f"the id {text[:60]!r}")
    return text


def _text(found: Mapping[str, object], name: str, command: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise _unexpected(command, f"{name}: {type(value).__name__}")
    return value


def _unexpected(command: str, observed: str) -> errors.RemoteRefusedError:
    return errors.RemoteRefusedError(
        "notarytool answers in a shape that is not known",
        subject=f"notarytool {command}",
        observed=observed,
        hint="update release-tool, or use an API key",
    )


def _submission(entry: object) -> Submission:
    if not isinstance(entry, dict):
        raise _unexpected("history", f"an entry that is {type(entry).__name__}")
    return Submission(
        id=_identifier(entry),
        name=_text(entry, "name", "history"),
        created=_moment(entry.get("createdDate")),
        status=_text(entry, "status", "history"),
    )


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment is not None and moment.tzinfo else None
