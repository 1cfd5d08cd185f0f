"""Walks the workflow files: what they name exists in the tool, and the other way round."""

from __future__ import annotations

import fnmatch
import io
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import workflow_expressions as expressions
import yaml

from release_tool import credentials, data, release_file, release_yaml, version
from release_tool.cli import earlier_runs, main, wiring
from release_tool.cli.session import Session
from release_tool.release_file import ReleaseFile
from release_tool.services import hub_errors

GITHUB = Path(__file__).parent.parent / ".github"
ATTEMPT = "${{ github.run_attempt }}"
ACTION = "./.github/actions/release-tool"
HEAD = "ab" * 32
# YAML 1.1 reads the key `on` as true.
ON = True
FILES: dict[str, dict[Any, Any]] = {
    path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((GITHUB / "workflows").glob("*.yml"))
}
RELEASE = FILES["release.yml"]
COMPOSITE = yaml.safe_load((GITHUB / "actions/release-tool/action.yml").read_text())
JOBS: dict[str, dict[str, Any]] = RELEASE["jobs"]
ALL_JOBS = [(file, job) for file, found in FILES.items() for job in found["jobs"]]
PAIRS = [
    *(("sign", "notarize"), ("notarize", "smoke"), ("smoked", "attest"), ("smoked", "publish")),
    *(("publish", "promote"), ("promote", "github")),
]
# What each job runs of the pipeline, in its own words.
STAGES = {
    # Both only look whether the settings of these are set.
    "signing-settings": {"profile", "sign", "notarize"},
    "publishing-settings": {"publish", "register", "promote"},
    "sign": {"profile", "assemble", "sign"},
    "notarize": {"notarize", "staple", "archive"},
    "smoke": {"smoke"},
    "publish": {"publish", "register"},
    "promote": {"promote"},
    "github": {"github"},
}
LOOKING = ("signing-settings", "publishing-settings")
# What a job states because records that it goes on with do, beside what its own stages need.
ADDRESSES = ("R2_ENDPOINT", "R2_PUBLIC_URL", "R2_BUCKET", "COORDINATOR_URL")
STATED = {
    "smoke": ("R2_PUBLIC_URL", "COORDINATOR_URL"),
    "smoked": ("R2_PUBLIC_URL", "COORDINATOR_URL"),
    "attest": ("R2_PUBLIC_URL", "COORDINATOR_URL"),
    "github": ADDRESSES,
}
# What steps that call the tool by a shell tell, beside what the action hands on.
TOLD = {"rollback": {"version", "head", "withdrawn"}}
# The model hub's token is for models that are not open, and a release's is.
NOT_FOR_RELEASES = (hub_errors.TOKEN,)


def steps(job: str, file: str = "release.yml") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = FILES[file]["jobs"][job]["steps"]
    return found


def release() -> ReleaseFile:
    found, _ = release_file.validate(release_yaml.read(data.release_file()), {})
    assert found
    return found


def words_of(step: Mapping[str, Any]) -> list[str] | None:
    """The arguments that a step gives to the tool; None where it does not call it."""
    if step.get("uses") == ACTION:
        return str(step.get("with", {}).get("command", "")).split() or None
    run = str(step.get("run", ""))
    if "bin/release-tool" not in run:
        return None
    return shlex.split(run.split("bin/release-tool", 1)[1])


def texts(value: object) -> Iterator[str]:
    """Every text in a part of a workflow."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def references(value: object) -> Iterator[tuple[str, ...]]:
    """What its expressions read, conditions included."""
    for text in texts(value):
        for hole in expressions.holes(text):
            yield from expressions.references(hole)


def secrets_of(value: object) -> set[str]:
    return {found[1] for found in references(value) if found[0] == "secrets"}


# The files as such.


@pytest.mark.parametrize("file", FILES)
def test_a_workflow_starts_without_rights_and_cancels_nothing_that_ships(file: str) -> None:
    """Rights are given job by job; each job ends; every action is pinned by its hash."""
    found = FILES[file]
    assert found["permissions"] == {}
    for name, job in found["jobs"].items():
        assert job["permissions"], name
        assert job["timeout-minutes"] <= 120, name
    assert found["concurrency"]["cancel-in-progress"] is (file == "ci.yml")


def test_every_way_to_break_a_provider_is_tried_once_a_week() -> None:
    """As are hosts of two kinds: both are too long for every push, and run by nobody otherwise."""
    found = FILES["weekly-smoke.yml"]
    _, _, *when = found[ON]["schedule"][0]["cron"].split()
    assert when[:2] == ["*", "*"]
    assert when[2].isdigit()
    run = {step["run"] for job in found["jobs"].values() for step in job["steps"] if "run" in step}
    assert run == {"make smoke-faults", "make smoke-hosts"}


def test_every_action_from_elsewhere_is_pinned_by_hash() -> None:
    """Forty hex digits, and the version that they are beside them for people."""
    for path in (*(GITHUB / "workflows").glob("*.yml"), *GITHUB.rglob("action.yml")):
        for line in path.read_text().splitlines():
            if "uses:" in line and ACTION not in line:
                pinned = r"\s*-? ?uses: [a-z-]+/[a-z-]+@[0-9a-f]{40} # v[0-9]+(\.[0-9]+)*"
                assert re.fullmatch(pinned, line), (path.name, line)


@pytest.mark.parametrize(("file", "job"), ALL_JOBS)
def test_no_shell_reads_an_expression(file: str, job: str) -> None:
    """What others write reaches a shell as a variable alone, in the composite action too."""
    for step in (*steps(job, file), *COMPOSITE["runs"]["steps"]):
        assert "${{" not in step.get("run", ""), step


@pytest.mark.parametrize(("file", "job"), ALL_JOBS)
def test_what_an_expression_reads_is_there(file: str, job: str) -> None:
    """Outputs of jobs that are waited for, of earlier steps with that id, inputs, lanes."""
    found = FILES[file]
    section = found["jobs"][job]
    needed = section.get("needs", [])
    needed = [needed] if isinstance(needed, str) else needed
    inputs = ((found[ON] or {}).get("workflow_dispatch") or {}).get("inputs", {})
    ids = {step["id"] for step in section["steps"] if "id" in step}
    matrix = section.get("strategy", {}).get("matrix", {})
    lanes = {key for row in matrix.get("include", ()) for key in row} | matrix.keys()
    for read in references(section):
        match read:
            case ("needs", other, "outputs", name):
                assert other in needed, read
                assert name in found["jobs"][other]["outputs"], read
            case ("needs", other, "result"):
                assert other in needed, read
            case ("steps", step, *rest):
                assert step in ids, read
                assert rest[0] in ("outputs", "outcome"), read
                told = TOLD.get(step, COMPOSITE["outputs"].keys())
                assert rest[0] == "outcome" or rest[1] in told, read
            case ("inputs", name):
                assert name in inputs, read
            case ("matrix", name):
                assert name in lanes, read
            case ("secrets" | "vars" | "github" | "runner", *_):
                pass
            case _:
                pytest.fail(f"{job} reads {'.'.join(read)}")


@pytest.mark.parametrize("file", FILES)
def test_every_input_is_used_and_every_output_read(file: str) -> None:
    """Nothing is asked of who starts a workflow for nothing, and nothing told to nobody."""
    found = FILES[file]
    read = set(references(found["jobs"])) | set(references(found["concurrency"]))
    inputs = ((found[ON] or {}).get("workflow_dispatch") or {}).get("inputs", {})
    assert {("inputs", name) for name in inputs} <= read
    for job, section in found["jobs"].items():
        for name in section.get("outputs", ()):
            assert ("needs", job, "outputs", name) in read, (job, name)


# What they say to the tool.


@pytest.mark.parametrize(("file", "job"), ALL_JOBS)
def test_every_command_parses(file: str, job: str, tmp_path: Path) -> None:
    """No command and no option that the tool does not have."""
    there = tmp_path / "handoff.tar.gz"
    there.touch()
    for step in steps(job, file):
        words = words_of(step)
        if words is None:
            continue
        name, *rest = re.sub(r"\$\{\{.*?\}\}", HEAD, " ".join(words)).split()
        # A word that is there only if its variable says so.
        rest = [re.sub(r"^\$\{[A-Z]+:\+\$[A-Z]+\}$", "--force", word) for word in rest]
        rest = [str(there) if word.endswith("/handoff.tar.gz") else word for word in rest]
        rest = [str(tmp_path) if word == "binaries" else word for word in rest]
        command: click.Command | None = main.cli.get_command(click.Context(main.cli), name)
        if isinstance(command, click.Group):
            command = command.commands[rest.pop(0)]
        assert command is not None, name
        command.make_context(name, rest, obj=Session({}))


def test_the_tool_writes_the_outputs_that_the_action_hands_on(tmp_path: Path) -> None:
    """As many as `plan` writes, the head of a handoff, and where the release before is."""
    output = tmp_path / "output"
    environ = {"GITHUB_OUTPUT": str(output)}
    argv = ["plan", "--env", "dev", "--version", "0.5.0", "--github-output"]
    session = Session(environ, out=io.StringIO(), err=io.StringIO())
    assert main.invoke(argv, session) == 0
    told = {line.partition("=")[0] for line in output.read_text().splitlines()}
    found = earlier_runs.outputs(None)
    assert {*told, *found, "head"} == set(COMPOSITE["outputs"])
    for name, found in COMPOSITE["outputs"].items():
        assert found["value"] == f"${{{{ steps.command.outputs.{name} }}}}"
    assert {*JOBS["resolve"]["outputs"]} == told


def test_the_action_installs_with_nothing_secret_around() -> None:
    """The step that gives no command installs; whatever has a secret gives one."""
    for file, job in ALL_JOBS:
        calls = [step for step in steps(job, file) if step.get("uses") == ACTION]
        for at, step in enumerate(calls):
            assert ("with" in step) == (at > 0), (job, step)
            assert not (at == 0 and "env" in step), (job, step)
    first, second, third = COMPOSITE["runs"]["steps"]
    assert first["if"] == second["if"] == "${{ inputs.command == '' }}"
    assert third["if"] == "${{ inputs.command != '' }}"


# The secrets.


def names_of(setting: credentials.Setting) -> set[str]:
    """The names that any real environment looks a setting up under."""
    found = set()
    for section in release().environments.values():
        if not section.embedded:
            lookup = credentials.Lookup(
                values={}, prefix=section.prefix, legacy_fallback=section.legacy_fallback
            )
            found |= set(credentials.names(setting, lookup))
    return found


@pytest.mark.parametrize("job", JOBS)
def test_a_job_has_the_settings_of_its_own_stages_and_no_other(job: str) -> None:
    """Secrets by the stages that the tool itself names; addresses from where records hold them."""
    own = STAGES.get(job, set())
    secret: set[str] = set()
    plain: set[str] = set()
    for setting in credentials.SETTINGS:
        if set(setting.stages) & own and setting.name not in NOT_FOR_RELEASES:
            (secret if setting.secret else plain).update(names_of(setting))
        if not setting.secret and setting.name in STATED.get(job, ()):
            plain |= names_of(setting)
    if job == "earlier":
        secret.add("GITHUB_TOKEN")
    # The one legacy name that is a variable of the repository.
    assert secrets_of(JOBS[job]) == (secret | plain) - {"R2_BUCKET"}
    assert {name for name in plain if name in JOBS[job]["env"]} == plain
    # Keys belong to a protected environment; GITHUB_TOKEN each job has of its own.
    assert ("environment" in JOBS[job]) == bool(secret - {"GITHUB_TOKEN"})
    if secret - {"GITHUB_TOKEN"}:
        reaches = own & {"publish", "register", "promote"}
        assert ("needs.resolve.outputs.environment" in JOBS[job]["environment"]) == bool(reaches)
        assert ("signing" in JOBS[job]["environment"]) == (not reaches or job in LOOKING)


def test_what_is_wanted_late_is_asked_for_before_the_build() -> None:
    """Every setting of every job that signs or publishes, by jobs that get `set` or nothing."""
    assert {*LOOKING} <= set(JOBS["build"]["needs"])
    looked: set[str] = set()
    for job in LOOKING:
        (call,) = [step for step in steps(job) if words_of(step)]
        assert call["with"]["command"].startswith("plan --set-for ")
        stages = set(call["with"]["command"].split()[-1].split(","))
        assert stages == STAGES[job]
        looked |= stages
    late = set().union(*(own for job, own in STAGES.items() if job not in LOOKING))
    wanted = {
        one.name for one in credentials.SETTINGS if set(one.stages) & late and not one.optional
    }
    found = {one.name for one in credentials.SETTINGS if set(one.stages) & looked}
    # Each job has a token of its own.
    assert wanted <= found | {"GITHUB_TOKEN"}


def test_nothing_before_the_build_asks_reviewers_of_a_validation() -> None:
    """It runs in the environment without any, and no job is skipped: that would skip the build."""
    told = JOBS["publishing-settings"]
    assert told["environment"] == (
        "${{ inputs.validation_only && 'signing' || needs.resolve.outputs.environment }}"
    )
    assert "if" not in told
    (call,) = [step for step in steps("publishing-settings") if words_of(step)]
    assert call["if"] == "${{ !inputs.validation_only }}"


def test_secrets_stand_at_the_step_that_needs_them() -> None:
    """A whole job sees addresses only; keys and passwords are given to `run` alone."""
    secret = {name for one in credentials.SETTINGS if one.secret for name in names_of(one)}
    for file, job in ALL_JOBS:
        assert not secret & set(FILES[file]["jobs"][job].get("env", {})), job
        for step in steps(job, file):
            if secret & set(step.get("env", {})):
                words = words_of(step)
                assert words, (job, step)
                calls = ("run", "rollback", "expiries", "plan")
                assert words[0] in calls or words[:2] == ["handoff", "find"], (job, step)
                assert (words[0] == "plan") == (job in LOOKING), (job, step)
            for name in step.get("env", {}):
                given = step["env"][name]
                if name in secret:
                    shown = " && 'set'" if job in LOOKING else ""
                    assert given == f"${{{{ secrets.{name}{shown} }}}}", (job, name)


def test_every_setting_of_the_tool_reaches_some_job() -> None:
    """Under every name that an environment looks for it."""
    known = {name for setting in credentials.SETTINGS for name in names_of(setting)}
    given: set[str] = set()
    for file in FILES.values():
        given |= secrets_of(file["jobs"])
    assert given <= known
    left = known - given - {"R2_BUCKET"}
    assert {name for name in left if not name.endswith(hub_errors.TOKEN)} == set()


def test_a_rollback_has_what_promoting_has_and_the_administrators_key() -> None:
    """Nothing that signs, and nothing that registers; behind its environment's reviewers."""
    job = FILES["rollback.yml"]["jobs"]["rollback"]
    wanted = {
        name
        for setting in credentials.SETTINGS
        if "promote" in setting.stages or setting.name == credentials.ADMIN_KEY
        for name in names_of(setting)
    }
    assert secrets_of(job) == wanted - {"R2_BUCKET"}
    assert job["environment"] == "${{ inputs.environment }}"


def test_what_was_withdrawn_reaches_github_however_the_rollback_ends() -> None:
    """By the records of this very attempt, once tombstones stand; without another secret."""
    jobs = FILES["rollback.yml"]["jobs"]
    told = jobs["rollback"]["outputs"]
    assert told["withdrawn"] == "${{ steps.rollback.outputs.withdrawn }}"
    assert jobs["github"]["if"] == "${{ !cancelled() && needs.rollback.outputs.withdrawn }}"
    (call,) = [step for step in steps("rollback", "rollback.yml") if step.get("id") == "rollback"]
    assert "--github-output" in (words_of(call) or ())
    (sent,) = [
        step
        for step in steps("rollback", "rollback.yml")
        if str(step.get("with", {}).get("name", "")).startswith("rollback-ledger")
    ]
    assert sent["if"] == "${{ always() && steps.rollback.outcome != 'skipped' }}"
    (fetched,) = [
        step["with"]["name"]
        for step in steps("github", "rollback.yml")
        if "download-artifact" in step.get("uses", "")
    ]
    assert told["attempt"] == ATTEMPT
    assert fetched == sent["with"]["name"].replace(ATTEMPT, "${{ needs.rollback.outputs.attempt }}")
    assert secrets_of(jobs["github"]) == {"GITHUB_TOKEN"}


# The release before.


def test_the_release_before_is_found_by_the_name_that_promoting_gives() -> None:
    """Environment, flavour, version and attempt, kept as long as GitHub keeps anything."""
    (sent,) = artifacts("promote", "upload")[:1]
    told = sent["name"]
    for name in ("environment", "flavour", "version"):
        told = told.replace(f"${{{{ needs.resolve.outputs.{name} }}}}", name)
    assert told.replace(ATTEMPT, "1") == f"{earlier_runs.PREFIX}-environment-flavour-version-1"
    assert str(sent["retention-days"]) == "90"
    (find,) = [words for _, words, _ in handoffs("earlier") if words[0] == "find"]
    assert find == ["find", "--workflow", "release.yml", "--github-output"]


def test_only_the_job_that_looks_may_read_other_runs() -> None:
    """And whatever it meets fails nothing: each of its own steps may fail."""
    rights = {job for _, job in ALL_JOBS if "actions" in (FILES[_]["jobs"][job]["permissions"])}
    assert rights == {"earlier"}
    assert JOBS["earlier"]["permissions"] == {"contents": "read", "actions": "read"}
    own = [step for step in steps("earlier") if "id" in step]
    assert [step["id"] for step in own] == ["found", "fetched", "verified", "kept"]
    assert all(step["continue-on-error"] is True for step in own)
    others = [step for _, job in ALL_JOBS for step in steps(job, _) if "continue-on-error" in step]
    assert others == own
    (fetch,) = artifacts("earlier", "download")
    assert fetch["run-id"] == "${{ steps.found.outputs.run }}"
    # Nothing of it is handed on that was not verified.
    assert own[3]["if"] == "${{ steps.verified.outcome == 'success' }}"
    assert "steps.kept.outcome" in JOBS["earlier"]["outputs"]["attempt"]


@pytest.mark.parametrize("job", ["smoke", "smoked"])
def test_the_release_before_comes_beside_where_there_is_one(job: str) -> None:
    """Before the smoke run and before the page of all lanes; without one neither step runs."""
    place, words, unpack = next(one for one in handoffs(job) if one[1][0] == "earlier")
    fetch = steps(job)[place - 1]
    assert fetch["if"] == unpack["if"] == "${{ needs.earlier.outputs.attempt }}"
    assert fetch["with"]["name"] == artifacts("earlier", "upload")[0]["name"].replace(
        ATTEMPT, "${{ needs.earlier.outputs.attempt }}"
    )
    assert words == ["earlier", f"{fetch['with']['path']}handoff.tar.gz"]
    user = "run" if job == "smoke" else "report"
    places = [at for at, step in enumerate(steps(job)) if (words_of(step) or [""])[0] == user]
    assert place < min(places)
    if job == "smoked":
        # By its file's pattern a validation would keep that one's archive as well.
        kept = [at for at, step in enumerate(steps(job)) if "validated" in str(step.get("with"))]
        assert max(kept) < place


# What goes from job to job.


def artifacts(job: str, action: str) -> list[dict[str, str]]:
    return [
        step["with"] for step in steps(job) if f"actions/{action}-artifact" in step.get("uses", "")
    ]


def handoffs(job: str) -> list[tuple[int, list[str], dict[str, Any]]]:
    """The calls of `handoff` with their places."""
    found = []
    for place, step in enumerate(steps(job)):
        words = words_of(step)
        if words and words[0] == "handoff":
            found.append((place, words[1:], step))
    return found


def place_of_run(job: str) -> int:
    (place,) = [at for at, step in enumerate(steps(job)) if (words_of(step) or [""])[0] == "run"]
    return place


@pytest.mark.parametrize(("giver", "taker"), PAIRS)
def test_a_job_takes_what_the_one_before_it_packed(giver: str, taker: str) -> None:
    """The same artifact, under the head that the giver's own job output names, before its run."""
    assert giver in JOBS[taker]["needs"]
    (_, pack, step) = next(one for one in handoffs(giver) if one[2].get("id") == "handoff")
    assert pack == ["pack", "--github-output"]
    assert JOBS[giver]["outputs"]["head"] == "${{ steps.handoff.outputs.head }}"
    sent = steps(giver)[steps(giver).index(step) + 1]["with"]
    fetched = artifacts(taker, "download")[0]
    assert sent["path"] == "dist/handoff.tar.gz"
    assert JOBS[giver]["outputs"]["attempt"] == ATTEMPT
    assert fetched["name"] == sent["name"].replace(
        ATTEMPT, f"${{{{ needs.{giver}.outputs.attempt }}}}"
    )
    place, unpack, _ = handoffs(taker)[0]
    expected = f"${{{{ needs.{giver}.outputs.head }}}}".split()
    assert unpack[:3] == ["unpack", f"{fetched['path']}handoff.tar.gz", "--expect"]
    assert unpack[3 : 3 + len(expected)] == expected
    if taker in STAGES:
        assert place < place_of_run(taker)


@pytest.mark.parametrize("job", [*STAGES, "smoked"])
def test_every_job_that_does_something_leaves_its_report(job: str) -> None:
    """However it ends: the last step, under a name of its own, with the page and its twin."""
    if job in LOOKING:
        return
    last = steps(job)[-1]
    assert last["if"] == "${{ always() }}"
    assert last["with"]["path"] == "dist/*/*/report.*"
    assert last["with"]["if-no-files-found"] == "ignore"
    lane = "-${{ matrix.lane }}" if job == "smoke" else ""
    assert last["with"]["name"] == f"report-{job}{lane}-{ATTEMPT}"


@pytest.mark.parametrize(("file", "job"), ALL_JOBS)
def test_no_attempt_touches_what_another_uploaded(file: str, job: str) -> None:
    """To overwrite is to delete first, and the name of an upload that broke off stays taken."""
    for step in steps(job, file):
        if "actions/upload-artifact" in step.get("uses", ""):
            assert step["with"]["name"].endswith(f"-{ATTEMPT}"), job
            assert "overwrite" not in step["with"], job


def test_a_job_that_waited_in_vain_hands_its_ledger_to_its_next_attempt() -> None:
    """Beside the signature, under a name of its own; only that job takes what stands behind."""
    place = place_of_run("notarize")
    pack, keep, *_ = steps("notarize")[place + 1 :]
    assert "steps.notarize.outcome" in pack["if"]
    assert keep["if"] == pack["if"]
    packed = f"dist/attempt-{ATTEMPT}.tar.gz"
    assert words_of(pack) == f"handoff pack {packed}".split()
    assert keep["with"]["path"] == packed
    # Of this signature's attempts alone, wherever a single one of them would lie.
    beginning = "release-notarizing-${{ needs.sign.outputs.attempt }}-"
    assert keep["with"]["name"] == f"{beginning}{ATTEMPT}"
    fetched = artifacts("notarize", "download")[1]
    assert fetched["pattern"] == f"{beginning}*"
    assert fetched["merge-multiple"]
    (taking,) = [
        (job, words) for job in JOBS for _, words, _ in handoffs(job) if "--attempts" in words
    ]
    assert taking[0] == "notarize"
    assert taking[1][-2:] == ["--attempts", fetched["path"].rstrip("/")]


def test_the_matrix_has_the_lanes_of_the_release() -> None:
    """One job for each, each with an output, an artifact and a place in the merge of its own."""
    lanes = [lane.name for lane in release().smoke.require]
    matrix = JOBS["smoke"]["strategy"]["matrix"]["include"]
    assert [row["lane"] for row in matrix] == lanes
    assert JOBS["smoke"]["strategy"]["fail-fast"] is False
    told = {f"{what}_{lane}" for what in ("head", "attempt") for lane in lanes}
    assert set(JOBS["smoke"]["outputs"]) == told
    (words,) = [words for _, words, _ in handoffs("smoked") if words[0] == "merge"]
    wanted = [
        word
        for lane in lanes
        for word in (
            *("--lane", lane, f"dist/lanes/{lane}/handoff.tar.gz"),
            f"${lane.upper()}",
        )
    ]
    assert words == ["merge", *wanted]
    (step,) = [step for _, words, step in handoffs("smoked") if words[0] == "merge"]
    assert step["env"] == {
        lane.upper(): f"${{{{ needs.smoke.outputs.head_{lane} }}}}" for lane in lanes
    }
    sent = artifacts("smoke", "upload")[0]["name"]
    assert sent == f"release-smoked-${{{{ matrix.lane }}}}-{ATTEMPT}"
    # Each by its name: a single one that a pattern finds would lie elsewhere.
    assert artifacts("smoked", "download")[: len(lanes)] == [
        {
            "name": f"release-smoked-{lane}-${{{{ needs.smoke.outputs.attempt_{lane} }}}}",
            "path": f"dist/lanes/{lane}/",
        }
        for lane in lanes
    ]


# Which release it is.


def test_every_job_is_told_the_same_release() -> None:
    """Environment, version and flavour come from the first job alone, and tags of every family."""
    names = ("environment", "version", "flavour")
    for job, section in JOBS.items():
        told = {name: section["env"][f"RELEASE_{name.upper()}"] for name in names}
        source = "inputs.{}" if job == "resolve" else "needs.resolve.outputs.{}"
        assert told == {name: f"${{{{ {source.format(name)} }}}}" for name in names}, job
    patterns = RELEASE[ON]["push"]["tags"]
    for flavour in release().flavours.values():
        assert any(fnmatch.fnmatch(f"{flavour.tag_prefix}0.4.9", one) for one in patterns)


def test_who_starts_it_chooses_among_the_real_environments() -> None:
    """Those of release.yaml that are not embedded, and no other."""
    real = [name for name, section in release().environments.items() if not section.embedded]
    assert RELEASE[ON]["workflow_dispatch"]["inputs"]["environment"]["options"] == real


@pytest.mark.parametrize(
    "tag", ["v0.5.0", "v0.5.1-dev.3", "v0.5.0-swift.2", "rust-bridge-v0.4.9", "v0.6.0-rc.1"]
)
def test_releases_of_one_environment_wait_for_each_other(tag: str) -> None:
    """Before anything is resolved, the group names the environment that the tool will choose."""
    kind = version.kind(tag)
    chosen = next(name for name, one in release().environments.items() if one.tags == kind)
    group = RELEASE["concurrency"]["group"]
    on_tag: Mapping[str, expressions.Value] = {"inputs": {}, "github": {"ref_name": tag}}
    by_hand: Mapping[str, expressions.Value] = {
        "inputs": {"environment": chosen},
        "github": {"ref_name": "master"},
    }
    for values in (on_tag, by_hand):
        assert expressions.substitute(group, expressions.Context(values, {})) == f"release-{chosen}"


def test_only_what_publishes_stands_behind_the_validation() -> None:
    """`validation_only` leaves out every job that shows anything to anybody, and only those."""
    held = {
        job for job, section in JOBS.items() if "!inputs.validation_only" in section.get("if", "")
    }
    assert held == {"attest", "publish", "promote", "github"}
    outward = {"publish", "register", "promote", "github"}
    assert outward <= set(wiring.STAGES)
    for job, own in STAGES.items():
        assert bool(own & outward) == (job in held) or job in LOOKING, job
