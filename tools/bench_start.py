"""How soon the tool answers: `release-tool --help` and a bare click program, whole processes."""

from __future__ import annotations

import sys
from pathlib import Path

from bench_aims import Aims
from bench_pairs import alternate, run

_BARE = """
import click

@click.group()
def cli() -> None:
    '''A program of one command.'''

@cli.command()
def command() -> None:
    '''Do nothing.'''

cli()
"""


def compare(folder: Path, pairs: int, aims: Aims) -> None:
    """Print the ratio."""
    bare = folder / "bare.py"
    bare.write_text(_BARE)
    script = Path(sys.executable).with_name("release-tool")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "release_tool"]

    found = alternate(
        lambda: run([sys.executable, str(bare), "--help"]),
        lambda: run([*program, "--help"]),
        pairs,
    )
    print("release-tool --help, whole process")
    print(f"  a bare click program  {found.seconds()}")
    aim = aims.at_most("release-tool --help: time", 1 / found.ratio, 2)
    print(f"  takes {1 / found.ratio:.2f} times as long {aim}")
