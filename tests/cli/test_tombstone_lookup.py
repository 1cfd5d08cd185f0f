"""Where a job looks for a tombstone: the bucket with its keys, the public address without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from release_tool.cli.wiring import Inputs, Services
from release_tool.credentials import Credentials, Secret
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.services import tombstone
from release_tool.services.tombstone import Tombstone, WithdrawnError
from tests import small_world
from tests.scripted_server import Reply, Request
from tests.small_world import BUCKET, SmallWorld, Stored

STONE = Tombstone(
    version="0.5.0", platform="macos-arm64", sha256="9" * 64, at="now", by="me", reason="bad"
)
KEYS = ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY")


@pytest.fixture
def world() -> Iterator[SmallWorld]:
    """A bucket and its public address."""
    with small_world.existing() as made:
        yield made


@pytest.mark.parametrize("keys", [KEYS, KEYS[:1], ()], ids=["both keys", "one key", "no key"])
def test_a_job_looks_where_it_can(
    world: SmallWorld, plan: ReleasePlan, tmp_path: Path, keys: tuple[str, ...]
) -> None:
    """A job that only registers has no keys of the bucket, and is refused all the same."""
    endpoints = plan.endpoints.model_copy(
        update={
            "r2_endpoint": world.store_url,
            "r2_public_url": world.public_url,
            "r2_bucket": BUCKET,
        }
    )
    secrets = {name: Secret(name, "look-alike") for name in keys}
    resolved = SimpleNamespace(
        plan=plan.model_copy(update={"endpoints": endpoints}),
        credentials=Credentials(secrets=secrets),
    )
    wiring = Services(
        resolved=resolved,  # type: ignore[arg-type]
        workspace=Workspace(tmp_path),
        inputs=Inputs(environ={}),
    )
    asked: list[str] = []

    def watch(request: Request) -> Reply | None:
        asked.append("public" if request.path.startswith("/public/") else "bucket")
        return None

    world.before = watch
    wiring.look_out()
    world.objects["releases/v0.5.0/tombstone.json"] = Stored(tombstone.encode(STONE))
    with pytest.raises(WithdrawnError):
        wiring.look_out()
    assert set(asked) == {"bucket" if keys == KEYS else "public"}
