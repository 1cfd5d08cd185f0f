"""Which earlier release an installer is tried over."""

from __future__ import annotations

import hashlib
from pathlib import Path

from release_tool.cli import release_before
from release_tool.ledger import Ledger, Record

CONTENT = b"an archive"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def release(dist: Path, name: str, *, published: bool = True, content: bytes = CONTENT) -> Path:
    """A workspace whose records name an archive of `CONTENT`."""
    folder = dist / name
    folder.mkdir(parents=True)
    (folder / "a.tar.gz").write_bytes(content)
    values = {"archive": {"path": "a.tar.gz", "sha256": SHA256}}
    if published:
        values["publish"] = {"archive_sha256": SHA256}
    record(folder, values)
    return folder


def record(folder: Path, values: dict[str, dict[str, str]]) -> None:
    ledger = Ledger(folder / "ledger")
    with ledger.lock():
        for stage, value in values.items():
            ledger.append(
                Record.model_validate(
                    {
                        "number": 0,
                        "previous": "",
                        "kind": "record",
                        "stage": stage,
                        "at": "2026-11-24T00:00:00+00:00",
                        "host": {"system": "linux"},
                        "tool": "test",
                        "value": value,
                    }
                )
            )


def test_the_nearest_that_was_published_and_is_still_there(tmp_path: Path) -> None:
    """Neither a later one, one of another flavour, one that never left, nor a changed archive."""
    here = tmp_path / "0.5.0"
    assert release_before.find(here, "0.5.0") is None
    good = release(tmp_path, "0.4.7")
    release(tmp_path, "0.4.6")
    release(tmp_path, "0.4.8", content=b"changed since")
    release(tmp_path, "0.4.9", published=False)
    release(tmp_path, "0.5.1")
    release(tmp_path, "rust-bridge-0.4.9")
    (tmp_path / "0.4.5" / "ledger").mkdir(parents=True)
    (tmp_path / "0.4.5" / "ledger" / "0001.json").write_text("damaged")
    found = release_before.find(here, "0.5.0")
    assert found is not None
    assert (found.version, found.sha256) == ("0.4.7", SHA256)
    assert found.file == (good / "a.tar.gz").resolve()
