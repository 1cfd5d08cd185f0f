"""The ledger keeps a chain that shows every damage."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.ledger import GENESIS, Ledger, Record


def record(stage: str, **more: object) -> Record:
    return Record.model_validate(
        {
            "number": 0,
            "previous": "",
            "kind": "record",
            "stage": stage,
            "at": "2026-11-24T00:00:00+00:00",
            "host": {"system": "linux"},
            "tool": "test",
        }
        | more
    )


def filled(folder: Path) -> Ledger:
    ledger = Ledger(folder)
    for stage in ("profile", "assemble", "sign"):
        ledger.append(record(stage, outputs={f"{stage}/file": "ab" * 32}))
    return ledger


def test_an_empty_ledger_has_the_genesis_head(tmp_path: Path) -> None:
    """A ledger that was never written is empty and needs no folder."""
    ledger = Ledger(tmp_path / "none")
    assert ledger.head == GENESIS
    assert ledger.records == ()


def test_records_chain_and_read_back(tmp_path: Path) -> None:
    """What was appended is read back in order, under the same head."""
    written = filled(tmp_path)
    read = Ledger(tmp_path)
    assert read.records == written.records
    assert read.head == written.head
    assert [entry.number for entry in read.records] == [1, 2, 3]


def test_every_changed_byte_below_the_head_is_seen(tmp_path: Path) -> None:
    """A changed byte in any record but the last breaks the chain or the record."""
    filled(tmp_path)
    path = tmp_path / "0001-profile.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(errors.VerificationError):
            Ledger(tmp_path)
    path.write_bytes(whole)
    Ledger(tmp_path)


def test_a_missing_record_is_seen(tmp_path: Path) -> None:
    """Taking a record out of the middle breaks the chain."""
    filled(tmp_path)
    (tmp_path / "0002-assemble.json").unlink()
    with pytest.raises(errors.VerificationError, match="chain is broken"):
        Ledger(tmp_path)


def test_a_record_is_never_replaced(tmp_path: Path) -> None:
    """Two ledgers that both append number 4: the second fails and the first stays."""
    first, second = filled(tmp_path), Ledger(tmp_path)
    first.append(record("archive", notes=("first",)))
    with pytest.raises(errors.HostError):
        second.append(record("archive", notes=("second",)))
    assert Ledger(tmp_path).records[-1].notes == ("first",)


def test_half_written_files_are_no_records(tmp_path: Path) -> None:
    """What a killed writer left behind is not read."""
    filled(tmp_path)
    (tmp_path / ".0004-archive.json.77").write_text('{"number":')
    assert len(Ledger(tmp_path).records) == 3


def _try_lock(folder: str, found: multiprocessing.Queue[str]) -> None:
    try:
        with Ledger(Path(folder)).lock():
            found.put("held")
    except errors.TransientError as problem:
        found.put(problem.observed)


def test_one_process_holds_the_lock(tmp_path: Path) -> None:
    """A second process is told who holds it; afterwards it gets the lock."""
    context = multiprocessing.get_context("spawn")
    found: multiprocessing.Queue[str] = context.Queue()
    with Ledger(tmp_path).lock():
        other = context.Process(target=_try_lock, args=(str(tmp_path), found))
        other.start()
        assert found.get(timeout=60).startswith("process ")
        other.join(60)
    other = context.Process(target=_try_lock, args=(str(tmp_path), found))
    other.start()
    assert found.get(timeout=60) == "held"
    other.join(60)


def test_a_full_disk_is_told_where_the_lock_is_taken(tmp_path: Path) -> None:
    """A volume without room for the lock's text is a lack of the host, with what to do."""
    (tmp_path / ".lock").symlink_to("/dev/full")
    with (
        pytest.raises(errors.HostError, match="cannot write the ledger's lock") as caught,
        Ledger(tmp_path).lock(),
    ):
        pytest.fail("nobody holds it")
    assert caught.value.observed == "No space left on device"
    assert caught.value.hint == "make room on this volume, then run again"


def test_the_lock_says_who_holds_it_in_place_of_who_did(tmp_path: Path) -> None:
    """It takes over the room of a longer text, and leaves nothing of it."""
    (tmp_path / ".lock").write_text("process 4194304, since 2026-01-01 00:00:00 UTC\n" * 3)
    with Ledger(tmp_path).lock():
        told = (tmp_path / ".lock").read_text()
    assert re.fullmatch(rf"process {os.getpid()}, since [0-9: -]{{19}} UTC\n", told)


def test_newest_is_the_last_of_its_kind(tmp_path: Path) -> None:
    """Failures and intents never count as the stage's record."""
    ledger = filled(tmp_path)
    ledger.append(record("sign", kind="failure"))
    found = ledger.newest("sign")
    assert found is not None
    assert found.number == 3


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_as_a_record(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Random bytes under a record's name end in our own error."""
    folder = tmp_path_factory.mktemp("ledger")
    (folder / "0001-profile.json").write_bytes(content)
    with pytest.raises(errors.VerificationError):
        Ledger(folder)


def test_records_are_readable_json(tmp_path: Path) -> None:
    """A record is a JSON document that people and other tools can read."""
    filled(tmp_path)
    document = json.loads((tmp_path / "0003-sign.json").read_text())
    assert document["stage"] == "sign"
    assert document["outputs"] == {"sign/file": "ab" * 32}


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in the way of the ledger is a lack of the host that names the path."""
    (tmp_path / "file").write_text("")
    ledger = Ledger(tmp_path / "file" / "dev" / "1.2.3" / "ledger")
    with pytest.raises(errors.HostError) as caught, ledger.lock():
        pass
    assert caught.value.subject == str(ledger.folder)
    assert caught.value.observed == "Not a directory"
    with pytest.raises(errors.HostError, match="cannot make the ledger's folder"):
        ledger.append(record("profile"))
    (tmp_path / "ledger" / ".lock").mkdir(parents=True)
    other = Ledger(tmp_path / "ledger")
    with pytest.raises(errors.HostError, match="the ledger's lock"), other.lock():
        pass


def test_what_a_kill_left_of_a_record_goes(tmp_path: Path) -> None:
    """Whoever holds the lock removes half-written records, and nothing that counts."""
    ledger = filled(tmp_path)
    (tmp_path / ".0004-staple.json.4711").write_bytes(b'{"num')
    with ledger.lock():
        assert len(ledger.records) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock", "0001-profile.json", "0002-assemble.json", "0003-sign.json",
    ]  # fmt: skip
