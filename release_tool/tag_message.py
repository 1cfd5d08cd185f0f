"""The text of a release tag: from a file, or from what was committed since the tag before it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from release_tool import errors
from release_tool.services import git_tags

MOST_COMMITS = 500
"""What is listed of a long history; more is no text that anybody reads."""
_LINE_CHARACTERS = 200
# Controls, and what makes a text read in another order than it stands.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def from_file(title: str, content: bytes, *, name: str, limit: int) -> str:
    """The message with the notes of a file, as they stand.

    Args:
        title: the first line.
        content: UTF-8 with lines of LF or CRLF.
        name: of the file, for errors.
        limit: how many bytes the coordinator takes of the whole message.

    Raises:
        UsageError: they are empty, too long, or no plain text.
    """
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise errors.UsageError("the notes are not UTF-8", subject=name) from None
    lines = [line.rstrip() for line in text.strip().split("\n")]
    if not any(lines):
        raise errors.UsageError("the notes are empty", subject=name)
    for number, line in enumerate(lines, start=1):
        if found := _HIDDEN.search(line):
            raise errors.UsageError(
                "the notes hold a character that nobody sees",
                subject=f"{name}:{number}",
                observed=f"U+{ord(found.group()):04X}",
                hint="take it out: the notes are shown to users as they are",
            )
        if git_tags.is_armour(line):
            raise errors.UsageError(
                "git would take this line of the notes for the tag's signature",
                subject=f"{name}:{number}",
                observed=line[:40],
                hint="indent it",
            )
    message = _message(title, lines)
    count = len(message.encode())
    if count > limit:
        raise errors.UsageError(
            "the notes are longer than a changelog may be",
            subject=name,
            expected=f"at most {limit} bytes with the title (limits.changelog_bytes)",
            observed=f"{count} bytes",
            hint="shorten them",
        )
    return message


def from_commits(title: str, subjects: Sequence[str], *, since: str, limit: int) -> str:
    """The message with one line for each commit, the newest first; what is too much is counted.

    Args:
        title: the first line.
        subjects: first lines of commits, at most `MOST_COMMITS` and one.
        since: the tag before; empty for the first one.
        limit: how many bytes the coordinator takes of the whole message.
    """
    lines = [f"- {_shown(subject)}" for subject in subjects[:MOST_COMMITS]]
    more = len(subjects) > MOST_COMMITS
    kept = len(lines)
    while kept and len(_listing(title, lines, kept, since, more=more).encode()) > limit:
        kept -= 1
    return _listing(title, lines, kept, since, more=more)


def _listing(title: str, lines: Sequence[str], kept: int, since: str, *, more: bool) -> str:
    found = list(lines[:kept])
    if more or kept < len(lines):
        found.append(f"- and more{f' since {since}' if since else ''}")
    return _message(title, found)


def _message(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, "", *lines]).rstrip() + "\n"


def _shown(subject: str) -> str:
    text = _HIDDEN.sub("?", " ".join(subject.split()))
    return text if len(text) <= _LINE_CHARACTERS else f"{text[: _LINE_CHARACTERS - 1]}…"
