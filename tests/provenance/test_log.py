"""The log: what a writer without the key can do to it, and how each shows."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.provenance import canonical, dsse, log
from release_tool.provenance.log import Entry, Log
from tests.provenance import samples

OURS, OTHER = samples.key(), samples.key("other")
TRUSTED = (OURS.public,)
EVENTS = (
    samples.entry(),
    samples.entry("promoted"),
    samples.entry("registered", "0.5.1", "8" * 64),
    samples.entry("promoted", "0.5.1", "8" * 64),
    samples.entry("withdrawn", "0.5.1", "8" * 64, "no start"),
    samples.entry("rolled back", note="instead of 0.5.1"),
)


def _log(*entries: Entry) -> Log:
    made = log.EMPTY
    for entry in entries or EVENTS:
        made = log.parse(made.extended(entry, OURS))
    return made


def test_a_log_is_read_back_line_by_line() -> None:
    """Canonical JSON, each line behind the digest of everything before it, each signed."""
    made = _log()
    assert [line.entry for line in made.lines] == list(EVENTS)
    assert made.unsigned(TRUSTED) == []
    pieces = made.content.splitlines(keepends=True)
    for at, piece in enumerate(pieces):
        before = b"".join(pieces[:at])
        wanted = {"count": at, "sha256": hashlib.sha256(before).hexdigest(), "size": len(before)}
        assert json.loads(piece)["after"] == wanted


def test_a_head_is_verified_with_two_commands(tmp_path: Path) -> None:
    """`head -c SIZE log.jsonl | sha256sum` gives the head's digest, for every length."""
    made = _log()
    (tmp_path / "log.jsonl").write_bytes(made.content)
    for count in range(len(made.lines) + 1):
        head = made.head("rehearsal", count)
        done = subprocess.run(
            ["sh", "-c", f"head -c {head.size} log.jsonl | sha256sum"],
            cwd=tmp_path, capture_output=True, check=True, text=True,
        )  # fmt: skip
        assert done.stdout.split()[0] == head.sha256


def test_a_head_is_sealed_and_read_back() -> None:
    """The same head gives the same bytes; another key's is refused."""
    head = _log().head("rehearsal")
    sealed = log.seal(head, OURS)
    assert sealed == log.seal(head, OURS)
    assert log.unseal(sealed, trusted=TRUSTED) == head
    with pytest.raises(errors.VerificationError, match="not signed by a trusted key"):
        log.unseal(log.seal(head, OTHER), trusted=TRUSTED)


@given(st.data())
def test_no_line_moves_changes_or_goes_unseen(data: st.DataObject) -> None:
    """Whatever a writer does to the lines, but cutting the end, breaks the chain."""
    made = _log()
    pieces = made.content.splitlines(keepends=True)
    order = data.draw(st.lists(st.integers(0, len(pieces) - 1), max_size=len(pieces) + 1))
    content = b"".join(pieces[at] for at in order)
    if order == list(range(len(order))):
        assert log.parse(content).unsigned(TRUSTED) == []
        return
    with pytest.raises(errors.FormatError):
        log.parse(content)


def test_a_log_that_was_made_anew_bears_no_signature() -> None:
    """A writer without the key can chain, but not sign: every line of his is named."""
    forged = log.parse(_log().extended(samples.entry(version="9.9.9"), OTHER))
    assert forged.unsigned(TRUSTED) == [len(EVENTS) + 1]
    pieces = [json.loads(line) for line in _log().content.splitlines()]
    pieces[-1]["entry"]["note"] = "instead of nothing"
    edited = b"".join(
        json.dumps(one, sort_keys=True, separators=(",", ":")).encode() + b"\n" for one in pieces
    )
    assert log.parse(edited).unsigned(TRUSTED) == [len(EVENTS)]


def test_a_log_that_was_cut_is_a_log_and_only_a_head_tells() -> None:
    """That is why the head is signed, and copied elsewhere."""
    made = _log()
    head = made.head("rehearsal")
    cut = log.parse(b"".join(made.content.splitlines(keepends=True)[:-1]))
    with pytest.raises(errors.VerificationError, match="lacks lines"):
        log.judge(cut, head)
    log.judge(made, cut.head("rehearsal"))
    other = log.parse(cut.extended(samples.entry(version="0.6.0"), OURS))
    with pytest.raises(errors.VerificationError, match="lines"):
        log.judge(other, head)
    longer = log.parse(other.extended(samples.entry(version="0.6.1"), OURS))
    with pytest.raises(errors.VerificationError, match="other lines"):
        log.judge(longer, head)


def test_what_is_told_is_not_told_again() -> None:
    """A repeat finds its line; a move is news once another move stands behind it."""
    made = _log(*EVENTS[:4])
    assert made.place(EVENTS[0]) == 1
    assert made.place(replace(EVENTS[0], at="later")) == 1
    assert made.place(samples.entry(sha256="7" * 64)) is None
    assert made.place(EVENTS[1]) is None
    assert made.place(EVENTS[3]) == 4
    whole = _log()
    assert whole.place(EVENTS[3]) is None
    assert whole.place(samples.entry("promoted")) == 6
    assert whole.place(samples.entry("withdrawn", "0.5.1", "")) == 5
    assert whole.first("promoted", "0.5.0", "9" * 64) == 2
    assert whole.archives("0.5.1") == ["8" * 64]
    assert whole.withdrawn("0.5.1") == EVENTS[4]
    assert whole.withdrawn("0.5.0") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "unregistered"}, {"version": ""}, {"sha256": "9"}, {"provenance": "x"},
        {"note": "a\nb"}, {"note": "x" * 501}, {"at": None}, {"more": "1"},
    ],
)  # fmt: skip
def test_each_field_of_an_entry_is_judged(changes: dict[str, object]) -> None:
    """Both by the reader and by the writer."""
    whole = json.loads(_log(EVENTS[0]).content)
    whole["entry"] |= changes
    content = json.dumps(whole, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    with pytest.raises(errors.FormatError, match="line 1"):
        log.parse(content)


def test_the_writer_takes_nothing_that_the_reader_refuses() -> None:
    """A reason with a line break never comes into the log."""
    with pytest.raises(errors.FormatError):
        log.EMPTY.extended(samples.entry(note="a\nb"), OURS)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line[:-1],
        lambda line: line[:-1] + b"\r\n",
        lambda line: line.replace(b":", b": ", 1),
        lambda line: line + b"\n",
        lambda line: line.replace(b'"after"', b'"after":1,"after"'),
        lambda line: line * 0 + b"x" * 9000 + b"\n",
        lambda line: line.replace(b'"count":0', b'"count":0.0'),
    ],
)
def test_a_line_has_one_spelling(spoil: object) -> None:
    """So that its digest means what it says."""
    assert callable(spoil)
    with pytest.raises(errors.FormatError):
        log.parse(spoil(_log(EVENTS[0]).content))


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_log_or_a_format_error(content: bytes) -> None:
    """Whatever is served."""
    with contextlib.suppress(errors.FormatError):
        log.parse(content)


@pytest.mark.parametrize(
    "changes", [{"count": -1}, {"count": True}, {"size": "1"}, {"sha256": "9"}, {"more": 1}]
)
def test_each_field_of_a_head_is_judged(changes: dict[str, object]) -> None:
    """Even of one that a trusted key signed."""
    head = {"environment": "", "count": 1, "size": 1, "sha256": "9" * 64} | changes
    sealed = dsse.seal(log.HEAD_TYPE, canonical.encode(head), OURS)
    with pytest.raises(errors.FormatError):
        log.unseal(sealed, trusted=TRUSTED)
