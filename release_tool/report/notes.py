"""The notes of a release on GitHub: recorded facts only, and every text in them is data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import jinja2

from release_tool import data, threshold, values
from release_tool.plan import ReleasePlan
from release_tool.report.summary import size
from release_tool.report.visible import visible

_V = TypeVar("_V", bound=values.Value)
_PLAIN = re.compile(r"[A-Za-z0-9 -]")
_FENCE = 3


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fact; each text is a line of its cell."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the template may say."""

    archive: str
    team_id: str
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    """What a reader must not overlook, in our own words."""
    tag_text: str
    version: str
    flags: str
    """What chooses its environment and flavour on a command line."""
    signed_for: bool
    """Whether provenance and a line of the log stand for it."""


def render(plan: ReleasePlan, found: Mapping[str, values.Value]) -> str:
    """The notes as Markdown.

    Args:
        plan: the release plan.
        found: the values of the stages by name, as recorded.
    """
    documents = list(_documents(found))
    facts = Facts(
        archive=plan.archive.name,
        team_id=plan.product.team_id,
        rows=(*_rows(plan, found), *documents),
        warnings=tuple(_warnings(found)),
        tag_text=plan.source.changelog.strip(),
        version=plan.version,
        flags=plan.flags,
        signed_for=bool(documents),
    )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(data.templates_folder()),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - markdown; every text passes one of the filters below
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fact"] = fact
    environment.filters["fenced"] = fenced
    return environment.get_template("notes.md.j2").render(facts=facts).strip() + "\n"


def fact(text: str) -> str:
    """Text as code in a cell, in which nothing can be markup, a mention or an address.

    All but letters and digits of ASCII, spaces and hyphens are written as character references,
    which Markdown never reads as structure; in `code` GitHub makes no mention or link of a text.
    """
    line = " ".join(visible(text).split())
    return f"<code>{''.join(map(_referenced, line))}</code>"


def fenced(text: str) -> str:
    """Text as a code block, behind a fence longer than any that the text holds."""
    whole = visible(text.replace("\r\n", "\n").replace("\r", "\n"))
    longest = max((len(run) for run in re.findall("`+", whole)), default=0)
    fence = "`" * max(_FENCE, longest + 1)
    return f"{fence}text\n{whole}\n{fence}"


def _referenced(mark: str) -> str:
    return mark if _PLAIN.fullmatch(mark) else f"&#{ord(mark)};"


def _get(found: Mapping[str, values.Value], name: str, kind: type[_V]) -> _V | None:
    value = found.get(name)
    return value if isinstance(value, kind) else None


def _warnings(found: Mapping[str, values.Value]) -> Iterator[str]:
    archive = _get(found, "archive", values.ReleaseArchive)
    if archive and archive.test_outcome != "passed":
        yield f"The tests of this source are recorded as {archive.test_outcome}."
    if _get(found, "notarize", values.Notarization) is None:
        yield "This release is not notarized."
    smoke = _get(found, "smoke", values.SmokeEvidence)
    if smoke and smoke.kind != "bundle":
        yield "A stand-in answered the smoke run: it proves the wiring, not this executable."
    registered = _get(found, "register", values.RegisteredRelease)
    if registered and any(one.name == values.FLEET_WATCH for one in registered.checks):
        yield "Nobody looked whether providers of the release before are still accepted."


def _rows(plan: ReleasePlan, found: Mapping[str, values.Value]) -> Iterator[Row]:
    yield Row(name="Version", texts=(plan.version,))
    if plan.flavour.title:
        yield Row(name="Flavour", texts=(plan.flavour.title, f"backend {plan.product.backend}"))
    yield Row(name="Source commit", texts=(plan.source.commit,))
    if plan.source.ci_run_id:
        yield Row(name="Run", texts=(plan.source.ci_run_id,))
    if archive := _get(found, "archive", values.ReleaseArchive):
        yield from _of_archive(plan, archive)
    yield from _of_signature(found)
    if smoke := _get(found, "smoke", values.SmokeEvidence):
        yield Row(name="Smoke run", texts=_smoke(smoke))


def _documents(found: Mapping[str, values.Value]) -> Iterator[Row]:
    """What was signed about the release, and how far the log went."""
    published = _get(found, "publish", values.PublishedRelease)
    for one in published.documents if published else ():
        yield Row(name=f"{one.name} SHA-256", texts=(one.sha256,))
    promoted = _get(found, "promote", values.PromotedRelease)
    if promoted and promoted.logged:
        logged = promoted.logged
        told = (f"{logged.line} lines, {logged.size} bytes", logged.sha256)
        yield Row(name="Log of releases", texts=told)


def _of_archive(plan: ReleasePlan, archive: values.ReleaseArchive) -> Iterator[Row]:
    yield Row(name="Archive", texts=(f"{plan.archive.name}, {size(archive.size)}",))
    yield Row(name="Archive SHA-256", texts=(archive.sha256,))
    binary = f"bin/{plan.bundle.main_executable}"
    yield Row(name="Executable SHA-256", texts=(binary, archive.binary_sha256))
    if plan.bundle.metallib:
        metallib = f"bin/{plan.bundle.metallib.name}"
        yield Row(name="Metal library SHA-256", texts=(metallib, archive.metallib_sha256))
    yield Row(name="cdhash", texts=(archive.cdhash,))
    yield Row(name="Code directory SHA-256", texts=(archive.code_directory_sha256,))
    yield Row(name="Tests of the source", texts=(archive.test_outcome,))


def _of_signature(found: Mapping[str, values.Value]) -> Iterator[Row]:
    if signed := _get(found, "sign", values.SignedBundle):
        texts = (signed.certificate_name, signed.certificate_sha256)
        yield Row(name="Signed with", texts=texts)
    if notarized := _get(found, "notarize", values.Notarization):
        yield Row(name="Notarization", texts=(notarized.submission_id,))
        yield Row(name="Notary log SHA-256", texts=(notarized.log_sha256,))
    if stapled := _get(found, "staple", values.StapledBundle):
        yield Row(name="Ticket issued", texts=(stapled.ticket_issued,))
        yield Row(name="Ticket SHA-256", texts=(stapled.ticket_sha256,))


def _speed(smoke: values.SmokeEvidence) -> Iterator[str]:
    """How fast the bundle's own executable was; a stand-in's figures say nothing."""
    if smoke.kind != "bundle":
        return
    for one in smoke.figures:
        if one.metric == "decode_ratio":
            ratio = threshold.shown(one.metric, one.mean)
            yield f"decodes at {ratio} of the reference's rate with {one.at_once} at once"


def _smoke(smoke: values.SmokeEvidence) -> tuple[str, ...]:
    agree = sum(prompt.agrees for prompt in smoke.prompts)
    host = smoke.host
    return (
        f"{agree} of {len(smoke.prompts)} prompts agree with the reference, {smoke.model}",
        f"{host.system} {host.release}, {host.machine} {host.chip}".rstrip(),
        *_speed(smoke),
    )
