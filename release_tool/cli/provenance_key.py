"""`release-tool provenance-key`: make the key that signs provenance and the log of releases."""

from __future__ import annotations

import os
from pathlib import Path

import click

from release_tool import errors
from release_tool.cli.session import Session, pass_session
from release_tool.provenance import keys

_PRIVATE = 0o600


@click.command("provenance-key")
@click.argument("file", type=click.Path(path_type=Path))
@pass_session
def command(session: Session, file: Path) -> None:
    """Make an Ed25519 key in FILE, which nobody else can read, and print its public line.

    The text of FILE is the secret PROVENANCE_KEY (DEV_PROVENANCE_KEY, PROD_PROVENANCE_KEY); the
    line goes under `provenance: keys:` of that environment in release.yaml. An existing file is
    never written over: then its public line is printed again.

    \b
    release-tool provenance-key prod-provenance.pem
    gh secret set PROD_PROVENANCE_KEY --env prod < prod-provenance.pem
    """
    try:
        key = keys.load(_made(file).encode())
    except errors.FormatError as problem:
        raise errors.UsageError(
            f"this file stands there and {problem.message}",
            subject=str(file),
            observed=problem.observed,
            hint="it was left as it is: name another file",
        ) from None
    print(f"{key.public.line}", file=session.out)
    print(f"  key {key.public.keyid[:12]} in {file}", file=session.err)


def _made(file: Path) -> str:
    text = keys.make()
    try:
        found = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    except FileExistsError:
        return _standing(file)
    except OSError as problem:
        raise _refused("the key cannot be written", file, problem) from problem
    with os.fdopen(found, "w", encoding="ascii") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    return text


def _standing(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, ValueError) as problem:
        raise _refused("this file stands there and cannot be read", file, problem) from problem


def _refused(message: str, file: Path, problem: Exception) -> errors.HostError:
    observed = problem.strerror if isinstance(problem, OSError) else "no text of a key"
    return errors.HostError(
        message, subject=str(file), observed=observed or "", hint="name another file"
    )
