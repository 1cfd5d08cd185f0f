"""What no rollback of the fault matrix may end in: judged as releases are, from what is left."""

from __future__ import annotations

import fault_judge
from fault_judge import Judgement, Look
from fault_world import VERSION, WITHDRAWN, Site

from release_tool.rehearsal import places, wire
from release_tool.rehearsal.github_store import GitHubStore, Release

_TOMBSTONE = f"releases/v{WITHDRAWN}/tombstone.json"
_EVENTS = [
    *(("registered", VERSION), ("promoted", VERSION)),
    *(("registered", WITHDRAWN), ("promoted", WITHDRAWN)),
    *(("withdrawn", WITHDRAWN), ("rolled back", VERSION)),
]


def standing(judgement: Judgement, before: Look, now: Look) -> None:
    """Judge what stands after any command: users get one of both, and nothing comes back."""
    fault_judge.keeping(judgement, now)
    rows = before.counts.registrations
    judgement.require(now.counts.registrations == rows, "a registration")
    judgement.require(now.counts.active.get(VERSION, False), "the way back is deactivated")
    stone = _TOMBSTONE in now.counts.objects
    judgement.require(stone or now.counts.active[WITHDRAWN], "deactivated without a tombstone")
    archives = {row.bundle_hash for row in rows}
    held = {now.counts.objects.get(alias, "") for alias in fault_judge.ALIASES}
    judgement.require(held <= archives, "an alias holds something else")


def finished(judgement: Judgement, now: Look, report: wire.Report, site: Site) -> None:
    """Judge the end: withdrawn once, everywhere, and the earlier release given again."""
    counts = now.counts
    judgement.require(
        counts.active == {VERSION: True, WITHDRAWN: False}, f"active are {counts.active}"
    )
    doubled = sum("tombstone.json" in one for one in report.duplicated)
    stones = [one for one in counts.writes if one.key == _TOMBSTONE]
    judgement.require(1 <= len(stones) <= 1 + doubled, f"{len(stones)} tombstones")
    archive = counts.objects.get(site.archive_key(""), "")
    fault_judge.leading(judgement, site, now, archive)
    judgement.require(fault_judge.told(site, now) == _EVENTS, "the log tells otherwise")
    releases = {one.tag: one for one in GitHubStore(places.github(site.state)).releases}
    judgement.require(len(releases) == 2 == now.releases, f"{now.releases} releases on GitHub")
    for tag, title in ((f"v{VERSION}", 0), (f"v{WITHDRAWN}", 1)):
        found = releases.get(tag)
        judgement.require(found is not None and _is_marked(found, title), f"GitHub shows {tag} so")


def _is_marked(release: Release, times: int) -> bool:
    """Whether it says as often that it is withdrawn, and holds the head over all lines.

    The look-alike's releases are immutable, so the head stands in the notes.
    """
    return (
        release.body.count(f"log.head.{len(_EVENTS)}.json") == 1
        and release.body.count("**Withdrawn:") == times
        and release.name.count("(withdrawn)") == times
    )
