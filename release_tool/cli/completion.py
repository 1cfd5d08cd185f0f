"""`release-tool completion`: the script by which a shell completes commands, options and names."""

from __future__ import annotations

import click
from click import shell_completion

from release_tool import errors
from release_tool.cli.session import Session, pass_session

SHELLS = ("bash", "zsh", "fish")
_EVERY_COMMA, _FIRST_COMMA = 'string split ","', 'string split --max 1 ","'
_PROGRAM, _VARIABLE = "release-tool", "_RELEASE_TOOL_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@pass_session
def command(session: Session, shell: str) -> None:
    """Print the script by which a shell completes this tool's command lines.

    It asks the tool at each TAB, so it never grows old. Bash has to be 4.4 or newer: a Mac's own
    is not.

    \b
    Bash, in ~/.bashrc:  eval "$(release-tool completion bash)"
    Zsh, in ~/.zshrc:    eval "$(release-tool completion zsh)"
    Fish, once:          release-tool completion fish > ~/.config/fish/completions/release-tool.fish
    """
    found = shell_completion.get_completion_class(shell)
    if found is None:
        raise errors.UsageError("this shell is not known", subject=shell)
    from release_tool.cli.main import cli

    # Click's own script. Its check of the version of bash would run a shell.
    made = found(cli, {}, _PROGRAM, _VARIABLE)
    # Fish's would end each description at its first comma.
    template = made.source_template.replace(_EVERY_COMMA, _FIRST_COMMA)
    print(template % made.source_vars(), file=session.out)
