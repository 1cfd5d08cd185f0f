"""Replays release.yml on this machine, job by job: `make workflow`.

Each job runs from the file itself, in a clean folder, with only what GitHub would give it: its own
secrets, the outputs of the jobs that it needs, and artifacts. Before each job comes every way in
which it can lack a secret, then runners that are lost in the middle of it and at its very end; the
job that is run again must bring the release to the same end. Proved is the file and the tool's
part in it. Replaced is what `workflow_program` names; GitHub itself and Apple are looked alike.
"""

from __future__ import annotations

import argparse
import fnmatch
import io
import json
import re
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import requests
import workflow_expressions as expressions
from workflow_files import Job, Step
from workflow_runner import FAILURE, LOST, SKIPPED, SUCCESS, Kill, Result, Run
from workflow_store import Store
from workflow_world import APPLES, DEV, PROD, STATED, Shape, World, existing

from release_tool import credentials
from release_tool.rehearsal import faults, places
from release_tool.rehearsal.github_store import Run as GitHubRun
from release_tool.rehearsal.wire import Rule

WATCH = "expiry-watch.yml"
FIRST = ("resolve", "signing-settings", "publishing-settings")
"""The jobs before the build."""
_RESTS_SECONDS = 0.02
_ALWAYS = 100_000
"""Faults: more than anybody asks."""

OPTIONAL = frozenset(one.name for one in credentials.SETTINGS if one.optional)


class ReplayError(AssertionError):
    """The workflow does not do what it must."""


def _require(held: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not held:
        raise ReplayError(what)


@dataclass(kw_only=True)
class Replay:
    """One release by one workflow.

    Args:
        world: around it.
        shape: how it begins.
        say: told what was done, line by line.
    """

    world: World
    shape: Shape
    say: Callable[[str], None]
    run: Run = field(init=False)
    _seen: set[str] = field(default_factory=set)
    _branches: int = 0

    def __post_init__(self) -> None:
        self.run = self.world.run(self.shape)

    def whole(self, *, lacking: bool = True, lost: bool = True) -> None:
        """Carry the release to its end.

        Args:
            lacking: whether each secret is left out once.
            lost: whether each job loses its runner.

        Raises:
            ReplayError: something is not as it must be.
        """
        for name in self.run.workflow.jobs:
            began = time.monotonic()
            tried = [*self._lacking(name)] if lacking else []
            if lost and self.run.wants(name):
                tried += self._lost(name)
            result = self.run.run(name)
            self._judge(name, result)
            told = f"  {name:<19} {result.result:<8} {time.monotonic() - began:6.1f} s"
            self.say(f"{told}  {'; '.join(tried)}".rstrip())

    def _judge(self, name: str, result: Result) -> None:
        if result.result == FAILURE:
            failed = result.failed
            raise ReplayError(f"{name} failed at {failed.name!r}:\n{failed.log[-4000:]}")
        self._leaks(result)

    def _leaks(self, result: Result) -> None:
        """No secret in any log, and none but addresses where something is installed."""
        secrets = self.world.secrets(self.shape) | {"GITHUB_TOKEN": self.run.tokens[0]}
        keys = {name: value for name, value in secrets.items() if not _is_plain(name)}
        for trace in result.traces:
            for name, value in keys.items():
                _require(value not in trace.log, f"{trace.job}: {name} is in a log")
                _require(value not in trace.summary, f"{trace.job}: {name} is in a summary")
            if trace.name.startswith("make"):
                _require(not trace.holds & keys.keys(), f"{trace.job}: installs with keys around")
            if trace.job.endswith("-settings"):
                _require(not trace.holds & keys.keys(), f"{trace.job}: it only looks")
            errors = sum(kind == "error" for kind, _ in trace.annotations)
            _require(errors <= 10, f"{trace.job}: GitHub shows ten errors of a step")

    # One secret missing.

    def _lacking(self, name: str) -> Iterator[str]:
        """Leave out each secret that this job is the first to name, and go on until it is missed.

        No job before can depend on it: none was told of it.
        """
        given = self.world.secrets(self.shape)
        new = sorted((_named(self.run.workflow.jobs[name]) & given.keys()) - self._seen)
        self._seen |= set(new)
        for secret in new:
            bare = secret.removeprefix(self.shape.prefix)
            # Left out from the beginning where the shape says so; or nobody misses it.
            if bare in STATED or bare in self._optional:
                continue
            where = self._miss(name, secret)
            yield f"without {secret}: refused in {where}"

    @property
    def _optional(self) -> frozenset[str]:
        """What nobody misses; production's registration is watched, so it needs its key."""
        is_watched = self.shape.environment == PROD.environment
        return OPTIONAL - {credentials.ADMIN_KEY} if is_watched else OPTIONAL

    def _miss(self, first: str, secret: str) -> str:
        before = self.world.counts()
        branch = self._branch(f"without-{secret}")
        jobs = list(branch.workflow.jobs)
        for name in jobs[jobs.index(first) :]:
            result = branch.run(name, without=secret)
            self._leaks(result)
            if result.result == FAILURE:
                break
        else:
            raise ReplayError(f"nothing misses {secret}")
        right = _user(branch, secret, self.shape.prefix)
        _require(name == right, f"{secret} is missed in {name}, and {right} needs it")
        failed = result.failed
        _require(_is_missed(secret, failed.log), f"{name} does not name {secret}")
        named = [text for kind, text in failed.annotations if kind == "error" and secret in text]
        _require(bool(named), f"no annotation of {name} names {secret}")
        after = self.world.counts()
        _require(before == after, f"without {secret} something was sent")
        return name

    def _branch(self, name: str) -> Run:
        self._branches += 1
        folder = self.run.folder.parent / f"{self.run.folder.name}-{self._branches:02}-{name}"
        return self.run.branch(folder)

    # Lost runners.

    def _lost(self, name: str) -> Iterator[str]:
        job = self.run.workflow.jobs[name]
        watch = self._watch(name)
        if watch is not None:
            result = self.run.run(name, kill=Kill(during=watch))
            self._leaks(result)
            # A job that was quicker than the eye is judged as any other.
            yield "lost in the middle" if result.result == LOST else "too quick to be lost"
        if any(step.uses == "actions/upload-artifact" for step in job.steps):
            yield self._lost_in_upload(name)
        self._forget(name)
        result = self.run.run(name, kill=Kill(before=len(job.steps)))
        self._require_lost(name, result, "at its end")
        yield "lost at the end"

    def _lost_in_upload(self, name: str) -> str:
        self._forget(name)
        there = self.run.store.names()
        result = self.run.run(name, kill=Kill(uploading="*"))
        if result.result == SUCCESS and self.run.store.names() == there:
            # Without a release before there is nothing to keep.
            return "uploads nothing"
        self._require_lost(name, result, "in its upload")
        return "lost in the upload"

    def _require_lost(self, name: str, result: Result, where: str) -> None:
        if result.result == FAILURE:
            self._judge(name, result)
        _require(result.result == LOST, f"{name} was not lost {where}")

    def _forget(self, name: str) -> None:
        """Let each row of a job run again."""
        for key in [key for key in self.run.finished if key[0] == name]:
            del self.run.finished[key]

    def _watch(self, name: str) -> Callable[[], bool] | None:
        """What is seen from outside when a job is in the middle of its work."""
        before = self.world.counts()
        released = places.github(self.world.living.state) / "state.json"
        stood = released.stat().st_mtime_ns if released.exists() else 0
        seen: dict[str, Callable[[], bool]] = {
            "sign": lambda: len([*self.run.folder.glob("*-sign/work/dist/*/*/ledger/*.json")]) > 1,
            # Before its upload a lost submission is waited for, as long as Apple might take.
            "notarize": lambda: len(self.world.counts().uploads) > len(before.uploads),
            "smoke": lambda: any(self.run.folder.glob("*-smoke/tmp/release-tool-smoke-*")),
            "publish": lambda: len(self.world.counts().registrations) > len(before.registrations),
            "promote": lambda: len(self.world.counts().writes) > len(before.writes),
            "github": lambda: released.exists() and released.stat().st_mtime_ns > stood,
        }
        watch = seen.get(name)
        if watch is None or (name == "github" and self.shape is not PROD):
            return None

        def rested() -> bool:
            time.sleep(_RESTS_SECONDS)
            return watch()

        return rested

    # What must be true at the end.

    def ended(self) -> None:
        """One registration of the one archive, signed once and notarized once.

        Raises:
            ReplayError: not so.
        """
        version, counts = self.shape.version, self.world.counts()
        made = [one for one in counts.registrations if one.version == version]
        _require(len(made) == 1, f"{version} was registered {len(made)} times")
        digest = made[0].bundle_hash
        key = f"releases/v{version}/darkbloom-bundle-macos-arm64.tar.gz"
        _require(counts.objects.get(key) == digest, "the bucket holds another archive")
        _require(digest in self.world.attested, "GitHub attested another archive")
        pointed = counts.objects.get("releases/latest/darkbloom-bundle-macos-arm64.tar.gz")
        _require(pointed == digest, "the alias leads to another archive")
        signed, last = (
            self._records("release-signed", "sign"),
            self._records(f"release-promoted-{self._family()}-{version}", "promote"),
        )
        _require(
            {name: signed[name] for name in signed} == {name: last[name] for name in signed},
            "what was released is not what was signed",
        )
        stages = [json.loads(text)["stage"] for _, text in sorted(last.items())]
        _require(stages.count("sign") == 1, "the signature was repeated")
        submitted = {json.loads(text)["value"]["submission_id"] for text in _done(last, "notarize")}
        mine = [one for one in counts.submissions if one.subject in submitted]
        same = [one for one in counts.submissions if one.sha256 == mine[0].sha256]
        _require(len(same) == 1, f"the same bytes were submitted {len(same)} times")
        self._on_github(version)

    def _on_github(self, version: str) -> None:
        state = places.github(self.world.living.state) / "state.json"
        releases = json.loads(state.read_bytes())["releases"] if state.exists() else []
        found = [one for one in releases if one["tag"] == f"v{version}"]
        wanted = 1 if self.shape is PROD else 0
        _require(len(found) == wanted, f"{len(found)} releases of {version} on GitHub")
        _require(not any(one["draft"] for one in found), "the release is still a draft")

    def _family(self) -> str:
        """Environment and flavour, as the first job told them."""
        told = self.run.results["resolve"].outputs
        return f"{told['environment']}-{told['flavour']}"

    def _records(self, artifact: str, giver: str) -> dict[str, str]:
        """The ledger in a handoff that lies in the store, by the names of its files."""
        name = f"{artifact}-{self.run.results[giver].outputs['attempt']}"
        with zipfile.ZipFile(self.run.store.folder / f"{name}.zip") as packed:
            whole = io.BytesIO(packed.read("handoff.tar.gz"))
        with tarfile.open(fileobj=whole, mode="r:gz") as tar:
            return {
                Path(member.name).name: content.read().decode()
                for member in tar
                if "/ledger/" in f"/{member.name}" and (content := tar.extractfile(member))
            }


def _done(records: dict[str, str], stage: str) -> list[str]:
    found = [text for text in records.values() if json.loads(text)["stage"] == stage]
    return [text for text in found if json.loads(text)["kind"] == "record"]


def _named(job: Job) -> set[str]:
    """The secrets that a job names."""
    found: set[str] = set()
    for environ in (
        job.environ,
        *(one for step in job.steps for one in (step.environ, step.given)),
    ):
        for text in map(str, environ.values()):
            for hole in expressions.holes(text):
                reads = expressions.references(hole)
                found |= {read[1] for read in reads if read[0] == "secrets"}
    return found


def _is_missed(secret: str, log: str) -> bool:
    """Whether a log names a secret as missing, beside the legacy name that would serve."""
    return re.search(rf"\b{secret}( or [A-Z0-9_]+)? is not set", log) is not None


def _is_plain(name: str) -> bool:
    return any(name.endswith(one.name) for one in credentials.SETTINGS if not one.secret)


def _user(run: Run, secret: str, prefix: str) -> str:
    """The job that looks, before the build, whether a setting is set."""
    setting = next(one for one in credentials.SETTINGS if one.name == secret.removeprefix(prefix))
    jobs = list(run.workflow.jobs)
    for name in jobs[: jobs.index("build")]:
        looked = {stage for step in run.workflow.jobs[name].steps for stage in _looked_at(step)}
        if set(setting.stages) & looked:
            return name
    raise ReplayError(f"no job looks before the build whether {secret} is set")


def _looked_at(step: Step) -> list[str]:
    """The stages whose settings a step asks for by name alone."""
    words = str(step.given.get("command", "")).split()
    return words[-1].split(",") if words[:2] == ["plan", "--set-for"] else []


def broken_lane(world: World, say: Callable[[str], None]) -> None:
    """A lane whose job fails is named by the merge; run again alone, it completes the release.

    Raises:
        ReplayError: not so.
    """
    one = Replay(world=world, shape=replace(DEV, version="0.5.1-dev.2"), say=say)
    run = one.run
    for name in (*FIRST, "earlier", "build", "sign", "notarize"):
        one._judge(name, run.run(name))  # noqa: SLF001 - one subject
    result = run.run("smoke", broken="newest")
    _require(result.result == FAILURE, "a matrix with a broken lane succeeded")
    result = run.run("smoked")
    _require(result.result == FAILURE, "a lane is missing and the merge succeeded")
    _require("lane newest handed nothing over" in result.failed.log, result.failed.log)
    for name in ("attest", "publish", "promote", "github"):
        _require(run.run(name).result == SKIPPED, f"{name} ran behind a missing lane")
    say("  a broken lane: named by the merge, and nothing was published")
    for name in ("smoke", "smoked"):
        one._judge(name, run.run(name))  # noqa: SLF001
    say("  its job run again alone: merged")


def waited_in_vain(world: World, say: Callable[[str], None]) -> None:
    """Apple's ticket is late, and the runner is lost while what was done is handed over.

    The signed bytes stay, each later attempt goes on from the last one that handed over, and one
    submission is all that Apple gets.

    Raises:
        ReplayError: not so.
    """
    one = Replay(world=world, shape=replace(DEV, version="0.5.1-dev.6"), say=say)
    run = one.run
    for name in (*FIRST, "build", "sign"):
        one._judge(name, run.run(name))  # noqa: SLF001 - one subject
    before = {sent.subject for sent in world.counts().submissions}
    world.living.set_faults({faults.TICKET_LATE: _ALWAYS})
    try:
        result = run.run("notarize", kill=Kill(uploading="release-*"))
        _require(result.result == LOST, "the runner was not lost in its upload")
        for attempt in (2, 3):
            result = run.run("notarize")
            _require(result.result == FAILURE, "a ticket that is not there was found")
            _require(
                "exit 8" in result.failed.log, f"it did not wait:\n{result.failed.log[-2000:]}"
            )
            kept = {f"release-notarizing-1-{attempt}", f"report-notarize-{attempt}"}
            _require(kept <= {*run.store.names()}, f"kept is no more than {run.store.names()}")
    finally:
        world.living.set_faults({faults.TICKET_LATE: 0})
    result = run.run("notarize")
    one._judge("notarize", result)  # noqa: SLF001
    unpacked = next(trace.log for trace in result.traces if "handoff unpack" in trace.name)
    _require("attempt-3.tar.gz" in unpacked, f"it does not go on from the last one:\n{unpacked}")
    mine = [sent for sent in world.counts().submissions if sent.subject not in before]
    _require(len(mine) == 1, f"{len(mine)} submissions")
    say("  notarize   success  lost while it handed over, then twice in vain: one submission")


def compared(world: World, say: Callable[[str], None]) -> None:
    """The smoke run of a second release has the first one beside it; of none it says so.

    What a stranger left under the right name is never fetched, and what does not hold is told and
    left, with the release going on without.

    Raises:
        ReplayError: not so.
    """
    first = _released(world, DEV)
    told = "".join(trace.summary for trace in first.results["earlier"].traces)
    _require("none of dev, " in told, f"the first one does not say that it is:\n{told}")
    say("  the first one: nothing before it, and its job says so")
    promoted = fnmatch.filter(first.store.names(), "release-promoted-*")[-1]
    forged = promoted.replace(DEV.version, "0.5.1-dev.8")
    world.strangers.append(
        GitHubRun(
            id=10**9,
            workflow="release.yml",
            event="pull_request",
            ref="patch-1",
            repository="somebody/fork",
            artifacts=(forged,),
        )
    )
    second = Replay(world=world, shape=replace(DEV, version="0.5.1-dev.9"), say=lambda _: None)
    run = second.run
    for job in (*FIRST, "build", "sign", "notarize"):
        second._judge(job, run.run(job))  # noqa: SLF001
    _refuses_what_does_not_hold(second, first.store.folder / f"{promoted}.zip")
    tried = [*second._lost("earlier")]  # noqa: SLF001
    _require("lost in the upload" in tried, f"earlier uploads nothing: {tried}")
    for job in ("earlier", "smoke", "smoked"):
        second._judge(job, run.run(job))  # noqa: SLF001
    for job in ("earlier", "smoke"):
        said = "".join(trace.summary for trace in run.results[job].traces)
        _require(DEV.version in said, f"{job} does not name the release before:\n{said}")
    for lane in ("oldest", "newest"):
        page = _content(run.store, f"report-smoke-{lane}-{run.attempt}", "report.html")
        tried_over = f"over the release before, {DEV.version}"
        _require(tried_over in page, f"{lane}: the installer was not tried over it")
    _require(
        DEV.version in _content(run.store, f"report-smoked-{run.attempt}", "report.md"),
        "the page of all lanes does not compare",
    )
    say(f"  earlier    success  {'; '.join(tried)}; one that is damaged: told, and left")
    say(f"  smoke      success  the installer over {DEV.version}, its figures beside")


def _refuses_what_does_not_hold(one: Replay, artifact: Path) -> None:
    """A handoff that was changed in GitHub's store: the job says so, and succeeds without it."""
    whole = artifact.read_bytes()
    with zipfile.ZipFile(artifact, "w") as packed:
        packed.writestr("handoff.tar.gz", b"another release" * 100)
    try:
        result = one.run.run("earlier")
    finally:
        artifact.write_bytes(whole)
    one._judge("earlier", result)  # noqa: SLF001 - one subject
    one._forget("earlier")  # noqa: SLF001
    _require(not result.outputs.get("attempt"), "something was handed on")
    _require("handoff earlier" in result.failed.name, f"{result.failed.name} failed")
    _require(bool(result.failed.annotations), "nobody is told what does not hold")


def _released(world: World, shape: Shape) -> Run:
    """The run that released a shape in this world; now, where none did."""
    for run in world.runs:
        told = run.results.get("resolve")
        if told and told.outputs.get("version") == shape.version and "promote" in run.results:
            return run
    one = Replay(world=world, shape=shape, say=lambda _: None)
    one.whole(lacking=False, lost=False)
    return one.run


def _content(store: Store, artifact: str, name: str) -> str:
    """One file of an artifact, wherever in it."""
    with zipfile.ZipFile(store.folder / f"{artifact}.zip") as packed:
        found = [member for member in packed.namelist() if member.endswith(f"/{name}")]
        found = [member for member in found if "dev.9" in member] or found
        return packed.read(found[0]).decode() if found else ""


def validation(world: World, say: Callable[[str], None]) -> None:
    """`validation_only` leaves an archive in the run, and nothing anywhere else.

    Raises:
        ReplayError: not so.
    """
    shape = replace(DEV, version="0.5.1-dev.3", inputs={"validation_only": True})
    before = world.counts()
    one = Replay(world=world, shape=shape, say=say)
    one.whole(lacking=False, lost=False)
    ran = {name: result.result for name, result in one.run.results.items()}
    for name in ("attest", "publish", "promote", "github"):
        _require(ran[name] == SKIPPED, f"{name} ran although nothing shall be published")
    _require("validated-archive-1" in one.run.store.names(), "no archive was kept")
    after = world.counts()
    _require(
        (before.writes, before.registrations) == (after.writes, after.registrations),
        "something was published",
    )


def watched(world: World, say: Callable[[str], None]) -> None:
    """expiry-watch.yml opens one issue for what is missing, keeps it, and closes it.

    Raises:
        ReplayError: not so.
    """
    one = Replay(world=world, shape=replace(PROD, by_tag=False, workflow=WATCH), say=say)
    secrets = sorted(_named(one.run.workflow.jobs["watch"]) & world.secrets(one.shape).keys())
    _require(len(secrets) == len(APPLES), f"it is given {secrets}")
    before = world.counts()
    for secret in secrets:
        one._judge("watch", one.run.run("watch", without=secret))  # noqa: SLF001
        one._forget("watch")  # noqa: SLF001
        (issue,) = _issues(world)
        _require(issue["state"] == "open", f"without {secret} all is said to be well")
        body = str(issue["body"]).replace("\\", "")
        _require(secret in body, f"no word of {secret}:\n{body}")
    say("  each secret missing once: one issue names it")
    one._judge("watch", one.run.run("watch"))  # noqa: SLF001
    (issue,) = _issues(world)
    _require(issue["state"] == "closed", f"the issue stays: {issue['body']}")
    after = world.counts()
    _require(
        (after.submissions, after.writes, after.registrations)
        == (before.submissions, before.writes, before.registrations),
        "something was submitted or published",
    )
    say("  watch      success  all is there: the issue is closed")


def _issues(world: World) -> list[dict[str, object]]:
    state = places.github(world.living.state) / "state.json"
    found: list[dict[str, object]] = json.loads(state.read_bytes())["issues"]
    return found


def rolled_back(world: World, say: Callable[[str], None]) -> None:
    """rollback.yml gives users the release before, whatever stands in its reason.

    Raises:
        ReplayError: not so.
    """
    good, bad = PROD.version, "0.5.1"
    for version in (good, bad):
        _released(world, replace(PROD, version=version))
    before = world.counts()
    shape = replace(
        PROD,
        by_tag=False,
        version=good,
        workflow="rollback.yml",
        inputs={
            "to": good,
            "deactivate": bad,
            "reason": 'no start: $(touch reason) `touch reason` "; ::error::x %0A',
        },
    )
    one = Replay(world=world, shape=shape, say=say)
    for secret in sorted(_named(one.run.workflow.jobs["rollback"]) & world.secrets(shape).keys()):
        branch = one._branch(f"without-{secret}")  # noqa: SLF001
        result = branch.run("rollback", without=secret)
        _require(result.result == FAILURE, f"nothing misses {secret}")
        _require(_is_missed(secret, result.failed.log), f"{secret} is not named")
        _require(branch.run("github").result == SKIPPED, "GitHub is told of no rollback")
    _require(world.counts() == before, "something was changed without a secret")
    say("  each secret missing once: refused by its name, nothing changed")
    _refused_in_between(one, bad)
    say("  rollback   failure  refused behind its tombstone (exit 7)")
    say("  github     success  all the same: it is marked there")
    wrote = one.run.run("rollback", kill=Kill(during=lambda: world.counts() != before))
    tried = "lost in the middle; " if wrote.result == LOST else ""
    one._judge("rollback", one.run.run("rollback"))  # noqa: SLF001
    objects = world.counts().objects
    alias = objects["releases/latest/darkbloom-bundle-macos-arm64.tar.gz"]
    archive = objects[f"releases/v{good}/darkbloom-bundle-macos-arm64.tar.gz"]
    _require(alias == archive, "the alias does not lead to the release before")
    kept = fnmatch.filter(one.run.store.names(), "rollback-ledger-*")
    _require(bool(kept), "no ledger of it was kept")
    _require(not list(world.folder.rglob("reason")), "a shell read the reason")
    say(f"  rollback   success  {tried}users get {good} again")
    _told_github(one, good, bad)
    say(f"  github     success  lost at its end; the log's new head is there, {bad} is marked")


def _refused_in_between(one: Replay, bad: str) -> None:
    """The coordinator refuses to deactivate: the tombstone stands, and GitHub must hear of it."""
    world, run = one.world, one.run
    refused = Rule(service="coordinator", kind="redirect", method="DELETE")
    world.living.set_rules([refused])
    try:
        result = run.run("rollback")
    finally:
        world.living.set_rules([])
    _require(result.result == FAILURE, "nobody was told that it is still active")
    _require("exit 7" in result.failed.log, f"it was not refused:\n{result.failed.log[-2000:]}")
    one._judge("github", run.run("github"))  # noqa: SLF001
    _require(_is_marked(world, bad), f"{bad} is not marked on GitHub")
    one._forget("github")  # noqa: SLF001


def _told_github(one: Replay, good: str, bad: str) -> None:
    """Each release there has the log's head as it is in the bucket, and the bad one says so."""
    run, world = one.run, one.world
    result = run.run("github", kill=Kill(before=len(run.workflow.jobs["github"].steps)))
    one._require_lost("github", result, "at its end")  # noqa: SLF001
    one._judge("github", run.run("github"))  # noqa: SLF001
    _require(_is_marked(world, bad), f"{bad} is not marked on GitHub")
    _require(not _is_marked(world, good), f"{good} is marked, too")
    head = requests.get(f"{world.living.r2_public_url}/releases/log.head.json", timeout=10).text
    for version in (good, bad):
        notes = str(_release(world, version)["body"])
        _require(head.strip() in notes, f"{version} has another head than the bucket:\n{notes}")


def _is_marked(world: World, version: str) -> bool:
    """An immutable release takes no more than a title and a text."""
    return str(_release(world, version)["name"]).endswith(" (withdrawn)")


def _release(world: World, version: str) -> dict[str, object]:
    state = places.github(world.living.state) / "state.json"
    releases: list[dict[str, object]] = json.loads(state.read_bytes())["releases"]
    return next(one for one in releases if one["tag"] == f"v{version}")


def _others(world: World, say: Callable[[str], None]) -> None:
    say("release.yml · dev, a lane that fails")
    broken_lane(world, say)
    say("release.yml · dev, Apple takes its time")
    waited_in_vain(world, say)
    say("release.yml · dev, validation_only")
    validation(world, say)
    say(f"{WATCH} · prod")
    watched(world, say)


# What goes on from the release of a shape, in its world.
_BEHIND = {
    DEV.environment: (compared, "release.yml · dev, a second release"),
    PROD.environment: (rolled_back, "rollback.yml · prod, a second release is taken back"),
}


def main() -> int:
    """Replay everything, and say what was proved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=("dev", "prod"), help="Only this one.")
    parser.add_argument("--quick", action="store_true", help="Neither lost runners nor secrets.")
    options = parser.parse_args()

    def say(text: str) -> None:
        print(text, flush=True)

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="workflow-") as scratch:
        folder = Path(scratch).resolve()
        for shape in (DEV, PROD):
            if options.shape not in (None, shape.environment):
                continue
            how = f"tag v{shape.version}" if shape.by_tag else "by hand"
            say(f"release.yml · {shape.environment} {shape.version}, {how}")
            # Each environment has a bucket of its own, and refuses the log of another.
            with existing(folder / shape.environment) as world:
                one = Replay(world=world, shape=shape, say=say)
                one.whole(lacking=not options.quick, lost=not options.quick)
                one.ended()
                if not options.quick:
                    behind, what = _BEHIND[shape.environment]
                    say(what)
                    behind(world, say)
        if not options.quick and options.shape is None:
            with existing(folder / "others") as world:
                _others(world, say)
    say(f"Replayed in {time.monotonic() - began:.0f} s. Replaced: Apple's roots and services,")
    say("GitHub and its runners, the Mac's executable in the smoke run, the install of the lock.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
