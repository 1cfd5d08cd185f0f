"""Models come into the cache whole, pinned and verified, or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.progress import Silent
from release_tool.rehearsal import faults, hub
from release_tool.rehearsal.wire import Rule
from release_tool.services import hub as hub_client
from release_tool.services import hub_cache, hub_download, hub_listing, model_store
from release_tool.services.model_store import ModelStore, Pin
from tests import hub_world
from tests.hub_world import COMMIT, EARLIER, FILES, MODEL, READER, STRANGER, World

PIN = Pin(MODEL, COMMIT, hub_world.digest(FILES))
LARGE = "model.safetensors"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A hub whose large file comes in many pieces."""
    monkeypatch.setattr(hub_download, "PIECE_BYTES", 50_000)
    with hub_world.living(tmp_path) as made:
        yield made


class Heard(Silent):
    """A reporter that adds up."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.bytes = 0

    def start(self, task: str, total_bytes: int | None) -> None:
        self.total = total_bytes

    def advance(self, task: str, count_bytes: int) -> None:
        self.bytes += count_bytes


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_model_comes_whole_with_its_progress(world: World) -> None:
    """Every file, in pieces; the reporter sees each byte once; the second time nobody is asked."""
    heard = Heard()
    found = world.store().obtain(PIN, heard)
    assert files_of(found) == FILES
    assert hub_cache.digest(found) == PIN.sha256
    assert heard.total == heard.bytes == sum(map(len, FILES.values()))
    ranges = [told for host, _, told in world.hub.asked if host == "store"]
    assert ranges[:2] == ["bytes=0-49999", "bytes=50000-99999"]
    assert len(ranges) == 6
    world.hub.asked.clear()
    assert world.store().obtain(PIN, Silent()) == found
    assert ModelStore(shared=world.folder, own=world.folder / "own").obtain(PIN, Silent()) == found
    assert world.hub.asked == []
    left = sorted(path.name for path in found.parent.iterdir())
    assert left == [COMMIT, f"{COMMIT}.lock", f"{COMMIT}.sha256"]


def test_pages_of_a_listing_are_put_together(world: World) -> None:
    """Also where the hub's address for the next page is another's: a mirror's own is asked."""
    world.settings.page = 2
    world.settings.hub_url = "https://hub.example"
    assert files_of(world.store().obtain(PIN, Silent())) == FILES


@pytest.mark.parametrize("kind", ["kill", "cut"])
def test_a_broken_download_goes_on_where_it_was(world: World, kind: str) -> None:
    """What came is not asked for again, and one damaged half is thrown away, once."""
    world.broken.set({faults.HUB_STORE_CUT_SHORT: 3})
    with pytest.raises(errors.TransientError):
        world.store().obtain(PIN, Silent())
    (part,) = (world.folder / "own").rglob("parts/*")
    have = part.stat().st_size
    assert have == 75_000
    world.hub.asked.clear()
    if kind == "kill":
        part.write_bytes(b"?" * have)
    assert files_of(world.store().obtain(PIN, Silent())) == FILES
    ranges = [told for host, _, told in world.hub.asked if host == "store"]
    assert ranges[0].startswith(f"bytes={have}-")
    assert ("bytes=0-49999" in ranges) == (kind == "kill")
    small = [path for _, path, _ in world.hub.asked if path.endswith("resolve/main/config.json")]
    assert small == []


def test_a_store_without_ranges_serves_too(world: World) -> None:
    """It sends all of a file, whatever was asked for; a part that is there gives way."""
    world.broken.set({faults.HUB_STORE_CUT_SHORT: 3})
    with pytest.raises(errors.TransientError):
        world.store().obtain(PIN, Silent())
    world.broken.set({faults.HUB_STORE_CUT_SHORT: 0, faults.HUB_STORE_WITHOUT_RANGES: 9})
    assert files_of(world.store().obtain(PIN, Silent())) == FILES


PASSING = (
    *(faults.HUB_UNAVAILABLE, faults.HUB_RATE_LIMITED, faults.HUB_STORE_ENDED),
    *(faults.HUB_STORE_UNAVAILABLE, faults.HUB_STORE_CUT_SHORT),
)


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_tried_again(world: World, fault: str) -> None:
    """Twice it goes wrong, and the model comes all the same."""
    world.broken.set({fault: 2})
    assert files_of(world.store().obtain(PIN, Silent())) == FILES


@pytest.mark.parametrize("fault", PASSING)
def test_what_does_not_pass_is_told_as_such(world: World, fault: str) -> None:
    """Exit 5; nothing that looks like a model is left."""
    world.broken.set({fault: 10_000})
    with pytest.raises(errors.TransientError):
        world.store().obtain(PIN, Silent())
    assert world.store().find(PIN) is None


FALSE = {
    faults.HUB_HTML: "is no JSON",
    faults.HUB_RENAMED: "redirects, which is not followed",
    faults.HUB_OTHER_COMMIT: "another commit at this revision",
    faults.HUB_MOVED: "another file than it listed",
    faults.HUB_OTHER_SIZE: "another file than it listed",
    faults.HUB_REDIRECT_IN_CLEAR: "redirects to where nothing is fetched from",
    faults.HUB_STORE_REDIRECTS: "redirects again and again",
    faults.HUB_STORE_OTHER_RANGE: "another part than asked for",
    faults.HUB_STORE_OTHER_BYTES: "not those that the hub lists",
}


@pytest.mark.parametrize("fault", FALSE)
def test_what_is_false_is_refused_by_its_name(world: World, fault: str) -> None:
    """No try repeats it within a run; the next run, without the fault, gets the model."""
    world.broken.set({fault: 10_000})
    with pytest.raises((errors.VerificationError, errors.RemoteRefusedError), match=FALSE[fault]):
        world.store().obtain(PIN, Silent())
    assert world.store().find(PIN) is None
    world.broken.set({fault: 0})
    assert files_of(world.store().obtain(PIN, Silent())) == FILES


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("refused", errors.TransientError),
        ("reset", errors.TransientError),
        ("truncated", errors.TransientError),
        ("shorter", errors.ReleaseError),
        ("other-json", errors.FormatError),
        ("not-json", errors.FormatError),
        ("redirect", errors.RemoteRefusedError),
        ("endless", errors.ReleaseError),
    ],
)
def test_a_bad_wire_ends_in_an_error(
    world: World,
    kind: str,
    expected: type[errors.ReleaseError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever stands between: bounded, and never a model."""
    monkeypatch.setattr(hub_client, "_SECONDS", 1.0)
    world.lines.elsewhere_url = world.settings.store_url.replace("127.0.0.1", "localhost")
    world.lines.set([Rule(service="hub", kind=kind)])
    with pytest.raises(expected):
        world.store(READER).obtain(PIN, Silent())
    assert world.store().find(PIN) is None
    assert world.hub.tokens_at_the_store == []


# Tokens.


@pytest.mark.parametrize("access", ["gated", "private"])
def test_a_token_opens_what_is_closed_and_never_reaches_the_store(
    world: World, access: hub.Access
) -> None:
    """The hub itself gets it, on its own redirects too; the store is another host."""
    world.add("org/closed", access=access, readers=frozenset({READER}))
    pin = PIN._replace(model="org/closed")
    assert files_of(world.store(READER).obtain(pin, Silent())) == FILES
    assert any("resolve-cache" in path for _, path, _ in world.hub.asked)
    assert world.hub.tokens_at_the_store == []


@pytest.mark.parametrize(
    ("model", "revision", "token", "kind", "said"),
    [
        ("org/gated", COMMIT, "", errors.CredentialError, "accept its terms"),
        ("org/gated", COMMIT, STRANGER, errors.CredentialError, "accept its terms"),
        ("org/private", COMMIT, "", errors.CredentialError, "correct smoke.model"),
        ("org/private", COMMIT, STRANGER, errors.UsageError, "correct smoke.model"),
        ("org/none", COMMIT, "", errors.CredentialError, "correct smoke.model"),
        (MODEL, COMMIT, "hf_made-up", errors.CredentialError, "set HF_TOKEN again"),
        (MODEL, EARLIER, "", errors.UsageError, "smoke.model_revision"),
    ],
)
def test_a_refusal_says_whose_it_is(
    world: World,
    model: str,
    revision: str,
    token: str,
    kind: type[errors.ReleaseError],
    said: str,
) -> None:
    """Terms, tokens, names and revisions are told apart, before anything is downloaded."""
    for access in ("gated", "private"):
        world.add(f"org/{access}", access=access, readers=frozenset({READER}))
    for ask in (
        lambda: world.store(token).check(Pin(model, revision, "")),
        lambda: world.store(token).obtain(Pin(model, revision, ""), Silent()),
    ):
        with pytest.raises(kind) as caught:
            ask()
        assert said in caught.value.hint
        assert not token or token not in "\n".join(caught.value.lines())
    assert not [path for _, path, _ in world.hub.asked if "resolve" in path]


# What is here, and what is not.


def test_the_hubs_own_cache_serves_and_is_never_written(world: World) -> None:
    """A snapshot with the pinned digest; an incomplete one is passed by, and left as it is."""
    shared = world.folder / "shared"
    snapshot = shared / "models--mlx-look-alike--tiny" / "snapshots" / COMMIT
    shutil.copytree(world.settings.models[0].commits[COMMIT], snapshot)
    assert world.store().obtain(PIN, Silent()) == snapshot.resolve()
    assert world.hub.asked == []
    (snapshot / "empty.txt").unlink()
    before = files_of(shared)
    found = world.store().obtain(PIN, Silent())
    assert found.is_relative_to(world.folder / "own")
    assert files_of(found) == FILES
    assert files_of(shared) == before


def test_a_damaged_model_is_downloaded_again(world: World) -> None:
    """Files that changed, went or came since."""
    for damage in (
        lambda folder: (folder / LARGE).write_bytes(b"x" * len(FILES[LARGE])),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "further.py").write_text("import os"),
        shutil.rmtree,
    ):
        folder = world.store().obtain(PIN, Silent())
        damage(folder)
        assert files_of(world.store().obtain(PIN, Silent())) == FILES


def test_nobody_is_asked_where_nobody_may_be(world: World) -> None:
    """Early: by the check before anything starts, with the reason and what to do."""
    store = ModelStore(
        shared=world.folder, own=world.folder / "own", barred="HF_HUB_OFFLINE forbids it"
    )
    for ask in (lambda: store.check(PIN), lambda: store.obtain(PIN, Silent())):
        with pytest.raises(errors.HostError, match="HF_HUB_OFFLINE forbids it") as caught:
            ask()
        assert "release-tool model fetch" in caught.value.hint
        assert "--model" in caught.value.hint


def test_a_hub_that_cannot_be_reached_is_told_before_anything_starts(world: World) -> None:
    """Exit 5, with the hub's address and what to do without it."""
    world.lines.set([Rule(service="hub", kind="refused")])
    with pytest.raises(errors.TransientError, match="cannot be asked") as caught:
        world.store().check(PIN)
    assert world.settings.hub_url in caught.value.expected
    assert "--model" in caught.value.hint


def test_no_more_is_downloaded_than_the_disk_has_room_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by the check, and before the first byte."""
    monkeypatch.setattr(model_store, "_SPARE_BYTES", 2**62)
    for ask in (lambda: world.store().check(PIN), lambda: world.store().obtain(PIN, Silent())):
        with pytest.raises(errors.HostError, match="too full for the smoke model"):
            ask()
    assert not [path for _, path, _ in world.hub.asked if "resolve" in path]


def test_two_runs_do_not_write_the_same_model(world: World) -> None:
    """The second says so."""
    lock = world.folder / "own" / MODEL.replace("/", "--") / f"{COMMIT}.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(errors.HostError, match="another run downloads this model"):
            world.store().obtain(PIN, Silent())


def test_a_branch_is_never_downloaded(world: World) -> None:
    """Only a commit stays what it is."""
    with pytest.raises(errors.HostError, match="only that is downloaded") as caught:
        world.store().obtain(Pin(MODEL, "", ""), Silent())
    assert world.hub.asked == []
    assert "release-tool model pin" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_told(world: World) -> None:
    """As the host's fault, with the folder."""
    (world.folder / "own").mkdir(mode=0o500)
    with pytest.raises(errors.HostError, match="cannot keep a model in"):
        world.store().obtain(PIN, Silent())


# Listings that lie.


LISTINGS: list[tuple[str, Callable[[dict[str, object]], object]]] = [
    ("may not be written", lambda row: row | {"path": "../config.json"}),
    ("may not be written", lambda row: row | {"path": "/etc/passwd"}),
    ("may not be written", lambda row: row | {"path": "a//b"}),
    ("may not be written", lambda row: row | {"path": "a/./b"}),
    ("may not be written", lambda row: row | {"path": "a\\..\\b"}),
    ("may not be written", lambda row: row | {"path": "a\u202eb"}),
    ("may not be written", lambda row: row | {"path": "a/" * 9 + "b"}),
    ("may not be written", lambda row: row | {"path": ""}),
    ("no size", lambda row: row | {"size": -1}),
    ("no size", lambda row: row | {"size": True}),
    ("no size", lambda row: row | {"size": 2**60}),
    ("no digest", lambda row: row | {"oid": "1" * 39}),
    ("no digest of a large file", lambda row: row | {"lfs": {"oid": "1"}}),
    ("no digest of a large file", lambda row: row | {"lfs": [1]}),
    ("lie on each other", lambda row: row | {"path": "CONFIG.json"}),
    ("lie on each other", lambda row: row | {"path": "config.json/x"}),
    ("may not be written", lambda _: {"type": "file"}),
    ("may not be written", lambda _: 7),
]


@pytest.mark.parametrize(("said", "change"), LISTINGS)
def test_a_listing_that_lies_is_refused(
    world: World,
    said: str,
    change: Callable[[dict[str, object]], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is written for it, wherever its names lead."""
    good = hub._row

    def rows(stored: hub._Stored) -> object:
        return change(good(stored)) if stored.path == "empty.txt" else good(stored)

    monkeypatch.setattr(hub, "_row", rows)
    with pytest.raises(errors.FormatError, match=said):
        world.store().obtain(PIN, Silent())
    assert not list((world.folder / "own").rglob("files"))


def test_a_listing_has_bounds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many files, too many bytes, no end of pages, and no model at all."""
    for name, value, said in (
        ("FILES", 3, "more files"),
        ("TOTAL_BYTES", 256_100, "more bytes"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(hub_listing, name, value)
            with pytest.raises(errors.FormatError, match=said):
                world.store().check(PIN)
    world.settings.page = 0
    with pytest.raises(errors.FormatError, match="does not end"):
        world.store().check(PIN)
    world.settings.page = 1000
    no_model = hub_world.write(world.folder / "models" / "none", {"a.txt": b"a"})
    world.add("org/none", commits={COMMIT: no_model})
    with pytest.raises(errors.FormatError, match="that is no model"):
        world.store().check(Pin("org/none", COMMIT, ""))


def test_a_folder_without_weights_is_told_with_what_it_lacks(tmp_path: Path) -> None:
    """Before anything is signed: what is missing, and a cache's snapshot without them is none."""
    folder = tmp_path / "folder"
    folder.mkdir()
    store = ModelStore(shared=tmp_path / "shared")
    with pytest.raises(errors.UsageError, match="neither a folder") as caught:
        store.check(Pin(str(folder), "", ""))
    assert caught.value.observed == "a folder without config.json"
    assert "config.json and *.safetensors" in caught.value.expected
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / LARGE).symlink_to(tmp_path / "blobs" / "gone")
    with pytest.raises(errors.UsageError, match="holds no weights") as caught:
        store.check(Pin(str(folder), "", ""))
    assert caught.value.hint
    (tmp_path / "shared" / "models--mlx-look-alike--tiny" / "snapshots").mkdir(parents=True)
    shutil.copytree(
        folder,
        tmp_path / "shared" / "models--mlx-look-alike--tiny" / "snapshots" / COMMIT,
        symlinks=True,
    )
    assert store.find(PIN) is None
    (folder / LARGE).unlink()
    (folder / LARGE).write_bytes(b"weights")
    assert store.find(Pin(str(folder), "", "")) == folder.resolve()
