"""The heads on GitHub as anybody reads them: chosen, fetched with no token, never believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from release_tool import errors
from release_tool.progress import Silent
from release_tool.provenance import dsse, head_notes, log
from release_tool.rehearsal import faults, github
from release_tool.services import github_public, http_client
from release_tool.services.github_public import PublicReleases
from tests import github_world
from tests.github_world import POLICY, REPOSITORY, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with github_world.living(tmp_path / "github") as made:
        yield made


def _release(
    world: World, folder: Path, version: str, heads: dict[str, bytes], notes: str = ""
) -> None:
    world.store.push_tag(f"v{version}", "c" * 40)
    client = world.client()
    draft = client.create_draft(f"v{version}", name=version, notes=notes)
    for name, content in heads.items():
        path = folder / name
        path.write_bytes(content)
        client.upload(draft, path, name=name, reporter=Silent())
    client.publish(draft, name=version, notes=notes, latest=True)


def _asked(world: World, repository: str = REPOSITORY) -> PublicReleases:
    return PublicReleases(api_url=world.settings.api_url, repository=repository, policy=POLICY)


def _found(world: World) -> list[tuple[str, bytes]]:
    return [(str(one), one.content) for one in _asked(world).heads()]


def test_the_longest_and_the_newest_are_fetched(world: World, tmp_path: Path) -> None:
    """Of ten releases: what a rollback left, by its number, and the newest three's own."""
    for number in range(9):
        heads = {log.HEAD_NAME: f"{number}".encode(), "SHA256SUMS": b"s"}
        if number in (2, 4):
            heads |= {f"log.head.{number}.json": b"x", f"log.head.1{number}.json": b"y"}
        _release(world, tmp_path, f"0.5.{number}", heads)
    for number, one in enumerate(reversed(world.store.releases)):
        one.published = f"2026-05-14T10:00:0{number}Z"
    _release(world, tmp_path, "0.6.0", {"SHA256SUMS": b"s"})
    found = _found(world)
    assert found[0] == ("log.head.14.json of v0.5.4", b"y")
    assert found[1:] == [(f"log.head.json of v0.5.{one}", f"{one}".encode()) for one in (8, 7, 6)]


def test_a_head_in_notes_counts_as_one(world: World, tmp_path: Path) -> None:
    """As an immutable release has it, with the line ends that GitHub's form makes."""
    notes = "words\n" + head_notes.block("log.head.6.json", '{"a":6}')
    longer = head_notes.block("log.head.12.json", '{"a":12}').replace("\n", "\r\n")
    _release(world, tmp_path, "0.5.0", {log.HEAD_NAME: b"{}"}, notes + longer)
    assert _found(world) == [
        ("log.head.12.json of v0.5.0", b'{"a":12}'),
        ("log.head.json of v0.5.0", b"{}"),
    ]


def test_nobody_is_named_and_no_token_is_sent(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither to the interface nor to the storage, which would refuse it."""
    _release(world, tmp_path, "0.5.0", {log.HEAD_NAME: b"{}"})
    sent: list[str] = []
    stream = http_client.stream

    def watched(method: str, address: str, **more: object) -> object:
        headers = more.get("headers") or {}
        assert isinstance(headers, dict)
        sent.extend(name.lower() for name in headers)
        return stream(method, address, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(http_client, "stream", watched)
    assert _found(world) == [("log.head.json of v0.5.0", b"{}")]
    assert set(sent) == {"accept", "x-github-api-version"}
    assert world.store.asked(github.BEARER_LEAK) == []


def test_a_draft_and_a_broken_upload_are_no_witness(world: World, tmp_path: Path) -> None:
    """Nobody published the one, and the other is a placeholder."""
    _release(world, tmp_path, "0.5.0", {log.HEAD_NAME: b"{}"})
    world.store.releases[0].assets[0].state = "starter"
    world.client().create_draft("v0.6.0", name="", notes=head_notes.block("log.head.9.json", "{}"))
    assert _found(world) == []


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (faults.GITHUB_RATE_LIMITED, errors.RemoteRefusedError, "no more questions"),
        (faults.GITHUB_SECONDARY_LIMITED, errors.RemoteRefusedError, "no more questions"),
        (faults.GITHUB_REDIRECT, errors.RemoteRefusedError, "another name by now"),
        (faults.GITHUB_UNAVAILABLE, errors.TransientError, "the list of releases now"),
        (faults.GITHUB_HTML, errors.TransientError, "the list of releases now"),
        (faults.GITHUB_RESET, errors.TransientError, "no answer"),
        (faults.GITHUB_STORAGE_UNAVAILABLE, errors.TransientError, "does not hand out"),
        (faults.GITHUB_STORAGE_REDIRECT, errors.RemoteRefusedError, "does not hand out"),
        (faults.GITHUB_STORAGE_CUT_SHORT, errors.TransientError, "broke off"),
        (faults.GITHUB_TRUNCATED, errors.FormatError, "is not JSON"),
    ],
)
def test_what_goes_wrong_has_its_kind(
    world: World, tmp_path: Path, fault: str, kind: type[errors.ReleaseError], told: str
) -> None:
    """What passes is tried again, a limit is none that one waits for, and nonsense is told."""
    _release(world, tmp_path, "0.5.0", {log.HEAD_NAME: b"{}"})
    world.broken.set({fault: POLICY.attempts})
    with pytest.raises(kind, match=told):
        _asked(world).heads()
    world.broken.set({fault: 0})
    if kind is errors.TransientError:
        world.broken.set({fault: 1})
        assert len(_asked(world).heads()) == 1


def test_a_repository_that_nobody_sees_is_named(world: World) -> None:
    """A private one and none are the same to anybody."""
    with pytest.raises(errors.RemoteRefusedError, match="shows nobody such a repository") as caught:
        _asked(world, "octo-org/another").heads()
    assert caught.value.subject == "octo-org/another"


def test_a_head_that_is_too_large_is_none(world: World, tmp_path: Path) -> None:
    """It is not read to its end."""
    _release(world, tmp_path, "0.5.0", {log.HEAD_NAME: b"x" * (dsse.LIMIT_BYTES + 1)})
    with pytest.raises(errors.VerificationError, match="is larger than what belongs there"):
        _asked(world).heads()


_ROW = {"tag_name": "v1", "published_at": "2026", "draft": False, "assets": [], "body": None}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [1],
        [_ROW | {"assets": None}],
        [_ROW | {"assets": [1]}],
        [_ROW | {"tag_name": "a\nb"}],
        [_ROW | {"published_at": None}],
        [_ROW | {"assets": [{"name": log.HEAD_NAME, "state": "uploaded", "id": True}]}],
        [_ROW | {"assets": [{"name": log.HEAD_NAME, "state": "uploaded", "id": "../1"}]}],
    ],
)
def test_what_is_no_list_of_releases_is_refused(answer: object) -> None:
    """By one kind of error, whatever it is."""
    with pytest.raises(errors.FormatError):
        github_public.parse(json.dumps(answer).encode())


def test_a_release_without_notes_is_one() -> None:
    """GitHub says null for them."""
    (found,) = github_public.parse(json.dumps([_ROW, _ROW | {"draft": True}]).encode())
    assert (found.tag, found.assets, found.noted) == ("v1", (), ())
