"""Shell completion in a real bash, and in the other shells where they are installed."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from release_tool.cli import main
from release_tool.cli.session import Session

BIN = Path(sys.executable).parent
_ASK = """
exec 3>&1
eval "$(release-tool completion bash)"
complete -p release-tool >/dev/null || exit 9
compopt() { echo "files: $2" >&3; }
ask() {
  COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
  _release_tool_completion release-tool "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
  printf '%s\\n' "${COMPREPLY[@]}"
  echo "= end"
}
"""
_END = "= end\n"
_WORDS: dict[tuple[str, ...], list[str]] = {
    ("",): list(main._COMMANDS),
    ("ver",): [name for name in main._COMMANDS if name.startswith("ver")],
    ("run", "--env", ""): ["rehearsal", "dev", "prod"],
    ("run", "--until", "st"): ["staple"],
    ("tag", "--flavour", "r"): ["rust-bridge"],
    ("tag", "0.5.0", "--dr"): ["--dry-run"],
    ("completion", ""): ["bash", "zsh", "fish"],
    ("verify", ""): ["files: default"],
    ("handoff", "pa"): ["pack"],
}
_TYPED = {
    "ver": {name for name in main._COMMANDS if name.startswith("ver")},
    "run --env ": {"rehearsal", "dev", "prod"},
    "run --until st": {"staple"},
    "tag 0.5.0 --dr": {"--dry-run"},
    "completion ": {"bash", "zsh", "fish"},
}
_COMPLETED = {
    "verify-p": "verify-profile",
    "run --env re": "run --env rehearsal",
    "run --until st": "run --until staple",
    "tag 0.5.0 --dr": "tag 0.5.0 --dry-run",
    "completion z": "completion zsh",
}


def _environ(folder: Path) -> dict[str, str]:
    return {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}


def _told(command: Sequence[str], folder: Path) -> list[list[str]]:
    """What a shell said to each question: lines up to the mark of its end."""
    done = subprocess.run(
        command, cwd=folder, env=_environ(folder), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    *answers, rest = done.stdout.split(_END)
    assert rest == ""
    return [[line for line in answer.split("\n") if line] for answer in answers]


def completed(*lines: Sequence[str], folder: Path) -> list[list[str]]:
    """What one bash offers for the last word of each of these lines."""
    asked = [shlex.join(["ask", "release-tool", *words]) for words in lines]
    script = "\n".join([_ASK, *asked])
    return _told(["bash", "--norc", "--noprofile", "-c", script, "bash"], folder)


@pytest.fixture(scope="module")
def offered_by_bash(tmp_path_factory: pytest.TempPathFactory) -> dict[Sequence[str], list[str]]:
    """Its answers in one session, as whoever types has them."""
    found = completed(*_WORDS, folder=tmp_path_factory.mktemp("bash"))
    return dict(zip(_WORDS, found, strict=True))


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("words", _WORDS)
def test_bash_is_offered_what_fits(
    words: tuple[str, ...], offered_by_bash: dict[Sequence[str], list[str]]
) -> None:
    """Commands, options, files, and the names of the release file and of stages."""
    assert offered_by_bash[words] == _WORDS[words]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_names_come_from_the_release_file_of_the_folder(tmp_path: Path) -> None:
    """A damaged one offers nothing, and says nothing in the middle of a command line."""
    (tmp_path / "release.yaml").write_text("environments: {x: [}")
    assert completed(("run", "--env", ""), folder=tmp_path) == [[]]


@pytest.fixture(scope="module")
def offered_by_fish(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Its answers in one session: what each name is said to do."""
    asked = [f"complete -C 'release-tool {typed}'; echo '{_END.strip()}'" for typed in _TYPED]
    script = "; ".join(["release-tool completion fish | source", *asked])
    found = _told(["fish", "--no-config", "-c", script], tmp_path_factory.mktemp("fish"))
    told = [dict(line.partition("\t")[::2] for line in lines) for lines in found]
    return dict(zip(_TYPED, told, strict=True))


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize("typed", _TYPED)
def test_fish_is_offered_what_fits(typed: str, offered_by_fish: dict[str, dict[str, str]]) -> None:
    """As bash: what fish itself says that it would show for a line."""
    found = offered_by_fish[typed]
    assert found.keys() == _TYPED[typed]
    for name, told in found.items():
        command = main.cli.get_command(click.Context(main.cli), name)
        # To its end, for all its commas.
        assert command is None or told.endswith("."), told


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A terminal with a zsh that has taken its script, and the file where ^G puts the line."""
    folder = tmp_path_factory.mktemp("zsh")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        ["zsh", "-f", "-i"],
        cwd=folder,
        env=_environ(folder) | {"TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        # Quoted otherwise in the command than in what it prints, so an echo is no answer.
        os.write(ours, b"PS1='' PS2=''; autoload -U compinit; compinit -D; ")
        os.write(ours, b'eval "$(release-tool completion zsh)"; accept() { print "R"EADY; }\n')
        os.write(ours, b"taken() { print \"<$BUFFER\"'>' > taken; zle kill-whole-line; }; ")
        os.write(ours, b"zle -N taken; bindkey '^G' taken; accept\n")
        _read_until(ours, b"READY")
        yield ours, folder / "taken"
    finally:
        child.kill()
        child.wait()
        os.close(ours)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize("typed", _COMPLETED)
def test_zsh_completes_the_line(typed: str, terminal: tuple[int, Path]) -> None:
    """On a terminal, as a person would: the line is what TAB made of it."""
    ours, taken = terminal
    taken.unlink(missing_ok=True)
    os.write(ours, f"release-tool {typed}\t\a".encode())
    _wait_for(ours, taken)
    assert taken.read_text().strip() == f"<release-tool {_COMPLETED[typed]} >"


def _read_until(terminal: int, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        assert select.select([terminal], [], [], 60)[0], seen
        seen += os.read(terminal, 4096)


def _wait_for(terminal: int, path: Path) -> None:
    """Until a file has its line; what the shell prints meanwhile must not stop it."""
    until = time.monotonic() + 60
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < until
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 4096)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_takes_its_script(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names this program and its variable; where the shell is there, it reads it."""
    assert main.invoke(["completion", shell], Session({})) == 0
    script = capsys.readouterr().out
    assert re.search(rf"_RELEASE_TOOL_COMPLETE={shell}_complete", script)
    if shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(script)
        subprocess.run([shell, "-n", str(path)], check=True, timeout=60)


def test_an_unknown_shell_is_told_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2."""
    assert main.invoke(["completion", "ksh"], Session({})) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("ve", "plain,verify"), ("run --un", "plain,--until"), ("run --until st", "plain,staple")],
)
def test_completing_a_command_imports_none(typed: str, offered: str) -> None:
    """A TAB has to answer at once: nothing that only a command needs is loaded."""
    program = (
        "import sys\n"
        "from release_tool.cli import main\n"
        "try:\n    main.main([])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'pydantic', 'boto3', 'rich', 'requests', 'cryptography', 'yaml', 'mlx'}\n"
        "sys.stderr.write(' '.join(sorted(heavy & set(sys.modules))))\n"
    )
    asked = {
        "COMP_WORDS": f"release-tool {typed}",
        "COMP_CWORD": str(len(typed.split())),
        "_RELEASE_TOOL_COMPLETE": "bash_complete",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"], **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert offered in done.stdout
    assert done.stderr == ""
