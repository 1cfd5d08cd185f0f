"""The look-alike of the model hub is one that the hub's own public client understands.

That client is an independent program: it comes with mlx-lm, and nothing of ours uses it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from release_tool.progress import Silent
from release_tool.rehearsal import faults
from release_tool.services import hub_cache
from release_tool.services.model_store import Pin
from tests import hub_world
from tests.hub_world import COMMIT, FILES, MODEL, READER

pytest.importorskip("huggingface_hub")

DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1], revision=sys.argv[2] or None))
"""


def downloaded(
    world: hub_world.World, home: Path, model: str, revision: str, token: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": world.settings.hub_url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **({"HF_TOKEN": token} if token else {}),
    }
    return subprocess.run(
        [sys.executable, "-c", DOWNLOAD, model, revision],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_hubs_own_client_gets_the_same_model(tmp_path: Path) -> None:
    """By branch, with a token: the same files, so the same digest; and its cache serves us."""
    with hub_world.living(tmp_path) as world:
        world.settings.page = 3
        world.add("org/closed", access="gated", readers=frozenset({READER}))
        for model, token in ((MODEL, ""), ("org/closed", READER)):
            done = downloaded(world, tmp_path, model, "", token)
            assert done.returncode == 0, done.stderr
            theirs = Path(done.stdout.strip())
            pin = Pin(model, COMMIT, hub_world.digest(FILES))
            assert hub_cache.digest(theirs) == pin.sha256
            ours = world.store(token).obtain(pin, Silent())
            assert hub_cache.digest(ours) == pin.sha256
            cache = tmp_path / "hf" / "hub"
            assert hub_cache.find(model, revision="", hub=cache) == theirs.resolve()
        assert world.hub.tokens_at_the_store == []


@pytest.mark.parametrize(
    ("model", "revision", "fault", "said"),
    [
        ("org/closed", "", "", "GatedRepoError"),
        ("org/none", "", "", "RepositoryNotFoundError"),
        (MODEL, "no-such-branch", "", "RevisionNotFoundError"),
    ],
)
def test_the_hubs_own_client_reads_the_refusals(
    model: str, revision: str, fault: str, said: str, tmp_path: Path
) -> None:
    """Each by the name that it has there."""
    with hub_world.living(tmp_path) as world:
        world.add("org/closed", access="gated", readers=frozenset({READER}))
        world.broken.set({fault: 1} if fault else {faults.HUB_HTML: 0})
        done = downloaded(world, tmp_path, model, revision)
        assert done.returncode != 0
        assert said in done.stderr
