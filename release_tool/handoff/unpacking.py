"""Unpacks a handoff that may be hostile: nothing of it has a name before all of it is verified.

In order: is it of this release, does its ledger's chain hold up to the head that was expected, was
it made by this plan, does the workspace here hold a beginning of it; then each artifact against
the digest of its record, while it is written to scratch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from release_tool import errors
from release_tool.files import atomic, extended_attributes, tar_header
from release_tool.files.archive_reader import ArchiveReader
from release_tool.files.members import Member, shown
from release_tool.handoff import contents
from release_tool.handoff.contents import LEDGER, MANIFEST, Artifact, Manifest
from release_tool.handoff.settling import INCOMING, settle
from release_tool.ledger import Ledger, Record, file_name, hold, number_of
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter, Silent, task
from release_tool.standing import chained

Outcome = Literal["created", "extended", "kept"]
Judge = Callable[[Sequence[Record]], None]
"""Refuses records of another kind than are wanted."""
SCRATCH = ".handoff"
"""Beside the workspaces, on their volume. Its lock stays, as locks do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A handoff that took its place."""

    manifest: Manifest
    outcome: Outcome
    """`kept`: every record stood here already; the artifacts were put in place again."""
    head: str
    records: int
    artifacts: int
    left_out: int
    """Records behind the expected head that do not count here."""


def unpack(
    archive: Path,
    root: Path,
    plan: ReleasePlan,
    *,
    expect: str | None,
    continued: bool = False,
    judge: Judge | None = None,
    reporter: Reporter | None = None,
) -> Unpacked:
    """Unpack a handoff into the workspace of a release.

    Args:
        archive: what `pack` wrote.
        root: the workspace; none yet, or one whose ledger is a beginning of the handoff's.
        plan: what this job is about to do.
        expect: the ledger's head, as it travelled another way; None for any, of a release that
            nobody goes on with.
        continued: also take what an attempt that broke off wrote down behind that head: its
            intents and failures, never a result.
        judge: what the records are held against; None for the plan.
        reporter: sees the task `unpack` over the compressed bytes.

    Raises:
        UsageError: it is of another release or plan, or the workspace has gone another way.
        FormatError: the archive is damaged, hostile or over a limit.
        VerificationError: another head, a broken chain, or an artifact that is not what its
            record says.
        TransientError: somebody holds the release.
        HostError: the system refuses.
    """
    incoming = Incoming(
        root, plan, expect, continued=continued, judge=judge, reporter=reporter or Silent()
    )
    with atomic.naming(root, "unpack into"), contextlib.ExitStack() as held:
        held.enter_context(hold(root.parent / SCRATCH))
        if root.exists():
            held.enter_context(hold(root / LEDGER))
            settle(root)
        scratch = root.parent / SCRATCH / root.name
        atomic.remove_tree(scratch)
        try:
            scratch.mkdir()
            incoming.read(archive, scratch)
            _sync(scratch)
            outcome = _take_place(scratch, root, incoming)
        finally:
            atomic.remove_tree(scratch)
    return incoming.told(outcome)


def _take_place(scratch: Path, root: Path, incoming: Incoming) -> Outcome:
    if not root.exists():
        _name(scratch, root)
        return "created"
    extends = len(Ledger(root / LEDGER).records) < len(incoming.counted)
    scratch.rename(root / INCOMING)
    atomic.sync_directory(root)
    settle(root)
    return "extended" if extends else "kept"


def _name(scratch: Path, root: Path) -> None:
    try:
        scratch.rename(root)
    except OSError as problem:
        if problem.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise errors.TransientError(
            "another run began this release meanwhile", subject=str(root), hint="run again"
        ) from problem
    atomic.sync_directory(root.parent)


@dataclass(kw_only=True)
class _Found:
    """What was read so far."""

    manifest: Manifest | None = None
    records: int = 0
    record_bytes: int = 0
    ledger: Ledger | None = None
    named: dict[str, Artifact] = field(default_factory=dict)
    """What the whole ledger names."""
    wanted: dict[str, Artifact] = field(default_factory=dict)
    """What the records name that count here."""
    links: dict[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)


class Incoming:
    """One pass over a handoff, into scratch.

    Args:
        root: the workspace.
        plan: what this job is about to do.
        expect: the head that was expected; None for any.
        continued: whether intents and failures behind it are taken.
        judge: what the records are held against; None for the plan.
        reporter: sees the bytes.
    """

    def __init__(
        self,
        root: Path,
        plan: ReleasePlan,
        expect: str | None,
        *,
        continued: bool,
        reporter: Reporter,
        judge: Judge | None = None,
    ) -> None:
        self._root = root
        self._plan = plan
        self._expect = expect
        self._continued = continued
        self._judge = judge or self._require_this_plan
        self._reporter = reporter
        self._found = _Found()
        self.counted: tuple[Record, ...] = ()

    def read(self, archive: Path, scratch: Path) -> None:
        """Read and verify all of it."""
        with _naming(archive), archive.open("rb") as source:
            total = os.fstat(source.fileno()).st_size
            reader = ArchiveReader(
                source,
                limits=contents.LIMITS,
                links=True,
                reporter=self._reporter,
                job="unpack",
            )
            with task(self._reporter, "unpack", total):
                for member in reader.members():
                    self._member(member, reader, scratch)
        self._ledger(scratch)
        missing = sorted(self._found.wanted.keys() - self._found.seen)
        if missing:
            raise errors.VerificationError(
                "the handoff lacks what its records name",
                subject=missing[0],
                observed=f"{len(missing)} missing",
                hint="pack it again",
            )
        for path, target in self._found.links.items():
            (scratch / path).symlink_to(target)

    def told(self, outcome: Outcome) -> Unpacked:
        """What was taken, for the caller."""
        manifest, ledger = self._found.manifest, self._found.ledger
        if manifest is None or ledger is None:
            raise _no_manifest()
        return Unpacked(
            manifest=manifest,
            outcome=outcome,
            head=contents.heads(ledger)[len(self.counted)],
            records=len(self.counted),
            artifacts=len(self._found.wanted),
            left_out=len(ledger.records) - len(self.counted),
        )

    def _member(self, member: Member, reader: ArchiveReader, scratch: Path) -> None:
        if self._found.manifest is None:
            self._manifest(member, reader)
        elif member.path.startswith(f"{LEDGER}/") and self._found.ledger is None:
            self._record(member, reader, scratch)
        else:
            self._ledger(scratch)
            self._artifact(member, reader, scratch)

    def _manifest(self, member: Member, reader: ArchiveReader) -> None:
        manifest = _manifest(member, reader)
        self._require_this_release(manifest)
        self._found.manifest = manifest

    def _require_this_release(self, manifest: Manifest) -> None:
        plan = self._plan
        for what, here, there in (
            ("environment", plan.environment.name, manifest.environment),
            ("version", plan.version, manifest.version),
            ("source commit", plan.source.commit, manifest.source_commit),
        ):
            if here != there:
                raise errors.UsageError(
                    f"the handoff is of another {what}",
                    expected=here,
                    observed=shown(there),
                    hint="unpack the handoff of this release, or say the same here",
                )

    def _record(self, member: Member, reader: ArchiveReader, scratch: Path) -> None:
        name = member.path.removeprefix(f"{LEDGER}/")
        if member.kind != "file" or number_of(name) is None:
            raise errors.FormatError("is no record", subject=shown(member.path))
        self._found.records += 1
        self._found.record_bytes += member.size
        if (
            self._found.records > contents.RECORDS_LIMIT
            or self._found.record_bytes > contents.RECORDS_BYTES
        ):
            raise errors.FormatError("holds more records than a release may")
        _write(scratch / member.path, reader.content(), mode=0o644)

    def _ledger(self, scratch: Path) -> None:
        """Once all records are there: verify the chain, and decide what is wanted."""
        if self._found.ledger is not None:
            return
        manifest = self._found.manifest
        if manifest is None:
            raise _no_manifest()
        ledger = Ledger(scratch / LEDGER)
        if not ledger.records:
            raise errors.FormatError("the handoff holds no record")
        if ledger.head != manifest.head:
            raise errors.VerificationError(
                "the handoff does not hold the ledger that it says",
                expected=manifest.head,
                observed=ledger.head,
                hint="get it again from the job that packed it",
            )
        self.counted = ledger.records[: self._length(ledger)]
        self._found.named = contents.artifacts(ledger.records)
        self._judge(self.counted)
        self._require_beginning(ledger)
        self._found.wanted = self._wanted()
        for record in ledger.records[len(self.counted) :]:
            (scratch / LEDGER / file_name(record)).unlink()
        self._found.ledger = ledger

    def _length(self, ledger: Ledger) -> int:
        """How many of the records count: those up to the expected head, and maybe intents."""
        if self._expect is None or ledger.head == self._expect:
            return len(ledger.records)
        heads = contents.heads(ledger)
        if not self._continued or self._expect not in heads:
            raise errors.VerificationError(
                "the handoff holds another ledger than was expected",
                expected=self._expect,
                observed=ledger.head,
                hint="unpack what the job packed that handed on this head",
            )
        length = heads.index(self._expect)
        for record in ledger.records[length:]:
            if record.kind == "record":
                break
            length += 1
        return length

    def _wanted(self) -> dict[str, Artifact]:
        return contents.artifacts(self.counted)

    def _require_this_plan(self, records: Sequence[Record]) -> None:
        """Every record that stands was made by the plan that goes on with it."""
        for record in chained(records).values():
            names = tuple(record.plan_part)
            try:
                same = record.plan_digest == self._plan.part_digest(names)
                here = self._plan.part(names)
            except KeyError:
                same, here = False, {}
            if not same:
                ours, theirs = _differences(names, here, record.plan_part)
                raise errors.UsageError(
                    f"{record.stage} was done by another plan",
                    expected=_parts(ours),
                    observed=_parts(theirs),
                    hint="give this job the settings and the release.yaml of the one before it",
                )

    def _require_beginning(self, ledger: Ledger) -> None:
        """The workspace here must be a beginning of what comes: nothing forks, nothing is lost."""
        here = Ledger(self._root / LEDGER)
        common = contents.heads(ledger)[: len(self.counted) + 1]
        if here.head in common:
            return
        further = common[-1] in contents.heads(here)
        raise errors.UsageError(
            "the release here is further than the handoff"
            if further
            else "the release here has gone another way than the handoff",
            subject=str(self._root),
            expected=f"a beginning of {common[-1]}",
            observed=here.head,
            hint="go on with what is here"
            if further
            else "unpack it elsewhere, with --dist; what is here stays",
        )

    def _artifact(self, member: Member, reader: ArchiveReader, scratch: Path) -> None:
        artifact = self._found.named.get(member.path)
        if artifact is None:
            raise errors.VerificationError("no record names this", subject=shown(member.path))
        if member.kind != ("symlink" if artifact.link else "file"):
            raise errors.VerificationError(
                f"is not what {artifact.stage} made",
                subject=shown(member.path),
                expected="a link" if artifact.link else "a file",
                observed=f"a {member.kind}",
            )
        if member.path not in self._found.wanted:
            return
        if artifact.link:
            _require_digest(artifact, hashlib.sha256(member.target.encode()).hexdigest())
            (scratch / member.path).parent.mkdir(parents=True, exist_ok=True)
            self._found.links[member.path] = member.target
        else:
            self._file(artifact, member, reader, scratch)
        self._found.seen.add(member.path)

    def _file(
        self, artifact: Artifact, member: Member, reader: ArchiveReader, scratch: Path
    ) -> None:
        if member.mode != tar_header.fixed_mode("file", artifact.mode):
            raise errors.VerificationError(
                f"has another mode than {artifact.stage} gave it",
                subject=member.path,
                expected=f"{artifact.mode:04o}",
                observed=f"{member.mode:04o}",
            )
        digest = _write(
            scratch / member.path,
            reader.content(),
            mode=artifact.mode,
            signature=dict(member.signature),
        )
        _require_digest(artifact, digest)


@contextlib.contextmanager
def _naming(archive: Path) -> Iterator[None]:
    """Let an error of reading name the handoff, where it names no member, and what helps."""
    try:
        with atomic.naming(archive, "read"):
            yield
    except errors.FormatError as problem:
        problem.subject = problem.subject or str(archive)
        problem.hint = problem.hint or "get it again from the job that packed it"
        raise


def _differences(
    names: Sequence[str], here: Mapping[str, object], there: Mapping[str, object]
) -> tuple[dict[str, object], dict[str, object]]:
    """The parts of two plans that differ; of a whole section, its differing values alone."""
    ours, theirs = dict[str, object](), dict[str, object]()
    for name in names:
        one, other = here.get(name, "missing"), there.get(name, "missing")
        if one == other:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            inner = _differences(sorted(one.keys() | other.keys()), one, other)
            ours |= {f"{name}.{key}": value for key, value in inner[0].items()}
            theirs |= {f"{name}.{key}": value for key, value in inner[1].items()}
        else:
            ours[name], theirs[name] = one, other
    return ours, theirs


def _parts(values: Mapping[str, object]) -> str:
    """Parts of a plan on one line."""
    return ", ".join(f"{name} {shown(str(value))}" for name, value in values.items())


def _require_digest(artifact: Artifact, observed: str) -> None:
    if observed != artifact.sha256:
        raise errors.VerificationError(
            f"is not what {artifact.stage} recorded",
            subject=artifact.path,
            expected=artifact.sha256,
            observed=observed,
            hint="do not ship it; get the handoff again from the job that packed it",
        )


def _write(
    path: Path, content: Iterator[bytes], *, mode: int, signature: dict[str, bytes] | None = None
) -> str:
    """A new file with exactly this mode, on the disk when this returns; gives its SHA-256."""
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as target:
        for piece in content:
            digest.update(piece)
            target.write(piece)
        target.flush()
        extended_attributes.attach_signature(target.fileno(), path, signature or {})
        os.fchmod(target.fileno(), mode)
        os.fsync(target.fileno())
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    """Bring every folder's names to the disk, with the mode that a release's folders have."""
    for path, folders, _ in os.walk(folder, topdown=False):
        for name in folders:
            if not (inner := Path(path) / name).is_symlink():
                inner.chmod(0o755)
        atomic.sync_directory(Path(path))


def manifest_of(archive: Path) -> Manifest:
    """What a handoff says that it is of; nothing of that is proved yet.

    Raises:
        FormatError: it is no handoff.
        HostError: the system refuses.
    """
    with _naming(archive), archive.open("rb") as source:
        reader = ArchiveReader(source, limits=contents.LIMITS, links=True)
        for member in reader.members():
            return _manifest(member, reader)
    raise _no_manifest()


def _manifest(member: Member, reader: ArchiveReader) -> Manifest:
    if member.path != MANIFEST or member.kind != "file":
        raise _no_manifest()
    if member.size > contents.MANIFEST_BYTES:
        raise errors.FormatError("is too large for a manifest", subject=MANIFEST)
    try:
        return Manifest.model_validate_json(b"".join(reader.content()))
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise errors.FormatError(
            "the manifest of the handoff cannot be read",
            subject=MANIFEST,
            observed=f"{where}: {first['msg']}" if where else str(first["msg"]),
            hint="another version of release-tool packed it: pack it again with this one",
        ) from problem


def _no_manifest() -> errors.FormatError:
    return errors.FormatError(
        "this is no handoff",
        expected=f"{MANIFEST} as its first member",
        hint="name what `release-tool handoff pack` wrote",
    )
