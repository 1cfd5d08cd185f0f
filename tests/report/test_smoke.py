"""The smoke run's report: rendered, and compared with the release before."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from pydantic import JsonValue

from release_tool.cli import carry, main
from release_tool.cli.session import Session
from release_tool.files.workspace import Workspace
from release_tool.ledger import Ledger, Record
from release_tool.report import notes, smoke
from release_tool.stages import speed
from release_tool.values import CheckOutcome, Host, SmokeEvidence
from tests import smoke_samples

HOST = Host(system="macos", release="15.1", machine="arm64", chip="Apple M4", memory_bytes=2**34)


def evidence(version: str, *, first: float = 0.1, host: Host = HOST) -> SmokeEvidence:
    made = smoke_samples.evidence(version=version)
    prompt = made.prompts[0].model_copy(update={"first_token_seconds": first})
    rounds = tuple(one.model_copy(update={"reference": one.answers}) for one in made.rounds)
    return made.model_copy(
        update={
            "kind": "bundle",
            "host": host,
            "prompts": (prompt,),
            "rounds": rounds,
            "figures": speed.of((prompt,), rounds),
            "thresholds": (
                CheckOutcome(
                    name="ttft:b1<=2s", outcome="passed", expected="<= 2.00 s", observed="100 ms"
                ),
                CheckOutcome(name="decode|`x`", outcome="failed", expected=">= 9", observed="1"),
            ),
        }
    )


def append(
    folder: Path, value: JsonValue, kind: str = "record", outputs: Sequence[str] = ()
) -> None:
    facts = {"number": 0, "previous": "", "host": {}, "at": "2026-11-24T03:00:00+00:00"}
    ledger = Ledger(folder / "ledger")
    with ledger.lock():
        ledger.append(
            Record.model_validate(
                {
                    **facts,
                    "tool": "t",
                    "stage": "smoke",
                    "kind": kind,
                    "value": value,
                    "outputs": dict.fromkeys(outputs, "0" * 64),
                }
            )
        )


def record(folder: Path, made: SmokeEvidence) -> None:
    append(folder, made.model_dump(mode="json"), outputs=[made.transcript])


def at(host: Host, version: str, first: float) -> SmokeEvidence:
    """Of one of several hosts: its transcript has a place of its own."""
    made = evidence(version, host=host, first=first)
    return made.model_copy(update={"transcript": f"smoke/{host.release}/transcript.jsonl"})


def rows(markdown: str) -> list[list[str]]:
    """The cells of every table's rows, as a renderer of Markdown sees them."""
    found: list[list[str]] = []
    inside = False
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type in ("tr_open", "tr_close"):
            inside = token.type == "tr_open"
            found += [[]] if inside else []
        elif token.type == "inline" and inside:
            found[-1].append("".join(child.content for child in token.children or ()))
    return found


def test_the_three_tables_as_rendered(tmp_path: Path) -> None:
    """Run, latency and assertions with PASS or FAIL, threshold and observed; no text is markup."""
    record(tmp_path / "0.5.0", evidence("0.5.0"))
    [report] = smoke.read(tmp_path / "0.5.0")
    found = rows(report.as_markdown())
    assert ["host", "Apple M4 · macos 15.1 · 16 GiB"] in found
    assert ["verdict", "FAIL: 1 of 16 checks failed, 0 not checked"] in found
    assert ["latency", "at once", "answers", "mean", "p50", "p95", "max"] in found
    assert ["ttft", "4", "4", "100 ms", "100 ms", "100 ms", "100 ms"] in found
    assert ["decode_ratio", "2", "2", "1.000", "1.000", "1.000", "1.000"] in found
    assert ["ttft:b1<=2s", "PASS", "<= 2.00 s", "100 ms"] in found
    assert ["decode|`x`", "FAIL", ">= 9", "1"] in found
    assert report.comparison == ()
    assert "No smoke run of an earlier release lies beside it" in report.as_markdown()


def test_what_was_checked_is_shown(tmp_path: Path) -> None:
    """Needs, installer and macOS by name, what was not checked with its reason, and the digests."""
    outcome = CheckOutcome(name="installer, fresh", outcome="passed", subject="exit code")
    late = CheckOutcome(name="installer, killed late", outcome="not_checked", hint="it ended")
    later = late.model_copy(update={"name": "installer, killed later"})
    made = evidence("0.5.0", host=HOST.model_copy(update={"sip": "enabled"})).model_copy(
        update={
            "cdhash": "c" * 40,
            "transcript_sha256": "d" * 64,
            "needs": (CheckOutcome(name="Metal target", outcome="passed"),),
            "install": (outcome, outcome, late, late, later),
            "macos_verdicts": {"spctl": "accepted"},
        }
    )
    record(tmp_path / "0.5.0", made)
    [report] = smoke.read(tmp_path / "0.5.0")
    found = rows(report.as_markdown())
    assert ["host", "Apple M4 · macos 15.1 · 16 GiB · SIP enabled"] in found
    told = dict(row for row in found if len(row) == 2)
    assert told["executable"] == f"{made.executable_sha256[:12]}, cdhash {'c' * 12}"
    assert f"{made.transcript} {'d' * 12}" in told["kept"]
    assert ["needs of the bundle", "1 of 1", "Metal target"] in found
    assert ["installer", "2 of 5", "fresh"] in found
    assert [
        "",
        "",
        "not checked: killed late (2), killed later: it ended",
    ] in (found)
    assert ["macOS", "1", "spctl accepted"] in found
    provider = next(row for row in found if row[0] == "provider")
    assert provider[1] == f"{len(made.checks)} of {len(made.checks)}"


def test_each_host_has_a_report_and_is_compared_with_its_own_kind(tmp_path: Path) -> None:
    """Two lanes: a slow old Mac is seen, beside its own earlier figures, whoever came last."""
    old = HOST.model_copy(update={"release": "14.6", "chip": "Apple M1"})
    for host, first in ((HOST, 0.2), (old, 3.0)):
        record(tmp_path / "0.4.9", at(host, "0.4.9", first))
    # Nearer, and of another machine: its figures say less.
    other = HOST.model_copy(update={"chip": "Apple M2"})
    record(tmp_path / "0.4.10", at(other, "0.4.10", 0.1))
    for host, first in ((old, 1.5), (HOST, 0.1)):
        record(tmp_path / "0.5.0", at(host, "0.5.0", first))
    reports = smoke.read(tmp_path / "0.5.0")
    assert [(one.before, one.differing) for one in reports] == [("0.4.9", "")] * 2
    told = [one.as_markdown() for one in reports]
    assert "## Smoke run of 0.5.0 on macOS 14.6, Apple M1, 16 GiB" in told[0]
    assert "## Smoke run of 0.5.0 on macOS 15.1, Apple M4, 16 GiB" in told[1]
    assert "Not comparable" not in "".join(told)
    means = [
        next(row for row in rows(one) if row[:2] == ["ttft", "1"] and len(row) == 5) for one in told
    ]
    assert [row[2:] for row in means] == [
        ["1.55 s", "800 ms", "0.52, faster"],
        ["150 ms", "100 ms", "0.67, faster"],
    ]


def test_the_release_before_is_compared(tmp_path: Path) -> None:
    """The nearest earlier version beside it, of its own flavour; damaged ones are passed over."""
    record(tmp_path / "0.4.8", evidence("0.4.8", first=0.9))
    record(tmp_path / "0.4.10", evidence("0.4.10", first=0.3))
    record(tmp_path / "0.6.0", evidence("0.6.0"))
    record(tmp_path / "rust-bridge-0.4.11", evidence("0.4.11"))
    (tmp_path / "0.4.12" / "ledger").mkdir(parents=True)
    (tmp_path / "0.4.12" / "ledger" / "0001-smoke.json").write_text("{")
    record(tmp_path / "0.5.0", evidence("0.5.0"))
    [report] = smoke.read(tmp_path / "0.5.0")
    assert (report.before, report.differing) == ("0.4.10", "")
    assert ["ttft", "1", "200 ms", "100 ms", "0.50, faster"] in rows(report.as_markdown())
    assert "Not comparable" not in report.as_markdown()


def test_another_host_is_said(tmp_path: Path) -> None:
    """Numbers of two machines are not comparable, and the report says in what they differ."""
    older = HOST.model_copy(update={"chip": "Apple M1", "memory_bytes": 2**33})
    record(tmp_path / "0.4.9", evidence("0.4.9", host=older))
    record(tmp_path / "0.5.0", evidence("0.5.0"))
    [report] = smoke.read(tmp_path / "0.5.0")
    told = report.as_markdown()
    assert "Not comparable with 0.4.9: chip was Apple M1, is Apple M4, memory was " in told


def test_a_failed_run_lists_what_was_missed(tmp_path: Path) -> None:
    """Each detail of the refusal, and no table of an older run."""
    record(tmp_path / "0.5.0", evidence("0.5.0"))
    missed: JsonValue = {"message": "the provider is too slow", "details": ["ttft<=1s: <b>"]}
    append(tmp_path / "0.5.0", missed, kind="failure")
    [report] = smoke.read(tmp_path / "0.5.0")
    told = report.as_markdown()
    assert "the provider is too slow" in told
    assert "- ttft&lt;=1s: &lt;b&gt;" in told
    assert "|" not in told


def test_status_and_the_page_of_a_job_hold_it(tmp_path: Path) -> None:
    """`status --markdown` and the step summary show it behind the table of the stages."""
    folder = tmp_path / "dev" / "0.5.0"
    record(folder, evidence("0.5.0"))
    session = Session({"GITHUB_STEP_SUMMARY": str(tmp_path / "page.md")}, out=io.StringIO())
    assert main.invoke(["status", str(folder), "--markdown"], session) == 0
    assert isinstance(session.out, io.StringIO)
    carry.summarize(session, Workspace(folder), Ledger(folder / "ledger"))
    for told in (session.out.getvalue(), (tmp_path / "page.md").read_text()):
        assert told.index("| smoke | done |") < told.index("## Smoke run of 0.5.0")
        assert ["ttft:b1<=2s", "PASS", "<= 2.00 s", "100 ms"] in rows(told)


def test_nothing_is_said_of_what_cannot_be_read(tmp_path: Path) -> None:
    """No record, or one of another version of the tool."""
    assert smoke.read(tmp_path / "0.5.0") == ()
    append(tmp_path / "0.5.1", {"kind": "bundle"})
    assert smoke.read(tmp_path / "0.5.1") == ()


def test_notes_tell_the_speed_of_the_bundle_alone() -> None:
    """Ratios with each number at once; a stand-in's figures are left out."""
    made = evidence("0.5.0")
    lines = notes._smoke(made)
    assert lines[2:] == tuple(
        f"decodes at 1.000 of the reference's rate with {count} at once" for count in (1, 2, 4)
    )
    assert len(notes._smoke(made.model_copy(update={"kind": "stand-in"}))) == 2
