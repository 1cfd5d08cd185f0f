"""A rollback on GitHub: the head arrives, the withdrawn release is marked, killed anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from release_tool import errors
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.provenance import keys, log
from release_tool.provenance.log import Head
from release_tool.rehearsal import faults
from release_tool.rehearsal.github_store import Release
from release_tool.report import withdrawal_notes
from release_tool.services import http_client
from release_tool.stages import github_withdrawal
from release_tool.values import KeptHead, Withdrawal, Withdrawn, WithdrawnOnGitHub
from tests import github_world
from tests.github_world import READ, WRITE, World

KEY = keys.load(keys.make().encode())
OTHER_KEY = keys.load(keys.make().encode())
# Past the last request, which a test below counts.
_LAST_KILL = 15


class KilledError(BaseException):
    """Nothing may catch it, as nothing catches a kill."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """0.5.0 and after it 0.5.1, GitHub's latest."""
    with github_world.living(tmp_path / "github") as made:
        _release(made, tmp_path)
        yield made


@pytest.fixture
def immutable(tmp_path: Path) -> Iterator[World]:
    """The same, where a release takes no further asset."""
    with github_world.living(tmp_path / "github", immutable=True) as made:
        _release(made, tmp_path)
        yield made


def _release(made: World, folder: Path) -> None:
    first_head = folder / log.HEAD_NAME
    first_head.write_bytes(b"the head of the release\n")
    for version in ("0.5.0", "0.5.1"):
        made.store.push_tag(f"v{version}", "c" * 40)
        client = made.client()
        draft = client.create_draft(f"v{version}", name=f"Darkbloom {version}", notes="")
        client.upload(draft, first_head, name=log.HEAD_NAME, reporter=Silent())
        client.publish(draft, name=f"Darkbloom {version}", notes=f"of {version}\n", latest=True)


def _of(world: World, version: str) -> Release:
    (found,) = [one for one in world.store.releases if one.tag == f"v{version}"]
    return found


def _kept(folder: Path, *, count: int = 6, key: keys.SigningKey = KEY) -> KeptHead:
    head = Head(environment="rehearsal", count=count, size=4000, sha256="d" * 64)
    content, name = log.seal(head, key), log.later_name(head)
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return KeptHead(name=name, lines=count, size=len(content), sha256=digest)


def _withdrawn(reason: str = "no start") -> Withdrawn:
    stone = Withdrawal(
        version="0.5.1",
        key="releases/v0.5.1/tombstone.json",
        sha256="e" * 64,
        outcome="written",
        at="2026-05-14T21:51:00+00:00",
        by="night shift",
        reason=reason,
    )
    return Withdrawn(tombstones=(stone,))


def _run(
    world: World,
    plan: ReleasePlan,
    tmp_path: Path,
    *,
    count: int = 6,
    key: keys.SigningKey = KEY,
    token: str = WRITE,
    reason: str = "no start",
    trusted: tuple[keys.PublicKey, ...] = (KEY.public,),
    prefixes: tuple[str, ...] = ("v", "rust-bridge-v"),
) -> WithdrawnOnGitHub:
    folder = tmp_path / "rollback"
    return github_withdrawal.run(
        plan,
        withdrawal_notes.lines(_withdrawn(reason)),
        _kept(folder, count=count, key=key),
        workspace=Workspace(folder),
        reporter=Silent(),
        github=world.client(token),
        prefixes=prefixes,
        trusted=trusted,
        policy=github_world.POLICY,
    )


def _require_done(world: World, name: str = "log.head.6.json") -> None:
    good, bad = _of(world, "0.5.0"), _of(world, "0.5.1")
    for release in (good, bad):
        heads = {one.name: world.store.place(one).read_bytes() for one in release.assets}
        assert set(heads) == {log.HEAD_NAME, name}
        assert log.unseal(heads[name], trusted=(KEY.public,)).count == 6
    assert (good.name, good.body, good.prerelease) == ("Darkbloom 0.5.0", "of 0.5.0\n", False)
    assert (bad.name, bad.prerelease) == ("Darkbloom 0.5.1 (withdrawn)", True)
    assert bad.body.startswith("**Withdrawn: not to be used, take another release.** At <code>")
    assert bad.body.endswith("\n\nof 0.5.1\n")
    assert bad.body.count("Withdrawn") == 1
    assert (good.latest, bad.latest) == (True, False)


def test_the_head_goes_there_and_the_withdrawn_release_says_so(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """An asset of its own name on both; the older head stays, and latest is 0.5.0."""
    value = _run(world, plan, tmp_path)
    _require_done(world)
    assert value.head == "log.head.6.json"
    assert [(one.version, one.outcome, one.head) for one in value.releases] == [
        ("0.5.0", "given again", "asset"),
        ("0.5.1", "marked", "asset"),
    ]


def test_once_more_changes_nothing(world: World, plan: ReleasePlan, tmp_path: Path) -> None:
    """It is looked at, and nothing is sent but the download that compares."""
    _run(world, plan, tmp_path)
    before = [row for row in world.store.journal if row[0] != "download"]
    value = _run(world, plan, tmp_path)
    assert [row for row in world.store.journal if row[0] != "download"] == before
    assert value.releases[1].outcome == "stood"
    _require_done(world)


def _killing(
    monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool
) -> tuple[list[str], Callable[[], None]]:
    """Die at one request, before it is sent or when its answer is lost."""
    asked: list[str] = []
    inside: list[str] = []
    real_exchange, real_stream = http_client.exchange, http_client.stream

    def exchange(method: str, address: str, **more: Any) -> Any:  # noqa: ANN401 - as the real one
        asked.append(method)
        mine = len(asked) == at
        if mine and not after:
            raise KilledError
        inside.append(method)
        answer = real_exchange(method, address, **more)
        inside.clear()
        if mine:
            raise KilledError
        return answer

    def stream(method: str, address: str, **more: Any) -> Any:  # noqa: ANN401 - as the real one
        # An exchange is made of one.
        if not inside:
            asked.append(method)
            if len(asked) == at:
                raise KilledError
        return real_stream(method, address, **more)

    monkeypatch.setattr(http_client, "exchange", exchange)
    monkeypatch.setattr(http_client, "stream", stream)
    return asked, monkeypatch.undo


def _moments(each: int) -> list[object]:
    """Every request; the default suite takes one of `each`."""
    slow = [pytest.mark.slow]
    return [pytest.param(at, marks=[] if at % each == 0 else slow) for at in range(1, _LAST_KILL)]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", _moments(4))
def test_killed_at_any_request_it_ends_as_if_it_was_not(
    world: World,
    plan: ReleasePlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    after: bool,
) -> None:
    """Before or after the request took effect, and run again."""
    _, disarm = _killing(monkeypatch, at, after=after)
    with pytest.raises(KilledError):
        _run(world, plan, tmp_path)
    disarm()
    _run(world, plan, tmp_path)
    _require_done(world)


def test_the_kills_reach_past_the_last_request(
    world: World, plan: ReleasePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers above name every request."""
    asked, disarm = _killing(monkeypatch, 0, after=False)
    _run(world, plan, tmp_path)
    disarm()
    assert len(asked) == _LAST_KILL - 1
    assert asked.count("PATCH") == 2


@pytest.mark.parametrize(
    "fault",
    [
        *(faults.GITHUB_UPLOAD_CUT, faults.GITHUB_DROP_AFTER_UPLOAD, faults.GITHUB_RESET),
        *(faults.GITHUB_DROP_AFTER_PUBLISH, faults.GITHUB_STORAGE_CUT_SHORT),
    ],
)
def test_what_fails_in_passing_is_asked_again(
    world: World, plan: ReleasePlan, tmp_path: Path, fault: str
) -> None:
    """A broken upload's placeholder is replaced, a lost answer is looked up."""
    world.broken.set({fault: 1})
    _run(world, plan, tmp_path)
    _require_done(world)


def test_an_immutable_release_gets_the_head_into_its_notes(
    immutable: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """It takes no asset; the signed head stands in its text, once, and can be read from there."""
    _run(immutable, plan, tmp_path)
    value = _run(immutable, plan, tmp_path)
    assert {one.head for one in value.releases} == {"notes"}
    for version in ("0.5.0", "0.5.1"):
        release = _of(immutable, version)
        assert [one.name for one in release.assets] == [log.HEAD_NAME]
        assert release.body.count("```json") == 1
        sealed = release.body.partition("```json\n")[2].partition("```")[0].encode()
        assert log.unseal(sealed, trusted=(KEY.public,)).count == 6
    assert _of(immutable, "0.5.1").name == "Darkbloom 0.5.1 (withdrawn)"
    assert _of(immutable, "0.5.0").latest


def test_a_newer_latest_stays_the_latest(world: World, plan: ReleasePlan, tmp_path: Path) -> None:
    """0.5.2 was released meanwhile: it is not what was withdrawn, and nobody pushes it aside."""
    world.store.push_tag("v0.5.2", "c" * 40)
    draft = world.client().create_draft("v0.5.2", name="Darkbloom 0.5.2", notes="")
    world.client().publish(draft, name="Darkbloom 0.5.2", notes="", latest=True)
    _run(world, plan, tmp_path)
    assert _of(world, "0.5.2").latest
    assert not _of(world, "0.5.0").latest
    assert _of(world, "0.5.1").prerelease


def test_a_release_that_github_does_not_have_is_told(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """A version that was withdrawn before it was released; the head stands at the other."""
    world.store.releases.remove(_of(world, "0.5.1"))
    value = _run(world, plan, tmp_path)
    assert [(one.outcome, one.head) for one in value.releases] == [
        ("given again", "asset"),
        ("none", "none"),
    ]


def _move(world: World, version: str, tag: str) -> Release:
    """What was released at the version's usual tag was released at this one."""
    release = _of(world, version)
    release.tag = tag
    return release


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("rust-bridge-v0.5.0", "v0.5.1"),
        ("v0.5.0", "rust-bridge-v0.5.1"),
        ("v0.5.0-swift.3", "v0.5.1-swift"),
    ],
)
def test_each_version_is_found_by_the_tag_that_it_was_released_at(
    world: World, plan: ReleasePlan, tmp_path: Path, good: str, bad: str
) -> None:
    """The flavour that users get again is not that of what was withdrawn, nor the tag the first."""
    better, worse = _move(world, "0.5.0", good), _move(world, "0.5.1", bad)
    value = _run(world, plan, tmp_path)
    assert [one.outcome for one in value.releases] == ["given again", "marked"]
    assert (worse.name, worse.prerelease, worse.latest) == (
        "Darkbloom 0.5.1 (withdrawn)",
        True,
        False,
    )
    assert better.latest
    for release in (better, worse):
        assert {one.name for one in release.assets} == {log.HEAD_NAME, "log.head.6.json"}


def test_a_release_of_no_flavour_of_ours_is_left(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Another product of the repository has such a version too; a draft is no release."""
    strange = _move(world, "0.5.1", "coordinator-v0.5.1")
    world.client().create_draft("v0.5.1", name="Darkbloom 0.5.1", notes="")
    value = _run(world, plan, tmp_path)
    assert [one.outcome for one in value.releases] == ["given again", "none"]
    assert (strange.name, strange.prerelease) == ("Darkbloom 0.5.1", False)
    assert [one.name for one in strange.assets] == [log.HEAD_NAME]


def test_a_version_that_stands_there_twice_is_marked_twice(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """At its usual tag and at one of a second build, each with a page that people read."""
    world.store.push_tag("v0.5.1-swift.2", "c" * 40)
    draft = world.client().create_draft("v0.5.1-swift.2", name="Darkbloom 0.5.1", notes="")
    world.client().publish(draft, name="Darkbloom 0.5.1", notes="again\n", latest=True)
    value = _run(world, plan, tmp_path)
    assert [(one.version, one.outcome) for one in value.releases] == [
        ("0.5.0", "given again"),
        ("0.5.1", "marked"),
        ("0.5.1", "marked"),
    ]
    assert len({one.page for one in value.releases}) == 3
    _require_done(world)


def test_other_bytes_under_the_name_are_left_and_named(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """A finished asset is never overwritten, whoever made it."""
    other = tmp_path / "other"
    other.write_bytes(b"other")
    release = world.client().published("v0.5.0")
    assert release
    world.client().upload(release, other, name="log.head.6.json", reporter=Silent())
    with pytest.raises(errors.RemoteRefusedError, match="other bytes") as caught:
        _run(world, plan, tmp_path)
    assert caught.value.subject == "log.head.6.json"
    assert not _of(world, "0.5.1").prerelease


def test_a_head_that_no_trusted_key_signed_never_gets_there(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """It came by another job's artifact: refused before GitHub is asked anything."""
    before = list(world.store.journal)
    with pytest.raises(errors.VerificationError):
        _run(world, plan, tmp_path, key=OTHER_KEY)
    assert world.store.journal == before


def test_a_token_that_only_reads_is_named(world: World, plan: ReleasePlan, tmp_path: Path) -> None:
    """Exit 4 with the permission that it lacks; nothing was changed."""
    with pytest.raises(errors.CredentialError, match="GitHub refused") as caught:
        _run(world, plan, tmp_path, token=READ)
    assert "contents: write" in caught.value.hint
    assert not _of(world, "0.5.1").prerelease


def test_a_reason_cannot_be_markup_or_a_mention(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Whoever gives a reason at night writes text, not the page."""
    _run(world, plan, tmp_path, reason="<img src=x> @octocat [a](https://x.example) **b**")
    line = _of(world, "0.5.1").body.splitlines()[0]
    for mark in ("<img", "@octocat", "](", "**b"):
        assert mark not in line


BOTH = (OTHER_KEY.public, KEY.public)
"""The keys of an environment whose key was changed: the new one first, the old one still there."""


def test_a_head_that_the_key_before_signed_is_left(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The rollback is run again with the new key: the same head, other bytes, no second upload."""
    _run(world, plan, tmp_path)
    before = [row for row in world.store.journal if row[0] != "download"]
    value = _run(world, plan, tmp_path, key=OTHER_KEY, trusted=BOTH)
    assert [row for row in world.store.journal if row[0] != "download"] == before
    assert {one.head for one in value.releases} == {"asset"}
    _require_done(world)


def test_a_head_by_a_key_that_is_listed_no_more_is_refused(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Its line was taken out, perhaps since somebody has the key: nobody believes it again."""
    _run(world, plan, tmp_path)
    with pytest.raises(errors.RemoteRefusedError, match="other bytes") as caught:
        _run(world, plan, tmp_path, key=OTHER_KEY, trusted=(OTHER_KEY.public,))
    assert caught.value.subject == "log.head.6.json"


def test_another_head_under_the_name_is_refused_whoever_signed_it(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """As many lines, and other ones."""
    other = tmp_path / "other"
    head = Head(environment="rehearsal", count=6, size=4000, sha256="e" * 64)
    other.write_bytes(log.seal(head, KEY))
    release = world.client().published("v0.5.0")
    assert release
    world.client().upload(release, other, name="log.head.6.json", reporter=Silent())
    with pytest.raises(errors.RemoteRefusedError, match="other bytes"):
        _run(world, plan, tmp_path, key=OTHER_KEY, trusted=BOTH)


def test_the_notes_hold_a_head_once_whichever_key_signed_it(
    immutable: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Where it is no asset: no second block for the same head."""
    _run(immutable, plan, tmp_path)
    before = _of(immutable, "0.5.0").body
    _run(immutable, plan, tmp_path, key=OTHER_KEY, trusted=BOTH)
    assert _of(immutable, "0.5.0").body == before
    _run(immutable, plan, tmp_path, key=OTHER_KEY, trusted=(OTHER_KEY.public,))
    assert _of(immutable, "0.5.0").body.count("```json") == 2
