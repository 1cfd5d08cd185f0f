"""Whether the log tells of a version, as a job with the bucket's keys asks and one without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from release_tool import errors
from release_tool.cli import wiring
from release_tool.config import Resolved
from release_tool.credentials import Credentials, Secret
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.services.release_log import ReleaseLog
from tests import small_world
from tests.provenance import samples
from tests.small_world import SmallWorld, Stored
from tests.stages import release_chain
from tests.stages.release_parts import changed

KEY = samples.key()


@pytest.fixture
def world() -> Iterator[SmallWorld]:
    with small_world.existing() as made:
        yield made


def services(world: SmallWorld, plan: ReleasePlan, folder: Path, *names: str) -> wiring.Services:
    secrets = {name: Secret(name, "key-of-the-bucket") for name in names}
    kept = changed(plan, environment={"provenance": {"builder": "urn:release-tool:test"}})
    resolved = SimpleNamespace(
        plan=release_chain.start(world, kept, folder).plan,
        credentials=Credentials(secrets=secrets),
    )
    return wiring.Services(
        resolved=cast("Resolved", resolved),
        workspace=Workspace(folder),
        inputs=wiring.Inputs(environ={}),
    )


@pytest.mark.parametrize("names", [(), ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY")])
def test_the_log_tells_both_jobs_of_a_registration(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """None yet, of another version, of ours; and what is no log stops everything."""
    asked = services(world, plan, tmp_path, *names)
    kept = ReleaseLog(
        store=world.object_store(),
        prefix="releases",
        environment="rehearsal",
        key=KEY,
        trusted=(KEY.public,),
        policy=world.policy,
    )
    assert asked.is_logged() is False
    kept.append(samples.entry(version="0.4.9"))
    assert asked.is_logged() is False
    kept.append(samples.entry(version="0.5.0"))
    assert asked.is_logged() is True
    world.objects["releases/log.jsonl"] = Stored(b"no log\n")
    with pytest.raises(errors.VerificationError, match="log of releases"):
        asked.is_logged()
