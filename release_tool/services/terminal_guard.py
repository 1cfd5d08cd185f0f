"""Gives a command the terminal on its standard input as its controlling one, then becomes it.

Run as a script, `terminal_guard.py COMMAND...`, as the leader of a session of its own. Prompts for
passwords read `/dev/tty`, which is this terminal then.
"""

from __future__ import annotations

import fcntl
import os
import sys
import termios


def main() -> None:
    """Take the terminal and start the command in this process's place."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
