"""The steps of a rollback, wired: the pipeline runs and records them like a release's stages."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from release_tool import errors, values
from release_tool.cli.wiring import Services
from release_tool.ledger import Ledger
from release_tool.progress import Reporter
from release_tool.report import withdrawal_notes
from release_tool.stages import github_withdrawal, registered_copy, rollback
from release_tool.stages.rollback_survey import Survey
from release_tool.steps import Slot, Stage, Step, Work
from release_tool.values import Intents, Value

LAST = "github"
_NO_GITHUB = "release.yaml asks for no release on GitHub here"
_NOT_SIGNED_IN = "no GITHUB_TOKEN is set here"


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
        """The steps; on GitHub only where the environment releases there and a token is at hand."""
        return [
            self._stage("verify", values.RollbackTarget, (), self._verify),
            self._stage("tombstone", values.Withdrawn, ("verify",), self._withdraw),
            self._stage("deactivate", values.Deactivated, ("tombstone",), self._deactivate),
            self._stage("point", values.RolledBack, ("verify", "deactivate"), self._point_back),
            self._on_github(),
        ]

    def _on_github(self) -> Step:
        if not self.wired.plan.environment.github_release:
            return Slot(name=LAST, reason=_NO_GITHUB, required=False)
        if not has_token(self.wired):
            return Slot(name=LAST, reason=_NOT_SIGNED_IN, required=False)
        return self._stage(LAST, values.WithdrawnOnGitHub, ("tombstone", "point"), self._github)

    def _stage(self, name: str, kind: type[Value], needs: tuple[str, ...], work: Work) -> Stage:
        return Stage(
            name=name,
            value_type=kind,
            needs=needs,
            reads=github_withdrawal.READS if name == LAST else rollback.READS,
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
        events = self.wired.release_events()
        if events is None:
            return withdrawn
        return events.withdrawn(
            withdrawn, by=self.by, reason=self.reason, workspace=self.wired.workspace
        )

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
        events = self.wired.release_events()
        if events is None:
            return done
        return events.rolled_back(target, done, workspace=self.wired.workspace)

    def _github(self, found: Mapping[str, Value], reporter: Reporter, _: Intents) -> Value:
        return on_github(self.wired, found, reporter)


def alone(wired: Services, recorded: Mapping[str, Value]) -> Stage:
    """The step on GitHub without the others: what it needs is recorded, perhaps elsewhere."""
    return Stage(
        name=LAST,
        value_type=values.WithdrawnOnGitHub,
        needs=(),
        reads=github_withdrawal.READS,
        work=lambda _, reporter, __: on_github(wired, recorded, reporter),
        externals=lambda: {
            **{name: value.digest() for name, value in recorded.items()},
            "rollback": secrets.token_hex(32),
        },
    )


def has_token(wired: Services) -> bool:
    """Whether this host may write to GitHub."""
    return "GITHUB_TOKEN" in wired.resolved.credentials.secrets


def withdrawn_by(found: Mapping[str, Value]) -> tuple[str, ...]:
    """The versions that a rollback wrote tombstones for, or found some of."""
    withdrawn = found.get("tombstone")
    if not isinstance(withdrawn, values.Withdrawn):
        return ()
    return tuple(one.version for one in withdrawn.tombstones)


def newest_head(found: Mapping[str, Value]) -> values.KeptHead | None:
    """The head over the most lines: a move that the log tells of already adds none."""
    steps = (found.get("tombstone"), found.get("point"))
    kinds = (values.Withdrawn, values.RolledBack)
    heads = [one.head for one in steps if isinstance(one, kinds) and one.head]
    return max(heads, key=lambda head: head.lines, default=None)


def on_github(wired: Services, found: Mapping[str, Value], reporter: Reporter) -> Value:
    """What GitHub is told of a rollback, from the values of its steps."""
    withdrawn = found["tombstone"]
    assert isinstance(withdrawn, values.Withdrawn)  # noqa: S101 - by its step
    return github_withdrawal.run(
        wired.plan,
        withdrawal_notes.lines(withdrawn),
        newest_head(found),
        workspace=wired.workspace,
        reporter=reporter,
        github=wired.github,
        prefixes=wired.resolved.tag_prefixes,
        trusted=wired.trusted_keys,
    )


def last_of(ledger: Ledger, version: str) -> dict[str, Value]:
    """What the newest rollback in a ledger recorded, for a job that only brings it to GitHub.

    Raises:
        UsageError: there is none to this version that withdrew anything.
    """
    told, found = _newest(ledger)
    if told != version or "tombstone" not in found:
        raise errors.UsageError(
            f"no rollback to {version} is recorded here that could be brought to GitHub",
            observed=f"the newest is to {told}" if told else "no rollback",
            hint="run the rollback first, or bring its records here",
        )
    return found


def is_withdrawn(ledger: Ledger, version: str) -> bool:
    """Whether the newest rollback in a ledger is to this version, and its tombstones stand."""
    told, found = _newest(ledger)
    return told == version and "tombstone" in found


def _newest(ledger: Ledger) -> tuple[str, dict[str, Value]]:
    """The newest rollback: the version that it goes back to, and what it recorded."""
    found: dict[str, Value] = {}
    kinds: Mapping[str, type[Value]] = {"tombstone": values.Withdrawn, "point": values.RolledBack}
    told = ""
    for record in ledger.records:
        if record.stage == "verify":
            found, told = {}, str(record.plan_part.get("version", ""))
        elif record.kind == "record" and record.stage in kinds:
            found[record.stage] = kinds[record.stage].model_validate(record.value)
    return told, found
