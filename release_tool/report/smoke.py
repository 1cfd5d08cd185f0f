"""The smoke run as Markdown: what ran, how fast, which thresholds held, and the release before.

A view over the ledger's smoke records, one for each host. The release before is looked for where
releases of the same environment and flavour lie side by side; without one nothing is compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2

from release_tool import data, figures, smoke_lanes, smoke_records, threshold
from release_tool.ledger import Ledger, Record
from release_tool.report import smoke_before
from release_tool.report.cells import cell
from release_tool.values import CheckOutcome, SmokeEvidence, SmokeFigure

_STAGE = "smoke"
# Of a digest, as everywhere for people; records hold the whole.
_CUT = 12
_SHORTER_IS_BETTER = ("ttft", "ttft_ratio")
# Of two runs of the same build on the same machine less is no news.
_NEWS = 1.1


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The statistics of one figure, with their unit."""

    metric: str
    at_once: int
    samples: int
    mean: str
    p50: str
    p95: str
    max: str


@dataclass(frozen=True, kw_only=True)
class Assertion:
    """One threshold."""

    name: str
    verdict: str
    """`PASS` or `FAIL`."""
    threshold: str
    observed: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was asked of one thing."""

    name: str
    passed: str
    """How many of how many."""
    names: str
    """Of the checks that passed, each once."""
    others: tuple[str, ...] = ()
    """Those that did not, and why."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The mean of one figure in two releases."""

    metric: str
    at_once: int
    before: str
    now: str
    ratio: str
    """Now by before, and in words where that is news."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the template says."""

    version: str
    host: str = ""
    """Where it ran, where several count."""
    refused: str = ""
    """Why the run failed; then there is nothing but its details."""
    details: tuple[str, ...] = ()
    run: tuple[tuple[str, str], ...] = ()
    latency: tuple[Latency, ...] = ()
    assertions: tuple[Assertion, ...] = ()
    checked: tuple[Checked, ...] = ()
    before: str = ""
    """The version of the release before."""
    differing: str = ""
    """In what the two runs differ, so that their numbers are not comparable."""
    comparison: tuple[Compared, ...] = ()

    def as_markdown(self) -> str:
        """For the step summary of a job."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(data.templates_folder()),
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # noqa: S701 - markdown; texts are escaped by the filter below
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["cell"] = cell
        return environment.get_template("smoke.md.j2").render(report=self)


def read(workspace: Path) -> tuple[Report, ...]:
    """The smoke run of each host that counts for a workspace, the newest last.

    Of a run that was refused there is nothing else; of records that cannot be read, nothing.

    Raises:
        VerificationError: the ledger is damaged.
    """
    records = Ledger(workspace / "ledger").records
    ran = [one for one in records if one.stage == _STAGE]
    if not ran:
        return ()
    if ran[-1].kind == "failure":
        return (_refused(workspace.name, ran[-1]),)
    counting = smoke_records.counting(records) or [ran[-1]]
    return tuple(_reports(workspace, counting))


def _reports(workspace: Path, counting: Sequence[Record]) -> Iterator[Report]:
    for record in counting:
        if evidence := smoke_before.evidence_of(record):
            lane = smoke_before.lane_of(record, evidence.host)
            found = of(evidence, smoke_before.of(workspace, evidence, lane))
            several = len(counting) > 1
            yield replace(found, host=smoke_lanes.shown(evidence.host) if several else "")


def of(evidence: SmokeEvidence, before: SmokeEvidence | None = None) -> Report:
    """The report of a run, compared with the release before where there is one."""
    compared = tuple(_compared(evidence.figures, before.figures)) if before else ()
    return Report(
        version=evidence.version,
        run=tuple(_run(evidence)),
        latency=tuple(map(_latency, evidence.figures)),
        assertions=tuple(
            Assertion(
                name=one.name,
                verdict="PASS" if one.outcome == "passed" else "FAIL",
                threshold=one.expected,
                observed=one.observed,
            )
            for one in evidence.thresholds
        ),
        checked=tuple(_checked(evidence)),
        before=before.version if before else "",
        differing=", ".join(_differing(evidence, before)) if before else "",
        comparison=compared,
    )


def _refused(version: str, record: Record) -> Report:
    found = record.value if isinstance(record.value, dict) else {}
    details = found.get("details")
    return Report(
        version=version,
        refused=str(found.get("message", "failed")),
        details=tuple(map(str, details)) if isinstance(details, list) else (),
    )


def _run(evidence: SmokeEvidence) -> Iterator[tuple[str, str]]:
    host = evidence.host
    yield "verdict", _verdict(evidence)
    ran = "the bundle's executable" if evidence.kind == "bundle" else "a stand-in: no figure counts"
    yield "ran", f"{ran}, contract {evidence.contract}"
    yield "archive", evidence.archive_sha256[:_CUT]
    yield "executable", f"{evidence.executable_sha256[:_CUT]}, cdhash {evidence.cdhash[:_CUT]}"
    system = f"{host.system} {host.release} {host.build}".rstrip()
    memory = f"{host.memory_bytes / 1024**3:.0f} GiB" if host.memory_bytes else ""
    sip = f"SIP {host.sip}" if host.sip else ""
    yield "host", " · ".join(one for one in (host.chip or host.machine, system, memory, sip) if one)
    yield "model", f"{evidence.model}, {evidence.model_sha256[:_CUT]}"
    agree = sum(one.agrees for one in evidence.prompts)
    whole = f"{agree} of {len(evidence.prompts)} prompts agree"
    yield "reference", f"{evidence.reference}, {evidence.agreement}: {whole}"
    transcript, log = evidence.transcript_sha256[:_CUT], evidence.log_sha256[:_CUT]
    yield "kept", f"{evidence.transcript} {transcript}, {evidence.log} {log}"


def _verdict(evidence: SmokeEvidence) -> str:
    """What a record says by being there: a run that found a fault leaves none."""
    rows = (*evidence.checks, *evidence.needs, *evidence.install, *evidence.thresholds)
    counts = Counter(one.outcome for one in rows)
    failed, open_ = counts["failed"], len(rows) - counts["passed"] - counts["failed"]
    word = "FAIL" if failed else "PASS"
    return f"{word}: {failed or 'none'} of {len(rows)} checks failed, {open_} not checked"


def _checked(evidence: SmokeEvidence) -> Iterator[Checked]:
    """Everything that was asked, by whom it was asked of."""
    groups = {
        "provider": evidence.checks,
        "needs of the bundle": evidence.needs,
        "installer": evidence.install,
    }
    for name, rows in groups.items():
        # Each row of a group says its name once.
        short = [
            one.model_copy(update={"name": one.name.removeprefix(f"{name}, ")}) for one in rows
        ]
        passed = [one for one in short if one.outcome == "passed"]
        yield Checked(
            name=name,
            passed=f"{len(passed)} of {len(rows)}" if rows else "not asked",
            names=", ".join(dict.fromkeys(one.name for one in passed)),
            others=tuple(_others(short)),
        )
    if evidence.macos_verdicts:
        told = "; ".join(f"{name} {said}" for name, said in evidence.macos_verdicts.items())
        yield Checked(name="macOS", passed=str(len(evidence.macos_verdicts)), names=told)


def _others(rows: Sequence[CheckOutcome]) -> Iterator[str]:
    """What did not pass, by its reason: one reason may keep a dozen checks from being made."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in rows:
        if one.outcome != "passed":
            reason = (one.outcome.replace("_", " "), one.hint or one.observed)
            found.setdefault(reason, []).append(one.name)
    for (outcome, why), names in found.items():
        told = ", ".join(
            f"{name} ({names.count(name)})" if names.count(name) > 1 else name
            for name in dict.fromkeys(names)
        )
        yield f"{outcome}: {told}{f': {why}' if why else ''}"


def _latency(figure: SmokeFigure) -> Latency:
    def shown(value: float) -> str:
        return threshold.shown(figure.metric, value)

    return Latency(
        metric=figure.metric,
        at_once=figure.at_once,
        samples=figure.samples,
        mean=shown(figure.mean),
        p50=shown(figure.p50),
        p95=shown(figure.p95),
        max=shown(figure.max),
    )


def _compared(now: Sequence[SmokeFigure], before: Sequence[SmokeFigure]) -> Iterator[Compared]:
    known = {(one.metric, one.at_once): one for one in before}
    for figure in now:
        other = known.get((figure.metric, figure.at_once))
        times = figures.ratio(figure.mean, other.mean) if other else None
        if other is None or times is None:
            continue
        yield Compared(
            metric=figure.metric,
            at_once=figure.at_once,
            before=threshold.shown(figure.metric, other.mean),
            now=threshold.shown(figure.metric, figure.mean),
            ratio=f"{times:.2f}{_news(figure.metric, times)}",
        )


def _news(metric: str, times: float) -> str:
    slower = times if metric in _SHORTER_IS_BETTER else 1 / times
    if slower >= _NEWS:
        return ", slower"
    return ", faster" if slower <= 1 / _NEWS else ""


def _differing(now: SmokeEvidence, before: SmokeEvidence) -> Iterator[str]:
    """What a figure hangs on beside the release itself."""
    pairs = {
        "what ran": (now.kind, before.kind),
        "chip": (now.host.chip or now.host.machine, before.host.chip or before.host.machine),
        "system": (
            f"{now.host.system} {now.host.release}",
            f"{before.host.system} {before.host.release}",
        ),
        "memory": (str(now.host.memory_bytes), str(before.host.memory_bytes)),
        "model": (now.model_sha256[:12], before.model_sha256[:12]),
        "reference": (now.reference, before.reference),
        "prompts": (_asked(now), _asked(before)),
    }
    for name, (here, there) in pairs.items():
        if here != there:
            yield f"{name} was {there or 'unknown'}, is {here or 'unknown'}"


def _asked(evidence: SmokeEvidence) -> str:
    tokens = sum(one.completion_tokens for one in evidence.prompts)
    return f"{len({one.prompt for one in evidence.prompts})} with {tokens} tokens"
