"""The entry point: a lazy group of commands, and the one place that turns errors into exits."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

import release_tool
from release_tool import errors, tracing
from release_tool.cli import github_commands, output
from release_tool.cli.session import Session
from release_tool.schema_number import SCHEMA

# People compare twelve digits; programs get them whole with --json.
_WHOLE_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
# As `credentials` has it, which is only imported where there is one.
_LOCAL_SETTINGS = ".env.release"
_HELP = "release_tool.help"
_COMMANDS = {
    "plan": "Print the resolved plan and where each value came from.",
    "run": "Carry a release through its stages; run again to resume.",
    "status": "Show what is done and what comes next.",
    "report": "Write one release as a page, from its ledger alone.",
    "doctor": "Say what host, settings and certificates lack, and what ends when.",
    "expiries": "Say what ends when, and keep one issue that says so.",
    "tag": "Make a release tag, once everything that it says is true.",
    "rollback": "Withdraw a bad release, and give users an earlier one.",
    "handoff": "Carry a release to another machine: its ledger and artifacts in one archive.",
    "rehearse": "Carry a whole release through look-alikes on this machine.",
    "model": "Pin the model of the smoke run, and bring it to this host.",
    "verify-profile": "Verify a provisioning profile.",
    "provenance-key": "Make the key that signs provenance and the log of releases.",
    "verify-release": "Verify a published release: archive, provenance, log and coordinator.",
    "verify": "Verify a Mach-O, a bundle, a ticket, a profile or an archive.",
    "inspect": "Show everything that is in a signature.",
    "diff": "Compare two releases, or prove that signing changed nothing else.",
    "schema": "Print JSON Schemas of the release file, records and --json.",
    "completion": "Print the script by which a shell completes command lines.",
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
        if not isinstance(command, click.Command):
            return None
        _with_verbose(command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands by name: click would import every one of them for its help."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=told)
            for name, told in _COMMANDS.items()
            if name.startswith(incomplete)
        ]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(_unknown(args[0]), ctx)
        ctx.meta[_HELP] = bool({"-h", "--help"} & set(args))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _with_verbose(command: click.Command) -> None:
    """Let a command, and each inside of it, take `-v`: people type it where it comes to mind."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _with_verbose(inner)
    elif not any(isinstance(one, _Verbose) for one in command.params):
        command.params.append(_Verbose(["-v", "--verbose"]))


class _Verbose(click.Option):
    """`-v`, which a command need not know of."""

    def __init__(self, declarations: Sequence[str]) -> None:
        super().__init__(
            list(declarations),
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_explain,
            help="Explain on standard error: whom it asks, what it reuses and why, and when.",
        )


def _explain(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: FBT001
    del param
    if value and isinstance(ctx.obj, Session) and not ctx.resilient_parsing:
        from release_tool.cli import verbose

        verbose.start(ctx.obj)


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, _COMMANDS, n=1)
    return f"no command {name!r}" + (f"; did you mean {close[0]}?" if close else "")


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_explain,
    help="Explain on standard error; each command takes it, too.",
)
@click.version_option(release_tool.__version__, prog_name="release-tool")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Carry a macOS provider from built binaries to a registered, promoted release.

    \b
    Try it without an account:  release-tool rehearse
    Check a profile:            release-tool verify-profile my.provisionprofile
    """
    session = ctx.obj if isinstance(ctx.obj, Session) else Session({})
    if ctx.invoked_subcommand is None:
        print(ctx.get_help(), file=session.out)
    elif not ctx.meta.get(_HELP) and (found := _local_settings()):
        from release_tool.cli import local_settings

        if ctx.invoked_subcommand not in local_settings.WITHOUT:
            local_settings.load(session, found)


def _local_settings() -> Path | None:
    """The file of settings in this folder, or one above it up to the clone's top; or None."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        path = folder / _LOCAL_SETTINGS
        if os.path.lexists(path):
            return path
        if os.path.lexists(folder / ".git"):
            break
    return None


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    output.guard()
    # A job that is cancelled sends this; who asked to ignore it stays ignored.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)
    code = invoke(list(sys.argv[1:] if argv is None else argv), Session(dict(os.environ)))
    sys.exit(output.finish(code))


def _terminated(number: int, frame: object) -> NoReturn:
    del number, frame
    # A second one must not break off what the first lets end in order.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def invoke(argv: list[str], session: Session) -> int:
    """Run one command; returns its exit code."""
    try:
        code = cli.main(argv, prog_name="release-tool", standalone_mode=False, obj=session)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _interrupted(argv, session)
    except click.ClickException as problem:
        return _usage(problem, argv, session)
    except errors.ReleaseError as problem:
        return _failed(problem, argv, session)
    except OSError as problem:
        return _refused(problem, argv, session)
    except Exception as problem:
        return _bug(problem, argv, session)
    finally:
        tracing.listen(None)
    return code if isinstance(code, int) else 0


def _usage(problem: click.ClickException, argv: Sequence[str], session: Session) -> int:
    hint = ""
    if isinstance(problem, click.UsageError) and problem.ctx is not None:
        hint = f"see {problem.ctx.command_path} --help"
    error = errors.UsageError(problem.format_message().rstrip("."), hint=hint)
    return _failed(error, argv, session)


def _refused(problem: OSError, argv: Sequence[str], session: Session) -> int:
    """A full disk that nobody named before it came here; anything else of the system is a bug."""
    from release_tool.files import atomic

    full = atomic.no_room(problem)
    return _failed(full, argv, session) if full else _bug(problem, argv, session)


def _failed(problem: errors.ReleaseError, argv: Sequence[str], session: Session) -> int:
    _document(problem.as_json(), argv, session)
    lines = [_covered(_WHOLE_DIGEST.sub(r"\1", line), session) for line in problem.lines()]
    for number, line in enumerate(lines):
        print(f"release-tool: {line}" if number == 0 else line, file=session.err)
    trailer = [f"exit {problem.exit_code}", session.state]
    print(" · ".join(part for part in trailer if part), file=session.err)
    if session.in_github_actions:
        # With --json standard output is one document; the runner reads both streams.
        stream = session.err if "--json" in argv else session.out
        for command in github_commands.errors_of(_told_apart(lines, problem)):
            print(command, file=stream)
    return problem.exit_code


def _told_apart(lines: Sequence[str], problem: errors.ReleaseError) -> list[str]:
    """The verdict with its evidence and the next step, then each finding by itself."""
    count = len(problem.details)
    at = len(lines) - count - bool(problem.hint)
    findings: list[list[str]] = []
    for line in lines[at : at + count]:
        # What goes on with a finding is indented further than it.
        if line.startswith("    ") and findings:
            findings[-1].append(line.strip())
        else:
            findings.append([line.strip()])
    verdict = [line.strip() for line in (*lines[:at], *lines[at + count :])]
    return ["\n".join(one) for one in (verdict, *findings)]


def _document(facts: Mapping[str, object], argv: Sequence[str], session: Session) -> None:
    if "--json" in argv:
        numbered = {"schema": SCHEMA, **facts}
        print(_covered(json.dumps(numbered, ensure_ascii=False), session), file=session.out)


def _covered(text: str, session: Session) -> str:
    """A text of an error or a bug, without the secrets of the environment."""
    # Only what fails needs it: `verify-profile` must start fast.
    from release_tool import credentials

    return credentials.covered(text, session.environ)


def _interrupted(argv: Sequence[str], session: Session) -> int:
    said = "interrupted; nothing that was recorded is lost"
    hint = f"resume with: {session.resume_with}" if session.resume_with else ""
    facts = errors.ReleaseError(said, hint=hint).as_json()
    code = errors.EXIT_INTERRUPTED
    _document({**facts, "error": "Interrupted", "exit_code": code}, argv, session)
    print(f"\nrelease-tool: {said}", file=session.err)
    if hint:
        print(f"  {hint}", file=session.err)
    return code


def _bug(problem: Exception, argv: Sequence[str], session: Session) -> int:
    facts = errors.ReleaseError(
        "this is a bug of the tool",
        observed=type(problem).__name__,
        hint="please report the lines on standard error",
    ).as_json()
    _document({**facts, "error": "Bug", "exit_code": errors.EXIT_BUG}, argv, session)
    trace = "".join(traceback.format_exception(problem))
    print(_covered(trace, session), end="", file=session.err)
    print(
        "release-tool: this is a bug of the tool; please report the lines above", file=session.err
    )
    return errors.EXIT_BUG


if __name__ == "__main__":
    main()
