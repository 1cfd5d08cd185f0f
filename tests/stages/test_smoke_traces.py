"""Nothing outside its home is touched, and what is touched is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from release_tool.stages.smoke_traces import Traces


@pytest.fixture
def places(tmp_path: Path) -> Path:
    for name in ("app/Contents", "world/home", "user/.darkbloom/logs", "tmp"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "app" / "Contents" / "a").write_text("a")
    (tmp_path / "user" / ".darkbloom" / "old").write_text("a")
    return tmp_path


def traces(places: Path) -> Traces:
    return Traces(
        folders={"the app": places / "app"},
        holders={"beside": places / "world"},
        users_home=places / "user",
        temporary=[places / "tmp"],
    )


def touched(found: Traces) -> dict[str, str]:
    return {check.subject: check.observed for check in found.judge() if check.outcome == "failed"}


def test_what_a_provider_may_do_is_no_trace(places: Path) -> None:
    """Its own home is its own, and what others write in everybody's folders is not its fault."""
    before = traces(places)
    (places / "world" / "home" / "x").write_text("x")
    (places / "user" / "document").write_text("x")
    (places / "tmp" / "of-somebody").write_text("x")
    assert touched(before) == {}
    assert {check.outcome for check in before.judge()} == {"passed"}


def test_every_change_of_the_app_is_named(places: Path) -> None:
    """New, changed, gone, another mode, a replaced file of the same size and time."""
    path = places / "app" / "Contents" / "a"
    for change in ("write", "remove", "mode", "replace"):
        before = traces(places)
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        if change == "write":
            (path.parent / "b").write_text("b")
        elif change == "remove":
            (path.parent / "b").unlink()
        elif change == "mode":
            path.chmod(0o700)
        else:
            (path.parent / "c").write_text("c")
            (path.parent / "c").replace(path)
            path.chmod(0o700)
            os.utime(path, ns=times)
        assert len(touched(before)) == 1, change


def test_what_is_new_beside_its_home_or_in_the_users_is_named(places: Path) -> None:
    """Both places are told, with what appeared there."""
    before = traces(places)
    (places / "world" / "y").write_text("y")
    (places / "user" / ".darkbloom" / "z").write_text("z")
    assert touched(before) == {"beside": "y", "~/.darkbloom": "z"}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("user/.darkbloom/logs/new", "~/.darkbloom"),
        ("user/.darkbloom/old", "~/.darkbloom"),
        ("user/.cache/huggingface/hub/models--a--b/snapshots/1/config.json", "~/.cache/hugg"),
        ("user/Library/Caches/darkbloom/kv/1", "the home of who runs this"),
        ("user/Library/LaunchAgents/io.darkbloom.provider.plist", "the home of who runs this"),
        ("user/Library/Preferences/io.Darkbloom.plist", "the home of who runs this"),
        ("user/.eigeninference", "the home of who runs this"),
        ("tmp/darkbloom.sock", "folders of temporary files"),
    ],
)
def test_whatever_is_written_deep_in_a_users_home_is_named(
    path: str, place: str, places: Path
) -> None:
    """New or changed, below folders that were there, in every place of a provider's kind."""
    (places / path).parent.mkdir(parents=True, exist_ok=True)
    before = traces(places)
    (places / path).write_text("written")
    ((where, told),) = touched(before).items()
    assert where.startswith(place)
    assert Path(path).name in told


def test_what_a_living_neighbour_may_have_written_is_not_blamed(places: Path) -> None:
    """Whose number stands in the user's own state: said, not judged; a dead one changes nothing."""
    pid = places / "user" / ".darkbloom" / "provider.pid"
    for number, outcome in ((os.getpid(), "not_checked"), (2**22 + 1, "failed")):
        pid.write_text(f"{number}\n")
        before = traces(places)
        (places / "user" / ".darkbloom" / "logs" / str(number)).write_text("x")
        (check,) = [one for one in before.judge() if one.outcome != "passed"]
        assert (check.outcome, check.subject) == (outcome, "~/.darkbloom")
