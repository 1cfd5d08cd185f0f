"""Tags, here and at a remote: reading them, making one, pushing one. Never forces anything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from release_tool import errors
from release_tool.services.git import Git

# Ten thousands of tags, each a line of some seventy bytes and one more for what it names.
_LISTING_BYTES = 32 * 1024 * 1024
# A file with a version constant in it is source.
_FILE_BYTES = 1024 * 1024
# A person types a passphrase, and a remote runs its hooks.
_PATIENT_SECONDS = 600
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_HEAD, _TAGS, _PEELED = "HEAD", "refs/tags/", "^{}"
_UNAUTHORIZED = re.compile(
    "permission denied|authentication failed|could not read (?:username|password)"
    "|terminal prompts disabled|access denied|http basic: |error: 40[13]",
    re.IGNORECASE,
)
_KIND = {"": "openpgp", "openpgp": "openpgp", "ssh": "ssh", "x509": "x509"}
_ARMOUR = ("-----BEGIN PGP ", "-----BEGIN SSH SIGNATURE", "-----BEGIN SIGNED MESSAGE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """What a remote says of itself."""

    name: str
    head: str
    """The full ref of its default branch; empty where it does not tell."""
    branches: Mapping[str, str] = field(repr=False)
    """Full ref to commit."""
    tags: Mapping[str, str] = field(repr=False)
    """Name to the commit that it names."""
    objects: Mapping[str, str] = field(repr=False)
    """Name to the tag object itself, or the commit of a plain tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A tag as git has it."""

    name: str
    object: str
    commit: str
    message: str
    """Without its signature."""
    signed: bool


@dataclass(frozen=True, slots=True)
class Tags(Git):
    """A repository whose tags are looked at and made."""

    def branch(self) -> str:
        """The branch that is checked out; empty for a detached HEAD."""
        result = self._run("symbolic-ref", "--quiet", "--short", _HEAD)
        return _told(result.stdout) if result.returncode == 0 else ""

    def remotes(self) -> list[str]:
        """The names of the remotes."""
        return self._text("remote").split()

    def address(self, remote: str) -> str:
        """Where a push to it goes, without a password."""
        result = self._run("remote", "get-url", "--push", remote)
        return re.sub(r"//[^/@]*@", "//", _told(result.stdout))

    def ask(self, remote: str) -> Remote:
        """Ask the remote for its branches and tags, now.

        Raises:
            CredentialError: it lets this user not in.
            TransientError: it does not answer.
        """
        result = self._run("ls-remote", "--symref", "--", remote)
        if result.returncode != 0:
            raise _unreached(remote, result.stderr)
        if len(result.stdout) > _LISTING_BYTES:
            raise errors.HostError(
                "the remote has more branches and tags than are read",
                subject=remote,
                expected=f"at most {_LISTING_BYTES} bytes of them",
            )
        return _read_remote(remote, result.stdout.decode("utf-8", "replace"))

    def names(self) -> list[str]:
        """The names of the tags that are here."""
        result = self._run("for-each-ref", "--format=%(refname:strip=2)", _TAGS)
        text = result.stdout[:_LISTING_BYTES].decode("utf-8", "replace")
        return [name for name in text.split("\n") if name]

    def has_commit(self, commit: str) -> bool:
        """Whether this clone holds the commit."""
        return self._has(commit)

    def file(self, commit: str, path: str) -> bytes | None:
        """A file as the commit has it, with the conversions of a checkout undone; None for none.

        Raises:
            HostError: it is too large for source.
        """
        name = f"{commit}:{path}"
        kind = self._run("cat-file", "-t", name)
        if kind.returncode != 0 or _told(kind.stdout) != "blob":
            return None
        count = int(self._text("cat-file", "-s", name))
        if count > _FILE_BYTES:
            raise errors.HostError(
                "this file is too large to look for a version in",
                subject=path,
                expected=f"at most {_FILE_BYTES} bytes",
                observed=f"{count} bytes",
            )
        return self._run("cat-file", "blob", name).stdout

    def subjects(self, commit: str, *, since: str, most: int) -> list[str]:
        """The first lines of the commits up to one, the newest first; merges say nothing.

        Args:
            commit: the newest.
            since: the newest that is left out; empty for none.
            most: how many to read.
        """
        wanted = f"{since}..{commit}" if since else commit
        text = self._text(
            "log", "--no-merges", "-z", "--format=%s", f"--max-count={most}", wanted, "--"
        )
        return [line for line in text.split("\0") if line.strip()]

    def tagger(self) -> str:
        """Who makes a tag, as `Name <address>`; empty where nobody told git."""
        result = self._run("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
        said = _told(result.stdout)
        return said[: said.rfind(">") + 1] if result.returncode == 0 else ""

    def signing(self) -> str:
        """How git signs an annotated tag by its own configuration; empty for not at all."""
        asked = (self._setting(name) for name in ("tag.gpgSign", "tag.forceSignAnnotated"))
        if not any(asked):
            return ""
        result = self._run("config", "--get", "gpg.format")
        return _KIND.get(_told(result.stdout), "openpgp")

    def make(self, name: str, commit: str, message: str, *, signed: bool) -> Made:
        """Make an annotated tag; git signs it where its configuration says so.

        The message stands as it is: git would take lines of `#`, the headings of Markdown, for
        comments. What was made is read back, since git 2.39 makes an unsigned tag and ends well
        where an SSH key cannot sign; a tag that is not what was meant is taken away again.

        Raises:
            HostError: git refuses, or cannot sign.
        """
        result = self._run(
            *("tag", "--annotate", "--cleanup=verbatim", "--file=-", "--", name, commit),
            told=message.encode(),
            seconds=_PATIENT_SECONDS,
        )
        hint = "mend what git says; where it signs, see tag.gpgSign and user.signingKey"
        if result.returncode != 0:
            raise errors.HostError(
                f"git did not make tag {name}; nothing was changed",
                observed=_line(result.stderr),
                hint=hint,
            )
        made = self.read(name)
        if made and (made.commit, made.message, made.signed) == (commit, message, signed):
            return made
        if made:
            # Only this very object: nobody else's tag of that name.
            self._run("update-ref", "-d", f"{_TAGS}{name}", made.object)
        raise errors.HostError(
            f"git made another tag {name} than it was told to; it was taken away again",
            expected="signed, as git is configured" if signed else "the text that was shown",
            observed=_line(result.stderr) or "another text, commit or signature",
            hint=hint,
        )

    def read(self, name: str) -> Made | None:
        """An annotated tag as it stands; None where there is none of this name, or a plain one."""
        result = self._run("cat-file", "tag", f"{_TAGS}{name}")
        if result.returncode != 0:
            return None
        _, _, text = result.stdout.decode("utf-8", "replace").partition("\n\n")
        message, signature = _unsigned(text)
        return Made(
            name=name,
            object=self._text("rev-parse", "--verify", f"{_TAGS}{name}").strip(),
            commit=self.commit_of_tag(name),
            message=message,
            signed=bool(signature),
        )

    def verifies(self, name: str) -> str:
        """Why git does not trust the signature of a tag; empty where it does."""
        result = self._run("verify-tag", "--", name)
        return "" if result.returncode == 0 else _line(result.stderr) or "git does not say why"

    def push(self, remote: str, name: str) -> None:
        """Push one tag and nothing else.

        Raises:
            RemoteRefusedError: the remote does not want it.
            CredentialError: the remote lets this user not in.
            TransientError: it cannot be reached.
        """
        ref = f"{_TAGS}{name}"
        result = self._run(
            *("-c", "push.followTags=false", "-c", "push.gpgSign=false"),
            *("push", "--porcelain", "--no-force", "--", remote, f"{ref}:{ref}"),
            seconds=_PATIENT_SECONDS,
        )
        if result.returncode == 0:
            return
        refused = [line for line in _told(result.stdout).splitlines() if line.startswith("!")]
        if refused:
            said = _line(result.stderr) or refused[0]
            raise errors.RemoteRefusedError(f"{remote} refused tag {name}", observed=said)
        raise _unreached(remote, result.stderr)

    def _setting(self, name: str) -> bool:
        return _told(self._run("config", "--type=bool", "--get", name).stdout) == "true"


def is_armour(line: str) -> bool:
    """Whether git takes this line, and all that follows it, for a signature."""
    return line.startswith(_ARMOUR)


def _unsigned(text: str) -> tuple[str, str]:
    lines = text.splitlines(keepends=True)
    for at, line in enumerate(lines):
        if is_armour(line):
            return "".join(lines[:at]), "".join(lines[at:])
    return text, ""


def _read_remote(name: str, listing: str) -> Remote:
    head, branches = "", {}
    objects: dict[str, str] = {}
    peeled: dict[str, str] = {}
    for what, ref in _rows(listing):
        if what.startswith("ref: "):
            head = what.removeprefix("ref: ") if ref == _HEAD else head
        elif not _COMMIT.fullmatch(what):
            continue
        elif ref.startswith(_TAGS):
            tag = ref.removeprefix(_TAGS)
            kept = peeled if tag.endswith(_PEELED) else objects
            kept[tag.removesuffix(_PEELED)] = what
        elif ref.startswith("refs/heads/"):
            branches[ref] = what
    return Remote(name=name, head=head, branches=branches, tags=objects | peeled, objects=objects)


def _rows(listing: str) -> Iterator[tuple[str, str]]:
    for line in listing.split("\n"):
        what, tab, ref = line.partition("\t")
        if tab:
            yield what, ref


def _unreached(remote: str, said: bytes) -> errors.ReleaseError:
    kind: Literal["credential", "network"]
    kind = "credential" if _UNAUTHORIZED.search(said.decode("utf-8", "replace")) else "network"
    if kind == "credential":
        return errors.CredentialError(
            "the remote lets this user not in", subject=remote, observed=_line(said)
        )
    return errors.TransientError(
        "the remote cannot be reached", subject=remote, observed=_line(said)
    )


def _told(data: bytes) -> str:
    return data[: 1024 * 1024].decode("utf-8", "replace").strip()


def _line(said: bytes) -> str:
    """What git says in one line, without the passwords of addresses."""
    text = " ".join(said[:2000].decode("utf-8", "replace").split())
    return re.sub(r"//[^/@\s]*@", "//", text)
