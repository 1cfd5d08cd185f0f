"""`-v`: what is told meanwhile goes to standard error, each line with the time since the start."""

from __future__ import annotations

import sys
import time
from pathlib import PurePath

from release_tool import credentials, tracing
from release_tool.apple.x509 import printable
from release_tool.cli.session import Session

_LINE = 400


def start(session: Session) -> None:
    """Listen for the rest of this process, to children that are started as well."""
    session.verbose = True
    began = time.monotonic()

    def show(text: str) -> None:
        covered = printable(credentials.covered(text, session.environ), _LINE)
        # Two spaces and a bracket: what a server says cannot begin a line of a job's log.
        print(f"  [{time.monotonic() - began:7.2f} s] {covered}", file=session.err, flush=True)

    tracing.listen(show)
    if not _Hook.there:
        _Hook.there = True
        sys.addaudithook(_children)


class _Hook:
    there = False


def _children(event: str, arguments: tuple[object, ...]) -> None:
    """Name each program that is started, with its first word: the rest is nobody's business."""
    if event != "subprocess.Popen" or len(arguments) < 2:
        return
    words = arguments[1]
    if isinstance(words, (list, tuple)) and words:
        plain = [str(word) for word in words[1:] if _is_a_word(str(word))]
        first = f" {plain[0]}" if plain else ""
        tracing.tell(f"starts {PurePath(str(words[0])).name}{first}")


def _is_a_word(word: str) -> bool:
    return word.replace("-", "").isalpha() and not word.startswith("-") and len(word) < 30
