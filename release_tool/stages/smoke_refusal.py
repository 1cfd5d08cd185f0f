"""What a refused smoke run had seen: kept for who has to find out why, and no evidence of anything.

Records and their artifacts are never touched: what is kept lies in a folder of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from release_tool import errors
from release_tool.apple.checks import Check
from release_tool.files import atomic
from release_tool.files.workspace import Workspace
from release_tool.stages import findings, smoke_record
from release_tool.stages.smoke_observation import Seen

FOLDER = "refused"
FACTS, REPORT = "refused.json", "refused.md"

Show = Callable[[Mapping[str, Any]], str]
"""Makes a page of what is kept."""


@dataclass(kw_only=True)
class SoFar:
    """What a run has judged up to now.

    Args:
        workspace: where it is kept if the run is refused.
        folder: of this host's smoke run, in it.
        facts: what was run, for the page.
        show: makes the page; None for none.
    """

    workspace: Workspace
    folder: str
    facts: Mapping[str, str]
    show: Show | None = None
    groups: dict[str, Sequence[Check]] = field(default_factory=dict)
    seen: Seen | None = None

    def require(self, group: str, found: Sequence[Check], message: str) -> Sequence[Check]:
        """Note what was judged, and refuse where a check failed.

        Raises:
            VerificationError: at least one did.
        """
        self.groups[group] = found
        findings.require(found, message)
        return found

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep everything if the block is refused, and say where; an earlier refusal goes."""
        atomic.remove_tree(self.workspace.path(self._place))
        try:
            yield
        except errors.VerificationError as problem:
            if self.groups:
                # The refusal is what counts: a full disk must not hide it.
                with suppress(OSError, errors.HostError):
                    problem.details = (*problem.details, f"kept: {self._keep(problem)}")
            raise

    @property
    def _place(self) -> str:
        return f"{self.folder}/{FOLDER}"

    def _keep(self, problem: errors.ReleaseError) -> str:
        document = {
            **self.facts,
            "message": problem.message,
            "groups": {
                name: [one.as_json() for one in found] for name, found in self.groups.items()
            },
        }
        place = self.workspace.path(self._place)
        place.mkdir(parents=True)
        if self.seen is not None:
            smoke_record.keep(
                self.workspace, self.seen.interview, self.seen.log, folder=self._place
            )
        text = json.dumps(document, ensure_ascii=False, indent=1)
        atomic.write_atomically(place / FACTS, f"{text}\n".encode("utf-8", "replace"))
        if self.show is None:
            return str(place / FACTS)
        atomic.write_atomically(place / REPORT, self.show(document).encode("utf-8", "replace"))
        return str(place / REPORT)
