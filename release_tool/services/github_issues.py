"""Issues of one repository, by GitHub's REST interface: one that a machine keeps up to date.

It is found by a marker in its text and by who wrote it, since anybody may open an issue with any
text. Rules: https://docs.github.com/en/rest/issues/issues (pull requests are listed among issues;
`author_association` says how a user stands to the repository).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from release_tool import errors
from release_tool.services.github import GitHub
from release_tool.services.http_client import Answer

# Open issues of a busy repository; ours is found among those that a machine or a member wrote.
_PAGES = 40
_OWN_LOGIN = "github-actions[bot]"
_MEMBERS = frozenset({"OWNER", "MEMBER", "COLLABORATOR"})
BODY_CHARACTERS = 65_536
"""Of one text, as GitHub takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One open issue."""

    number: int
    title: str
    body: str
    page: str


class Issues(GitHub):
    """The issues of a repository; its token needs `issues: write` and nothing else."""

    right = "issues: write"

    def marked(self, marker: str) -> tuple[Issue, ...]:
        """The open issues whose text has a marker, the oldest first.

        Those that strangers wrote are none of ours, whatever they say.

        Raises:
            CredentialError, TransientError, PendingError, RemoteRefusedError, VerificationError:
                as for every question.
        """
        rows = self._pages("/issues", _PAGES, "the list of issues")
        found = [
            self._issue(row)
            for row in rows
            if "pull_request" not in row and _is_ours(row) and marker in str(row.get("body"))
        ]
        return tuple(sorted(found, key=lambda one: one.number))

    def open(self, title: str, body: str) -> Issue:
        """Open an issue. After a lost answer it may stand: it is found by its marker.

        Raises:
            As for `marked`.
        """
        answer = self._ask("POST", "/issues", {"title": title, "body": body})
        return self._issue(self._object(answer, "the new issue"))

    def change(self, issue: Issue, *, title: str, body: str) -> Issue:
        """Give an issue another title and text.

        Raises:
            As for `marked`.
        """
        told = {"title": title, "body": body}
        answer = self._ask("PATCH", f"/issues/{issue.number}", told)
        return self._issue(self._object(answer, f"to change issue {issue.number}"))

    def close(self, issue: Issue, *, reason: str) -> None:
        """Say why, and close an issue.

        Raises:
            As for `marked`.
        """
        said = self._ask("POST", f"/issues/{issue.number}/comments", {"body": reason})
        self._object(said, f"a comment on issue {issue.number}")
        told = {"state": "closed", "state_reason": "completed"}
        answer = self._ask("PATCH", f"/issues/{issue.number}", told)
        self._object(answer, f"to close issue {issue.number}")

    def _issue(self, row: Mapping[str, object]) -> Issue:
        body = row.get("body")
        return Issue(
            number=self._number(row, "number"),
            title=self._text(row, "title"),
            body=body if isinstance(body, str) else "",
            page=self._text(row, "html_url"),
        )

    def _refusal(self, answer: Answer, what: str) -> errors.ReleaseError:
        problem = super()._refusal(answer, what)
        if isinstance(problem, errors.CredentialError) and answer.status in (403, 404):
            problem.hint = "the job needs `permissions: issues: write`, and issues switched on"
        return problem


def _is_ours(row: Mapping[str, object]) -> bool:
    user = row.get("user")
    login = user.get("login") if isinstance(user, dict) else None
    return login == _OWN_LOGIN or row.get("author_association") in _MEMBERS
