"""Every command's help: an example that the command itself takes, and nothing heavy to show it."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from release_tool import errors
from release_tool.cli import main
from release_tool.cli.session import Session

_OUTPUT = re.compile(r"\$\(release-tool ([^)]*)\)")
_LINE = re.compile(r"\brelease-tool ([a-z-].*?)(?: > .*)?$")
_ABSENT = re.compile(r"'([^']+)' does not exist")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Each command by its words, those of groups too."""
    context = click.Context(main.cli)
    for name in main._COMMANDS:
        found = main.cli.get_command(context, name)
        assert found is not None
        yield name, found
        if isinstance(found, click.Group):
            for inner in found.list_commands(context):
                command = found.get_command(context, inner)
                assert command is not None
                yield f"{name} {inner}", command


COMMANDS = dict(commands())


def examples(name: str) -> list[list[str]]:
    """The command lines that a help shows, each as words behind the program's name."""
    text = (COMMANDS[name].help or "").replace("\b", "")
    own = [line for line in text.splitlines() if "release-tool" in line and "`" not in line]
    found = [_OUTPUT.search(line) or _LINE.search(line) for line in own]
    return [shlex.split(one[1]) for one in found if one]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_shows_an_example_of_its_command(name: str) -> None:
    """Somebody in a hurry copies a line instead of reading options."""
    assert any(" ".join(words).startswith(name) for words in examples(name)), name


@pytest.mark.parametrize("name", COMMANDS)
def test_each_example_is_taken(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options, arguments and values are those of the command; files are made where named."""
    monkeypatch.chdir(tmp_path)
    for words in examples(name):
        _take(main.cli, words, tmp_path)


def _take(group: click.Group, words: list[str], folder: Path) -> None:
    command: click.Command = group
    context = click.Context(group)
    left = words
    while isinstance(command, click.Group) and left and not left[0].startswith("-"):
        inner = command.get_command(context, left[0])
        assert inner is not None, f"no command {left[0]}"
        command, left = inner, left[1:]
    # A command line names a handful of files at the most.
    for _ in range(8):
        try:
            command.make_context(" ".join(words), list(left), obj=Session({}))
        except click.exceptions.Exit:
            return
        except click.BadParameter as problem:
            _make(problem.message, folder, words)
        else:
            return
    pytest.fail(f"{shlex.join(words)} wants more and more files")


def _make(complaint: str, folder: Path, words: list[str]) -> None:
    """The file or folder that an example names and nobody has."""
    absent = _ABSENT.search(complaint)
    assert absent, f"{shlex.join(words)}: {complaint}"
    path = folder / absent[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    if complaint.startswith("Directory"):
        path.mkdir()
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_in_one_line_what_it_does(name: str) -> None:
    """A verb first and a full stop at the end, short enough for a list."""
    first = (COMMANDS[name].help or "").strip().splitlines()[0]
    assert first[0].isupper()
    assert first.endswith(".")
    assert len(first) <= 100


def test_the_list_of_commands_says_what_each_one_says() -> None:
    """The list is written beside the commands, so that it needs none of them."""
    out = io.StringIO()
    assert main.invoke([], Session({}, out=out)) == 0
    for name in main._COMMANDS:
        assert re.search(rf"(?m)^  {name} +[A-Z]", out.getvalue())


def test_every_command_is_there_without_the_extras(tmp_path: Path) -> None:
    """A plain install lacks the packages of the look-alikes and of mlx-lm; a rehearsal says so."""
    program = (
        "import sys\n"
        "for name in ('werkzeug', 'moto', 'flask', 'mlx', 'mlx_lm', 'transformers', 'pytest'):\n"
        "    sys.modules[name] = None\n"
        "from click.testing import CliRunner\n"
        "from release_tool.cli import entry, main\n"
        "for name in main._COMMANDS:\n"
        "    done = CliRunner().invoke(main.cli, [name, '--help'])\n"
        "    assert done.exit_code == 0, (name, done.exception)\n"
        "sys.argv = ['release-tool', 'rehearse', '--until', 'sign']\n"
        "entry.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == errors.HostError.exit_code, done.stderr
    assert "a rehearsal needs moto" in done.stderr
    assert "release-tool[rehearsal]" in done.stderr


@pytest.mark.parametrize("words", [["--help"], ["--version"], [], ["completion", "bash"]])
def test_help_and_version_load_nothing_heavy(words: list[str]) -> None:
    """Neither boto3 nor mlx, pydantic, cryptography, rich, requests or yaml: they take a second."""
    program = (
        "import sys\n"
        "from release_tool.cli import entry\n"
        f"sys.argv = ['release-tool', *{words!r}]\n"
        "try:\n    entry.main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = ['boto3', 'botocore', 'cryptography', 'jinja2', 'mlx', 'pydantic', 'requests',"
        " 'rich', 'semver', 'yaml', 'zlib_ng']\n"
        "sys.stderr.write(' '.join(name for name in heavy if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout
