"""Every command line of the pages does what the page says, or is at least understood whole."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import click
import pytest

from release_tool.cli import main
from tests.pages import commands, markdown, world
from tests.pages.commands import Command
from tests.pages.world import World

SHOWN = commands.shown()
OURS = [one for one in SHOWN if one.is_ours]

EXITS: tuple[tuple[str, int, str], ...] = (
    (r"^verify-profile ", 6, "the profile here is a look-alike's, which Apple did not sign"),
    (r"^verify (?!.*--trust)", 6, "and so is the app's certificate: no root of Apple's"),
    (r"^tag .*--push", 2, "it asks a person for the version, and nobody is here"),
    (r"^handoff earlier ", 2, "a job knows the release by its tag, and nobody pushed one here"),
    (r"^expiries ", 4, "the identity that is set is a look-alike's"),
    (r"^report( --version .*)?$", 2, "there are several releases here, which it names"),
    (r"^doctor --env (dev|prod)", 3, "only a Mac has the tools that sign there"),
    (r"^doctor( --entitlements .*)?$", 4, "the identity that is set is a look-alike's"),
)
"""Commands that end otherwise here, and why."""

NOT_RUN: tuple[tuple[str, str], ...] = (
    (r"^report .*--open", "it shows a browser to a person"),
    (r"^model ", "it asks the model hub; cli/test_model_command.py has a look-alike of it"),
)
"""Commands that cannot run on this host, and why; they are understood whole."""

SCRIPTS = {
    "README.md": "cli/test_verify_release.py",
    "verify-release.md": "cli/test_verify_release.py",
}
"""Pages with whole scripts (`shell`), and the tests that run them."""

MACS_OWN = frozenset({"codesign", "security", "spctl", "xcrun", "plutil"})
"""Programs that only a Mac has: that they are called rightly is for a person to see."""

# A release that goes on behind its archive starts a provider, which takes seconds each time.
_LIGHT = ("profile", "assemble", "sign", "notarize", "staple", "archive")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world.existing(tmp_path_factory.mktemp("pages")) as made:
        yield made


def _is_heavy(words: tuple[str, ...]) -> bool:
    if words[1] in ("rollback", "verify-release") or "dist/prod/rollback" in words:
        return True
    if words[1] not in ("run", "rehearse"):
        return False
    # A dry run starts look-alikes of its own.
    return "--dry-run" in words or not (
        "--until" in words and words[words.index("--until") + 1] in _LIGHT
    )


def _text(command: Command) -> str:
    return " ".join(command.words[1:])


def _reason_not_to_run(command: Command) -> str:
    return next((why for pattern, why in NOT_RUN if re.search(pattern, _text(command))), "")


def _expected(command: Command) -> int:
    return next((code for pattern, code, _ in EXITS if re.search(pattern, _text(command))), 0)


def _command(words: tuple[str, ...]) -> tuple[click.Command, list[str]]:
    """The command that words name, and what is left for it."""
    context = click.Context(main.cli, info_name="release-tool")
    found: click.Command = main.cli
    left = list(words[1:])
    while isinstance(found, click.Group) and left and not left[0].startswith("-"):
        inner = found.get_command(context, left[0])
        assert inner, f"there is no command {left[0]}"
        found, left = inner, left[1:]
    return found, left


def test_every_command_is_shown() -> None:
    """No command without a page that shows it at work."""
    there = {one.words[1] for one in OURS}
    assert set(main._COMMANDS) <= there


def test_blocks_say_what_they_are() -> None:
    """Each names its language: what is to be typed is `sh`, and what one sees is `text`."""
    found = [one for page in markdown.PAGES for one in markdown.fences(page)]
    # What is `shell` holds functions, and its page's own test runs it whole.
    known = {"sh", "text", "yaml", "python", "json", "shell"}
    assert [f"{one.page.name}:{one.line}" for one in found if one.language not in known] == []
    scripts = {one.page.name for one in found if one.language == "shell"}
    assert scripts <= SCRIPTS.keys()
    typed = [
        f"{one.page.name}:{one.line}"
        for one in found
        if one.language == "text"
        and re.search(r"(?m)^(release-tool|make) [a-z-]+ (?!PATH)", one.text)
    ]
    assert typed == [], "commands to type in a block of text"


def test_a_shell_reads_the_blocks() -> None:
    """All of them together are a script without an error of syntax."""
    blocks = [
        one.text for page in markdown.PAGES for one in markdown.fences(page) if one.language == "sh"
    ]
    done = subprocess.run(
        ["sh", "-n"], input="\n".join(blocks), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", OURS, ids=str)
def test_each_command_is_understood(command: Command, place: World) -> None:
    """Every option exists, every value is of its kind, every file that is named is there."""
    found, _ = _command(command.words)
    whole = place.filled(command.words)
    left = whole[len(command.words[1:]) - len(_command(command.words)[1]) :]
    with world.working_in(place.folder_for(command.words[1])):
        found.make_context(command.words[1], list(left))


@pytest.mark.parametrize("command", [one for one in OURS if not _is_heavy(one.words)], ids=str)
def test_each_command_runs(command: Command, place: World) -> None:
    """It ends as the page says, on the look-alikes where it asks anybody."""
    if _reason_not_to_run(command):
        return
    found = place.run(command.words)
    assert found.code == _expected(command), found.err or found.out


@pytest.fixture(scope="module")
def released(place: World) -> World:
    """Further: 0.5.0 and 0.5.1 are released in `prod`, and nothing was rehearsed."""
    place.forget_copies()
    place.release("0.5.0", "0.5.1")
    return place


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", [one for one in OURS if _is_heavy(one.words)], ids=str)
def test_each_whole_release_runs(command: Command, released: World) -> None:
    """Those that smoke, publish, register, promote or roll back, in the order of the pages."""
    if _reason_not_to_run(command):
        return
    found = released.run(command.words)
    assert found.code == _expected(command), found.err or found.out


def test_other_programs_exist() -> None:
    """What else is to be typed is a program of this host, a shell's own, or a Mac's."""
    others = {one.name for one in SHOWN if not one.is_ours and one.name != "make"}
    unknown = others - commands.BUILTINS - MACS_OWN
    assert sorted(one for one in unknown if not shutil.which(one)) == []


def test_targets_of_make_exist() -> None:
    """Each `make` of the pages, in their tables and texts too, is a target."""
    makefile = (markdown.ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?m)^([a-z-]+):", makefile))
    named = {
        found
        for page in markdown.PAGES
        for found in re.findall(r"`make ([a-z-]+)`", page.read_text())
    }
    typed = {one.words[1] for one in SHOWN if one.name == "make" and len(one.words) > 1}
    assert named | {one for one in typed if "=" not in one} <= targets


def test_commands_in_the_text_have_their_options() -> None:
    """A command that a sentence names exists, and so does each option that it shows."""
    for page, words in commands.inline():
        found, left = _command(words)
        known = {option for one in found.params for option in (*one.opts, *one.secondary_opts)}
        options = {word for word in left if word.startswith("--")}
        assert options <= known | {"--help"}, f"{page.name}: {words}"


def test_the_tables_of_exceptions_are_needed() -> None:
    """No exception outlives its line."""
    texts = [_text(one) for one in OURS]
    patterns = [*(one[0] for one in EXITS), *(one[0] for one in NOT_RUN)]
    assert [one for one in patterns if not any(re.search(one, text) for text in texts)] == []
