"""The commands by which an installer changes files, held at each call.

Stand-ins of `cp`, `ln`, `mv` and `rm` come first in the installer's PATH. Each numbers its call and
does what was asked; where it is told to, it waits before that. So an installer can be looked at, or
killed, at a point of its own work instead of at a point in time.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

NAMES = ("cp", "ln", "mv", "rm")
"""What every installer in shell swaps an app with."""
MOST_CALLS = 64
"""That many are numbered and can be held; the template makes some fifteen."""
_BY_PATH = re.compile(rb"(?<![\w./-])(?:/usr)?/bin/(" + "|".join(NAMES).encode() + rb")(?![\w./-])")
# Numbers are taken by mkdir, which two calls at once cannot both do.
_STAND_IN = """\
#!/bin/sh
PATH=/usr/bin:/bin
calls={calls}
number=1
until mkdir "$calls/$number" 2>/dev/null; do
  number=$((number + 1))
  [ "$number" -le {most} ] || exec {name} "$@"
done
if [ -e "$calls/hold-all" ] || [ -e "$calls/hold-$number" ]; then
  printf '%s' "{name} $*" >"$calls/$number/said"
  : >"$calls/$number/waits"
  until [ -e "$calls/$number/go" ]; do sleep 0.05; done
fi
exec {name} "$@"
"""


class HeldCommands:
    """The stand-ins, and the calls of one run of an installer."""

    def __init__(self, folder: Path, *, hold: int | None) -> None:
        """Make them.

        Args:
            folder: to be made, outside of what the installer may write.
            hold: the number of the call that waits, from 1; None for each one.
        """
        self.path = folder / "commands"
        """The folder that goes first in PATH."""
        self._calls = folder / "calls"
        self.path.mkdir(parents=True)
        self._calls.mkdir()
        for name in NAMES:
            text = _STAND_IN.format(name=name, calls=shlex.quote(str(self._calls)), most=MOST_CALLS)
            command = self.path / name
            command.write_text(text)
            command.chmod(0o755)
        (self._calls / (f"hold-{hold}" if hold else "hold-all")).touch()

    def led_to(self, script: bytes) -> bytes:
        """A script whose calls by full path, like `/bin/mv`, lead to the stand-ins."""
        quoted = shlex.quote(str(self.path)).encode()
        return _BY_PATH.sub(lambda found: quoted + b"/" + found[1], script)

    def waits(self, number: int) -> bool:
        """Whether a call has come and waits."""
        return (self._calls / str(number) / "waits").exists()

    def said(self, number: int) -> str:
        """What a call that waits is asked to do: the command and its arguments."""
        return (self._calls / str(number) / "said").read_text(errors="replace")

    def let(self, number: int) -> None:
        """Let a call that waits do it."""
        (self._calls / str(number) / "go").touch()
