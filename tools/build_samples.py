"""Makes the sample executables of the rehearsal again: `python tools/build_samples.py [FOLDER]`.

Zig comes from the package index into a cache (413 MB unpacked), never into this environment.
Without FOLDER the committed bytes are replaced; the same source gives the same bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ZIG = "ziglang==0.17.1"
SAMPLES = Path(__file__).resolve().parent.parent / "release_tool" / "rehearsal" / "samples"
# The room that `codesign` and the portable signer need for LC_CODE_SIGNATURE, many times over.
HEADER_PAD = "0x1000"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One executable: its file, the program's name and its architecture for Zig."""

    file: str
    name: str
    arch: str


ALL = (
    Sample(file="darkbloom.bin", name="darkbloom", arch="aarch64"),
    Sample(file="darkbloom-enclave.bin", name="darkbloom-enclave", arch="aarch64"),
    Sample(file="darkbloom-x86_64.bin", name="darkbloom", arch="x86_64"),
)


def main() -> None:
    """Build each sample into the folder."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES
    folder.mkdir(parents=True, exist_ok=True)
    zig = fetch_zig(Path(tempfile.gettempdir()) / f"release-tool-{ZIG.replace('==', '-')}")
    for sample in ALL:
        build(sample, folder, zig)
        print(f"{sample.file}  {(folder / sample.file).stat().st_size} bytes")


def fetch_zig(cache: Path) -> Path:
    """Install the compiler's wheel into `cache` unless it is there, and return the folder."""
    if not (cache / "ziglang" / "__main__.py").is_file():
        with tempfile.TemporaryDirectory(dir=cache.parent) as scratch:
            fresh = Path(scratch) / "zig"
            install = ["install", "--quiet", "--no-deps", "--only-binary", ":all:"]
            subprocess.run(
                [sys.executable, "-m", "pip", *install, "--target", str(fresh), ZIG], check=True
            )
            fresh.rename(cache)
    return cache


def build(sample: Sample, folder: Path, zig: Path) -> None:
    """Compile and link one sample, without a symbol table and without a path of this machine."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / sample.name
        environment = {
            **os.environ,
            "PYTHONPATH": str(zig),
            "ZIG_LOCAL_CACHE_DIR": str(zig / "cache"),
            "ZIG_GLOBAL_CACHE_DIR": str(zig / "cache"),
        }
        flags = ["-target", f"{sample.arch}-macos.14.0", "-Os", "-g0", "-s", "-std=c11"]
        flags += ["-fno-stack-protector", f'-DSAMPLE_NAME="{sample.name}"']
        flags += [f"-Wl,-headerpad,{HEADER_PAD}", "-o", sample.name, "sample.c"]
        (Path(scratch) / "sample.c").write_bytes((SAMPLES / "sample.c").read_bytes())
        subprocess.run(
            [sys.executable, "-m", "ziglang", "cc", *flags],
            check=True,
            cwd=scratch,
            env=environment,
        )
        made.replace(folder / sample.file)


if __name__ == "__main__":
    main()
