"""The entry point: a lazy group of commands, and the one place that turns errors into exits."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

import release_tool
from release_tool import errors
from release_tool.cli.session import Session

# People compare twelve digits; programs get them whole with --json.
_WHOLE_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
_COMMANDS = {
    "plan": "Print the resolved plan and where each value came from.",
    "run": "Carry a release through its stages; run again to resume.",
    "status": "Show what is done and what comes next.",
    "rehearse": "Carry a whole release through look-alikes on this machine.",
    "verify-profile": "Verify a provisioning profile.",
    "verify": "Verify a Mach-O, an app, a profile or a release archive.",
    "inspect": "Show everything that is in a signature.",
}


class _LazyGroup(click.Group):
    """Imports a command's module only when it is called: `verify-profile` must start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"release_tool.cli.{cmd_name.replace('-', '_')}")
        command = module.command
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(_unknown(args[0]), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, _COMMANDS, n=1)
    return f"no command {name!r}" + (f"; did you mean {close[0]}?" if close else "")


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(release_tool.__version__, prog_name="release-tool")
def cli() -> None:
    """Carry a macOS provider from built binaries to a registered, promoted release.

    \b
    Try it without an account:  release-tool rehearse
    Check a profile:            release-tool verify-profile my.provisionprofile
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    sys.exit(invoke(list(sys.argv[1:] if argv is None else argv), Session(dict(os.environ))))


def invoke(argv: list[str], session: Session) -> int:
    """Run one command; returns its exit code."""
    try:
        code = cli.main(argv, prog_name="release-tool", standalone_mode=False, obj=session)
        session.out.flush()
    except click.exceptions.Abort:
        return _interrupted(session)
    except KeyboardInterrupt:
        return _interrupted(session)
    except click.ClickException as problem:
        return _usage(problem, argv, session)
    except errors.ReleaseError as problem:
        return _failed(problem, argv, session)
    except BrokenPipeError:
        # The reader of a pipe went away; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        return _bug(session)
    return code if isinstance(code, int) else 0


def _usage(problem: click.ClickException, argv: Sequence[str], session: Session) -> int:
    hint = ""
    if isinstance(problem, click.UsageError) and problem.ctx is not None:
        hint = f"see {problem.ctx.command_path} --help"
    error = errors.UsageError(problem.format_message().rstrip("."), hint=hint)
    return _failed(error, argv, session)


def _failed(problem: errors.ReleaseError, argv: Sequence[str], session: Session) -> int:
    if "--json" in argv:
        print(json.dumps(problem.as_json(), ensure_ascii=False), file=session.out)
    lines = [_WHOLE_DIGEST.sub(r"\1", line) for line in problem.lines()]
    for number, line in enumerate(lines):
        print(f"release-tool: {line}" if number == 0 else line, file=session.err)
    trailer = [f"exit {problem.exit_code}", session.state]
    print(" · ".join(part for part in trailer if part), file=session.err)
    if session.in_github_actions:
        # With --json standard output is one document; the runner reads both streams.
        stream = session.err if "--json" in argv else session.out
        print(f"::error title=release-tool::{_annotation(lines)}", file=stream)
    return problem.exit_code


def _annotation(lines: Sequence[str]) -> str:
    text = "\n".join(line.strip() for line in lines)
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _interrupted(session: Session) -> int:
    print("\nrelease-tool: interrupted; nothing that was recorded is lost", file=session.err)
    if session.resume_with:
        print(f"  resume with: {session.resume_with}", file=session.err)
    return errors.EXIT_INTERRUPTED


def _bug(session: Session) -> int:
    traceback.print_exc(file=session.err)
    print(
        "release-tool: this is a bug of the tool; please report the lines above", file=session.err
    )
    return errors.EXIT_BUG


if __name__ == "__main__":
    main()
