"""The runs of workflows of GitHub's look-alike, as far as a later run looks for an earlier one.

It keeps what is awkward: runs of pull requests stand among the others under the same file's name,
and an artifact that has expired is still listed. Rules:
https://docs.github.com/en/rest/actions/workflow-runs and .../rest/actions/artifacts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

from release_tool.rehearsal.github_store import GitHubStore, Run

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAGE, _LARGEST_PAGE = 30, 100


class Actions:
    """The routes of one repository's runs.

    Args:
        store: what it keeps.
        repository: `owner/name`.
    """

    def __init__(self, store: GitHubStore, repository: str) -> None:
        self._store = store
        self._repository = repository

    def routes(self) -> Sequence[tuple[str, str, Callable[..., Response]]]:
        """Method, path and handler of each."""
        return [
            ("GET", "/actions/workflows/([^/]+)/runs", self._runs),
            ("GET", "/actions/runs/([0-9]+)/artifacts", self._artifacts),
        ]

    def _runs(self, request: Request, _: str, workflow: str) -> Response:
        found = [one for one in self._store.runs() if one.workflow == workflow]
        if not found:
            return _json(404, {"message": "Not Found"})
        newest = sorted(found, key=lambda one: one.id, reverse=True)
        return _page(request, "workflow_runs", [self._shown(one) for one in newest])

    def _artifacts(self, request: Request, _: str, number: str) -> Response:
        run = next((one for one in self._store.runs() if one.id == int(number)), None)
        if run is None:
            return _json(404, {"message": "Not Found"})
        rows: list[dict[str, object]] = [
            {
                "id": run.id * 1000 + at,
                "name": name,
                "expired": name in run.expired,
                "workflow_run": {"id": run.id, "head_branch": run.ref},
            }
            for at, name in enumerate(run.artifacts)
        ]
        return _page(request, "artifacts", rows)

    def _shown(self, run: Run) -> dict[str, object]:
        return {
            "id": run.id,
            "path": f".github/workflows/{run.workflow}",
            "event": run.event,
            "head_branch": run.ref,
            "head_repository": {"full_name": run.repository or self._repository},
            "repository": {"full_name": self._repository},
        }


def _page(request: Request, key: str, rows: list[dict[str, object]]) -> Response:
    size = min(max(request.args.get("per_page", _PAGE, int), 1), _LARGEST_PAGE)
    page = max(request.args.get("page", 1, int), 1)
    return _json(200, {"total_count": len(rows), key: rows[(page - 1) * size : page * size]})


def _json(status: int, told: object) -> Response:
    return Response(json.dumps(told), status, content_type="application/json; charset=utf-8")
