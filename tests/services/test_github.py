"""GitHub's client against the look-alike: who sees the token, what each answer means."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release_tool import errors
from release_tool.progress import Silent
from release_tool.rehearsal import faults
from release_tool.rehearsal import github as look_alike
from release_tool.services import github_errors, retries
from release_tool.services.github import Asset, GitHub
from release_tool.services.http_client import Answer
from tests import github_world, scripted_server
from tests.github_world import READ, REPOSITORY, WRITE, World
from tests.scripted_server import Reply

TAG = "v0.5.0"
COMMIT = "3f2a91c" + "0" * 33
CONTENT = b"an archive\n" * 30_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The look-alike with one pushed tag."""
    with github_world.living(tmp_path / "github") as made:
        made.store.push_tag(TAG, COMMIT)
        yield made


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A file to upload."""
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(CONTENT)
    return path


def _uploaded(world: World, content: Path) -> Asset:
    client = world.client()
    draft = client.create_draft(TAG, name="0.5.0", notes="notes")
    return client.upload(draft, content, name=content.name, reporter=Silent())


def test_a_release_is_drafted_filled_read_back_and_published(world: World, content: Path) -> None:
    """The whole way; the digests of the upload, of GitHub and of the download are one."""
    client = world.client()
    draft = client.create_draft(TAG, name="0.5.0", notes="first")
    asset = client.upload(draft, content, name=content.name, reporter=Silent())
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert (asset.state, asset.size, asset.sha256) == ("uploaded", len(CONTENT), digest)
    served = client.read_back(asset, limit_bytes=len(CONTENT), reporter=Silent())
    assert (served.sha256, served.size) == (digest, len(CONTENT))
    assert client.published(TAG) is None
    published = client.publish(draft, name="0.5.0", notes="final", latest=True)
    found = client.published(TAG)
    assert found == published
    assert found.assets == (asset,)
    assert not found.draft
    assert world.store.release(draft.id).body == "final"  # type: ignore[union-attr]
    assert world.store.asked("tag made") == []


def test_a_draft_is_found_by_listing_and_not_by_its_tag(world: World) -> None:
    """On the second page too; and without the right to write GitHub shows none."""
    client = world.client()
    draft = client.create_draft(TAG, name="0.5.0", notes="")
    for number in range(35):
        client.create_draft(f"v9.9.{number}", name="", notes="")
    assert client.published(TAG) is None
    assert [found.id for found in client.drafts(TAG)] == [draft.id]
    assert world.client(READ).drafts(TAG) == ()


def test_the_token_never_reaches_the_storage(world: World, content: Path) -> None:
    """Downloads are redirected to another host, which would note an Authorization header."""
    asset = _uploaded(world, content)
    world.client().read_back(asset, limit_bytes=len(CONTENT), reporter=Silent())
    assert world.store.asked("download") == [content.name]
    assert world.store.asked(look_alike.BEARER_LEAK) == []


def test_the_token_never_follows_a_redirect_of_the_interface(world: World) -> None:
    """307 is refused by name, and its target sees no request."""
    for ask in (world.client().check, lambda: world.client().drafts(TAG)):
        world.broken.set({faults.GITHUB_REDIRECT: 1})
        with pytest.raises(errors.RemoteRefusedError, match="redirect"):
            ask()
    assert world.store.asked(look_alike.BEARER_LEAK) == []


def test_the_token_never_goes_to_a_place_for_uploads_out_of_an_answer(
    world: World, content: Path
) -> None:
    """What GitHub calls its upload address is compared; another host sees no request."""
    draft = world.client().create_draft(TAG, name="0.5.0", notes="")
    with scripted_server.running() as other:
        other.says(Reply())
        world.settings.uploads_url, kept = other.url, world.settings.uploads_url
        liar = world.client().drafts(TAG)[0]
        world.settings.uploads_url = kept
        with pytest.raises(errors.VerificationError, match="another place"):
            world.client().upload(liar, content, name="a", reporter=Silent())
        assert other.requests == []
    assert world.client().assets(draft) == ()


def test_the_token_never_travels_in_the_clear() -> None:
    """Plain http is refused for any host but this one, before the token is asked for."""

    def never() -> str:
        message = "the token was revealed"
        raise AssertionError(message)

    for api, uploads in (
        ("http://github.example", "https://u.example"),
        ("https://api.example", "http://u.example"),
    ):
        with pytest.raises(errors.UsageError, match="clear"):
            GitHub(api_url=api, uploads_url=uploads, repository=REPOSITORY, token=never)


def test_no_error_shows_the_token() -> None:
    """Not even where what stands before GitHub echoes the whole request."""
    with scripted_server.running() as server:
        server.says(Reply(400, f"you sent Bearer {WRITE}".encode(), {}))
        client = GitHub(
            api_url=server.url, uploads_url=server.url, repository=REPOSITORY, token=lambda: WRITE
        )
        with pytest.raises(errors.RemoteRefusedError) as caught:
            client.drafts(TAG)
    assert "you sent" in "".join(caught.value.lines())
    assert WRITE not in "".join(caught.value.lines())
    assert WRITE not in repr(client)


@pytest.mark.parametrize("token", ["", "two words", "ends\n", "ä"])
def test_what_is_no_token_is_never_sent(world: World, token: str) -> None:
    """A header of another shape is refused here, and the text is not shown."""
    with pytest.raises(errors.CredentialError) as caught:
        world.client(token).check()
    assert not token.strip() or token.strip() not in "".join(caught.value.lines())


def test_the_probe_makes_nothing_and_tells_whether_the_token_may_write(world: World) -> None:
    """422 for a token that may; each other right has its own error of a credential."""
    world.client().check()
    for token, hint in (
        (READ, "contents: write"),
        (github_world.NOBODY, "github_repository"),
        ("ghs_unknown", "GITHUB_TOKEN"),
    ):
        with pytest.raises(errors.CredentialError) as caught:
            world.client(token).check()
        assert hint in caught.value.hint
    with pytest.raises(errors.CredentialError, match="refused"):
        world.client(repository="octo-org/other").check()
    assert world.store.releases == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.GITHUB_RESET, errors.TransientError),
        (faults.GITHUB_UNAVAILABLE, errors.TransientError),
        (faults.GITHUB_HTML, errors.TransientError),
        (faults.GITHUB_TRUNCATED, errors.TransientError),
        (faults.GITHUB_RATE_LIMITED, retries.BusyError),
        (faults.GITHUB_SECONDARY_LIMITED, retries.BusyError),
    ],
)
def test_what_passes_is_told_apart(
    world: World, fault: str, kind: type[errors.ReleaseError]
) -> None:
    """Faults in passing are transient, and the limits say how long to wait."""
    world.broken.set({fault: 1})
    with pytest.raises(kind) as caught:
        world.client().drafts(TAG)
    assert caught.value.exit_code == 5
    if isinstance(caught.value, retries.BusyError):
        assert 0 < caught.value.wait_seconds <= 1
    assert world.client().drafts(TAG) == ()


def test_a_limit_of_an_hour_is_pending_and_names_the_time() -> None:
    """A run does not sleep for an hour; it says when to come back."""
    answer = Answer(
        status=403,
        headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800003600"},
        body=b'{"message": "API rate limit exceeded"}',
    )
    problem = github_errors.refusal(answer, "the list", repository="o/r", now=1_800_000_000.0)
    assert isinstance(problem, errors.PendingError)
    assert "2027-01-15 09:00 UTC" in problem.hint


@settings(max_examples=100)
@given(
    status=st.integers(300, 599),
    body=st.one_of(st.binary(max_size=200), st.sampled_from([b"[]", b"[" * 5000, b'{"errors":1}'])),
    after=st.text(max_size=20),
)
def test_any_refusal_becomes_an_error_of_ours(status: int, body: bytes, after: str) -> None:
    """Whatever the answer holds, it ends in one error with a next step and printable lines."""
    answer = Answer(status=status, headers={"retry-after": after}, body=body)
    problem = github_errors.refusal(answer, "x", repository="o/r", now=0.0)
    assert problem.hint
    assert problem.observed.isprintable()


@given(st.dictionaries(st.sampled_from(["id", "tag_name", "assets", "name", "state"]), st.none()))
@settings(max_examples=20)
def test_an_object_of_another_shape_is_refused(row: dict[str, None]) -> None:
    """A release that lacks what makes it one is no release."""
    client = GitHub(
        api_url="https://a.example",
        uploads_url="https://u.example",
        repository=REPOSITORY,
        token=lambda: WRITE,
    )
    with pytest.raises(errors.VerificationError, match="cannot be read"):
        client._release(row)


def test_a_tag_leads_to_its_commit(world: World) -> None:
    """None where nobody pushed it; nothing is made."""
    assert world.client().commit_of(TAG) == COMMIT
    assert world.client().commit_of("v9.9.9") is None


def test_a_placeholder_blocks_its_name_until_it_is_discarded(world: World, content: Path) -> None:
    """GitHub answers already_exists beside it; only such an asset is ever deleted."""
    client = world.client()
    draft = client.create_draft(TAG, name="0.5.0", notes="")
    world.broken.set({faults.GITHUB_UPLOAD_BAD_GATEWAY: 1})
    with pytest.raises(errors.TransientError):
        client.upload(draft, content, name=content.name, reporter=Silent())
    (left,) = client.assets(draft)
    assert (left.state, left.size, left.sha256) == ("starter", 0, "")
    with pytest.raises(errors.RemoteRefusedError) as caught:
        client.upload(draft, content, name=content.name, reporter=Silent())
    assert "already_exists" in caught.value.observed
    client.discard(left)
    asset = client.upload(draft, content, name=content.name, reporter=Silent())
    with pytest.raises(ValueError, match="only a placeholder"):
        client.discard(asset)
    assert world.store.asked("delete") == [f"{content.name} starter"]


def test_an_immutable_release_takes_no_further_asset(tmp_path: Path, content: Path) -> None:
    """422 in GitHub's words, with what can still be done."""
    with github_world.living(tmp_path / "github", immutable=True) as world:
        world.store.push_tag(TAG, COMMIT)
        client = world.client()
        draft = client.create_draft(TAG, name="0.5.0", notes="")
        published = client.publish(draft, name="0.5.0", notes="", latest=True)
        assert published.immutable
        with pytest.raises(errors.RemoteRefusedError, match="upload") as caught:
            client.upload(published, content, name=content.name, reporter=Silent())
        assert "immutable" in caught.value.observed
        assert "next version" in caught.value.hint


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.GITHUB_STORAGE_UNAVAILABLE, errors.TransientError),
        (faults.GITHUB_STORAGE_CUT_SHORT, errors.TransientError),
        (faults.GITHUB_STORAGE_REDIRECT, errors.RemoteRefusedError),
    ],
)
def test_a_download_that_fails_tells_the_host_and_not_the_signature(
    world: World, content: Path, fault: str, kind: type[errors.ReleaseError]
) -> None:
    """A presigned address opens the asset to whoever reads it, so no error carries one."""
    asset = _uploaded(world, content)
    world.broken.set({fault: 1})
    with pytest.raises(kind) as caught:
        world.client().read_back(asset, limit_bytes=len(CONTENT), reporter=Silent())
    assert caught.value.subject == "127.0.0.1"
    assert "sig=" not in "".join(caught.value.lines())


def test_a_download_is_bounded_by_what_was_uploaded(world: World, content: Path) -> None:
    """A body that goes on is cut off and told."""
    asset = _uploaded(world, content)
    with pytest.raises(errors.VerificationError, match="larger"):
        world.client().read_back(asset, limit_bytes=1000, reporter=Silent())


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://storage.example/a",
        "https://user@storage.example/",
        "ftp://x/",
        "https://[",
        "/a",
    ],
)
def test_a_redirect_to_anywhere_else_is_not_followed(location: str) -> None:
    """Https only, without credentials; this machine only where the interface is on it."""
    with scripted_server.running() as server:
        server.says(Reply(302, b"", {"Location": location}))
        client = GitHub(
            api_url=server.url, uploads_url=server.url, repository=REPOSITORY, token=lambda: WRITE
        )
        asset = Asset(id=1, name="a", state="uploaded", size=1, sha256="")
        with pytest.raises(errors.VerificationError, match="fetched from"):
            client.read_back(asset, limit_bytes=1, reporter=Silent())
        assert len(server.requests) == 1
