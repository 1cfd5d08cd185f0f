"""What is carried on and killed: a release as usual, and what only others ask or write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from release_tool import data
from release_tool.cli.wiring import STAGES
from release_tool.rehearsal.registration import AUTUMN, MAY, Contract

VERSION, WITHDRAWN, END = "0.1.0", "0.1.1", "end"
ROLLBACK = "rollback"


@dataclass(frozen=True, kw_only=True)
class Course:
    """One way that runs go.

    Args:
        name: what its points begin with.
        swept: the stages whose points are its own.
        steps: all of them, in order.
        contract: what the coordinator speaks.
        has_administrator: whether runs are given an administrator's key for it.
        earlier: versions that are released before, oldest first.
    """

    name: str
    swept: tuple[str, ...]
    steps: tuple[str, ...] = STAGES
    contract: Contract = MAY
    has_administrator: bool = True
    earlier: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """Of its points' names; a release's have none."""
        return "" if self is RELEASE else f"{self.name}/"

    @property
    def is_rollback(self) -> bool:
        return self.steps == (ROLLBACK,)

    def release_file(self) -> str:
        """Its release.yaml; the smoke run is short, since none of its points are in there."""
        told: dict[str, Any] = yaml.safe_load(data.release_file().read_text(encoding="utf-8"))
        told["coordinator"]["contract"] = self.contract
        told["smoke"] |= {"prompts": told["smoke"]["prompts"][:1], "concurrency": [1]}
        told["environments"]["rehearsal"] |= {
            "require_qualification": self.contract == AUTUMN,
            "fleet_watch": "required" if self.has_administrator else "unchecked",
        }
        return yaml.safe_dump(told)


RELEASE = Course(name="release", swept=STAGES)
# Behind an earlier release: there is something that may be served in its place.
KEYLESS = Course(name="keyless", swept=("register",), has_administrator=False, earlier=("0.0.9",))
OCTOBER = Course(name="october", swept=("publish", "register", "promote"), contract=AUTUMN)
BACK = Course(name=ROLLBACK, swept=(ROLLBACK,), steps=(ROLLBACK,), earlier=(VERSION, WITHDRAWN))
COURSES = {course.name: course for course in (RELEASE, KEYLESS, OCTOBER, BACK)}


def of_point(point: str) -> Course:
    """The course whose point it is."""
    name, mark, _ = point.split(" ", 1)[0].partition("/")
    return COURSES[name] if mark else RELEASE
