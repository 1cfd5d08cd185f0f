"""The final archive is unpacked by our reader and by the system's tar, and both must agree."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.apple import checks
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.stages import final_copy, public_copy
from release_tool.stages.final_copy import FinalCopy
from tests.stages.test_smoke import World, of_a_signed_release


def system_tar(archive: Path, folder: Path) -> None:
    """Another reader of archives: this host's own."""
    subprocess.run(["tar", "-xpf", str(archive), "-C", str(folder)], check=True)


def spoiling(change: Callable[[Path], object]) -> Callable[[Path, Path], None]:
    """A tar that makes something else of one file."""

    def unpack(archive: Path, folder: Path) -> None:
        system_tar(archive, folder)
        change(folder / "Darkbloom.app" / "Contents" / "MacOS" / "darkbloom")

    return unpack


@pytest.fixture
def world(tmp_path: Path) -> World:
    return of_a_signed_release(tmp_path, tmp_path, {})


def unpack(
    plan: ReleasePlan,
    world: World,
    *,
    read: public_copy.Reader | None = None,
    system_unpack: final_copy.Unpack | None = None,
) -> FinalCopy:
    scratch = world.workspace.path("scratch")
    scratch.mkdir()
    return final_copy.unpack(
        plan,
        world.archive,
        world.workspace.path(world.archive.path),
        scratch,
        reporter=Silent(),
        read=read,
        system_unpack=system_unpack,
    )


def test_what_users_run_is_what_the_systems_tar_made(plan: ReleasePlan, world: World) -> None:
    """With a system's tar the app is taken from its folder, once it is file for file the same."""
    found = unpack(plan, world, system_unpack=system_tar)
    assert found.root.name == "unpacked-by-tar"
    assert found.app == found.root / "Darkbloom.app"
    assert (found.app / "Contents" / "MacOS" / "darkbloom").is_file()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"other"),
        lambda path: path.chmod(0o600),
        lambda path: path.unlink(),
        lambda path: path.with_name("more").write_bytes(b""),
    ],
)
def test_a_tar_that_makes_something_else_is_refused(
    change: Callable[[Path], object], plan: ReleasePlan, world: World
) -> None:
    """Another content, mode, or set of files: nothing of it is started."""
    with pytest.raises(errors.VerificationError, match="unpacks something else") as caught:
        unpack(plan, world, system_unpack=spoiling(change))
    assert len(caught.value.details) == 1


def test_it_is_verified_before_anything_starts(plan: ReleasePlan, world: World) -> None:
    """A failed check of what was unpacked ends it; facts come along where all holds."""
    failed = public_copy.Judged(checks=[checks.failed("page hashes")], facts=None)
    with pytest.raises(errors.VerificationError, match="nothing was started"):
        unpack(plan, world, read=lambda *_: failed)
