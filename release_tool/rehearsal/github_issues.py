"""The issues of GitHub's look-alike, as far as a machine uses them.

It keeps what is awkward: pull requests stand among the issues, anybody may have opened one with any
text, and a text may be null. Rules: https://docs.github.com/en/rest/issues/issues.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from release_tool.rehearsal.github_store import GitHubStore, Issue, now

if TYPE_CHECKING:
    from collections.abc import Sequence

_BODY_CHARACTERS, _TITLE_CHARACTERS = 65_536, 256
_OURS = "github-actions[bot]"
Paged = Callable[[Request, list[dict[str, object]]], Response]


class Issues:
    """The routes of one repository's issues.

    Args:
        store: what it keeps.
        repository: `owner/name`.
        paged: answers with one page of rows.
    """

    def __init__(self, store: GitHubStore, repository: str, *, paged: Paged) -> None:
        self._store = store
        self._repository = repository
        self._paged = paged

    def routes(self) -> Sequence[tuple[str, str, Callable[..., Response]]]:
        """Method, path and handler of each."""
        return [
            ("GET", "/issues", self._list),
            ("POST", "/issues", self._open),
            ("PATCH", "/issues/([0-9]+)", self._change),
            ("POST", "/issues/([0-9]+)/comments", self._comment),
        ]

    def _list(self, request: Request, _: str) -> Response:
        state = request.args.get("state", "open")
        with self._store.lock:
            rows = [self._shown(one) for one in self._store.issues if state in ("all", one.state)]
        return self._paged(request, rows)

    def _open(self, request: Request, _: str) -> Response:
        given = _given(request)
        title, body = given.get("title"), given.get("body")
        if not isinstance(title, str) or not 0 < len(title) <= _TITLE_CHARACTERS:
            return _invalid("title")
        if not isinstance(body, str) or len(body) > _BODY_CHARACTERS:
            return _invalid("body")
        with self._store.changing():
            made = Issue(
                number=self._store.new_id(),
                title=title,
                body=body,
                login=_OURS,
                association="NONE",
            )
            self._store.issues.insert(0, made)
            self._store.journal.append(("open issue", str(made.number)))
        return _json(201, self._shown(made))

    def _change(self, request: Request, _: str, number: str) -> Response:
        given = _given(request)
        found = self._found(number)
        if found is None:
            return _json(404, {"message": "Not Found"})
        if len(str(given.get("body", ""))) > _BODY_CHARACTERS:
            return _invalid("body")
        with self._store.changing():
            found.title = str(given.get("title", found.title))
            found.body = str(given.get("body", found.body))
            found.state = str(given.get("state", found.state))
            self._store.journal.append(("change issue", number))
        return _json(200, self._shown(found))

    def _comment(self, request: Request, _: str, number: str) -> Response:
        found, body = self._found(number), _given(request).get("body")
        if found is None:
            return _json(404, {"message": "Not Found"})
        if not isinstance(body, str) or not body:
            return _invalid("body")
        with self._store.changing():
            found.comments.append(body)
            self._store.journal.append(("comment", number))
        return _json(201, {"id": self._store.new_id(), "body": body, "created_at": now()})

    def _found(self, number: str) -> Issue | None:
        return next((one for one in self._store.issues if one.number == int(number)), None)

    def _shown(self, issue: Issue) -> dict[str, object]:
        pull = issue.title.startswith("Pull request")
        page = f"https://github.com/{self._repository}"
        told: dict[str, object] = {
            "number": issue.number,
            "title": issue.title,
            "body": issue.body or None,
            "state": issue.state,
            "user": {"login": issue.login, "type": "Bot" if "[bot]" in issue.login else "User"},
            "author_association": issue.association,
            "html_url": f"{page}/{'pull' if pull else 'issues'}/{issue.number}",
        }
        return told | ({"pull_request": {"url": f"{page}/pull/{issue.number}"}} if pull else {})


def _given(request: Request) -> dict[str, object]:
    try:
        found = json.loads(request.get_data())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _invalid(name: str) -> Response:
    fault = {"resource": "Issue", "code": "invalid", "field": name}
    return _json(422, {"message": "Validation Failed", "errors": [fault]})


def _json(status: int, told: object) -> Response:
    return Response(json.dumps(told), status, content_type="application/json; charset=utf-8")
