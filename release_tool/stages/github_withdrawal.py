"""A rollback on GitHub: the log's new head goes there, and what was withdrawn says so.

Whoever can write to the bucket can put the log, its head and the tombstone back to what they were.
GitHub is where the bucket's keys do not reach, so each head that a rollback makes goes there: as
an asset of its own name, which replaces none, on the release that users get again and on those
that were withdrawn. These may be of another flavour, or stand at a second build's tag, so GitHub's
own list is looked through. Each step looks first, so that a killed rollback is simply run again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from release_tool import errors
from release_tool import version as tags
from release_tool.files import atomic
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.provenance import head_notes, log
from release_tool.provenance.keys import PublicKey
from release_tool.services import github as service
from release_tool.services import retries
from release_tool.services.github import GitHub
from release_tool.stages import github_assets
from release_tool.values import (
    GitHubMark,
    KeptHead,
    ReleasedAsset,
    WithdrawnOnGitHub,
)

READS = ("version", "environment.github_repository")
_TITLE = " (withdrawn)"
_HEAD_BYTES = 64 * 1024
_R = TypeVar("_R")
_Outcome = Literal["marked", "stood"]
_Place = Literal["asset", "notes", "none"]


def run(
    plan: ReleasePlan,
    lines: Mapping[str, str],
    head: KeptHead | None,
    *,
    workspace: Workspace,
    reporter: Reporter,
    github: GitHub,
    prefixes: Collection[str],
    trusted: Sequence[PublicKey],
    policy: retries.Policy = retries.DEFAULT,
) -> WithdrawnOnGitHub:
    """Bring the head to GitHub and mark what was withdrawn, or find that it is done.

    Args:
        plan: its version is the one that users get again.
        lines: by withdrawn version, the one line of Markdown that its notes shall begin with.
        head: the log's head after the rollback; None where no log is kept.
        workspace: where the head lies.
        reporter: is told of what was not found.
        github: the repository.
        prefixes: of the tags of every flavour; what was withdrawn may be of another one.
        trusted: the keys of which one must have signed the head.
        policy: how to retry what fails in passing.

    Raises:
        VerificationError: the kept head is not what was recorded, or no trusted key signed it;
            the asset, downloaded again, differs.
        RemoteRefusedError: GitHub has other bytes under the head's name.
        HostError: the kept head cannot be read.
        CredentialError, TransientError, PendingError: GitHub.
    """
    sealed = _checked(head, workspace, trusted) if head else ""
    return _Marking(
        plan=plan,
        lines=lines,
        head=head,
        sealed=sealed,
        workspace=workspace,
        reporter=reporter,
        github=github,
        prefixes=prefixes,
        trusted=trusted,
        policy=policy,
    ).run()


def _checked(head: KeptHead, workspace: Workspace, trusted: Sequence[PublicKey]) -> str:
    """It came from another job, perhaps, and what is on GitHub stays there."""
    path = workspace.path(head.name)
    with atomic.naming(path, "read"), path.open("rb") as source:
        content = source.read(_HEAD_BYTES + 1)
    found = log.unseal(content, trusted=trusted)
    if log.later_name(found) != head.name:
        raise errors.VerificationError(
            "this head is of another length than its name says",
            subject=head.name,
            observed=str(found),
            hint="run the rollback again",
        )
    return content.decode()


@dataclass(frozen=True, kw_only=True)
class _Marking:
    plan: ReleasePlan
    lines: Mapping[str, str]
    head: KeptHead | None
    sealed: str
    workspace: Workspace
    reporter: Reporter
    github: GitHub
    prefixes: Collection[str]
    trusted: Sequence[PublicKey]
    policy: retries.Policy

    def run(self) -> WithdrawnOnGitHub:
        versions = (self.plan.version, *self.lines)
        listed = self._again(lambda: self.github.published_at(self._is_touched))
        found = {one: self._of(one, listed) for one in versions}
        if not any(found.values()):
            self.reporter.warn(
                "GitHub has no release of these versions: keep the log's head elsewhere"
            )
        bad = {one.id for name in self.lines for one in found[name]}
        marks = [mark for one in versions for mark in self._marks(one, found[one], bad)]
        return WithdrawnOnGitHub(head=self.head.name if self.head else "", releases=tuple(marks))

    def _again(self, action: Callable[[], _R]) -> _R:
        return retries.call(action, self.policy, self.reporter)

    def _is_touched(self, tag: str) -> bool:
        versions = (self.plan.version, *self.lines)
        return any(tags.is_tag_of(tag, one, self.prefixes) for one in versions)

    def _of(self, version: str, listed: Sequence[service.Release]) -> list[service.Release]:
        """The releases of a version; one that is too old for the list is asked for by its tag."""
        found = [one for one in listed if tags.is_tag_of(one.tag, version, self.prefixes)]
        for prefix in () if found else self.prefixes:
            by_tag = self._again(lambda prefix=prefix: self.github.published(f"{prefix}{version}"))  # type: ignore[misc]
            found += [by_tag] if by_tag else []
        return found

    def _marks(
        self, version: str, found: Sequence[service.Release], bad: Collection[int]
    ) -> Iterator[GitHubMark]:
        if not found:
            self.reporter.note(f"{version} has no published release on GitHub")
            yield GitHubMark(version=version, page="", outcome="none", head="none")
        for release in found:
            if self.head and not release.immutable:
                self._bring(release, self.head)
            outcome: Literal["given again", "marked", "stood"] = "given again"
            if version in self.lines:
                outcome = self._mark(version, release)
            else:
                self._give_again(release, bad)
            yield GitHubMark(
                version=version, page=release.page, outcome=outcome, head=self._place(release)
            )

    def _place(self, release: service.Release) -> _Place:
        if self.head is None:
            return "none"
        return "notes" if release.immutable else "asset"

    def _bring(self, release: service.Release, head: KeptHead) -> None:
        signed = ReleasedAsset(name=head.name, size=head.size, sha256=head.sha256)
        path = self.workspace.path(head.name)
        ours = self._again(
            lambda: github_assets.bring(
                self.github,
                release,
                signed,
                path,
                reporter=self.reporter,
                trusted=self.trusted,
            )
        )
        listed = self._again(lambda: self.github.assets(release))
        for there in listed:
            if there.name == head.name:
                github_assets.read_back(
                    self.github, ours, there, policy=self.policy, reporter=self.reporter
                )

    def _give_again(self, release: service.Release, bad: Collection[int]) -> None:
        """GitHub's latest follows, unless a newer release has become it meanwhile.

        Before the others are marked: as prereleases they are no longer the latest, and then
        nobody could tell whose turn it was.
        """
        shown = self._again(self.github.latest)
        if shown and shown.id in bad:
            self._again(lambda: self.github.show_as_latest(release))
        notes = self._with_head(release)
        if notes != release.notes:
            self._again(
                lambda: self.github.retitle(
                    release, name=release.name, notes=notes, prerelease=release.prerelease
                )
            )

    def _mark(self, version: str, release: service.Release) -> _Outcome:
        line, notes = self.lines[version], self._with_head(release)
        if line not in notes:
            notes = f"{line}\n\n{notes}"
        name = release.name if release.name.endswith(_TITLE) else f"{release.name}{_TITLE}"
        kind = release.prerelease or release.immutable
        if (name, notes) == (release.name, release.notes) and kind:
            return "stood"
        self._again(lambda: self.github.retitle(release, name=name, notes=notes, prerelease=True))
        return "marked"

    def _with_head(self, release: service.Release) -> str:
        """An immutable release takes no asset, but a text."""
        sealed = self.sealed.strip()
        if self.head is None or not release.immutable or self._is_noted(release.notes):
            return release.notes
        return f"{release.notes.rstrip()}{head_notes.block(self.head.name, sealed)}"

    def _is_noted(self, notes: str) -> bool:
        """Whether the head stands there, by whichever of the keys that count."""
        ours = self.sealed.encode()
        return any(
            log.is_same_head(there, ours, trusted=self.trusted)
            for _, there in head_notes.parse(notes)
        )
