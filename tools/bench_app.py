"""Sign and verify large apps as whole processes: how long against `sha256sum`, how much memory."""

from __future__ import annotations

import os
import plistlib
import resource
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench_aims import Aims
from bench_pairs import Pairs, alternate, run

from release_tool.apple import macho
from release_tool.rehearsal import samples
from release_tool.rehearsal.authority import Authority

TEAM = "SLDQ2GJ6TL"
RESOURCES = 10_000
CODE_SHARE = 0.3
LARGE, SMALL = 1_000_000_000, 100_000_000
IDENTIFIER = "io.darkbloom.bench"
MAIN = "Contents/MacOS/bench"
_SAMPLE_SECONDS = 0.005

SIGN = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from release_tool.apple import identity
from release_tool.apple.signing import Authority
from release_tool.cli import signed_subject
from release_tool.services import portable_signer
app, p12 = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
known = signed_subject.trusting((Path(sys.argv[3]),)).roots
who = identity.load(p12, "bench", known=known)
authority = Authority(identity=who, signing_time=datetime.now(UTC))
main = portable_signer.Executable(path=sys.argv[4], identifier=sys.argv[5])
portable_signer.sign_app(app, main=main, authority=authority)
"""


@dataclass(frozen=True)
class Tools:
    """The two commands of ours, and who signs."""

    sign: tuple[str, ...]
    verify: tuple[str, ...]


def compare(folder: Path, pairs: int, aims: Aims) -> None:
    """Both commands at both sizes, and what they cost."""
    if shutil.which("sha256sum") is None:
        print("sign and verify an app: not measured, there is no sha256sum here")
        return
    tools = _tools(folder)
    peaks: dict[str, dict[int, int]] = {"sign": {}, "verify": {}}
    for size in (SMALL, LARGE):
        app = make_app(folder / f"app-{size}" / "Bench.app", size)
        ours = {"sign": [*tools.sign[:3], str(app), *tools.sign[3:]],
                "verify": [tools.verify[0], "verify", str(app), *tools.verify[1:]]}  # fmt: skip
        for name, command in ours.items():
            peaks[name][size] = peak_anonymous(command)
        if size == LARGE:
            _ratios(app, ours, pairs, aims)
        shutil.rmtree(app.parent)
    for name, found in peaks.items():
        _tell_memory(name, found, aims)


def _ratios(app: Path, ours: dict[str, list[str]], pairs: int, aims: Aims) -> None:
    files = [str(path) for path in app.rglob("*") if path.is_file()]
    size = sum(Path(path).stat().st_size for path in files)
    print(f"an app of {size / 1e6:.0f} MB, {len(files)} files, {os.cpu_count()} processors")
    for name, command in ours.items():
        theirs, mine = partial(sha256sum, files), partial(run, command)
        found = alternate(theirs, mine, pairs)
        _tell_ratio(name, found, processor_seconds(mine) / processor_seconds(theirs), aims)


def _tell_ratio(name: str, found: Pairs, work: float, aims: Aims) -> None:
    aim = aims.at_most(f"{name}: time", 1 / found.ratio, 2)
    print(f"  sha256sum  {found.seconds()} to {name}")
    print(
        f"  {name} takes {1 / found.ratio:.2f} times as long {aim},"
        f" {work:.2f} times the processor time",
        flush=True,
    )


def processor_seconds(work: Callable[[], None]) -> float:
    """What the processes that the work starts cost on all cores together."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _tell_memory(name: str, found: dict[int, int], aims: Aims) -> None:
    flat = aims.flat(f"{name}: memory", found)
    most = aims.at_most(f"{name}: MB of memory", max(found.values()) / 1e6, 200)
    print(f"  {name}: peak of anonymous memory {flat} {most}")


def _tools(folder: Path) -> Tools:
    authority = Authority.create(TEAM)
    p12, roots = folder / "bench.p12", folder / "bench.pem"
    p12.write_bytes(authority.identity_p12("bench", with_chain=True))
    roots.write_bytes(authority.trust_pem())
    script = Path(sys.executable).with_name("release-tool")
    return Tools(
        sign=(sys.executable, "-c", SIGN, str(p12), str(roots), MAIN, IDENTIFIER),
        verify=(str(script), "--trust", str(roots)),
    )


def make_app(app: Path, size: int) -> Path:
    """An unsigned app: one large executable, many resources, content that repeats nowhere."""
    (app / "Contents/MacOS").mkdir(parents=True)
    info = {
        "CFBundleIdentifier": IDENTIFIER,
        "CFBundleExecutable": Path(MAIN).name,
        "CFBundleShortVersionString": "1.0",
        "CFBundlePackageType": "APPL",
    }
    (app / "Contents/Info.plist").write_bytes(plistlib.dumps(info))
    (app / MAIN).write_bytes(_large_code(int(size * CODE_SHARE)))
    (app / MAIN).chmod(0o755)
    each = int(size * (1 - CODE_SHARE)) // RESOURCES
    content = os.urandom(each + RESOURCES)
    for number in range(RESOURCES):
        path = app / "Contents/Resources" / f"{number % 100:02}" / f"{number}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[number : number + each])
    return app


def _large_code(size: int) -> bytes:
    """The sample with more in `__LINKEDIT`, where large executables keep their symbols."""
    data = bytearray(samples.template("darkbloom"))
    (code,) = macho.parse(bytes(data))
    assert code.linkedit is not None
    assert code.signature is not None
    limit, reserved = code.signature
    grown = bytearray(data[:limit]) + os.urandom((size - limit) // 16 * 16) + bytes(reserved)
    command = next(item for item in code.commands if item.command == macho.LC_CODE_SIGNATURE)
    struct.pack_into("<I", grown, command.offset + 8, len(grown) - reserved)
    linkedit = len(grown) - code.linkedit.offset
    struct.pack_into(
        "<Q", grown, code.linkedit.command.offset + 32, -(-linkedit // 0x4000) * 0x4000
    )
    struct.pack_into("<Q", grown, code.linkedit.command.offset + 48, linkedit)
    return bytes(grown)


def sha256sum(files: Sequence[str]) -> None:
    """Hash every file, in as few processes as a command line allows."""
    done = subprocess.run(
        ["xargs", "-0", "sha256sum"],
        input="\0".join(files).encode(),
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        sys.exit("sha256sum failed")


def peak_anonymous(command: Sequence[str]) -> int:
    """The most anonymous resident memory, in bytes, of a process that must succeed.

    Mapped files are not counted: the system takes them back when it likes.
    """
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        while child.poll() is None:
            peak = max(peak, _anonymous(child.pid))
            time.sleep(_SAMPLE_SECONDS)
        told = child.stderr.read().decode(errors="replace") if child.stderr else ""
        if child.returncode != 0:
            sys.exit(f"{command[0]} failed: {told[-500:]}")
    return peak


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(found[0]) * 1024 if found else 0
