"""What others said, without what may be a secret: of children's output and of servers' answers."""

from __future__ import annotations

import re

HIDDEN = "[redacted]"
_LINE_CHARACTERS = 300
# Escape sequences, and characters that move or hide what stands beside them.
_CONTROL = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|\x1b\[[0-9;?]*[ -/]*[@-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\xa0\u200b-\u200f\u2028-\u202e\u2066-\u2069]"
)
# Each begins where its word does and nowhere within it, or a long one would be read over and over.
_NAMES = (
    r"(?<![\w-])[\w-]*(?:token|secret|password|passwd|passphrase|(?:api|private)key|[a-z0-9][_-]key"
    r"|access[_-]?key(?:[_-]?id)?|authorization|credentials?|x-amz-signature)"
)
# What is kept in front stands in the first group.
_SECRETS = (
    re.compile(r"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL),
    re.compile(r"(?i)(\bbearer\s+)\S+"),
    re.compile(r"(?i)(\bbasic\s+)[A-Za-z0-9+/]{12,}=*"),
    re.compile(r"()\bdk-[a-z]+-[A-Za-z0-9_-]{6,}"),
    re.compile(r"()\b(?:hf|gh[opsu]|github_pat|sk)[_-][A-Za-z0-9_-]{16,}"),
    re.compile(r"()\bAKIA[A-Z0-9]{16}\b"),
    re.compile(r"()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"),
    re.compile(r"(?i)(\b(?:set-)?cookie\s*:\s*)[^\r\n]+"),
    re.compile(
        rf"(?i)({_NAMES}\b[\"']?\s*(?:[:=]|\bis\b)\s*)"
        r"(?:\"(?:[^\"\\\n]|\\.)+\"|'[^'\n]+')"
    ),
    re.compile(
        rf"(?i)({_NAMES}\b(?:\s+is\s+|\W{{1,4}})(?:(?:bearer|basic)\s+)?)"
        r"(?!\[redacted\])\S+"
    ),
    re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)"),
)


def hidden(text: str, *values: str) -> str:
    """A text without what may be a secret, and without the given values.

    Args:
        text: what somebody else said.
        values: secrets that are known; empty ones are none.
    """
    for value in filter(None, values):
        text = text.replace(value, HIDDEN)
    for pattern in _SECRETS:
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    return text


def line(text: str, *values: str) -> str:
    """As `hidden`, in one line that a terminal shows as it is."""
    return hidden(_CONTROL.sub("", " ".join(text.split())), *values)


def lines(text: str) -> list[str]:
    """As `hidden`, line by line, without escape sequences, empty lines and what is too long."""
    clean = hidden(_CONTROL.sub("", text))
    return [one.rstrip()[:_LINE_CHARACTERS] for one in clean.splitlines() if one.strip()]
