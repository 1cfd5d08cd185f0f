"""GitHub's look-alike: the releases of one repository, as its public REST documentation says.

Three hosts, as in the original: the interface, the one that takes uploads, and the storage that
downloads are redirected to. It keeps the awkward sides: a draft is not found by its tag and one
tag may have several drafts, a broken upload leaves a `starter` that blocks its name, a missing
permission looks like a missing repository, an immutable release takes no further asset.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from werkzeug.exceptions import ClientDisconnected
from werkzeug.wrappers import Request, Response

from release_tool.rehearsal import faults, servers
from release_tool.rehearsal.github_actions import Actions
from release_tool.rehearsal.github_issues import Issues
from release_tool.rehearsal.github_store import (
    STARTER,
    UPLOADED,
    Asset,
    GitHubStore,
    Release,
    now,
)
from release_tool.rehearsal.refusals import RefusedError, application

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

BEARER_LEAK = "bearer leak"
Right = Literal["write", "read", "none"]
_DOCUMENTATION = "https://docs.github.com/rest"
_BODY_BYTES = 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_ASSET_BYTES = 2 * 1024**3
_PAGE = 30
_NOTES_CHARACTERS = 125_000
_LEFT_TO_IMMUTABLE = frozenset({"name", "body", "make_latest"})
_LARGEST_PAGE = 100
# GitHub renames what it does not like in an asset's name.
_PLAIN_NAME = re.compile(r"[^A-Za-z0-9._+-]+")


@dataclass(kw_only=True)
class Settings:
    """The repository, who may do what, and where its hosts are."""

    repository: str
    rights: Mapping[str, Right] = field(repr=False)
    """What each token may do; another token is a bad one."""
    immutable: bool = False
    """Whether releases become immutable when they are published."""
    api_url: str = ""
    uploads_url: str = ""
    storage_url: str = ""


class GitHub:
    """One repository on three hosts, each a WSGI application.

    Args:
        store: what it keeps.
        settings: whose it is; the addresses are set once the ports are known.
        broken: faults on demand.
    """

    def __init__(self, store: GitHubStore, settings: Settings, *, broken: faults.Faults) -> None:
        self._store = store
        self._settings = settings
        self._broken = broken
        self._signed: dict[str, int] = {}
        self._issues = Issues(store, settings.repository, paged=self._paged)
        self._actions = Actions(store, settings.repository)
        self.api: WSGIApplication = application(self._api)
        self.uploads: WSGIApplication = application(self._uploads)
        self.storage: WSGIApplication = application(self._storage)

    # The interface.

    def _api(self, request: Request) -> Response:
        right = self._right(request)
        if trouble := self._faulty(request):
            return trouble
        path = request.path.removeprefix(f"/repos/{self._settings.repository}")
        if path == request.path or right == "none":
            raise RefusedError(_said(404, "Not Found"))
        more = (*self._issues.routes(), *self._actions.routes())
        for method, pattern, handler in (*self._routes(), *more):
            found = re.fullmatch(pattern, path)
            if found and method == request.method:
                if method != "GET":
                    self._require_write(right)
                return handler(request, right, *found.groups())
        raise RefusedError(_said(404, "Not Found"))

    def _routes(self) -> list[tuple[str, str, Callable[..., Response]]]:
        return [
            ("POST", "/releases", self._create),
            ("GET", "/releases", self._list),
            ("GET", "/releases/tags/(.+)", self._by_tag),
            ("GET", "/releases/latest", self._latest),
            ("GET", "/releases/([0-9]+)", self._get),
            ("PATCH", "/releases/([0-9]+)", self._change),
            ("GET", "/releases/([0-9]+)/assets", self._list_assets),
            ("GET", "/releases/assets/([0-9]+)", self._get_asset),
            ("DELETE", "/releases/assets/([0-9]+)", self._delete_asset),
            ("GET", "/commits/tags/(.+)", self._commit),
        ]

    def _right(self, request: Request) -> Right:
        if not request.headers.get("User-Agent"):
            raise RefusedError(
                Response(
                    "Request forbidden by administrative rules.", 403, content_type="text/plain"
                )
            )
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not token:
            return "read"
        if scheme.lower() in ("bearer", "token"):
            for known, right in self._settings.rights.items():
                if hmac.compare_digest(known.encode(), token.encode()):
                    return right
        raise RefusedError(_said(401, "Bad credentials"))

    def _require_write(self, right: Right) -> None:
        if right != "write":
            raise RefusedError(_said(403, "Resource not accessible by integration"))

    def _faulty(self, request: Request) -> Response | None:
        take = self._broken.take
        if take(faults.GITHUB_RESET):
            servers.drop_connection(request.environ)
            return Response("")
        if take(faults.GITHUB_UNAVAILABLE):
            return _said(503, "Service unavailable")
        if take(faults.GITHUB_HTML):
            page = "<html><body>We had issues producing the response to your request.</body></html>"
            return Response(page, 502, content_type="text/html")
        if take(faults.GITHUB_RATE_LIMITED):
            limited = _said(403, "API rate limit exceeded for installation.")
            limited.headers["x-ratelimit-remaining"] = "0"
            limited.headers["x-ratelimit-reset"] = str(int(time.time()) + 1)
            return limited
        if take(faults.GITHUB_SECONDARY_LIMITED):
            limited = _said(403, "You have exceeded a secondary rate limit.")
            limited.headers["retry-after"] = "1"
            return limited
        if take(faults.GITHUB_TRUNCATED):
            return Response('[{"id": 1, "tag_na', 200, content_type="application/json")
        if take(faults.GITHUB_REDIRECT):
            elsewhere = {"Location": f"{self._settings.storage_url}{request.path}"}
            return Response("", 307, elsewhere)
        return None

    def _create(self, request: Request, _: Right) -> Response:
        given = _json_body(request)
        tag = given.get("tag_name")
        if not isinstance(tag, str) or not tag:
            raise RefusedError(_said(422, 'Invalid request.\n\n"tag_name" wasn\'t supplied.'))
        draft = given.get("draft") is True
        with self._store.changing():
            release = Release(
                id=self._store.new_id(),
                tag=tag,
                name=str(given.get("name") or tag),
                body=str(given.get("body") or ""),
                target=str(given.get("target_commitish") or "main"),
                draft=True,
                prerelease=given.get("prerelease") is True,
                created=now(),
            )
            if not draft:
                self._publish(release)
            self._store.releases.insert(0, release)
            self._store.journal.append(("create", tag))
        self._lose(request, faults.GITHUB_DROP_AFTER_CREATE)
        return _json(201, self._shown(release))

    def _publish(self, release: Release) -> None:
        for other in self._store.releases:
            if other.tag == release.tag and not other.draft and other is not release:
                raise RefusedError(_invalid("Release", "already_exists", "tag_name"))
        if release.tag in self._store.used_by_immutable:
            text = "tag_name was used by an immutable release"
            raise RefusedError(_invalid("Release", "custom", "tag_name", text))
        if release.tag not in self._store.tags():
            # GitHub makes the tag, on whatever the target names.
            self._store.push_tag(release.tag, release.target)
            self._store.journal.append(("tag made", release.tag))
        release.draft = False
        release.published = now()
        if self._settings.immutable:
            release.immutable = True
            self._store.used_by_immutable.append(release.tag)

    def _list(self, request: Request, right: Right) -> Response:
        with self._store.lock:
            visible = [one for one in self._store.releases if right == "write" or not one.draft]
            return self._paged(request, [self._shown(one) for one in visible])

    def _paged(self, request: Request, rows: list[dict[str, object]]) -> Response:
        size = min(max(request.args.get("per_page", _PAGE, int), 1), _LARGEST_PAGE)
        page = max(request.args.get("page", 1, int), 1)
        response = _json(200, rows[(page - 1) * size : page * size])
        if page * size < len(rows):
            base = f"{self._settings.api_url}{request.path}"
            following = f"<{base}?per_page={size}&page={page + 1}>"
            response.headers["Link"] = f'{following}; rel="next"'
        return response

    def _by_tag(self, request: Request, right: Right, tag: str) -> Response:
        del request, right
        with self._store.lock:
            for release in self._store.releases:
                if release.tag == tag and not release.draft:
                    return _json(200, self._shown(release))
        return _said(404, "Not Found")

    def _get(self, request: Request, right: Right, number: str) -> Response:
        del request
        return _json(200, self._shown(self._visible(number, right)))

    def _visible(self, number: str, right: Right) -> Release:
        release = self._store.release(int(number))
        if release is None or (release.draft and right != "write"):
            raise RefusedError(_said(404, "Not Found"))
        return release

    def _change(self, request: Request, right: Right, number: str) -> Response:
        given = _json_body(request)
        with self._store.changing():
            release = self._visible(number, right)
            self._check_change(release, given)
            # Only what is published newly becomes the latest unasked.
            latest = "false"
            if release.draft and given.get("draft") is False:
                self._publish(release)
                self._store.journal.append(("publish", release.tag))
                latest = "true"
            else:
                self._store.journal.append(("change", f"{release.tag} {' '.join(sorted(given))}"))
            release.name = str(given.get("name", release.name))
            release.body = str(given.get("body", release.body))
            release.prerelease = given.get("prerelease", release.prerelease) is True
            if release.prerelease or given.get("make_latest") == "false":
                release.latest = False
            elif not release.draft and given.get("make_latest", latest) == "true":
                for other in self._store.releases:
                    other.latest = other is release
        self._lose(request, faults.GITHUB_DROP_AFTER_PUBLISH)
        return _json(200, self._shown(release))

    def _check_change(self, release: Release, given: Mapping[str, object]) -> None:
        if len(str(given.get("body") or "")) > _NOTES_CHARACTERS:
            raise RefusedError(_invalid("Release", "custom", "body", "body is too long"))
        if release.immutable and (refused := sorted(given.keys() - _LEFT_TO_IMMUTABLE)):
            # Stricter than what is documented, so that nobody relies on more than that.
            text = f"{refused[0]} cannot be changed when the release is immutable."
            raise RefusedError(_said(422, text))
        hidden = release.draft and given.get("draft") is not False
        if given.get("make_latest") == "true" and (
            hidden or given.get("prerelease", release.prerelease) is True
        ):
            text = "Latest release cannot be draft or prerelease."
            raise RefusedError(_invalid("Release", "custom", "", text))

    def _latest(self, request: Request, right: Right) -> Response:
        """The one that was made so, else the newest; neither a draft nor a prerelease."""
        del request, right
        with self._store.lock:
            shown = [one for one in self._store.releases if not one.draft and not one.prerelease]
            shown.sort(key=lambda one: one.latest, reverse=True)
            return _json(200, self._shown(shown[0])) if shown else _said(404, "Not Found")

    def _list_assets(self, request: Request, right: Right, number: str) -> Response:
        with self._store.lock:
            found = self._visible(number, right).assets
            return self._paged(request, [self._shown_asset(asset) for asset in found])

    def _get_asset(self, request: Request, right: Right, number: str) -> Response:
        release, asset = self._found_asset(number, right)
        del release
        if request.headers.get("Accept") != "application/octet-stream":
            return _json(200, self._shown_asset(asset))
        if asset.state != UPLOADED:
            return _said(404, "Not Found")
        signature = secrets.token_hex(16)
        self._signed[signature] = asset.id
        place = f"{self._settings.storage_url}/production/{asset.id}?sig={signature}"
        return Response("", 302, {"Location": place}, content_type="text/html;charset=utf-8")

    def _found_asset(self, number: str, right: Right) -> tuple[Release, Asset]:
        found = self._store.asset(int(number))
        if found is None or (found[0].draft and right != "write"):
            raise RefusedError(_said(404, "Not Found"))
        return found

    def _delete_asset(self, request: Request, right: Right, number: str) -> Response:
        del request
        with self._store.changing():
            release, asset = self._found_asset(number, right)
            if release.immutable:
                raise RefusedError(_said(422, "Cannot delete assets from an immutable release."))
            release.assets.remove(asset)
            self._store.place(asset).unlink(missing_ok=True)
            self._store.journal.append(("delete", f"{asset.name} {asset.state}"))
        return Response("", 204)

    def _commit(self, request: Request, right: Right, tag: str) -> Response:
        del right
        commit = self._store.tags().get(tag)
        if commit is None:
            return _said(422, f"No commit found for SHA: tags/{tag}")
        if request.headers.get("Accept") == "application/vnd.github.sha":
            return Response(commit, 200, content_type="application/vnd.github.sha; charset=utf-8")
        return _json(200, {"sha": commit})

    # The host that takes uploads.

    def _uploads(self, request: Request) -> Response:
        right = self._right(request)
        place = f"/repos/{re.escape(self._settings.repository)}/releases/([0-9]+)/assets"
        found = re.fullmatch(place, request.path)
        if found is None or request.method != "POST" or right == "none":
            raise RefusedError(_said(404, "Not Found"))
        self._require_write(right)
        if self._broken.take(faults.GITHUB_UPLOAD_UNAVAILABLE):
            return _said(503, "Service unavailable")
        release, asset = self._begin(request, found.group(1), right)
        if self._broken.take(faults.GITHUB_UPLOAD_BAD_GATEWAY):
            return Response("<html>502 Bad Gateway</html>", 502, content_type="text/html")
        if self._broken.take(faults.GITHUB_UPLOAD_CUT):
            request.stream.read(1)
            servers.drop_connection(request.environ)
            return Response("")
        self._receive(request, asset)
        self._store.note("upload", f"{release.tag} {asset.name}")
        self._lose(request, faults.GITHUB_DROP_AFTER_UPLOAD)
        return _json(201, self._shown_asset(asset))

    def _begin(self, request: Request, number: str, right: Right) -> tuple[Release, Asset]:
        length, kind = request.content_length, request.content_type
        if length is None or not kind:
            raise RefusedError(_said(400, "Bad Content-Length or Content-Type"))
        if length > _ASSET_BYTES:
            raise RefusedError(_invalid("ReleaseAsset", "custom", "size", "size must be less"))
        name = _PLAIN_NAME.sub(".", request.args.get("name", "")).strip(".")
        with self._store.changing():
            release = self._visible(number, right)
            if release.immutable:
                text = "Cannot upload assets to an immutable release."
                raise RefusedError(_said(422, text))
            if not name:
                raise RefusedError(_invalid("ReleaseAsset", "missing_field", "name"))
            if any(asset.name == name for asset in release.assets):
                raise RefusedError(_invalid("ReleaseAsset", "already_exists", "name"))
            asset = Asset(id=self._store.new_id(), name=name, content_type=kind, created=now())
            release.assets.append(asset)
        return release, asset

    def _receive(self, request: Request, asset: Asset) -> None:
        digest, size = hashlib.sha256(), 0
        try:
            with self._store.place(asset).open("wb") as target:
                while chunk := request.stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    target.write(chunk)
        except (ClientDisconnected, OSError):
            size = -1
        if size != request.content_length:
            raise RefusedError(_said(400, "Bad Size"))
        with self._store.changing():
            asset.state, asset.size = UPLOADED, size
            asset.digest = f"sha256:{digest.hexdigest()}"

    # The storage.

    def _storage(self, request: Request) -> Response:
        if "Authorization" in request.headers:
            self._store.note(BEARER_LEAK, request.path)
            text = "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed"
            return Response(f"{text}</Message></Error>", 400, content_type="application/xml")
        number = self._signed.get(request.args.get("sig", ""))
        found = self._store.asset(number) if number is not None else None
        if found is None or request.method != "GET":
            return Response("<Error><Code>AccessDenied</Code></Error>", 403)
        if self._broken.take(faults.GITHUB_STORAGE_UNAVAILABLE):
            return Response("<Error><Code>SlowDown</Code></Error>", 503)
        self._store.note("download", found[1].name)
        content = self._store.place(found[1]).read_bytes()
        if self._broken.take(faults.GITHUB_STORAGE_OTHER_BYTES):
            content = bytes(mark ^ 1 for mark in content[:1]) + content[1:]
        if self._broken.take(faults.GITHUB_STORAGE_CUT_SHORT):
            # The length of the whole, and half of it.
            half = Response(content[: len(content) // 2], 200)
            half.automatically_set_content_length = False
            half.headers["Content-Length"] = str(len(content))
            half.headers["Connection"] = "close"
            return half
        if self._broken.take(faults.GITHUB_STORAGE_REDIRECT):
            return Response("", 302, {"Location": self._settings.api_url})
        return Response(content, 200, content_type="application/octet-stream")

    def _lose(self, request: Request, fault: str) -> None:
        if self._broken.take(fault):
            servers.drop_connection(request.environ)

    # How things are shown.

    def _shown(self, release: Release) -> dict[str, object]:
        settings = self._settings
        base = f"/repos/{settings.repository}/releases/{release.id}"
        page = f"https://github.com/{settings.repository}/releases/tag"
        # A draft is shown under a name that no tag has.
        shown_tag = f"untagged-{release.id:020x}" if release.draft else release.tag
        return {
            "url": f"{settings.api_url}{base}",
            "assets_url": f"{settings.api_url}{base}/assets",
            "upload_url": f"{settings.uploads_url}{base}/assets{{?name,label}}",
            "html_url": f"{page}/{shown_tag}",
            "id": release.id,
            "tag_name": release.tag,
            "target_commitish": release.target,
            "name": release.name,
            "body": release.body,
            "draft": release.draft,
            "immutable": release.immutable,
            "prerelease": release.prerelease,
            "created_at": release.created,
            "published_at": release.published,
            "assets": [self._shown_asset(asset) for asset in release.assets],
        }

    def _shown_asset(self, asset: Asset) -> dict[str, object]:
        base = f"{self._settings.api_url}/repos/{self._settings.repository}/releases/assets"
        return {
            "url": f"{base}/{asset.id}",
            "id": asset.id,
            "name": asset.name,
            "label": "",
            "state": asset.state,
            "content_type": asset.content_type,
            "size": asset.size if asset.state != STARTER else 0,
            "digest": asset.digest,
            "download_count": 0,
            "created_at": asset.created,
            "updated_at": asset.created,
        }


def _json_body(request: Request) -> dict[str, object]:
    body = request.stream.read(_BODY_BYTES + 1)
    try:
        found = json.loads(body) if len(body) <= _BODY_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RefusedError(_said(400, "Problems parsing JSON"))
    return found


def _json(status: int, told: object) -> Response:
    return Response(json.dumps(told), status, content_type="application/json; charset=utf-8")


def _said(status: int, message: str) -> Response:
    told = {"message": message, "documentation_url": _DOCUMENTATION, "status": str(status)}
    return _json(status, told)


def _invalid(resource: str, code: str, name: str, message: str = "") -> Response:
    fault = {"resource": resource, "code": code, "field": name}
    if message:
        fault["message"] = message
    told = {"message": "Validation Failed", "errors": [fault], "documentation_url": _DOCUMENTATION}
    return _json(422, told)
