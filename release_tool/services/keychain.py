"""A macOS keychain made for one run; the only caller of `/usr/bin/security`.

The keychain has a random password that nobody keeps, no lock timeout, and one identity. Passwords
reach `security` on its standard input (`security -i`) and never in its arguments, which every
process of the host can read. The keychain stands in the user's search list while the block lasts,
because codesign finds an identity in no other; it leaves the list and is deleted in every outcome.
A run that was killed leaves its keychain behind: each run holds a lock beside its own, so the next
one knows which are dead and removes them.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from release_tool import errors
from release_tool.files import atomic
from release_tool.progress import Reporter
from release_tool.services import apple_tools, interrupts
from release_tool.services.apple_tools import TOOLS, AppleTools, Said

FOLDER = Path("Library/Application Support/release-tool/keychains")
"""Below the user's home: the same for every release, so that any run finds what another left."""
_SUFFIX = ".keychain-db"
_PASSWORD_BYTES = 32
_SECONDS = 120.0
# `security` reads a line into 4096 bytes.
_LINE_BYTES = 4000
# Who may use the key without asking: Apple's own tools, codesign among them.
_PARTITIONS = "apple-tool:,apple:,codesign:"
# A prompt may stand before it.
_FAILED = re.compile(r"\S: returned -?\d+")
_ENTRY = re.compile(r'"((?:[^"\\]|\\.)*)"')
_IDENTITY = re.compile(r'^\s*\d+\) ([0-9A-F]{40}) "(.*)"(?: \((\w+)\))?\s*$', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The one identity that must be there."""

    name: str
    """The certificate's common name."""
    sha1: str = ""
    """Of the certificate, in hex; empty where only the name is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An identity that codesign can use."""

    name: str
    sha1: str
    """In upper case hex: what codesign is told, for names can be ambiguous."""
    keychain: Path | None = None
    """The run's own; None for an identity in the user's keychains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKeychain:
    """A keychain that lives as long as the block that made it."""

    path: Path
    password: str = field(repr=False)
    tools: AppleTools = field(default=TOOLS, repr=False)

    def add(self, p12: bytes, password: str, wanted: Wanted, *, scratch: Path) -> Held:
        """Import an identity for codesign, and see that it is there and the only one.

        Args:
            p12: PKCS#12 that macOS reads: Triple DES and SHA-1.
            password: of the PKCS#12.
            wanted: the identity.
            scratch: a private folder on disk for the moment of the import.

        Raises:
            CredentialError: it is not imported, not valid, missing, or not alone.
            HostError: `security` fails.
        """
        path = scratch / f"{secrets.token_hex(8)}.p12"
        try:
            atomic.write_atomically(path, p12, mode=0o600)
            said = _ask(
                self.tools,
                ("import", path, "-k", self.path, "-f", "pkcs12", "-P", password),
                ("-x", "-T", self.tools.codesign, "-T", self.tools.security),
            )
        finally:
            path.unlink(missing_ok=True)
        if _has_failed(said):
            raise errors.CredentialError(
                "the keychain does not take the signing identity",
                subject=wanted.name,
                details=said.lines,
                hint="export the certificate with its key again, as .p12",
            )
        _must(
            _ask(
                self.tools,
                ("set-key-partition-list", "-S", _PARTITIONS),
                ("-s", "-k", self.password, self.path),
            ),
            "let codesign use the key",
        )
        return replace_keychain(find(wanted, keychain=self.path, tools=self.tools), self.path)


def replace_keychain(held: Held, path: Path) -> Held:
    """The same identity, known to lie in this keychain."""
    return Held(name=held.name, sha1=held.sha1, keychain=path)


@contextmanager
def made_for_run(
    folder: Path, *, reporter: Reporter, tools: AppleTools = TOOLS
) -> Iterator[RunKeychain]:
    """A new, unlocked keychain in the user's search list while the block lasts.

    What dead runs left in the folder is removed first.

    Args:
        folder: where keychains of runs stand; made where it is missing.
        reporter: is warned of what could not be put in order.
        tools: Apple's tools.

    Raises:
        HostError: this host has no `security`, or it fails.
    """
    apple_tools.require(tools.security, "a keychain for the run")
    with atomic.naming(folder, "make"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    folder = folder.resolve()
    path = folder / f"run-{secrets.token_hex(8)}{_SUFFIX}"
    lock: IO[bytes] | None = None
    try:
        with _search_list_lock(folder):
            _remove_dead(folder, tools, reporter)
            lock = _held_lock(path)
        keychain = RunKeychain(path=path, password=secrets.token_hex(_PASSWORD_BYTES), tools=tools)
        _create(keychain)
        with _search_list_lock(folder):
            others = [entry for entry in _search_list(tools) if entry != str(path)]
            _set_search_list([str(path), *others], tools)
        yield keychain
    finally:
        with interrupts.held_back():
            with _search_list_lock(folder):
                _remove(path, tools, reporter)
            if lock is not None:
                lock.close()


def find(wanted: Wanted, *, tools: AppleTools = TOOLS, keychain: Path | None = None) -> Held:
    """The one valid identity of this name, and of this SHA-1 where it is known.

    Args:
        wanted: the identity.
        tools: Apple's tools.
        keychain: where to look, and then nothing else may be there; None for the search list.

    Raises:
        CredentialError: there is none, another one, or more than one.
        HostError: `security` fails.
    """
    apple_tools.require(tools.security, "finding the signing identity")
    where = [] if keychain is None else [str(keychain)]
    said = apple_tools.run(
        tools.security,
        ["find-identity", "-v", "-p", "codesigning", *where],
        tools=tools,
        seconds=_SECONDS,
    )
    _must(said, "list the identities")
    # A reason in brackets behind the name says why an identity is not valid.
    found = _IDENTITY.finditer(said.stdout)
    listed = [(match[1], match[2]) for match in found if not match[3]]
    named = sorted({sha1 for sha1, name in listed if name == wanted.name})
    sha1 = wanted.sha1.upper()
    alone = keychain is None or len(set(listed)) == 1
    if len(named) == 1 and sha1 in ("", named[0]) and alone:
        return Held(name=wanted.name, sha1=named[0])
    if sha1 in named and keychain is None:
        return Held(name=wanted.name, sha1=sha1)
    raise _not_the_one(wanted, listed, named)


def _not_the_one(
    wanted: Wanted, listed: Sequence[tuple[str, str]], named: Sequence[str]
) -> errors.CredentialError:
    message = (
        "the keychain does not hold the signing identity"
        if not named
        else "more than one signing identity has this name"
        if len(named) > 1
        else "the keychain holds another signing identity"
    )
    return errors.CredentialError(
        message,
        subject=wanted.name,
        expected=f"exactly one valid identity {wanted.sha1.upper()} {wanted.name}".replace(
            "  ", " "
        ),
        observed=f"{len(listed)} valid identities",
        details=[f"{sha1} {name}" for sha1, name in listed],
        hint="an expired certificate, a missing key or a missing intermediate is no valid identity",
    )


def _create(keychain: RunKeychain) -> None:
    tools, path, password = keychain.tools, keychain.path, keychain.password
    _must(_ask(tools, ("create-keychain", "-p", password, path)), "make a keychain")
    # Neither -l nor -u: it locks neither on sleep nor after a while.
    _must(_ask(tools, ("set-keychain-settings", path)), "keep the keychain unlocked")
    _must(_ask(tools, ("unlock-keychain", "-p", password, path)), "unlock the keychain")
    if not path.exists():
        raise errors.HostError("security made no keychain", expected=str(path))


def _remove_dead(folder: Path, tools: AppleTools, reporter: Reporter) -> None:
    """Remove what killed runs left: keychains of this folder whose lock nobody holds."""
    listed = {Path(entry) for entry in _search_list(tools) if Path(entry).parent == folder}
    for path in sorted({*folder.glob(f"run-*{_SUFFIX}"), *listed, *_locked_names(folder)}):
        lock = _lock_path(path)
        with contextlib.suppress(BlockingIOError), lock.open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            reporter.note(f"removing the keychain that a dead run left: {path.name}")
            _remove(path, tools, reporter)


def _locked_names(folder: Path) -> Iterator[Path]:
    for lock in folder.glob("run-*.lock"):
        yield lock.with_suffix(_SUFFIX)


def _remove(path: Path, tools: AppleTools, reporter: Reporter) -> None:
    """Out of the search list, deleted, forgotten; each step whatever the others do."""
    _attempt(lambda: _leave_search_list(path, tools), path, reporter)
    _attempt(lambda: _delete(path, tools), path, reporter)
    _lock_path(path).unlink(missing_ok=True)


def _leave_search_list(path: Path, tools: AppleTools) -> None:
    listed = _search_list(tools)
    others = [entry for entry in listed if entry != str(path)]
    if others != listed:
        _set_search_list(others, tools)


def _delete(path: Path, tools: AppleTools) -> None:
    if path.exists():
        _ask(tools, ("delete-keychain", path))
    with atomic.naming(path, "delete"):
        path.unlink(missing_ok=True)


def _attempt(action: Callable[[], None], path: Path, reporter: Reporter) -> None:
    try:
        action()
    except errors.ReleaseError as problem:
        reporter.warn(f"the keychain {path.name} of the run is not removed: {problem}")


def _search_list(tools: AppleTools) -> list[str]:
    said = apple_tools.run(
        tools.security, ["list-keychains", "-d", "user"], tools=tools, seconds=_SECONDS
    )
    _must(said, "read the keychain search list")
    return [re.sub(r"\\(.)", r"\1", entry) for entry in _ENTRY.findall(said.stdout)]


def _set_search_list(entries: Sequence[str], tools: AppleTools) -> None:
    arguments = ["list-keychains", "-d", "user", "-s", *entries]
    said = apple_tools.run(tools.security, arguments, tools=tools, seconds=_SECONDS)
    _must(said, "change the keychain search list")
    observed = _search_list(tools)
    if set(observed) != set(entries):
        raise errors.HostError(
            "the keychain search list is not what was set",
            expected=", ".join(entries),
            observed=", ".join(observed),
            hint="see that no other tool changes it: security list-keychains",
        )


@contextmanager
def _search_list_lock(folder: Path) -> Iterator[None]:
    """Two runs must not change the list at once: each writes all of it."""
    with atomic.naming(folder, "lock"), (folder / "search-list.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _held_lock(path: Path) -> IO[bytes]:
    lock = _lock_path(path).open("ab")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


def _ask(tools: AppleTools, *parts: Sequence[str | Path]) -> Said:
    """One command on the standard input of `security -i`."""
    line = " ".join(apple_tools.quoted(str(word)) for part in parts for word in part)
    if len(line.encode()) > _LINE_BYTES:
        raise errors.HostError("a path of the keychain is too long for security")
    return apple_tools.run(tools.security, ["-i"], tools=tools, seconds=_SECONDS, given=f"{line}\n")


def _has_failed(said: Said) -> bool:
    """`security -i` tells of a failed command in words; its exit code is not always that."""
    return said.status != 0 or _FAILED.search(said.stderr) is not None


def _must(said: Said, doing: str) -> None:
    if _has_failed(said):
        raise errors.HostError(
            f"security cannot {doing}",
            observed=f"exit code {said.status}",
            details=said.lines,
            hint="log in on this Mac, and see that no other tool holds the keychain",
        )
