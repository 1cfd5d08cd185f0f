"""The release workflow itself, from its first job to its last, on look-alikes."""

from __future__ import annotations

from pathlib import Path

import pytest
import workflow_replay
import workflow_world
from workflow_replay import Replay, ReplayError
from workflow_runner import FAILURE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("shape", [workflow_world.DEV, workflow_world.PROD])
def test_a_release_goes_from_job_to_job(shape: workflow_world.Shape, tmp_path: Path) -> None:
    """With each secret left out once, and each job's runner lost in the middle and at the end."""
    with workflow_world.existing(tmp_path / "world") as world:
        one = Replay(world=world, shape=shape, say=print)
        one.whole()
        one.ended()


def test_a_broken_lane_and_a_validation(tmp_path: Path) -> None:
    """The merge names the lane and nothing is published; a validation publishes nothing either."""
    with workflow_world.existing(tmp_path / "world") as world:
        workflow_replay.broken_lane(world, print)
        workflow_replay.validation(world, print)


def test_a_bad_release_is_rolled_back(tmp_path: Path) -> None:
    """By its own workflow, with its own secrets alone, and whatever its reason says."""
    with workflow_world.existing(tmp_path / "world") as world:
        workflow_replay.rolled_back(world, print)


def test_the_weekly_watch_keeps_one_issue(tmp_path: Path) -> None:
    """It names each setting that is missing, and is closed once all is there."""
    with workflow_world.existing(tmp_path / "world") as world:
        workflow_replay.watched(world, print)


def test_a_hand_off_that_is_forgotten_is_found(tmp_path: Path) -> None:
    """Without the step that packs, the next job has nothing to take."""
    with workflow_world.existing(tmp_path / "world") as world:
        path = world.repository / ".github" / "workflows" / "release.yml"
        text = path.read_text()
        old = "          name: release-signed-${{ github.run_attempt }}\n"
        assert old in text
        path.write_text(text.replace(old, old.replace("release-signed", "other"), 1))
        one = Replay(world=world, shape=workflow_world.DEV, say=print)
        with pytest.raises(ReplayError, match="Artifact not found for name: release-signed-1"):
            one.whole(lacking=False, lost=False)
        assert one.run.results["notarize"].result == FAILURE


NOTARIZING = "release-notarizing-${{ needs.sign.outputs.attempt }}-${{ github.run_attempt }}"


def test_a_wait_in_vain_loses_nothing(tmp_path: Path) -> None:
    """Neither the signed bytes nor the submission, wherever the runner is lost."""
    with workflow_world.existing(tmp_path / "world") as world:
        workflow_replay.waited_in_vain(world, print)


def test_the_signed_bytes_are_lost_where_their_artifact_is_overwritten(tmp_path: Path) -> None:
    """The same scenario finds it: GitHub deletes before it uploads."""
    with workflow_world.existing(tmp_path / "world") as world:
        path = world.repository / ".github" / "workflows" / "release.yml"
        text = path.read_text()
        assert NOTARIZING in text
        again = "release-signed-${{ needs.sign.outputs.attempt }}\n          overwrite: true"
        text = text.replace(NOTARIZING, again)
        path.write_text(text.replace("attempt-${{ github.run_attempt }}.tar.gz", "handoff.tar.gz"))
        with pytest.raises(ReplayError, match="Artifact not found for name: release-signed-1"):
            workflow_replay.waited_in_vain(world, print)


def test_a_second_release_has_the_first_beside_it(tmp_path: Path) -> None:
    """Found by another run, verified, and compared; a stranger's or a damaged one is left."""
    with workflow_world.existing(tmp_path / "world") as world:
        workflow_replay.compared(world, print)
