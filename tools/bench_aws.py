"""The aws command line, pinned with all that it needs, in an environment of its own.

It would exclude our own boto3, so it is no dependency of ours.
"""

from __future__ import annotations

import os
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from bench_pairs import run

_PINS = Path(__file__).with_name("bench_aws.txt")
_INSTALL = (
    *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
    *("--only-binary", ":all:", "--require-hashes", "-r", str(_PINS)),
)


@dataclass(frozen=True)
class Aws:
    """The installed program and who it is for the store."""

    program: Path
    environ: dict[str, str]

    def copy(self, source: Path, target: str, endpoint: str) -> None:
        """`aws s3 cp` of one file, as the shell pipeline calls it."""
        place = ["--endpoint-url", endpoint, "--only-show-errors"]
        run([str(self.program), "s3", "cp", str(source), target, *place], environ=self.environ)


def install(folder: Path, keys: tuple[str, str]) -> Aws:
    """Make the environment; pip's own settings say where from.

    Checksums are set as R2 needs them: it refuses the trailers that this program sends otherwise.

    Args:
        folder: for the environment.
        keys: access key id and secret of the store.
    """
    venv.create(folder, with_pip=True)
    run([str(folder / "bin" / Path(sys.executable).name), *_INSTALL])
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environ |= {
        "AWS_ACCESS_KEY_ID": keys[0],
        "AWS_SECRET_ACCESS_KEY": keys[1],
        "AWS_DEFAULT_REGION": "auto",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_CONFIG_FILE": os.devnull,
    }
    return Aws(folder / "bin/aws", environ)
