"""The pipeline: which records count, what is repeated, and what is never repeated by accident."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from release_tool import errors, tracing
from release_tool.ledger import Ledger, Record
from release_tool.pipeline import Run
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter, Silent
from release_tool.steps import Slot, Stage, Step
from release_tool.values import Intents, Value


class Made(Value):
    """A file that a test stage made."""

    path: str
    sha256: str
    sources: tuple[str, ...] = ()

    def outputs(self) -> Mapping[str, str]:
        return {self.path: self.sha256}


class Watcher:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.told: list[str] = []

    def reporter(self, stage: str) -> Reporter:
        return Silent()

    def reused(self, stage: str, record: Record, value: Value) -> None:
        self.seen.append(f"kept {stage}")

    def done(self, stage: str, record: Record, value: Value) -> None:
        self.seen.append(f"did {stage}")

    def failed(self, stage: str, problem: errors.ReleaseError) -> None:
        self.seen.append(f"failed {stage}")
        self.told.append(str(problem))

    def open_slot(self, slot: Slot) -> None:
        self.seen.append(f"open {slot.name}")

    def repeats(self, stage: str, invalidated: Sequence[str]) -> None:
        self.seen.append(f"repeats {stage}")
        self.invalidated = list(invalidated)


class Bench:
    """Four small stages over one workspace: first -> sign -> pack -> send."""

    def __init__(self, root: Path, plan: ReleasePlan) -> None:
        self.root = root
        self.plan = plan
        self.binaries = "one"
        self.calls: dict[str, int] = {}
        self.broken: str = ""
        self.said = ""
        self.cover: Callable[[str], str] = str
        self.slot_required = False

    def stage(self, name: str, *needs: str, reads: tuple[str, ...], fixed: bool = False) -> Stage:
        def work(values: Mapping[str, Value], reporter: Reporter, intents: Intents) -> Value:
            self.calls[name] = self.calls.get(name, 0) + 1
            if self.broken == name:
                raise errors.TransientError(
                    f"the network is away{self.said}",
                    subject=self.said,
                    expected=self.said,
                    observed=self.said,
                    hint=f"run again{self.said}",
                    details=[self.said],
                )
            content = f"{name} {self.calls[name]}".encode()
            (self.root / name).write_bytes(content)
            reporter.note(f"made {name}{self.said}")
            if self.said:
                reporter.warn(f"slow{self.said}")
            sources = tuple(value.digest() for value in values.values())
            return Made(path=name, sha256=hashlib.sha256(content).hexdigest(), sources=sources)

        externals = {"first": lambda: {"binaries": self.binaries} if self.binaries else {}}
        return Stage(
            name=name,
            value_type=Made,
            needs=needs,
            reads=reads,
            work=work,
            externals=externals.get(name, dict),
            repeatable=not fixed,
        )

    def steps(self) -> list[Step]:
        return [
            self.stage("first", reads=("product",)),
            self.stage("sign", "first", reads=("bundle", "environment.signer"), fixed=True),
            Slot(name="notarize", reason="not built", required=self.slot_required),
            self.stage("pack", "sign", reads=("archive", "source")),
            self.stage("send", "pack", "sign", reads=("smoke",)),
        ]

    def run(self, *, resign: bool = False) -> tuple[Run, Watcher]:
        watcher = Watcher()
        run = Run(
            steps=self.steps(),
            plan=self.plan,
            ledger=Ledger(self.root / "ledger"),
            root=self.root,
            observer=watcher,
            host={"system": "linux"},
            tool="test",
            resign=resign,
            cover=self.cover,
        )
        return run, watcher

    def until(self, last: str = "send", *, resign: bool = False) -> list[str]:
        run, watcher = self.run(resign=resign)
        run.until(last)
        return watcher.seen


@pytest.fixture
def bench(tmp_path: Path, plan: ReleasePlan) -> Bench:
    return Bench(tmp_path, plan)


def with_part(plan: ReleasePlan, part: str, **changes: object) -> ReleasePlan:
    return plan.model_copy(update={part: getattr(plan, part).model_copy(update=changes)})


ALL_KEPT = ["kept first", "kept sign", "open notarize", "kept pack", "kept send"]


def test_a_finished_run_is_kept_whole(bench: Bench) -> None:
    """A second run over an unchanged release does nothing."""
    assert bench.until() == ["did first", "did sign", "open notarize", "did pack", "did send"]
    assert bench.until() == ALL_KEPT


def test_a_changed_threshold_repeats_only_its_reader(bench: Bench) -> None:
    """A part of the plan that one stage reads repeats that stage, never the signature."""
    bench.until()
    bench.plan = with_part(bench.plan, "smoke", max_tokens=7)
    assert bench.until() == [*ALL_KEPT[:4], "did send"]


def test_what_is_kept_and_what_is_not_is_explained(bench: Bench) -> None:
    """With `-v` each stage says why: its record by number, or what changed since."""
    bench.until()
    bench.plan = with_part(bench.plan, "smoke", max_tokens=7)
    (bench.root / "pack").write_bytes(b"other bytes")
    heard: list[str] = []
    tracing.listen(heard.append)
    try:
        bench.until()
    finally:
        tracing.listen(None)
    assert [line.partition(":")[0] for line in heard] == [
        *("first is kept", "sign is kept", "pack is done now", "send is done now"),
    ]
    assert "record 0" in heard[0] or "record 1" in heard[0]
    assert heard[2] == "pack is done now: its output pack has changed since"
    assert heard[3] == "send is done now: the plan has changed: smoke"


def test_a_changed_source_date_repacks_without_signing(bench: Bench) -> None:
    """Everything after the repeated stage is repeated, nothing before it."""
    bench.until()
    bench.plan = with_part(bench.plan, "source", date=1)
    assert bench.until() == ["kept first", "kept sign", "open notarize", "did pack", "did send"]


def test_changed_binaries_refuse_to_sign_again(bench: Bench) -> None:
    """What is signed is not signed again under the same version; nothing is started."""
    bench.until()
    bench.binaries = "two"
    with pytest.raises(errors.RepeatRefusedError) as caught:
        bench.until()
    assert caught.value.observed == "before it, first must be repeated: binaries has changed since"
    assert any(line.startswith("stops counting: pack") for line in caught.value.details)
    assert bench.calls == {"first": 1, "sign": 1, "pack": 1, "send": 1}


def test_resign_repeats_everything_after(bench: Bench) -> None:
    """With the explicit word the signature and all that hangs on it are made again."""
    bench.until()
    bench.binaries = "two"
    done = ["did first", "did sign", "open notarize", "did pack", "did send"]
    assert bench.until(resign=True) == ["repeats sign", *done]
    assert bench.until() == ALL_KEPT


def test_resign_alone_signs_again_and_says_what_falls(bench: Bench) -> None:
    """The explicit word repeats a signature that stands, and names each record that falls."""
    bench.until()
    run, watcher = bench.run(resign=True)
    run.until("send")
    assert watcher.seen[:3] == ["repeats sign", "kept first", "did sign"]
    assert [line.split(" ")[0] for line in watcher.invalidated] == ["sign", "pack", "send"]


def test_what_was_asked_for_by_name_is_looked_at(bench: Bench) -> None:
    """The last stage's output is made again when it is gone, though nothing consumes it."""
    bench.until("pack")
    (bench.root / "pack").unlink()
    assert bench.until("pack") == [*ALL_KEPT[:3], "did pack"]


def test_absent_externals_leave_the_record_standing(bench: Bench) -> None:
    """A later job that has no binaries goes on from the records."""
    bench.until("pack")
    bench.binaries = ""
    assert bench.until()[-1] == "did send"


def test_a_lost_output_that_nobody_needs_is_no_matter(bench: Bench) -> None:
    """An intermediate output may be gone when every record after it counts."""
    bench.until()
    (bench.root / "first").unlink()
    assert bench.until() == ALL_KEPT


def test_a_changed_output_is_made_again(bench: Bench) -> None:
    """An output that a stage must consume is compared with its record first."""
    bench.until("pack")
    (bench.root / "pack").write_bytes(b"other bytes")
    assert bench.until() == [*ALL_KEPT[:3], "did pack", "did send"]


def test_a_lost_signature_is_not_silently_made_again(bench: Bench) -> None:
    """A signed output that is gone stops the run instead of signing anew."""
    bench.until("sign")
    (bench.root / "sign").unlink()
    with pytest.raises(errors.UsageError) as caught:
        bench.until()
    assert caught.value.observed == "its output sign is gone"


def test_what_is_kept_and_shown_of_a_failure_goes_through_the_cover(bench: Bench) -> None:
    """Whatever a service answered: nothing of it reaches a record, an observer or the caller."""
    bench.said, bench.broken = " secret", "pack"
    bench.cover = lambda text: text.replace("secret", "...")
    run, watcher = bench.run()
    with pytest.raises(errors.TransientError) as caught:
        run.until("send")
    assert "secret" not in f"{caught.value.as_json()} {caught.value} {caught.value.args}"
    assert watcher.told == [str(caught.value)]
    kept = [path.read_text() for path in (bench.root / "ledger").glob("*.json")]
    assert len(kept) == 3
    assert "secret" not in "".join(kept)
    assert '"made first ..."' in "".join(kept)
    assert '"warning: slow ..."' in "".join(kept)


def test_a_failure_is_recorded_and_the_run_resumes(bench: Bench) -> None:
    """A failed stage leaves a failure in the ledger; the next run starts there."""
    bench.broken = "pack"
    with pytest.raises(errors.TransientError):
        bench.until()
    failure = Ledger(bench.root / "ledger").records[-1]
    assert (failure.kind, failure.stage) == ("failure", "pack")
    bench.broken = ""
    assert bench.until() == ["kept first", "kept sign", "open notarize", "did pack", "did send"]


def test_a_required_slot_stops_the_run_before_it_begins(bench: Bench) -> None:
    """What an unfilled required stage would stop later is not begun; what comes before it is."""
    bench.slot_required = True
    with pytest.raises(errors.HostError, match="notarize"):
        bench.until()
    assert bench.calls == {}
    assert bench.until("sign") == ["did first", "did sign"]


def test_only_needs_records_that_count(bench: Bench) -> None:
    """A single stage runs on standing records or says which are missing."""
    run, _ = bench.run()
    with pytest.raises(errors.UsageError) as caught:
        run.only("pack")
    assert caught.value.details == ("sign: not done yet",)
    bench.until("sign")
    run, watcher = bench.run()
    run.only("pack")
    assert watcher.seen == ["did pack"]


def test_an_unknown_stage_is_a_usage_error(bench: Bench) -> None:
    """The stages there are, are named."""
    with pytest.raises(errors.UsageError) as caught:
        bench.until("pak")
    assert "pack" in caught.value.expected


def test_notes_are_kept_in_the_record(bench: Bench) -> None:
    """What a stage said is evidence, too."""
    bench.until("first")
    assert Ledger(bench.root / "ledger").records[0].notes == ("made first",)


def test_intents_close_with_the_record(bench: Bench) -> None:
    """An intent is found until its stage has a record, and a later one starts afresh."""
    found: list[object] = []

    def work(values: Mapping[str, Value], reporter: Reporter, intents: Intents) -> Value:
        found.append(intents.find("post"))
        intents.declare("post", {"bytes": "ab"})
        found.append(intents.find("post"))
        if len(found) == 2:
            raise errors.TransientError("the answer was lost")
        return Made(path="x", sha256="0" * 64)

    def attempt() -> None:
        stage = Stage(name="register", value_type=Made, needs=(), reads=("version",), work=work)
        run, _ = bench.run()
        run.steps = [stage]
        run.until("register")

    with pytest.raises(errors.TransientError):
        attempt()
    attempt()
    assert found == [None, {"bytes": "ab"}, {"bytes": "ab"}, {"bytes": "ab"}]


class Telling(Bench):
    """The last stage only tells of the signed result; it touches the packed one alone."""

    def steps(self) -> list[Step]:
        *others, _ = super().steps()
        last = self.stage("send", "pack", reads=("smoke",))
        return [*others, replace(last, facts=("sign",))]


def test_a_stage_that_only_tells_of_another_does_without_its_outputs(
    tmp_path: Path, plan: ReleasePlan
) -> None:
    """The signed tree may be gone: its value is handed over, and nothing is signed again."""
    bench = Telling(tmp_path, plan)
    bench.run()[0].until("pack")
    signed = Made.model_validate(bench.run()[0].until("pack")["sign"].model_dump())
    (tmp_path / "sign").unlink()
    sent = bench.run()[0].until("send")["send"]
    assert isinstance(sent, Made)
    assert signed.digest() in sent.sources
    assert bench.calls["sign"] == 1


def test_a_stage_that_tells_of_another_is_done_again_after_it(
    tmp_path: Path, plan: ReleasePlan
) -> None:
    """What is told must be of the newest result."""
    bench = Telling(tmp_path, plan)
    bench.run()[0].until("send")
    (tmp_path / "sign").unlink()
    bench.run(resign=True)[0].until("send")
    assert bench.calls["send"] == 2
