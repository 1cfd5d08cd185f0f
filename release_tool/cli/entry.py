"""Where the process starts: `verify-profile` answers at once, everything else loads the program."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence

from release_tool.cli import output

# What imports make stays to the end. Looking for garbage in it two hundred times, and then again
# before leaving, takes a quarter of a short command's time.
_YOUNG_OBJECTS = 50_000


def main() -> None:
    """Run the command line and leave with its exit code."""
    output.guard()
    gc.set_threshold(_YOUNG_OBJECTS)
    atexit.register(gc.freeze)
    code = _at_once(sys.argv[1:])
    if code is not None:
        sys.exit(output.finish(code))
    from release_tool.cli.main import main as whole_program

    whole_program()


def _at_once(arguments: Sequence[str]) -> int | None:
    """Answer a plain `verify-profile` call; None leaves it, and any failure, to the program.

    Nothing was printed then and the program starts from the beginning, so that errors, usage and
    help have one home.
    """
    if arguments[:1] != ["verify-profile"]:
        return None
    from release_tool.cli import profile_answer

    request = profile_answer.plain(arguments[1:])
    if request is None:
        return None
    try:
        text, code = profile_answer.answer(request, os.environ)
    except Exception:
        return None
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from release_tool.cli import github_commands

        text = github_commands.plain(text)
    print(text, flush=True)
    return code


if __name__ == "__main__":
    main()
