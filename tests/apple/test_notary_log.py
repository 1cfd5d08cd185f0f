"""The notary's log: read tolerantly, bounded, and held against our bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.apple import notary_log

ID = "0b5c6f1e-2d5b-4b0e-9d2e-8a4f3b2c1de1"
SHA = "a" * 64
HASHES = ("1" * 40, "2" * 40)


def log(**changed: object) -> bytes:
    """A log as Apple writes one of an accepted app, with changes."""
    whole: dict[str, object] = {
        "logFormatVersion": 1,
        "jobId": ID,
        "status": "Accepted",
        "statusSummary": "Ready for distribution",
        "statusCode": 0,
        "archiveFilename": "Darkbloom.zip",
        "uploadDate": "2026-11-24T17:02:11.000Z",
        "sha256": SHA,
        "ticketContents": [
            {
                "path": f"Darkbloom.zip/Darkbloom.app/{number}",
                "digestAlgorithm": "SHA-256",
                "cdhash": cdhash,
                "arch": "arm64",
            }
            for number, cdhash in enumerate([*HASHES, "3" * 40])
        ],
        "issues": None,
    }
    return json.dumps(whole | changed).encode()


def _failed(data: bytes, **changed: object) -> list[str]:
    arguments = {"submission_id": ID.upper(), "sha256": SHA, "cdhashes": HASHES} | changed
    found = notary_log.judge(notary_log.parse(data), **arguments)  # type: ignore[arg-type]
    return [check.name for check in found if check.outcome == "failed"]


def test_a_log_of_our_bytes_passes() -> None:
    """Extra cdhashes are normal, and case does not matter."""
    assert _failed(log()) == []
    assert _failed(log(sha256=SHA.upper())) == []


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (log(sha256="b" * 64), "sha256 in the log"),
        (log(sha256=None), "sha256 in the log"),
        (log(status="Invalid"), "status in the log"),
        (log(status="accepted"), "status in the log"),
        (log(jobId="1b5c6f1e-2d5b-4b0e-9d2e-8a4f3b2c1de1"), "submission in the log"),
        (log(ticketContents=None), "cdhashes in the log"),
        (log(ticketContents=[{"cdhash": HASHES[0]}]), "cdhashes in the log"),
        (log(ticketContents=[{"cdhash": None}, {}]), "cdhashes in the log"),
    ],
)
def test_a_log_of_other_bytes_is_refused(data: bytes, name: str) -> None:
    """Another archive, another job, a slice that is missing: each by its own check."""
    assert _failed(data) == [name]


def test_no_cdhash_of_ours_is_no_pass() -> None:
    """Nothing to look for proves nothing."""
    assert _failed(log(), cdhashes=()) == ["cdhashes in the log"]


def test_issues_are_told_worst_first_with_path_and_architecture() -> None:
    """Errors before warnings, each in Apple's order; a hostile text stays on its line."""
    issues = [
        {"severity": "warning", "path": "a.zip/w", "message": "old SDK", "docUrl": None},
        {
            "severity": "error",
            "path": "a.zip/Darkbloom.app/Contents/MacOS/darkbloom",
            "architecture": "arm64",
            "message": "The signature does not include a secure timestamp.",
            "docUrl": "https://developer.apple.com/x",
            "code": None,
        },
        {"severity": "error", "path": "a.zip/\x1b[31mred\n::error::", "message": "two\nlines"},
    ]
    lines = notary_log.lines(notary_log.parse(log(issues=issues)).issues)
    assert lines[0] == (
        "error: a.zip/Darkbloom.app/Contents/MacOS/darkbloom (arm64): The signature does not"
        " include a secure timestamp.; see https://developer.apple.com/x"
    )
    assert "\x1b" not in lines[1]
    assert "\n" not in lines[1]
    assert lines[2] == "warning: a.zip/w: old SDK"


def test_many_issues_are_cut_with_their_count() -> None:
    """A terminal gets a hundred, and how many more there are."""
    issues = [{"severity": "error", "path": f"{number}"} for number in range(130)]
    lines = notary_log.lines(notary_log.parse(log(issues=issues)).issues)
    assert len(lines) == 101
    assert lines[-1] == "and 30 more"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>busy</html>",
        b"[]",
        b"{}",
        b'{"status": 3}',
        log(issues={}),
        log(issues=["text"]),
        log(ticketContents="none"),
        log()[:-20],
        b"[" * 100_000,
        b'{"status": "Accepted", "statusCode": ' + b"9" * 5000 + b"}",
        b"\xff\xfe{}",
    ],
)
def test_what_is_no_log_is_refused(data: bytes) -> None:
    """Pages, cut and hostile JSON end in the format's own error."""
    with pytest.raises(errors.FormatError):
        notary_log.parse(data)


@pytest.mark.parametrize("size", [notary_log.MAX_BYTES + 1])
def test_a_log_beyond_any_is_not_even_read(size: int) -> None:
    """The size is judged before the content."""
    with pytest.raises(errors.FormatError, match="more than"):
        notary_log.parse(b" " * size)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(json.loads(log()))), _JSON))
def test_any_values_end_in_a_log_or_the_formats_error(changed: dict[str, object]) -> None:
    """Whatever stands in the fields: a value or `FormatError`, and the judgement never breaks."""
    try:
        found = notary_log.parse(log(**changed))
    except errors.FormatError:
        return
    notary_log.judge(found, submission_id=ID, sha256=SHA, cdhashes=HASHES)
    notary_log.lines(found.issues)
