"""GitHub's look-alike, asked with the standard library: it is as awkward as its documentation."""

from __future__ import annotations

import hashlib
import http.client
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from release_tool.rehearsal import github
from release_tool.rehearsal.github_store import GitHubStore
from tests import github_world
from tests.github_world import READ, REPOSITORY, WRITE, World

RELEASES = f"/repos/{REPOSITORY}/releases"
COMMIT = "3f2a91c" + "0" * 33


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The look-alike, where releases become immutable."""
    with github_world.living(tmp_path, immutable=True) as made:
        made.store.push_tag("v1.0.0", COMMIT)
        yield made


def ask(
    method: str,
    address: str,
    body: bytes | None = None,
    *,
    token: str = WRITE,
    **headers: str,
) -> tuple[int, Mapping[str, str], bytes]:
    """One request, as it is."""
    parts = urllib.parse.urlsplit(address)
    sent = {"User-Agent": "test", "Authorization": f"Bearer {token}"} if token else {}
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent | given)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def made(world: World, **fields: object) -> dict[str, Any]:
    """A release as it is answered."""
    told = json.dumps({"tag_name": "v1.0.0", "draft": True} | fields).encode()
    status, _, body = ask("POST", world.settings.api_url + RELEASES, told)
    assert status == 201, body
    found: dict[str, Any] = json.loads(body)
    return found


def filled(
    release: Mapping[str, str], name: str, content: bytes = b"x"
) -> tuple[int, dict[str, Any]]:
    """The answer to an upload by the address that the release names."""
    place, _, template = release["upload_url"].partition("{")
    assert template == "?name,label}"
    query = urllib.parse.urlencode({"name": name})
    status, _, body = ask("POST", f"{place}?{query}", content, Content_Type="application/gzip")
    return status, json.loads(body)


def test_a_draft_has_no_tag_and_its_tag_may_have_several(world: World) -> None:
    """Only a publication meets the rule that a tag has one release."""
    first, second = made(world), made(world)
    api = world.settings.api_url
    assert ask("GET", f"{api}{RELEASES}/tags/v1.0.0")[0] == 404
    listed = json.loads(ask("GET", api + RELEASES)[2])
    assert {row["id"] for row in listed} == {first["id"], second["id"]}
    assert json.loads(ask("GET", api + RELEASES, token=READ)[2]) == []
    publish = json.dumps({"draft": False}).encode()
    assert ask("PATCH", f"{api}{RELEASES}/{first['id']}", publish)[0] == 200
    status, _, body = ask("PATCH", f"{api}{RELEASES}/{second['id']}", publish)
    assert (status, json.loads(body)["errors"]) == (
        422,
        [{"resource": "Release", "code": "already_exists", "field": "tag_name"}],
    )
    assert json.loads(ask("GET", f"{api}{RELEASES}/tags/v1.0.0")[2])["immutable"] is True


def test_lists_come_in_pages_with_a_link(world: World) -> None:
    """Thirty by default, the newest first, and the address of what follows."""
    for number in range(31):
        made(world, tag_name=f"v2.0.{number}")
    status, headers, body = ask("GET", world.settings.api_url + RELEASES)
    assert (status, len(json.loads(body))) == (200, 30)
    assert json.loads(body)[0]["tag_name"] == "v2.0.30"
    following = headers["link"].partition(">")[0].removeprefix("<")
    assert [row["tag_name"] for row in json.loads(ask("GET", following)[2])] == ["v2.0.0"]


def test_publishing_makes_a_tag_that_is_missing(world: World) -> None:
    """On whatever the target names: the trap of a release that is made on a branch."""
    release = made(world, tag_name="v9.9.9")
    assert "v9.9.9" not in world.store.tags()
    address = f"{world.settings.api_url}{RELEASES}/{release['id']}"
    assert ask("PATCH", address, b'{"draft": false}')[0] == 200
    assert world.store.tags()["v9.9.9"] == "main"


def test_an_asset_is_uploaded_once_renamed_and_digested(world: World) -> None:
    """A second of the same name is already_exists; odd characters become dots."""
    release = made(world)
    status, asset = filled(release, "a b&c.gz", b"content")
    assert (status, asset["name"], asset["state"], asset["size"]) == (
        201,
        "a.b.c.gz",
        "uploaded",
        7,
    )
    assert asset["digest"] == f"sha256:{hashlib.sha256(b'content').hexdigest()}"
    status, told = filled(release, "a b&c.gz", b"other")
    assert (status, told["errors"][0]["code"]) == (422, "already_exists")
    assert ask("DELETE", asset["url"])[0] == 204
    assert filled(release, "a b&c.gz", b"other")[0] == 201


def test_an_immutable_release_is_closed(world: World) -> None:
    """No asset comes, none goes, and its tag is used for ever."""
    release = made(world)
    _, asset = filled(release, "a.gz")
    address = f"{world.settings.api_url}{RELEASES}/{release['id']}"
    assert ask("PATCH", address, b'{"draft": false}')[0] == 200
    status, told = filled(release, "b.gz")
    assert (status, told["message"]) == (422, "Cannot upload assets to an immutable release.")
    assert ask("DELETE", asset["url"])[0] == 422


def test_a_download_is_redirected_to_where_no_token_may_go(world: World) -> None:
    """302 to a signed address of another host, which refuses an Authorization header."""
    _, asset = filled(made(world), "a.gz", b"content")
    assert json.loads(ask("GET", asset["url"])[2])["name"] == "a.gz"
    status, headers, _ = ask("GET", asset["url"], Accept="application/octet-stream")
    assert status == 302
    place = headers["location"]
    assert place.startswith(world.settings.storage_url)
    assert ask("GET", place, token="")[::2] == (200, b"content")
    assert ask("GET", place)[0] == 400
    assert world.store.asked(github.BEARER_LEAK)
    assert ask("GET", place.partition("?")[0], token="")[0] == 403


@pytest.mark.parametrize(
    ("token", "reading", "writing"),
    [(READ, 200, 403), (github_world.NOBODY, 404, 404), ("ghs_other", 401, 401), (WRITE, 200, 422)],
)
def test_a_right_that_lacks_is_refused_in_githubs_ways(
    world: World, token: str, reading: int, writing: int
) -> None:
    """A bad token is 401, a missing right 403, a repository that may not be seen 404."""
    address = world.settings.api_url + RELEASES
    assert ask("GET", address, token=token)[0] == reading
    assert ask("POST", address, b"{}", token=token)[0] == writing


def test_what_it_keeps_comes_back(world: World, tmp_path: Path) -> None:
    """Another process finds releases, assets, tags and journal in the folder."""
    filled(made(world), "a.gz", b"content")
    again = GitHubStore(tmp_path)
    assert again.releases == world.store.releases
    assert again.journal == world.store.journal
    assert again.tags() == {"v1.0.0": COMMIT}
    assert again.place(again.releases[0].assets[0]).read_bytes() == b"content"
