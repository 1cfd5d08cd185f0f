"""Staple: a ticket is verified whole before it is written, and nothing that was signed changes."""

from __future__ import annotations

import base64
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.apple import bundle, ticket
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.rehearsal.authority import Authority
from release_tool.rehearsal.ticket_signer import TicketSigner
from release_tool.services import ditto, retries
from release_tool.services.stapler import TicketService
from release_tool.stages import listing, mac_verdicts, staple
from release_tool.values import Notarization, SignedBundle, StapledBundle
from tests import scripted_server, signed_release
from tests.fake_mac import attributes
from tests.fake_mac import mac as fake_mac
from tests.scripted_server import Reply, Request, ScriptedServer
from tests.stages import notary_world
from tests.stages.release_parts import Told

PLACE = f"{notary_world.APP}/Contents/CodeResources"
Answer = bytes | None | Mapping[str, object] | int


@dataclass
class Bench:
    """A notarized app, and a ticket service that answers as a test tells it."""

    plan: ReleasePlan
    workspace: Workspace
    signed: SignedBundle
    server: ScriptedServer
    answers: list[Mapping[str, Answer] | Answer] = field(default_factory=list)
    """For each request: a ticket, a miss, a record or a status; by cdhash or for any."""
    asked: list[str] = field(default_factory=list)
    told: Told = field(default_factory=Told)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.server.says(self._answer)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def notarization(self) -> Notarization:
        return Notarization(
            submission_id="0b5c6f1e-2d5b-4b0e-9d2e-8a4f3b2c1de1",
            name="Darkbloom.zip",
            archive_sha256="0" * 64,
            archive_size=1,
            log="notarization.json",
            log_sha256="0" * 64,
            cdhashes=notary_world.cdhashes(),
            extra_cdhashes=0,
            issues=(),
            route="api",
        )

    def run(self, *answers: Answer, wait: bool = True, **given: object) -> StapledBundle:
        """Staple with these answers in turn, the last again and again."""
        self.answers = list(answers)
        self.asked.clear()
        arguments: dict[str, object] = {
            "workspace": self.workspace,
            "reporter": self.told,
            "tickets": TicketService(
                url=self.server.url, policy=retries.Policy(attempts=2, sleep=self.sleep)
            ),
            "trust": signed_release.trust(),
            "patience": staple.Patience(
                wait=wait, sleep=self.sleep, monotonic=lambda: self.seconds
            ),
        }
        return staple.run(self.plan, self.signed, self.notarization(), **(arguments | given))  # type: ignore[arg-type]

    def _answer(self, request: Request) -> Reply:
        name = json.loads(request.body)["records"][0]["recordName"]
        self.asked.append(name.rpartition("/")[2])
        step = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(step, int):
            return Reply(step, b"")
        record: dict[str, object] = {"recordName": name, "serverErrorCode": "NOT_FOUND"}
        if isinstance(step, bytes):
            value = base64.b64encode(step).decode()
            fields = {"signedTicket": {"type": "BYTES", "value": value}}
            record = {"recordName": name, "recordType": "DeveloperIDTicket", "fields": fields}
        elif step is not None:
            record |= step
        return Reply(200, json.dumps({"records": [record]}).encode())


@pytest.fixture
def bench(plan: ReleasePlan, tmp_path: Path) -> Iterator[Bench]:
    workspace = Workspace(tmp_path / "work")
    with scripted_server.running() as server:
        yield Bench(plan, workspace, notary_world.signed(workspace), server)


def issue(cdhashes: tuple[str, ...] | None = None, authority: Authority | None = None) -> bytes:
    """A look-alike ticket for the app, or for other code or of another signer."""
    wanted = notary_world.cdhashes() if cdhashes is None else cdhashes
    signer = TicketSigner(authority or signed_release.look_alike())
    return signer.issue([bytes.fromhex(item) for item in wanted], datetime.now(UTC))


def test_the_ticket_is_the_one_thing_that_is_added(bench: Bench) -> None:
    """Every signed file with its mode as it was, the ticket at its place, byte for byte."""
    before = listing.sealed_files(bench.workspace.path("signed"))
    content = issue()
    value = bench.run(content)
    stapled = {file.path: file for file in listing.sealed_files(bench.workspace.path("stapled"))}
    added = stapled.pop(PLACE)
    assert tuple(stapled.values()) == before
    assert added.sha256 == hashlib.sha256(content).hexdigest() == value.ticket_sha256
    assert added.mode == 0o644
    assert value.root == "stapled"
    assert value.files == listing.sealed_files(bench.workspace.path("stapled"))
    assert value.outputs()[f"stapled/{PLACE}"] == value.ticket_sha256
    assert value.code == bench.signed.code
    assert [check.outcome for check in value.ticket_checks] == ["passed", "passed"]
    assert listing.sealed_files(bench.workspace.path("signed")) == before


def test_the_stapled_app_verifies_with_its_ticket(bench: Bench) -> None:
    """Our verifier, offline: the seal holds, and the ticket covers every slice."""
    bench.run(issue())
    tree = notary_world.disk(bench.workspace, "stapled")
    report = bundle.verify(tree, judge=signed_release.made().judge(), path="app")
    outcomes = {check.name: check.outcome for check in report.checks}
    assert outcomes["ticket"] == outcomes["ticket cdhashes"] == "passed"
    assert "failed" not in outcomes.values()


def test_the_main_executables_cdhash_is_asked_first_and_then_the_others(bench: Bench) -> None:
    """A miss of one is sometimes a hit of another, in the same round."""
    main = bench.signed.code[0].cdhash
    bench.run(issue())
    assert bench.asked == [main]
    bench.run(None, issue())
    assert bench.asked == [main, *(item for item in notary_world.cdhashes() if item != main)]
    assert bench.told.tasks == []


def test_a_ticket_that_comes_late_is_awaited(bench: Bench) -> None:
    """Not found with 200 for minutes behind the verdict: polled with growing pauses, said once."""
    bench.run(*[None] * 30, issue())
    assert len(bench.asked) == 31
    assert 60 < bench.seconds < 600
    (waiting,) = bench.told.tasks
    assert "no ticket yet" in waiting


def test_no_ticket_at_all_is_pending(bench: Bench) -> None:
    """Exit 8 behind the plan's seconds, and nothing is left; without patience at once."""
    with pytest.raises(errors.PendingError, match="no ticket yet") as caught:
        bench.run(None)
    assert caught.value.exit_code == 8
    assert 600 <= bench.seconds < 700
    with pytest.raises(errors.PendingError):
        bench.run(None, wait=False)
    assert len(bench.asked) == 2
    assert not bench.workspace.path("stapled").exists()


def test_a_service_that_is_away_for_a_while_is_waited_for(bench: Bench) -> None:
    """503 for rounds, then a ticket; 503 to the end is exit 5, not pending."""
    bench.run(*[503] * 20, issue())
    with pytest.raises(errors.TransientError, match="not available"):
        bench.run(503)


def test_a_ticket_that_lacks_a_slice_may_be_replaced(bench: Bench) -> None:
    """Inconsistent answers: another one serves; without any the missing cdhash is named."""
    first, second = notary_world.cdhashes()
    bench.run(issue((first,)), issue((second,)), issue())
    assert len(bench.asked) == 3
    with pytest.raises(errors.VerificationError, match="does not cover this app") as caught:
        bench.run(issue((first,)))
    assert second in caught.value.observed
    with pytest.raises(errors.VerificationError, match="does not cover this app"):
        bench.run(issue(()))


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_a_ticket_that_was_changed_is_never_written(bench: Bench) -> None:
    """One bit of its list or of its signature: refused at once, and no app is left."""
    content = issue()
    signature = len(content) - ticket.SIGNATURE_FIELD
    for changed in (_flipped(content, signature - 1), _flipped(content, signature + 8)):
        with pytest.raises(errors.VerificationError):
            bench.run(changed)
        assert not bench.workspace.path("stapled").exists()
        assert len(bench.asked) == 1


@pytest.mark.parametrize("content", [b"", b"s8ch", b"<html>", b"s8ch" + bytes(200)])
def test_what_is_no_ticket_is_refused(bench: Bench, content: bytes) -> None:
    """Bytes that are none end in the format's error."""
    with pytest.raises(errors.FormatError):
        bench.run(content)


def test_a_strangers_ticket_is_refused(bench: Bench) -> None:
    """Well made, for exactly this app, by an authority that nobody trusts."""
    stranger = Authority.create("ABCDE12345")
    with pytest.raises(errors.VerificationError):
        bench.run(issue(authority=stranger))
    assert not bench.workspace.path("stapled").exists()


def test_a_withdrawn_ticket_is_final(bench: Bench) -> None:
    """Apple took it back: exit 7 without waiting."""
    with pytest.raises(errors.RemoteRefusedError, match="withdrawn"):
        bench.run({"serverErrorCode": None, "deleted": True})
    assert bench.seconds == 0


def test_a_file_that_changed_meanwhile_is_noticed(bench: Bench) -> None:
    """The copy is held against the record, file by file; extra ones, too."""
    app = bench.workspace.path("signed") / notary_world.APP
    (app / "Contents" / "MacOS" / "darkbloom").chmod(0o700)
    (app / "Contents" / "more").write_text("x")
    with pytest.raises(errors.VerificationError, match="with its ticket") as caught:
        bench.run(issue())
    assert any("darkbloom" in line and "0755" in line for line in caught.value.details)
    assert any("Contents/more" in line for line in caught.value.details)
    assert not bench.workspace.path("stapled").exists()


def test_a_second_opinion_that_differs_is_fatal(bench: Bench) -> None:
    """What macOS refuses never becomes a stapled app; what it says else stands in the record."""
    seen: list[bool] = []

    def refuse(app: Path) -> Mapping[str, str]:
        seen.append((app / "Contents" / "CodeResources").is_file())
        raise errors.VerificationError("macOS refuses the app")

    with pytest.raises(errors.VerificationError, match="macOS refuses"):
        bench.run(issue(), verdicts=refuse)
    assert seen == [True]
    assert not bench.workspace.path("stapled").exists()
    value = bench.run(issue(), verdicts=lambda _: {"stapler": "accepted"})
    assert value.macos_verdicts == {"stapler": "accepted"}


@pytest.mark.parametrize("tool", ["stapler", "spctl"])
def test_on_a_mac_stapler_and_spctl_must_agree(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    """Both are asked about the stapled copy; one that refuses is fatal where Apple is trusted."""
    mac = fake_mac.install(tmp_path / "mac")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    trusting = bench.plan.environment.model_copy(update={"trust": "apple"})
    verdicts = mac_verdicts.of_stapled(trusting, tools=mac.tools)
    value = bench.run(issue(), verdicts=verdicts)
    assert value.macos_verdicts == {
        "stapler": "the validate action worked",
        "spctl": "accepted, Notarized Developer ID",
    }
    refused = {"status": 65 if tool == "stapler" else 3, "stderr": "x: rejected\n"}
    mac.fault(tool, refused, refused)
    with pytest.raises(errors.VerificationError, match="macOS refuses the app"):
        bench.run(issue(), verdicts=verdicts)
    look_alike = mac_verdicts.of_stapled(bench.plan.environment, tools=mac.tools)
    assert "refused" in bench.run(issue(), verdicts=look_alike).macos_verdicts[tool]


def test_on_the_codesign_route_attributes_are_kept(bench: Bench, tmp_path: Path) -> None:
    """A signature beside a file comes along: ditto copies, and the same checks follow."""
    mac = fake_mac.install(tmp_path / "mac")
    library = Path("Contents/MacOS/mlx.metallib")
    signature = {"com.apple.cs.CodeSignature": b"signed"}
    attributes.put(bench.workspace.path("signed") / notary_world.APP / library, signature)
    bench.run(issue(), copy=lambda one, other: ditto.copy(one, other, tools=mac.tools))
    stapled = bench.workspace.path("stapled") / notary_world.APP
    if platform.system() != "Darwin":
        assert attributes.of(stapled / library) == signature
    assert (stapled / "Contents" / "CodeResources").is_file()


TARGETS = [
    (b"\xcf\xfa\xed\xfe" + bytes(40), "bare Mach-O"),
    (b"\xca\xfe\xba\xbe" + bytes(40), "bare Mach-O"),
    (b"PK\x03\x04" + bytes(40), "a zip"),
    (b"#!/bin/sh", "another kind"),
    (b"", "another kind"),
]


@pytest.mark.parametrize(("content", "reason"), TARGETS)
def test_what_can_carry_no_ticket_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    """Before any request: a bare Mach-O, a zip, anything that is no app."""
    (tmp_path / "target").write_bytes(content)
    with pytest.raises(errors.VerificationError, match="no ticket can be stapled") as caught:
        staple.require_staplable(tmp_path / "target")
    assert reason in caught.value.observed
    assert caught.value.hint


def test_a_folder_or_nothing_can_carry_no_ticket(tmp_path: Path) -> None:
    """A folder that is no bundle, a link to one, and what is not there."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "app" / "Contents").mkdir(parents=True)
    (tmp_path / "app" / "Contents" / "Info.plist").write_text("")
    (tmp_path / "link").symlink_to("app")
    staple.require_staplable(tmp_path / "app")
    for name in ("folder", "link", "nothing"):
        with pytest.raises(errors.VerificationError, match="no ticket can be stapled"):
            staple.require_staplable(tmp_path / name)
