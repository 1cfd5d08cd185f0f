"""Heads on GitHub against a log: what agrees, what is missing, and what proves nothing."""

from __future__ import annotations

import pytest

from release_tool.apple import certificates
from release_tool.plan import ReleasePlan
from release_tool.provenance import log
from release_tool.provenance.keys import SigningKey
from release_tool.provenance.log import Log
from release_tool.services.github_public import PublicHead
from release_tool.stages import verification_github
from release_tool.stages.verification_findings import Findings, Question
from release_tool.stages.verification_github import NAME, Witnesses
from release_tool.stages.verification_log import Standing
from tests.provenance import samples

KEY, LOST = samples.key(), samples.key("lost")


def _log(lines: int) -> Log:
    made = log.EMPTY
    for number in range(lines):
        entry = samples.entry(version=f"0.5.{number}")
        made = log.parse(made.extended(entry, KEY))
    return made


WHOLE = _log(4)


def _head(plan: ReleasePlan, count: int, *, key: SigningKey = KEY, name: str = "") -> PublicHead:
    sealed = log.seal(WHOLE.head(plan.environment.name, count), key)
    return PublicHead(tag="v0.5.0", name=name or log.HEAD_NAME, content=sealed)


def _compared(plan: ReleasePlan, served: Log, *heads: PublicHead) -> list[tuple[str, str]]:
    findings = Findings(
        question=Question(
            plan=plan, trusted=(KEY.public,), trust=certificates.Trust(name="none", roots=())
        )
    )
    standing = Standing(log=served, head=served.head(plan.environment.name))
    verification_github.compare(findings, standing, Witnesses(heads=heads))
    assert {one.name for one in findings.checks} <= {NAME}
    return [(one.outcome, f"{one.observed} {one.hint}") for one in findings.checks]


def test_heads_that_the_log_begins_with_hold(plan: ReleasePlan) -> None:
    """Of every length; they are one check, which names them."""
    ((outcome, told),) = _compared(
        plan, WHOLE, _head(plan, 3, name="log.head.3.json"), _head(plan, 1)
    )
    assert outcome == "passed"
    assert "3 lines, and all are there: log.head.3.json of v0.5.0, log.head.json" in told


def test_a_log_that_lacks_what_a_head_covers_fails(plan: ReleasePlan) -> None:
    """Whatever the others say."""
    found = _compared(plan, _log(2), _head(plan, 3, name="log.head.3.json"), _head(plan, 2))
    assert [one[0] for one in found] == ["failed"]
    assert "lacks lines that a signed head covers" in found[0][1]


def test_a_head_of_another_length_than_its_name_fails(plan: ReleasePlan) -> None:
    """An old one under a newer name would hide that the newer one is gone."""
    found = _compared(plan, WHOLE, _head(plan, 2, name="log.head.4.json"))
    assert [one[0] for one in found] == ["failed"]
    assert "one over 2" in found[0][1]


@pytest.mark.parametrize("alone", [True, False])
def test_a_head_by_no_listed_key_counts_for_nothing(plan: ReleasePlan, alone: bool) -> None:
    """Alone it fails; beside one that counts it is named: a lost key's heads stay on GitHub."""
    lost = _head(plan, 4, key=LOST, name="log.head.4.json")
    found = _compared(plan, WHOLE, lost, *(() if alone else (_head(plan, 3),)))
    if alone:
        assert [one[0] for one in found] == ["failed"]
    else:
        assert [one[0] for one in found] == ["passed", "not_checked"]
        assert "no key that is listed signed log.head.4.json of v0.5.0" in found[1][1]


def test_another_environments_head_fails(plan: ReleasePlan) -> None:
    """It is signed by our key, and is no head of this log."""
    sealed = log.seal(WHOLE.head("elsewhere", 2), KEY)
    there = PublicHead(tag="v0.5.0", name=log.HEAD_NAME, content=sealed)
    assert [one[0] for one in _compared(plan, WHOLE, there)] == ["failed"]
