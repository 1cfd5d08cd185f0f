"""What the signed statement says of a published release, against the plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.provenance import dsse, statement
from release_tool.provenance.statement import Statement
from release_tool.stages.verification_findings import Findings, Question

FLAVOUR = "provenance flavour"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The statement that somebody believed signed, and the envelope that it came in."""

    statement: Statement | None = None
    envelope_sha256: str = ""


def look(findings: Findings) -> Provenance:
    """Fetch the statement and compare it.

    Raises:
        TransientError, RemoteRefusedError: its address does not answer plainly.
    """
    address = findings.beside(statement.NAME)
    content = findings.served("provenance", address, dsse.LIMIT_BYTES)
    if content is None:
        return Provenance()
    digest = hashlib.sha256(content).hexdigest()
    opened = findings.judged(
        "provenance",
        address,
        lambda: dsse.unseal(
            content,
            payload_type=statement.PAYLOAD_TYPE,
            trusted=findings.question.trusted,
        ),
    )
    if opened is None:
        return Provenance(envelope_sha256=digest)
    findings.checks.append(checks.passed("provenance", f"signed by key {opened.key.keyid}"))
    said = findings.judged("provenance", address, lambda: statement.read(opened.payload))
    if said is not None:
        findings.checks += _facts(findings.question, said)
    return Provenance(statement=said, envelope_sha256=digest)


def _facts(question: Question, said: Statement) -> Iterator[Check]:
    plan = question.plan
    section = plan.environment.provenance
    facts = {
        "provenance version": (plan.version, said.version),
        "provenance environment": (plan.environment.name, said.environment),
        "archive name": (plan.archive.name, said.name),
        "build type": (statement.BUILD_TYPE, said.build_type),
    }
    if section is not None:
        facts["builder"] = (section.builder, said.builder)
    for name, (expected, observed) in facts.items():
        yield checks.compare(name, expected=expected, observed=observed)
    yield checks.compare(
        FLAVOUR,
        expected=plan.flavour.name,
        observed=said.flavour,
        hint=f"it is judged as {plan.flavour.name}: was it given to you as {said.flavour}?",
    )
    yield _commit(question, said)


def _commit(question: Question, said: Statement) -> Check:
    given, observed = question.commit, said.commit or "unknown"
    if given:
        # As it is shown everywhere, a commit may be cut.
        expected = observed if observed.startswith(given) else given
        return checks.compare("source commit", expected=expected, observed=observed)
    if said.commit:
        return checks.passed("source commit", said.commit)
    if question.plan.environment.require_known_source:
        return checks.failed("source commit", expected="a commit", observed="unknown")
    return checks.not_checked("source commit", "it was not known where this was built")
