"""Apple's command line tools: where they stand, and one way to run them.

Paths are absolute, so that no PATH can put another program in a tool's place, and no shell is
between. A tool gets the environment that is given here and no other: it holds no secret. The tool
runs in a session of its own: an interrupt reaches this process alone, which ends the tool.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from release_tool import errors
from release_tool.services import redaction

KEPT_BYTES = 8 * 1024 * 1024
"""Of each output, the last; the longest answer is the history of a hundred submissions."""
_SHOWN_LINES = 20


def _environment() -> Mapping[str, str]:
    """The user's own home, for the keychain's search list, and the system's tools."""
    account = pwd.getpwuid(os.getuid())
    return {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "en_US.UTF-8",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class AppleTools:
    """Apple's tools on this host; another set is for tests that stand in for them."""

    codesign: Path = Path("/usr/bin/codesign")
    security: Path = Path("/usr/bin/security")
    xcrun: Path = Path("/usr/bin/xcrun")
    ditto: Path = Path("/usr/bin/ditto")
    tar: Path = Path("/usr/bin/tar")
    spctl: Path = Path("/usr/sbin/spctl")
    environment: Mapping[str, str] = field(default_factory=_environment, repr=False)
    """The whole environment of every tool."""


TOOLS = AppleTools()
"""Where macOS has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a tool said, and how it ended."""

    status: int
    """The exit code, or the negative number of the signal that ended it."""
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)

    @property
    def text(self) -> str:
        """Both outputs, standard error first: Apple's tools give their reasons there."""
        return f"{self.stderr}\n{self.stdout}"

    @property
    def lines(self) -> list[str]:
        """The last lines of both, fit to be shown: without secrets and control characters."""
        return redaction.lines(self.text)[-_SHOWN_LINES:]

    def has(self, *texts: str) -> bool:
        """Whether it said one of these, in any case of letters."""
        said = self.text.lower()
        return any(text.lower() in said for text in texts)


def require(tool: Path, purpose: str) -> None:
    """Refuse a host that lacks a tool.

    Args:
        tool: its path.
        purpose: what for, as `signing with codesign`.

    Raises:
        HostError: there is no such program.
    """
    if not os.access(tool, os.X_OK):
        raise errors.HostError(
            f"{purpose} needs Apple's {tool.name}, which this host lacks",
            expected=str(tool),
            observed=os.uname().sysname,
            hint="run this on a Mac; xcrun's tools come with Xcode or its command line tools",
        )


def run(
    tool: Path,
    arguments: Sequence[str],
    *,
    tools: AppleTools,
    seconds: float,
    given: str = "",
    folder: Path | None = None,
) -> Said:
    """Run a tool to its end.

    Args:
        tool: its path.
        arguments: never a secret: every process of the host can read them.
        tools: gives the environment.
        seconds: how long it may take.
        given: what it reads on standard input.
        folder: where it runs; None for where this process does.

    Raises:
        HostError: it does not start, or it does not end in time.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                [str(tool), *arguments],
                stdin=subprocess.PIPE if given else subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=dict(tools.environment),
                cwd=folder,
                start_new_session=True,
            )
        except OSError as problem:
            raise errors.HostError(
                f"{tool.name} does not start", observed=problem.strerror or str(problem)
            ) from problem
        _wait(process, given, seconds)
        return Said(status=process.returncode, stdout=_read(out), stderr=_read(err))


def _wait(process: subprocess.Popen[bytes], given: str, seconds: float) -> None:
    ended = False
    try:
        process.communicate(given.encode() if given else None, timeout=seconds)
        ended = True
    except subprocess.TimeoutExpired as problem:
        name = Path(str(process.args[0])).name if isinstance(process.args, list) else "the tool"
        # `from None`: the exception would carry what was written to standard input.
        del problem
        raise errors.HostError(
            f"{name} did not end within {seconds:.0f} s",
            hint="it may be asking for something in a window: unlock the keychain, or log in",
        ) from None
    finally:
        if not ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()


def _read(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - KEPT_BYTES))
    return output.read().decode("utf-8", "replace")


_UNFIT = re.compile(r"[\x00-\x1f\x7f]")


def quoted(argument: str) -> str:
    """An argument on a line of `security -i`: in double quotes, with backslashes before both.

    Raises:
        UsageError: it holds a control character, which no line can carry.
    """
    if _UNFIT.search(argument):
        raise errors.UsageError("a path of the keychain holds a control character")
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
