"""Want of room is told before what followed from it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.stages import room

HINT = "name another volume"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_volume_is_a_fault_of_the_host(tmp_path: Path, number: int) -> None:
    """Met by us or by a child that says so in its last words: exit 3, the folder and what to do."""
    told = os.strerror(number)
    by_child = errors.VerificationError(
        "the provider does not start", details=["exit code 1", f"OSError: [Errno 28] {told}"]
    )
    for met in (OSError(number, told), by_child):
        with pytest.raises(errors.HostError) as caught, room.blamed(tmp_path, hint=HINT):
            raise met
        assert caught.value.subject == str(tmp_path)
        assert caught.value.hint == HINT
        assert told in "\n".join(caught.value.lines())
        assert caught.value.observed == (told if isinstance(met, OSError) else met.message)


@pytest.mark.parametrize(
    "problem",
    [
        errors.VerificationError("the provider answers nonsense"),
        errors.TransientError("the model's host does not answer"),
        OSError(errno.EIO, "Input/output error"),
    ],
)
def test_with_room_every_verdict_stays_what_it_is(tmp_path: Path, problem: Exception) -> None:
    """Only a volume without room is blamed."""
    with pytest.raises(type(problem)) as caught, room.blamed(tmp_path, hint=HINT):
        raise problem
    assert caught.value is problem
