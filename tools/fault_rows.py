"""The rows of the fault matrix: which service fails how, at which request of which stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fault_world import BACK, KEYLESS, OCTOBER, ROLLBACK, USUAL

from release_tool.rehearsal import wire
from release_tool.rehearsal.wire import Rule

TRANSIENT, LASTING = "transient", "lasting"
STRENGTHS = (TRANSIENT, LASTING)
# What changes when a request that matters has several neighbours.
_CRITICAL = (
    *("reset", "stalled", "503", "truncated", "shorter", "other-bytes"),
    *("other-json", "redirect", "duplicate", "lost-answer", wire.LATE),
)
# What of these is left where another shape of a release asks the same as the usual one.
_FEW = ("reset", "503", "other-json", "redirect", "duplicate", "lost-answer", wire.LATE)
# What needs an answer with a body.
IN_BODIES = ("shorter", "other-bytes")
# What is handled late makes a difference where it writes; of a question nobody would notice.
_WRITING = ("POST", "PUT", "PATCH", "DELETE")
# Longer than a client pauses between two tries: who only sends again has sent twice.
_LATE_SECONDS = 2.0
_EARLY = ("sign", "notarize", "staple")
_ARCHIVED = "archive"
_TO_THE_END = ("duplicate", "lost-answer", wire.LATE, "other-bytes")
# One more than a client that tries once more would survive by luck.
_TIMES = 2


@dataclass(frozen=True, kw_only=True)
class Target:
    """Requests of one service that a stage sends.

    Args:
        name: for people.
        service: as the embedded environment calls it.
        stage: the stage that meets the fault.
        method: see `Rule`, as the others.
        is_large: whether the archive goes in parts.
        only_critical: leave out kinds that make no difference to a neighbour of the same service.
        is_silent: whether its answers have no body, so that some kinds find nothing to spoil.
        is_known: whether the usual release asks the same, so that a few kinds are enough.
        shape: which release meets it.
    """

    name: str
    service: str
    stage: str
    method: str = ""
    path: str = ""
    agent: str = ""
    least_bytes: int = 0
    is_large: bool = False
    only_critical: bool = False
    is_silent: bool = False
    is_known: bool = False
    shape: str = USUAL.name

    def meets(self, kind: str) -> bool:
        """Whether there are rows of a kind."""
        if self.is_silent and kind in IN_BODIES:
            return False
        if kind == wire.LATE and self.method not in _WRITING:
            return False
        if self.is_known:
            return kind in _FEW
        return not self.only_critical or kind in (*_CRITICAL, wire.REFUSED)


_ARCHIVE = r"/releases/v[^/]+/darkbloom-bundle"
TARGETS = (
    Target(name="timestamp", service="timestamp", stage="sign", method="POST"),
    Target(name="notary submit", service="notary", stage="notarize", method="POST"),
    Target(
        name="notary status",
        service="notary",
        stage="notarize",
        path=r"/submissions/[0-9a-fA-F-]{36}$",
        only_critical=True,
    ),
    Target(
        name="notary upload",
        service="notary-uploads",
        stage="notarize",
        method="PUT",
        is_silent=True,
    ),
    Target(name="notary log", service="notary-logs", stage="notarize"),
    Target(name="tickets", service="tickets", stage="staple", least_bytes=1),
    Target(
        name="store put archive",
        service="store",
        stage="publish",
        method="PUT",
        path=_ARCHIVE,
        is_silent=True,
    ),
    Target(
        name="store begin parts",
        service="store",
        stage="publish",
        method="POST",
        path=r"\?uploads",
        is_large=True,
        only_critical=True,
    ),
    Target(
        name="store put part",
        service="store",
        stage="publish",
        method="PUT",
        path="partNumber=2",
        is_large=True,
        only_critical=True,
        is_silent=True,
    ),
    Target(
        name="store complete parts",
        service="store",
        stage="publish",
        method="POST",
        path=r"\?uploadId=",
        is_large=True,
        only_critical=True,
    ),
    Target(name="public read back", service="public", stage="publish", path=_ARCHIVE),
    Target(
        name="store put provenance",
        service="store",
        stage="publish",
        method="PUT",
        path=r"/provenance\.dsse\.json",
        only_critical=True,
        is_silent=True,
    ),
    Target(
        name="store put log",
        service="store",
        stage="register",
        method="PUT",
        path=r"/log\.jsonl",
        only_critical=True,
        is_silent=True,
    ),
    Target(
        name="store put log head",
        service="store",
        stage="register",
        method="PUT",
        path=r"/log\.head\.json",
        only_critical=True,
        is_silent=True,
    ),
    Target(
        name="store read log",
        service="store",
        stage="promote",
        method="GET",
        path=r"/log\.jsonl",
        only_critical=True,
    ),
    Target(
        name="store put claim",
        service="store",
        stage="register",
        method="PUT",
        path="/registrations/",
        only_critical=True,
        is_silent=True,
    ),
    Target(
        name="store put mark",
        service="store",
        stage="register",
        method="PUT",
        path=r"/registered\.json",
        only_critical=True,
        is_silent=True,
    ),
    Target(
        name="coordinator's download",
        service="public",
        stage="register",
        agent="Go-http-client",
        only_critical=True,
    ),
    Target(
        name="coordinator register",
        service="coordinator",
        stage="register",
        method="POST",
        # The probe of the release key is an empty object.
        least_bytes=10,
    ),
    Target(
        name="coordinator latest",
        service="coordinator",
        stage="promote",
        path="/releases/latest",
        only_critical=True,
    ),
    Target(
        name="store pointer",
        service="store",
        stage="promote",
        method="PUT",
        path=r"latest/release\.json",
        is_silent=True,
    ),
    Target(
        name="store copy alias",
        service="store",
        stage="promote",
        method="PUT",
        path=r"latest/.*\.tar\.gz",
        only_critical=True,
    ),
    Target(
        name="store read alias",
        service="store",
        stage="promote",
        method="GET",
        path=r"latest/.*\.tar\.gz",
        only_critical=True,
    ),
    Target(
        name="github draft",
        service="github",
        stage="github",
        method="POST",
        # The probe of the token is an empty object.
        least_bytes=10,
    ),
    Target(
        name="github publish",
        service="github",
        stage="github",
        method="PATCH",
        only_critical=True,
    ),
    Target(name="github upload", service="github uploads", stage="github", method="POST"),
    Target(name="github download", service="github storage", stage="github"),
)
# Services as a whole: what their first request meets, which is a probe of the preflight.
WHOLE = (
    Target(name="store", service="store", stage="publish", only_critical=True),
    Target(name="notary", service="notary", stage="notarize", only_critical=True),
    Target(name="coordinator", service="coordinator", stage="register", only_critical=True),
    Target(name="github", service="github", stage="github", only_critical=True),
)
_LATEST, _VERSION = "/releases/latest", "/api/version"
# Without an inventory to look into, these alone keep a registration from being sent again.
WITHOUT_KEY = (
    Target(
        name="keyless register",
        shape=KEYLESS.name,
        service="coordinator",
        stage="register",
        method="POST",
        least_bytes=10,
        only_critical=True,
    ),
    Target(
        name="keyless latest",
        shape=KEYLESS.name,
        service="coordinator",
        stage="register",
        path=_LATEST,
        only_critical=True,
    ),
    Target(
        name="keyless version",
        shape=KEYLESS.name,
        service="coordinator",
        stage="register",
        path=_VERSION,
        only_critical=True,
    ),
    Target(
        name="keyless pointer",
        shape=KEYLESS.name,
        service="store",
        stage="register",
        method="GET",
        path=r"latest/release\.json",
        is_known=True,
    ),
    Target(
        name="keyless claim",
        shape=KEYLESS.name,
        service="store",
        stage="register",
        method="GET",
        path="/registrations/",
        is_known=True,
    ),
    Target(
        name="keyless mark",
        shape=KEYLESS.name,
        service="store",
        stage="register",
        method="HEAD",
        path=r"/registered\.json",
        is_silent=True,
        is_known=True,
    ),
)
IN_OCTOBER = (
    Target(
        name="october put archive",
        shape=OCTOBER.name,
        service="store",
        stage="publish",
        method="PUT",
        path=r"/releases/v[^/]+/artifacts/",
        is_silent=True,
        is_known=True,
    ),
    Target(
        name="october take version",
        shape=OCTOBER.name,
        service="store",
        stage="publish",
        method="PUT",
        path=r"/releases/v[^/]+/release\.json",
        only_critical=True,
        is_silent=True,
    ),
    Target(
        name="october question",
        shape=OCTOBER.name,
        service="coordinator",
        stage="register",
        method="POST",
        path="/releases/qualification",
        only_critical=True,
    ),
    Target(
        name="october register",
        shape=OCTOBER.name,
        service="coordinator",
        stage="register",
        method="POST",
        path="/v1/releases$",
        least_bytes=10,
        only_critical=True,
    ),
    Target(
        name="october latest",
        shape=OCTOBER.name,
        service="coordinator",
        stage="promote",
        path=_LATEST,
        is_known=True,
    ),
    Target(
        name="october version",
        shape=OCTOBER.name,
        service="coordinator",
        stage="register",
        path=_VERSION,
        is_known=True,
    ),
)
TAKEN_BACK = (
    Target(
        name="rollback deactivate",
        shape=BACK.name,
        service="coordinator",
        stage=ROLLBACK,
        method="DELETE",
        only_critical=True,
    ),
    Target(
        name="rollback inventory",
        shape=BACK.name,
        service="coordinator",
        stage=ROLLBACK,
        method="GET",
        path="/admin/releases",
        only_critical=True,
    ),
    Target(
        name="rollback latest",
        shape=BACK.name,
        service="coordinator",
        stage=ROLLBACK,
        path=_LATEST,
        is_known=True,
    ),
    Target(
        name="rollback verify",
        shape=BACK.name,
        service="public",
        stage=ROLLBACK,
        path=_ARCHIVE,
        is_known=True,
    ),
    Target(
        name="rollback tombstone",
        shape=BACK.name,
        service="store",
        stage=ROLLBACK,
        method="PUT",
        path=r"/tombstone\.json",
        only_critical=True,
        is_silent=True,
    ),
    Target(
        name="rollback log",
        shape=BACK.name,
        service="store",
        stage=ROLLBACK,
        method="PUT",
        path=r"/log\.jsonl",
        is_silent=True,
        is_known=True,
    ),
    Target(
        name="rollback log head",
        shape=BACK.name,
        service="store",
        stage=ROLLBACK,
        method="PUT",
        path=r"/log\.head\.json",
        is_silent=True,
        is_known=True,
    ),
    Target(
        name="rollback pointer",
        shape=BACK.name,
        service="store",
        stage=ROLLBACK,
        method="PUT",
        path=r"latest/release\.json",
        only_critical=True,
        is_silent=True,
    ),
    Target(
        name="rollback copy alias",
        shape=BACK.name,
        service="store",
        stage=ROLLBACK,
        method="PUT",
        path=r"latest/.*\.tar\.gz",
        is_known=True,
    ),
    Target(
        name="rollback read alias",
        shape=BACK.name,
        service="store",
        stage=ROLLBACK,
        method="GET",
        path=r"latest/.*\.tar\.gz",
        is_known=True,
    ),
    Target(
        name="rollback mark",
        shape=BACK.name,
        service="github",
        stage=ROLLBACK,
        method="PATCH",
        is_known=True,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the matrix."""

    target: Target
    kind: str
    strength: str

    @property
    def name(self) -> str:
        return f"{self.target.name}: {self.kind}, {self.strength}"

    @property
    def is_early(self) -> bool:
        """Whether its stage lies before the archive."""
        return self.target.stage in _EARLY

    @property
    def until(self) -> str:
        """The stage that this row ends with; empty for the whole release.

        Most faults of signing and notarization have shown what they do by the archive. Those that
        could have left something twice, or other bytes, are carried to the end.
        """
        return _ARCHIVED if self.is_early and self.kind not in _TO_THE_END else ""

    @property
    def rule(self) -> Rule:
        """The fault of this row."""
        where = self.target
        rule = Rule(
            service=where.service,
            kind=self.kind,
            method=where.method,
            path=where.path,
            agent=where.agent,
            least_bytes=where.least_bytes,
            count=_TIMES if self.strength == TRANSIENT else None,
        )
        return replace(rule, seconds=_LATE_SECONDS) if self.kind == wire.LATE else rule


def every() -> Iterator[Row]:
    """All rows, those of one target together."""
    for target in (*TARGETS, *WHOLE, *WITHOUT_KEY, *IN_OCTOBER, *TAKEN_BACK):
        for kind in wire.KINDS:
            if not target.meets(kind):
                continue
            for strength in STRENGTHS:
                yield Row(target=target, kind=kind, strength=strength)
