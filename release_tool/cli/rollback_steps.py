"""The steps of a rollback, wired: the pipeline runs and records them like a release's stages."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from release_tool import values
from release_tool.cli.wiring import Services
from release_tool.progress import Reporter
from release_tool.stages import registered_copy, rollback
from release_tool.stages.rollback_survey import Survey
from release_tool.steps import Stage, Step, Work
from release_tool.values import Intents, Value

LAST = "point"


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What one rollback does, in order."""

    wired: Services
    survey: Survey
    by: str
    reason: str
    force: bool
    asked: str = field(default_factory=lambda: secrets.token_hex(32))
    """The world may have changed since an earlier rollback, so no record of it counts for this."""

    def all(self) -> list[Step]:
        """The steps."""
        return [
            self._stage("verify", values.RollbackTarget, (), self._verify),
            self._stage("tombstone", values.Withdrawn, ("verify",), self._withdraw),
            self._stage("deactivate", values.Deactivated, ("tombstone",), self._deactivate),
            self._stage(LAST, values.RolledBack, ("verify", "deactivate"), self._point_back),
        ]

    def _stage(self, name: str, kind: type[Value], needs: tuple[str, ...], work: Work) -> Stage:
        return Stage(
            name=name,
            value_type=kind,
            needs=needs,
            reads=rollback.READS,
            work=work,
            externals=lambda: {"rollback": self.asked},
        )

    def _verify(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        del found
        return rollback.verify(
            self.wired.plan,
            self.survey,
            workspace=self.wired.workspace,
            reporter=reporter,
            store=self.wired.new_store(),
            judge=registered_copy.from_the_seal_down(self.wired.trust),
        )

    def _withdraw(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        del found
        withdrawn = rollback.withdraw(
            self.wired.plan,
            self.survey,
            store=self.wired.new_store(),
            reporter=reporter,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            by=self.by,
            reason=self.reason,
        )
        if events := self.wired.release_events():
            events.withdrawn(withdrawn, by=self.by, reason=self.reason)
        return withdrawn

    def _deactivate(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        del found
        return rollback.deactivate(
            self.wired.plan,
            self.survey,
            coordinator=self.wired.coordinator,
            reporter=reporter,
            force=self.force,
        )

    def _point_back(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        target = found["verify"]
        assert isinstance(target, values.RollbackTarget)  # noqa: S101 - by its step
        done = rollback.point_back(
            self.wired.plan,
            self.survey,
            target,
            store=self.wired.new_store(),
            coordinator=self.wired.coordinator,
            reporter=reporter,
        )
        if events := self.wired.release_events():
            events.rolled_back(target, done)
        return done
