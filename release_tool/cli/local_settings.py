"""The settings of `.env.release` for the commands that need any, and what is odd about the file."""

from __future__ import annotations

from pathlib import Path

from release_tool import credentials, env_file, errors
from release_tool.cli.session import Session
from release_tool.services.git import Git

WITHOUT = frozenset(
    ("verify-profile", "verify", "inspect", "diff", "status", "completion", "schema")
)
"""Commands that need no setting; a file that is not fit must not stop them."""


def load(session: Session, path: Path) -> None:
    """Put the file's settings below the environment; one of a folder above is only told of.

    Args:
        session: whose environment gets them.
        path: of the file.

    Raises:
        CredentialError: others can read it, git tracks it, or it is no plain file.
        UsageError: a line of it is not understood.
    """
    folder = path.parent
    if folder != Path.cwd():
        _say(session, f"{path} is left unread: it serves commands that start in its folder")
        return
    if session.in_github_actions or session.environ.get("CI", "").strip().lower() == "true":
        # A job has its secrets from its environment; a file came with the source, and so from
        # whoever proposed a change to it.
        _say(session, f"{env_file.NAME} is left unread: this is a job, whose secrets are its own")
        return
    entries = env_file.parse(env_file.read(path))
    _judge_place(session, folder)
    session.environ, warnings = env_file.merge(session.environ, entries, folder)
    for text in warnings:
        _say(session, text)


def _judge_place(session: Session, folder: Path) -> None:
    git = Git(folder, credentials.scrubbed(session.environ))
    if git.tracks(env_file.NAME):
        raise errors.CredentialError(
            "git tracks the file of secrets",
            subject=env_file.NAME,
            expected="a file of this machine alone",
            hint=f"git rm --cached {env_file.NAME}, and make its keys anew where it was pushed",
        )
    if git.would_add(env_file.NAME):
        _say(session, f"git does not ignore {env_file.NAME}: add it to .gitignore")


def _say(session: Session, text: str) -> None:
    print(f"release-tool: warning: {text}", file=session.err)
