"""Child processes end with all they started, and know nothing of their parent's world."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from release_tool.services import child, process_table
from tests import smoke_parts

# Ignores TERM, and so does the grandchild that it leaves.
STUBBORN = "trap '' TERM; sleep 600 & echo started; while :; do sleep 1; done"


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def await_words(running: child.Child, words: str) -> None:
    deadline = time.monotonic() + 10
    while words not in running.stdout and time.monotonic() < deadline:
        time.sleep(0.02)
    assert words in running.stdout


def test_a_child_knows_its_own_small_world_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable of the parent reaches the child: neither a secret nor a proxy."""
    monkeypatch.setenv("RELEASE_KEY", "s3cret")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    world = child.small_world(tmp_path)
    done = child.run(["/usr/bin/env"], environment=world, folder=tmp_path, seconds=20)
    assert done is not None
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert names - {"LC_CTYPE", "__CF_USER_TEXT_ENCODING", "PWD", "SHLVL", "_"} == {
        *world,
        process_table.MARK,
    }
    assert "s3cret" not in done.stdout
    told = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert told["HOME"] == told["CFFIXED_USER_HOME"] == str(tmp_path)
    assert Path(world["TMPDIR"]).is_dir()


def test_a_stubborn_group_is_killed_whole(tmp_path: Path) -> None:
    """Who ignores TERM gets KILL, and so does the grandchild."""
    with child.running(
        shell(STUBBORN), environment={}, folder=tmp_path, grace_seconds=0.2
    ) as running:
        await_words(running, "started")
        assert len(smoke_parts.living(running.group)) >= 3
    assert smoke_parts.group_is_gone(running.group)


# Leaves its group and session, and forgets the environment that it was started with.
DAEMON = """
import os, sys
if os.fork():
    sys.exit()
os.setsid()
if os.fork():
    os._exit(0)
print(os.getpid(), flush=True)
arguments = [sys.executable, "-I", "-c", "import time; time.sleep(600)"]
os.execve(arguments[0], arguments, {} if sys.argv[1] == "forgets" else dict(os.environ))
"""
LINUX_ONLY = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux hands orphans to the guard"
)


@pytest.mark.parametrize("how", ["remembers", pytest.param("forgets", marks=LINUX_ONLY)])
def test_a_daemon_is_found_and_ended(how: str, tmp_path: Path) -> None:
    """A process that left group, session and parent is named and gone, without its mark too."""
    done = child.run(
        [sys.executable, "-I", "-c", DAEMON, how], environment={}, folder=tmp_path, seconds=20
    )
    assert done is not None
    assert done.ending.status == 0
    pid = int(done.stdout)
    (left,) = done.aftermath.left
    assert f"process {pid}" in left
    assert smoke_parts.group_is_gone(pid)


# Looks away three times, as if its daemon moved from one parent to another while it was read.
BLIND = """
import os, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from release_tool.services import child_guard, process_table
process_table.adopt_orphans()
started = subprocess.Popen(["/bin/sleep", "600"])
class Blind:
    MARK, kill, has_children = process_table.MARK, process_table.kill, process_table.has_children
    looks = 0
    def started_by(self, **asked):
        self.looks += 1
        return [] if self.looks <= 3 else process_table.started_by(**asked)
Blind.kill, Blind.has_children = map(staticmethod, (Blind.kill, Blind.has_children))
(named,) = child_guard._end_what_is_left(Blind())
print(named == f"sleep (process {started.pid})", process_table.has_children())
"""


def test_an_empty_table_is_no_proof_that_nothing_is_left(tmp_path: Path) -> None:
    """The guard asks the kernel for children, and looks again until it has named and ended them."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", BLIND, str(smoke_parts.CHECKOUT)],
        env={},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.stdout, done.stderr) == ("True False\n", "")


@LINUX_ONLY
def test_a_process_without_a_readable_environment_is_still_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Amid execve, or where a program hides it: by parent and group it is known all the same."""
    for pid, parent in ((10, 1), (11, 10), (12, 11), (13, 1)):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(f"{pid} (some (name) S {parent} {pid} {pid} 0 -1")
    (tmp_path / "12" / "environ").write_bytes(b"A=b\0RELEASE_TOOL_CHILD=ab12\0")
    monkeypatch.setattr(process_table, "_PROC", tmp_path)
    found = process_table.started_by(guard=10, mark="ab12")
    assert sorted((one.pid, one.marked) for one in found) == [(11, False), (12, True)]


def test_a_daemon_ends_when_the_guard_is_killed(tmp_path: Path) -> None:
    """A child that kills its own guard does not get away: its mark is looked for."""
    script = f"{sys.executable} -I -c '{DAEMON}' remembers; kill -KILL $PPID; sleep 600"
    with child.running(shell(script), environment={}, folder=tmp_path) as running:
        assert str(running.wait(10)) == "killed by SIGKILL"
        pid = int(running.stdout)
    assert smoke_parts.group_is_gone(pid)
    assert smoke_parts.group_is_gone(running.group)


def test_what_a_child_leaves_to_do_is_told(tmp_path: Path) -> None:
    """Ignoring TERM and leaving a process are told apart from a good end, which tells nothing."""
    for script, killed, left in (
        ("echo started; exec sleep 600", False, 0),
        ("trap '' TERM; echo started; while :; do sleep 0.1; done", True, 0),
        ("sleep 600 >/dev/null 2>&1 & echo started; exec sleep 600", False, 1),
    ):
        with child.running(
            shell(script), environment={}, folder=tmp_path, grace_seconds=0.3
        ) as running:
            await_words(running, "started")
        assert (running.aftermath.killed, len(running.aftermath.left)) == (killed, left), script


def test_who_ends_a_moment_later_is_not_left(tmp_path: Path) -> None:
    """A helper that sees the end of its parent and follows is no leftover."""
    script = "(while kill -0 $$ 2>/dev/null; do sleep 0.02; done) & exec sleep 0.1"
    done = child.run(shell(script), environment={}, folder=tmp_path, seconds=20)
    assert done is not None
    assert done.aftermath == child.Aftermath()


def test_ps_of_macos_is_read() -> None:
    """The mark counts as a word of its own; dead processes and broken lines do not count."""
    text = (
        "  501     1   501 S    /tmp/a b/darkbloom start HOME=/tmp/x RELEASE_TOOL_CHILD=ab12\n"
        "  502   501   501 Z    (darkbloom)\n"
        "  503   501   503 R+   /bin/sh RELEASE_TOOL_CHILD=ab123\n"
        "  junk\n\n  504 1 1 S\n"
    )
    found = list(process_table.parse_ps(text, "RELEASE_TOOL_CHILD=ab12"))
    assert [(one.pid, one.parent, one.group, one.marked) for one in found] == [
        (501, 1, 501, True),
        (503, 501, 503, False),
    ]
    assert found[1].name == "sh"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_an_exception_ends_the_group_too(interruption: type[BaseException], tmp_path: Path) -> None:
    """An interrupt or an error of the block leaves nothing behind."""
    groups = []

    def interrupted() -> None:
        script = shell("sleep 600 & sleep 600")
        with child.running(script, environment={}, folder=tmp_path) as running:
            groups.append(running.group)
            raise interruption

    with pytest.raises(interruption):
        interrupted()
    assert smoke_parts.group_is_gone(groups[0])


def test_grandchildren_of_a_dead_child_are_ended(tmp_path: Path) -> None:
    """A child that ended well may have left somebody in its group."""
    with child.running(
        shell("sleep 600 >/dev/null 2>&1 & exit 3"), environment={}, folder=tmp_path
    ) as running:
        ending = running.wait(10)
        assert str(ending) == "exit code 3"
    assert smoke_parts.group_is_gone(running.group)


def test_the_group_ends_when_the_tool_is_killed(tmp_path: Path) -> None:
    """After kill -9 of the process that started it, the guard ends the group."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from release_tool.services import child\n"
        "with child.running(['/bin/sh', '-c', sys.argv[2]], environment={},\n"
        "                   folder=Path('.'), grace_seconds=0.2) as running:\n"
        "    while 'started' not in running.stdout: time.sleep(0.02)\n"
        "    print(running.group, flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, str(smoke_parts.CHECKOUT), STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as tool:
        assert tool.stdout is not None
        group = int(tool.stdout.readline())
        assert smoke_parts.living(group)
        os.kill(tool.pid, signal.SIGKILL)
    assert smoke_parts.group_is_gone(group)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 0", "exit code 0"),
        ("exit 7", "exit code 7"),
        ("kill -KILL $$", "killed by SIGKILL"),
        ("kill -TERM $$", "killed by SIGTERM"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
    ],
)
def test_an_ending_is_read(script: str, expected: str, tmp_path: Path) -> None:
    """An exit code and a death by signal arrive through the guard as they were."""
    done = child.run(shell(script), environment={}, folder=tmp_path, seconds=20)
    assert done is not None
    assert str(done.ending) == expected


def test_what_cannot_start_says_so(tmp_path: Path) -> None:
    """A missing executable is an exit code with a word in the log."""
    done = child.run([str(tmp_path / "nothing")], environment={}, folder=tmp_path, seconds=20)
    assert done is not None
    assert (done.ending.status, done.log) == (
        127,
        (f"{tmp_path / 'nothing'}: No such file or directory",),
    )


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """`run` returns None at its time, and the child is gone."""
    start = time.monotonic()
    assert child.run(shell("sleep 600"), environment={}, folder=tmp_path, seconds=0.2) is None
    assert time.monotonic() - start < 5


def test_an_endless_log_is_kept_at_its_end_only(tmp_path: Path) -> None:
    """A child may write without end: it does not block, and the last lines are there."""
    script = "i=0; while [ $i -lt 40000 ]; do echo line-$i; i=$((i+1)); done"
    done = child.run(shell(script), environment={}, folder=tmp_path, seconds=60)
    assert done is not None
    assert len(done.stdout) <= 64 * 1024
    assert done.log[-1] == "line-39999"
    kept = done.record.splitlines()
    assert kept[:2] == ["-- standard output, 428890 bytes", "line-0"]
    (cut,) = [at for at, line in enumerate(kept) if "bytes left out" in line]
    whole = kept[1:cut] + kept[cut + 1 : -1]
    assert all(line == f"line-{line.removeprefix('line-')}" for line in whole)
    numbers = [int(line.removeprefix("line-")) for line in whole]
    assert numbers[cut - 1 :] == list(range(numbers[cut - 1], 40000))


def test_a_cut_hides_no_secret(tmp_path: Path) -> None:
    """Where a long output is cut in the middle of a line, that line goes: its key may be lost."""
    script = (
        "head -c 15900 /dev/zero | tr '\\0' x; echo; "
        "printf 'Authorization: Bearer '; head -c 70000 /dev/zero | tr '\\0' s; echo; echo end"
    )
    done = child.run(shell(script), environment={}, folder=tmp_path, seconds=20)
    assert done is not None
    assert "sss" not in done.record
    assert done.log[-1] == "end"


def test_a_flood_is_noticed(tmp_path: Path) -> None:
    """Who writes without end is told from who writes much; nothing of it piles up."""
    with child.running(shell("yes"), environment={}, folder=tmp_path) as running:
        deadline = time.monotonic() + 20
        while not running.flooded and time.monotonic() < deadline:
            time.sleep(0.02)
        assert running.flooded
        assert len(running.record) < 200_000
