"""What a rollback is about to change, for whoever has to say yes to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from pydantic import JsonValue

from release_tool.plan import ReleasePlan
from release_tool.services import tombstone
from release_tool.stages import aliases
from release_tool.stages.rollback_survey import Bad, Survey

_NAME_WIDTH = 10


def shown(plan: ReleasePlan, survey: Survey) -> Iterator[str]:
    """The lines for people."""
    yield f"{plan.product.name} · {plan.environment.name} · back to {plan.version}"
    yield from _rows(plan, survey)
    yield ""


def as_json(survey: Survey) -> dict[str, JsonValue]:
    """The same facts for `--json`, digests whole."""
    target = survey.target
    fleet = survey.fleet
    return {
        "to": {"version": target.version, "bundle_hash": target.bundle_hash, "url": target.url},
        "latest": survey.latest,
        "pointer": survey.pointer,
        "aliases": dict(survey.aliases),
        "withdrawn": [
            {
                "version": bad.version,
                "state": _state(bad),
                "bundle_hash": bad.sha256,
                "tombstone": asdict(bad.stone) if bad.stone else None,
            }
            for bad in survey.bad
        ],
        "stays_active": list(survey.active),
        "providers": fleet.providers if fleet else None,
    }


def _rows(plan: ReleasePlan, survey: Survey) -> Iterator[str]:
    yield _row(
        "latest", f"{survey.latest or 'nothing'}, as the coordinator tells (up to 1 min old)"
    )
    yield _row("pointer", f"{survey.pointer or 'none'} in {aliases.pointer_key(plan)}")
    for alias, version in survey.aliases.items():
        yield _row("alias", f"{version or 'no version noted'} in {alias}")
    for bad in survey.bad:
        yield _row("withdraw", _fate(plan, bad))
    if not survey.bad:
        yield _row("withdraw", "nothing: only the pointer and the aliases are moved")
    yield _row("providers", _providers(survey))
    if plan.environment.github_release and survey.bad:
        yield _row("github", "the log's head goes there, and the withdrawn ones are marked")
    yield _row("stay", f"active and accepted: {', '.join(survey.active)}")
    target = survey.target
    users = f"users {_verb(survey)} {target.version}"
    yield _row("then", f"{users}, {target.bundle_hash[:12]}, from {target.url}")


def _verb(survey: Survey) -> str:
    """Who confused the two versions sees here that nobody gets anything else."""
    holding = {survey.latest, survey.pointer, *survey.aliases.values()}
    return "already get, and keep," if holding == {survey.target.version} else "get"


def _fate(plan: ReleasePlan, bad: Bad) -> str:
    key = tombstone.key_of(plan.publish.prefix, bad.version)
    stone = f"tombstone of {bad.stone.at} stands" if bad.stone else f"tombstone to {key}"
    digest = f", {bad.sha256[:12]}" if bad.sha256 else ""
    return f"{bad.version}: {_state(bad)}{digest}; {stone}; never released again"


def _state(bad: Bad) -> str:
    if bad.row is None:
        return "never registered"
    return "active" if bad.row.active else "not active any more"


def _providers(survey: Survey) -> str:
    fleet = survey.fleet
    if fleet is None:
        return "the coordinator does not tell how many are connected, nor what they run"
    active = [bad.version for bad in survey.bad if bad.row and bad.row.active]
    told = f"{fleet.providers} connected"
    if not active:
        return told
    return f"{told}; those that run {', '.join(active)} are no longer accepted"


def _row(name: str, text: str) -> str:
    return f"  {name:<{_NAME_WIDTH}} {text}"
