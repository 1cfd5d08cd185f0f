"""The page of a release: what it says in each state, from the records alone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from release_tool import values
from release_tool.report import overview
from release_tool.report.page import document, rendering, told
from release_tool.report.page.document import Page
from tests import page_samples
from tests.page_samples import Release

NOW = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)


def read(workspace: Path) -> Page:
    return document.read(workspace, now=NOW)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Of a release that went its whole way."""
    return read(page_samples.good(tmp_path_factory.mktemp("good")))


def outcomes(page: Page) -> dict[str, str]:
    return {stage.name: stage.outcome for stage in page.stages}


def test_a_released_version_says_so_first(good: Page) -> None:
    """Tone, word and title; no next step, and no warning of anything."""
    verdict = good.verdict
    assert (verdict.tone, verdict.word) == ("good", "Released")
    assert verdict.title == "Darkbloom 0.5.0 is released in prod"
    assert (verdict.next_step, verdict.problem, verdict.warnings) == ("", None, ())
    assert good.stood_in == ()
    assert set(outcomes(good).values()) == {"done"}


def test_a_failure_names_stage_error_and_next_step(tmp_path: Path) -> None:
    """As the error said it, with what was tried before; later stages are open."""
    page = read(page_samples.failed(tmp_path))
    verdict = page.verdict
    assert (verdict.tone, verdict.word) == ("bad", "Refused at smoke")
    assert verdict.next_step == "compare the two transcripts"
    assert verdict.problem
    assert (verdict.problem.expected, verdict.problem.observed) == ("Paris", "London")
    assert verdict.problem.details == ("token 3 differs", "token 4 differs")
    (smoke,) = [stage for stage in page.stages if stage.name == "smoke"]
    assert (smoke.outcome, smoke.attempts) == ("failed", 1)
    assert smoke.earlier[0].text == "the provider did not start in time"
    assert outcomes(page)["publish"] == "open"


def test_a_release_that_waits_is_under_way(tmp_path: Path) -> None:
    """A service at work is no failure, and running again is the next step."""
    page = read(page_samples.under_way(tmp_path))
    assert (page.verdict.tone, page.verdict.word) == ("wait", "Under way")
    assert "notarize waits for an answer" in page.verdict.title
    assert page.verdict.next_step == "run again: it goes on waiting"
    assert outcomes(page)["notarize"] == "pending"


def test_a_failure_that_was_overtaken_does_not_stop(tmp_path: Path) -> None:
    """What comes before the failed stage was done again since: the failure is history."""
    release = Release(tmp_path).up_to("archive")
    release.fail("smoke")
    release.up_to("archive")
    page = read(release.workspace)
    assert page.verdict.word == "Under way"


def test_a_withdrawn_release_says_what_users_get(tmp_path: Path) -> None:
    """By the records of the rollback that lie beside it; the good one says so, too."""
    page = read(page_samples.withdrawn(tmp_path))
    assert (page.verdict.tone, page.verdict.word) == ("bad", "Withdrawn")
    assert page.verdict.title == "Darkbloom 0.5.1 is withdrawn; users get 0.5.0 again"
    assert page.verdict.text.startswith("Withdrawn by night shift: does not start on macOS 14. ")
    good = read(tmp_path / "prod" / "0.5.0")
    assert good.verdict.word == "Released"
    assert any("given this version again instead of 0.5.1" in one for one in good.verdict.warnings)


def test_a_version_stays_withdrawn_behind_later_rollbacks(tmp_path: Path) -> None:
    """A tombstone is for ever, whatever another rollback moved since."""
    page_samples.withdrawn(tmp_path)
    page_samples.roll_back(tmp_path, to="0.4.9", bad=("0.5.0",))
    page = read(tmp_path / "prod" / "0.5.1")
    assert page.verdict.title == "Darkbloom 0.5.1 is withdrawn; users get 0.4.9 again"
    assert read(tmp_path / "prod" / "0.5.0").verdict.word == "Withdrawn"


def test_half_a_rollback_is_no_success(tmp_path: Path) -> None:
    """Withdrawn, and the users are not given anything else yet."""
    page = read(page_samples.withdrawn(tmp_path, until="tombstone"))
    assert page.verdict.word == "Withdrawn, rollback unfinished"
    assert "release-tool rollback" in page.verdict.next_step


def test_the_folder_of_rollbacks_is_a_page_too(tmp_path: Path) -> None:
    """Its steps are the timeline, and there are no contents to show."""
    page = read(page_samples.roll_back(tmp_path))
    assert page.verdict.word == "Rolled back"
    assert [stage.name for stage in page.stages] == [
        *("verify", "tombstone", "deactivate", "point", "github"),
    ]
    assert page.contents is None
    assert any(place.what == "tombstone" for place in page.places)


def test_a_registered_release_that_stopped_says_that_users_may_have_it(tmp_path: Path) -> None:
    """Registration is the point of no return: a failure behind it is no refusal before it."""
    release = Release(tmp_path).up_to("register")
    release.fail("promote")
    page = read(release.workspace)
    assert page.verdict.word == "Refused at promote"
    assert any("It is registered" in one for one in page.verdict.warnings)
    other = Release(tmp_path / "other").up_to("publish")
    other.intend("register", "register")
    assert any("may stand" in one for one in read(other.workspace).verdict.warnings)


def test_a_rehearsal_opens_nothing(tmp_path: Path) -> None:
    """For whom look-alikes stood, and no claim that real data proves anything."""
    page = read(page_samples.rehearsed(tmp_path))
    assert page.verdict.word == "Rehearsed"
    assert page.stood_in == ("Apple", "the object store", "the coordinator", "GitHub")
    assert "opens nothing" in page.verdict.warnings[0]
    assert "real data" not in {claim.proof for claim in page.claims}
    assert page.runs[0].is_stand_in


def test_an_outdated_result_is_not_shown_as_fact(tmp_path: Path) -> None:
    """An archive of a signature that was made again since is neither sized nor claimed."""
    release = Release(tmp_path).up_to("archive")
    signed = page_samples.MADE["sign"](release)
    assert isinstance(signed, values.SignedBundle)
    release.record("sign", signed.model_copy(update={"sealed_files": 4}))
    page = read(release.workspace)
    assert outcomes(page)["archive"] == "stale"
    assert page.sizes is None
    assert page.contents
    assert page.contents.source == "the signed bundle"


def test_entitlements_say_who_grants_them(tmp_path: Path) -> None:
    """The profile for what is restricted, macOS for the rest, and nobody where it kills."""
    page = read(page_samples.good(tmp_path))
    assert page.contents
    app, enclave = page.contents.code
    assert {grant.key: grant.by for grant in app.grants} == {
        "com.apple.application-identifier": "profile",
        "com.apple.security.network.client": "macOS",
        "keychain-access-groups": "profile",
    }
    assert enclave.grants == ()
    hostile = read(page_samples.hostile(tmp_path / "hostile")).contents
    assert hostile
    assert "nobody" in {grant.by for grant in hostile.code[0].grants}


def test_days_are_counted_from_the_moment_of_the_page(good: Page) -> None:
    """What ended, what ends soon with what to do, and what has time."""
    assert good.trust
    states = [(life.what, life.state, bool(life.todo)) for life in good.trust.lives]
    assert states == [
        ("timestamp CA", "ended", True),
        ("profile", "soon", True),
        ("signing certificate", "good", False),
    ]
    assert [link.what for link in good.trust.links] == [
        *("profile", "certificate", "timestamp", "notarization", "ticket")
    ]


def test_figures_stand_beside_thresholds_and_the_release_before(good: Page) -> None:
    """On one scale: each strip within it, in order, and the threshold where its number is."""
    (run,) = good.runs
    chart = run.charts[0]
    assert chart.metric == "ttft"
    assert [(one.at_once, one.release) for one in chart.strips[:2]] == [(1, "0.5.0"), (1, "0.4.9")]
    for one in chart.strips:
        assert 0 <= one.low <= one.middle <= one.high95 <= one.high <= 1000
    assert chart.strips[0].limit is not None
    assert chart.strips[0].limit > chart.strips[0].high95
    assert chart.strips[1].limit is None
    assert [one.held for one in run.thresholds] == [True, True]


def test_figures_stand_beside_those_of_the_same_kind_of_host(tmp_path: Path) -> None:
    """The release before ran on this Mac, too; an old one was recorded last."""
    before = Release(tmp_path, version="0.4.9", first_token=0.079).up_to("smoke")
    smoke = page_samples.MADE["smoke"](before)
    assert isinstance(smoke, values.SmokeEvidence)
    older = page_samples.M4.model_copy(update={"chip": "Apple M1", "release": "14.6"})
    other = {"host": older, "transcript": "smoke/m1.jsonl", "log": "smoke/m1.log"}
    slow = tuple(one.model_copy(update={"max": 9.0}) for one in smoke.figures)
    before.record("smoke", smoke.model_copy(update={**other, "figures": slow}))
    (run,) = read(Release(tmp_path).up_to("smoke").workspace).runs
    strips = [one for one in run.charts[0].strips if one.release == "0.4.9"]
    assert strips
    assert all(one.shown[-1] != "9.00 s" for one in strips)
    assert run.differing == ()


def test_each_host_that_counts_has_its_figures(tmp_path: Path) -> None:
    """Two kinds of hosts ran this archive: both are shown, and which lane is still without one."""
    release = Release(tmp_path).up_to("smoke")
    smoke = page_samples.MADE["smoke"](release)
    assert isinstance(smoke, values.SmokeEvidence)
    older = page_samples.M4.model_copy(update={"chip": "Apple M1", "release": "14.6"})
    other = {"host": older, "transcript": "smoke/m1.jsonl", "log": "smoke/m1.log"}
    release.record("smoke", smoke.model_copy(update=other))
    lanes = (
        overview.LaneRow(lane="oldest", wanted="macOS 14", host="macOS 14.6, Apple M1, 16 GiB"),
        overview.LaneRow(lane="newest", wanted="macOS >=26 (newest)"),
    )
    page = document.of(told.read(release.workspace), NOW, lanes=lanes)
    assert [run.title for run in page.runs] == [
        "macOS 15.1, Apple M4, 16 GiB",
        "macOS 14.6, Apple M1, 16 GiB",
    ]
    html, markdown = (rendering.render(page, form) for form in rendering.FORMS)
    assert '<span class="pill wait">missing</span></td><td>macOS &gt;=26 (newest)</td>' in html
    assert "| newest | missing: a record of macOS <code>&#62;&#61;26</code> (newest) |" in markdown


def test_sizes_are_compared_with_the_release_before(tmp_path: Path) -> None:
    """The sums, and only the files that changed."""
    page = read(page_samples.good(tmp_path))
    assert page.sizes
    assert page.sizes.before == "0.4.9"
    assert page.sizes.sums[0].change == "+400.0 kB (+0.5%)"
    assert [one.name for one in page.sizes.files] == [
        "Darkbloom.app/Contents/MacOS/darkbloom",
        "bin/darkbloom",
    ]
    first = read(tmp_path / "prod" / "0.4.9").sizes
    assert first
    assert (first.before, {one.change for one in first.files}) == ("", {""})


@pytest.mark.parametrize(
    ("text", "proof"),
    [
        ("The profile authorizes what is signed", "real data"),
        ("The tests of the source passed", "not checked"),
        ("macOS lets it run", "Apple's tool"),
        ("The archive holds what was signed", "this tool"),
        ("What ships starts, answers and agrees", "real data"),
        ("Routable capacity", "not checked"),
    ],
)
def test_each_claim_says_what_proves_it(good: Page, text: str, proof: str) -> None:
    """A real release: real parties, a Mac's own word, our own reading, and nothing at all."""
    assert [claim.proof for claim in good.claims if claim.text == text] == [proof]


def test_a_damaged_neighbour_is_passed_over(tmp_path: Path) -> None:
    """A release that lies beside this one may be broken; this page is written all the same."""
    workspace = page_samples.good(tmp_path)
    for name in ("0.4.10", "rollback"):
        (tmp_path / "prod" / name / "ledger").mkdir(parents=True)
        (tmp_path / "prod" / name / "ledger" / "0001-smoke.json").write_text("{")
    page = read(workspace)
    assert page.verdict.word == "Released"
    assert page.sizes
    assert page.sizes.before == "0.4.9"


def test_an_empty_ledger_is_not_begun(tmp_path: Path) -> None:
    """There is a folder, and nothing in it."""
    (tmp_path / "prod" / "0.5.0" / "ledger").mkdir(parents=True)
    page = read(tmp_path / "prod" / "0.5.0")
    assert page.verdict.word == "Not begun"
    assert page.contents is None
