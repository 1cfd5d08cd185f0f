"""What the coordinator answers, read as data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from release_tool import errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The coordinator's error body, as far as it could be read."""

    type: str
    message: str

    def shown(self, status: int) -> str:
        """One bounded line of printable characters."""
        text = f"{status} {self.type}: {self.message}" if self.type else f"{status} {self.message}"
        return printable(text)


def printable(text: str) -> str:
    """One bounded line that a terminal takes as it is."""
    return "".join(mark if mark.isprintable() else " " for mark in text)[:600]


def error(body: bytes) -> Said:
    """The error of a refusal, or the beginning of what stands in its place."""
    try:
        whole = json.loads(body)
        inner = whole["error"]
        return Said(type=str(inner["type"]), message=str(inner["message"]))
    except (ValueError, RecursionError, TypeError, KeyError):
        return Said(type="", message=body[:300].decode(errors="replace").strip())


def read_object(body: bytes, subject: str) -> Mapping[str, object]:
    """The JSON object of an answer.

    Raises:
        TransientError: it is no JSON: cut, damaged, or another's answer. Asking again may help.
        VerificationError: it is JSON of another kind.
    """
    whole = parsed(body, subject)
    if not isinstance(whole, dict):
        raise unexpected(subject, "the answer is no JSON object", _start(body))
    return whole


def parsed(body: bytes, subject: str) -> object:
    """The JSON of an answer, whatever it is.

    Raises:
        TransientError: it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise errors.TransientError(
            "the coordinator's answer is cut or damaged",
            subject=subject,
            expected="a JSON object",
            observed=_start(body),
            hint="run again to ask what the coordinator holds; if it stays, check COORDINATOR_URL",
        ) from None


def _start(body: bytes) -> str:
    return repr(body[:80].decode(errors="replace"))


def text(row: Mapping[str, object], name: str, subject: str) -> str:
    """A text field; one that is left out is empty, as Go's encoder leaves out empty ones.

    Raises:
        VerificationError: it is something else.
    """
    value = row.get(name, "")
    if not isinstance(value, str):
        raise unexpected(subject, f"{name} is not text", type(value).__name__)
    return value


def unexpected(subject: str, message: str, observed: str = "") -> errors.VerificationError:
    """The error for an answer that is not what the contract says."""
    return errors.VerificationError(
        f"the coordinator's answer cannot be read: {message}",
        subject=subject,
        observed=observed,
        hint="check COORDINATOR_URL; run again to ask what the coordinator holds",
    )
