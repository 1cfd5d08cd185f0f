"""Ratios against the shell pipeline, each from one run: paired, alternating, medians.

1. Archive and digest of a 250 MB bundle with the real Metal library, against `tar czf` and
   `shasum -a 256`. The aim: 4 times faster at no more than 2 % larger.
2. `release-tool verify-profile`, as a whole process, against `openssl cms -verify` and a Python
   that reads the plist. The aim: within 2 times.
3. Signing and verifying an app of 1 GB (10,000 resources, a Mach-O of 300 MB), each as a whole
   process against `sha256sum` over the same files. The aim: within 2 times, and at 100 MB and
   1 GB the same peak of anonymous memory, below 200 MB.
4. Publishing 250 MB to look-alikes of the store on this machine, against three `aws s3 cp`. The
   aims: 0.4 times the time, bytes sent at most 1.01 times the archive, and a peak of anonymous
   memory that does not grow with it: 10 MB go in one request, 250 MB and 2 GB in four at a time.
5. Archive, hash and publish that bundle of 250 MB, against tar, three `shasum` and three
   `aws s3 cp`. The aim: 5 times faster.
6. `release-tool --help` as a whole process, against a bare click program. The aim: within 2 times.

Each aim stands beside its number; one that is missed is told again at the end, which exits with 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import ssl
import sys
import tempfile
from pathlib import Path

import bench_app
import bench_publish
import bench_start
import yaml
from bench_aims import Aims
from bench_pairs import alternate, run

from release_tool import data
from release_tool.apple import certificates
from release_tool.rehearsal import profiles
from release_tool.rehearsal.authority import Authority
from release_tool.services import wheels

ROOT = Path(__file__).resolve().parent.parent
REAL_PROFILE = ROOT.parent / "shared/realdata/profiles/developer-id-2026.provisionprofile"
TOTAL_BYTES = 250_000_000
DATE = 1_780_000_000
TEAM = "SLDQ2GJ6TL"
PACK = (
    "import sys; from pathlib import Path; from release_tool.files import archive_writer;"
    "print(archive_writer.pack(Path(sys.argv[1]), Path(sys.argv[2]), "
    f"date={DATE}).sha256)"
)
READ_PLIST = "import plistlib, sys; plistlib.load(open(sys.argv[1], 'rb'))"


def main() -> int:
    """Run every comparison, or one; returns 1 where an aim was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="runs of the archive comparison")
    parser.add_argument("--profile-pairs", type=int, default=30, help="of the other")
    parser.add_argument("--app-pairs", type=int, default=3, help="of signing and of verifying")
    parser.add_argument("--publish-pairs", type=int, default=3, help="of publishing")
    parser.add_argument(
        "--only",
        choices=("archive", "profile", "start", "app", "publish", "release"),
        help="one comparison",
    )
    wanted, aims = parser.parse_args(), Aims()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        if wanted.only in (None, "archive"):
            archive(Path(folder), wanted.pairs, aims)
        if wanted.only in (None, "profile"):
            verify_profile(Path(folder), wanted.profile_pairs, aims)
        if wanted.only in (None, "start"):
            bench_start.compare(Path(folder), wanted.profile_pairs, aims)
        if wanted.only in (None, "app"):
            bench_app.compare(Path(folder), wanted.app_pairs, aims)
        if wanted.only in (None, "publish"):
            bench_publish.compare(scratch(folder, "publish"), wanted.publish_pairs, aims)
        if wanted.only in (None, "release"):
            release(scratch(folder, "release"), wanted.publish_pairs, aims)
    print("\n".join(aims.summary()))
    return int(bool(aims.missed))


def scratch(folder: str, name: str) -> Path:
    """A folder for one comparison."""
    made = Path(folder) / name
    made.mkdir()
    return made


def release(folder: Path, pairs: int, aims: Aims) -> None:
    """Pack, hash and publish, against tar, shasum and aws."""
    bundle = make_bundle(folder / "bundle")
    pack = [sys.executable, "-c", PACK, str(bundle)]
    bench_publish.compare_release(folder, bundle, pack, pairs, aims)


def archive(folder: Path, pairs: int, aims: Aims) -> None:
    """Pack and hash, against tar and shasum."""
    bundle = make_bundle(folder / "bundle")
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    theirs, ours = folder / "theirs.tar.gz", folder / "ours.tar.gz"

    def shell() -> None:
        run(["tar", "czf", str(theirs), "-C", str(bundle), "."])
        run(["shasum", "-a", "256", str(theirs)])

    def tool() -> None:
        run([sys.executable, "-c", PACK, str(bundle), str(ours)])

    found = alternate(shell, tool, pairs)
    growth = ours.stat().st_size / theirs.stat().st_size - 1
    print(f"archive + hash, {size / 1e6:.0f} MB, {os.cpu_count()} processors")
    print(f"  tar czf + shasum -a 256  {found.seconds()}")
    faster = aims.at_least("archive + hash: times faster", found.ratio, 4)
    larger = aims.at_most("archive: size against tar's", 1 + growth, 1.02)
    print(f"  {found.ratio:.1f} times faster {faster}, {1 + growth:.4f} times the size {larger}")


def make_bundle(root: Path) -> Path:
    """A release's layout: the pinned Metal library and real machine code, each twice."""
    pin = yaml.safe_load(data.release_file().read_text())["bundle"]["metallib"]
    wanted = wheels.WheelFile(
        package=pin["package"],
        version=pin["version"],
        platform=pin["wheel_platform"],
        wheel_sha256=pin["wheel_sha256"],
        member=pin["member"],
        sha256=pin["sha256"],
    )
    environ = dict(os.environ)
    metallib = wheels.fetch(wanted, cache=wheels.cache_folder(environ), environ=environ)
    code = machine_code((TOTAL_BYTES - 2 * metallib.stat().st_size) // 2)
    for place in (root / "bin", root / "Darkbloom.app" / "Contents" / "MacOS"):
        place.mkdir(parents=True)
        shutil.copyfile(metallib, place / "mlx.metallib")
        (place / "darkbloom").write_bytes(code)
        (place / "darkbloom").chmod(0o755)
    return root


def machine_code(size: int) -> bytes:
    """Compiled code out of this environment's packages: it compresses as an executable does."""
    found = bytearray()
    folder = Path(yaml.__file__).resolve().parent.parent
    for path in sorted(folder.rglob("*.so*"), key=lambda path: path.name):
        found += path.read_bytes()
        if len(found) >= size:
            return bytes(found[:size])
    sys.exit(f"the packages of this environment hold only {len(found)} bytes of code")


def verify_profile(folder: Path, pairs: int, aims: Aims) -> None:
    """The whole command, against openssl and a plist parse."""
    if shutil.which("openssl") is None:
        print("verify-profile: not measured, there is no openssl here")
        return
    profile, roots, trust = profile_to_verify(folder)
    plist = folder / "profile.plist"
    script = Path(sys.executable).with_name("release-tool")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "release_tool"]

    def shell() -> None:
        cms = ["openssl", "cms", "-verify", "-inform", "DER", "-in", str(profile)]
        run([*cms, "-CAfile", str(roots), "-purpose", "any", "-no_check_time", "-out", str(plist)])
        run([sys.executable, "-c", READ_PLIST, str(plist)])

    def tool() -> None:
        run([*program, "verify-profile", str(profile), *trust])

    found = alternate(shell, tool, pairs)
    kind = "a real profile" if profile == REAL_PROFILE else "a look-alike profile"
    print(f"verify-profile, whole process, {kind}")
    print(f"  openssl cms -verify + plist parse in Python  {found.seconds()}")
    aim = aims.at_most("verify-profile: time", 1 / found.ratio, 2)
    print(f"  takes {1 / found.ratio:.2f} times as long {aim}")


def profile_to_verify(folder: Path) -> tuple[Path, Path, list[str]]:
    """A profile, its roots in PEM, and the flags that make us trust them."""
    roots = folder / "roots.pem"
    if REAL_PROFILE.exists():
        pinned = certificates.apple_trust().roots
        roots.write_text("".join(ssl.DER_cert_to_PEM_cert(root.der) for root in pinned))
        return REAL_PROFILE, roots, []
    authority = Authority.create(TEAM)
    roots.write_bytes(authority.trust_pem())
    path = folder / "profile.provisionprofile"
    wish = profiles.Wish(team_id=TEAM, bundle_id="io.darkbloom.provider")
    path.write_bytes(profiles.make(authority, wish))
    return path, roots, ["--trust", str(roots)]


if __name__ == "__main__":
    sys.exit(main())
