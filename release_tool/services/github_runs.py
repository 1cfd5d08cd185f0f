"""Earlier runs of one workflow, and the artifacts that they left, by GitHub's REST interface.

Rules: https://docs.github.com/en/rest/actions/workflow-runs (the newest first; a pull request may
run a file of the same name, with whatever its author wrote) and
https://docs.github.com/en/rest/actions/artifacts (one that has expired stays listed for a while).
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from release_tool.services.github import GitHub

_PER_PAGE = 30
_ARTIFACT_PAGES = 4
"""Of one run: a release leaves some twenty, and each attempt of a job one or two more."""
# What only somebody can start who may write to the repository.
_OWN_EVENTS = frozenset({"push", "workflow_dispatch"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun:
    """One run."""

    id: int
    event: str
    ref: str
    """The tag or branch that it ran on."""


class Runs(GitHub):
    """The runs of a repository; its token needs `actions: read` and nothing else."""

    right = "actions: read"

    def own(self, workflow: str, *, pages: int) -> Iterator[WorkflowRun]:
        """The newest runs of a workflow that somebody with the right to write started.

        Args:
            workflow: the name of its file.
            pages: how many pages of thirty runs are looked through.

        Raises:
            CredentialError, TransientError, PendingError, RemoteRefusedError, VerificationError:
                as for every question.
        """
        path = f"/actions/workflows/{urllib.parse.quote(workflow, safe='')}/runs"
        for row in self._listed(path, "workflow_runs", pages, f"the runs of {workflow}"):
            home = row.get("head_repository")
            name = str(home.get("full_name", "")) if isinstance(home, dict) else ""
            if row.get("event") in _OWN_EVENTS and name.lower() == self.repository.lower():
                yield WorkflowRun(
                    id=self._number(row, "id"),
                    event=self._text(row, "event"),
                    ref=self._text(row, "head_branch") if row.get("head_branch") else "",
                )

    def artifacts(self, run: WorkflowRun) -> tuple[str, ...]:
        """The names of a run's artifacts that can still be fetched.

        Raises:
            As for `own`.
        """
        path = f"/actions/runs/{run.id}/artifacts"
        rows = self._listed(path, "artifacts", _ARTIFACT_PAGES, f"the artifacts of run {run.id}")
        return tuple(self._text(row, "name") for row in rows if row.get("expired") is False)

    def _listed(self, path: str, key: str, most: int, what: str) -> Iterator[Mapping[str, object]]:
        """The rows of pages that are objects with a list in them."""
        for page in range(1, most + 1):
            answer = self._ask("GET", f"{path}?per_page={_PER_PAGE}&page={page}")
            rows = self._object(answer, what).get(key)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise self._unexpected(f"{what} are no list")
            yield from rows
            if len(rows) < _PER_PAGE:
                return
