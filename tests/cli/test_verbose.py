"""`-v`: whom the tool asks, what it reuses and why; nothing without it, and never a secret."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import pytest

from release_tool import tracing
from release_tool.cli import main
from release_tool.cli.session import Session
from tests.cli.test_secrets_in_commands import _addresses, _given, _leaks, echo, release
from tests.scripted_server import ScriptedServer

__all__ = ["echo", "release"]


def told(*argv: str, environ: Mapping[str, str]) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    main.invoke(list(argv), Session(dict(environ), out=out, err=err))
    return out.getvalue(), err.getvalue()


@pytest.mark.slow
def test_whom_it_asks_is_told_without_a_secret(release: Path, echo: ScriptedServer) -> None:
    """Each request with its answer and its time, the store's too; the queries are left out."""
    environ = _given(_addresses(echo.url))
    out, err = told(
        *("doctor", "-v", "--env", "dev", "--online", "--config", str(release)), environ=environ
    )
    lines = [line for line in err.splitlines() if line.startswith("  [")]
    assert any("GET " in line and "/v1/releases/latest: " in line for line in lines)
    assert any("POST " in line and "/v1/releases: " in line for line in lines)
    assert any("HEAD " in line and "/releases: " in line for line in lines)
    assert all("?" not in line for line in lines)
    assert _leaks(out + err, environ) == []


@pytest.mark.parametrize("argv", [("-v", "plan"), ("plan", "-v"), ("plan", "--verbose")])
def test_it_is_taken_in_front_and_behind(release: Path, argv: tuple[str, ...]) -> None:
    """Children are named as they start, with their first word alone."""
    environ = _given() | {"PATH": "/usr/bin:/bin"}
    _, err = told(
        *argv, *("--env", "dev", "--version", "0.5.0", "--config", str(release)), environ=environ
    )
    assert " s] starts git rev-parse\n" in err


def test_without_it_nobody_listens(release: Path) -> None:
    """Nor after a command with it has ended: what is told then goes nowhere."""
    common = ("--env", "dev", "--version", "0.5.0", "--config", str(release))
    environ = _given() | {"PATH": "/usr/bin:/bin"}
    told("-v", "plan", *common, environ=environ)
    _, err = told("plan", *common, environ=environ)
    assert "starts git" not in err
    tracing.tell("to nobody")


def test_a_question_without_an_answer_is_told_as_such() -> None:
    """Whatever ends it."""
    heard: list[str] = []
    tracing.listen(heard.append)
    try:
        with pytest.raises(ZeroDivisionError), tracing.asking("GET http://127.0.0.1/x"):
            raise ZeroDivisionError
        with tracing.asking("GET http://127.0.0.1/y") as question:
            question.answer = "200"
    finally:
        tracing.listen(None)
    assert heard[0].startswith("GET http://127.0.0.1/x: no answer, 0.0")
    assert heard[1].startswith("GET http://127.0.0.1/y: 200, 0.0")
