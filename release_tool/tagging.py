"""What a release tag must hold before it is made: every condition as a check, all at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import semver

from release_tool import errors, tag_message
from release_tool import version as versions
from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.plan import Environment
from release_tool.release_file import FlavourSection, ReleaseFile, VersionConstant
from release_tool.services import git
from release_tool.services.coordinator_rules import Release
from release_tool.services.git_tags import Made, Remote, Tags

_SHOWN_CHANGES = 5
_RECUT = "a tag is never cut again: whoever fetched it keeps the old one; release the next version"


class Finding(NamedTuple):
    """One check, and what class of remedy it asks for when it failed."""

    check: Check
    remedy: type[errors.ReleaseError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """A file of notes."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The tag that somebody asks for."""

    version: str
    flavour: str
    release: ReleaseFile
    """As the flavour has it."""
    remote: str
    branch: str = ""
    """That it is cut from; empty for the default branch."""
    notes: Notes | None = None
    push: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Everything about a tag that is not made yet, and whether it may be."""

    name: str
    version: str
    title: str
    commit: str
    branch: str
    """Empty for a detached HEAD."""
    environment: str
    """Which a push of it releases to."""
    previous: str
    """The tag that its notes begin at; empty for none, or where a file has them."""
    message: str
    signing: str
    """`openpgp`, `ssh` or `x509`, as git is configured; empty for an unsigned tag."""
    remote: str
    address: str
    findings: tuple[Finding, ...]
    made: Made | None = None
    """The same tag, made by a run whose push failed: only the push is left."""

    @property
    def failed(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.check.outcome == "failed")


Latest = Callable[[], Release | None]
"""What the coordinator serves; raises what asking it raises."""


def target(release: ReleaseFile, version: str) -> Environment:
    """The environment that a tag of this version releases to.

    Raises:
        UsageError: none, or several.
    """
    kind = versions.kind(version)
    fitting = [name for name, one in release.environments.items() if one.tags == kind]
    if len(fitting) != 1:
        raise errors.UsageError(
            f"{len(fitting) or 'no'} environments take {kind} tags",
            expected="one, by `tags` of its section in the release file",
            observed=", ".join(fitting) or "none",
        )
    return release.environments[fitting[0]].as_plan(fitting[0])


def propose(wanted: Wanted, repository: Tags, latest: Latest) -> Proposal:
    """Look at everything that a tag needs; nothing is changed, here or at the remote.

    Raises:
        UsageError: the version names no tag of this family, or the notes are not fit.
        HostError: there is no repository, or no such remote.
        CredentialError, TransientError: the remote cannot be asked.
    """
    return _Survey(wanted, repository, latest).run()


class _Survey:
    """One look around."""

    def __init__(self, wanted: Wanted, repository: Tags, latest: Latest) -> None:
        self._wanted = wanted
        self._git = repository
        self._latest = latest
        self._release = wanted.release
        self._flavour: FlavourSection = wanted.release.flavours[wanted.flavour]
        self._prefix = self._flavour.tag_prefix
        self._name = f"{self._prefix}{wanted.version}"
        self._environment = target(wanted.release, wanted.version)

    def run(self) -> Proposal:
        self._require_tag()
        if not self._git.is_repository():
            raise errors.HostError(
                "there is no commit to tag", subject=str(self._git.folder), hint="go to the clone"
            )
        if self._wanted.remote not in self._git.remotes():
            raise errors.UsageError(
                "there is no such remote",
                subject=self._wanted.remote,
                expected=", ".join(self._git.remotes()) or "a remote of this clone",
                hint="name it with --remote",
            )
        findings = list(self._findings())
        return Proposal(
            name=self._name,
            version=self._wanted.version,
            title=self._title,
            commit=self._checkout.commit,
            branch=self._git.branch(),
            environment=self._environment.name,
            previous="" if self._wanted.notes else self._previous,
            message=self._made.message if self._resumed and self._made else self._message(),
            signing=self._git.signing(),
            remote=self._wanted.remote,
            address=self._git.address(self._wanted.remote),
            findings=tuple(findings),
            made=self._made if self._resumed else None,
        )

    def _require_tag(self) -> None:
        text = self._wanted.version
        tag = versions.read_tag(self._name, (self._prefix,))
        if tag is not None and tag.version == text:
            return
        bare = text.removeprefix(self._prefix).removeprefix("v")
        meant = versions.read_tag(f"{self._prefix}{bare}", (self._prefix,))
        raise errors.UsageError(
            "this is not the version of a release tag",
            expected=f"{versions.example(bare.partition('-')[0])}, or X.Y.Z-dev.N",
            observed=repr(text[:128]),
            hint=f"did you mean {bare}? Its tag will be {meant.name}" if meant else "",
        )

    @cached_property
    def _title(self) -> str:
        product = f"{self._release.product.name} {self._flavour.title}".rstrip()
        return f"{product} {self._wanted.version}"

    @cached_property
    def _checkout(self) -> git.Checkout:
        return self._git.checkout()

    @cached_property
    def _remote(self) -> Remote:
        return self._git.ask(self._wanted.remote)

    @cached_property
    def _made(self) -> Made | None:
        return self._git.read(self._name)

    @cached_property
    def _resumed(self) -> bool:
        """Whether the tag is here, on this commit, and only its push is missing."""
        made = self._made
        return (
            self._wanted.push
            and made is not None
            and made.commit == self._checkout.commit
            and self._name not in self._remote.tags
        )

    def _findings(self) -> Iterator[Finding]:
        usage, host, refused = errors.UsageError, errors.HostError, errors.RemoteRefusedError
        yield Finding(self._tree(), usage)
        yield Finding(self._branch(), usage)
        yield Finding(self._history(), usage)
        for check in self._constants():
            yield Finding(check, usage)
        yield Finding(self._absent_here(), usage)
        yield Finding(self._absent_there(), refused)
        yield Finding(self._above_tags(), usage)
        yield Finding(self._above_served(), usage)
        if not self._wanted.notes:
            yield Finding(self._since(), usage)
        yield Finding(self._tagger(), host)

    # Where it is cut from

    def _tree(self) -> Check:
        if self._checkout.shallow:
            return checks.failed(
                "tree",
                expected="a full clone",
                observed="a shallow one",
                hint="run git fetch --unshallow",
            )
        changes = self._checkout.changes
        if not changes:
            return checks.passed("tree", "clean, nothing untracked")
        shown = ", ".join(repr(path)[1:-1] for path in changes[:_SHOWN_CHANGES])
        more = len(changes) - _SHOWN_CHANGES
        return checks.failed(
            "tree",
            expected="clean, nothing untracked",
            observed=shown + (f" and {more} more" if more > 0 else ""),
            hint="commit them, or take them away: what is tagged is what others get",
        )

    @cached_property
    def _default(self) -> str:
        """The full ref of the default branch at the remote; empty where nobody says which."""
        configured = self._release.source.default_branch
        return f"refs/heads/{configured}" if configured else self._remote.head

    def _branch(self) -> Check:
        found = self._git.branch()
        bound = self._environment.require_default_branch
        meant = self._wanted.branch or (_short(self._default) if bound else "")
        if not meant and found:
            return checks.passed("branch", f"{found}: {self._environment.name} takes any")
        if found and found == meant:
            return checks.passed("branch", found)
        return checks.failed(
            "branch",
            expected=meant or "a branch",
            observed=found or "a detached HEAD",
            hint="check it out, or name another with --branch",
        )

    def _history(self) -> Check:
        if not self._environment.require_default_branch:
            return checks.not_checked(
                "history", f"{self._environment.name} takes commits of any branch"
            )
        there = self._remote.branches.get(self._default, "")
        shown = f"{self._wanted.remote}/{_short(self._default)}"
        if not there:
            return checks.failed(
                "history",
                expected="a default branch at the remote",
                observed=_short(self._default) or "it names none",
                hint="set source.default_branch in the release file",
            )
        if not self._git.has_commit(there):
            return checks.failed(
                "history",
                expected=f"a clone that knows {shown} as it is now",
                observed=f"{there[:12]} is missing here",
                hint=f"run git fetch {self._wanted.remote}",
            )
        commit = self._checkout.commit
        if self._git.reaches(there, commit):
            return checks.passed("history", f"{commit[:12]} is in {shown}")
        return checks.failed(
            "history",
            expected=f"a commit of {shown}",
            observed=f"{commit[:12]} is not in it",
            hint="push and merge it first",
        )

    # The version

    def _constants(self) -> Iterator[Check]:
        named = [
            one
            for one in self._release.source.version_constants
            if not one.flavours or self._wanted.flavour in one.flavours
        ]
        if not named:
            yield checks.not_checked(
                "version in the source",
                "name its places in source.version_constants of the release file",
            )
        for constant in named:
            yield self._constant(constant)

    def _constant(self, constant: VersionConstant) -> Check:
        content = self._git.file(self._checkout.commit, constant.file)
        text = (content or b"").decode("utf-8", "replace")
        found = list(dict.fromkeys(re.findall(constant.pattern, text, re.MULTILINE)))
        if found == [self._wanted.version]:
            return checks.passed(
                "version in the source", self._wanted.version, subject=constant.file
            )
        missing = "no such file" if content is None else f"nothing matches {constant.pattern}"
        return checks.failed(
            "version in the source",
            subject=constant.file,
            expected=self._wanted.version,
            observed=", ".join(repr(one[:60])[1:-1] for one in found[:_SHOWN_CHANGES]) or missing,
            hint="raise the version there and commit it" if found else "mend the release file",
        )

    def _absent_here(self) -> Check:
        if self._resumed:
            return checks.passed("tag here", "made by an earlier run, on this commit; push is left")
        if self._name not in self._git.names():
            return checks.passed("tag here", "none")
        if self._name in self._remote.tags:
            return checks.failed(
                "tag here", expected="none", observed=f"{self._name}, as at the remote"
            )
        on = self._git.commit_of_tag(self._name)
        here = on == self._checkout.commit and self._made is not None
        return checks.failed(
            "tag here",
            expected="none",
            observed=f"{self._name} on {on[:12] or 'no commit'}, never pushed",
            hint="say --push to push it" if here else f"if nobody has it: git tag -d {self._name}",
        )

    def _absent_there(self) -> Check:
        there = self._remote.tags.get(self._name, "")
        taken = [name for name, one in self._family() if one == self._wanted.version]
        if not there and not (set(taken) & set(self._remote.tags)):
            return checks.passed(f"tag at {self._wanted.remote}", "none")
        name = self._name if there else taken[0]
        return checks.failed(
            f"tag at {self._wanted.remote}",
            expected="none",
            observed=f"{name} on {self._remote.tags.get(name, '')[:12]}",
            hint=_RECUT,
        )

    def _family(self) -> list[tuple[str, str]]:
        """Tag and version of each release tag of the flavour's family, here or at the remote."""
        found = []
        for name in sorted({*self._git.names(), *self._remote.tags}):
            tag = versions.read_tag(name, (self._prefix,))
            if tag is not None:
                found.append((name, tag.version))
        return found

    @cached_property
    def _comparable(self) -> list[tuple[str, str]]:
        """Those that this version comes after, the lowest first.

        A release may be cut below a development version of the next one; a development version
        comes after everything.
        """
        release = versions.kind(self._wanted.version) == "release"
        found = [
            (name, one)
            for name, one in self._family()
            if name != self._name and not (release and versions.kind(one) == "development")
        ]
        return sorted(found, key=lambda pair: semver.Version.parse(pair[1]))

    def _above_tags(self) -> Check:
        if not self._comparable:
            return checks.passed("latest tag", "none: this is the first one")
        name, latest = self._comparable[-1]
        if _is_above(self._wanted.version, latest):
            return checks.passed("latest tag", name)
        return checks.failed(
            "latest tag",
            expected=f"a version above {latest}",
            observed=self._wanted.version,
            hint="users never update to a lower version",
        )

    def _above_served(self) -> Check:
        name = f"latest release in {self._environment.name}"
        try:
            served = self._latest()
        except errors.ReleaseError as problem:
            return checks.not_checked(name, f"the coordinator did not tell: {problem}")
        if served is None:
            return checks.passed(name, "none")
        ours, version = self._release.product.backend, self._wanted.version
        told = f"{served.version}, {served.backend}" if served.backend else served.version
        if served.version != version and served.backend not in ("", ours):
            behind = "" if _is_above(version, served.version) else "; this one stays behind it"
            return checks.passed(name, f"{told}{behind}")
        if _is_above(version, served.version):
            return checks.passed(name, told)
        return checks.failed(
            name,
            expected=f"a version above {served.version}",
            observed=version,
            hint="the versions of all flavours are one series: users never get a lower one",
        )

    # The text and the hand

    @property
    def _previous(self) -> str:
        """The highest tag below, which the notes begin at."""
        below = [name for name, one in self._comparable if _is_above(self._wanted.version, one)]
        return below[-1] if below else ""

    def _since(self) -> Check:
        if not self._previous:
            return checks.passed("notes", "every commit: there is no tag before")
        here = self._git.commit_of_tag(self._previous)
        there = self._remote.tags.get(self._previous, here)
        if not here:
            return checks.failed(
                "notes",
                expected=f"the commits since {self._previous}",
                observed="the tag is missing here",
                hint=f"run git fetch --tags {self._wanted.remote}, or name a file with --notes",
            )
        if here != there:
            return checks.failed(
                "notes",
                expected=f"{self._previous} on {there[:12]}, as {self._wanted.remote} has it",
                observed=f"on {here[:12]} here",
                hint=f"somebody moved it: find out who, then git tag -d {self._previous} and fetch",
            )
        return checks.passed("notes", f"the commits since {self._previous}")

    def _message(self) -> str:
        limit = self._release.limits.changelog_bytes
        notes = self._wanted.notes
        if notes is not None:
            return tag_message.from_file(self._title, notes.content, name=notes.name, limit=limit)
        here = self._git.commit_of_tag(self._previous) if self._previous else ""
        subjects = self._git.subjects(
            self._checkout.commit, since=here, most=tag_message.MOST_COMMITS + 1
        )
        return tag_message.from_commits(self._title, subjects, since=self._previous, limit=limit)

    def _tagger(self) -> Check:
        found = self._git.tagger()
        if found:
            return checks.passed("tagger", found)
        return checks.failed(
            "tagger",
            expected="a name and an address",
            observed="git knows none",
            hint="git config user.name, git config user.email",
        )


def faults(findings: Sequence[Finding]) -> list[str]:
    """Each failed check as lines of an error."""
    found = []
    for check, _ in findings:
        subject = f" {check.subject}" if check.subject else ""
        expected = f"expected {check.expected}; found " if check.expected else ""
        found.append(f"{check.name}{subject}: {expected}{check.observed or 'nothing'}")
        if check.hint:
            found.append(f"  {check.hint}")
    return found


def _is_above(version: str, other: str) -> bool:
    try:
        return semver.Version.parse(version) > semver.Version.parse(other)
    except ValueError:
        # What is no SemVer ranks below every version, as the coordinator of October has it.
        return True


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/")
