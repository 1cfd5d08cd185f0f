"""`verify-release` on a release that went through every stage, and on each tampering with it."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import io
import json
import re
import shlex
import sqlite3
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
import requests
import yaml

from release_tool import data
from release_tool.apple import requirement, requirement_parser, requirement_text
from release_tool.cli import main
from release_tool.provenance import canonical, keys, log, sbom, statement
from release_tool.provenance.keys import SigningKey
from release_tool.rehearsal import faults, places
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.ticket_signer import TicketSigner
from release_tool.services.github import GitHub
from release_tool.stages import install_kills
from tests.cli.test_rollback_command import NAME, Place, _call
from tests.provenance import samples

DOCUMENT = Path(__file__).parents[2] / "docs/verify-release.md"
README = Path(__file__).parents[2] / "README.md"
LOG, HEAD = "releases/log.jsonl", "releases/log.head.json"
PROVENANCE = f"releases/v0.5.0/{statement.NAME}"
BILL = f"releases/v0.5.0/{sbom.NAME}"
OTHER = samples.key("other")
# Of a machine on which much else runs: the first test waits for a whole release.
pytestmark = pytest.mark.timeout(300)


@dataclass
class World:
    """The released world, and what a writer to its bucket can do."""

    place: Place
    heads: Path
    archive: str
    """Where it stands, by the coordinator's contract."""

    @property
    def key(self) -> SigningKey:
        """What a writer to the bucket does not have."""
        return keys.load(self.place.living.secret(places.PROVENANCE_KEY).encode())

    def get(self, key: str) -> bytes:
        content = self.find(key)
        assert content is not None, key
        return content

    def find(self, key: str) -> bytes | None:
        answer = requests.get(f"{self.place.living.r2_public_url}/{key}", timeout=10)
        return answer.content if answer.status_code == 200 else None

    def put(self, key: str, content: bytes) -> None:
        """At once: by the store's own interface a key takes one write a second."""
        digest = hashlib.sha256(content).hexdigest()
        places.objects(self.place.living.state).joinpath("content", digest).write_bytes(content)
        etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        row = (key, digest, len(content), etag, datetime.now(UTC).isoformat(), "{}")
        with self._objects() as database:
            database.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)", row)

    def remove(self, key: str) -> None:
        with self._objects() as database:
            database.execute("DELETE FROM objects WHERE key = ?", (key,))

    @contextmanager
    def _objects(self) -> Iterator[sqlite3.Connection]:
        """The store's own list of what it serves."""
        path = places.objects(self.place.living.state) / "objects.sqlite"
        with closing(sqlite3.connect(path)) as database, database:
            yield database

    def verify(self, *more: str) -> tuple[int, dict[str, Any]]:
        code, out, err = _call(*self.words(), "--json", *more)
        assert code in (0, 6), err
        found: dict[str, Any] = json.loads(out)
        return code, found

    def words(self) -> list[str]:
        words = ["verify-release", "0.5.0", "--env", "rehearsal", "--dist", str(self.place.dist)]
        return [*words, *self.place.config]

    def put_archive(self, content: bytes) -> None:
        """Where it stands, and where a statement of its digest would have it."""
        self.put(self.archive, content)
        digest = hashlib.sha256(content).hexdigest()
        self.put(f"releases/v0.5.0/artifacts/{digest}/{NAME}", content)

    def failed(self, *more: str) -> set[str]:
        code, found = self.verify(*more)
        names = {one["name"] for one in found["checks"] if one["outcome"] == "failed"}
        assert (code, found["ok"]) == ((6, False) if names else (0, True))
        return names

    @contextmanager
    def kept(self) -> Iterator[None]:
        """What stands in the bucket and at the coordinator comes back afterwards."""
        before = {key: self.get(key) for key in (self.archive, PROVENANCE, BILL, LOG, HEAD)}
        try:
            yield
        finally:
            for key, content in before.items():
                if self.find(key) != content:
                    self.put(key, content)
            self.remove("releases/v0.5.0/tombstone.json")

    @contextmanager
    def notes_kept(self) -> Iterator[None]:
        """What stands in the notes on GitHub is what it was afterwards."""
        living = self.place.living
        client = GitHub(
            api_url=living.github_api_url,
            uploads_url=living.github_uploads_url,
            repository="look-alike/darkbloom",
            token=lambda: living.secret(places.GITHUB_TOKEN),
        )
        before = client.published("v0.5.0")
        assert before
        try:
            yield
        finally:
            client.retitle(before, name=before.name, notes=before.notes, prerelease=False)

    def lines(self) -> list[bytes]:
        return self.get(LOG).splitlines(keepends=True)


@pytest.fixture(
    scope="module",
    params=["2026-05", pytest.param("2026-10", marks=pytest.mark.slow)],
)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """0.5.0, released with everything beside it, for a coordinator of May and for one of October.

    The archive of the second one stands below its digest.
    """
    folder = tmp_path_factory.mktemp("verified")
    place = Place(folder, cache_seconds=0.05, contract=request.param)
    with pytest.MonkeyPatch.context() as patched:
        # The installer has tests of its own.
        patched.setattr(install_kills, "KILLS", 1)
        code, _, err = place.run("0.5.0")
    assert code == 0, err
    base = place.living.r2_public_url
    latest = requests.get(f"{place.living.coordinator_url}/v1/releases/latest", timeout=10).json()
    made = World(place, folder, str(latest["url"]).removeprefix(f"{base}/"))
    assert ("/artifacts/" in made.archive) == (request.param == "2026-10")
    (folder / "seen.json").write_bytes(made.get(HEAD))
    yield made
    place.living.stop()


def test_a_release_holds_for_anybody(world: World) -> None:
    """Every part is checked without a secret; what was not asked is named with how to ask it."""
    code, found = world.verify("--log-head", str(world.heads / "seen.json"))
    assert code == 0, [one for one in found["checks"] if one["outcome"] == "failed"]
    passed = {one["name"] for one in found["checks"] if one["outcome"] == "passed"}
    assert passed >= {
        *("tombstone", "provenance", "builder", "source commit", "archive", "SBOM", "SBOM digest"),
        *("certificate chain", "ticket", "ticket cdhashes", "team", "log", "log head"),
        *("log head seen before", "log head on GitHub", "log entry", "provenance in the log"),
        *("coordinator bundle_hash", "coordinator binary_hash"),
    }
    assert found["archive_sha256"] == hashlib.sha256(world.get(world.archive)).hexdigest()
    assert found["log_head"]["count"] == 2
    assert not {one["name"] for one in found["checks"] if one["outcome"] == "not_checked"} - {
        "revocation"
    }
    code, found = world.verify()
    assert code == 0
    (unasked,) = [one for one in found["checks"] if one["name"] == "log head seen before"]
    assert unasked["outcome"] == "not_checked"
    assert "--log-head" in unasked["hint"]


def test_what_stands_beside_the_archive_is_on_github_too(world: World) -> None:
    """The same bytes, and the head that covers the promotion; a repeat changes nothing."""
    folder = world.place.dist / "rehearsal" / "0.5.0"
    assert (folder / statement.NAME).read_bytes() == world.get(PROVENANCE)
    assert (folder / sbom.NAME).read_bytes() == world.get(BILL)
    record = json.loads(next((folder / "ledger").glob("*-github.json")).read_text())
    assets = {one["name"]: one["sha256"] for one in record["value"]["assets"]}
    assert set(assets) == {NAME, "SHA256SUMS", statement.NAME, sbom.NAME, log.HEAD_NAME}
    assert assets[log.HEAD_NAME] == hashlib.sha256(world.get(HEAD)).hexdigest()
    before = {key: world.get(key) for key in (PROVENANCE, BILL, LOG, HEAD)}
    for name in ("publish", "register", "promote", "github"):
        for path in (folder / "ledger").glob(f"*-{name}.json"):
            path.unlink()
    (folder / statement.NAME).unlink()
    code, _, err = world.place.run("0.5.0")
    assert code == 0, err
    assert {key: world.get(key) for key in before} == before


def _other_archive(world: World) -> None:
    whole = gzip.decompress(world.get(world.archive))
    world.put(world.archive, gzip.compress(whole, compresslevel=1, mtime=1))


def _edited_provenance(world: World) -> None:
    whole = json.loads(world.get(PROVENANCE))
    payload = base64.b64decode(whole["payload"]).replace(b'"tag":', b'"tags":', 1)
    whole["payload"] = base64.b64encode(payload).decode()
    world.put(PROVENANCE, json.dumps(whole).encode())


def _other_key(world: World) -> None:
    """All is made anew by somebody who may write to the bucket, with a key of his own."""
    payload = base64.b64decode(json.loads(world.get(PROVENANCE))["payload"])
    world.put(PROVENANCE, statement.seal(payload, OTHER))
    made = log.EMPTY
    for line in log.parse(world.get(LOG)).lines:
        made = log.parse(made.extended(line.entry, OTHER))
    world.put(LOG, made.content)
    world.put(HEAD, log.seal(made.head("rehearsal"), OTHER))


def _other_builder(world: World) -> None:
    payload = json.loads(base64.b64decode(json.loads(world.get(PROVENANCE))["payload"]))
    payload["predicate"]["runDetails"]["builder"]["id"] = "https://elsewhere.example"
    world.put(PROVENANCE, statement.seal(canonical.encode(payload), world.key))


def _edited_bill(world: World) -> None:
    world.put(BILL, world.get(BILL).replace(b"io.darkbloom.enclave", b"io.darkbloom.another"))


def _cut_log(world: World) -> None:
    world.put(LOG, world.lines()[0])


def _forged_head(world: World) -> None:
    world.put(HEAD, log.seal(log.parse(world.get(LOG)).head("rehearsal"), OTHER))


def _reordered_log(world: World) -> None:
    world.put(LOG, b"".join(reversed(world.lines())))


def _forged_line(world: World) -> None:
    forged = log.parse(world.get(LOG)).extended(samples.entry(version="9.9.9"), OTHER)
    world.put(LOG, forged)


def _no_provenance(world: World) -> None:
    world.remove(PROVENANCE)


def _withdrawn(world: World) -> None:
    stone = dict.fromkeys(("version", "platform", "sha256", "at", "by", "reason"), "0.5.0")
    world.put("releases/v0.5.0/tombstone.json", json.dumps(stone).encode())


def _withdrawn_in_the_log(world: World) -> None:
    """The tombstone was removed again; the log remembers."""
    made = log.parse(log.parse(world.get(LOG)).extended(samples.entry("withdrawn"), world.key))
    world.put(LOG, made.content)
    world.put(HEAD, log.seal(made.head("rehearsal"), world.key))


def _another_ticket(world: World) -> None:
    """An insider with every key packs another app's ticket, and signs for what he packed."""
    authority = Authority.load(places.authority(world.place.living.state), "SLDQ2GJ6TL")
    other = TicketSigner(authority).issue([b"x" * 20], datetime.now(UTC))
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(world.get(world.archive))) as source,
        tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as target,
    ):
        for member in source:
            content = source.extractfile(member).read() if member.isfile() else b""  # type: ignore[union-attr]
            if member.name.endswith("Contents/CodeResources"):
                content, member.size = other, len(other)
            target.addfile(member, io.BytesIO(content) if member.isfile() else None)
    archive = gzip.compress(made.getvalue(), compresslevel=1, mtime=0)
    world.put_archive(archive)
    payload = json.loads(base64.b64decode(json.loads(world.get(PROVENANCE))["payload"]))
    payload["subject"][0]["digest"]["sha256"] = hashlib.sha256(archive).hexdigest()
    world.put(PROVENANCE, statement.seal(canonical.encode(payload), world.key))


@pytest.mark.parametrize(
    ("tamper", "wanted", "spared"),
    [
        (_other_archive, {"archive", "SBOM subject"}, {"SBOM", "log", "provenance"}),
        (_edited_provenance, {"provenance"}, {"log"}),
        (_other_key, {"provenance", "log", "log head"}, set()),
        (_other_builder, {"builder", "provenance in the log"}, {"provenance", "archive"}),
        (_edited_bill, {"SBOM digest", "SBOM"}, {"archive", "provenance"}),
        (_cut_log, {"log head"}, {"archive", "provenance", "log"}),
        (_reordered_log, {"log"}, {"archive", "provenance"}),
        (_forged_line, {"log"}, {"archive", "provenance", "log head"}),
        (_no_provenance, {"provenance"}, {"log"}),
        (_withdrawn, {"tombstone"}, {"log", "archive"}),
        (_withdrawn_in_the_log, {"log entry"}, {"log", "archive", "tombstone"}),
        (_another_ticket, {"ticket cdhashes", "log entry"}, {"archive", "provenance"}),
    ],
)
def test_each_tampering_is_caught_by_its_own_check(
    world: World, tamper: Callable[[World], None], wanted: set[str], spared: set[str]
) -> None:
    """And the checks of what was left alone hold."""
    with world.kept():
        tamper(world)
        found = world.failed()
    assert found >= wanted, found
    assert not found & spared, found


def test_a_log_that_was_set_back_is_found_out_by_github(world: World) -> None:
    """Log and head of before are a whole log, signed: what GitHub has of it tells, or one's own."""
    first = log.parse(world.lines()[0])
    seen = ("--no-github", "--log-head", str(world.heads / "seen.json"))
    with world.kept():
        world.put(LOG, first.content)
        world.put(HEAD, log.seal(first.head("rehearsal"), world.key))
        assert world.failed() == {"log head on GitHub"}
        assert world.failed(*seen) == {"log head seen before"}
        code, found = world.verify("--no-github")
    assert code == 0
    hints = {one["name"]: one["hint"] for one in found["checks"] if one["outcome"] == "not_checked"}
    assert "--no-github says so" in hints["log head on GitHub"]
    assert "--log-head" in hints["log head seen before"]
    with world.kept():
        world.put(HEAD, log.seal(first.head("rehearsal"), world.key))
        assert world.failed() == {"log head on GitHub"}
        assert world.failed(*seen) == {"log head seen before"}
        code, found = world.verify("--no-github")
    assert code == 0
    behind = [one for one in found["checks"] if one["name"] == "log head"]
    assert [one["outcome"] for one in behind] == ["passed", "not_checked"]
    assert "1 lines stand behind it" in behind[1]["hint"]


@pytest.mark.parametrize(
    ("fault", "times", "told"),
    [
        (faults.GITHUB_RATE_LIMITED, 1, "answers no more questions without a token"),
        (faults.GITHUB_UNAVAILABLE, 2, "does not hand out the list of releases now"),
        (faults.GITHUB_STORAGE_UNAVAILABLE, 2, "does not hand out log.head.json"),
    ],
)
def test_a_github_that_does_not_answer_is_said_and_condemns_nothing(
    world: World, fault: str, times: int, told: str
) -> None:
    """What it would have said is not checked, with the reason and what to do instead."""
    world.place.living.set_faults({fault: times})
    code, found = world.verify()
    assert code == 0
    (check,) = [one for one in found["checks"] if one["name"] == "log head on GitHub"]
    assert check["outcome"] == "not_checked"
    assert told in check["hint"]
    assert "--log-head" in check["hint"]


def test_another_head_on_github_is_refused(world: World) -> None:
    """Its storage gives other bytes: nobody believed signed them."""
    world.place.living.set_faults({faults.GITHUB_STORAGE_OTHER_BYTES: 1})
    assert world.failed() == {"log head on GitHub"}


@pytest.mark.parametrize(
    ("column", "value", "wanted"),
    [
        ("bundle_hash", "7" * 64, "coordinator bundle_hash"),
        ("binary_hash", "7" * 64, "coordinator binary_hash"),
        ("metallib_hash", "7" * 64, "coordinator metallib_hash"),
        ("url", "https://elsewhere.example/a.tar.gz", "coordinator url"),
        ("url", "{base}/releases/v0.4.0/evil.tar.gz", "coordinator url"),
        ("url", "{base}/../../x", "coordinator url"),
        ("version", "0.6.0", "coordinator's 0.6.0"),
    ],
)
def test_a_coordinator_that_tells_of_other_bytes_is_caught(
    world: World, column: str, value: str, wanted: str
) -> None:
    """Hashes, address, and a release that the log does not know."""
    with row_changed(world, column, value.replace("{base}", world.place.living.r2_public_url)):
        assert world.failed() == {wanted}


def test_a_coordinator_that_serves_what_was_withdrawn_is_caught(world: World) -> None:
    """An older release, which the log knows, and whose withdrawal it tells, too."""
    made = log.parse(world.get(LOG))
    known = next(line.entry for line in made.lines if line.entry.kind == "registered")
    with world.kept():
        for kind in ("registered", "withdrawn"):
            entry = dataclasses.replace(known, version="0.4.9", kind=kind)
            made = log.parse(made.extended(entry, world.key))
            world.put(LOG, made.content)
            world.put(HEAD, log.seal(made.head("rehearsal"), world.key))
            with row_changed(world, "version", "0.4.9"):
                wanted = {"coordinator's 0.4.9"} if kind == "withdrawn" else set()
                assert world.failed() == wanted


@contextmanager
def row_changed(world: World, column: str, value: str) -> Iterator[None]:
    """The coordinator tells something else of its one release, as long as the block lasts."""

    def change(to: str) -> str:
        with closing(sqlite3.connect(places.releases(world.place.living.state))) as database:
            before = database.execute(f"SELECT {column} FROM releases").fetchone()[0]  # noqa: S608
            database.execute(f"UPDATE releases SET {column} = ?", (to,))  # noqa: S608
            database.commit()
        return str(before)

    before = change(value)
    try:
        world.place.await_cache()
        yield
    finally:
        change(before)
        world.place.await_cache()


def test_the_key_comes_from_the_caller_and_from_nowhere_else(world: World, tmp_path: Path) -> None:
    """Given with --key it is believed, another one is not, and a private key is no public one."""
    ours, other = tmp_path / "ours.pem", tmp_path / "other.pub"
    ours.write_text(world.key.public.pem)
    other.write_text(OTHER.public.line)
    assert world.failed("--key", str(ours)) == set()
    assert world.failed("--key", str(other)) >= {"provenance", "log", "log head"}
    private = tmp_path / "private.pem"
    private.write_text(keys.make())
    words = world.words()
    code, _, err = _call(*words, "--key", str(private))
    assert code == 2
    assert "--key is no" in err


def test_the_commit_that_was_asked_for_is_compared(world: World) -> None:
    """Somebody who read a source wants the release of exactly that."""
    _, found = world.verify()
    assert world.failed("--commit", found["source_commit"]) == set()
    assert world.failed("--commit", found["source_commit"][:12].upper()) == set()
    assert world.failed("--commit", "0" * 40) == {"source commit"}


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """Flags, files, addresses and the key that is missing: one error, and nothing is asked."""
    notes = tmp_path / "notes.txt"
    notes.write_text("no head")
    words = ("verify-release", "0.5.0", "--env", "prod", "--log-head", str(notes))
    code, _, err = _call(*words, "--commit", "main")
    assert code == 2
    assert "nothing was verified: 4 problems" in err
    for told in ("--log-head is not JSON", "--commit is no commit", "no R2_PUBLIC_URL"):
        assert told in err
    assert "pins no key for prod" in err
    code, _, err = _call(*words, "--public-url", "ftp://a.b", "--key", str(notes))
    assert code == 2
    assert "nothing was verified: 3 problems" in err
    assert "--public-url is not an address" in err
    assert "--key is no" in err
    code, _, err = _call("verify-release", "0.5", "--env", "prd", "--commit", "main")
    assert code == 2
    assert "nothing was verified: 3 problems" in err
    assert "'prd'" in err
    assert "X.Y.Z" in err


def test_one_thing_that_is_wrong_is_told_as_it_is(tmp_path: Path) -> None:
    """And where nothing is started, nothing is looked for: the look-alikes' key among it."""
    words = ("verify-release", "0.5.0", "--env", "prod", "--public-url", "https://a.b")
    code, _, err = _call(*words)
    assert code == 2
    assert "release.yaml pins no key for prod" in err
    assert "problems" not in err
    dist = tmp_path / "dist"
    words = ("verify-release", "0.5.0", "--env", "rehearsal", "--dist", str(dist))
    code, _, err = _call(*words, "--commit", "main")
    assert code == 2
    assert "--commit is no commit" in err
    assert not dist.exists()


@pytest.mark.parametrize("given", ["abc", "main", "0" * 11, "x" * 40])
def test_what_is_no_commit_condemns_no_release(world: World, given: str) -> None:
    """It is the caller's word that is wrong, so it is asked for again."""
    words = world.words()
    code, _, err = _call(*words, "--commit", given)
    assert code == 2
    assert "--commit is no commit" in err


def test_a_file_that_is_no_head_condemns_no_release(world: World, tmp_path: Path) -> None:
    """A mistyped path is a mistake of the caller, and no finding about what is published."""
    other = tmp_path / "notes.txt"
    other.write_text("no head")
    words = world.words()
    code, _, err = _call(*words, "--log-head", str(other))
    assert code == 2
    assert "--log-head is not JSON" in err


def _on_github(world: World, name: str) -> bytes:
    """The head as anybody reads it; this look-alike's releases are immutable, so in the notes."""
    base = f"{world.place.living.github_api_url}/repos/look-alike/darkbloom/releases"
    anybody = {"User-Agent": "anybody"}
    notes = str(requests.get(f"{base}/latest", headers=anybody, timeout=10).json()["body"])
    _, named, rest = notes.partition(f"`{name}`:\n\n```json\n")
    assert named, notes
    return rest.partition("\n```")[0].encode()


def test_a_withdrawal_that_was_set_back_shows_by_the_head_on_github(
    world: World, tmp_path: Path
) -> None:
    """Log, head and tombstone are put back by who writes to the bucket, after the rollback.

    0.5.0 was the last that was promoted, so its line is told, and the withdrawal is the new one.
    What the rollback brought to GitHub refuses that, fetched by the command or given by hand; the
    step on GitHub alone and a rerun of the release find everything done.
    """
    with world.notes_kept():
        _withdraw_and_set_back(world, tmp_path)


def _withdraw_and_set_back(world: World, tmp_path: Path) -> None:
    lines = len(world.lines())
    name = f"log.head.{lines + 1}.json"
    with world.kept():
        words = ("--to", "0.5.0", "--deactivate", "0.5.1", "--reason", "no start")
        code, out, err = _call(*world.place.words(*words))
        assert code == 0, err
        assert f"log head   {lines + 1} lines, kept in " in out
        assert f"{name} is there; 0.5.0 given again, 0.5.1 has no release there" in out, out
        page = (world.place.dist / "rehearsal/0.5.0/report.html").read_text()
        assert "Users were given this version again" in page
        (tmp_path / name).write_bytes(_on_github(world, name))
        assert world.failed("--log-head", str(tmp_path / name)) == set()
        code, out, err = _call(*world.place.words("--to", "0.5.0", "--only", "github"))
        assert code == 0, err
        assert f"{name} is there" in out
        for record in (world.place.dist / "rehearsal/0.5.0/ledger").glob("*-github.json"):
            record.unlink()
        code, _, err = world.place.run("0.5.0")
        assert code == 0, err
    world.remove("releases/v0.5.1/tombstone.json")
    assert world.failed() == {"log head on GitHub"}
    blind = ("--no-github", "--log-head")
    assert world.failed(*blind, str(world.heads / "seen.json")) == set()
    assert world.failed(*blind, str(tmp_path / name)) == {"log head seen before"}


def test_only_github_needs_a_recorded_rollback(world: World) -> None:
    """A job without the records, or with those of another one, is told so: exit 2."""
    code, _, err = _call(*world.place.words("--to", "0.4.9", "--only", "github"))
    assert code == 2
    assert "no rollback to 0.4.9 is recorded here" in err


def test_people_read_a_verdict_first(world: World) -> None:
    """One line of verdict, failures by name, and the exit code."""
    words = world.words()
    code, out, _ = _call(*words)
    assert code == 0
    assert out.startswith("Darkbloom 0.5.0 · rehearsal: holds")
    assert max(map(len, out.splitlines())) <= 100
    assert "which -v names" in out
    assert "certificate chain" not in out
    verbose_code, told, _ = _call(*words, "-v")
    assert verbose_code == 0
    assert "passed       certificate chain" in told
    assert "which -v names" not in told
    with world.kept():
        _cut_log(world)
        code, out, _ = _call(*words)
    assert code == 6
    assert out.startswith("Darkbloom 0.5.0 · rehearsal: do not use")
    assert "failed       log head" in out
    assert "lacks lines" in " ".join(out.split())
    assert out.endswith("exit 6\n")
    assert len(out.splitlines()) < 24


def _scripts(page: Path) -> list[str]:
    return re.findall(r"^```shell\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def _blocks() -> list[str]:
    """What the document lets people type, but for what only a Mac has."""
    return [one for one in _scripts(DOCUMENT) if not one.startswith("# on a Mac")]


def _by_hand(
    world: World, folder: Path, blocks: list[str], digest: str = ""
) -> subprocess.CompletedProcess[str]:
    """In a shell, with the assets of the release on GitHub in a folder."""
    assets = folder / "assets"
    assets.mkdir()
    digest = digest or hashlib.sha256(world.get(world.archive)).hexdigest()
    (assets / "SHA256SUMS").write_text(f"{digest}  {NAME}\n")
    (assets / log.HEAD_NAME).write_bytes((world.heads / "seen.json").read_bytes())
    settings = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "BASE": world.place.living.r2_public_url,
        "GITHUB": assets.as_uri(),
        "VERSION": "0.5.0",
        "KEY": world.key.public.line,
    }
    script = "set -eu\n" + "\n".join(blocks)
    return subprocess.run(
        ["sh", "-c", script], cwd=folder, env=settings, capture_output=True, text=True, check=False
    )


def test_the_recipe_by_hand_verifies_a_release(world: World, tmp_path: Path) -> None:
    """Every line of the document that needs no Mac, as it stands there."""
    assert len(_blocks()) == 3
    done = _by_hand(world, tmp_path, _blocks())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Signature Verified Successfully") == 3
    assert f"{NAME}: OK" in done.stdout
    assert (tmp_path / "unpacked/Darkbloom.app/Contents/Info.plist").is_file()


def test_the_recipe_of_readme_is_where_the_document_begins() -> None:
    """Whoever reads only README types the same lines, and what a Mac adds to them."""
    archive, on_a_mac = _scripts(README)
    assert [archive, on_a_mac] == _scripts(DOCUMENT)[:2]
    assert on_a_mac.startswith("# on a Mac")


def test_the_recipe_of_readme_sees_a_replaced_archive(world: World, tmp_path: Path) -> None:
    """The sums on GitHub do not fit what the bucket gives, and nothing is unpacked."""
    archive, _ = _scripts(README)
    digest = hashlib.sha256(world.get(world.archive)).hexdigest()
    for name in ("ours", "another"):
        (tmp_path / name).mkdir()
    assert _by_hand(world, tmp_path / "ours", [archive], digest).returncode == 0
    assert (tmp_path / "ours/unpacked/Darkbloom.app").is_dir()
    with world.kept():
        _other_archive(world)
        done = _by_hand(world, tmp_path / "another", [archive], digest)
    assert done.returncode != 0
    assert f"{NAME}: FAILED" in done.stdout
    assert not (tmp_path / "another/unpacked").exists()


def test_the_recipe_asks_codesign_for_the_team_and_the_app() -> None:
    """Its requirement is the one that our own signer writes: release.yaml's app, by its team."""
    (line,) = re.findall(r"^wanted='(.*?)'$", _scripts(README)[1], re.MULTILINE | re.DOTALL)
    product = yaml.safe_load(data.release_file().read_text())["product"]
    ours = requirement.developer_id(product["bundle_id"], product["team_id"])
    told = requirement_text.to_text(requirement_parser.parse(line))
    assert told == requirement_text.to_text(ours)


@pytest.mark.parametrize(
    ("tamper", "block"),
    [(_edited_provenance, 1), (_edited_bill, 1), (_cut_log, 2), (_forged_head, 2)],
)
def test_the_recipe_by_hand_sees_what_was_tampered_with(
    world: World, tmp_path: Path, tamper: Callable[[World], None], block: int
) -> None:
    """The lines before the tampered part hold, and those of the part do not."""
    with world.kept():
        tamper(world)
        for count in (block, block + 1):
            folder = tmp_path / str(count)
            folder.mkdir()
            done = _by_hand(world, folder, _blocks()[:count])
            assert (done.returncode == 0) == (count == block), done.stderr


def test_the_document_shows_commands_that_exist() -> None:
    """Every call of the tool in it parses, with options that it has."""
    lines = re.findall(r"^release-tool .*$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(lines) >= 2
    for line in lines:
        name, *rest = shlex.split(line, comments=True)[1:]
        found = main.cli.get_command(click.Context(main.cli), name)
        assert found is not None
        named = [word if word != "log.head.json" else str(DOCUMENT) for word in rest]
        found.make_context(name, named)
