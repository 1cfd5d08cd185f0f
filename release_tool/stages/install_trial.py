"""One installer with one release: its homes, its runs, and what has to stand behind each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from release_tool import layout
from release_tool.apple import checks, release
from release_tool.apple.checks import Check
from release_tool.files import hashing
from release_tool.plan import ReleasePlan
from release_tool.services import installer
from release_tool.services.candidate_server import CandidateServer
from release_tool.services.child import Finished
from release_tool.stages import install_home, installer_file
from release_tool.stages.install_home import USERS_FILE, Listing
from release_tool.values import ReleaseArchive

# An installation of a release takes some seconds.
SECONDS = 300.0
WHOLE = ("old", "new", "aside")
"""How the app may stand wherever an installer is killed (`Trial.stands`)."""
_SAME = "as in the archive"
_NOTHING = "no process, no download"
_LOG_LINES = 3
_STALE = "Contents/Resources/stale.bundle/left-over"


@dataclass(frozen=True, kw_only=True)
class ReleaseBefore:
    """An earlier release that users have."""

    version: str
    file: Path
    """Its archive."""
    sha256: str
    """As it was published."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The release under trial."""

    plan: ReleasePlan
    archive: ReleaseArchive
    file: Path
    unpacked: Path
    """Of the archive, by our own reader."""
    scratch: Path
    """A folder to be made for the trials."""
    before: ReleaseBefore | None = None
    """None where none is at hand."""
    outside: Sequence[Path] = field(default_factory=lambda: install_home.outside(Path.home()))
    """Folders and files in which an installer leaves no trace."""


class Trial:
    """One installer, with one release."""

    def __init__(self, candidate: Candidate, server: CandidateServer, script: Path) -> None:
        self.candidate = candidate
        self.server = server
        self.script = script
        self.layout = layout.of(candidate.plan)
        self.app = self.layout.top
        """What is swapped as a whole: the app, or `bin` where there is none."""
        self.tail_seconds = 0.0
        """How long the installer works once all was downloaded."""
        self.homes = 0
        """How many were made."""
        self._new = install_home.listing(candidate.unpacked / self.app)
        self._flat = install_home.listing(candidate.unpacked / release.FLAT)

    def home(self) -> Path:
        """An empty home."""
        self.homes += 1
        home = self.candidate.scratch / f"home-{self.homes}"
        home.mkdir(mode=0o700)
        return home

    def home_of_a_previous_version(self) -> Path:
        """A small older release: flat copies under `bin/`, and a file that must vanish."""
        home = self.home()
        root = install_home.root(home)
        places = {f"{self.app}/{self.layout.executables}".rstrip("/"), release.FLAT}
        for name in layout.flat_names(self.candidate.plan):
            for place in places:
                install_home.write(root / place / name, f"{name} of a previous version")
        # Nothing seals a folder of flat files.
        if self.layout.is_app:
            install_home.write(root / self.app / _STALE, "left over")
        install_home.write(root / USERS_FILE, "the user's")
        return home

    def run(self, home: Path) -> Finished:
        """The installer, to its end."""
        begun = time.monotonic()
        found = installer.run(self.script, home=home, seconds=SECONDS)
        if found.ending.status == 0:
            self.tail_seconds = time.monotonic() - max(begun, self.server.sent_at)
        return found

    def state(self, home: Path) -> Listing:
        """The app, `bin/` and the user's file: what an installation may have touched."""
        wanted = (self.app, release.FLAT, USERS_FILE)
        listed = install_home.listing(install_home.root(home))
        return {path: what for path, what in listed.items() if path.split("/")[0] in wanted}

    def whole(self, home: Path, before: Listing) -> str:
        """Whether the old or the new app stands, or the old one was set aside whole."""
        found = self.stands(home, before)
        return "whole" if found in WHOLE else found

    def stands(self, home: Path, before: Listing) -> str:
        """`old` or `new` in its place, the old one `aside`, `gone`, or what is wrong with it."""
        root = install_home.root(home)
        old = {
            path.removeprefix(f"{self.app}/"): what
            for path, what in before.items()
            if path.startswith(f"{self.app}/")
        }
        if (root / self.app).exists():
            if install_home.listing(root / self.app) == old:
                return "old"
            found = self._compared(root)
            return "new" if found == _SAME else found
        # The new one in a scratch folder is no comfort to who has lost the old one.
        aside = any(install_home.listing(place) == old for place in root.rglob(self.app))
        return "aside" if aside else "gone"

    def installed(self, name: str, home: Path, ended: Finished) -> Iterator[Check]:
        """Everything that an installation leaves, compared with the archive."""
        root = install_home.root(home)
        said = "; ".join(ended.log[-_LOG_LINES:])
        code = str(ended.ending) if ended.ending.status == 0 else f"{ended.ending}: {said}"
        yield compare(name, "exit code", "exit code 0", code)
        yield compare(name, self.app, _SAME, self._compared(root))
        yield compare(name, "what it leaves", _NOTHING, self._left(home, ended) or _NOTHING)
        wrong = [f"bin/{program}" for program in self._programs() if not self._runs(root, program)]
        yield compare(
            name, "bin/", "leads to the app's files", ", ".join(wrong) or "leads to the app's files"
        )

    def _left(self, home: Path, ended: Finished) -> str:
        """Processes, and the archive that was downloaded: each update would leave one more."""
        size, sha256 = self.candidate.archive.size, self.candidate.archive.sha256
        kept = [
            f"~/{path.relative_to(home)}, the download"
            for path in sorted(home.rglob("*"))
            if path.is_file() and path.stat().st_size == size and hashing.sha256_of(path) == sha256
        ]
        return ", ".join([*kept, *ended.aftermath.left])

    def _compared(self, root: Path) -> str:
        if not (root / self.app).is_dir():
            return "not there"
        found = install_home.listing(root / self.app)
        if not self.layout.is_app:
            # Links of old services stand among the files.
            legacy = installer_file.LEGACY_NAMES.values()
            found = {path: what for path, what in found.items() if path not in self._linked(legacy)}
        return install_home.difference(self._new, found) or _SAME

    def _linked(self, names: Iterable[str]) -> set[str]:
        """Those of these names that the archive does not hold itself."""
        return set(names) - self._new.keys()

    def _programs(self) -> dict[str, str]:
        """The names under `bin/`, and the flat copy that each must equal."""
        legacy = installer_file.LEGACY_NAMES
        names = {name: name for name in self._flat}
        return names | {legacy[name]: name for name in names if name in legacy}

    def _runs(self, root: Path, program: str) -> bool:
        place = (root / release.FLAT / program).resolve()
        inside = place.is_file() and root.resolve() in place.parents
        wanted = self._flat[self._programs()[program]]
        return inside and install_home.listing(place.parent).get(place.name) == wanted


def compare(name: str, subject: str, expected: str, observed: str) -> Check:
    """What one trial found of one thing."""
    return checks.compare(
        f"installer, {name}",
        expected=expected,
        observed=observed,
        subject=subject,
        hint="mend the installer: users run it with this very archive",
    )


def not_tried(name: str, subject: str, why: str) -> Check:
    """A trial that could not be made."""
    return checks.not_checked(f"installer, {name}", why, subject=subject)
