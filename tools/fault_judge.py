"""What no row of the fault matrix may end in, judged from what the look-alikes and disks hold."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fault_cli import KILLED
from fault_world import VERSION, Said, Site

from release_tool.ledger import Ledger, Record
from release_tool.provenance import keys, log
from release_tool.rehearsal import counts, places, wire
from release_tool.rehearsal.counts import Counts, Registered
from release_tool.rehearsal.github_store import GitHubStore
from release_tool.services import release_pointer
from tests.canary import needles

EXITS = frozenset({0, 2, 3, 4, 5, 6, 7, 8})
"""Those that the program documents for the end of a run."""
ALIASES = (
    "releases/latest/darkbloom-bundle-macos-arm64.tar.gz",
    "releases/latest/eigeninference-bundle-macos-arm64.tar.gz",
)
_LOG, _LOG_HEAD = "releases/log.jsonl", "releases/log.head.json"
_POINTER = "releases/latest/release.json"
_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.")
_ERROR = re.compile(r"^release-tool: .*?^exit \d+", re.MULTILINE | re.DOTALL)
_CREDENTIALS = ("authorization", "cookie", "x-amz-")
_FACTS = ("  expected  ", "  observed  ")


@dataclass(kw_only=True)
class Look:
    """What stands after a command."""

    counts: Counts
    records: tuple[Record, ...]
    releases: int
    drafts: int
    publications: int

    @property
    def registrations(self) -> int:
        return len(self.counts.registrations)

    def made(self, stage: str) -> list[Record]:
        """The records of a stage."""
        return [one for one in self.records if (one.stage, one.kind) == (stage, "record")]


def look(site: Site) -> Look:
    """Read the journals and the records."""
    store = GitHubStore(places.github(site.state))
    return Look(
        counts=counts.read(site.state),
        records=tuple(Ledger(site.workspace / "ledger").records),
        releases=sum(not one.draft for one in store.releases),
        drafts=sum(one.draft for one in store.releases),
        publications=len(store.asked("publish")),
    )


@dataclass(kw_only=True)
class Judgement:
    """Which rules a row broke."""

    broken: list[str] = field(default_factory=list)

    def require(self, holds: bool, rule: str) -> None:  # noqa: FBT001 - a rule holds or not
        """Note a rule that does not hold."""
        if not holds:
            self.broken.append(rule)


def said(judgement: Judgement, told: Said) -> None:
    """Judge one command: it ended, in a way that is documented, with a next step."""
    code = told.ended.code
    judgement.require(code != KILLED, "no end within its time")
    judgement.require(code in EXITS or code == KILLED, f"exit {code} is not documented")
    judgement.require("Traceback" not in told.text, "a traceback")
    if code in EXITS - {0}:
        judgement.require(_has_hint(told.text), "an error without a next step")


def _has_hint(text: str) -> bool:
    found = _ERROR.search(text)
    lines = found.group().splitlines()[1:-1] if found else []
    return any(line.startswith("  ") and not line.startswith(_FACTS) for line in lines)


def standing(judgement: Judgement, before: Look, now: Look, site: Site) -> None:
    """Judge what stands after any command: nothing unproved, lost or signed again."""
    for row in _of_ours(now):
        served = now.counts.objects.get(site.archive_key(row.bundle_hash), "")
        place = places.objects(site.state) / "content" / served
        whole = place.is_file() and hashlib.sha256(place.read_bytes()).hexdigest()
        proved = bool(now.made("smoke") and now.made("publish"))
        judgement.require(whole == row.bundle_hash and proved, "registered and not proved")
    keeping(judgement, now)
    judgement.require(len(now.made("sign")) <= 1, "signed again")
    for stage in ("sign", "archive"):
        records = before.made(stage) + now.made(stage)
        made = {json.dumps(record.value, sort_keys=True) for record in records}
        judgement.require(len(made) <= 1, f"another result of {stage}")


def keeping(judgement: Judgement, now: Look) -> None:
    """Judge what stands below the versions' own keys, which never hold anything else."""
    # Of every write, not of the last one.
    kept = [one for one in now.counts.writes if one.key.startswith("releases/v")]
    judgement.require(
        all(now.counts.objects.get(one.key) == one.sha256 for one in kept), "lost bytes"
    )


def _of_ours(now: Look) -> list[Registered]:
    return [row for row in now.counts.registrations if row.version == VERSION]


def finished(judgement: Judgement, now: Look, report: wire.Report, site: Site) -> None:
    """Judge the end: exactly one release, registered, promoted and public, once."""
    rows = _of_ours(now)
    doubled = sum("coordinator POST" in one for one in report.duplicated)
    judgement.require(len(rows) >= 1, "nothing is registered")
    judgement.require(len(rows) <= 1 + doubled, "a second registration")
    judgement.require(len({row.bundle_hash for row in rows}) <= 1, "registered with other bytes")
    key = site.archive_key(rows[0].bundle_hash) if rows else ""
    leading(judgement, site, now, now.counts.objects.get(key, ""))
    ours = [kind for kind, version in told(site, now) if version == VERSION]
    judgement.require(ours == ["registered", "promoted"], "the log tells otherwise")
    patched = sum("github PATCH" in one for one in report.duplicated)
    wanted = 1 + len(site.shape.earlier)
    judgement.require(now.releases == wanted, f"{now.releases} releases on GitHub")
    judgement.require(now.publications <= wanted + patched, "published on GitHub twice")


def leading(judgement: Judgement, site: Site, now: Look, expected: str) -> None:
    """Judge where pointer and aliases lead: to the one archive of the version."""
    judgement.require(
        all(now.counts.objects.get(alias) == expected for alias in ALIASES), "an alias differs"
    )
    judgement.require(_pointed(site, now) == (VERSION, expected), "the pointer leads elsewhere")


def told(site: Site, now: Look) -> list[tuple[str, str]]:
    """Kind and version of what the log tells, under a signed head that covers all of it."""
    kept, head = _content(site, now, _LOG), _content(site, now, _LOG_HEAD)
    if kept is None or head is None:
        return []
    key = keys.parse(places.provenance(site.state).read_text())
    found = log.parse(kept)
    covered = log.unseal(head, trusted=[key])
    if found.unsigned([key]) or found.head(covered.environment) != covered:
        return [("no head over all lines", VERSION)]
    return [(line.entry.kind, line.entry.version) for line in found.lines]


def _content(site: Site, now: Look, key: str) -> bytes | None:
    place = places.objects(site.state) / "content" / now.counts.objects.get(key, "")
    return place.read_bytes() if place.is_file() else None


def _pointed(site: Site, now: Look) -> tuple[str, str]:
    """Version and digest that the pointer names; two empty texts where none stands."""
    place = places.objects(site.state) / "content" / now.counts.objects.get(_POINTER, "")
    if not place.is_file():
        return "", ""
    found = release_pointer.parse(place.read_bytes())
    return found.version, found.sha256


def strayed(judgement: Judgement, report: wire.Report) -> None:
    """Judge what followed a redirect: no credential ever, and nothing but a bare download.

    GitHub redirects the download of an asset to its storage, which is asked without the token.
    """
    for one in report.strayed:
        carried = any(name.startswith(_CREDENTIALS) for name in one)
        judgement.require(not carried, "a credential followed a redirect")
        asset = one["method"] == "GET" and "/releases/assets/" in one["target"]
        judgement.require(asset, "a request followed a redirect")


def secrets(judgement: Judgement, site: Site, texts: Iterable[str]) -> None:
    """Judge every file that the program may have written, and all that it said."""
    known = needles.of_environment(site.state)
    whole = [(text.encode(), "what it said") for text in texts]
    whole += [(path.read_bytes(), path.name) for path in _written(site)]
    for content, where in whole:
        for name in known.found_in(content):
            judgement.require(False, f"the secret {name} in {where}")  # noqa: FBT003 - it broke
        judgement.require(not _TOKEN.search(content), f"a bearer token in {where}")


def _written(site: Site) -> Iterator[Path]:
    """Everything below the row's folder but the look-alikes' own state."""
    for path in site.folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and site.state not in path.parents:
            yield path


def left_behind(site: Site, before: Look, now: Look) -> str:
    """What an interrupted release leaves for the next run, in a few words."""
    sent = {one.subject for one in now.counts.uploads}
    open_parts = [one for one in (places.objects(site.state) / "scratch").iterdir() if one.is_dir()]
    temporary = [one for one in (site.folder / "tmp").rglob("*") if one.is_file()]
    scratch = (site.workspace / ".scratch").exists()
    found = {
        "objects": len(now.counts.objects.keys() - before.counts.objects.keys()),
        "uploads open": len(open_parts),
        "submissions without upload": len({one.subject for one in now.counts.submissions} - sent),
        "rows": now.registrations - before.registrations,
        "drafts": now.drafts,
        "scratch": int(scratch),
        "temporary files": len(temporary),
    }
    return ", ".join(f"{count} {name}" for name, count in found.items() if count) or "nothing"
