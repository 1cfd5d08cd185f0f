"""Install smoke: the project's installer, as users run it, with the archive that will ship.

A coordinator on loopback serves the candidate; each trial has a home of its own. An installation
must succeed on an empty home, over a previous version and over itself; it must change nothing when
the download is not what was released; and wherever it is killed, the old or the new version stands
whole, or the old one was set aside whole, and the next run ends well. Where that is told
by a clock, a swap of some milliseconds is never hit: so it is also held at each of the commands by
which it moves files, looked at, and killed at some of them, first of all where the app changes.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from release_tool import layout
from release_tool.apple import checks, release
from release_tool.apple.checks import Check
from release_tool.files import archive_reader
from release_tool.files.tree import DiskTree
from release_tool.plan import ReleasePlan
from release_tool.services import candidate_server, installer
from release_tool.services.candidate_server import CandidateServer, Manner, Point
from release_tool.services.child import Finished
from release_tool.services.held_commands import MOST_CALLS, NAMES, HeldCommands
from release_tool.stages import installer_file
from release_tool.values import ReleaseArchive

# An installation of a release takes some seconds.
_SECONDS = 300.0
_POINT_SECONDS = 60.0
# Of what is left of an installation once all was downloaded: amid unpacking, and late in it.
_LATE = (0.3, 0.8)
# Each costs two installations: enough for both ends of `old`, `aside` and `new`.
_KILLS = 6
# Before anything moved, and where the swap begins and is half done: `make kill` kills the template
# at each of its commands, so a rehearsal need not be slow for it.
_KILLS_OF_THE_TEMPLATE = 3
# Of all kills at a command together; an installation takes seconds, and no release waits for hours.
_KILLING_SECONDS = 600.0
_COMMANDS = ", ".join(NAMES)
_SHOWN_CALL = 100
_WHOLE = ("old", "new", "aside")
_SAME = "as in the archive"
_SHOWN = 3
_LOG_LINES = 3
_TRACE = re.compile(r"darkbloom|eigeninference", re.IGNORECASE)
_HOME_FILES = (
    *(".profile", ".bashrc", ".bash_profile", ".zshrc", ".zprofile"),
    *(f"{installer_file.FOLDER}/bin", "Library/LaunchAgents"),
)
_USERS_FILE = "provider.toml"
_CHANGELOG = 'It said "url":"http://127.0.0.1:1/", and\nmore on another line'
_STALE = "Contents/Resources/stale.bundle/left-over"

Listing = Mapping[str, str]
"""What stands in a folder: kind, mode and digest or target, by path."""


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
    outside: Sequence[Path] = field(default_factory=lambda: _outside(Path.home()))
    """Folders and files in which an installer leaves no trace."""


def judge(candidate: Candidate) -> list[Check]:
    """Try the installer in every way; each outcome is named.

    Raises:
        UsageError: the plan's installer cannot be read.
        VerificationError: it is no installer, or does not end.
        HostError: no process can be started here.
    """
    content = installer_file.read(candidate.plan)
    row = _row(candidate.plan, candidate.archive)
    before = _traces(candidate.outside)
    candidate.scratch.mkdir()
    with candidate_server.serving(candidate.file, row) as server:
        filled = content.replace(installer_file.PLACEHOLDER.encode(), server.url.encode())
        script = candidate.scratch / "install.sh"
        script.write_bytes(filled)
        trial = _Trial(candidate, server, script)
        found = [
            *trial.installs(),
            *trial.updates(),
            *trial.refuses(),
            *trial.survives(),
            *trial.steps(),
        ]
    found.append(
        checks.compare(
            "installer",
            expected="no trace outside of the home and TMPDIR",
            observed=_difference(before, _traces(candidate.outside))
            or "no trace outside of the home and TMPDIR",
            subject="outside",
            hint="let it work below ~ and in mktemp -d only",
        )
    )
    return found


def _row(plan: ReleasePlan, archive: ReleaseArchive) -> dict[str, object]:
    """What the coordinator will say of this release."""
    return {
        "version": plan.version,
        "platform": plan.product.platform,
        "backend": plan.product.backend,
        "binary_hash": archive.binary_sha256,
        "bundle_hash": archive.sha256,
        "metallib_hash": archive.metallib_sha256,
        # Installers read this with sed: text of a tag may look like a field.
        "changelog": _CHANGELOG,
        "active": True,
    }


class _Trial:
    """One installer, with one release."""

    def __init__(self, candidate: Candidate, server: CandidateServer, script: Path) -> None:
        self._candidate = candidate
        self._server = server
        self._script = script
        self._layout = layout.of(candidate.plan)
        self._app = self._layout.top
        """What is swapped as a whole: the app, or `bin` where there is none."""
        self._new = _listing(candidate.unpacked / self._app)
        self._flat = _listing(candidate.unpacked / release.FLAT)
        self._homes = 0
        self._tail_seconds = 0.0
        """How long the installer works once all was downloaded."""

    def installs(self) -> Iterator[Check]:
        """On an empty home, once more, and over a previous version."""
        home = self._home()
        yield from self._installed("fresh", home, self._run(home))
        yield from self._installed("twice", home, self._run(home))
        home = self._home_of_a_previous_version()
        yield from self._installed("over a previous version", home, self._run(home))
        kept = (_root(home) / _USERS_FILE).is_file()
        yield _compare(
            "over a previous version", "the user's file", "kept", "kept" if kept else "gone"
        )
        if not self._layout.is_app:
            yield from self._refuses_to_hide_an_app()

    def _refuses_to_hide_an_app(self) -> Iterator[Check]:
        """Flat files are older than every app: who has one keeps it, and what leads to it."""
        home, name = self._home(), "over an installed app"
        app = f"{self._candidate.plan.product.name}.app"
        for program in layout.flat_names(self._candidate.plan):
            _write(_root(home) / app / "Contents/MacOS" / program, "of a later version")
            link = _root(home) / release.FLAT / program
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(f"../{app}/Contents/MacOS/{program}")
        before = _listing(_root(home))
        ended = self._run(home)
        refused = "refused" if ended.ending.status > 0 else str(ended.ending)
        yield _compare(name, "exit code", "refused", refused)
        yield _compare(
            name, "what stood there", "unchanged", _changed(before, _listing(_root(home)))
        )

    def updates(self) -> Iterator[Check]:
        """Over the release that users have, as it was unpacked there."""
        before = self._candidate.before
        if before is None:
            name, why = "over the release before", "no earlier published archive is at hand"
            yield checks.not_checked(f"installer, {name}", why, subject=self._app)
            return
        name = f"over the release before, {before.version}"
        home = self._home()
        root = _root(home)
        root.mkdir()
        limits = archive_reader.Limits(
            compressed_bytes=self._candidate.plan.limits.archive_bytes,
            member_bytes=self._candidate.plan.limits.member_bytes,
            members=self._candidate.plan.limits.members,
        )
        # macOS's tar, which packs what codesign signed, writes extended attributes as sidecars.
        sidecars = self._candidate.plan.environment.signer == "portable"
        found = archive_reader.unpack(before.file, root, limits=limits, sidecars=sidecars)
        if found.sha256 != before.sha256:
            yield _compare(name, before.file.name, before.sha256, found.sha256)
            return
        _write(root / _USERS_FILE, "the user's")
        yield from self._installed(name, home, self._run(home))
        kept = (root / _USERS_FILE).is_file()
        yield _compare(name, "the user's file", "kept", "kept" if kept else "gone")
        shutil.rmtree(home, ignore_errors=True)

    def refuses(self) -> Iterator[Check]:
        """What is not what was released changes nothing."""
        manners: dict[Manner, str] = {
            "changed": "a changed download",
            "cut": "a cut download",
            "none": "no release",
        }
        for manner, name in manners.items():
            home = self._home_of_a_previous_version()
            before = self._state(home)
            self._server.manner = manner
            ended = self._run(home)
            self._server.manner = "whole"
            refused = "refused" if ended.ending.status > 0 else str(ended.ending)
            yield _compare(name, "exit code", "refused", refused)
            yield _compare(
                name, "what stood there", "unchanged", _changed(before, self._state(home))
            )

    def survives(self) -> Iterator[Check]:
        """Killed anywhere, and run again."""
        home = self._home_of_a_previous_version()
        points: dict[Point, str] = {"asked": "before the download", "amid": "amid the download"}
        for point, name in points.items():
            yield from self._killed(home, point, f"killed {name}", 0.0)
        yield from self._installed("after two kills", home, self._run(home))
        home = self._home_of_a_previous_version()
        for share in _LATE:
            after = self._tail_seconds * share
            yield from self._killed(home, "sent", f"killed {share:.0%} after the download", after)
        yield from self._installed("after two late kills", home, self._run(home))

    def _home(self) -> Path:
        self._homes += 1
        home = self._candidate.scratch / f"home-{self._homes}"
        home.mkdir(mode=0o700)
        return home

    def _home_of_a_previous_version(self) -> Path:
        """A small older release: flat copies under `bin/`, and a file that must vanish."""
        home = self._home()
        root = _root(home)
        places = {f"{self._app}/{self._layout.executables}".rstrip("/"), release.FLAT}
        for name in layout.flat_names(self._candidate.plan):
            for place in places:
                _write(root / place / name, f"{name} of a previous version")
        # Nothing seals a folder of flat files.
        if self._layout.is_app:
            _write(root / self._app / _STALE, "left over")
        _write(root / _USERS_FILE, "the user's")
        return home

    def _run(self, home: Path) -> Finished:
        begun = time.monotonic()
        found = installer.run(self._script, home=home, seconds=_SECONDS)
        if found.ending.status == 0:
            self._tail_seconds = time.monotonic() - max(begun, self._server.sent_at)
        return found

    def _killed(self, home: Path, point: Point, name: str, after: float) -> Iterator[Check]:
        before = self._state(home)
        self._server.hold(point)
        killed = installer.kill_at(
            self._script,
            home=home,
            reached=self._server.wait,
            after=after,
            seconds=_POINT_SECONDS,
        )
        self._server.release()
        if killed:
            yield _compare(name, self._app, "whole", self._whole(home, before))
        elif point == "sent":
            yield _not_killed(name, self._app, "it ended before it could be killed")
        else:
            yield _compare(name, "the point", "reached", "never reached")

    def steps(self) -> Iterator[Check]:
        """Held at each command that moves files, and killed at some of them."""
        calls = self._held()
        name = f"held at each {_COMMANDS}"
        if not calls:
            why = f"it calls none of {_COMMANDS} by name or path: killed by the clock only"
            yield _not_killed(name, self._app, why)
            return
        wrong = [str(one) for one in calls if one.state not in _WHOLE]
        whole = f"whole at {len(calls)} calls"
        yield _compare(name, self._app, whole, "; ".join(wrong[:_SHOWN]) or whole)
        if len(calls) == MOST_CALLS:
            yield _not_killed(name, "the calls after these", f"{MOST_CALLS} calls were looked at")
        until = time.monotonic() + _KILLING_SECONDS
        for call in _worth_killing(calls, self._kills):
            yield from self._killed_at(call, len(calls), until)

    @property
    def _kills(self) -> int:
        plan = self._candidate.plan
        well_known = not plan.smoke.installer and plan.environment.provider == "stand-in"
        return _KILLS_OF_THE_TEMPLATE if well_known else _KILLS

    def _held(self) -> list[_Call]:
        """An installation over a previous version, looked at before each of its commands."""
        home, before, commands, script = self._with_commands(None)
        calls: list[_Call] = []

        def look(number: int) -> None:
            said = commands.said(number).replace(str(home), "~")[:_SHOWN_CALL]
            calls.append(_Call(number, said, self._stands(home, before)))

        installer.step_through(
            script, home=home, commands=commands, look=look, seconds=_KILLING_SECONDS
        )
        shutil.rmtree(home, ignore_errors=True)
        return calls

    def _killed_at(self, call: _Call, count: int, until: float) -> Iterator[Check]:
        """Killed at a command, and run again."""
        name, subject = "killed at a command", f"{call.command}, call {call.number} of {count}"
        if time.monotonic() > until:
            yield _not_killed(name, subject, f"the others took {_KILLING_SECONDS:.0f} s")
            return
        home, before, commands, script = self._with_commands(call.number)

        def reached(seconds: float) -> bool:
            if not commands.waits(call.number):
                time.sleep(seconds)
            return commands.waits(call.number)

        if not installer.kill_at(
            script,
            home=home,
            reached=reached,
            after=0.0,
            seconds=_SECONDS,
            commands=commands,
        ):
            yield _not_killed(name, subject, "it did not come to that call again")
            return
        yield _compare(name, subject, "whole", self._whole(home, before))
        again = self._installed("again", home, self._run(home))
        wrong = [f"{one.subject} {one.observed}" for one in again if one.outcome == "failed"]
        ends = "run again, it ends well"
        yield _compare(f"{name}, and run again", subject, ends, "; ".join(wrong) or ends)
        # Each home holds a whole release.
        shutil.rmtree(home, ignore_errors=True)

    def _with_commands(self, hold: int | None) -> tuple[Path, Listing, HeldCommands, Path]:
        """A home of a previous version, what stands in it, stand-ins, and the script for them."""
        home = self._home_of_a_previous_version()
        folder = self._candidate.scratch / f"held-{self._homes}"
        commands = HeldCommands(folder, hold=hold)
        script = folder / self._script.name
        script.write_bytes(commands.led_to(self._script.read_bytes()))
        return home, self._state(home), commands, script

    def _whole(self, home: Path, before: Listing) -> str:
        """Whether the old or the new app stands, or the old one was set aside whole."""
        found = self._stands(home, before)
        return "whole" if found in _WHOLE else found

    def _stands(self, home: Path, before: Listing) -> str:
        """`old` or `new` in its place, the old one `aside`, `gone`, or what is wrong with it."""
        root = _root(home)
        old = {
            path.removeprefix(f"{self._app}/"): what
            for path, what in before.items()
            if path.startswith(f"{self._app}/")
        }
        if (root / self._app).exists():
            if _listing(root / self._app) == old:
                return "old"
            found = self._compared(root)
            return "new" if found == _SAME else found
        # The new one in a scratch folder is no comfort to who has lost the old one.
        aside = any(_listing(place) == old for place in root.rglob(self._app))
        return "aside" if aside else "gone"

    def _installed(self, name: str, home: Path, ended: Finished) -> Iterator[Check]:
        """Everything that an installation leaves, compared with the archive."""
        root = _root(home)
        said = "; ".join(ended.log[-_LOG_LINES:])
        code = str(ended.ending) if ended.ending.status == 0 else f"{ended.ending}: {said}"
        yield _compare(name, "exit code", "exit code 0", code)
        yield _compare(name, self._app, _SAME, self._compared(root))
        wrong = [f"bin/{program}" for program in self._programs() if not self._runs(root, program)]
        yield _compare(
            name, "bin/", "leads to the app's files", ", ".join(wrong) or "leads to the app's files"
        )

    def _compared(self, root: Path) -> str:
        if not (root / self._app).is_dir():
            return "not there"
        found = _listing(root / self._app)
        if not self._layout.is_app:
            # Links of old services stand among the files.
            legacy = installer_file.LEGACY_NAMES.values()
            found = {path: what for path, what in found.items() if path not in self._linked(legacy)}
        return _difference(self._new, found) or _SAME

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
        return inside and _listing(place.parent).get(place.name) == wanted

    def _state(self, home: Path) -> Listing:
        """The app, `bin/` and the user's file: what an installation may have touched."""
        wanted = (self._app, release.FLAT, _USERS_FILE)
        listed = _listing(_root(home))
        return {path: what for path, what in listed.items() if path.split("/")[0] in wanted}


class _Call(NamedTuple):
    """A command of an installer, as it waits."""

    number: int
    said: str
    """The command and its arguments, cut."""
    state: str
    """What stands before it does anything."""

    @property
    def command(self) -> str:
        """Its name."""
        return self.said.partition(" ")[0]

    def __str__(self) -> str:
        return f"{self.state} before call {self.number}, {self.said}"


def _worth_killing(calls: Sequence[_Call], kills: int) -> list[_Call]:
    """Both ends of each stretch in which the same stands, then others, evenly."""
    last = len(calls) - 1
    ends = [
        one
        for at, one in enumerate(calls)
        if at in (0, last) or calls[at - 1].state != one.state or calls[at + 1].state != one.state
    ]
    # What stands wrong first: that is what a release must not have.
    ends.sort(key=lambda one: one.state in _WHOLE)
    others = [one for one in calls if one not in ends]
    room = max(kills - len(ends), 0)
    spread = [others[at * len(others) // room] for at in range(min(room, len(others)))]
    return sorted([*ends[:kills], *spread])


def _root(home: Path) -> Path:
    return home / installer_file.FOLDER


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _listing(folder: Path) -> dict[str, str]:
    tree = DiskTree(folder)
    entries = tree.entries()
    digests = tree.digests({one.path: ("sha256",) for one in entries if one.kind == "file"})
    return {
        one.path: f"{one.mode:04o} {digests[one.path]['sha256'].hex()}"
        if one.kind == "file"
        else f"{one.kind} {one.target}"
        for one in entries
    }


def _difference(wanted: Listing, found: Listing) -> str:
    """What differs, by name; empty where nothing does."""
    told = []
    for path in sorted(wanted.keys() | found.keys()):
        if path not in found:
            told.append(f"{path} is missing")
        elif path not in wanted:
            told.append(f"{path} is new")
        elif wanted[path] != found[path]:
            told.append(f"{path} differs")
    more = [f"and {len(told) - _SHOWN} more"] if len(told) > _SHOWN else []
    return ", ".join([*told[:_SHOWN], *more])


def _changed(before: Listing, after: Listing) -> str:
    return _difference(before, after) or "unchanged"


def _compare(name: str, subject: str, expected: str, observed: str) -> Check:
    return checks.compare(
        f"installer, {name}",
        expected=expected,
        observed=observed,
        subject=subject,
        hint="mend the installer: users run it with this very archive",
    )


def _not_killed(name: str, subject: str, why: str) -> Check:
    return checks.not_checked(f"installer, {name}", why, subject=subject)


def _outside(home: Path) -> tuple[Path, ...]:
    """Where installers of the past have written, beside their own folder."""
    system = (Path("/tmp"), Path("/var/tmp"), Path("/usr/local/bin"))  # noqa: S108
    return (*system, *(home / name for name in _HOME_FILES))


def _traces(places: Sequence[Path]) -> dict[str, str]:
    """Files of the product's name in folders, and the files themselves."""
    found = {}
    for place in places:
        try:
            inside = [one for one in place.iterdir() if _TRACE.search(one.name)]
        except NotADirectoryError:
            inside = [place]
        except OSError:
            continue
        for one in inside:
            status = one.lstat()
            found[str(one)] = f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
    return found
