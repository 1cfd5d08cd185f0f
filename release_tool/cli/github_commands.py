"""How we speak to GitHub Actions: the workflow commands that we print, the outputs of a job.

A runner takes commands from every line that is printed, wherever their text comes from: `::` at
its beginning, also behind spaces, or `##[` anywhere in it. So everything that is printed in a job
goes through `Guarded`, which lets only commands of this module be commands. Limits: ten errors and
ten warnings are shown of a step, of each some 64 KB, and 1 MiB of a step's summary; more than that
is dropped without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from release_tool import errors

SHOWN = 10
"""Annotations of one kind that GitHub shows of a step."""
# Beside the message, its escapes count; 64 KB are said, and the half of it is long enough.
_MESSAGE_BYTES = 32 * 1024
# GitHub drops a summary of more than 1 MiB whole.
_SUMMARY_BYTES = 1024 * 1024 - 4096
_OURS = "\ue000"
"""Before a command that this module made; no text from elsewhere keeps one."""
# Where a runner sees lines end.
_LINES = re.compile(r"(\r\n|\r|\n)")


def error(text: str) -> str:
    """One `::error` command whose text cannot end it or begin another."""
    return _annotation("error", text)


def warning(text: str) -> str:
    """The same as a `::warning`."""
    return _annotation("warning", text)


def notice(text: str) -> str:
    """The same as a `::notice`."""
    return _annotation("notice", text)


def group(name: str) -> str:
    """Opens a part of the log that can be folded."""
    return f"{_OURS}::group::{_escaped(name)}"


def end_group() -> str:
    """Closes it."""
    return f"{_OURS}::endgroup::"


def errors_of(texts: Sequence[str]) -> list[str]:
    """One `::error` for each text, the worst first; the last that is shown counts the others."""
    if len(texts) <= SHOWN:
        return [error(text) for text in texts]
    kept = texts[: SHOWN - 1]
    return [error(text) for text in (*kept, f"and {len(texts) - len(kept)} more: see the log")]


def _annotation(kind: str, text: str) -> str:
    return f"{_OURS}::{kind} title=release-tool::{_escaped(_cut(text, _MESSAGE_BYTES))}"


def _escaped(text: str) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(_OURS, "")


def _cut(text: str, limit: int) -> str:
    encoded = text.encode("utf-8", "replace")
    return text if len(encoded) <= limit else encoded[:limit].decode("utf-8", "ignore") + " …"


def plain(text: str) -> str:
    """A text for a job's log: its commands are commands only where this module made them."""
    return "".join(
        part if at % 2 else _plain_line(part) for at, part in enumerate(_LINES.split(text))
    )


def _plain_line(line: str) -> str:
    if line.startswith(f"{_OURS}::"):
        # Its text was escaped, but for the older form, which is looked for anywhere.
        return _without_brackets(line.removeprefix(_OURS))
    line = line.replace(_OURS, "")
    begun = line.lstrip()
    if begun.startswith("::"):
        line = f"{line[: len(line) - len(begun)]}: :{begun[2:]}"
    return _without_brackets(line)


def _without_brackets(line: str) -> str:
    return line.replace("##[", "# #[")


class Guarded:
    """A stream of a job, for `print`: whole lines go through `plain`."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._pending = ""

    def write(self, text: str) -> int:
        """Take text; what is no whole line yet waits for its end."""
        whole, newline, self._pending = (self._pending + text).rpartition("\n")
        self.stream.write(plain(whole + newline))
        return len(text)

    def flush(self) -> None:
        """Write what waits, as a line of its own."""
        if self._pending:
            self.stream.write(plain(self._pending))
            self._pending = ""
        self.stream.flush()

    def isatty(self) -> bool:
        """A job has no terminal."""
        return False


def summarize(path: Path, text: str) -> None:
    """Append to the summary of a step, as far as GitHub takes it.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("a", encoding="utf-8") as out:
        left = _SUMMARY_BYTES - out.tell()
        if len(text.encode("utf-8", "replace")) <= left:
            out.write(text)
        elif left > 0:
            whole = text.encode("utf-8", "replace")[:left].decode("utf-8", "ignore")
            kept, _, _ = whole.rpartition("\n")
            out.write(f"{kept}\n\nThe rest is left out: GitHub takes 1 MiB of a step.\n")


def outputs_file(environ: Mapping[str, str]) -> Path:
    """Where a job's outputs go.

    Raises:
        UsageError: this is no job of GitHub Actions.
        HostError: nothing can be written there.
    """
    path = environ.get("GITHUB_OUTPUT", "")
    if not path:
        raise errors.UsageError(
            "GITHUB_OUTPUT is not set", hint="--github-output is for jobs of GitHub Actions"
        )
    with _writing(path), Path(path).open("a", encoding="utf-8"):
        return Path(path)


def hand_on(environ: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write outputs of the job, each a name and one line.

    Raises:
        UsageError: this is no job of GitHub Actions.
        HostError: nothing can be written there. What the command did is done.
    """
    path = outputs_file(environ)
    with _writing(str(path)), path.open("a", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in outputs.items())


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise errors.HostError(
            "cannot write the outputs of the job",
            subject=path,
            observed=problem.strerror or str(problem),
            hint="make room for it, or let this user write it, then run again: what is done stays",
        ) from problem
