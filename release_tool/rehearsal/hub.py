"""The model hub's look-alike: models by commit, on two hosts, as the hub's public client sees it.

It keeps the awkward sides: small files lie behind a redirect on the same host, large ones in a
store elsewhere, under an address that ends; a model that is not there answers 401 to whoever is not
signed in; a gated one answers 401 without a token and 403 to an account that may not read it;
listings come in pages; its limits have headers of their own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from werkzeug.wrappers import Request, Response

from release_tool.rehearsal import faults, object_store, servers
from release_tool.rehearsal.refusals import RefusedError, application

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Access = Literal["open", "gated", "private"]
_POINTER_BYTES = 134
_FOREIGN_COMMIT = "f" * 40


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of the hub.

    Args:
        name: `ORG/NAME`.
        commits: a folder for each commit, the files as they are.
        refs: the commit of each branch.
        access: who may read it.
        readers: the tokens that may, where not everybody may.
        large_bytes: from this size on a file lies in the large storage.
    """

    name: str
    commits: Mapping[str, Path]
    refs: Mapping[str, str]
    access: Access = "open"
    readers: frozenset[str] = field(default=frozenset(), repr=False)
    large_bytes: int = 100_000

    def commit(self, revision: str) -> str:
        """The commit of a revision; empty where there is none."""
        return revision if revision in self.commits else self.refs.get(revision, "")


@dataclass(kw_only=True)
class Settings:
    """What the hub has, who it knows, and where its hosts are."""

    models: list[Model] = field(default_factory=list)
    tokens: frozenset[str] = field(default=frozenset(), repr=False)
    """All tokens that are any."""
    page: int = 1000
    """Entries of a page of a listing."""
    hub_url: str = ""
    store_url: str = ""


@dataclass(frozen=True, slots=True)
class _Stored:
    path: str
    place: Path
    size: int
    blob: str
    sha256: str
    """Empty for a file that is not large."""


class Hub:
    """The hub and its store, each a WSGI application.

    Args:
        settings: what it has; the addresses are set once the ports are known.
        broken: faults on demand.
    """

    def __init__(self, settings: Settings, *, broken: faults.Faults) -> None:
        self._settings = settings
        self._broken = broken
        self._signed: dict[str, Path] = {}
        self._listed: dict[Path, list[_Stored]] = {}
        self.tokens_at_the_store: list[str] = []
        """Every token that came to the store, which is another host's."""
        self.asked: list[tuple[str, str, str]] = []
        """Host, path and range of every request."""
        self.hub: WSGIApplication = application(self._hub)
        self.store: WSGIApplication = application(self._store)

    # The hub.

    def _hub(self, request: Request) -> Response:
        self.asked.append(("hub", request.path, request.headers.get("Range", "")))
        token = self._token(request)
        if trouble := self._faulty(request):
            return trouble
        for pattern, handler in self._routes():
            found = re.fullmatch(pattern, request.path)
            if found and request.method in ("GET", "HEAD"):
                name, *others = found.groups()
                return handler(request, self._model(name, token), *others)
        raise RefusedError(_said(404, "", "Not Found"))

    def _routes(self) -> list[tuple[str, Callable[..., Response]]]:
        name = "([^/]+/[^/]+)"
        return [
            (f"/api/models/{name}", self._info),
            (f"/api/models/{name}/revision/(.+)", self._info),
            (f"/api/models/{name}/tree/([^/]+)", self._tree),
            (f"/api/resolve-cache/models/{name}/([0-9a-f]{{40}})/(.+)", self._small),
            (f"/{name}/resolve/([^/]+)/(.+)", self._resolve),
        ]

    def _token(self, request: Request) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return ""
        for known in self._settings.tokens:
            if scheme == "Bearer" and hmac.compare_digest(known.encode(), token.encode()):
                return known
        raise RefusedError(_said(401, "", "Invalid credentials in Authorization header"))

    def _model(self, name: str, token: str) -> Model:
        found = [one for one in self._settings.models if one.name == name]
        if found and (found[0].access == "open" or token in found[0].readers):
            return found[0]
        if found and found[0].access == "gated":
            said = f"Access to model {name} is restricted. You must have access to it."
            raise RefusedError(_said(403 if token else 401, "GatedRepo", said))
        # What somebody may not see is not there.
        said = "Repository not found" if token else "Invalid username or password."
        raise RefusedError(_said(404 if token else 401, "RepoNotFound", said))

    def _faulty(self, request: Request) -> Response | None:
        take = self._broken.take
        if take(faults.HUB_UNAVAILABLE):
            return _said(503, "", "Service Unavailable")
        if take(faults.HUB_RATE_LIMITED):
            limited = _said(429, "", "We had to rate limit your IP")
            limited.headers["RateLimit"] = '"api";r=0;t=1'
            limited.headers["RateLimit-Policy"] = '"fixed window";"api";q=500;w=300'
            return limited
        if take(faults.HUB_HTML):
            return Response("<html>Hugging Face is down</html>", 200, content_type="text/html")
        if take(faults.HUB_RENAMED):
            return Response("", 307, {"Location": f"{request.path}-renamed"})
        return None

    def _info(self, request: Request, model: Model, revision: str = "main") -> Response:
        del request
        commit = self._commit(model, revision)
        if self._broken.take(faults.HUB_OTHER_COMMIT):
            commit = _FOREIGN_COMMIT
        siblings = [{"rfilename": one.path} for one in self._files(model, commit)]
        return _json(
            {
                "_id": "6530000000000000000000aa",
                "id": model.name,
                "modelId": model.name,
                "sha": commit,
                "private": model.access == "private",
                "gated": "auto" if model.access == "gated" else False,
                "disabled": False,
                "tags": ["mlx"],
                "downloads": 1,
                "siblings": siblings,
            }
        )

    def _commit(self, model: Model, revision: str) -> str:
        commit = model.commit(urllib.parse.unquote(revision))
        if not commit:
            raise RefusedError(_said(404, "RevisionNotFound", f"Invalid rev id: {revision}"))
        return commit

    def _tree(self, request: Request, model: Model, revision: str) -> Response:
        files = self._files(model, self._commit(model, revision))
        folders = sorted({str(Path(one.path).parent) for one in files} - {"."})
        rows: list[dict[str, object]] = [
            {"type": "directory", "oid": "d" * 40, "size": 0, "path": path} for path in folders
        ]
        rows += [_row(one) for one in files]
        begin = int(request.args.get("cursor", "0"))
        end = begin + self._settings.page
        response = _json(rows[begin:end])
        if end < len(rows):
            base = f"{self._settings.hub_url}{request.path}"
            following = f"<{base}?recursive=true&expand=false&cursor={end}>"
            response.headers["Link"] = f'{following}; rel="next"'
        return response

    def _resolve(self, request: Request, model: Model, revision: str, path: str) -> Response:
        commit = self._commit(model, revision)
        stored = self._file(model, commit, path)
        told = {
            "X-Repo-Commit": commit,
            "ETag": f'"{stored.sha256 or stored.blob}"',
            "X-Linked-Size": str(stored.size),
            "X-Linked-ETag": f'"{stored.sha256 or stored.blob}"',
            "Accept-Ranges": "bytes",
        }
        if self._broken.take(faults.HUB_MOVED):
            told["X-Repo-Commit"] = _FOREIGN_COMMIT
        if self._broken.take(faults.HUB_OTHER_SIZE):
            told["X-Linked-Size"] = str(stored.size + 1)
        if stored.sha256:
            return Response("", 302, {**told, "Location": self._place(stored)})
        quoted = urllib.parse.quote(path)
        place = f"/api/resolve-cache/models/{model.name}/{commit}/{quoted}?etag={stored.blob}"
        del request
        return Response("", 307, {**told, "Location": place})

    def _place(self, stored: _Stored) -> str:
        if self._broken.take(faults.HUB_REDIRECT_IN_CLEAR):
            return "http://192.0.2.1/model"
        signature = secrets.token_hex(16)
        self._signed[signature] = stored.place
        return f"{self._settings.store_url}/xet-bridge/{stored.sha256}?Signature={signature}"

    def _small(self, request: Request, model: Model, commit: str, path: str) -> Response:
        stored = self._file(model, commit, path)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{stored.blob}"'}
        return _served(request, stored.place, headers)

    def _file(self, model: Model, commit: str, path: str) -> _Stored:
        for one in self._files(model, commit):
            if one.path == path:
                return one
        raise RefusedError(_said(404, "EntryNotFound", "Entry not found"))

    def _files(self, model: Model, commit: str) -> list[_Stored]:
        folder = model.commits.get(commit)
        if folder is None:
            return []
        if folder not in self._listed:
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            self._listed[folder] = [_stored(folder, path, model.large_bytes) for path in paths]
        return self._listed[folder]

    # The store, which is another host's.

    def _store(self, request: Request) -> Response:
        self.asked.append(("store", request.path, request.headers.get("Range", "")))
        if leaked := request.headers.get("Authorization"):
            self.tokens_at_the_store.append(leaked)
        place = self._signed.get(request.args.get("Signature", ""))
        take = self._broken.take
        if place is None or take(faults.HUB_STORE_ENDED):
            denied = (
                "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
            )
            return Response(denied, 403, content_type="application/xml")
        if take(faults.HUB_STORE_UNAVAILABLE):
            return Response("", 503)
        if take(faults.HUB_STORE_REDIRECTS):
            return Response("", 302, {"Location": request.url})
        if take(faults.HUB_STORE_WITHOUT_RANGES):
            return Response(object_store.chunks(place), 200, {"Content-Length": _size(place)})
        if take(faults.HUB_STORE_OTHER_RANGE):
            headers = {"Content-Range": f"bytes 1-2/{_size(place)}"}
            return Response(b"xx", 206, headers)
        if take(faults.HUB_STORE_CUT_SHORT):
            return self._cut(request, place)
        if take(faults.HUB_STORE_OTHER_BYTES):
            response = _served(request, place, {})
            response.data = bytes([response.get_data()[0] ^ 1]) + response.get_data()[1:]
            return response
        return _served(request, place, {"ETag": '"of-the-store"'})

    @staticmethod
    def _cut(request: Request, place: Path) -> Response:
        """The headers of the whole, half of the bytes, and the end of the connection."""
        response = _served(request, place, {})
        whole = response.get_data()

        def half() -> Iterable[bytes]:
            yield whole[: len(whole) // 2]
            servers.drop_connection(request.environ)

        response.response = half()
        response.headers["Content-Length"] = str(len(whole))
        return response


def _stored(folder: Path, path: Path, large_bytes: int) -> _Stored:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest() if len(content) >= large_bytes else ""
    in_git = content
    if sha256:
        in_git = (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{sha256}\nsize {len(content)}\n"
        ).encode()
    blob = hashlib.sha1(b"blob %d\0" % len(in_git) + in_git, usedforsecurity=False).hexdigest()
    return _Stored(path.relative_to(folder).as_posix(), path, len(content), blob, sha256)


def _row(stored: _Stored) -> dict[str, object]:
    row: dict[str, object] = {
        "type": "file",
        "oid": stored.blob,
        "size": stored.size,
        "path": stored.path,
    }
    if stored.sha256:
        large = {"oid": stored.sha256, "size": stored.size, "pointerSize": _POINTER_BYTES}
        row |= {"lfs": large, "xetHash": stored.sha256}
    return row


def _served(request: Request, place: Path, headers: Mapping[str, str]) -> Response:
    response = Response(object_store.chunks(place), 200, dict(headers))
    size = place.stat().st_size
    response.headers["Content-Length"] = str(size)
    response.make_conditional(request.environ, accept_ranges=True, complete_length=size)
    return response


def _size(place: Path) -> str:
    return str(place.stat().st_size)


def _json(value: object) -> Response:
    return Response(json.dumps(value), 200, content_type="application/json; charset=utf-8")


def _said(status: int, code: str, message: str) -> Response:
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    body = json.dumps({"error": message})
    return Response(body, status, headers, content_type="application/json; charset=utf-8")
