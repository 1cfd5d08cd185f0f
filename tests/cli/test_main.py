"""The entry point: exits by remedy, and speaks to people, jobs and programs."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from release_tool import errors
from release_tool.cli import main
from release_tool.cli.session import Session


def invoke(*argv: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main.invoke(list(argv), Session(dict(environ or {}), out=out, err=err))
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command of the real group that raises what the test puts here."""
    raised: list[BaseException] = []

    @click.command("status")
    @click.option("--json", "as_json", is_flag=True)
    def command(*, as_json: bool) -> None:
        raise raised[0]

    monkeypatch.setattr("release_tool.cli.status.command", command)
    return raised


ALL_ERRORS = [
    (errors.UsageError, 2),
    (errors.RepeatRefusedError, 2),
    (errors.HostError, 3),
    (errors.CredentialError, 4),
    (errors.TransientError, 5),
    (errors.VerificationError, 6),
    (errors.FormatError, 6),
    (errors.RemoteRefusedError, 7),
    (errors.PendingError, 8),
]


@pytest.mark.parametrize(("kind", "code"), ALL_ERRORS)
def test_each_error_has_its_exit_code(
    failing: list[BaseException], kind: type[errors.ReleaseError], code: int
) -> None:
    """The exit code goes by remedy, and the text tells expected, observed and the next step."""
    failing.append(kind("it failed", subject="a.plist", expected="x", observed="y", hint="mend it"))
    exit_code, out, err = invoke("status")
    assert exit_code == code
    assert err.splitlines() == [
        "release-tool: a.plist: it failed",
        "  expected  x",
        "  observed  y",
        "  mend it",
        f"exit {code}",
    ]
    assert out == ""


def test_every_error_of_the_tree_is_listed_here() -> None:
    """No class of the tree lacks a code of its own choice."""

    def below(kind: type[errors.ReleaseError]) -> set[type[errors.ReleaseError]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    ours = {kind for kind in below(errors.ReleaseError) if kind.__module__ == "release_tool.errors"}
    assert ours - {errors.ReleaseError} == {kind for kind, _ in ALL_ERRORS}


def test_people_see_twelve_digits_of_a_digest(failing: list[BaseException]) -> None:
    """Digests are cut for people and whole for programs."""
    failing.append(errors.VerificationError("it failed", observed="0123456789ab" + "f" * 52))
    code, out, err = invoke("status", "--json")
    assert code == 6
    assert "observed  0123456789ab\n" in err
    assert json.loads(out)["observed"] == "0123456789ab" + "f" * 52


def test_json_asks_for_json_errors(failing: list[BaseException]) -> None:
    """With --json a failure is one JSON document on standard output."""
    failing.append(errors.VerificationError("it failed", subject="a.plist"))
    code, out, _ = invoke("status", "--json")
    assert code == 6
    assert json.loads(out)["subject"] == "a.plist"


def test_a_job_gets_an_annotation_that_text_cannot_break(failing: list[BaseException]) -> None:
    """Under GitHub Actions one ::error line carries the whole text, line ends escaped."""
    failing.append(errors.UsageError("bad % value\n::error::forged", hint="mend it"))
    _, out, _ = invoke("status", environ={"GITHUB_ACTIONS": "true"})
    (line,) = out.splitlines()
    assert line == "::error title=release-tool::bad %25 value%0A::error::forged%0Amend it"


def test_a_bug_shows_its_traceback(failing: list[BaseException]) -> None:
    """Whatever is not ours is a bug: exit 70, with the traceback."""
    failing.append(ZeroDivisionError("division by zero"))
    code, _, err = invoke("status")
    assert code == 70
    assert "ZeroDivisionError" in err


@pytest.mark.parametrize(
    ("problem", "subject"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/volume/file"), "/volume/file"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), str(Path.cwd())),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in [...]"), ""),
    ],
)
def test_a_full_disk_that_nobody_named_is_no_bug(
    failing: list[BaseException], problem: OSError, subject: str
) -> None:
    """Wherever it was met: exit 3, the place as far as it is known, and to make room."""
    failing.append(problem)
    code, out, err = invoke("status", "--json")
    assert code == 3
    assert "Traceback" not in err
    told = json.loads(out)
    assert (told["error"], told["subject"]) == ("HostError", subject)
    assert "make room" in told["hint"]


def test_any_other_fault_of_the_system_stays_a_bug(failing: list[BaseException]) -> None:
    """What nobody expected is to be reported."""
    failing.append(OSError(errno.EIO, "Input/output error"))
    code, _, err = invoke("status")
    assert code == 70
    assert "Traceback" in err


def test_an_interrupt_says_how_to_resume(failing: list[BaseException]) -> None:
    """Ctrl-C exits 130."""
    failing.append(KeyboardInterrupt())
    code, _, err = invoke("status")
    assert code == 130
    assert "interrupted" in err


@pytest.mark.parametrize(
    ("raised", "code", "name"),
    [
        (KeyboardInterrupt(), 130, "Interrupted"),
        (ZeroDivisionError("x"), 70, "Bug"),
        (errors.HostError("it failed"), 3, "HostError"),
    ],
)
def test_every_bad_end_is_one_json_document(
    failing: list[BaseException], raised: BaseException, code: int, name: str
) -> None:
    """A program reads `ok`, the error and the exit code whatever ended the command."""
    failing.append(raised)
    exit_code, out, _ = invoke("status", "--json")
    found = json.loads(out)
    assert (exit_code, found["ok"], found["error"], found["exit_code"]) == (code, False, name, code)


def test_a_bare_call_prints_the_help() -> None:
    """Without a command the help is the answer, on standard output, exit 0."""
    code, out, err = invoke()
    assert (code, err) == (0, "")
    assert out.startswith("Usage: release-tool")


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    """A wrong word exits 2 and names the command that was meant."""
    code, _, err = invoke("rehears")
    assert code == 2
    assert "did you mean rehearse?" in err


def test_every_command_has_help_with_an_example() -> None:
    """Each command documents itself and shows how it is called."""
    for name in main._COMMANDS:
        command = main.cli.get_command(click.Context(main.cli), name)
        assert command is not None, name
        assert f"release-tool {name}" in (command.help or ""), name


def test_the_group_imports_no_heavy_library() -> None:
    """Starting the tool loads neither pydantic nor rich nor boto3 nor requests."""
    script = (
        "import sys, release_tool.cli.main;"
        "print([m for m in ('pydantic', 'rich', 'boto3', 'requests', 'jinja2', 'yaml')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_status_without_a_release_says_how_to_begin(tmp_path: Path) -> None:
    """An empty folder is a usage error with the next step."""
    code, _, err = invoke("status", "--dist", str(tmp_path))
    assert code == 2
    assert "release-tool rehearse" in err


def test_a_folder_without_a_ledger_says_what_to_name(tmp_path: Path) -> None:
    """The next step stands under the refusal."""
    code, _, err = invoke("status", str(tmp_path))
    assert code == 2
    assert "there is no ledger here" in err
    assert "name the folder of one release" in err
