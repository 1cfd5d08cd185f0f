"""What a killed run left in a workspace goes, and nothing else does."""

from __future__ import annotations

from pathlib import Path

from release_tool.files.workspace import Workspace


def test_tidying_takes_what_is_half_made(tmp_path: Path) -> None:
    """Scratch and unfinished files go; outputs, records and what is not ours stay."""
    kept = ["archive.tar.gz", "app/.hidden.part", "ledger/0001-profile.json", "notes.part"]
    half_made = [".scratch/publish/served/a", ".notes.abcdefgh.part"]
    for name in (*kept, *half_made):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".notary").mkdir()
    Workspace(tmp_path).tidy()
    assert not (tmp_path / ".notary").exists()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
