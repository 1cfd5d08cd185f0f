"""Notarize: one submission of exactly our bytes, resumed and found again, and every refusal."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.files.zip_writer import Zipped
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.services.notary_api import NotaryAPI
from release_tool.stages import notarize, notary_verdict
from tests import scripted_server, signed_release
from tests.fake_mac import mac as fake_mac
from tests.scripted_server import Reply, Request
from tests.small_world import KilledError, MemoryIntents
from tests.stages import notary_world
from tests.stages.notary_world import Bench, Entry, SmallNotary

ISSUES = [
    {"severity": "warning", "path": "D.zip/x", "message": "old SDK"},
    {
        "severity": "error",
        "path": "D.zip/Darkbloom.app/Contents/MacOS/darkbloom",
        "architecture": "arm64",
        "message": "The executable does not have the hardened runtime enabled.",
    },
]


@pytest.fixture
def bench(plan: ReleasePlan, tmp_path: Path) -> Iterator[Bench]:
    with scripted_server.running() as server:
        yield notary_world.start(SmallNotary(server), plan, tmp_path / "work")


def _prepare(
    bench: Bench, *statuses: str, logs_late: int = 0, log: dict[str, object] | None = None
) -> None:
    def prepare(entry: Entry) -> None:
        entry.statuses = list(statuses) or ["Accepted"]
        entry.logs_late = logs_late
        entry.log = log or {}

    bench.notary.prepare = prepare


def test_an_accepted_app_is_bound_to_its_bytes(bench: Bench) -> None:
    """The value names the archive, the log and every cdhash; the log lies in the workspace."""
    _prepare(bench, "In Progress", "In Progress", "Accepted")
    value = bench.run()
    (entry,) = bench.notary.entries
    assert value.submission_id == entry.id
    assert value.archive_sha256 == entry.sha256 == entry.uploaded
    assert value.name == entry.name == f"Darkbloom-0.5.0-{entry.sha256[:16]}.zip"
    assert value.cdhashes == notary_world.cdhashes()
    assert len(value.cdhashes) == 2
    kept = bench.workspace.path(value.log).read_bytes()
    assert hashlib.sha256(kept).hexdigest() == value.log_sha256
    assert json.loads(kept)["jobId"] == entry.id
    assert value.outputs() == {value.log: value.log_sha256}
    assert value.route == "api"
    assert not bench.workspace.path(".notary").exists()
    (waiting,) = [task for task in bench.told.tasks if "Ctrl-C leaves it running" in task]
    assert entry.id in waiting


def test_the_submissions_id_is_on_record_before_the_wait(bench: Bench) -> None:
    """When the first status is asked for, both intents stand, and neither holds a secret."""
    seen: list[str] = []

    def look(request: Request) -> Reply | None:
        if request.method == "GET" and request.path.count("/") == 4 and not seen:
            seen.extend(name for name, _ in bench.intents.declared)
        return None

    bench.notary.before = look
    value = bench.run()
    assert seen == ["submit", "submitted"]
    facts = bench.intents.find("submitted")
    assert facts is not None
    assert facts["submission_id"] == value.submission_id
    assert "unter2" not in json.dumps(bench.intents.declared)


def test_without_patience_the_run_leaves_and_the_next_resumes(bench: Bench) -> None:
    """`--no-wait` is exit 8 with the id; the next run asks for the same submission's verdict."""
    _prepare(bench, "In Progress", "Accepted")
    with pytest.raises(errors.PendingError) as caught:
        bench.run(wait=False)
    assert caught.value.exit_code == 8
    assert bench.notary.entries[0].id in caught.value.subject
    assert bench.run().submission_id == bench.notary.entries[0].id
    assert bench.notary.count("submit") == bench.notary.count("upload") == 1
    assert any("not again" in note for note in bench.told.notes)


def test_patience_ends_at_a_deadline_and_the_submission_goes_on(bench: Bench) -> None:
    """Hours in progress: pending after the plan's seconds, and again, without a new submission."""
    _prepare(bench, "In Progress")
    for _ in range(2):
        before = bench.notary.seconds
        with pytest.raises(errors.PendingError, match="still at work"):
            bench.run()
        assert 3600 <= bench.notary.seconds - before < 3700
    assert bench.notary.count("submit") == 1
    assert bench.notary.count("status") < 400


MOMENTS: list[tuple[type, str]] = [
    (NotaryAPI, "_send"),
    (MemoryIntents, "declare"),
    (NotaryAPI, "status"),
    (NotaryAPI, "log"),
]


@pytest.mark.parametrize(("owner", "name"), MOMENTS)
def test_a_killed_run_makes_no_second_submission(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """Killed before the upload, before its record, before or behind the verdict: one submission."""

    def die(*arguments: object, **named: object) -> object:
        if name == "declare" and arguments[1] != notarize.SUBMITTED:
            return original(*arguments, **named)
        raise KilledError

    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, die)
    with pytest.raises(KilledError):
        bench.run()
    monkeypatch.undo()
    value = bench.run()
    assert bench.notary.count("submit") == 1
    assert bench.notary.count("upload") == 1
    assert value.submission_id == bench.notary.entries[0].id


def test_a_lost_ledger_finds_the_upload_in_the_history(bench: Bench) -> None:
    """Another machine, no record at all: our accepted upload is found by name and digest."""
    first = bench.run()
    bench.intents = MemoryIntents()
    assert bench.run() == first
    assert bench.notary.count("submit") == 1
    assert any("already accepted" in note for note in bench.told.notes)


def _forget(bench: Bench) -> None:
    """Another machine: neither records nor the state of uploads."""
    bench.intents = MemoryIntents()
    shutil.rmtree(bench.workspace.path(".notary"), ignore_errors=True)


def test_an_upload_in_progress_is_adopted_while_it_is_young(bench: Bench) -> None:
    """Through runs that wait in vain; hours later it counts as one whose upload never came."""
    _prepare(bench, "In Progress")
    for _ in range(3):
        with pytest.raises(errors.PendingError):
            bench.run()
        _forget(bench)
    assert bench.notary.count("submit") == 1
    bench.notary.seconds += 2 * 3600
    _forget(bench)
    with pytest.raises(errors.PendingError):
        bench.run(wait=False)
    assert bench.notary.count("submit") == 2


def test_what_was_adopted_and_does_not_move_is_given_up(bench: Bench) -> None:
    """Adopted from the history, still in progress hours later: handed in again, once."""
    _prepare(bench, "In Progress")
    with pytest.raises(errors.PendingError):
        bench.run(wait=False)
    _forget(bench)
    for wait in (0, 8000, 8000, 8000):
        bench.notary.seconds += wait
        with pytest.raises(errors.PendingError):
            bench.run(wait=False)
    assert bench.notary.count("submit") == 2
    assert any("does not move" in note for note in bench.told.notes)


def test_an_upload_that_failed_here_is_not_taken_for_one_in_progress(bench: Bench) -> None:
    """The history shows it in progress for ever; this ledger knows that it never arrived."""
    bench.notary.before = lambda request: (
        Reply(400, b"<Error><Code>ExpiredToken</Code></Error>") if request.method == "PUT" else None
    )
    with pytest.raises(errors.TransientError, match="have ended"):
        bench.run()
    bench.notary.before = lambda _: None
    assert bench.run().submission_id == bench.notary.entries[1].id


def test_a_namesake_of_other_bytes_is_passed_over(bench: Bench) -> None:
    """Same name, but the log tells another digest, is older than the signature, or was refused."""
    first = bench.run()
    bench.intents = MemoryIntents()
    entry = bench.notary.entries[0]
    entry.log = {"sha256": "f" * 64}
    second = bench.run()
    assert second.submission_id != first.submission_id
    bench.intents = MemoryIntents()
    for entry in bench.notary.entries:
        entry.log = {}
        entry.created -= timedelta(days=3)
    third = bench.run()
    assert third.submission_id not in {first.submission_id, second.submission_id}
    assert bench.notary.count("submit") == 3


def test_an_earlier_signature_is_not_resumed(bench: Bench) -> None:
    """A record of another signed app is not taken for this one's."""
    bench.run()
    bench.signed = bench.signed.model_copy(update={"sealed_files": 4})
    bench.notary.entries.clear()
    bench.run()
    assert bench.notary.count("submit") == 2


def test_issues_are_all_listed_the_worst_first(bench: Bench) -> None:
    """`Invalid` is exit 6 with every issue, path and architecture; the same bytes stay refused."""
    _prepare(bench, "In Progress", "Invalid", log={"issues": ISSUES})
    for _ in range(2):
        with pytest.raises(errors.VerificationError, match="2 issues") as caught:
            bench.run()
        assert caught.value.details[0] == (
            "error: D.zip/Darkbloom.app/Contents/MacOS/darkbloom (arm64): The executable does not"
            " have the hardened runtime enabled."
        )
        assert caught.value.details[1] == "warning: D.zip/x: old SDK"
    assert bench.notary.count("submit") == 1
    assert not bench.workspace.path(notarize.LOG).exists()


def test_a_team_that_may_not_notarize_is_told_apart(bench: Bench) -> None:
    """`Rejected` is exit 7 and never a warning; once the team is enabled, a new try counts."""
    refused = {"statusCode": 7000, "statusSummary": "Team is not yet configured"}
    _prepare(bench, "Rejected", log={**refused})
    with pytest.raises(errors.RemoteRefusedError, match="this team") as caught:
        bench.run()
    assert "7000" in caught.value.observed
    assert "Apple Developer Support" in caught.value.hint
    _prepare(bench, "Accepted")
    assert bench.run().submission_id == bench.notary.entries[1].id


def test_a_rejection_without_a_log_is_handed_in_again_too(bench: Bench) -> None:
    """The upload's state goes with the verdict, so a later run does not meet the same one."""
    _prepare(bench, "Rejected", logs_late=10_000)
    with pytest.raises(errors.RemoteRefusedError, match="no verdict on its code"):
        bench.run()
    assert not bench.workspace.path(".notary").exists()
    _prepare(bench, "Accepted")
    assert bench.run().submission_id == bench.notary.entries[1].id


def test_a_refusal_without_a_log_is_still_one(bench: Bench) -> None:
    """No log comes: the verdict stands."""
    _prepare(bench, "Invalid", logs_late=10_000)
    with pytest.raises(errors.VerificationError, match="refuses this app") as caught:
        bench.run()
    assert "there is no log" in caught.value.observed


def test_a_log_that_is_late_is_awaited(bench: Bench) -> None:
    """404 right behind the verdict is not yet; without end it is pending, never a pass."""
    _prepare(bench, "Accepted", logs_late=5)
    bench.run()
    assert bench.notary.count("log") == 6
    bench.intents = MemoryIntents()
    bench.notary.entries.clear()
    _prepare(bench, "Accepted", logs_late=10_000)
    with pytest.raises(errors.PendingError, match="still at work"):
        bench.run()


@pytest.mark.parametrize("status", ["Accepted", "Invalid"])
def test_without_patience_a_late_log_is_not_awaited_either(bench: Bench, status: str) -> None:
    """Pending at once, whatever the verdict; the next run learns the reasons."""
    _prepare(bench, status, logs_late=1)
    before = bench.notary.seconds
    with pytest.raises(errors.PendingError) as caught:
        bench.run(wait=False)
    assert caught.value.observed == f"{status}, but its log is not there yet"
    assert bench.notary.seconds == before
    if status == "Accepted":
        bench.run(wait=False)
    else:
        with pytest.raises(errors.VerificationError, match="refuses this app"):
            bench.run(wait=False)
    assert bench.notary.count("submit") == 1


LIES: list[tuple[dict[str, object], str]] = [
    ({"sha256": "f" * 64}, "sha256 in the log"),
    ({"sha256": None}, "sha256 in the log"),
    ({"ticketContents": None}, "cdhashes in the log"),
    ({"ticketContents": [{"cdhash": "0" * 40}]}, "2 missing"),
    ({"status": "Invalid"}, "status in the log"),
    ({"jobId": "00000000-0000-0000-0000-000000000000"}, "submission in the log"),
]


@pytest.mark.parametrize(("log", "text"), LIES)
def test_an_acceptance_of_other_bytes_is_no_pass(
    bench: Bench, log: dict[str, object], text: str
) -> None:
    """The status says Accepted; the log does not speak of our archive and all our slices."""
    _prepare(bench, "Accepted", log=log)
    with pytest.raises(errors.VerificationError, match="not for our bytes") as caught:
        bench.run()
    assert any(text in line for line in caught.value.details)
    assert not bench.workspace.path(notarize.LOG).exists()


def test_warnings_of_an_accepted_app_are_kept(bench: Bench) -> None:
    """They are shown, and stand in the record; cdhashes beyond ours are a note."""
    contents = [{"cdhash": item} for item in (*notary_world.cdhashes(), "9" * 40)]
    _prepare(bench, "Accepted", log={"issues": ISSUES[:1], "ticketContents": contents})
    value = bench.run()
    assert value.issues == ("warning: D.zip/x: old SDK",)
    assert value.extra_cdhashes == 1
    assert any("old SDK" in line for line in bench.told.warnings)


def test_a_word_that_is_new_means_at_work(bench: Bench) -> None:
    """Kept waiting for, and said once."""
    _prepare(bench, *["Under Review"] * 5, "Accepted")
    bench.run()
    assert [line for line in bench.told.warnings if "Under Review" in line] == [
        "the notary says 'Under Review', taken as in progress"
    ]


def test_a_network_that_fails_amid_the_wait_does_not_end_it(bench: Bench) -> None:
    """Minutes of 503 in the middle: waited through, with one warning."""
    _prepare(bench, "In Progress", "Accepted")
    failing = {"left": 40}

    def fail(request: Request) -> Reply | None:
        if bench.notary.count("status") and failing["left"]:
            failing["left"] -= 1
            return Reply(503, b"")
        return None

    bench.notary.before = fail
    bench.run()
    assert failing["left"] == 0
    assert len([line for line in bench.told.warnings if "no answer" in line]) == 1


def test_an_app_that_would_be_refused_is_not_uploaded(bench: Bench) -> None:
    """A file that changed, one that was added: every reason, and no request at all."""
    root = bench.workspace.path("signed")
    (root / notary_world.APP / "Contents" / "MacOS" / "mlx.metallib").write_bytes(b"MTLBx")
    (root / notary_world.APP / "Contents" / "Resources").mkdir()
    (root / notary_world.APP / "Contents" / "Resources" / "more").write_text("x")
    with pytest.raises(errors.VerificationError, match="nothing was uploaded") as caught:
        bench.run()
    assert len(caught.value.details) >= 2
    assert bench.notary.asked == []


def test_every_reason_of_the_notary_is_told_before_the_upload(bench: Bench, tmp_path: Path) -> None:
    """Code without a timestamp, which codesign makes and the notary refuses: both executables."""
    root = bench.workspace.path("signed")
    shutil.rmtree(root)
    app = signed_release.assemble(root)
    signed_release.sign(app, timestamped=False)
    value = notary_world.value(bench.workspace)
    bench.signed = value.model_copy(update={"signer": "codesign"})
    with pytest.raises(errors.VerificationError, match="nothing was uploaded") as caught:
        bench.run()
    stamped = [line for line in caught.value.details if "timestamp" in line]
    assert len({name for name in ("darkbloom", "darkbloom-enclave") for line in stamped
                if f"MacOS/{name}:" in line}) == 2  # fmt: skip
    assert bench.notary.asked == []


def test_what_is_packed_is_what_was_signed(bench: Bench) -> None:
    """A record that tells of other files: nothing is uploaded."""
    bench.signed = bench.signed.model_copy(update={"files": bench.signed.files[1:]})
    with pytest.raises(errors.VerificationError, match="not what was signed"):
        bench.run()
    assert bench.notary.asked == []


def test_an_answer_to_the_submission_that_is_lost_costs_an_orphan_only(bench: Bench) -> None:
    """The request arrived, its answer did not: submitted again, and one upload counts."""
    lost: list[int] = []

    def lose(request: Request) -> Reply | None:
        if request.method == "POST" and not lost:
            lost.append(1)
            return Reply(502, b"<html>")
        return None

    bench.notary.after = lose
    value = bench.run()
    assert bench.notary.count("submit") == 2
    assert bench.notary.count("upload") == 1
    assert value.submission_id == bench.notary.entries[1].id


def test_with_ditto_what_it_made_is_read_before_it_is_sent(bench: Bench, tmp_path: Path) -> None:
    """Apple's tool makes the zip on the codesign route; other content in it is not uploaded."""
    mac = fake_mac.install(tmp_path / "mac")
    bench.pack = notarize.with_ditto(mac.tools)
    value = bench.run()
    assert value.archive_sha256 == bench.notary.entries[0].uploaded

    def lossy(
        root: Path, folder: str, destination: Path, *, reporter: Reporter | None = None
    ) -> Zipped:
        packed = notarize.with_ditto(mac.tools)(root, folder, destination, reporter=reporter)
        return replace(packed, members=packed.members[1:])

    bench.pack = lossy
    bench.intents = MemoryIntents()
    bench.notary.entries.clear()
    with pytest.raises(errors.VerificationError, match="not what was signed"):
        bench.run()
    assert bench.notary.count("submit") == 1


@pytest.mark.parametrize("raw", [b'{"logFormatV', b"[]", b'{"unexpected": 1}'])
def test_a_log_that_was_damaged_on_its_way_is_fetched_anew(raw: bytes) -> None:
    """It is no verdict on the app: the error says that the submission stands."""
    with pytest.raises(errors.FormatError) as caught:
        notary_verdict._parsed(raw)
    assert "run again" in caught.value.hint
