"""GitHub: a draft, its assets uploaded and downloaded again, and only then a release.

A finished asset is never overwritten, in a draft neither, and a published release is never
changed: it is compared, byte by byte. Only the placeholder of an upload that broke is replaced,
and the words of a draft, which are told and kept here.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from release_tool import errors
from release_tool.files import atomic
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.provenance import log
from release_tool.provenance.keys import PublicKey
from release_tool.services import github as service
from release_tool.services import retries
from release_tool.services.github import GitHub
from release_tool.stages import github_assets
from release_tool.values import (
    UNKNOWN,
    GitHubRelease,
    PromotedRelease,
    PublishedDocument,
    ReleaseArchive,
    ReleasedAsset,
)

READS = (
    "version",
    "source",
    "archive",
    "product.name",
    "environment.github_repository",
    "flavour.title",
    "flavour.tag_prefix",
)
NOTES = "release-notes.md"
SUMS = "SHA256SUMS"
DRAFTED = "draft-notes.md"
"""What a draft said that was taken up, where somebody else wrote it: GitHub keeps no older text."""
_R = TypeVar("_R")


def run(
    plan: ReleasePlan,
    archived: ReleaseArchive,
    promoted: PromotedRelease,
    *,
    workspace: Workspace,
    reporter: Reporter,
    github: GitHub,
    notes: str,
    documents: Sequence[PublishedDocument] = (),
    trusted: Sequence[PublicKey] = (),
    policy: retries.Policy = retries.DEFAULT,
) -> GitHubRelease:
    """Publish the archive, its digest and its documents with the notes, or find that they are.

    Args:
        plan: the release plan.
        archived: the archive that was registered.
        promoted: whether this release is the latest.
        workspace: where archive and notes lie.
        reporter: is told of bytes and of what is done again.
        github: the repository.
        notes: the finished text.
        documents: signed ones in the workspace, which go along.
        trusted: the keys that sign the log's head; one that was signed by an earlier one stays.
        policy: how to retry what fails in passing.

    Raises:
        RemoteRefusedError: the tag is not in the repository; an asset holds other bytes, or is
            none of ours; there are several drafts, and not all are what this run makes; a
            published release lacks an asset.
        VerificationError: the tag leads to another commit; an asset, downloaded again, differs.
        HostError: the archive cannot be read.
        CredentialError, TransientError, PendingError: GitHub.
    """
    notes_sha256 = _write(workspace.path(NOTES), notes.encode())
    sums = f"{archived.sha256}  {plan.archive.name}\n".encode()
    with workspace.scratch("github") as scratch:
        sums_sha256 = _write(scratch / SUMS, sums)
        publication = _Publication(
            plan=plan,
            github=github,
            reporter=reporter,
            policy=policy,
            drafted=workspace.path(DRAFTED),
            tag=release_tag(plan),
            notes=notes,
            latest=promoted.outcome == "promoted",
            trusted=trusted,
            wanted=(
                _wanted(plan.archive.name, archived, workspace.path(archived.path)),
                _Wanted(
                    asset=ReleasedAsset(name=SUMS, size=len(sums), sha256=sums_sha256),
                    path=scratch / SUMS,
                ),
                *(_wanted(one.name, one, workspace.path(one.name)) for one in documents),
            ),
        )
        release, assets, found = publication.run()
    return GitHubRelease(
        tag=release.tag,
        id=release.id,
        page=release.page,
        outcome="already_published" if found else "published",
        assets=assets,
        latest=publication.latest,
        immutable=release.immutable,
        notes=NOTES,
        notes_sha256=notes_sha256,
    )


def release_tag(plan: ReleasePlan) -> str:
    """The tag that is released: the one that the source stands at, or the version's."""
    return plan.source.tag or f"{plan.flavour.tag_prefix}{plan.version}"


def check_tag(plan: ReleasePlan, github: GitHub) -> None:
    """Compare the repository's tag with the source; publishing would make one that is missing.

    Raises:
        RemoteRefusedError: there is none.
        VerificationError: it leads to another commit.
    """
    tag = release_tag(plan)
    commit = github.commit_of(tag)
    if commit is None:
        raise errors.RemoteRefusedError(
            "the repository has no such tag, and publishing would make it on another commit",
            subject=tag,
            expected=plan.source.commit,
            observed=f"no tag in {github.repository}",
            hint=f"push the tag: git push origin {tag}",
        )
    if plan.source.commit not in (UNKNOWN, commit):
        raise errors.VerificationError(
            "the repository's tag leads to another commit than this release was built from",
            subject=tag,
            expected=plan.source.commit,
            observed=commit,
            hint="the tag was moved: release the next version",
        )


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    asset: ReleasedAsset
    path: Path

    @property
    def name(self) -> str:
        return self.asset.name


def _wanted(name: str, made: ReleaseArchive | PublishedDocument, path: Path) -> _Wanted:
    asset = ReleasedAsset(name=name, size=made.size, sha256=made.sha256)
    return _Wanted(asset=asset, path=path)


@dataclass(frozen=True, kw_only=True)
class _Publication:
    plan: ReleasePlan
    github: GitHub
    reporter: Reporter
    policy: retries.Policy
    drafted: Path
    tag: str
    notes: str
    latest: bool
    trusted: Sequence[PublicKey]
    wanted: tuple[_Wanted, ...]

    def run(self) -> tuple[service.Release, tuple[ReleasedAsset, ...], bool]:
        """The release, its assets as they stand, and whether it was already published."""
        self._again(lambda: check_tag(self.plan, self.github))
        found = self._again(lambda: self.github.published(self.tag))
        if found is not None:
            assets = self._compare(found, then="nothing was changed")
            self._tell_other_words(found)
            self._tell_drafts()
            return found, assets, True
        draft = self._again(self._draft)
        self._require_no_strange(draft, draft.assets, then="nothing was changed")
        self._tell_what_is_replaced(draft)
        for wanted in self.wanted:
            self._again(lambda wanted=wanted: self._bring(draft, wanted))  # type: ignore[misc]
        self._compare(draft, then="it stays a draft")
        # Once more: between the first look and this one lies the upload.
        self._again(lambda: check_tag(self.plan, self.github))
        published = self._again(lambda: self._publish(draft))
        assets = self._confirm(draft, published)
        self._tell_drafts()
        return published, assets, False

    def _again(self, action: Callable[[], _R]) -> _R:
        """Each step looks before it does something, so that a lost answer does no harm."""
        return retries.call(action, self.policy, self.reporter)

    def _draft(self) -> service.Release:
        drafts = self.github.drafts(self.tag)
        if not drafts:
            return self.github.create_draft(self.tag, name=self._title, notes=self.notes)
        if len(drafts) > 1 and not all(map(self._is_ours, drafts)):
            raise errors.RemoteRefusedError(
                f"there are {len(drafts)} drafts of this tag, and one of them is wanted",
                subject=self.tag,
                details=[draft.page for draft in drafts],
                hint="not all of them are what this run makes: delete all but one by hand",
            )
        # The one that has most of it; of equals the first, so that every run takes the same.
        draft = min(drafts, key=lambda one: (-len(one.assets), one.id))
        self.reporter.note(f"found the draft of an earlier run, {len(draft.assets)} assets")
        return draft

    def _is_ours(self, draft: service.Release) -> bool:
        """Whether a try of this release may have made it: one that was cut off may come late."""
        same = draft.name == self._title and _plain(draft.notes) == _plain(self.notes)
        return same and {asset.name for asset in draft.assets} <= {one.name for one in self.wanted}

    def _bring(self, draft: service.Release, wanted: _Wanted) -> None:
        github_assets.bring(
            self.github,
            draft,
            wanted.asset,
            wanted.path,
            reporter=self.reporter,
            trusted=self.trusted,
        )

    def _compare(self, release: service.Release, *, then: str) -> tuple[ReleasedAsset, ...]:
        """Whether exactly our assets are there, byte by byte; gives them as they stand.

        Args:
            release: where they are.
            then: how things stand where others are there, too.
        """
        assets = self._again(lambda: self.github.assets(release))
        self._require_no_strange(release, assets, then=then)
        listed = {asset.name: asset for asset in assets}
        return tuple(self._compared(one, listed.get(one.name)) for one in self.wanted)

    def _require_no_strange(
        self, release: service.Release, assets: Sequence[service.Asset], *, then: str
    ) -> None:
        ours = {wanted.name for wanted in self.wanted}
        strange = sorted({asset.name for asset in assets} - ours)
        if not release.draft:
            # A rollback brings later heads of the log to what is published.
            strange = [name for name in strange if not log.is_later_name(name)]
        if strange:
            raise errors.RemoteRefusedError(
                "the release on GitHub holds assets that are not ours",
                subject=self.tag,
                expected=", ".join(sorted(ours)),
                observed=", ".join(strange[:5]),
                hint=f"{then}; look at {release.page}",
            )

    def _compared(self, wanted: _Wanted, there: service.Asset | None) -> ReleasedAsset:
        if there is None or there.state != service.UPLOADED:
            raise errors.RemoteRefusedError(
                "the release on GitHub lacks an asset, and a published one is never changed",
                subject=wanted.name,
                observed=there.state if there else "nothing",
                hint="release the next version; the bucket's archive is not touched by this",
            )
        ours = self._again(
            lambda: github_assets.standing(
                self.github, wanted.asset, there, wanted.path, trusted=self.trusted
            )
        )
        github_assets.require_same(ours, there)
        github_assets.read_back(
            self.github, ours, there, policy=self.policy, reporter=self.reporter
        )
        return ours

    def _publish(self, draft: service.Release) -> service.Release:
        published = self.github.published(self.tag)
        if published is not None:
            return published
        return self.github.publish(draft, name=self._title, notes=self.notes, latest=self.latest)

    def _tell_drafts(self) -> None:
        """Name what a doubled request, or one that was handled late, may have left."""
        # The release is public: a list that does not come must not make it a failure.
        with contextlib.suppress(errors.ReleaseError):
            for draft in self.github.drafts(self.tag):
                self.reporter.warn(f"a draft of {self.tag} is left, delete it: {draft.page}")

    def _confirm(
        self, draft: service.Release, published: service.Release
    ) -> tuple[ReleasedAsset, ...]:
        """Whether what is public now is what was compared as a draft; its assets."""
        if published.draft or published.tag != self.tag:
            raise errors.VerificationError(
                "GitHub published something else than was asked",
                subject=self.tag,
                observed=f"{published.tag}, {'a draft' if published.draft else 'published'}",
                hint=f"look at {published.page}",
            )
        if published.id != draft.id:
            self.reporter.warn(f"another run published {self.tag} first; a draft of ours is left")
        assets = self._compare(published, then="it is published")
        self._tell_other_words(published)
        return assets

    def _tell_other_words(self, there: service.Release) -> None:
        """People may mend notes, and a rollback does; what stands is said, and never replaced."""
        if told := self._other_words(there):
            self.reporter.warn(
                f"{self.tag} stands on GitHub with {', '.join(told)}, not as this run would"
                f" publish it: {there.page}"
            )

    def _tell_what_is_replaced(self, draft: service.Release) -> None:
        """A draft is ours to fill, whoever began it; what it said is kept, as it stands nowhere."""
        told = self._other_words(draft)
        if not told:
            return
        where = ""
        if _plain(draft.notes):
            _write(self.drafted, draft.notes.encode(errors="replace"))
            where = f"; its text is kept in {self.drafted.name}, beside {NOTES}"
        self.reporter.warn(f"the draft of {self.tag} has {', '.join(told)}: replaced{where}")

    def _other_words(self, there: service.Release) -> list[str]:
        """In what it differs from what this run publishes; a draft may say nothing yet."""
        told = []
        # GitHub calls a draft without a title by its tag.
        untitled = there.draft and there.name in ("", self.tag)
        if there.name != self._title and not untitled:
            told.append(f"the title {there.name[:80]!r}")
        notes = _plain(there.notes)
        if notes != _plain(self.notes) and (notes or not there.draft):
            told.append("other notes")
        if there.prerelease:
            told.append("the mark of a prerelease")
        return told

    @property
    def _title(self) -> str:
        return f"{self.plan.name} {self.plan.version}"


def _plain(notes: str) -> str:
    """GitHub keeps a text as its form sends it, with CR and LF."""
    return notes.replace("\r\n", "\n").strip()


def _write(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()
