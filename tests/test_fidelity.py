"""The table of real signatures that were made again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import fidelity
import pytest
import real_items

from release_tool import errors
from release_tool.apple.reproduction import Difference, Reproduction

GOOD = Reproduction(
    item="good", part="arm64", expected="ab" * 20, observed="ab" * 20, derived=("layout",)
)


def _bad(reason: str) -> Reproduction:
    difference = Difference("load commands: bytes 4 to 5", "00", "01", reason)
    return Reproduction(
        item="bad",
        part="arm64",
        expected="ab" * 20,
        observed="cd" * 20,
        derived=(),
        differences=(difference,),
    )


def _missing() -> list[Reproduction]:
    raise errors.HostError("npm is not here")


def test_the_exit_code_says_what_came_out() -> None:
    """0 where all came out or is explained, 6 where not, 3 where something could not be had."""
    for made, code in (([GOOD], 0), ([GOOD, _bad("it is known")], 0), ([GOOD, _bad("")], 6)):
        assert fidelity.run([fidelity.Item("x", lambda made=made: made)]).exit_code == code  # type: ignore[misc]
    missing = fidelity.Item("npm", _missing)
    assert fidelity.run([missing, fidelity.Item("x", lambda: [GOOD])]).exit_code == 3
    assert fidelity.run([missing, fidelity.Item("x", lambda: [_bad("")])]).exit_code == 6


def _changed() -> list[Reproduction]:
    raise errors.VerificationError("is not what is pinned", expected="ab", observed="cd")


def test_what_is_not_what_it_should_be_stops_no_other_item() -> None:
    """A changed download or a malformed file: a row with its words, and exit 6."""
    broken = [fidelity.Item("changed", _changed), fidelity.Item("x", lambda: [GOOD])]
    outcome = fidelity.run(broken)
    assert outcome.exit_code == 6
    assert [one.item for one in outcome.made] == ["good"]
    assert "is not what is pinned" in str(list(fidelity.table(outcome).columns[5].cells)[-1])


def test_items_beside_the_checkout_may_be_absent(tmp_path: Path, real_data: Path) -> None:
    """That is said in the table; where they are, each file but the text is an item."""
    (item,) = fidelity._beside(tmp_path / "nowhere")
    outcome = fidelity.run([item])
    assert outcome.exit_code == 0
    assert fidelity.summary(outcome) == "0 of 0 reproduced byte for byte"
    assert "not beside this checkout" in str(next(iter(fidelity.table(outcome).columns[5].cells)))
    there = {item.name for item in fidelity._beside(real_data)}
    files = {path.name for path in real_data.glob("*/*")}
    assert files - there == {fidelity.NOT_CMS}


def test_the_table_names_what_differs_and_why() -> None:
    """Item, verdict, what was derived and copied, and the bytes that differ."""
    outcome = fidelity.run(
        [fidelity.Item("x", lambda: [GOOD, _bad("")]), fidelity.Item("npm", _missing)]
    )
    cells = [list(column.cells) for column in fidelity.table(outcome).columns]
    assert cells[0] == ["good", "bad", "npm"]
    assert cells[2] == ["abababababab", "no", "-"]
    assert "bytes 4 to 5: 00 became 01 (unexplained)" in str(cells[5][1])
    assert fidelity.summary(outcome) == (
        "1 of 2 reproduced byte for byte, 1 items could not be had"
    )
    whole = json.loads(json.dumps(fidelity.document(outcome)))
    assert [one["reproduced"] for one in whole["items"]] == [True, False]
    assert whole["missing"].keys() == {"npm"}


@pytest.mark.online
def test_every_open_item_comes_out(tmp_path: Path, real_data: Path) -> None:
    """Each slice, file, seal, ticket and profile, byte for byte, by rule where there is one.

    The cdhashes are those that independent readers found.
    """
    outcome = fidelity.run(list(fidelity.items(dict(os.environ), tmp_path)))
    assert outcome.exit_code == 0
    assert not outcome.missing
    tried = [one for one in outcome.made if not one.absent]
    assert all(one.reproduced for one in tried)
    assert len(tried) == len(outcome.made)
    parts = {"arm64", "x86_64", "file", "seal", "ticket", "profile", "inner profile"}
    assert {one.part for one in tried} == parts
    expected = json.loads((real_data / "expected.json").read_text())["code"]
    told = {code["cdhash"] for item in expected.values() for code in item["slices"]}
    assert told <= {one.observed for one in tried if one.part in ("arm64", "x86_64")}
    by_codesign = [one for one in tried if one.item.startswith(real_items.APP)]
    slices = [one for one in by_codesign if one.part in ("arm64", "x86_64")]
    assert len(slices) == 6
    for one in slices:
        assert {"reserved size", "exec segment", "page size", "default requirement", "CMS"} <= {
            *one.derived
        }
    assert len([one for one in by_codesign if one.part == "seal"]) == 2


@pytest.mark.online
def test_ad_hoc_libraries_follow_from_their_bytes_alone(tmp_path: Path) -> None:
    """What Apple's codesign made of them is derived, identifier and room included.

    Only the flags are chosen, and the page size, which was 4 KiB on arm64 in 2025; the Intel ones
    of macOS 10.10 have a SHA-1 directory before that of SHA-256.
    """
    wanted = [
        item
        for item in fidelity.items(dict(os.environ), tmp_path)
        if item.name.startswith("pillow")
    ]
    outcome = fidelity.run(wanted)
    slices = [one for one in outcome.made if one.part != "file"]
    assert len(slices) == len(wanted) == 4
    for one in slices:
        assert one.reproduced
        assert {*one.copied} <= {"flags", "page size"}
        assert {"identifier", "reserved size", "digests", "exec segment"} <= {*one.derived}
    assert all(one.reproduced for one in outcome.made)
