"""Notarize: exactly the signed app goes to Apple, and the verdict counts for exactly these bytes.

The submission's id is on record before anything waits for it. A run that ends in between, by
patience, by hand or by a crash, leaves Apple at work, and the next run goes on waiting.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from release_tool import errors
from release_tool.apple import certificates, code_directory, notary_log
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts
from release_tool.apple.policy import notary as policy
from release_tool.apple.tree import Subtree
from release_tool.apple.verification import Judge
from release_tool.files import atomic, zip_reader, zip_writer
from release_tool.files.tree import DiskTree
from release_tool.files.workspace import Workspace
from release_tool.files.zip_writer import Zipped
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter, Silent, task
from release_tool.services import ditto
from release_tool.services import notary as words
from release_tool.services.apple_tools import AppleTools
from release_tool.services.notary import Notary, Submission
from release_tool.stages import code_report, findings, notary_verdict
from release_tool.stages.notary_verdict import Patience as Patience
from release_tool.stages.notary_verdict import Verdict
from release_tool.values import Intents, Notarization, SealedFile, SignedBundle

# How long a run waits is left out on purpose: patience does not change a verdict.
READS = ("version", "product.name", "environment.notarization", "flavour.layout")
SUBMIT, SUBMITTED = "submit", "submitted"
LOG = "notarization.json"
_NAME_DIGITS = 16
# An upload may have failed of what the history calls in progress, and then it is so for ever. Apple
# may also take hours, so this is longer than a run waits.
_ADOPTED_FOR = timedelta(hours=4)
# Clocks differ, and a submission is made behind its intent.
_CLOCKS_DIFFER = timedelta(minutes=10)


class Zip(Protocol):
    """Zips one folder of a root: ours, or `ditto` where signatures lie in extended attributes."""

    def __call__(
        self, root: Path, folder: str, destination: Path, *, reporter: Reporter | None
    ) -> Zipped: ...


def with_ditto(tools: AppleTools) -> Zip:
    """Zip with Apple's own tool, and read what it made: signatures may lie beside files."""

    def pack(
        root: Path, folder: str, destination: Path, *, reporter: Reporter | None = None
    ) -> Zipped:
        with task(reporter or Silent(), "zip"):
            ditto.zip_app(root / folder, destination, tools=tools)
            return zip_reader.read(destination)

    return pack


@dataclass(frozen=True, kw_only=True)
class _Sent:
    """A submission of ours."""

    id: str
    name: str
    sha256: str
    size: int
    earlier: bool = False
    """Whether an earlier run made it."""
    adopted: bool = False
    """Whether the history alone tells of it: its upload may never have arrived."""


@dataclass(kw_only=True)
class _Run:
    """One run of the stage."""

    plan: ReleasePlan
    signed: SignedBundle
    workspace: Workspace
    reporter: Reporter
    intents: Intents
    notary: Notary
    patience: Patience
    cdhashes: tuple[str, ...]
    zip: Zip
    passed_over: set[str] = field(default_factory=set)
    """Submissions of the history that turned out to be of other bytes."""


def run(
    plan: ReleasePlan,
    signed: SignedBundle,
    *,
    workspace: Workspace,
    reporter: Reporter,
    intents: Intents,
    notary: Notary,
    trust: certificates.Trust,
    patience: Patience | None = None,
    pack: Zip = zip_writer.pack,
) -> Notarization:
    """Get Apple's verdict on the signed app, or go on waiting for it.

    Args:
        plan: the release plan.
        signed: the signed app; its files are left as they are.
        workspace: holds the app, gets the log.
        reporter: sees packing and upload, and is told what is waited for.
        intents: where the submission is written down.
        notary: the route to Apple.
        trust: whom the signature must lead to.
        patience: how long to wait.
        pack: makes the archive that is handed in.

    Raises:
        VerificationError: the app is not the recorded one, would be refused, or was; or the log
            does not speak of our bytes. Every reason at once.
        RemoteRefusedError: the team may not notarize, or the service refused.
        PendingError: Apple is still at work; running again resumes.
        CredentialError, TransientError, HostError: the service.
    """
    waiting = patience or Patience()
    facts = _judge_app(plan, workspace, signed, trust, waiting.clock())
    work = _Run(
        plan=plan,
        signed=signed,
        workspace=workspace,
        reporter=reporter,
        intents=intents,
        notary=notary,
        patience=waiting,
        cdhashes=cdhashes_of(facts),
        zip=pack,
    )
    sent = _recorded(work) or _hand_in(work)
    verdict = _verdict(work, sent)
    if verdict.status == words.REJECTED and sent.earlier:
        # A team that was enabled since gets another verdict on the same bytes.
        reporter.note(f"submission {sent.id} was rejected then, handing in again")
        sent = _hand_in(work)
        verdict = _verdict(work, sent)
    return _accept(work, sent, verdict)


def _verdict(work: _Run, sent: _Sent) -> Verdict:
    return notary_verdict.wait_for(
        work.notary,
        sent.id,
        patience=work.patience,
        seconds=work.plan.limits.notary_wait_seconds,
        reporter=work.reporter,
    )


def cdhashes_of(facts: BundleFacts) -> tuple[str, ...]:
    """The cdhash of every SHA-256 code directory of every slice, sorted: Apple lists no others.

    Of Mach-O code: whether tickets list data that is signed in extended attributes was never seen.
    """
    found = {
        code_directory.cdhash(directory.raw).hex()
        for report in facts.code.values()
        for item in report.slices
        if item.arch
        for directory in item.directories
        if directory.hash_type == code_directory.SHA256
    }
    return tuple(sorted(found))


def _judge_app(
    plan: ReleasePlan,
    workspace: Workspace,
    signed: SignedBundle,
    trust: certificates.Trust,
    now: datetime,
) -> BundleFacts:
    """What is wrong with the app is told before anything is uploaded."""
    tree = Subtree(tree=DiskTree(workspace.path(signed.root)), prefix=signed.app)
    judge = Judge(trust=trust, now=now, strict=signed.signer == "portable")
    report = code_report.of(plan, tree, judge=judge, path=signed.app)
    found = list(report.checks)
    if report.facts is not None:
        found += policy.judge(tree, judge=judge, path=signed.app, facts=report.facts)
    findings.require(
        found,
        "the notary would refuse this app; nothing was uploaded",
        hint="sign again: release-tool run --resign",
    )
    if report.facts is None:
        raise errors.VerificationError("the signed app cannot be read", subject=signed.app)
    return report.facts


def _recorded(work: _Run) -> _Sent | None:
    """The submission that an earlier run recorded for exactly this signed app."""
    facts = _intent(work, SUBMITTED)
    if facts is None:
        return None
    size = facts.get("size")
    sent = _Sent(
        id=str(facts.get("submission_id", "")),
        name=str(facts.get("name", "")),
        sha256=str(facts.get("sha256", "")),
        size=size if isinstance(size, int) else 0,
        earlier=True,
        adopted=facts.get("adopted") is True,
    )
    if sent.adopted and _is_lost(work, sent, str(facts.get("at", ""))):
        work.reporter.note(f"submission {sent.id} does not move, its upload may have failed")
        return None
    work.reporter.note(f"submission {sent.id} was handed in before, not again")
    return sent


def _intent(work: _Run, action: str) -> Mapping[str, JsonValue] | None:
    """What was written down for exactly this signed app."""
    facts = work.intents.find(action)
    return facts if facts is not None and facts.get("signed") == work.signed.digest() else None


def _is_lost(work: _Run, sent: _Sent, at: str) -> bool:
    """Whether what was adopted long ago is still in progress."""
    try:
        age = work.patience.clock() - datetime.fromisoformat(at)
    except (ValueError, TypeError):
        return True
    return age > _adopted_for(work) and work.notary.status(sent.id) not in words.FINAL


def _adopted_for(work: _Run) -> timedelta:
    """A run that waits in vain must not make the next one hand in again."""
    return max(_ADOPTED_FOR, timedelta(seconds=2 * work.plan.limits.notary_wait_seconds))


def _hand_in(work: _Run) -> _Sent:
    with work.workspace.scratch("notarize") as scratch:
        archive = scratch / "submission.zip"
        packed = work.zip(
            work.workspace.path(work.signed.root),
            work.signed.app,
            archive,
            reporter=work.reporter,
        )
        findings.require(
            _judge_packed(work.signed.files, packed),
            "what was packed for the notary is not what was signed",
            hint="run again: the sign stage notices the change",
        )
        name = _name(work.plan, packed.sha256)
        found = None
        if not work.notary.is_begun(packed.sha256):
            found = _found_again(work, name, packed)
        sent = found or _submit(work, archive, name, packed)
    work.intents.declare(SUBMITTED, {**_facts(work, sent), "submission_id": sent.id})
    return sent


def _submit(work: _Run, archive: Path, name: str, packed: Zipped) -> _Sent:
    draft = _Sent(id="", name=name, sha256=packed.sha256, size=packed.size)
    work.intents.declare(SUBMIT, _facts(work, draft))
    made = work.notary.submit(archive, name=name, sha256=packed.sha256, reporter=work.reporter)
    return _Sent(id=made, name=name, sha256=packed.sha256, size=packed.size)


def _facts(work: _Run, sent: _Sent) -> dict[str, JsonValue]:
    return {
        "signed": work.signed.digest(),
        "name": sent.name,
        "sha256": sent.sha256,
        "size": sent.size,
        "adopted": sent.adopted,
        "at": work.patience.clock().isoformat(timespec="seconds"),
    }


def _name(plan: ReleasePlan, sha256: str) -> str:
    """The archive's own digest stands in the name: that is how it is found in the history."""
    return f"{plan.product.name}-{plan.version}-{sha256[:_NAME_DIGITS]}.zip"


def _judge_packed(files: Sequence[SealedFile], packed: Zipped) -> list[Check]:
    wanted = {file.path: f"{file.sha256} {_kind(file.link)} {file.mode:04o}" for file in files}
    found = {
        member.path: f"{member.sha256} {_kind(member.kind == 'symlink')} {member.mode:04o}"
        for member in packed.members
        if member.kind != "directory"
    }
    return findings.same_files("packed file", wanted=wanted, found=found)


def _kind(link: bool) -> str:  # noqa: FBT001 - a word for a flag
    return "link" if link else "file"


def _found_again(work: _Run, name: str, packed: Zipped) -> _Sent | None:
    """Our own upload of an earlier run whose record was lost, by the team's history.

    A name with our digest is a strong hint. What has a log is confirmed by the digest in it; what
    is still in progress is adopted while it is young, and confirmed by its log later.
    """
    # What this ledger saw begin and not end never arrived; another machine's may have.
    unfinished = _intent(work, SUBMIT) is not None
    for entry in _candidates(work, name):
        sent = _Sent(id=entry.id, name=name, sha256=packed.sha256, size=packed.size, earlier=True)
        if entry.status not in words.FINAL:
            if not unfinished and _is_young(work, entry):
                work.reporter.note(f"the history shows our upload {entry.id} in progress")
                return replace(sent, adopted=True)
        elif entry.status == words.ACCEPTED and _is_ours(work, entry, packed.sha256):
            work.reporter.note(f"the history shows our upload {entry.id}, already accepted")
            return sent
    return None


def _candidates(work: _Run, name: str) -> list[Submission]:
    """Entries of our name since the app was signed, the most useful first."""
    signed_at = min((code.signed_at for code in work.signed.code if code.signed_at), default="")
    since = datetime.fromisoformat(signed_at) - _CLOCKS_DIFFER if signed_at else None
    found = [
        entry
        for entry in work.notary.history()
        if entry.name == name
        and entry.id not in work.passed_over
        and (since is None or entry.created is None or entry.created >= since)
    ]
    return sorted(found, key=lambda entry: entry.status != words.ACCEPTED)


def _is_young(work: _Run, entry: Submission) -> bool:
    now = work.patience.clock()
    return entry.created is not None and abs(now - entry.created) < _adopted_for(work)


def _is_ours(work: _Run, entry: Submission, sha256: str) -> bool:
    try:
        raw = work.notary.log(entry.id)
        ours = raw is not None and notary_log.parse(raw).sha256 == sha256
    except errors.ReleaseError:
        ours = False
    if not ours:
        work.passed_over.add(entry.id)
    return ours


def _accept(work: _Run, sent: _Sent, verdict: Verdict) -> Notarization:
    log = verdict.log
    if verdict.status != words.ACCEPTED or log is None:
        raise notary_verdict.refusal(sent.id, verdict)
    findings.require(
        notary_log.judge(log, submission_id=sent.id, sha256=sent.sha256, cdhashes=work.cdhashes),
        f"submission {sent.id} was accepted, but not for our bytes",
        hint="do not ship; hand in again with a fresh signature: release-tool run --resign",
    )
    for line in notary_log.lines(log.issues):
        work.reporter.warn(f"the notary notes {line}")
    extra = len(notary_log.listed(log) - set(work.cdhashes))
    if extra:
        work.reporter.note(f"the log lists {extra} cdhashes beyond ours")
    atomic.write_atomically(work.workspace.path(LOG), verdict.raw)
    return Notarization(
        submission_id=sent.id,
        name=sent.name,
        archive_sha256=sent.sha256,
        archive_size=sent.size,
        log=LOG,
        log_sha256=hashlib.sha256(verdict.raw).hexdigest(),
        cdhashes=work.cdhashes,
        extra_cdhashes=extra,
        issues=tuple(notary_log.lines(log.issues)),
        route=work.notary.route,
    )
