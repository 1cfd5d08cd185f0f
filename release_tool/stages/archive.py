"""Archive: the one file that users download, packed in one pass and then opened like a stranger's.

The flat copies under `bin/` exist only in the archive: they are the signed files once more, for
installers and for the coordinator, which reads `bin/<main executable>` as a regular file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from release_tool import errors, layout
from release_tool.apple import certificates, checks, release
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts
from release_tool.apple.verification import Judge
from release_tool.files import archive_reader, archive_writer
from release_tool.files.archive_reader import Limits, Unpacked
from release_tool.files.archive_writer import Packed
from release_tool.files.tree import DiskTree
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services import codesign, system_tar
from release_tool.services.apple_tools import TOOLS, AppleTools
from release_tool.stages import code_report, findings
from release_tool.values import AssembledBundle, ReleaseArchive, SealedFile, SignedBundle

READS = (
    "source.date",
    "archive",
    "bundle.main_executable",
    "bundle.executables",
    "bundle.metallib",
    "limits.archive_bytes",
    "limits.member_bytes",
    "limits.members",
    "flavour.layout",
)
_HINT = "nothing was kept; run again"


def run(
    plan: ReleasePlan,
    signed: SignedBundle,
    assembled: AssembledBundle,
    *,
    workspace: Workspace,
    reporter: Reporter,
    trust: certificates.Trust,
    tools: AppleTools = TOOLS,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ReleaseArchive:
    """Pack the signed app with its flat copies, and verify what was packed.

    What codesign signed may carry signatures in extended attributes, so macOS's own tar packs it:
    the same content, but not the same bytes twice. All else packs our deterministic writer.

    Args:
        plan: the release plan.
        signed: the signed app, stapled or not.
        assembled: knows where the binaries come from.
        workspace: holds the app, gets the archive.
        reporter: sees packing and unpacking.
        trust: whom the signature must lead to.
        tools: Apple's, for what codesign signed.
        clock: the time at which it must hold.

    Raises:
        VerificationError: the files are not those that were signed, or the unpacked archive does
            not verify from the seal down; every reason at once.
        HostError: the disk refuses.
    """
    root = workspace.path(signed.root)
    with workspace.scratch("archive") as scratch:
        made = scratch / plan.archive.name
        opened = scratch / "unpacked"
        opened.mkdir()
        packed: Packed | Unpacked
        if signed.signer == "codesign":
            packed = _with_apples_tar(plan, root, made, tools, reporter)
            system_tar.unpack(made, opened, tools=tools)
            for path in code_report.whole(plan, signed):
                codesign.verify(opened / path, tools=tools)
            found = list(_judge_packed(signed, packed))
        else:
            packed = archive_writer.pack(
                root,
                made,
                date=plan.source.date,
                copies=layout.of(plan).flat_copies,
                reporter=reporter,
            )
            found = list(_judge_packed(signed, packed))
            unpacked = _unpack(plan, made, opened, reporter)
            found.append(
                checks.compare("archive", expected=packed.sha256, observed=unpacked.sha256)
            )
        judge = Judge(trust=trust, now=clock(), strict=signed.signer == "portable")
        facts, verified = _verify(plan, opened, judge)
        found += verified
        if facts is not None:
            found += _judge_facts(plan, signed, facts)
        findings.require(found, "the archive is not what was meant", hint=_HINT)
        workspace.place(made, plan.archive.name)
    return _value(plan, signed, assembled, packed)


def _with_apples_tar(
    plan: ReleasePlan,
    root: Path,
    made: Path,
    tools: AppleTools,
    reporter: Reporter,
) -> Unpacked:
    """Pack with macOS's tar, and read what it made as a stranger's archive.

    The sidecars of extended attributes (`._name` beside `name`) are no content of the release.
    """
    copies = layout.of(plan).flat_copies
    system_tar.pack(root, made, copies=copies, scratch=made.parent, tools=tools)
    folder = made.parent / "read"
    folder.mkdir()
    return _unpack(plan, made, folder, reporter, sidecars=False)


def _judge_packed(signed: SignedBundle, packed: Packed | Unpacked) -> list[Check]:
    """What was packed is what was signed: the files may have changed since they were recorded."""
    wanted = {file.path: f"{file.sha256} {file.mode & 0o777:04o}" for file in signed.files}
    found = {
        member.path: f"{member.sha256} {member.mode:04o}"
        for member in packed.members
        if member.kind != "directory" and member.path.startswith(f"{signed.app}/")
    }
    return findings.same_files("packed file", wanted=wanted, found=found)


def _unpack(
    plan: ReleasePlan, archive: Path, folder: Path, reporter: Reporter, *, sidecars: bool = True
) -> Unpacked:
    limits = Limits(
        compressed_bytes=plan.limits.archive_bytes,
        member_bytes=plan.limits.member_bytes,
        members=plan.limits.members,
    )
    return archive_reader.unpack(
        archive, folder, limits=limits, sidecars=sidecars, reporter=reporter
    )


def _verify(
    plan: ReleasePlan, folder: Path, judge: Judge
) -> tuple[BundleFacts | None, tuple[Check, ...]]:
    report = release.verify(
        DiskTree(folder),
        judge=judge,
        flat_copies=layout.flat_names(plan),
        with_app=layout.of(plan).is_app,
    )
    return report.facts, report.checks


def _judge_facts(plan: ReleasePlan, signed: SignedBundle, facts: BundleFacts) -> Iterator[Check]:
    """The code directory that was signed is the one that ships."""
    main = code_report.main(plan, signed).cdhash
    observed = facts.main.cdhash if facts.main else ""
    yield checks.compare("cdhash", expected=main, observed=observed, subject=signed.app)


def _value(
    plan: ReleasePlan, signed: SignedBundle, assembled: AssembledBundle, packed: Packed | Unpacked
) -> ReleaseArchive:
    digests = {member.path: member.sha256 for member in packed.members}
    enclave = next((one.name for one in plan.bundle.executables if one.role == "enclave"), "")
    code = code_report.main(plan, signed)
    metallib = plan.bundle.metallib.name if plan.bundle.metallib else ""
    return ReleaseArchive(
        path=plan.archive.name,
        sha256=packed.sha256,
        size=packed.size,
        tar_sha256=packed.tar_sha256,
        binary_sha256=_digest(digests, plan.bundle.main_executable),
        enclave_sha256=_digest(digests, enclave) if enclave else "",
        metallib_sha256=_digest(digests, metallib) if metallib else "",
        cdhash=code.cdhash,
        code_directory_sha256=code.code_directory_sha256,
        source_commit=assembled.source_commit,
        test_outcome=assembled.test_outcome,
        members=tuple(
            SealedFile(
                path=member.path,
                mode=member.mode,
                size=member.size,
                sha256=member.sha256,
                link=member.kind == "symlink",
            )
            for member in packed.members
            if member.kind != "directory"
        ),
    )


def _digest(digests: dict[str, str], name: str) -> str:
    found = digests.get(f"{release.FLAT}/{name}")
    if found is None:
        raise errors.VerificationError(
            "the archive has no flat copy of it", subject=name, hint="set flat_copy in release.yaml"
        )
    return found
