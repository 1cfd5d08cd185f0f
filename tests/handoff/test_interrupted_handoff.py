"""Killed at every single change of the disk, a handoff leaves nothing or all; a rerun completes."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.handoff import unpacking
from release_tool.handoff.settling import settle
from release_tool.plan import ReleasePlan
from tests.handoff import releases
from tests.handoff.releases import Release
from tests.small_world import KilledError

_CHANGES = frozenset(
    {
        *("os.rename", "os.mkdir", "os.link", "os.symlink", "os.remove", "os.rmdir"),
        *("os.chmod", "os.truncate", "os.setxattr"),
    }
)


class Death:
    """Stands for `kill -9` at a change of the disk: that one and all behind it do not happen."""

    def __init__(self) -> None:
        self._left: int | None = None
        sys.addaudithook(self._hook)

    def strikes(self, at: int, work: Callable[[], object]) -> bool:
        """Whether `work` got as far as its change number `at`, and died of it."""
        self._left = at
        try:
            work()
        except KilledError:
            return True
        finally:
            self._left = None
        return False

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._left is None or not self._changes(event, arguments):
            return
        if self._left == 0:
            raise KilledError
        self._left -= 1

    @staticmethod
    def _changes(event: str, arguments: tuple[object, ...]) -> bool:
        if event != "open":
            return event in _CHANGES
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


@pytest.fixture(scope="module")
def death() -> Death:
    return Death()


@pytest.fixture
def here(tmp_path: Path, plan: ReleasePlan) -> Release:
    return releases.signed(tmp_path / "here" / "0.5.0", plan)


def test_a_killed_pack_leaves_no_archive(here: Release, tmp_path: Path, death: Death) -> None:
    """The archive has its name only when it is whole; an older one stays until then."""
    here.pack(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    target = tmp_path / "out" / "handoff.tar.gz"
    target.parent.mkdir()
    target.write_bytes(b"older")
    at = 0
    while death.strikes(at, lambda: here.pack(target)):
        assert target.read_bytes() == b"older", at
        at += 1
    assert at >= 3
    assert target.read_bytes() == whole


def test_a_killed_unpack_leaves_nothing_or_all(here: Release, tmp_path: Path, death: Death) -> None:
    """Of a new workspace: after each kill it is missing or whole, and a rerun makes it whole."""
    head = here.pack(tmp_path / "handoff")
    wanted = releases.named(here)
    at, died, whole = 0, True, 0
    while died:
        root = tmp_path / str(at) / "0.5.0"
        died = death.strikes(at, lambda: here.unpack(tmp_path / "handoff", root, head))  # noqa: B023
        if root.exists():
            assert releases.state(root) == wanted, at
            whole += 1
        here.unpack(tmp_path / "handoff", root, head)
        assert releases.state(root) == wanted, at
        shutil.rmtree(root.parent)
        at += 1
    assert at > 30
    assert whole


def test_a_killed_extension_leaves_the_old_or_the_new(
    here: Release, tmp_path: Path, death: Death
) -> None:
    """Of a workspace that is here: whoever locks it next finds it as it was, or extended."""
    first = here.pack(tmp_path / "first")
    old = here.unpack(tmp_path / "first", tmp_path / "old" / "0.5.0", first)
    before = releases.state(old.root)
    here.tree("sign", "signed", ["assemble"], word="again")
    releases.carried_on(here)
    head = here.pack(tmp_path / "second")
    after = releases.named(here)
    at, died = 0, True
    seen = {"old": 0, "new": 0}
    while died:
        root = tmp_path / str(at) / "0.5.0"
        # Linked, since nothing that stands is written into.
        shutil.copytree(old.root, root, symlinks=True, copy_function=os.link)
        died = death.strikes(at, lambda: here.unpack(tmp_path / "second", root, head))  # noqa: B023
        with Release(root, here.plan).ledger.lock():
            settle(root)
        found = releases.state(root)
        assert found in (before, after), at
        seen["new" if found == after else "old"] += 1
        if found == before:
            here.unpack(tmp_path / "second", root, head)
            assert releases.state(root) == after, at
        shutil.rmtree(root.parent)
        at += 1
    assert min(seen.values()) > 5
    assert releases.state(old.root) == before


def test_settling_itself_may_be_killed_again_and_again(
    here: Release, tmp_path: Path, death: Death
) -> None:
    """Each attempt gets one change further; records never stand before what they name."""
    first = here.pack(tmp_path / "first")
    came = here.unpack(tmp_path / "first", tmp_path / "there" / "0.5.0", first)
    releases.carried_on(here)
    head = here.pack(tmp_path / "second")

    def decided() -> bool:
        return (came.root / ".handoff").is_dir()

    at = 0
    while not decided():
        assert death.strikes(at, lambda: here.unpack(tmp_path / "second", came.root, head))
        at += 1
    at = 0
    while death.strikes(at % 3 + 1, lambda: settle(came.root)):
        if came.ledger.newest("archive"):
            assert (came.root / releases.ARCHIVE).exists()
        at += 1
    assert releases.state(came.root) == releases.named(here)


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """No file of this process may grow further."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_is_told_and_left_as_it_was(here: Release, tmp_path: Path) -> None:
    """Exit 3 on both sides, in the middle of a file; with room, the same command succeeds."""
    releases.carried_on(here)
    head = here.pack(tmp_path / "whole")
    root = tmp_path / "there" / "0.5.0"
    for room in (0, 100, 5_000, 60_000):
        with room_for(room), pytest.raises(errors.HostError):
            here.unpack(tmp_path / "whole", root, head)
        assert not root.exists()
        assert [path.name for path in (tmp_path / "there" / ".handoff").iterdir()] == [".lock"]
    with room_for(100), pytest.raises(errors.HostError):
        here.pack(tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there", "whole"]
    came = here.unpack(tmp_path / "whole", root, head)
    assert releases.state(came.root) == releases.named(here)


def test_a_run_that_began_meanwhile_is_not_touched(
    here: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody made the workspace while the handoff was read: exit 5, and theirs stays."""
    head = here.pack(tmp_path / "handoff")
    root = tmp_path / "there" / "0.5.0"

    def meanwhile(folder: Path) -> None:
        del folder
        (root / "ledger").mkdir(parents=True, exist_ok=True)
        (root / "ledger" / "theirs").touch()

    monkeypatch.setattr(unpacking, "_sync", meanwhile)
    exists = Path.exists
    # As seen before they came.
    monkeypatch.setattr(Path, "exists", lambda path: path != root and exists(path))
    with pytest.raises(errors.TransientError, match="meanwhile"):
        here.unpack(tmp_path / "handoff", root, head)
    assert [path.name for path in (root / "ledger").iterdir()] == ["theirs"]
