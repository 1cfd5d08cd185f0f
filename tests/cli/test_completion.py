"""Shell completion in a real bash, and in the other shells where they are installed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
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
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_release_tool_completion release-tool "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _environ(folder: Path) -> dict[str, str]:
    return {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}


def completed(*words: str, folder: Path) -> list[str]:
    """What bash offers for the last of these words."""
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", _ASK, "bash", "release-tool", *words],
        cwd=folder,
        env=_environ(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("",), list(main._COMMANDS)),
        (("ver",), [name for name in main._COMMANDS if name.startswith("ver")]),
        (("run", "--env", ""), ["rehearsal", "dev", "prod"]),
        (("run", "--until", "st"), ["staple"]),
        (("tag", "--flavour", "r"), ["rust-bridge"]),
        (("tag", "0.5.0", "--dr"), ["--dry-run"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("verify", ""), ["files: default"]),
        (("handoff", "pa"), ["pack"]),
    ],
)
def test_bash_is_offered_what_fits(
    words: tuple[str, ...], offered: list[str], tmp_path: Path
) -> None:
    """Commands, options, files, and the names of the release file and of stages."""
    found = [line for line in completed(*words, folder=tmp_path) if line]
    assert found == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_names_come_from_the_release_file_of_the_folder(tmp_path: Path) -> None:
    """A damaged one offers nothing, and says nothing in the middle of a command line."""
    (tmp_path / "release.yaml").write_text("environments: {x: [}")
    assert [line for line in completed("run", "--env", "", folder=tmp_path) if line] == []


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ver", {name for name in main._COMMANDS if name.startswith("ver")}),
        ("run --env ", {"rehearsal", "dev", "prod"}),
        ("run --until st", {"staple"}),
        ("tag 0.5.0 --dr", {"--dry-run"}),
        ("completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_fish_is_offered_what_fits(typed: str, offered: set[str], tmp_path: Path) -> None:
    """As bash: what fish itself says that it would show for a line."""
    script = f"release-tool completion fish | source; complete -C 'release-tool {typed}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        cwd=tmp_path,
        env=_environ(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    found = dict(line.partition("\t")[::2] for line in done.stdout.splitlines())
    assert found.keys() == offered
    for name, told in found.items():
        command = main.cli.get_command(click.Context(main.cli), name)
        # To its end, for all its commas.
        assert command is None or told.endswith("."), told


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("typed", "completed_to"),
    [
        ("verify-p", "verify-profile"),
        ("run --env re", "run --env rehearsal"),
        ("run --until st", "run --until staple"),
        ("tag 0.5.0 --dr", "tag 0.5.0 --dry-run"),
        ("completion z", "completion zsh"),
    ],
)
def test_zsh_completes_the_line(typed: str, completed_to: str, tmp_path: Path) -> None:
    """On a terminal, as a person would: the line is what TAB made of it."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        ["zsh", "-f", "-i"],
        cwd=tmp_path,
        env=_environ(tmp_path) | {"TERM": "dumb"},
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
        os.write(ours, f"release-tool {typed}\t\a".encode())
        taken = tmp_path / "taken"
        _wait_for(ours, taken)
        assert taken.read_text().strip() == f"<release-tool {completed_to} >"
    finally:
        child.kill()
        child.wait()
        os.close(ours)


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


def test_completing_a_command_imports_none() -> None:
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
        "COMP_WORDS": "release-tool ve",
        "COMP_CWORD": "1",
        "_RELEASE_TOOL_COMPLETE": "bash_complete",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"], **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "plain,verify" in done.stdout
    assert done.stderr == ""
