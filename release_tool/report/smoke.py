"""The smoke run as Markdown: what ran, how fast, which thresholds held, and the release before.

A view over the ledger's smoke record. The release before is looked for where releases of the same
environment and flavour lie side by side; without one nothing is compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from pydantic import ValidationError

from release_tool import data, errors, figures, threshold
from release_tool.ledger import Ledger, Record
from release_tool.report.cells import cell
from release_tool.services import precedence
from release_tool.values import SmokeEvidence, SmokeFigure

_STAGE = "smoke"
# Each costs a whole chain to read; the release before is among the nearest.
_LOOKED_AT = 8


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
class Compared:
    """The mean of one figure in two releases."""

    metric: str
    at_once: int
    before: str
    now: str
    ratio: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the template says."""

    version: str
    refused: str = ""
    """Why the run failed; then there is nothing but its details."""
    details: tuple[str, ...] = ()
    run: tuple[tuple[str, str], ...] = ()
    latency: tuple[Latency, ...] = ()
    assertions: tuple[Assertion, ...] = ()
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


def read(workspace: Path) -> Report | None:
    """The newest smoke run of a workspace; None where there is none that can be read.

    Raises:
        VerificationError: the ledger is damaged.
    """
    records = [one for one in Ledger(workspace / "ledger").records if one.stage == _STAGE]
    if not records:
        return None
    if records[-1].kind == "failure":
        return _refused(workspace.name, records[-1])
    evidence = _evidence(records[-1])
    if evidence is None:
        return None
    return of(evidence, previous(workspace, evidence))


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
        before=before.version if before else "",
        differing=", ".join(_differing(evidence, before)) if before else "",
        comparison=compared,
    )


def previous(workspace: Path, evidence: SmokeEvidence) -> SmokeEvidence | None:
    """The evidence of the nearest earlier version that lies beside a workspace.

    Releases of one environment lie in one folder, named by their flavour's family and version.
    """
    if not workspace.name.endswith(evidence.version):
        return None
    family = workspace.name.removesuffix(evidence.version)
    earlier: list[str] = []
    for folder in workspace.parent.glob(f"{family}*/ledger"):
        version = folder.parent.name.removeprefix(family)
        if precedence.is_newer(evidence.version, version):
            at = sum(precedence.is_newer(other, version) for other in earlier)
            earlier.insert(at, version)
    for version in earlier[:_LOOKED_AT]:
        found = _newest(workspace.parent / f"{family}{version}")
        if found and found.figures and found.version == version:
            return found
    return None


def _newest(workspace: Path) -> SmokeEvidence | None:
    # What lies beside may be damaged; it is not this release's fault.
    with contextlib.suppress(errors.ReleaseError, OSError):
        record = Ledger(workspace / "ledger").newest(_STAGE)
        return _evidence(record) if record else None
    return None


def _evidence(record: Record) -> SmokeEvidence | None:
    try:
        return SmokeEvidence.model_validate(record.value)
    except ValidationError:
        return None


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
    ran = "the bundle's executable" if evidence.kind == "bundle" else "a stand-in: no figure counts"
    yield "ran", f"{ran}, contract {evidence.contract}"
    yield "archive", evidence.archive_sha256[:12]
    system = f"{host.system} {host.release} {host.build}".rstrip()
    memory = f"{host.memory_bytes / 1024**3:.0f} GiB" if host.memory_bytes else ""
    yield "host", " · ".join(one for one in (host.chip or host.machine, system, memory) if one)
    yield "model", f"{evidence.model}, {evidence.model_sha256[:12]}"
    agree = sum(one.agrees for one in evidence.prompts)
    whole = f"{agree} of {len(evidence.prompts)} prompts agree"
    yield "reference", f"{evidence.reference}, {evidence.agreement}: {whole}"
    passed = sum(one.outcome == "passed" for one in evidence.checks)
    yield "checks", f"{passed} of {len(evidence.checks)} passed"


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
            ratio=f"{times:.2f}",
        )


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
