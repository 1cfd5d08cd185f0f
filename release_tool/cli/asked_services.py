"""What `doctor --online` asks: each service that an environment releases to, as a run asks it.

The clients are those of a run, wired as for a run, so that what answers here answers there.
Nothing is written anywhere: keys are judged by requests that can never succeed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from release_tool import config, errors
from release_tool.apple import certificates, checks
from release_tool.apple.checks import Check
from release_tool.cli import notary_route, preflight, probes
from release_tool.cli.preflight import Probe
from release_tool.cli.wiring import Inputs, Services, steps
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.services import clocks, http_client
from release_tool.steps import Stage

# Of no release: whatever the services hold, they do not hold this.
_NO_VERSION = "0.0.0"
_SECONDS = 15.0
_ANSWER_BYTES = 1024 * 1024
_STORE = ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "R2_ENDPOINT", "R2_BUCKET")
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "timestamps": (),
    "notary": ("APPLE_API_KEY_P8", "APPLE_API_KEY_ID", "APPLE_API_ISSUER_ID"),
    "tickets": (),
    "bucket": _STORE,
    "public address": ("R2_PUBLIC_URL",),
    "coordinator": ("COORDINATOR_URL",),
    "release key": ("COORDINATOR_URL", "RELEASE_KEY"),
    "github": ("GITHUB_TOKEN",),
}
"""What is asked, in the order of a release, and the settings that asking takes."""
_PASSED = {
    "timestamps": "a token of {timestamp_url} verifies",
    "notary": "the key may list submissions, and no agreement is open",
    "tickets": "it answers for a cdhash that nobody has",
    "bucket": "the key may read and write {r2_bucket}",
    "public address": "{r2_public_url} answers",
    "coordinator": "{coordinator_url} tells what is latest",
    "release key": "the coordinator accepts it",
    "github": "the token may write releases",
}
Answer = tuple[Check, type[errors.ReleaseError]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whose services are asked."""

    environ: Mapping[str, str] = field(repr=False)
    working_folder: Path
    environment: str
    flavour: str | None
    config_file: Path | None
    trust: certificates.Trust
    services: Collection[str] = ()
    """Names of those that are asked and no other; all, and the clocks, where none is named."""


def ask(question: Question) -> list[Answer]:
    """Ask every service that the environment needs; a setting that lacks is told, not asked."""
    try:
        resolved = config.resolve(_request(question))
    except errors.ReleaseError as problem:
        why = f"settings and release file come first: {problem.message}"
        return [(checks.not_checked("services", why), errors.UsageError)]
    workspace = Workspace(question.working_folder / "dist" / "doctor")
    wired = Services(
        resolved=resolved, workspace=workspace, inputs=Inputs(environ=question.environ)
    )
    wired.trust = question.trust
    asked, left = _sorted(wired, question.services or _NEEDS)
    if not question.services:
        asked.append(Probe(name="clock", stages=frozenset(), ask=_clock(resolved.plan)))
    return [*map(_told_with(resolved.plan), preflight.answers(asked)), *left]


def _request(question: Question) -> config.Request:
    return config.Request(
        environ=question.environ,
        working_folder=question.working_folder,
        config_file=question.config_file,
        environment=question.environment,
        version=_NO_VERSION,
        flavour=question.flavour,
        stages=(),
        supplied=notary_route.supplied(question.environ),
        from_source=False,
    )


def _sorted(wired: Services, services: Collection[str]) -> tuple[list[Probe], list[Answer]]:
    """What can be asked, and what lacks a setting."""
    run = {step.name for step in steps(wired) if isinstance(step, Stage)}
    known = {probe.name: probe for probe in probes.of(wired)}
    lacking = {one.name: one.wanted[0] for one in wired.resolved.credentials.missing}
    replaced = notary_route.supplied(wired.inputs.environ)
    asked: list[Probe] = []
    left: list[Answer] = []
    for name, needs in _NEEDS.items():
        if name not in services or not known[name].stages & run:
            continue
        missing = [lacking[one] for one in needs if one in lacking and one not in replaced]
        if missing:
            why = f"needs {', '.join(missing)}"
            left.append((checks.not_checked(name, why), errors.CredentialError))
        else:
            asked.append(_without_a_tag(wired) if name == "github" else known[name])
    return asked, left


def _without_a_tag(wired: Services) -> Probe:
    """There is no tag of no version, and the token is what counts here."""
    return Probe(name="github", stages=frozenset(), ask=lambda: wired.github.check())


def _told_with(
    plan: ReleasePlan,
) -> Callable[[tuple[Probe, errors.ReleaseError | None]], Answer]:
    endpoints = plan.endpoints.model_dump()

    def told(answer: tuple[Probe, errors.ReleaseError | None]) -> Answer:
        probe, problem = answer
        if problem is None:
            held = _PASSED.get(probe.name, "within a minute of the servers'")
            return checks.passed(probe.name, held.format_map(endpoints)), errors.HostError
        observed = [str(problem), problem.observed, *problem.details]
        failed = checks.failed(
            probe.name,
            expected=problem.expected or "a good answer",
            observed="; ".join(part for part in observed if part),
            hint=problem.hint,
        )
        return failed, type(problem)

    return told


def _clock(plan: ReleasePlan) -> Callable[[], None]:
    """Compare this host's clock with those of the servers; the nearest of them counts.

    A server whose own clock is off must not make this host's look wrong, and one answer may be an
    old one out of a cache.
    """

    def compare() -> None:
        apart = dict(_differences(plan))
        if not apart:
            raise errors.TransientError(
                "no server tells its time", hint="see what the other services say"
            )
        host, nearest = min(apart.items(), key=lambda pair: abs(pair[1]))
        if abs(nearest) > clocks.TOLERANCE_SECONDS:
            raise errors.HostError(
                f"this host's clock is {clocks.worded(nearest)} that of {host}",
                expected=f"within {clocks.TOLERANCE_SECONDS} s: signatures and tokens tell time",
                hint="set this host's clock",
            )

    return compare


def _differences(plan: ReleasePlan) -> Iterator[tuple[str, float]]:
    """By host, how many seconds this host's clock is ahead; servers that do not tell are left."""
    endpoints = plan.endpoints
    addresses = (endpoints.coordinator_url, endpoints.r2_public_url, endpoints.r2_endpoint)
    for address in filter(None, (*addresses, endpoints.github_api_url, endpoints.ticket_url)):
        with contextlib.suppress(errors.ReleaseError):
            answer = http_client.exchange(
                "GET", address, seconds=_SECONDS, limit_bytes=_ANSWER_BYTES
            )
            if "date" in answer.headers:
                # A cache tells when it got what it hands out, and how long ago that was.
                age = answer.headers.get("age", "0")
                old = float(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0.0
                told = clocks.ahead(answer.headers, datetime.now(UTC)) - old
                yield urlsplit(address).hostname or address, told
