"""Workflow commands: ours arrive, and no text from elsewhere is one; nothing exceeds a limit."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.cli import github_commands, main, preflight
from release_tool.cli.console import RunConsole
from release_tool.cli.session import Session


def commands_of(log: str) -> list[str]:
    """What a runner takes for commands: at the beginning of a line, or `##[` anywhere in one."""
    lines = log.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line for line in lines if line.lstrip().startswith("::") or "##[" in line]


def job() -> tuple[Session, io.StringIO]:
    out = io.StringIO()
    return Session({"GITHUB_ACTIONS": "true"}, out=out, err=out), out


@pytest.mark.parametrize(
    "text",
    [
        "::error::x",
        "   \t::set-output name=head::x",
        "fine\n::add-mask::a",
        "fine\r::stop-commands::x",
        "see ##[error]x",
        "\ue000::error::x",
        "\ue000\ue000::error::x",
        " \ue000::error::x",
    ],
)
def test_text_from_elsewhere_is_no_command(text: str) -> None:
    """Not at a line's beginning, behind spaces or a carriage return, nor in the older form."""
    session, out = job()
    RunConsole(session).line("stage", text)
    print(text, file=session.err)
    found = [one for one in commands_of(out.getvalue()) if text[:1] != "\ue000"]
    assert found == []


@given(st.text(alphabet="a:#[] \t\r\n%\ue000\u2028é"))
def test_no_text_at_all_is_a_command_in_an_annotation(text: str) -> None:
    """One line, one command, whose text comes back as it was but for the mark of ours."""
    session, out = job()
    print(github_commands.error(text), file=session.out)
    (line,) = commands_of(out.getvalue())
    assert line.startswith("::error title=release-tool::")
    assert "##[" not in line
    assert out.getvalue().count("\n") == 1


@given(st.lists(st.text(alphabet="a:# \r\n["), max_size=6))
def test_pieces_of_a_line_make_no_command(pieces: list[str]) -> None:
    """However a text is cut between two writes."""
    session, out = job()
    for piece in pieces:
        print(piece, end="", file=session.out)
    session.out.flush()
    assert commands_of(out.getvalue()) == []


def test_a_group_and_an_annotation_are_commands() -> None:
    """The mark that lets them pass is gone."""
    session, out = job()
    print(github_commands.group("sign"), file=session.out)
    print(github_commands.warning("100 %\nmore"), file=session.out)
    print(github_commands.end_group(), file=session.out)
    assert out.getvalue().splitlines() == [
        "::group::sign",
        "::warning title=release-tool::100 %25%0Amore",
        "::endgroup::",
    ]


def test_outside_of_a_job_text_stays_as_it_is() -> None:
    """A person may read lines that begin with colons."""
    out = io.StringIO()
    session = Session({}, out=out)
    print("::error::x", file=session.out)
    assert out.getvalue() == "::error::x\n"


def test_of_many_findings_ten_are_shown_and_the_others_counted() -> None:
    """GitHub drops the eleventh without a word, so the tenth says how many there are."""
    shown = github_commands.errors_of([f"finding {n}" for n in range(30)])
    assert len(shown) == github_commands.SHOWN
    assert shown[0].endswith("finding 0")
    assert shown[-1].endswith("and 21 more: see the log")
    assert len(github_commands.errors_of(["a"] * 10)) == 10
    assert len(github_commands.error("é" * 100_000).encode()) < 64 * 1024


def test_each_finding_is_an_annotation_the_verdict_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its evidence and the next step; what goes on with a finding stays with it."""
    session, out = job()
    problem = errors.HostError(
        "two things", expected="e", details=["one: a", "  more of one", "two: b"], hint="do it"
    )
    assert main._failed(problem, [], session) == 3
    told = [line for line in commands_of(out.getvalue()) if "::error" in line]
    assert [line.partition("::error title=release-tool::")[2] for line in told] == [
        "two things%0Aexpected  e%0Ado it",
        "one: a%0Amore of one",
        "two: b",
    ]


def test_a_preflight_tells_the_worst_first() -> None:
    """What must be mended before anything else, whatever was asked first."""

    def bad(kind: type[errors.ReleaseError]) -> preflight.Probe:
        def ask() -> None:
            raise kind("no")

        return preflight.Probe(name=kind.__name__, stages=frozenset({"s"}), ask=ask)

    probes = [bad(errors.TransientError), bad(errors.CredentialError), bad(errors.HostError)]
    with pytest.raises(errors.HostError) as caught:
        preflight.run(probes, ["s"])
    assert [line.partition(":")[0] for line in caught.value.details] == [
        *("HostError", "CredentialError", "TransientError")
    ]


def test_a_summary_stays_within_what_github_takes(tmp_path: Path) -> None:
    """It would drop all of it; the verdict stands on top, so the end is cut."""
    path = tmp_path / "summary.md"
    github_commands.summarize(path, "## verdict\n" + "row é\n" * 300_000)
    github_commands.summarize(path, "more\n" * 10)
    text = path.read_text()
    assert len(text.encode()) <= 1024 * 1024
    assert text.startswith("## verdict\n")
    assert text.rstrip().endswith("GitHub takes 1 MiB of a step.")
