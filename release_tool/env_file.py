"""`.env.release`: the settings of a maintainer's own machine, read strictly.

Lines of `NAME=value` in the form that shells read, with nothing that expands, runs or guesses:
what stands there is the value, and a line that is not understood is an error. No library does so:
the usual one fills in `${…}`, and skips what it does not know. A key may hold a `$`, and a name
that is mistyped must not be lost. No error quotes a line: there are keys in it.
"""

from __future__ import annotations

import base64
import difflib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from release_tool import credentials, errors
from release_tool.credentials import Setting

NAME = credentials.LOCAL_FILE
# All settings of two environments take some 40 KiB, an identity and a profile included.
_BYTES = 1024 * 1024
_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=")
_PREFIX = re.compile(r"[A-Z][A-Z0-9]*_")
_BARE = re.compile(r"""[^\s'"`$\\]*""")
_REST = re.compile(r"[ \t]*(?:[ \t]#[^\n]*)?(?=\n|$)")
_SPACE = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "`": "`"}
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_FILES: tuple[credentials.Kind, ...] = ("base64", "p8")
_PRIVATE = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One setting of the file."""

    name: str
    line: int
    value: str = field(repr=False)


class Environment(dict[str, str]):
    """The environment of the process, with a file's settings where it has none of its own.

    It shows no value.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.places: dict[str, str] = {}
        """`.env.release:3`, of each name that a file gave."""

    def __repr__(self) -> str:
        return f"<environment of {len(self)} names>"


def place(values: Mapping[str, str], name: str) -> str:
    """Where a file says the value of a name; empty where the process itself does."""
    return values.places.get(name, "") if isinstance(values, Environment) else ""


def unused(values: Mapping[str, str], prefixes: Iterable[str]) -> dict[str, str]:
    """What a file gives for environments that there are not, by setting: a mistyped prefix."""
    known = {"", *prefixes}
    found: dict[str, str] = {}
    for name, at in values.places.items() if isinstance(values, Environment) else ():
        setting = setting_of(name)
        prefix = name.removesuffix(setting.name) if setting else ""
        if setting and prefix not in known:
            told = f"{at}: {name} serves no environment: none has the prefix {prefix}"
            before = found.get(setting.name)
            found[setting.name] = f"{before}; {told}" if before else told
    return found


def merge(
    environ: Mapping[str, str], entries: list[Entry], folder: Path
) -> tuple[Environment, list[str]]:
    """The environment with the file's settings below it, and what is worth a warning.

    Args:
        environ: of the process; what it says wins.
        entries: of the file.
        folder: what `@path` is relative to.

    Raises:
        CredentialError: a file that is named is not fit to hold a secret.
    """
    merged, warnings = Environment(environ), []
    for entry in entries:
        setting = setting_of(entry.name)
        at = f"{NAME}:{entry.line}"
        if setting is None:
            warnings.append(f"{at}: {entry.name} is no setting{_did_you_mean(entry.name)}")
        elif not environ.get(entry.name, "").strip():
            merged[entry.name] = _value(entry, setting, folder, at)
            merged.places[entry.name] = at
    return merged, warnings


def setting_of(name: str) -> Setting | None:
    """The setting that a name is of, with the prefix of an environment or without."""
    for setting in credentials.SETTINGS:
        prefix = name.removesuffix(setting.name)
        prefixed = prefix != name and setting.per_environment and _PREFIX.fullmatch(prefix)
        if name == setting.name or prefixed:
            return setting
    return None


def _did_you_mean(name: str) -> str:
    known = [setting.name for setting in credentials.SETTINGS]
    known += [
        f"{prefix}_{one.name}"
        for prefix in dict.fromkeys((name.partition("_")[0].upper(), "DEV", "PROD"))
        for one in credentials.SETTINGS
        if one.per_environment and prefix
    ]
    close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
    return f"; did you mean {close[0]}?" if close else ", and is left out"


def _value(entry: Entry, setting: Setting, folder: Path, at: str) -> str:
    """The value itself, or the contents of the file that `@path` names."""
    if setting.kind not in _FILES or not entry.value.startswith("@"):
        return entry.value
    path = folder / Path(entry.value[1:]).expanduser()
    content = read(path, whose=f"{at} ({entry.name})")
    if setting.kind == "p8":
        return content.decode("utf-8", "replace")
    return base64.b64encode(content).decode()


def read(path: Path, *, whose: str = "") -> bytes:
    """The bytes of a file that only this user can read and write.

    Args:
        path: the file; a link is not followed.
        whose: what names it, for errors.

    Raises:
        CredentialError: it is not there, no plain file, another user's, or open to others.
    """
    where = f"{whose}: {path}" if whose else str(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        observed = "a link" if path.is_symlink() else problem.strerror or str(problem)
        raise errors.CredentialError(
            "the file of secrets cannot be read",
            subject=where,
            expected="a plain file",
            observed=observed,
        ) from None
    try:
        _require_private(os.fstat(descriptor), where, path)
        with os.fdopen(os.dup(descriptor), "rb") as file:
            content = file.read(_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _BYTES:
        raise errors.CredentialError(
            "the file of secrets is too large", subject=where, expected=f"at most {_BYTES} bytes"
        )
    return content


def _require_private(found: os.stat_result, where: str, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise errors.CredentialError(
            "the file of secrets cannot be read", subject=where, expected="a plain file"
        )
    if found.st_uid != os.getuid():
        raise errors.CredentialError(
            "the file of secrets is another user's",
            subject=where,
            expected=f"user {os.getuid()}",
            observed=f"user {found.st_uid}",
            hint="make one of your own",
        )
    if found.st_mode & _PRIVATE:
        raise errors.CredentialError(
            "others can read or change the file of secrets",
            subject=where,
            expected="mode 0600",
            observed=f"mode {stat.S_IMODE(found.st_mode):04o}",
            hint=f"chmod 600 {path}, and make its keys anew if others use this machine",
        )


def parse(content: bytes, *, name: str = NAME) -> list[Entry]:
    """The settings of a file, in order.

    A value is bare (one word without quotes, `$`, backslash or backtick), in single quotes (as it
    stands, over lines too) or in double quotes (with `\\n`, `\\t`, `\\r`, `\\"`, `\\\\`, `\\$` and
    a backtick escaped). `#` begins a comment at the start of a line and behind a space. A `$` that
    a shell would expand is an error rather than two different values.

    Raises:
        UsageError: a line that is not understood, by its number alone.
    """
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise errors.UsageError("the file is not UTF-8", subject=name) from None
    found: list[Entry] = []
    lines: dict[str, int] = {}
    for entry in _entries(text, name):
        if entry.name in lines:
            raise _not_understood(
                name, entry.line, f"{entry.name} was already given in line {lines[entry.name]}"
            )
        lines[entry.name] = entry.line
        found.append(entry)
    return found


def _entries(text: str, name: str) -> Iterator[Entry]:
    at = counted = 0
    line = 1
    while at < len(text):
        line, counted = line + text.count("\n", counted, at), at
        if space := _SPACE.match(text, at):
            at = max(space.end(), at + 1)
            continue
        assignment = _ASSIGNMENT.match(text, at)
        if assignment is None:
            raise _not_understood(name, line, "expected NAME=value, without a space around =")
        value, at = _read_value(text, assignment.end(), name, line)
        if _CONTROLS.search(value):
            raise _not_understood(name, line, "the value holds a control character")
        rest = _REST.match(text, at)
        if rest is None:
            raise _not_understood(
                name, line, "put the whole value in single quotes: there is more behind it"
            )
        at = rest.end() + 1
        yield Entry(name=assignment[1], line=line, value=value)


def _read_value(text: str, at: int, name: str, line: int) -> tuple[str, int]:
    """The value that begins here, and where it ends."""
    quote = text[at : at + 1]
    if quote == "'":
        end = text.find("'", at + 1)
        if end < 0:
            raise _not_understood(name, line, "the quote is never closed")
        return text[at + 1 : end], end + 1
    if quote == '"':
        return _in_double_quotes(text, at + 1, name, line)
    bare = _BARE.match(text, at)
    end = bare.end() if bare else at
    return text[at:end], end


def _in_double_quotes(text: str, at: int, name: str, line: int) -> tuple[str, int]:
    made: list[str] = []
    while at < len(text):
        letter = text[at]
        if letter == '"':
            return "".join(made), at + 1
        if letter in "$`":
            raise _not_understood(
                name, line, "a shell would expand it: use single quotes, or a backslash before it"
            )
        if letter == "\\":
            at += 1
            letter = _ESCAPES.get(text[at : at + 1], "")
            if not letter:
                raise _not_understood(name, line, "a backslash before a letter that means nothing")
        made.append(letter)
        at += 1
    raise _not_understood(name, line, "the quote is never closed")


def _not_understood(name: str, line: int, why: str) -> errors.UsageError:
    return errors.UsageError(
        "the file of settings is not understood", subject=f"{name}:{line}", observed=why
    )
