"""Broken providers: each is refused by its own name, in bounded time, and leaves nothing behind.

The real stand-in runs, broken in one way (`rehearsal.standin_faults`), through the whole stage.
Those that end before a model is loaded belong to the default suite; `make smoke-faults` runs all.
"""

from __future__ import annotations

import dataclasses
import math
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from release_tool import errors
from release_tool.files.workspace import Workspace
from release_tool.plan import Prefix, ReleasePlan
from release_tool.progress import Silent
from release_tool.rehearsal import samples, standin_faults, tiny_model
from release_tool.report import smoke_refused
from release_tool.report.cells import cell
from release_tool.services import child, provider_start
from release_tool.stages import smoke, speed
from release_tool.stages.smoke import Surroundings
from release_tool.values import Host, ReleaseArchive, SmokeEvidence
from tests import smoke_parts
from tests.stages.test_smoke import World, pack

pytest.importorskip("mlx_lm", reason="the extra `smoke` is not installed")

LINUX = Host(system="linux", release="6", machine="x86_64")
BOUND_SECONDS = 100.0
"""Far more than each needs, and less than any wait of ours may add up to by mistake."""
PATIENT = 60.0


class Refused(NamedTuple):
    """How a broken provider is refused."""

    told: str
    """A pattern for the error's lines."""
    start_seconds: float = PATIENT
    request_seconds: float = PATIENT
    october: bool = False
    key: bool = False
    thresholds: tuple[str, ...] = ()


MARKER = Refused(r"runtime-smoke of qwen4-\S+ ok: expected printed, observed missing", october=True)
NEVER = Refused("did not answer /health in time", start_seconds=1.5)

EARLY: Mapping[str, Refused] = {
    "version-hangs": Refused("--version did not end within 1 s"),
    "version-killed": Refused(r"ended at --version.*killed by SIGKILL.*AMFI"),
    "version-aborts": Refused(r"killed by SIGABRT.*a library that it links is not there"),
    "version-silent": Refused("does not tell its version.*it prints nothing"),
    "version-chatty": Refused(r"--version: expected 0\.5\.0, observed error: some tool"),
    "version-other": Refused(r"--version: expected 0\.5\.0, observed 0\.0\.1"),
    "version-fails": Refused("does not tell its version.*exit code 1"),
    "version-daemon": Refused(r"--version leaves processes behind.*python\S* \(process \d+\)"),
    "smoke-silent": MARKER,
    "smoke-elsewhere": Refused(r"built for: expected rehearsal, observed prod", october=True),
    "smoke-killed": Refused("ended at runtime-smoke.*killed by SIGKILL", october=True),
    "exit": Refused(r"ended before it answered.*exit code 1.*Bearer \[redacted\]"),
    "start-killed": Refused(r"ended before it answered.*killed by SIGKILL.*likely"),
    "start-aborts": Refused(r"killed by SIGABRT.*a library that it links is not there"),
    "hang": NEVER,
    "flood": Refused("floods its output"),
}  # fmt: skip

LATE: Mapping[str, Refused] = {
    "other-port": Refused("did not answer /health in time", start_seconds=8),
    "loading": Refused("did not answer /health in time", start_seconds=8),
    "health-page": Refused("did not answer /health in time", start_seconds=8),
    "health-other": Refused(r"version in /health: expected 0\.5\.0, observed 0\.0\.1"),
    "health-without-version": Refused(r"version in /health: expected 0\.5\.0, observed none"),
    "foreign-pid-file": Refused("PID file: expected its own number, observed 1"),
    "second-port": Refused(r"listens on loopback only: .*observed 0\.0\.0\.0 port \d+"),
    "writes-app": Refused(r"home of the unpacked release: .*Darkbloom\.app/Contents/written\.txt"),
    "writes-beside": Refused(r"home of the folder beside its home: .*written\.txt"),
    "writes-model": Refused(r"home of the model: .*written\.txt"),
    "writes-users-home": Refused(r"home of ~/\.darkbloom: .*written\.txt"),
    "other-model": Refused("serves another model.*another/model"),
    "no-model": Refused("lists no model"),
    "needs-key": Refused("answers /v1/models with an error.*401"),
    "open-to-all": Refused("without a key: expected 401, observed 200", october=True, key=True),
    "any-key": Refused("with another key: expected 401, observed 200", october=True, key=True),
    "open-models": Refused(
        "models without a key: expected 401, observed 200", october=True, key=True
    ),
    "mute": Refused("answers without any text"),
    "blank": Refused("answers without any text"),
    "diverge": Refused(r"text of What.*: expected token 1 of 6 "),
    "diverge-late": Refused(r"text of What.*: expected token 5 of 6 "),
    "diverge-long": Refused(r"long text of Tell.*: expected token 20 of 24 "),
    "diverge-stream": Refused(r"streamed text of What"),
    "diverge-plain-long": Refused(r"long streamed text of Tell"),
    "diverge-to-key": Refused(r"expected token 3 of 6 .* observed .*Bearer \[redacted\]"),
    "stops-early": Refused(r"text of What.*: expected token 5 of 6"),
    "user-role": Refused("does not answer as the assistant.*role user"),
    "mixed": Refused(r"text with [24] at once of .*: expected token"),
    "one-at-a-time": Refused("answers /v1/chat/completions with an error.*503 .*busy"),
    "crash": Refused(r"ended while it answered.*killed by SIGKILL"),
    "hang-answer": Refused("did not answer /v1/chat/completions within 2 s", request_seconds=2),
    "stall": Refused("did not answer /v1/chat/completions within 2 s", request_seconds=2),
    "stop": Refused("did not answer /v1/chat/completions within 2 s", request_seconds=2),
    "error-inside": Refused("answers an error.*out of memory"),
    "broken-json": Refused("does not answer in JSON"),
    "cut-json": Refused("broke off its answer"),
    "no-end-reason": Refused("ends its answer without a reason.*None"),
    "wrong-end-reason": Refused("end of text .*: expected length, observed stop", october=True),
    "only-thinking": Refused("answers with thoughts alone.*reasoning_content", october=True),
    "drip-head": Refused("did not answer /v1/chat/completions within 2 s", request_seconds=2),
    "drip-size": Refused("did not (answer |end its answer)", request_seconds=2),
    "foreign-answer": Refused("answers as another model.*another/model"),
    "usage-zero": Refused("counts no tokens"),
    "usage-more": Refused(r"token count of What.*: expected at most 6, observed 9"),
    "usage-sum": Refused("adds its tokens up wrongly"),
    "endless": Refused(r"plain token count of What.*: expected at most 6, observed 13"),
    "no-end-mark": Refused("ended its stream without an end mark"),
    "stream-error": Refused("answers an error.*out of memory"),
    "other-ids": Refused("changes the id within a stream"),
    "no-role": Refused("does not begin its stream with the role"),
    "no-end-chunk": Refused("ends its answer without a reason"),
    "text-after-end": Refused("goes on after the end of its answer"),
    "one-piece": Refused(r"streams while it generates: .*observed text for 0% of its time"),
    "burst": Refused(r"streams while it generates: .*in each of 5 attempts"),
    "never-closes": Refused("does not end its stream behind the end mark"),
    "text-after-mark": Refused("goes on behind its end mark"),
    "stream-as-json": Refused("does not stream.*application/json"),
    "plain-for-stream": Refused("does not stream.*application/json"),
    "crash-on-cancel": Refused(r"ended while it answered.*killed by SIGSEGV"),
    "deaf-after-cancel": Refused("did not answer /v1/chat/compl.* 3 s", request_seconds=3),
    "malformed-fails": Refused(r"malformed request: expected a status of 4xx, observed 500"),
    "malformed-accepted": Refused(r"malformed request: expected a status of 4xx, observed 200"),
    "malformed-hangs": Refused("did not answer /v1/chat/compl.* 3 s", request_seconds=3),
    "malformed-crashes": Refused(r"ended while it answered.*killed by SIGABRT"),
    "any-type": Refused("request of another type: expected 415, observed 200"),
    "large-fails": Refused(r"too large request: expected a status of 4xx, observed 507"),
    "large-crashes": Refused(r"ended while it answered.*killed by SIGKILL"),
    "large-unanswered": Refused("broke off its answer to /v1/chat/completions"),
    "ignores-term": Refused("ends when it is told to: .* observed KILL was needed"),
    "orphan": Refused(r"leaves no process behind: .*python\S* \(process \d+\)"),
    "daemon": Refused(r"leaves no process behind: .*python\S* \(process \d+\)"),
    "fails-at-end": Refused("ends without a crash: .*observed exit code 1"),
    "crash-at-end": Refused("ends without a crash: .*killed by SIGSEGV"),
}  # fmt: skip

SLOW = "slow-first"
"""Its threshold is the good provider's own figure on this host."""

linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only /proc tells what is left"
)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays behind can be told from what other processes of this host leave."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.make(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def world(tmp_path: Path, model: Path, request: pytest.FixtureRequest) -> World:
    if "model" in str(request.node.callspec.params.get("fault", "")):
        model = tiny_model.make(tmp_path / "models" / "tiny")
    return pack(samples.executable("darkbloom", "0.5.0"), tmp_path, model)


def asked(plan: ReleasePlan, expected: Refused) -> ReleasePlan:
    """The plan with short answers and the times of a fault."""
    smoke_part = {
        "prompts": ("What is the capital of France?", "And of Italy?"),
        "max_tokens": 6,
        "long_tokens": 24,
        "contract": "2026-10" if expected.october else "2026-05",
        "authorization": "token" if expected.key else "open",
        "thresholds": expected.thresholds,
    }
    limits = {
        "provider_start_seconds": expected.start_seconds,
        "request_seconds": expected.request_seconds,
    }
    return plan.model_copy(
        update={
            "smoke": plan.smoke.model_copy(update=smoke_part),
            "limits": plan.limits.model_copy(update=limits),
        }
    )


def refuse(fault: str, expected: Refused, plan: ReleasePlan, world: World, folder: Path) -> str:
    """Smoke a broken provider; returns its error's lines, with nothing left of it."""
    users_home = folder / "user"
    users_home.mkdir()
    run = secrets.token_hex(8)
    variable = f"STAND_IN_RUN={run}"
    command = smoke_parts.stand_in("--fault", fault)
    told = {"STAND_IN_RUN": run, "STAND_IN_USERS_HOME": str(users_home)}
    command = dataclasses.replace(command, environment={**command.environment, **told})
    before = sorted(path.name for path in world.model.iterdir())
    start = time.monotonic()
    with pytest.raises(errors.VerificationError) as caught:
        smoke.run(
            asked(plan, expected),
            world.archive,
            workspace=world.workspace,
            reporter=Silent(),
            stand_in=command,
            model=world.model,
            needs=smoke_parts.nothing_needed,
            show=smoke_refused.as_markdown,
            surroundings=Surroundings(host=LINUX, system_unpack=None, users_home=users_home),
        )
    took = time.monotonic() - start
    assert took < BOUND_SECONDS
    assert smoke_parts.living_with(variable) == []
    assert list(Path(tempfile.gettempdir()).iterdir()) == []
    # What was seen is kept in one folder, and named.
    kept = world.workspace.path("smoke/refused")
    there = {path for path in world.workspace.root.rglob("*") if path.is_file()}
    assert there - set(kept.iterdir()) == {world.workspace.path("a.tar.gz")}
    assert caught.value.details[-1] == f"kept: {kept / 'refused.md'}"
    page = (kept / "refused.md").read_text(encoding="utf-8")
    assert cell(caught.value.message) in page
    for line in caught.value.details[:-1]:
        # Each failed check stands in the table, unless it was a line of the provider's log.
        name = line.partition(": expected")[0]
        row = rf"\| {re.escape(cell(name))}( \(\d+\))? \| FAIL \|"
        assert name == line or re.search(row, page), line
    if fault != "writes-model":
        assert sorted(path.name for path in world.model.iterdir()) == before
    assert caught.value.exit_code == 6
    return " ".join(line.strip() for line in caught.value.lines())


# What a good provider may do, too: see the tests that it passes.
MANNERS = frozenset({"thinking"})


def test_every_fault_has_its_name() -> None:
    """No broken provider of the stand-in is left out here, and there are more than thirty."""
    assert {*EARLY, *LATE, *MANNERS, SLOW} == standin_faults.FAULTS.keys()
    assert len(standin_faults.FAULTS) >= 30


@linux_only
@pytest.mark.parametrize("fault", EARLY)
def test_one_that_does_not_get_far_is_refused_by_name(
    fault: str,
    plan: ReleasePlan,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At `--version`, at `runtime-smoke` or at its start: named, ended, and nothing is left."""
    monkeypatch.setattr(
        provider_start, "VERSION_SECONDS", 1.0 if fault == "version-hangs" else 60.0
    )
    told = refuse(fault, EARLY[fault], plan, world, tmp_path)
    assert re.search(EARLY[fault].told, told), told
    assert "not-a-real-secret" not in told


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("fault", LATE)
def test_one_that_serves_badly_is_refused_by_name(
    fault: str,
    plan: ReleasePlan,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In its answers, its refusals, its manners or its end: named, and nothing is left."""
    monkeypatch.setattr(child, "GRACE_SECONDS", 1.5 if fault == "ignores-term" else 30.0)
    told = refuse(fault, LATE[fault], plan, world, tmp_path)
    assert re.search(LATE[fault].told, told), told
    page = world.workspace.path("smoke/refused/refused.md").read_text(encoding="utf-8")
    assert "not-a-real-secret" not in told + page


def smoke_well(
    plan: ReleasePlan, world: World, folder: Path, *words: str, **changes: object
) -> SmokeEvidence:
    """Smoke a provider that is good enough for a policy."""
    (folder / "user").mkdir()
    patient = asked(plan, Refused(""))
    part = patient.smoke.model_copy(update=changes)
    try:
        return smoke.run(
            patient.model_copy(update={"smoke": part}),
            world.archive,
            workspace=world.workspace,
            reporter=Silent(),
            stand_in=smoke_parts.stand_in(*words),
            model=world.model,
            needs=smoke_parts.nothing_needed,
            surroundings=Surroundings(host=LINUX, system_unpack=None, users_home=folder / "user"),
        )
    except errors.VerificationError as problem:
        pytest.fail("\n".join(problem.lines()))


@pytest.mark.slow
@pytest.mark.parametrize("authorization", ["token", "open"])
def test_a_good_provider_of_october_passes(
    authorization: str, plan: ReleasePlan, tmp_path: Path, model: Path
) -> None:
    """With its key or without, it answers, and its `runtime-smoke` names this environment."""
    world = pack(samples.executable("darkbloom", "0.5.0"), tmp_path, model)
    changes = {"contract": "2026-10", "authorization": authorization}
    found = smoke_well(plan, world, tmp_path, **changes)
    assert found.contract == "2026-10"
    names = [check.name for check in found.checks]
    assert names.count("runtime-smoke") == 5
    assert "built for" in names
    assert ("request without a key" in names) == (authorization == "token")
    assert "dk-local-" not in world.workspace.path(found.log).read_text()


@linux_only
@pytest.mark.slow
def test_a_slow_first_text_misses_what_the_good_provider_meets(
    plan: ReleasePlan, tmp_path: Path, model: Path
) -> None:
    """The best time of the same provider without its fault, whatever this host is good for."""
    folders = [tmp_path / "good", tmp_path / "slow"]
    for folder in folders:
        folder.mkdir()
    good, slow = (
        pack(samples.executable("darkbloom", "0.5.0"), folder, model) for folder in folders
    )
    measured = smoke_well(plan, good, folders[0])
    [first] = [one for one in measured.figures if (one.metric, one.at_once) == ("ttft", 1)]
    limit = f"ttft:min:b1<={math.ceil(first.min * 1000)}ms"
    expected = Refused(
        rf"too slow.*{re.escape(limit)}: expected .*, observed .* at b1", thresholds=(limit,)
    )
    wanted = asked(plan, expected).smoke
    assert [one.outcome for one in speed.judge(wanted, measured.figures)] == ["passed"]
    told = refuse(SLOW, expected, plan, slow, folders[1])
    assert re.search(expected.told, told), told


@pytest.mark.slow
def test_a_model_that_thinks_is_asked_for_its_whole_text(
    plan: ReleasePlan, tmp_path: Path, model: Path
) -> None:
    """October's would keep thoughts apart, and the reference tells them as the model wrote them."""
    world = pack(samples.executable("darkbloom", "0.5.0"), tmp_path, model)
    found = smoke_well(plan, world, tmp_path, "--fault", "thinking", contract="2026-10")
    assert all(prompt.agrees and prompt.text for prompt in found.prompts)


@pytest.mark.slow
def test_a_prefix_may_be_enough(plan: ReleasePlan, tmp_path: Path, model: Path) -> None:
    """Where the policy asks for four tokens, a provider that parts at the fifth passes."""
    world = pack(samples.executable("darkbloom", "0.5.0"), tmp_path, model)
    policy = Prefix(prefix=4)
    found = smoke_well(plan, world, tmp_path, "--fault", "diverge-late", agreement=policy)
    assert found.agreement == "prefix 4"
    assert [prompt.agreed_tokens for prompt in found.prompts] == [4, 4]
    assert all(prompt.agrees for prompt in (*found.prompts, found.long))


@pytest.mark.slow
def test_a_short_text_with_many_tokens_is_refused_under_every_policy(
    plan: ReleasePlan, tmp_path: Path, model: Path
) -> None:
    """Four tokens may be enough; that there were six of them is not true."""
    world = pack(samples.executable("darkbloom", "0.5.0"), tmp_path, model)
    with pytest.raises(pytest.fail.Exception, match=r"shorter text, long text of .*observed 24"):
        smoke_well(plan, world, tmp_path, "--fault", "stops-early", agreement=Prefix(prefix=4))


@pytest.mark.slow
def test_evidence_keeps_no_secret_that_an_answer_tells(
    plan: ReleasePlan, tmp_path: Path, model: Path
) -> None:
    """Two tokens are enough here, and behind them it tells a key."""
    world = pack(samples.executable("darkbloom", "0.5.0"), tmp_path, model)
    policy = Prefix(prefix=2)
    found = smoke_well(plan, world, tmp_path, "--fault", "diverge-to-key", agreement=policy)
    assert "Bearer [redacted]" in found.long.text
    kept = found.model_dump_json() + world.workspace.path(found.transcript).read_text()
    assert "not-a-real-secret" not in kept


INTERRUPTED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import signal
from release_tool.cli import main
from tests.stages import test_smoke_faults
signal.signal(signal.SIGTERM, main._terminated)
test_smoke_faults.smoke_until_interrupted(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
"""


def smoke_until_interrupted(folder: Path, model: Path, run: str) -> None:
    """Smoke a provider that takes a question and never answers."""
    tempfile.tempdir = str(folder / "tmp")
    plan = ReleasePlan.model_validate_json((folder / "plan.json").read_text())
    archived = ReleaseArchive.model_validate_json((folder / "archive.json").read_text())
    command = smoke_parts.stand_in("--fault", "hang-answer")
    command = dataclasses.replace(command, environment={**command.environment, "STAND_IN_RUN": run})
    smoke.run(
        plan,
        archived,
        workspace=Workspace(folder / "dist"),
        reporter=Silent(),
        stand_in=command,
        model=model,
        needs=smoke_parts.nothing_needed,
        surroundings=Surroundings(host=LINUX, system_unpack=None, users_home=folder / "user"),
    )


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupt_leaves_no_process(
    number: signal.Signals, plan: ReleasePlan, tmp_path: Path, model: Path
) -> None:
    """Ctrl-C, a cancelled job and a killed tool end it; scratch outlives the last only."""
    world = pack(samples.executable("darkbloom", "0.5.0"), tmp_path, model)
    patient = asked(plan, Refused(""))
    (tmp_path / "plan.json").write_text(patient.model_dump_json())
    (tmp_path / "archive.json").write_text(world.archive.model_dump_json())
    run = secrets.token_hex(8)
    words = [str(smoke_parts.CHECKOUT), str(tmp_path), str(model), run]
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *words], stderr=subprocess.DEVNULL
    ) as tool:
        deadline = time.monotonic() + BOUND_SECONDS
        pid_files = f"release-tool-smoke-{tool.pid}-*/provider/home/provider.pid"
        while not list((tmp_path / "tmp").glob(pid_files)):
            assert tool.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert smoke_parts.living_with(f"STAND_IN_RUN={run}")
        tool.send_signal(number)
        tool.wait(BOUND_SECONDS)
    while smoke_parts.living_with(f"STAND_IN_RUN={run}"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    left = list((tmp_path / "tmp").iterdir())
    assert bool(left) == (number == signal.SIGKILL)
