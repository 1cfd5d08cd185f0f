"""What the release workflow hands from job to job."""

from __future__ import annotations

import fnmatch
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from release_tool import credentials, data, release_file, release_yaml
from release_tool.cli import handoff

RELEASE = Path(__file__).parent.parent / ".github" / "workflows" / "release.yml"
JOBS: dict[str, Any] = yaml.safe_load(RELEASE.read_text())["jobs"]
PAIRS = [
    *(("sign", "notarize"), ("notarize", "smoke"), ("smoke", "register"), ("register", "promote"))
]


def steps(job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = JOBS[job]["steps"]
    return found


def artifact(job: str, action: str) -> dict[str, str]:
    """What a job uploads or fetches last."""
    found: list[dict[str, str]] = [
        step["with"] for step in steps(job) if f"actions/{action}-artifact" in step.get("uses", "")
    ]
    return found[-1]


def handoffs(job: str) -> list[tuple[int, list[str], dict[str, Any]]]:
    """The calls of `handoff` with their places, as words."""
    return [
        (place, shlex.split(step["run"].split(" handoff ", 1)[1]), step)
        for place, step in enumerate(steps(job))
        if " handoff " in step.get("run", "")
    ]


@pytest.mark.parametrize(("giver", "taker"), PAIRS)
def test_a_job_takes_what_the_one_before_it_packed(giver: str, taker: str) -> None:
    """The same artifact, under the head that the giver's own job output names, before its run."""
    assert giver in JOBS[taker]["needs"]
    (_, pack, step) = next(one for one in handoffs(giver) if one[2].get("id") == "handoff")
    assert pack == ["pack", "--github-output"]
    assert JOBS[giver]["outputs"]["head"] == "${{ steps.handoff.outputs.head }}"
    assert steps(giver).index(step) > _place_of_run(giver)
    sent, fetched = artifact(giver, "upload"), artifact(taker, "download")
    assert (sent["name"], sent["path"]) == (fetched["name"], "dist/handoff.tar.gz")
    place, unpack, step = handoffs(taker)[0]
    assert place < _place_of_run(taker)
    assert unpack[:4] == ["unpack", f"{fetched['path']}handoff.tar.gz", "--expect", "$HEAD"]
    assert step["env"] == {"HEAD": f"${{{{ needs.{giver}.outputs.head }}}}"}


def _place_of_run(job: str) -> int:
    (place,) = [at for at, step in enumerate(steps(job)) if "release-tool run" in str(step)]
    return place


def test_a_job_that_waited_in_vain_hands_its_ledger_to_its_next_attempt() -> None:
    """What it packs then replaces what it fetched, and only that job takes what stands behind."""
    (notarize,) = [at for at, step in enumerate(steps("notarize")) if step.get("id") == "notarize"]
    pack, keep, *_ = steps("notarize")[notarize + 1 :]
    assert "steps.notarize.outcome" in pack["if"]
    assert keep["if"] == pack["if"]
    assert pack["run"].endswith("release-tool handoff pack")
    assert keep["with"]["name"] == artifact("notarize", "download")["name"]
    assert keep["with"]["overwrite"]
    continued = [job for job in JOBS for _, words, _ in handoffs(job) if "--continued" in words]
    assert continued == ["notarize"]


def test_the_workflow_calls_handoff_as_it_is() -> None:
    """Each call parses: no option that the command does not have."""
    for job in JOBS:
        for _, words, _ in handoffs(job):
            name, *rest = [word.replace("$HEAD", "ab" * 32) for word in words]
            found = handoff.command.commands[name]
            assert isinstance(found, click.Command)
            rest = [word.replace("dist/handoff.tar.gz", __file__) for word in rest]
            found.make_context(name, rest)


def test_every_job_is_told_the_same_release() -> None:
    """Environment, version and flavour come from the first job alone, and tags of every family."""
    names = ("environment", "version", "flavour")
    for job, section in JOBS.items():
        told = {name: section["env"][f"RELEASE_{name.upper()}"] for name in names}
        source = "inputs.{}" if job == "resolve" else "needs.resolve.outputs.{}"
        assert told == {name: f"${{{{ {source.format(name)} }}}}" for name in names}, job
    outputs = JOBS["resolve"]["outputs"]
    assert outputs == {name: f"${{{{ steps.plan.outputs.{name} }}}}" for name in names}
    release, _ = release_file.validate(release_yaml.read(data.release_file()), {})
    assert release
    # YAML 1.1 reads the key `on` as true.
    patterns = yaml.safe_load(RELEASE.read_text())[True]["push"]["tags"]
    for section in release.flavours.values():
        assert any(fnmatch.fnmatch(f"{section.tag_prefix}0.4.9", one) for one in patterns)


def test_secrets_stand_at_the_step_that_needs_them() -> None:
    """A whole job sees addresses only; keys and passwords are given to `run` alone."""
    secret = {setting.name for setting in credentials.SETTINGS if setting.secret}
    for job in JOBS:
        for step in [JOBS[job], *steps(job)]:
            named = {re.sub("^(DEV|PROD)_", "", name) for name in step.get("env", {})}
            if named & secret:
                assert "release-tool run" in step.get("run", ""), job
