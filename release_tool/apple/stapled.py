"""Judge a notarization ticket: alone, and against the code that it was stapled to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from release_tool import errors
from release_tool.apple import certificates, checks, code_directory, ticket
from release_tool.apple.checks import Check
from release_tool.apple.facts import CodeReport
from release_tool.apple.ticket import Ticket

_ONLINE = "macOS asks Apple about code that no ticket lists, when it first runs"


def read(
    content: bytes, *, trust: certificates.Trust, subject: str
) -> tuple[Ticket | None, list[Check]]:
    """Read a ticket and judge who issued it.

    Returns:
        The ticket, None where the bytes are none; and the checks.
    """
    try:
        found = ticket.parse(content)
    except errors.VerificationError as problem:
        return None, [_refused("ticket", problem, subject)]
    told = f"issued {found.issued:%Y-%m-%d %H:%M:%S} UTC, {len(found.entries)} cdhashes"
    try:
        signer = ticket.verify(found, trust=trust)
        told += f", by {certificates.display_name(signer)}"
    except errors.VerificationError as problem:
        return found, [_refused("ticket", problem, subject)]
    return found, [checks.passed("ticket", told, subject=subject)]


def covers(
    found: Ticket, code: Mapping[str, CodeReport], main: str, *, strict: bool, subject: str
) -> Iterator[Check]:
    """Whether a stapled ticket lists the app's code, slice by slice.

    Args:
        found: the ticket. Entries for other code are normal.
        code: the app's code objects by path.
        main: the path of the main executable, which must be listed.
        strict: whether all other code of the app must be, too: Apple lists all that was sent.
        subject: how checks name the ticket.
    """
    wanted, others = _cdhashes({main: code[main]}), _cdhashes(code)
    missing = ticket.missing(found, others if strict else wanted)
    if missing or not wanted:
        listed = ", ".join(item.hex() for item in missing) or "none of SHA-256"
        yield checks.failed(
            "ticket cdhashes",
            subject=subject,
            expected="every slice of the code",
            observed=f"not listed: {listed}",
            hint="the ticket is for another build: staple the one for this build",
        )
        return
    left = ticket.missing(found, others)
    observed = f"{len(others) - len(left)} of {len(others)} slices of the app's code are listed"
    yield checks.passed("ticket cdhashes", observed, subject=subject)
    if left:
        yield checks.not_checked("notarization of nested code", _ONLINE, subject=subject)


def _cdhashes(code: Mapping[str, CodeReport]) -> list[bytes]:
    """Of every slice's SHA-256 code directory: tickets list no others."""
    return [
        code_directory.cdhash(directory.raw)
        for report in code.values()
        for item in report.slices
        for directory in item.directories
        if directory.hash_type == code_directory.SHA256
    ]


def _refused(name: str, problem: errors.VerificationError, subject: str) -> Check:
    observed = [problem.message, problem.observed, *problem.details]
    return checks.failed(
        name,
        subject=subject,
        expected=problem.expected,
        observed=": ".join(filter(None, observed)),
        hint=problem.hint,
    )
