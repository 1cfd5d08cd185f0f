"""Whether dyld finds what our code links, and library validation lets it in.

Under the hardened runtime a process loads what Apple or its own team signed, and dyld refuses
relative paths. `rules` names each rule with its source.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from posixpath import dirname, normpath
from typing import NamedTuple

from release_tool.apple import checks, code_directory
from release_tool.apple.checks import Check
from release_tool.apple.facts import BundleFacts
from release_tool.apple.policy import links
from release_tool.apple.policy.inventory import CodeFile, CodePart, Inventory

DISABLED = "com.apple.security.cs.disable-library-validation"

_SYSTEM = ("/System/", "/usr/lib/")
_SWIFT_RUNTIME = "/usr/lib/swift"
# The compiler leaves its own library folder as a search path for systems older than the Swift
# runtime in them; users have no such folder, and library validation holds there as well.
_TOOLCHAIN = re.compile(r"/(Applications/Xcode[^/]*\.app|Library/Developer/CommandLineTools)/")
# Libraries times search paths times programs, each counted by the folders on its way: large apps
# need some ten thousand. What names more would keep the judgement busy and no dyld happy.
MAX_STEPS = 200_000
_LIBRARY_VALIDATION = 0x2000
_ENFORCED = code_directory.RUNTIME | _LIBRARY_VALIDATION


class _Budget:
    """How many folders may still be looked into, for a whole app."""

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def spend(self, path: str) -> bool:
        """Whether one more path may be followed."""
        self.left -= 1 + path.count("/")
        return self.left >= 0


class _Process(NamedTuple):
    """Who loads: the executable that the system starts, and the file that asks."""

    executable: str
    loader: str


def judge(
    inventory: Inventory, *, facts: BundleFacts | None = None, path: str = "", own: bool = True
) -> list[Check]:
    """Judge every linked library and search path of an app's code.

    Args:
        inventory: the app's code.
        facts: the app as its signatures were judged, for the entitlements that lift library
            validation; None before signing, when all code will be of one team.
        path: how checks name the app.
        own: whether it is our app. Others may link what an installer put elsewhere on the disk:
            that cannot be seen from here.
    """
    found: list[Check] = []
    budget = _Budget()
    programs = inventory.programs
    for file in inventory.code.values():
        for part in file.parts:
            subject = "/".join(piece for piece in (path, file.path) if piece)
            if len(file.parts) > 1:
                subject = f"{subject} ({part.arch})"
            exempt = _is_exempt(programs, facts, file.path)
            starts = [file.path] if part.is_executable else sorted(programs) or [file.path]
            judged = _Judged(inventory, file, part, subject, starts, budget, own=own, exempt=exempt)
            found += judged.libraries()
            found += judged.search_paths()
    return found


def _is_exempt(programs: Collection[str], facts: BundleFacts | None, path: str) -> bool:
    """Whether the process that loads has an entitlement that lifts the rule of one team.

    Before signing nobody's team counts: what a build signed is signed anew.
    """
    if facts is None:
        return True
    program = path if path in programs else facts.main_executable
    report = facts.code.get(program)
    claims = [item.entitlements or {} for item in report.slices] if report else []
    return bool(claims) and all(item.get(DISABLED) is True for item in claims)


class _Judged:
    """One slice under judgement."""

    def __init__(
        self,
        inventory: Inventory,
        file: CodeFile,
        part: CodePart,
        subject: str,
        programs: Sequence[str],
        budget: _Budget,
        *,
        own: bool,
        exempt: bool,
    ) -> None:
        self._budget = budget
        self._inventory = inventory
        self._file = file
        self._part = part
        self._subject = subject
        self._own = own
        self._exempt = exempt
        self._processes = [_Process(one, file.path) for one in programs]

    def libraries(self) -> Iterator[Check]:
        system = inside = 0
        failed = False
        for library in self._part.libraries:
            if self._is_system(library.name):
                system += 1
                continue
            place = self._find(library.name)
            if place is not None:
                inside += 1
                yield from self._team(library.name, place)
                continue
            if library.may_be_missing:
                hint = "it is linked weakly and does not lie in the bundle"
                yield checks.not_checked("linked library", hint, subject=self._subject)
                continue
            failed = True
            yield self._lost(library.name)
        if not failed:
            observed = f"{system} of the system, {inside} in the bundle"
            yield checks.passed("linked library", observed, subject=self._subject)

    def _lost(self, library: str) -> Check:
        if not self._own and library.startswith("/"):
            hint = f"{library} lies outside of the bundle"
            return checks.not_checked("linked library", hint, subject=self._subject)
        return checks.failed(
            "linked library",
            subject=self._subject,
            expected="of the system, or a file in the bundle",
            observed=library if self._budget.left > 0 else f"{library}, too many search paths",
            hint="dyld ends the process at launch: bundle the library and link it by @rpath",
        )

    def _is_system(self, library: str) -> bool:
        if library.startswith(_SYSTEM):
            return normpath(library) == library
        # Found in the system's Swift runtime, which is no file but part of the shared cache.
        return (
            library.startswith("@rpath/libswift")
            and _SWIFT_RUNTIME in self._part.search_paths
            and self._find(library) is None
        )

    def _find(self, library: str) -> str | None:
        """The file in the bundle that dyld would load, or None."""
        for process in self._processes:
            for candidate in self._candidates(library, process):
                if self._budget.left < 0:
                    return None
                place = _resolved(self._inventory, candidate, self._budget)
                if place is not None:
                    return place
        return None

    def _candidates(self, library: str, process: _Process) -> Iterator[str]:
        if not library.startswith("@rpath/"):
            yield from _expanded(library, process)
            return
        name = library.removeprefix("@rpath/")
        for loader in dict.fromkeys((process.loader, process.executable)):
            for part in self._inventory.code[loader].parts:
                if part.arch != self._part.arch:
                    continue
                for folder in part.search_paths:
                    yield from _expanded(f"{folder}/{name}", _Process(process.executable, loader))

    def _team(self, library: str, place: str) -> Iterator[Check]:
        target = self._inventory.code_at(place)
        if target is None:
            yield checks.failed(
                "linked library",
                subject=self._subject,
                expected="a Mach-O",
                observed=f"{library} is {place}, which is none",
            )
            return
        enforced = self._part.flags is not None and self._part.flags & _ENFORCED
        if not enforced or self._exempt:
            return
        teams = {part.team_id for part in target.parts if part.arch == self._part.arch}
        own = self._part.team_id
        yield checks.compare(
            "team of the linked library",
            # Two that have no team are not of one: ad-hoc code under the hardened runtime ends so.
            expected=f"{place} of {f'team {own}' if own else 'a team that both have'}",
            observed=f"{place} of team {', '.join(team or 'none' for team in teams) or 'none'}",
            subject=self._subject,
            hint="library validation refuses another team's code: sign it with ours"
            if own
            else "sign both with a team's certificate, or without the hardened runtime",
        )

    def search_paths(self) -> Iterator[Check]:
        wrong = False
        for folder in dict.fromkeys(self._part.search_paths):
            if folder.startswith(_SYSTEM) or self._stays(folder):
                continue
            if _TOOLCHAIN.match(folder):
                observed = f"{folder}: the compiler's, absent where users are"
                yield checks.unprotected("search path", observed, subject=self._subject)
                continue
            wrong = True
            yield self._strange(folder)
        if not wrong:
            count = len(self._part.search_paths)
            yield checks.passed(
                "search path", f"{count} inside or of the system", subject=self._subject
            )

    def _strange(self, folder: str) -> Check:
        if not self._own:
            hint = f"{folder} lies outside of the bundle"
            return checks.not_checked("search path", hint, subject=self._subject)
        return checks.failed(
            "search path",
            subject=self._subject,
            expected="inside the bundle, or the system's",
            observed=folder,
            hint="take it off: install_name_tool -delete_rpath; users have no such folder",
        )

    def _stays(self, folder: str) -> bool:
        return any(
            self._budget.spend(place) and not place.startswith("..")
            for process in self._processes
            for place in _expanded(folder, process)
        )


def _expanded(text: str, process: _Process) -> Iterator[str]:
    """A path of the bundle for a path with one of dyld's words; nothing for any other."""
    for word, base in (
        ("@executable_path", dirname(process.executable)),
        ("@loader_path", dirname(process.loader)),
    ):
        if text == word or text.startswith(f"{word}/"):
            yield normpath(f"{base}/{text.removeprefix(word)}".lstrip("/"))


def _resolved(inventory: Inventory, path: str, budget: _Budget) -> str | None:
    """Follow the links of the bundle to a regular file; None where there is none inside."""
    return links.follow(path, inventory.links, inventory.is_file, budget.spend)
