"""`.env.release`: what it means, and who must not be able to read it."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import credentials, data, env_file, errors
from release_tool.cli import main
from release_tool.cli.session import Session
from tests.cli.test_plan_command import APPLE, HIDDEN, SEVEN
from tests.git_trees import ENVIRON, commit, git

PEM = "-----BEGIN PRIVATE KEY-----\nkey-value\n-----END PRIVATE KEY-----"


def values(text: str) -> dict[str, str]:
    return {entry.name: entry.value for entry in env_file.parse(text.encode())}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        (" A=b ", "b"),
        ("  export A=b # c", "b"),
        ("A=b#c", "b#c"),
        ("A=", ""),
        ("A= # none", ""),
        ("A='b c $d `e` \\ \"f\" # g'", 'b c $d `e` \\ "f" # g'),
        ("A='b\n\nc'", "b\n\nc"),
        (r'A="b\nc\t\"d\" \\ \$e \`f"', 'b\nc\t"d" \\ $e `f'),
        ('A="b\nc" # d', "b\nc"),
        ("\ufeffA=b\r\n# c\r\n\r\n", "b"),
        ("A=päss", "päss"),
        ("#A=c\n\n \t\nA=b", "b"),
    ],
)
def test_a_line_means_what_a_shell_reads(text: str, value: str) -> None:
    """Comments, quotes, `export`, several lines: and nothing is expanded."""
    assert values(text) == {"A": value}


@pytest.mark.parametrize(
    "text",
    [
        *("A=b\nA=b", "A", "A b", "1A=b", "A-B=c", "=b", "A=b c", "A='b", 'A="b', "A='b'c"),
        *('A="b"c', 'A="$b"', "A=$b", "A=`b`", r"A=b\c", r'A="\q"', "A='b\x00'", "A='\x1b[31m'"),
        *("export", "source x", "A=b'c'", "A=b; id", "A =b", "A= b", "A='b' c", "\x00", "[A]\nB=c"),
    ],
)
def test_what_is_not_understood_is_refused_without_being_shown(text: str) -> None:
    """The line's number is enough: what stands there may be a key."""
    with pytest.raises(errors.UsageError) as caught:
        env_file.parse(f"SECRET=hunter2-hunter2\n{text}\n".encode())
    told = "\n".join(caught.value.lines())
    assert ".env.release:" in told
    assert "hunter2" not in told


@given(st.text(max_size=200))
def test_any_value_survives_single_quotes(value: str) -> None:
    """Whatever has no quote and no control character in it reads back as it is."""
    kept = "".join(one for one in value if one.isprintable() and one != "'")
    assert values(f"A='{kept}'\nB=c") == {"A": kept, "B": "c"}


@given(st.binary(max_size=200) | st.text(alphabet="A='\"\\$#\n b", max_size=60).map(str.encode))
def test_any_bytes_end_in_settings_or_one_error(content: bytes) -> None:
    """Nothing else escapes, and no setting is given twice."""
    try:
        found = env_file.parse(content)
    except errors.UsageError:
        return
    assert len({one.name for one in found}) == len(found)


@given(st.text(alphabet="ab'\"\\ #\n=", max_size=40))
def test_a_shell_reads_the_same(text: str) -> None:
    """What is understood here is what `sh` assigns; what it would read otherwise is refused."""
    content = f"A={text}\n"
    try:
        found = values(content)
    except errors.UsageError:
        return
    if set(found) != {"A"}:
        return
    shell = subprocess.run(
        ["/bin/sh", "-c", f'{content}\nprintf %s "$A"'], capture_output=True, check=True
    )
    assert shell.stdout.decode() == found["A"]


# The file and its place.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean clone with a release file, that ignores the file of secrets."""
    git(tmp_path, "init", "-q", "-b", "main")
    shutil.copy(data.release_file(), tmp_path)
    git(tmp_path, "add", ".")
    commit(tmp_path, ".gitignore", f"{env_file.NAME}\nkeys/\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, mode: int = 0o600, name: str = env_file.NAME) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    path.chmod(mode)
    path.write_text(text)
    return path


def everything() -> str:
    """All settings of dev, each in the way that suits it."""
    lines = ["# Local settings"]
    for name, value in {**{f"DEV_{one}": text for one, text in SEVEN.items()}, **APPLE}.items():
        lines.append(f"export {name}='{value}'")
    return "\n".join(lines) + "\n"


def plan(*argv: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    session = Session({**ENVIRON, **(environ or {})}, out=out, err=err)
    code = main.invoke(["plan", "--env", "dev", "--version", "0.5.0", *argv], session)
    return code, out.getvalue(), err.getvalue()


def test_a_plan_is_complete_by_the_file_alone(folder: Path) -> None:
    """Every setting is found there, and the plan tells name and line, never a value."""
    write(folder, everything())
    code, out, err = plan()
    assert (code, err) == (0, "")
    assert "DEV_RELEASE_KEY in .env.release:8" in out
    assert not any(hidden in out for hidden in HIDDEN)
    code, out, _ = plan("--json")
    told = json.loads(out)
    assert told["origins"]["credentials.RELEASE_KEY"] == {
        "kind": "settings file",
        "where": "DEV_RELEASE_KEY in .env.release:8",
    }
    assert told["plan"]["endpoints"]["r2_bucket"] == SEVEN["R2_BUCKET"]


def test_the_environment_wins(folder: Path) -> None:
    """What the process says stands above the file; a blank value says nothing."""
    write(folder, everything())
    environ = {"DEV_R2_BUCKET": "of-the-process", "DEV_RELEASE_KEY": " "}
    _, out, _ = plan("--json", environ=environ)
    told = json.loads(out)
    assert told["plan"]["endpoints"]["r2_bucket"] == "of-the-process"
    assert told["origins"]["credentials.R2_BUCKET"]["where"] == "DEV_R2_BUCKET"
    assert "env.release" in told["origins"]["credentials.RELEASE_KEY"]["where"]


def test_files_are_named_by_their_path(folder: Path) -> None:
    """A key as its .p8 and an identity as its .p12: no base64 by hand, relative to the file."""
    write(folder, PEM, name="keys/AuthKey.p8")
    (folder / "keys" / "identity.p12").write_bytes(b"\x30\x03abc")
    (folder / "keys" / "identity.p12").chmod(0o600)
    entries = env_file.parse(
        b"APPLE_API_KEY_P8=@keys/AuthKey.p8\nAPPLE_CERTIFICATE_P12='@keys/identity.p12'\n"
        b"APPLE_CERTIFICATE_PASSWORD=@home\n"
    )
    found, warnings = env_file.merge({}, entries, folder)
    assert not warnings
    assert found["APPLE_API_KEY_P8"] == PEM
    assert base64.b64decode(found["APPLE_CERTIFICATE_P12"]) == b"\x30\x03abc"
    assert found["APPLE_CERTIFICATE_PASSWORD"] == "@home"
    (folder / "keys" / "AuthKey.p8").chmod(0o640)
    with pytest.raises(errors.CredentialError, match=r"APPLE_API_KEY_P8.*AuthKey\.p8"):
        env_file.merge({}, entries, folder)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o620, 0o602, 0o601, 0o666])
def test_a_file_that_others_can_reach_is_refused(folder: Path, mode: int) -> None:
    """Exit 4, with the command that mends it; nothing of the file is used or shown."""
    write(folder, everything(), mode)
    code, out, err = plan()
    assert code == errors.CredentialError.exit_code
    assert f"observed  mode {mode:04o}" in err
    assert "chmod 600" in err
    assert out == ""


def test_a_link_is_refused(folder: Path) -> None:
    """Whatever it leads to: who may change the link chooses the file."""
    write(folder, everything(), name="elsewhere")
    (folder / env_file.NAME).symlink_to("elsewhere")
    code, _, err = plan()
    assert code == errors.CredentialError.exit_code
    assert "observed  a link" in err


def test_what_is_no_file_is_refused(folder: Path) -> None:
    """A folder or a pipe is told at once; a pipe that nobody writes to does not hang."""
    os.mkfifo(folder / env_file.NAME, 0o600)
    code, _, err = plan()
    assert code == errors.CredentialError.exit_code
    assert "expected  a plain file" in err
    (folder / env_file.NAME).unlink()
    (folder / env_file.NAME).mkdir(mode=0o700)
    assert plan()[0] == errors.CredentialError.exit_code


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_refused(folder: Path) -> None:
    """They can change it whatever its mode says."""
    path = write(folder, everything())
    os.chown(path, 12345, -1)
    code, _, err = plan()
    assert code == errors.CredentialError.exit_code
    assert "is another user's" in err


def test_a_file_that_git_tracks_is_refused(folder: Path) -> None:
    """Its keys are in the history: exit 4, and what to do."""
    write(folder, everything())
    git(folder, "add", "--force", env_file.NAME)
    code, _, err = plan()
    assert code == errors.CredentialError.exit_code
    assert "git tracks the file of secrets" in err
    assert "git rm --cached .env.release" in err


def test_a_file_that_git_does_not_ignore_is_told(folder: Path) -> None:
    """It serves, and the next `git add .` would take it."""
    write(folder, everything())
    (folder / ".gitignore").unlink()
    code, _, err = plan()
    assert code == 0
    assert err == "release-tool: warning: git does not ignore .env.release: add it to .gitignore\n"


def test_unknown_names_are_told_and_left_out(folder: Path) -> None:
    """A mistyped setting and a prefix of no environment; nothing else of the file gets in."""
    more = "DEV_RELEASE_KEYS=x\nPATH=/evil\nLD_PRELOAD=/evil\nPORD_RELEASE_KEY=y\n"
    write(folder, everything() + more)
    code, out, err = plan()
    assert code == 0
    assert "DEV_RELEASE_KEYS is no setting; did you mean DEV_RELEASE_KEY?" in err
    assert "PATH is no setting" in err
    assert "LD_PRELOAD is no setting" in err
    assert "PORD_RELEASE_KEY serves no environment: none has the prefix PORD_" in out
    out_of_doctor = io.StringIO()
    main.invoke(["doctor"], Session(dict(ENVIRON), out=out_of_doctor))
    assert "PORD_RELEASE_KEY serves no environment" in out_of_doctor.getvalue()


def test_a_setting_that_lacks_is_told_with_its_mistyped_prefix(folder: Path) -> None:
    """What lacks stops a run before any notice: the error itself says what stands in its place."""
    write(folder, everything().replace("DEV_RELEASE_KEY", "PORD_RELEASE_KEY"))
    for argv in (["plan"], ["run", "--until", "register"]):
        err = io.StringIO()
        session = Session(dict(ENVIRON), out=io.StringIO(), err=err)
        code = main.invoke([*argv, "--env", "dev", "--version", "0.5.0"], session)
        assert code == errors.CredentialError.exit_code
        assert "DEV_RELEASE_KEY is not set: wanted for register" in err.getvalue()
        assert ".env.release:8: PORD_RELEASE_KEY serves no environment" in err.getvalue()
        assert "set them in the environment or in .env.release" in err.getvalue()


def test_a_file_in_a_folder_above_is_told_and_left_unread(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to wonder why its settings are missing below the top; beyond it nobody looks."""
    write(folder, everything())
    below = folder / "sub" / "folder"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    code, _, err = plan()
    assert code == errors.CredentialError.exit_code
    assert f"{folder.resolve() / env_file.NAME} is left unread" in err
    git(below, "init", "-q")
    assert env_file.NAME not in plan()[2].replace("or in .env.release;", "")


@pytest.mark.parametrize("job", [{"GITHUB_ACTIONS": "true"}, {"CI": "true"}])
def test_a_job_never_reads_it(folder: Path, job: dict[str, str]) -> None:
    """Whoever proposes a change could add one; a job's secrets are its own."""
    write(folder, everything())
    code, _, err = plan(environ=job)
    assert code == errors.CredentialError.exit_code
    assert "is left unread" in err
    assert "settings are missing" in err


def test_commands_without_settings_leave_it_alone(folder: Path) -> None:
    """A file that is not fit stops neither `verify` nor anybody's help."""
    write(folder, "nonsense", 0o666)
    for argv in (["status"], ["plan", "--help"], ["verify", "release.yaml"]):
        out, err = io.StringIO(), io.StringIO()
        main.invoke(argv, Session(dict(ENVIRON), out=out, err=err))
        assert env_file.NAME not in err.getvalue()


def test_no_value_is_shown_by_what_holds_them(folder: Path) -> None:
    """Neither the environment nor an entry has a text form with a value in it."""
    (entry,) = env_file.parse(b"DEV_RELEASE_KEY=hunter2-hunter2")
    found, _ = env_file.merge({"A": "hunter2-hunter2"}, [entry], folder)
    assert "hunter2" not in f"{entry!r} {found!r} {found}"
    assert found["DEV_RELEASE_KEY"] == "hunter2-hunter2"


def test_children_get_none_of_it(folder: Path) -> None:
    """What tools are started with is chosen by name, wherever a value came from."""
    entries = env_file.parse(everything().encode())
    found, _ = env_file.merge({"PATH": "/bin", "SSH_AUTH_SOCK": "/s"}, entries, folder)
    assert credentials.scrubbed(found) == {"PATH": "/bin"}
    assert credentials.for_git(found)[0] == {"PATH": "/bin", "SSH_AUTH_SOCK": "/s"}
    assert credentials.for_pip(found) == {"PATH": "/bin"}
