"""The source tree of a release, and whether an environment accepts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from release_tool import errors
from release_tool import version as versions
from release_tool.plan import EnvironmentPolicy, Source
from release_tool.services import git
from release_tool.values import UNKNOWN as UNKNOWN_COMMIT

# Archive members need a time; 1980 is the first year that every archive format can hold.
_NO_DATE = 315_532_800
_SHOWN_CHANGES = 5

UNKNOWN = Source(commit=UNKNOWN_COMMIT, clean=False, date=_NO_DATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What git says about the tree, and how to ask it more."""

    repository: git.Git
    checkout: git.Checkout | None
    version: str = ""
    prefix: str = "v"
    """Of the tags of the release's family."""
    named: str = ""
    """The tag that a job runs on, whether or not the clone has it."""
    tag: str = ""
    changelog: str = ""
    cut: bool = False
    """Whether the changelog was too long."""

    @property
    def known(self) -> bool:
        """Whether there is a commit at all."""
        return self.checkout is not None

    def as_plan(self) -> Source:
        """The part of the plan."""
        if self.checkout is None:
            return UNKNOWN
        return Source(
            commit=self.checkout.commit,
            clean=not self.checkout.changes,
            date=self.checkout.date,
            tag=self.tag,
            changelog=self.changelog,
        )


def read(
    folder: Path,
    environ: Mapping[str, str],
    *,
    version: str,
    tag: str = "",
    prefix: str = "v",
    changelog_bytes: int,
) -> Tree:
    """Read the tree around a folder.

    Args:
        folder: inside the working tree.
        environ: for git, scrubbed.
        version: what will be released; a tag at the commit that names it gives the changelog.
        tag: the tag that a job runs on.
        prefix: of the tags of the release's family.
        changelog_bytes: where the tag's text is cut.

    Raises:
        HostError: git cannot read the tree.
    """
    repository = git.Git(folder, environ)
    if not repository.is_repository():
        return Tree(repository=repository, checkout=None)
    checkout = repository.checkout()
    name = tag or _tag_of(version, prefix, repository.tags_at_head())
    text = repository.annotation(name) if name else ""
    changelog = _cut(text, changelog_bytes)
    return Tree(
        repository=repository,
        checkout=checkout,
        version=version,
        prefix=prefix,
        named=tag,
        tag=name,
        changelog=changelog,
        cut=changelog != text,
    )


def faults(
    tree: Tree, environment: EnvironmentPolicy, default_branch: str
) -> tuple[list[str], errors.HostError | None]:
    """Why an environment does not take this tree: every reason, and what the host lacks."""
    if tree.checkout is None:
        return ["this is not a git tree: its commit is unknown"] * _guarded(environment), None
    found = []
    if environment.require_clean_tree and tree.checkout.changes:
        found.append(_unclean(tree.checkout.changes))
    if environment.require_default_branch:
        try:
            found += _misplaced(tree, tree.checkout, default_branch)
        except errors.HostError as problem:
            return found, problem
    return found, None


def _guarded(environment: EnvironmentPolicy) -> bool:
    return (
        environment.require_clean_tree
        or environment.require_default_branch
        or environment.require_known_source
    )


def _unclean(changes: tuple[str, ...]) -> str:
    shown = ", ".join(repr(path)[1:-1] for path in changes[:_SHOWN_CHANGES])
    more = len(changes) - _SHOWN_CHANGES
    return f"the tree is not clean: {shown}" + (f" and {more} more" if more > 0 else "")


def _misplaced(tree: Tree, checkout: git.Checkout, default_branch: str) -> list[str]:
    repository = tree.repository
    if checkout.shallow:
        raise git.shallow_clone(repository.folder)
    found = []
    branch = repository.default_branch(default_branch)
    if not repository.reaches(branch, checkout.commit):
        found.append(
            f"commit {checkout.commit[:12]} is not in {branch.removeprefix('refs/remotes/')}"
        )
    return found + _mistagged(tree, checkout)


def _mistagged(tree: Tree, checkout: git.Checkout) -> list[str]:
    """A tag that says which commit the version is must be there and say this one.

    A version without any tag may still be released: its commit is proved by the branch.
    """
    name = tree.named or (f"{tree.prefix}{tree.version}" if tree.version else "")
    tagged = tree.repository.commit_of_tag(name) if name else ""
    if tree.named and not tagged:
        return [f"tag {name} is not in this clone: git fetch --tags"]
    if tagged and tagged != checkout.commit:
        return [f"tag {name} names commit {tagged[:12]}, and {checkout.commit[:12]} is checked out"]
    return []


def _tag_of(version: str, prefix: str, names: list[str]) -> str:
    for name in sorted(names):
        tag = versions.read_tag(name, (prefix,))
        if tag and tag.version == version:
            return name
    return ""


def _cut(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, whole lines where there are several."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    kept = encoded[:limit].decode("utf-8", "ignore")
    return kept.rsplit("\n", 1)[0].rstrip() if "\n" in kept else kept
