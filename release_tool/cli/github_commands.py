"""How we speak to GitHub Actions: the workflow commands that we print, the outputs of a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from release_tool import errors


def error(text: str) -> str:
    """One `::error` command whose text cannot end it or begin another."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::error title=release-tool::{escaped}"


def outputs_file(environ: Mapping[str, str]) -> Path:
    """Where a job's outputs go.

    Raises:
        UsageError: this is no job of GitHub Actions.
    """
    path = environ.get("GITHUB_OUTPUT", "")
    if not path:
        raise errors.UsageError(
            "GITHUB_OUTPUT is not set", hint="--github-output is for jobs of GitHub Actions"
        )
    return Path(path)


def hand_on(environ: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Write outputs of the job, each a name and one line.

    Raises:
        UsageError: this is no job of GitHub Actions.
    """
    with outputs_file(environ).open("a", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in outputs.items())
