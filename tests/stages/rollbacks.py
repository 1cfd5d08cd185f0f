"""A rollback's steps in order, as the command has them."""

from __future__ import annotations

from dataclasses import dataclass

from release_tool.files.workspace import Workspace
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter, Silent
from release_tool.services.coordinator import Coordinator
from release_tool.stages import registered_copy, rollback, rollback_survey
from release_tool.stages.rollback_survey import Survey
from release_tool.values import RolledBack
from tests.stages.release_chain import Chain, World


class Notes(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(f"warning: {text}")


@dataclass
class Rollback:
    """One person's attempt; `begin` sees only, `finish` changes."""

    world: World
    plan: ReleasePlan
    workspace: Workspace
    bad: tuple[str, ...] = ("0.5.1",)
    force: bool = False
    judge: registered_copy.Verdict = lambda *_: ()
    """These archives hold no app; those of the command's tests do."""
    client: Coordinator | None = None

    def begin(self) -> Survey:
        return rollback_survey.look(
            self.plan, self.bad, store=self.world.object_store(), coordinator=self.coordinator
        )

    @property
    def coordinator(self) -> Coordinator:
        return self.client or self.world.coordinator()

    def finish(self, survey: Survey, reporter: Reporter | None = None) -> RolledBack:
        told = reporter or Silent()
        store = self.world.object_store()
        target = rollback.verify(
            self.plan,
            survey,
            workspace=self.workspace,
            reporter=told,
            store=store,
            judge=self.judge,
            policy=self.world.policy,
        )
        rollback.withdraw(
            self.plan, survey, store=store, reporter=told, at="now", by="me", reason="no start"
        )
        rollback.deactivate(
            self.plan, survey, coordinator=self.coordinator, reporter=told, force=self.force
        )
        return rollback.point_back(
            self.plan,
            survey,
            target,
            store=store,
            coordinator=self.coordinator,
            reporter=told,
            sleep=self.world.sleep,
            clock=self.world.clock,
        )

    def run(self, reporter: Reporter | None = None) -> RolledBack:
        return self.finish(self.begin(), reporter)


def of(chain: Chain, *bad: str, force: bool = False) -> Rollback:
    """A rollback to a chain's release."""
    return Rollback(
        world=chain.world,
        plan=chain.plan,
        workspace=chain.workspace,
        bad=bad,
        force=force,
    )
