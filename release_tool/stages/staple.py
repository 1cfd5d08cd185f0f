"""Staple: the app gets its ticket, so that it opens where Apple cannot be asked.

A ticket is verified whole before it is written: Apple's signature, its chain, and every slice of
ours in its list. It is the one file that is added; nothing that was signed changes.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from release_tool import errors, progress
from release_tool.apple import certificates, checks, code_resources, ticket
from release_tool.apple.checks import Check
from release_tool.apple.ticket import Ticket
from release_tool.files import atomic
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import retries
from release_tool.services.stapler import TicketService
from release_tool.stages import findings, listing
from release_tool.values import CheckOutcome, Notarization, SealedFile, SignedBundle, StapledBundle

# How long a run waits is left out on purpose: patience does not change a ticket.
READS = ("environment.notarization",)
OUTPUT = "stapled"
PLACE = f"Contents/{code_resources.TICKET}"
"""Outside the seal, so the signature stays what it is."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 20.0
# Any slice's cdhash leads to the same ticket; a miss of one is sometimes a hit of another.
_MOST_LOOKED_UP = 8
_MODE = 0o644

Verdicts = Callable[[Path], Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How a run waits for a ticket; tests bring their own time."""

    wait: bool = True
    """False looks once."""
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic


@dataclass(kw_only=True)
class _Search:
    """What a search for the ticket has met."""

    service: TicketService
    trust: certificates.Trust
    cdhashes: Sequence[bytes]
    """All that the ticket must list."""
    problem: errors.ReleaseError | None = None
    """Of the last round, when it was no plain miss."""
    checks: list[Check] = field(default_factory=list)


def run(
    plan: ReleasePlan,
    signed: SignedBundle,
    notarization: Notarization,
    *,
    workspace: Workspace,
    reporter: Reporter,
    tickets: TicketService,
    trust: certificates.Trust,
    verdicts: Verdicts = lambda _: {},
    patience: Patience | None = None,
    copy: Callable[[Path, Path], None] | None = None,
) -> StapledBundle:
    """Look the ticket up, verify it, and write it into a copy of the signed app.

    Args:
        plan: the release plan.
        signed: the signed app; its files are left as they are.
        notarization: Apple's verdict on it.
        workspace: holds the app, gets the stapled one.
        reporter: is told what is waited for.
        tickets: Apple's ticket service.
        trust: whom the ticket must lead to.
        verdicts: what macOS itself says of the stapled app; raises where it must not ship.
        patience: how to wait.
        copy: copies the app where its attributes matter; None for contents and modes alone.

    Raises:
        PendingError: there is no ticket yet; running again looks again.
        VerificationError: a ticket that is not Apple's or not for this app, a target that can
            carry none, or a file that changed.
        RemoteRefusedError, TransientError: the service.
    """
    require_staplable(workspace.path(signed.root) / signed.app)
    waiting = patience or Patience()
    search = _Search(
        service=tickets,
        trust=trust,
        cdhashes=[bytes.fromhex(item) for item in notarization.cdhashes],
    )
    content = _find(search, _order(signed, notarization), plan, reporter, waiting)
    found = ticket.parse(content)
    with workspace.scratch("staple") as scratch:
        made = scratch / OUTPUT
        (copy or _copy)(workspace.path(signed.root), made)
        atomic.write_atomically(made / signed.app / PLACE, content, mode=_MODE)
        files = listing.sealed_files(made)
        findings.require(
            _judge(signed, files, content),
            "the stapled app is not the signed one with its ticket",
            hint="nothing was kept; run again",
        )
        said = verdicts(made / signed.app)
        workspace.place(made, OUTPUT)
    return StapledBundle(
        **{name: getattr(signed, name) for name in _KEPT},
        root=OUTPUT,
        files=files,
        ticket_sha256=hashlib.sha256(content).hexdigest(),
        ticket_issued=found.issued.isoformat(),
        ticket_checks=tuple(
            CheckOutcome.model_validate(check.as_json()) for check in search.checks
        ),
        macos_verdicts=said,
    )


_KEPT = ("app", "code", "signer", "certificate_sha256", "certificate_name", "sealed_files")


def require_staplable(target: Path) -> None:
    """Refuse what cannot carry a ticket, and say what can.

    Raises:
        VerificationError: it is no app.
    """
    if target.is_dir() and not target.is_symlink():
        if (target / "Contents" / "Info.plist").is_file():
            return
        reason, hint = "a folder that is no bundle", "name the app itself"
    elif not target.is_file():
        reason, hint = (
            "nothing, or neither a file nor a folder",
            "run again: the sign stage comes first",
        )
    else:
        with atomic.naming(target, "read"), target.open("rb") as source:
            reason, hint = _what(source.read(4))
    raise errors.VerificationError(
        "no ticket can be stapled to this",
        subject=str(target.name),
        expected="an app",
        observed=reason,
        hint=hint,
    )


_MACHO = (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")


def _what(magic: bytes) -> tuple[str, str]:
    if magic in _MACHO:
        return "a bare Mach-O, which has no place for one", (
            "put it into an app, or let Gatekeeper ask Apple when it first runs"
        )
    if magic.startswith(b"PK"):
        return "a zip, which has no place for one", "staple the app inside, then zip it again"
    return "a file of another kind", "staple the app inside"


def _order(signed: SignedBundle, notarization: Notarization) -> list[str]:
    """The main executable's cdhash first: a ticket is filed under it."""
    main = [code.cdhash for code in signed.code if code.path == signed.app]
    return list(dict.fromkeys([*main, *notarization.cdhashes]))[:_MOST_LOOKED_UP]


def _find(
    search: _Search,
    cdhashes: Sequence[str],
    plan: ReleasePlan,
    reporter: Reporter,
    patience: Patience,
) -> bytes:
    deadline = patience.monotonic() + plan.limits.ticket_wait_seconds
    pauses = retries.pauses(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
    with ExitStack() as shown:
        told = False
        while (content := _round(search, cdhashes)) is None:
            left = deadline - patience.monotonic()
            if left <= 0 or not patience.wait:
                raise search.problem or _pending(cdhashes[0])
            if not told:
                why = f": {search.problem}" if search.problem else ""
                waiting = f"no ticket yet, as is usual for minutes behind the verdict{why}"
                shown.enter_context(progress.task(reporter, waiting))
                told = True
            patience.sleep(min(next(pauses), left))
    return content


def _round(search: _Search, cdhashes: Sequence[str]) -> bytes | None:
    """Ask for each cdhash in turn; None where nothing serves yet."""
    search.problem = None
    for cdhash in cdhashes:
        try:
            content = search.service.lookup(cdhash)
        except errors.TransientError as problem:
            search.problem = problem
            continue
        if content is not None and _covers(search, content):
            return content
    return None


def _covers(search: _Search, content: bytes) -> bool:
    """Verify a ticket; one that is Apple's but lacks code of ours may still be replaced.

    Raises:
        VerificationError: it is not Apple's.
    """
    try:
        found = ticket.parse(content)
        signer = ticket.verify(found, trust=search.trust)
    except errors.VerificationError as problem:
        problem.hint = "run again; if it stays, look at what stands before the ticket service"
        raise
    missing = ticket.missing(found, search.cdhashes)
    if missing:
        search.problem = _incomplete(found, missing, len(search.cdhashes))
        return False
    count = len(search.cdhashes)
    search.checks = [
        checks.passed("ticket signature", certificates.display_name(signer)),
        checks.passed("ticket cdhashes", f"{count} of {count}, {len(found.entries)} listed"),
    ]
    return True


def _incomplete(found: Ticket, missing: Sequence[bytes], count: int) -> errors.VerificationError:
    return errors.VerificationError(
        "the ticket does not cover this app",
        expected=f"each of {count} cdhashes",
        observed=f"{len(missing)} missing: {', '.join(item.hex() for item in missing[:20])}",
        hint=f"it was issued {found.issued:%Y-%m-%d %H:%M} UTC; run again, another may follow",
    )


def _pending(cdhash: str) -> errors.PendingError:
    return errors.PendingError(
        "there is no ticket yet",
        subject=f"cdhash {cdhash}",
        observed="not found",
        hint="Apple accepted the app, the ticket follows; run again",
    )


def _copy(source: Path, target: Path) -> None:
    with atomic.naming(target, "copy to"):
        shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy)


def _judge(signed: SignedBundle, files: Sequence[SealedFile], content: bytes) -> list[Check]:
    """Every signed file as it was, and the ticket as it was verified, read back from the disk."""
    place = f"{signed.app}/{PLACE}"
    wanted = {file.path: _digest(file) for file in signed.files}
    wanted[place] = f"{hashlib.sha256(content).hexdigest()} {_MODE:04o}"
    found = {file.path: _digest(file) for file in files}
    return findings.same_files("stapled file", wanted=wanted, found=found)


def _digest(file: SealedFile) -> str:
    return f"{file.sha256} {'link' if file.link else f'{file.mode:04o}'}"
