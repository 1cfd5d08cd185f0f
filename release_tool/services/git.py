"""The source tree, as git knows it. The only module that runs git."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from release_tool import errors

# Reading refs and one status of a large tree; what takes longer hangs.
_SECONDS = 60
# A tag's text beyond this is no changelog; the coordinator takes 64 KiB for a whole request.
_TEXT_BYTES = 1024 * 1024
_FETCH_ALL = "run git fetch --unshallow; in a GitHub job check out with fetch-depth: 0"
# A file system monitor is a program that the tree's own configuration names.
_PLAIN = ("-c", "core.fsmonitor=false", "-c", "color.ui=false", "-c", "core.quotePath=false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """What stands checked out."""

    commit: str
    """40 hex digits."""
    date: int
    """When it was committed, Unix time."""
    changes: tuple[str, ...]
    """Changed and untracked files; empty for a clean tree."""
    shallow: bool


@dataclass(frozen=True, slots=True)
class Git:
    """Git in one folder, with an environment that a caller has scrubbed."""

    folder: Path
    environ: Mapping[str, str] = field(repr=False)
    kept: frozenset[str] = frozenset()
    """Names of git's own variables that count all the same; the others could lead elsewhere."""

    def is_repository(self) -> bool:
        """Whether the folder belongs to a working tree with a commit.

        Raises:
            HostError: git is there and refuses to read the tree.
        """
        try:
            result = self._run("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        except FileNotFoundError:
            return False
        if result.returncode == 128 and b"dubious ownership" in result.stderr:
            raise _refused(self.folder, result.stderr)
        return result.returncode == 0

    def top(self) -> Path:
        """The top of the working tree that the folder belongs to."""
        return Path(self._text("rev-parse", "--show-toplevel").removesuffix("\n"))

    def checkout(self) -> Checkout:
        """Read the commit, its date and what differs from it.

        Raises:
            HostError: git is missing or cannot read the tree.
        """
        commit, date = self._text("log", "-1", "--format=%H %ct", "HEAD").split()
        status = self._text("status", "--porcelain=v1", "-z", "--untracked-files=normal")
        return Checkout(
            commit=commit,
            date=int(date),
            changes=tuple(_changed_paths(status)),
            shallow=self._text("rev-parse", "--is-shallow-repository").strip() == "true",
        )

    def default_branch(self, configured: str = "") -> str:
        """The full ref of the branch that releases come from.

        Args:
            configured: its name, where the remote's own word is not wanted.

        Raises:
            HostError: nothing says which branch it is.
        """
        if configured:
            candidates = [f"refs/remotes/origin/{configured}", f"refs/heads/{configured}"]
        else:
            named = self._run("symbolic-ref", "--quiet", "refs/remotes/origin/HEAD")
            if named.returncode == 0:
                return _decode(named.stdout).strip()
            # A checkout that a GitHub job made does not know the remote's HEAD.
            candidates = ["refs/remotes/origin/main", "refs/remotes/origin/master"]
        found = [ref for ref in candidates if self._has(ref)]
        if found and (configured or len(found) == 1):
            return found[0]
        raise errors.HostError(
            "git does not say which branch is the default",
            subject=str(self.folder),
            expected=" or ".join(candidates),
            observed=", ".join(found) or "none of them",
            hint="run git remote set-head origin --auto, or set source.default_branch",
        )

    def reaches(self, ref: str, commit: str) -> bool:
        """Whether the commit is in the history of the ref."""
        result = self._run("merge-base", "--is-ancestor", commit, ref)
        if result.returncode not in (0, 1):
            raise _refused(self.folder, result.stderr)
        return result.returncode == 0

    def commit_of_tag(self, name: str) -> str:
        """The commit that a tag names; empty where there is no such tag."""
        result = self._run("rev-parse", "--verify", "--quiet", f"refs/tags/{name}^{{commit}}")
        return _decode(result.stdout).strip() if result.returncode == 0 else ""

    def tags_at_head(self) -> list[str]:
        """The names of the tags that point at the commit."""
        return self._text("tag", "--points-at", "HEAD").split()

    def annotation(self, name: str) -> str:
        """The text of an annotated tag without its signature; empty for a plain tag."""
        text = "%(contents:subject)%0a%0a%(contents:body)"
        only_annotated = f"%(if:equals=tag)%(objecttype)%(then){text}%(end)"
        found = self._text("for-each-ref", f"--format={only_annotated}", f"refs/tags/{name}")
        return found.strip()

    def tracks(self, path: str) -> bool:
        """Whether a file is in the index; False outside of a tree, and without git."""
        return self._holds("ls-files", "--error-unmatch", "--", path)

    def would_add(self, path: str) -> bool:
        """Whether a file of this tree is not ignored."""
        inside = self._holds("rev-parse", "--is-inside-work-tree")
        return inside and not self._holds("check-ignore", "--quiet", "--", path)

    def _holds(self, *arguments: str) -> bool:
        try:
            return self._run(*arguments).returncode == 0
        except FileNotFoundError:
            return False

    def _has(self, ref: str) -> bool:
        return self._run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").returncode == 0

    def _text(self, *arguments: str) -> str:
        try:
            result = self._run(*arguments)
        except FileNotFoundError:
            raise errors.HostError("git is not installed", hint="install git") from None
        if result.returncode != 0:
            raise _refused(self.folder, result.stderr)
        return _decode(result.stdout)

    def _run(
        self, *arguments: str, told: bytes = b"", seconds: int = _SECONDS
    ) -> subprocess.CompletedProcess[bytes]:
        environ = {
            key: value
            for key, value in self.environ.items()
            if not key.startswith("GIT_") or key in self.kept
        }
        try:
            return subprocess.run(
                ["git", *_PLAIN, *arguments],
                cwd=self.folder,
                env={**environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
                input=told,
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise errors.HostError(
                "git did not answer", subject=str(self.folder), expected=f"within {seconds} s"
            ) from None


def shallow_clone(folder: Path) -> errors.HostError:
    """The error of a clone that lacks the history which a proof needs."""
    return errors.HostError(
        "this is a shallow clone: it cannot prove where its commit comes from",
        subject=str(folder),
        hint=_FETCH_ALL,
    )


def _refused(folder: Path, said: bytes) -> errors.HostError:
    return errors.HostError(
        "git cannot read the source tree",
        subject=str(folder),
        observed=" ".join(_decode(said[:2000]).split()),
    )


def _changed_paths(status: str) -> list[str]:
    """The paths of `status --porcelain=v1 -z`; a rename is followed by its old name."""
    found = []
    entries = iter(status.split("\0"))
    for entry in entries:
        if entry:
            found.append(entry[3:])
            if entry[0] in "RC":
                next(entries, None)
    return found


def _decode(data: bytes) -> str:
    return data[:_TEXT_BYTES].decode("utf-8", "replace")
