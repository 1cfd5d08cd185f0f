"""A release arrives on another machine as it was, or not at all."""

from __future__ import annotations

import os
import random
import tarfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool import errors
from release_tool.files.members import Member
from release_tool.ledger import GENESIS
from release_tool.plan import ReleasePlan
from tests.handoff import releases
from tests.handoff.releases import CANARY, Members, Release


@pytest.fixture
def here(tmp_path: Path, plan: ReleasePlan) -> Release:
    return releases.signed(tmp_path / "here" / "0.5.0", plan)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "handoff.tar.gz"


def there(tmp_path: Path) -> Path:
    return tmp_path / "there" / "dev" / "0.5.0"


def nothing_came(root: Path) -> bool:
    """Neither a workspace nor scratch; the lock beside the workspaces may stay."""
    return not root.exists() and not list(root.parent.glob(".handoff/[!.]*"))


def test_a_release_arrives_as_it_was(here: Release, archive: Path, tmp_path: Path) -> None:
    """Contents, modes, links, signatures in extended attributes, and the same ledger."""
    head = here.pack(archive)
    came = here.unpack(archive, there(tmp_path), head)
    assert releases.state(came.root) == releases.named(here)
    assert came.ledger.head == head
    lib = came.root / "signed/App.app/Contents/MacOS/lib"
    assert lib.stat().st_mode & 0o777 == 0o600


def test_the_same_ledger_gives_the_same_bytes(here: Release, tmp_path: Path) -> None:
    """Wherever it is packed: times, owners and the order of a folder do not matter."""
    here.pack(tmp_path / "a")
    came = here.unpack(tmp_path / "a", there(tmp_path))
    came.pack(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nothing_is_packed_that_no_record_names(here: Release, archive: Path) -> None:
    """Upload credentials, keychains and keys that lie in the workspace stay there."""
    here.pack(archive)
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        whole = b"".join(
            file.read() for member in tar if member.isfile() and (file := tar.extractfile(member))
        )
    assert CANARY not in whole
    assert not [name for name in names if "/." in name.removeprefix("./") or "keychain" in name]


def test_memory_does_not_grow_with_the_release(
    plan: ReleasePlan, archive: Path, tmp_path: Path
) -> None:
    """Of what comes once nothing is kept: less than the file is ever held, on either side."""
    here = Release(tmp_path / "large", plan)
    here.root.mkdir()
    megabytes = 40
    here.file("archive", releases.ARCHIVE, random.Random(1).randbytes(megabytes * 1024**2))  # noqa: S311 - no secret
    tracemalloc.start()
    try:
        head = here.pack(archive)
        here.unpack(archive, there(tmp_path), head)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < megabytes / 4 * 3 * 1024**2


def test_only_what_stands_is_carried(here: Release, archive: Path, tmp_path: Path) -> None:
    """A record whose input has a newer result stays in the chain, without its artifact."""
    here.file("archive", releases.ARCHIVE, b"archive", ["sign"])
    here.tree("sign", "signed", ["assemble"], word="again")
    (here.root / releases.ARCHIVE).unlink()
    here.pack(archive)
    came = here.unpack(archive, there(tmp_path))
    assert len(came.ledger.records) == 5
    assert not (came.root / releases.ARCHIVE).exists()
    assert "again" in (came.root / "signed/App.app/Contents/Info.plist").read_text()


def test_what_differs_from_its_record_is_not_packed(here: Release, archive: Path) -> None:
    """A changed artifact, a missing one, a link that became a file: exit 6, and no archive."""
    link = here.root / "signed/App.app/Contents/link"
    target = here.root / "signed/App.app/Contents/Info.plist"
    text = target.read_text()

    def no_link() -> None:
        target.write_text(text)
        link.unlink()
        link.write_text("x")

    changes: list[tuple[Callable[[], object], str]] = [
        (lambda: target.write_text("other"), "is not what its record says"),
        (target.unlink, "is gone"),
        (no_link, "no link"),
    ]
    for change, words in changes:
        change()
        with pytest.raises(errors.VerificationError, match=words):
            here.pack(archive)
        assert not archive.exists()
        assert not list(archive.parent.glob(".*part"))


def test_an_empty_ledger_is_not_handed_over(plan: ReleasePlan, tmp_path: Path) -> None:
    """There is nothing to hand over before the first stage."""
    with pytest.raises(errors.UsageError, match="nothing was recorded"):
        Release(tmp_path, plan).pack(tmp_path / "x")


def _other(plan: ReleasePlan, what: str) -> ReleasePlan:
    match what:
        case "version":
            return plan.model_copy(update={"version": "0.5.1"})
        case "environment":
            environment = plan.environment.model_copy(update={"name": "prod"})
            return plan.model_copy(update={"environment": environment})
        case "source commit":
            source = plan.source.model_copy(update={"commit": "ab" * 20})
            return plan.model_copy(update={"source": source})
        case _:
            endpoints = plan.endpoints.model_copy(update={"r2_bucket": "another"})
            return plan.model_copy(update={"endpoints": endpoints})


@pytest.mark.parametrize("what", ["version", "environment", "source commit", "plan"])
def test_a_handoff_of_another_release_is_refused(
    here: Release, archive: Path, tmp_path: Path, what: str
) -> None:
    """Exit 2 naming what differs, both sides, and nothing is left."""
    head = here.pack(archive)
    other = replace(here, plan=_other(here.plan, what))
    with pytest.raises(errors.UsageError, match=f"another {what}") as caught:
        other.unpack(archive, there(tmp_path), head)
    assert caught.value.expected != caught.value.observed
    assert caught.value.hint
    assert nothing_came(there(tmp_path))


def test_of_a_section_the_differing_value_is_named(
    here: Release, archive: Path, tmp_path: Path
) -> None:
    """And not the beginning of two sections, which may be the same."""
    head = here.pack(archive)
    other = replace(here, plan=_other(here.plan, "plan"))
    with pytest.raises(errors.UsageError) as caught:
        other.unpack(archive, there(tmp_path), head)
    assert caught.value.expected == "endpoints.r2_bucket another"
    assert caught.value.observed == f"endpoints.r2_bucket {here.plan.endpoints.r2_bucket}"


def test_another_head_is_refused(here: Release, archive: Path, tmp_path: Path) -> None:
    """The head that travelled another way decides, whatever the archive says of itself."""
    here.pack(archive)
    for expect in ("0" * 64, "ab" * 32, here.ledger.records[-1].previous):
        with pytest.raises(errors.VerificationError, match="another ledger"):
            here.unpack(archive, there(tmp_path), expect)
        assert nothing_came(there(tmp_path))


def _changed(path: str, **fields: object) -> Callable[[Members], Members]:
    def change(found: Members) -> Members:
        return [
            (replace(member, **fields), content) if member.path == path else (member, content)  # type: ignore[arg-type]
            for member, content in found
        ]

    return change


def _content(path: str, new: bytes) -> Callable[[Members], Members]:
    return lambda found: [(m, new if m.path == path else content) for m, content in found]


PLIST, LINK = "signed/App.app/Contents/Info.plist", "signed/App.app/Contents/link"
RECORD = "ledger/0002-assemble.json"


def _plain(path: str, content: bytes = b"x") -> tuple[Member, bytes]:
    return Member(path=path, kind="file", mode=0o644, size=len(content)), content


HOSTILE: dict[str, Callable[[Members], Members]] = {
    "other bytes": _content(PLIST, b"x"),
    "another mode": _changed(PLIST, mode=0o755),
    "a link for a file": _changed(PLIST, kind="symlink", target="link"),
    "a file for a link": _changed(LINK, kind="file", target=""),
    "a link elsewhere": _changed(LINK, target="Info.plist"),
    "a link out of the workspace": _changed(LINK, target="../../../../outside"),
    "a folder": lambda found: [*found, (Member(path="more", kind="directory", mode=0o755), b"")],
    "more than is named": lambda found: [*found, _plain("signed/App.app/Contents/more")],
    "a hidden file": lambda found: [*found, _plain(".notary/upload.json")],
    "a lock": lambda found: [found[0], _plain("ledger/.lock"), *found[1:]],
    "a record behind the artifacts": lambda found: [*found, _plain("ledger/0004-more.json")],
    "less than is named": lambda found: [pair for pair in found if pair[0].path != PLIST],
    "a file twice": lambda found: [*found, found[-1]],
    "a damaged record": _content(RECORD, b"{}"),
    "no record in between": lambda found: [pair for pair in found if pair[0].path != RECORD],
    "no last record": lambda found: [p for p in found if p[0].path != "ledger/0003-sign.json"],
    "no record at all": lambda found: [p for p in found if not p[0].path.startswith("ledger/")],
    "no manifest": lambda found: found[1:],
    "a manifest behind": lambda found: [*found[1:], found[0]],
    "another format": lambda found: [
        (found[0][0], found[0][1].replace(b'"format": 1', b'"format": 2')),
        *found[1:],
    ],
    "a manifest that lies": lambda found: [
        (found[0][0], found[0][1].replace(b'"head": "', b'"head": "0')[:-4] + b'"\n}\n'),
        *found[1:],
    ],
    "a large manifest": lambda found: [(found[0][0], b" " * 70_000 + found[0][1]), *found[1:]],
    "nothing": lambda _: [],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_handoffs_are_refused(
    here: Release, archive: Path, tmp_path: Path, name: str
) -> None:
    """Exit 6 with one verdict, and neither a workspace nor scratch is left."""
    here.pack(archive)
    releases.forged(archive, HOSTILE[name])
    with pytest.raises(errors.VerificationError) as caught:
        here.unpack(archive, there(tmp_path))
    assert str(caught.value)
    assert nothing_came(there(tmp_path))
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    "path", [".notary/upload.json", "ledger/0009-sign.json", "handoff.json", "../out", "a/../b"]
)
def test_a_record_cannot_name_what_is_no_artifact(
    here: Release, archive: Path, tmp_path: Path, path: str
) -> None:
    """Not even a record under the expected head reaches the ledger, hidden folders or outside."""
    (here.root / "extra").write_bytes(b"x")
    here.append("extra", outputs={path: "ab" * 32}, value={})
    with pytest.raises(errors.VerificationError):
        here.pack(archive)
    assert not archive.exists()


def test_every_bound_of_the_reader_holds_here_too(
    here: Release, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many records, and records that are too large together, end in FormatError."""
    here.pack(archive)
    for name in ("RECORDS_LIMIT", "RECORDS_BYTES"):
        with monkeypatch.context() as patched:
            patched.setattr(f"release_tool.handoff.contents.{name}", 2)
            with pytest.raises(errors.FormatError, match="more records"):
                here.unpack(archive, there(tmp_path))


def test_damage_anywhere_is_seen(
    tmp_path_factory: pytest.TempPathFactory, plan: ReleasePlan
) -> None:
    """A flipped bit or a cut end: refused, or, where bytes mean nothing, the same release."""
    folder = tmp_path_factory.mktemp("damage")
    here = releases.signed(folder / "here", plan)
    head = here.pack(folder / "whole")
    whole, wanted = (folder / "whole").read_bytes(), releases.named(here)
    rounds = iter(range(10_000))

    @given(st.integers(0, len(whole) - 1), st.integers(0, 8))
    def damaged(position: int, bit: int) -> None:
        changed = bytearray(whole[:position] if bit == 8 else whole)
        if bit < 8:
            changed[position] ^= 1 << bit
        (folder / "damaged").write_bytes(changed)
        root = folder / str(next(rounds)) / "0.5.0"
        try:
            came = here.unpack(folder / "damaged", root, head)
        except errors.VerificationError:
            assert nothing_came(root)
        else:
            assert releases.state(came.root) == wanted

    damaged()


def test_a_workspace_is_extended(here: Release, tmp_path: Path) -> None:
    """From its own ledger on: a newer tree replaces the older one whole, the rest stays."""
    first = here.pack(tmp_path / "first")
    came = here.unpack(tmp_path / "first", there(tmp_path), first)
    (came.root / ".notary").mkdir()
    (came.root / "signed" / "stray").write_text("of the older tree")
    here.tree("sign", "signed", ["assemble"], word="again")
    releases.carried_on(here)
    head = here.pack(tmp_path / "second")
    came = here.unpack(tmp_path / "second", came.root, head)
    assert came.ledger.head == head
    assert (came.root / ".notary").is_dir()
    (came.root / ".notary").rmdir()
    assert releases.state(came.root) == releases.named(here)


def test_the_same_handoff_again_mends_artifacts(here: Release, tmp_path: Path) -> None:
    """Nothing is appended, and what was damaged is as recorded again."""
    head = here.pack(tmp_path / "first")
    came = here.unpack(tmp_path / "first", there(tmp_path), head)
    (came.root / PLIST).write_text("damaged")
    came = here.unpack(tmp_path / "first", there(tmp_path), head)
    assert releases.state(came.root) == releases.named(here)


def test_a_workspace_that_went_another_way_stays(here: Release, tmp_path: Path) -> None:
    """Neither a fork nor a release that is further is touched: exit 2, and both say why."""
    first = here.pack(tmp_path / "first")
    came = here.unpack(tmp_path / "first", there(tmp_path), first)
    came.file("archive", releases.ARCHIVE, b"made there", ["sign"])
    before = releases.state(came.root)
    with pytest.raises(errors.UsageError, match="further than the handoff"):
        here.unpack(tmp_path / "first", came.root, first)
    releases.carried_on(here)
    head = here.pack(tmp_path / "second")
    with pytest.raises(errors.UsageError, match="another way"):
        here.unpack(tmp_path / "second", came.root, head)
    assert releases.state(came.root) == before


def test_an_attempt_that_broke_off_hands_on_its_intents(here: Release, tmp_path: Path) -> None:
    """Behind the expected head intents and failures count when asked for, a result never does."""
    head = here.ledger.head
    releases.carried_on(here)
    here.pack(tmp_path / "later")
    with pytest.raises(errors.VerificationError, match="another ledger"):
        here.unpack(tmp_path / "later", there(tmp_path), head)
    came = here.unpack(tmp_path / "later", there(tmp_path), head, continued=True)
    assert [record.kind for record in came.ledger.records[3:]] == ["intent", "failure"]
    assert not (came.root / releases.ARCHIVE).exists()
    with pytest.raises(errors.VerificationError, match="another ledger"):
        here.unpack(tmp_path / "later", tmp_path / "x" / "y", "ab" * 32, continued=True)
    assert GENESIS not in (came.ledger.head, head)


def test_bytes_reach_the_disk_before_names(
    here: Release, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file and folder is synced before the workspace has its name, and then its parent."""
    head = here.pack(archive)
    synced: list[tuple[int, bool]] = []
    root = there(tmp_path)
    monkeypatch.setattr("os.fsync", lambda fd: synced.append((os.fstat(fd).st_ino, root.exists())))
    here.unpack(archive, root, head)
    before = {inode for inode, named in synced if not named}
    made = [path for path in root.rglob("*") if not path.is_symlink()]
    assert {path.stat().st_ino for path in [root, *made]} <= before
    assert (root.parent.stat().st_ino, True) in synced


def test_a_release_that_somebody_holds_is_left_alone(here: Release, tmp_path: Path) -> None:
    """Neither packed nor unpacked while a run is at work: exit 5."""
    head = here.pack(tmp_path / "first")
    came = here.unpack(tmp_path / "first", there(tmp_path), head)
    with came.ledger.lock(), pytest.raises(errors.TransientError):
        here.unpack(tmp_path / "first", came.root, head)
    with here.ledger.lock(), pytest.raises(errors.TransientError):
        here.pack(tmp_path / "second")
    assert not (tmp_path / "second").exists()
