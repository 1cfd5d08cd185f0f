"""`release-tool tag`: an annotated release tag, shown before it is made."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from release_tool import credentials, data, errors, release_file, release_yaml, settings, tagging
from release_tool.apple.x509 import printable
from release_tool.cli import check_lines, completing
from release_tool.cli.session import Session, pass_session
from release_tool.config import FLAVOUR_VARIABLE
from release_tool.schema_number import SCHEMA
from release_tool.services import retries
from release_tool.services.coordinator import Coordinator
from release_tool.services.coordinator_rules import Release
from release_tool.services.git_tags import Made, Tags
from release_tool.tagging import Proposal

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
# One question that need not be answered: a tag can be made while the coordinator is away.
_COORDINATOR_SECONDS = 15.0
_NAME_WIDTH = 28
# The gravest first; a tag that exists elsewhere is nothing to edit here.
_REMEDIES = (errors.UsageError, errors.HostError, errors.RemoteRefusedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line."""

    version: str
    flavour: str | None
    config_file: Path | None
    remote: str
    branch: str
    notes: Path | None
    push: bool
    yes: bool
    dry: bool
    as_json: bool


@click.command("tag")
@click.argument("version", metavar="VERSION")
@click.option(
    "--flavour",
    shell_complete=completing.flavours,
    metavar="NAME",
    help="Flavour of release.yaml, whose family it is of.",
)
@click.option("--config", "config_file", type=_FILE, help="Another release.yaml.")
@click.option("--remote", default="origin", show_default=True, help="Where the tag will go.")
@click.option(
    "--branch", default="", metavar="NAME", help="Branch to cut from; else the default one."
)
@click.option("--notes", type=_FILE, help="Notes from a file instead of from the commits.")
@click.option("--push", is_flag=True, help="Push it, too; asks for the version.")
@click.option("--yes", is_flag=True, help="Push without asking: for jobs.")
@click.option("--dry-run", "dry", is_flag=True, help="Show what would be made, and make nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_session
def command(session: Session, /, **options: Any) -> None:  # noqa: ANN401 - click's own keywords
    """Make a release tag, once everything that it says is true.

    The tree is clean, the commit is in the remote's default branch, every version in the source
    says this one, and no tag or release is as high. Git signs the tag where its configuration
    says so. Nothing is forced; where the push fails, the same command goes on with it.

    \b
    Look first:    release-tool tag 0.5.0 --dry-run
    Make it:       release-tool tag 0.5.0
    And release:   release-tool tag 0.5.0 --push
    Own notes:     release-tool tag 0.5.0 --notes notes.md --push
    The bridge:    release-tool tag 0.4.9 --flavour rust-bridge
    """
    _Tag(session, Options(**options)).run()


class _Tag:
    """One tag, from the question to the last line."""

    def __init__(self, session: Session, options: Options) -> None:
        self._session = session
        self._options = options
        environ, kept = credentials.for_git(session.environ)
        if not sys.stdin.isatty():
            # Nobody is there to answer: git must fail instead of asking.
            environ["GIT_TERMINAL_PROMPT"] = "0"
        self._git = Tags(Path.cwd(), environ, kept)
        self._chosen = _release_file(options.config_file, self._git)
        self._document = release_yaml.read(self._chosen)

    def run(self) -> None:
        self._require_somebody()
        proposal = tagging.propose(self._wanted(), self._git, self._latest)
        if proposal.failed:
            raise _refusal(proposal)
        if not self._options.as_json:
            print("\n".join(_shown(proposal, self._told_file())), file=self._session.out)
        if self._options.dry:
            self._end(proposal, None, pushed=False)
            return
        if self._options.push:
            self._confirm(proposal)
        again = ["release-tool", "tag", proposal.version, "--push"]
        self._session.resume_with = shlex.join(again) if self._options.push else ""
        made = proposal.made or self._git.make(
            proposal.name, proposal.commit, proposal.message, signed=bool(proposal.signing)
        )
        if self._options.push:
            self._push(proposal, made)
        self._end(proposal, made, pushed=self._options.push)

    def _wanted(self) -> tagging.Wanted:
        options = self._options
        release, problems = release_file.validate(self._document, {})
        if release is None or problems:
            raise errors.UsageError(f"{self._document.name} is not fit", details=problems)
        flavour = (
            options.flavour
            or self._session.environ.get(FLAVOUR_VARIABLE, "").strip()
            or release.default_flavour
        )
        if flavour not in release.flavours:
            raise errors.UsageError(
                "there is no such flavour",
                subject=flavour,
                expected=", ".join(release.flavours),
                hint="name one of these with --flavour",
            )
        self._release = release.of_flavour(flavour)
        notes = options.notes
        return tagging.Wanted(
            version=options.version,
            flavour=flavour,
            release=self._release,
            remote=options.remote,
            branch=options.branch,
            notes=tagging.Notes(name=str(notes), content=notes.read_bytes()) if notes else None,
            push=options.push,
        )

    def _latest(self) -> Release | None:
        environment = tagging.target(self._release, self._options.version)
        settled = settings.settle(
            environment,
            self._release.environments[environment.name].endpoints,
            self._document,
            environ=self._session.environ,
            made=None,
        )
        coordinator = Coordinator(
            base_url=settled.endpoints["coordinator_url"],
            release_key=lambda: "",
            seconds=_COORDINATOR_SECONDS,
            policy=retries.Policy(attempts=1),
        )
        return coordinator.latest(self._release.product.platform)

    def _told_file(self) -> str:
        """Which release file counts: in the tool's own repository its own is that of this one."""
        if self._chosen == data.release_file() and self._chosen.parent != self._git.top():
            return "release-tool's own: this repository has none"
        return printable(str(self._chosen))

    def _require_somebody(self) -> None:
        options = self._options
        if not options.push or options.yes or options.dry:
            return
        if not (sys.stdin.isatty() and self._session.on_terminal and not options.as_json):
            raise errors.UsageError(
                f"nobody is here to confirm the push of {options.version}",
                hint="say --yes in a job",
            )

    def _confirm(self, proposal: Proposal) -> None:
        if self._options.yes:
            return
        typed = click.prompt(
            f"Push {proposal.name} and release to {proposal.environment}? Type the version",
            type=str,
        )
        if typed != proposal.version:
            raise errors.UsageError(
                "not tagged, nothing was changed", expected=proposal.version, observed=typed
            )

    def _push(self, proposal: Proposal, made: Made) -> None:
        again = shlex.join(["git", "push", proposal.remote, f"refs/tags/{proposal.name}"])
        try:
            self._git.push(proposal.remote, proposal.name)
        except errors.ReleaseError as problem:
            if isinstance(problem, errors.TransientError) and self._arrived(proposal, made):
                return
            raise type(problem)(
                f"tag {proposal.name} was made here and is not at {proposal.remote}:"
                f" {problem.message}",
                observed=problem.observed,
                hint=f"run the same command again, or {again}; to take it back:"
                f" git tag -d {proposal.name}",
            ) from None

    def _arrived(self, proposal: Proposal, made: Made) -> bool:
        """Whether the remote has it although its answer was lost."""
        try:
            there = self._git.ask(proposal.remote)
        except errors.ReleaseError:
            return False
        return there.objects.get(proposal.name) == made.object

    def _end(self, proposal: Proposal, made: Made | None, *, pushed: bool) -> None:
        distrust = self._git.verifies(proposal.name) if made and made.signed else ""
        if self._options.as_json:
            document = _as_json(proposal, made, distrust, pushed=pushed)
            print(json.dumps(document, ensure_ascii=False, indent=1), file=self._session.out)
            return
        for line in _ending(proposal, made, distrust, pushed=pushed):
            print(line, file=self._session.out)


def _release_file(chosen: Path | None, git: Tags) -> Path:
    """The file that was named, else the repository's, wherever in it one stands."""
    folder = git.top() if git.is_repository() else Path.cwd()
    return data.release_file_of(folder, chosen)


def _refusal(proposal: Proposal) -> errors.ReleaseError:
    found = tuple(one.remedy for one in proposal.failed)
    kind = next((one for one in _REMEDIES if any(issubclass(it, one) for it in found)), None)
    kind = kind or errors.UsageError
    count = len(proposal.failed)
    return kind(
        f"{proposal.name} was not made: {count} {'finding' if count == 1 else 'findings'}",
        details=tagging.faults(proposal.failed),
    )


def _shown(proposal: Proposal, release_file: str) -> Iterator[str]:
    on = f"{proposal.commit[:12]} ({proposal.branch or 'detached'})"
    yield check_lines.headline(
        f"{proposal.title} · tag {proposal.name} on {on}", f"releases to {proposal.environment}"
    )
    for check, _ in proposal.findings:
        subject = f"{check.subject}  " if check.subject else ""
        told = printable(f"{subject}{check.observed or check.hint}", 400)
        open_end = "not checked: " if check.outcome == "not_checked" else ""
        yield f"  {check.name:<{_NAME_WIDTH}} {open_end}{told}"
    yield f"  {'release file':<{_NAME_WIDTH}} {release_file}"
    signed = f"signed ({proposal.signing})" if proposal.signing else "not signed (tag.gpgSign)"
    yield f"  {'signature':<{_NAME_WIDTH}} {signed}"
    where = printable(proposal.address, 200)
    yield f"  {'goes to':<{_NAME_WIDTH}} {proposal.remote} ({where})"
    # A bar before each line: what a note says must not be taken for a command of the job's log.
    for line in proposal.message.rstrip("\n").split("\n"):
        yield f"  | {line}".rstrip()


def _ending(proposal: Proposal, made: Made | None, distrust: str, *, pushed: bool) -> Iterator[str]:
    if made is None:
        yield "Nothing was made (--dry-run)"
        return
    if made.signed:
        held = (
            f"git does not verify it here: {printable(distrust, 200)}" if distrust else "verified"
        )
        yield f"  {'signature':<{_NAME_WIDTH}} {held}"
    if pushed:
        yield f"Pushed {proposal.name} to {proposal.remote} · object {made.object[:12]}"
        return
    yield f"Made {proposal.name} · object {made.object[:12]} · not pushed"
    yield f"  push it: {shlex.join(['git', 'push', proposal.remote, f'refs/tags/{proposal.name}'])}"


def _as_json(
    proposal: Proposal, made: Made | None, distrust: str, *, pushed: bool
) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "ok": True,
        "tag": proposal.name,
        "version": proposal.version,
        "environment": proposal.environment,
        "commit": proposal.commit,
        "branch": proposal.branch,
        "previous": proposal.previous,
        "message": proposal.message,
        "remote": proposal.remote,
        "checks": [check.as_json() for check, _ in proposal.findings],
        "made": made is not None,
        "object": made.object if made else "",
        "signed": made.signed if made else False,
        "signature_fault": distrust,
        "pushed": pushed,
    }
