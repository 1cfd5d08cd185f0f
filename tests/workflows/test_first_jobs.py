"""The first jobs of the release workflow, in every run of the tests; `make workflow` has all."""

from __future__ import annotations

from pathlib import Path

import pytest
import workflow_replay
import workflow_world
from workflow_replay import Replay
from workflow_runner import FAILURE, SUCCESS

ADDRESSES = {"PROD_R2_ENDPOINT", "PROD_R2_PUBLIC_URL"}


@pytest.mark.timeout(300)
def test_a_release_is_resolved_built_and_signed(tmp_path: Path) -> None:
    """A tag says what is released; a secret that lacks is named before anything is built."""
    with workflow_world.existing(tmp_path / "world") as world:
        run = Replay(world=world, shape=workflow_world.PROD, say=print).run
        told = run.run("resolve").outputs
        assert (told["environment"], told["version"]) == ("prod", "0.5.0")
        assert (told["flavour"], told["signer"]) == ("swift", "portable")
        for name in workflow_replay.FIRST[1:]:
            looked = run.run(name)
            assert looked.result == SUCCESS, looked.failed.log
            assert {secret for trace in looked.traces for secret in trace.holds} <= ADDRESSES
        early = run.branch(tmp_path / "early").run(
            "publishing-settings", without="PROD_RELEASE_KEY"
        )
        assert early.result == FAILURE
        assert "PROD_RELEASE_KEY" in early.failed.log
        assert run.run("build").result == SUCCESS
        lacking = run.branch(tmp_path / "lacking").run(
            "sign", without="PROVISIONING_PROFILE_BASE64"
        )
        assert lacking.result == FAILURE
        assert "PROVISIONING_PROFILE_BASE64 is not set" in lacking.failed.log
        signed = run.run("sign")
        assert signed.result == SUCCESS, signed.failed.log
        assert len(signed.outputs["head"]) == 64
        assert run.store.names() == ["binaries-1", "release-signed-1", "report-sign-1"]
