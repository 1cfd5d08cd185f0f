"""How we speak to GitHub Actions: the workflow commands that we print, the outputs of a job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from release_tool import errors


def error(text: str) -> str:
    """One `::error` command whose text cannot end it or begin another."""
    return _annotation("error", text)


def warning(text: str) -> str:
    """The same as a `::warning`."""
    return _annotation("warning", text)


def _annotation(kind: str, text: str) -> str:
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{kind} title=release-tool::{escaped}"


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
