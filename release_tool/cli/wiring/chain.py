"""The stages in their order: what each takes, what it reads of the plan, and its open places."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from release_tool import layout, values
from release_tool.cli.wiring import shape
from release_tool.cli.wiring.externals import Externals
from release_tool.cli.wiring.services import Services
from release_tool.cli.wiring.work import StageWork
from release_tool.files import atomic
from release_tool.plan import ReleasePlan
from release_tool.progress import Reporter
from release_tool.stages import (
    archive,
    assemble,
    attestation,
    github,
    notarize,
    profile,
    promote,
    publish,
    register,
    sign,
    smoke,
    staple,
)
from release_tool.steps import Slot, Stage, Step, Work, no_externals
from release_tool.values import Intents, Value

_NO_GITHUB = "release.yaml asks for no release on GitHub here"
_LEFT_OPEN = "release.yaml leaves notarization open for this environment"


def steps(wired: Services) -> list[Step]:
    """All stages, in order; what this layout has no use for is an open place."""
    return _Chain(wired).steps()


class _Chain:
    """The steps of one release."""

    def __init__(self, wired: Services) -> None:
        self.wired = wired
        self.externals = Externals(wired=wired)
        self.work = StageWork(wired=wired, externals=self.externals)

    @property
    def plan(self) -> ReleasePlan:
        return self.wired.plan

    def steps(self) -> list[Step]:
        omitted = layout.of(self.plan).omitted
        signed_for = shape.is_signed_for(self.plan)
        made: list[Step] = [
            self._stage(
                "profile",
                values.VerifiedProfile,
                (),
                profile.READS,
                self.work.profile,
                externals=self.externals.profile,
            ),
            self._stage(
                "assemble",
                values.AssembledBundle,
                tuple({"profile"} - omitted.keys()),
                assemble.READS,
                self.work.assemble,
                externals=self.externals.binaries,
            ),
            self._stage(
                "sign",
                values.SignedBundle,
                ("assemble",),
                sign.READS,
                self.work.sign,
                repeatable=False,
            ),
            *self._apples_word(),
            self._stage(
                "archive",
                values.ReleaseArchive,
                (*shape.packed(self.plan), "assemble"),
                archive.READS,
                self.work.archive,
            ),
            self._stage(
                "smoke",
                values.SmokeEvidence,
                ("archive",),
                smoke.READS,
                self.work.smoke,
                externals=self.externals.installer,
            ),
            self._stage(
                "publish",
                values.PublishedRelease,
                ("archive", "smoke"),
                (*publish.READS, *attestation.READS) if signed_for else publish.READS,
                self.work.publish,
                externals=self.externals.evidence,
                facts=shape.told_of(self.plan) if signed_for else (),
            ),
            self._stage(
                "register",
                values.RegisteredRelease,
                ("publish", "archive"),
                register.READS,
                self.work.register,
                externals=self.externals.evidence,
                facts=("smoke",),
            ),
            self._stage(
                "promote",
                values.PromotedRelease,
                ("publish", "register"),
                promote.READS,
                self.work.promote,
                externals=self.externals.evidence,
                facts=("smoke",),
            ),
            self._on_github(),
        ]
        return [
            Slot(name=step.name, reason=omitted[step.name], required=False)
            if step.name in omitted
            else step
            for step in made
        ]

    def _on_github(self) -> Step:
        """The release on GitHub, or its place where the environment asks for none."""
        if not self.plan.environment.github_release:
            return Slot(name="github", reason=_NO_GITHUB, required=False)
        published = ("publish",) if shape.is_signed_for(self.plan) else ()
        told = ("notarize", "staple") if shape.is_notarized(self.plan) else ()
        apples = tuple(name for name in told if name not in layout.of(self.plan).omitted)
        return self._stage(
            "github",
            values.GitHubRelease,
            ("archive", "smoke", *published, "promote"),
            github.READS,
            self.work.github,
            facts=("sign", "register", *apples),
        )

    def _apples_word(self) -> list[Step]:
        """Notarize and staple, or their places where the environment leaves them open."""
        if not shape.is_notarized(self.plan):
            return [
                Slot(name=name, reason=_LEFT_OPEN, required=False)
                for name in ("notarize", "staple")
            ]
        return [
            self._stage(
                "notarize", values.Notarization, ("sign",), notarize.READS, self.work.notarize
            ),
            self._stage(
                "staple", values.StapledBundle, ("sign", "notarize"), staple.READS, self.work.staple
            ),
        ]

    def _stage(
        self,
        name: str,
        value_type: type[Value],
        needs: tuple[str, ...],
        reads: tuple[str, ...],
        work: Work,
        *,
        externals: Callable[[], Mapping[str, str]] = no_externals,
        repeatable: bool = True,
        facts: tuple[str, ...] = (),
    ) -> Stage:
        def guarded(found: Mapping[str, Value], reporter: Reporter, intents: Intents) -> Value:
            with atomic.refusals(self.wired.workspace.root):
                return work(found, reporter, intents)

        return Stage(
            name=name,
            value_type=value_type,
            needs=needs,
            reads=reads,
            work=guarded,
            externals=externals,
            repeatable=repeatable,
            facts=facts,
        )
