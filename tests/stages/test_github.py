"""GitHub: drafts become releases only with our bytes, and nothing finished is overwritten."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from release_tool import errors
from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Silent
from release_tool.provenance import keys, log
from release_tool.rehearsal import faults
from release_tool.rehearsal import github as look_alike
from release_tool.rehearsal.github_store import Release
from release_tool.rehearsal.wire import Rule
from release_tool.services import github as service
from release_tool.stages import github
from release_tool.values import (
    GitHubRelease,
    PromotedRelease,
    PublishedDocument,
    ReleaseArchive,
)
from tests import github_world
from tests.github_world import READ, WRITE, World
from tests.stages.release_parts import Told, changed

TAG = "v0.5.0"
NAME = "darkbloom-bundle-macos-arm64.tar.gz"
CONTENT = b"the archive\n" * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def world(tmp_path: Path, plan: ReleasePlan) -> Iterator[World]:
    """The look-alike, where releases become immutable, with the tag pushed."""
    with github_world.living(tmp_path / "github", immutable=True) as made:
        made.store.push_tag(TAG, plan.source.commit)
        yield made


def _archive(content: bytes = CONTENT) -> ReleaseArchive:
    return ReleaseArchive(
        path=NAME,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        tar_sha256="0" * 64,
        binary_sha256="1" * 64,
        enclave_sha256="2" * 64,
        metallib_sha256="3" * 64,
        cdhash="4" * 40,
        code_directory_sha256="5" * 64,
        source_commit="6" * 40,
        test_outcome="passed",
        members=(),
    )


def _run(
    world: World,
    plan: ReleasePlan,
    tmp_path: Path,
    *,
    content: bytes = CONTENT,
    token: str = WRITE,
    outcome: str = "promoted",
    reporter: Silent | None = None,
    key: keys.SigningKey | None = None,
    trusted: tuple[keys.PublicKey, ...] = (),
) -> GitHubRelease:
    workspace = Workspace(tmp_path / "dist")
    workspace.root.mkdir(exist_ok=True)
    workspace.path(NAME).write_bytes(content)
    promoted = PromotedRelease.model_validate(
        {"version": "0.5.0", "outcome": outcome, "latest_version": "0.5.0", "aliases": ()}
    )
    return github.run(
        plan,
        _archive(content),
        promoted,
        workspace=workspace,
        reporter=reporter or Silent(),
        github=world.client(token),
        notes="the notes\n",
        documents=_documents(workspace, key),
        trusted=trusted,
        policy=github_world.POLICY,
    )


def _documents(workspace: Workspace, key: keys.SigningKey | None) -> list[PublishedDocument]:
    """The log's head, signed by this key."""
    if key is None:
        return []
    content = log.seal(log.Head(environment="prod", count=2, size=900, sha256="d" * 64), key)
    workspace.path(log.HEAD_NAME).write_bytes(content)
    return [
        PublishedDocument(
            name=log.HEAD_NAME,
            key=f"releases/{log.HEAD_NAME}",
            url=f"https://a.example/releases/{log.HEAD_NAME}",
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
        )
    ]


def _only(world: World) -> Release:
    (release,) = world.store.releases
    return release


def _bytes(world: World) -> dict[str, bytes]:
    return {asset.name: world.store.place(asset).read_bytes() for asset in _only(world).assets}


def test_a_release_is_published_with_its_bytes_read_back(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Archive and digest are uploaded, downloaded from the draft, and again when public."""
    value = _run(world, plan, tmp_path)
    assert (value.outcome, value.tag, value.latest, value.immutable) == (
        *("published", TAG),
        *(True, True),
    )
    sums = f"{SHA256}  {NAME}\n".encode()
    assert _bytes(world) == {NAME: CONTENT, "SHA256SUMS": sums}
    assert {asset.name: asset.sha256 for asset in value.assets} == {
        NAME: SHA256,
        "SHA256SUMS": hashlib.sha256(sums).hexdigest(),
    }
    release = _only(world)
    assert (release.body, release.name, release.draft) == ("the notes\n", "Darkbloom 0.5.0", False)
    order = [name for name, _ in world.store.journal]
    assert order.index("download") < order.index("publish")
    assert order[order.index("publish") :].count("download") == 2
    assert value.outputs() == {
        "release-notes.md": hashlib.sha256(b"the notes\n").hexdigest(),
    }


def test_a_rerun_changes_nothing_and_compares_everything(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """A published release is downloaded and found the same; nothing is sent."""
    _run(world, plan, tmp_path)
    before = [row for row in world.store.journal if row[0] != "download"]
    value = _run(world, plan, tmp_path)
    assert value.outcome == "already_published"
    assert [row for row in world.store.journal if row[0] != "download"] == before


def test_other_words_on_a_published_release_are_told_and_left(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Somebody mended the notes, or withdrew it; a rerun says so and overwrites nothing."""
    _run(world, plan, tmp_path)
    release = _only(world)
    release.body = "the notes\r\n"
    notes = Told()
    _run(world, plan, tmp_path, reporter=notes)
    assert notes.warnings == []
    release.body, release.name, release.prerelease = "mended", "Darkbloom 0.5.0 (withdrawn)", True
    _run(world, plan, tmp_path, reporter=notes)
    (told,) = notes.warnings
    for part in ("'Darkbloom 0.5.0 (withdrawn)'", "other notes", "prerelease"):
        assert part in told
    assert (_only(world).body, _only(world).prerelease) == ("mended", True)


def test_a_published_release_with_other_bytes_is_refused(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The archive that stands there stays."""
    _run(world, plan, tmp_path)
    with pytest.raises(errors.RemoteRefusedError, match="other bytes") as caught:
        _run(world, plan, tmp_path, content=CONTENT + b"!")
    assert caught.value.subject == NAME
    assert SHA256 in caught.value.observed
    assert _bytes(world)[NAME] == CONTENT


def test_a_finished_asset_of_a_draft_is_never_overwritten(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Neither replaced nor published: a person decides about the draft."""
    draft = world.client().create_draft(TAG, name="", notes="")
    other = tmp_path / "other"
    other.write_bytes(b"other bytes")
    world.client().upload(draft, other, name=NAME, reporter=Silent())
    with pytest.raises(errors.RemoteRefusedError, match="other bytes"):
        _run(world, plan, tmp_path)
    assert _only(world).draft
    assert _bytes(world) == {NAME: b"other bytes"}
    assert world.store.asked("delete") == []


def test_a_placeholder_in_a_draft_is_replaced(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """What an upload of a killed run left is no asset; the draft itself is taken up again."""
    draft = world.client().create_draft(TAG, name="", notes="")
    world.broken.set({faults.GITHUB_UPLOAD_BAD_GATEWAY: 1})
    other = tmp_path / "other"
    other.write_bytes(b"x")
    with pytest.raises(errors.TransientError):
        world.client().upload(draft, other, name=NAME, reporter=Silent())
    told = Told()
    value = _run(world, plan, tmp_path, reporter=told)
    assert (value.id, value.outcome) == (draft.id, "published")
    assert world.store.asked("delete") == [f"{NAME} starter"]
    assert _bytes(world)[NAME] == CONTENT
    assert any("broken upload" in note for note in told.notes)


_PASSING = [
    *(faults.GITHUB_RESET, faults.GITHUB_UNAVAILABLE, faults.GITHUB_HTML, faults.GITHUB_TRUNCATED),
    *(faults.GITHUB_RATE_LIMITED, faults.GITHUB_SECONDARY_LIMITED),
    *(faults.GITHUB_DROP_AFTER_CREATE, faults.GITHUB_DROP_AFTER_PUBLISH),
    *(faults.GITHUB_DROP_AFTER_UPLOAD, faults.GITHUB_UPLOAD_UNAVAILABLE),
    *(faults.GITHUB_UPLOAD_BAD_GATEWAY, faults.GITHUB_UPLOAD_CUT),
    *(faults.GITHUB_STORAGE_UNAVAILABLE, faults.GITHUB_STORAGE_CUT_SHORT),
]


_LASTING = [
    *(faults.GITHUB_UNAVAILABLE, faults.GITHUB_UPLOAD_BAD_GATEWAY),
    *(faults.GITHUB_STORAGE_UNAVAILABLE, faults.GITHUB_DROP_AFTER_UPLOAD),
]


@pytest.mark.parametrize(
    ("fault", "times"),
    [*((fault, 2) for fault in _PASSING), *((fault, 9) for fault in _LASTING)],
)
def test_a_fault_in_passing_leaves_one_release_with_our_bytes(
    world: World, plan: ReleasePlan, tmp_path: Path, fault: str, times: int
) -> None:
    """Twice is retried; more often ends in exit 5, and the rerun that it advises succeeds."""
    world.broken.set({fault: times})
    if times == 9 and not fault.startswith("github.drop"):
        with pytest.raises(errors.TransientError) as caught:
            _run(world, plan, tmp_path)
        assert "run again" in caught.value.hint
        assert [release for release in world.store.releases if not release.draft] == []
        world.broken.set({fault: 0})
    _run(world, plan, tmp_path)
    assert not _only(world).draft
    assert _bytes(world)[NAME] == CONTENT
    assert len(world.store.asked("publish")) == 1
    assert world.store.asked(look_alike.BEARER_LEAK) == []


def test_other_bytes_in_the_download_are_not_published(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """What GitHub hands out is what counts, whatever digest it tells; the rerun heals."""
    world.broken.set({faults.GITHUB_STORAGE_OTHER_BYTES: 1})
    with pytest.raises(errors.VerificationError, match="downloaded again"):
        _run(world, plan, tmp_path)
    assert _only(world).draft
    assert _run(world, plan, tmp_path).outcome == "published"


def test_a_foreign_asset_is_not_published(world: World, plan: ReleasePlan, tmp_path: Path) -> None:
    """A draft of this tag with more than ours in it may be another's work: nothing goes into it."""
    draft = world.client().create_draft(TAG, name="", notes="")
    other = tmp_path / "other"
    other.write_bytes(b"x")
    world.client().upload(draft, other, name="malware.dmg", reporter=Silent())
    with pytest.raises(errors.RemoteRefusedError, match="not ours") as caught:
        _run(world, plan, tmp_path)
    assert caught.value.observed == "malware.dmg"
    assert "nothing was changed" in caught.value.hint
    assert _only(world).draft
    assert [asset.name for asset in _only(world).assets] == ["malware.dmg"]


def test_a_foreign_asset_that_comes_meanwhile_is_not_published(
    world: World, plan: ReleasePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours are in the draft by then, and the error says no more than is true."""
    real, other = service.GitHub.upload, tmp_path / "other"
    other.write_bytes(b"x")

    def upload(self: service.GitHub, release: Any, source: Path, **more: Any) -> Any:  # noqa: ANN401
        if source.name == github.SUMS:
            real(self, release, other, name="malware.dmg", reporter=Silent())
        return real(self, release, source, **more)

    monkeypatch.setattr(service.GitHub, "upload", upload)
    with pytest.raises(errors.RemoteRefusedError, match="not ours") as caught:
        _run(world, plan, tmp_path)
    assert caught.value.hint.startswith("it stays a draft; look at https://")
    assert _only(world).draft


def test_what_somebody_wrote_into_the_draft_is_told_and_kept(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The notes are ours in the end; a text that is replaced there stands nowhere else."""
    draft = world.client().create_draft(TAG, name="My own words", notes="written by hand\n")
    _only(world).prerelease = True
    told = Told()
    assert _run(world, plan, tmp_path, reporter=told).id == draft.id
    assert (_only(world).name, _only(world).body) == ("Darkbloom 0.5.0", "the notes\n")
    assert not _only(world).prerelease
    (warning,) = told.warnings
    assert "the title 'My own words', other notes, the mark of a prerelease: replaced" in warning
    assert "kept in draft-notes.md" in warning
    assert (tmp_path / "dist" / github.DRAFTED).read_text() == "written by hand\n"


def test_a_draft_that_says_nothing_else_is_filled_without_a_word(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """An earlier run's, or one that somebody only began."""
    world.client().create_draft(TAG, name="", notes="")
    told = Told()
    assert _run(world, plan, tmp_path, reporter=told).outcome == "published"
    assert told.warnings == []
    assert not (tmp_path / "dist" / github.DRAFTED).exists()


@pytest.mark.parametrize("strange", ["title", "notes", "asset"])
def test_two_drafts_of_one_tag_are_refused(
    world: World, plan: ReleasePlan, tmp_path: Path, strange: str
) -> None:
    """GitHub keeps any number; which one is wanted is not guessed where one is not ours."""
    client = world.client()
    client.create_draft(TAG, name="Darkbloom 0.5.0", notes="the notes\n")
    draft = client.create_draft(
        TAG,
        name="another title" if strange == "title" else "Darkbloom 0.5.0",
        notes="other notes" if strange == "notes" else "the notes\n",
    )
    if strange == "asset":
        (tmp_path / "other").write_bytes(b"other")
        client.upload(draft, tmp_path / "other", name="malware.dmg", reporter=Silent())
    with pytest.raises(errors.RemoteRefusedError, match="2 drafts") as caught:
        _run(world, plan, tmp_path)
    assert len(caught.value.details) == 2
    assert all(one.draft for one in world.store.releases)


def test_of_several_drafts_of_ours_the_fullest_is_published(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Cut off and handled late, each try made one; what was uploaded is not uploaded again."""
    client = world.client()
    first, second, third = (
        client.create_draft(TAG, name="Darkbloom 0.5.0", notes="the notes\r\n") for _ in range(3)
    )
    (tmp_path / "archive").write_bytes(CONTENT)
    client.upload(second, tmp_path / "archive", name=NAME, reporter=Silent())
    told = Told()
    assert _run(world, plan, tmp_path, reporter=told).id == second.id
    assert world.store.asked("upload").count(f"{TAG} {NAME}") == 1
    named = [text for text in told.warnings if "is left, delete it" in text]
    assert len(named) == 2
    assert all(any(one.page in text for text in named) for one in (first, third))


def test_drafts_that_come_late_are_named_by_the_next_run(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Every try to make a draft is cut off and handled later; the next run publishes one."""
    late = Rule(service="github", kind="late", method="POST", path="/releases$", seconds=0.5)
    world.lines.set([late])
    with pytest.raises(errors.TransientError):
        _run(world, plan, tmp_path)
    tries = world.lines.report().hits
    world.lines.set([])
    while world.lines.report().outstanding:
        time.sleep(0.02)
    assert len(world.store.releases) == tries > 1
    for outcome in ("published", "already_published"):
        told = Told()
        assert _run(world, plan, tmp_path, reporter=told).outcome == outcome
        assert len([text for text in told.warnings if "is left, delete it" in text]) == tries - 1
    assert len([one for one in world.store.releases if not one.draft]) == 1


def test_no_tag_is_ever_made(world: World, plan: ReleasePlan, tmp_path: Path) -> None:
    """Publishing makes a missing tag, so a missing one is refused before anything is sent."""
    wanted = changed(plan, source={"tag": "v0.5.0-swift"})
    with pytest.raises(errors.RemoteRefusedError, match="no such tag") as caught:
        _run(world, wanted, tmp_path)
    assert "git push origin v0.5.0-swift" in caught.value.hint
    assert world.store.releases == []


def test_a_moved_tag_is_refused(world: World, plan: ReleasePlan, tmp_path: Path) -> None:
    """The notes name a commit, and the tag must lead to it."""
    world.store.push_tag(TAG, "9" * 40)
    with pytest.raises(errors.VerificationError, match="another commit") as caught:
        _run(world, plan, tmp_path)
    assert (caught.value.expected, caught.value.observed) == (plan.source.commit, "9" * 40)
    assert world.store.releases == []


def test_a_tag_that_goes_while_uploading_is_not_made_again(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The tag is looked at once more just before the publication."""

    class Deleting(Silent):
        def start(self, task: str, total_bytes: int | None) -> None:
            if task.startswith("upload"):
                world.store.push_tag(TAG, "9" * 40)

    with pytest.raises(errors.VerificationError, match="another commit"):
        _run(world, plan, tmp_path, reporter=Deleting())
    assert _only(world).draft


def test_a_superseded_release_does_not_become_the_latest(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """It is published all the same, beside the newer one."""
    assert _run(world, plan, tmp_path).latest
    world.store.push_tag("v0.4.9", plan.source.commit)
    older = changed(plan, source={"tag": "v0.4.9"})
    assert not _run(world, older, tmp_path, outcome="superseded").latest
    assert [(one.tag, one.latest) for one in world.store.releases] == [
        ("v0.4.9", False),
        (TAG, True),
    ]


def test_a_token_that_may_only_read_is_told_what_it_lacks(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """Exit 4, with the permission by name."""
    with pytest.raises(errors.CredentialError) as caught:
        _run(world, plan, tmp_path, token=READ)
    assert "contents: write" in caught.value.hint


def test_a_draft_that_a_proxy_made_twice_is_named(
    world: World, plan: ReleasePlan, tmp_path: Path
) -> None:
    """The release is public with our bytes, and the draft beside it is told of, with its page."""
    draft = Rule(service="github", kind="duplicate", method="POST", path="/releases$")
    world.lines.set([draft])
    told = Told()
    assert _run(world, plan, tmp_path, reporter=told).outcome == "published"
    (left,) = [one for one in world.store.releases if one.draft]
    (warning,) = [text for text in told.warnings if "is left" in text]
    assert "delete it" in warning
    assert len([one for one in world.store.releases if not one.draft]) == 1
    assert left.assets == []


@pytest.mark.parametrize("draft", [False, True])
def test_a_head_that_the_key_before_signed_is_left(
    world: World, plan: ReleasePlan, tmp_path: Path, draft: bool
) -> None:
    """The environment's key was changed: what the old one signed is recorded, while it counts."""
    old, new = (keys.load(keys.make().encode()) for _ in range(2))
    both = (new.public, old.public)
    if draft:
        made = world.client().create_draft(TAG, name="Darkbloom 0.5.0", notes="")
        _documents(Workspace(tmp_path), old)
        head = tmp_path / log.HEAD_NAME
        world.client().upload(made, head, name=log.HEAD_NAME, reporter=Silent())
    else:
        _run(world, plan, tmp_path, key=old, trusted=both)
    stands = _bytes(world)[log.HEAD_NAME]
    with pytest.raises(errors.RemoteRefusedError, match="other bytes"):
        _run(world, plan, tmp_path, key=new, trusted=(new.public,))
    value = _run(world, plan, tmp_path, key=new, trusted=both)
    assert value.outcome == ("published" if draft else "already_published")
    assert _bytes(world)[log.HEAD_NAME] == stands
    recorded = {one.name: one.sha256 for one in value.assets}
    assert recorded[log.HEAD_NAME] == hashlib.sha256(stands).hexdigest()
