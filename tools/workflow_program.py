"""The tool as a job of the replay calls it, with what only Apple or a Mac could give replaced.

`python workflow_program.py PARTS ARGUMENT …`. Four things are replaced, and no other:

- Apple's roots, by those of the look-alike authority;
- the bundle's own executable in the smoke run, by a stand-in, and the rule that only an embedded
  environment may trust a look-alike and be smoked with a stand-in: no Mac is here;
- the Metal library of a pinned wheel, by a sample, so that nothing is downloaded;
- what the host says of itself, by what GitHub's runner of the job's label would say.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from release_tool import config, release_file
from release_tool.apple import armor, certificates
from release_tool.cli import carry, entry, wiring
from release_tool.cli.session import Session
from release_tool.release_yaml import Location
from release_tool.services import host
from release_tool.services.provider_command import ProviderCommand
from release_tool.values import Host

TRUST, METALLIB = "trust.pem", "sample.metallib"
_GIB = 1024**3
_MACS = {
    "macos14": Host(
        system="macos",
        release="14.8.1",
        build="23J30",
        machine="arm64",
        chip="Apple M1 (Virtual)",
        memory_bytes=7 * _GIB,
    ),
    "macos26": Host(
        system="macos",
        release="26.3",
        build="25D125",
        machine="arm64",
        chip="Apple M1 (Virtual)",
        memory_bytes=7 * _GIB,
    ),
}
_in_environment = release_file._in_environment  # noqa: SLF001 - the rule that is replaced
_resolve = carry.resolve


def _main(parts: Path, arguments: list[str]) -> None:
    _replace(parts)
    sys.argv = ["release-tool", *arguments]
    entry.main()


def _replace(parts: Path) -> None:
    roots = armor.unwrap_all((parts / TRUST).read_bytes(), "a root")
    trust = certificates.Trust(
        name="the replay's authority", roots=tuple(map(certificates.load, roots))
    )

    def rules(
        name: str, section: release_file.EnvironmentSection
    ) -> Iterator[tuple[Location, str]]:
        for place, said in _in_environment(name, section):
            if place[-1] not in ("trust", "provider"):
                yield place, said

    def resolve(session: Session, options: carry.Options) -> tuple[config.Resolved, wiring.Inputs]:
        resolved, inputs = _resolve(session, options)
        stand_in = ProviderCommand(
            argv=(sys.executable, "-m", "release_tool.rehearsal.standin"), kind="stand-in"
        )
        library = inputs.metallib or (parts / METALLIB if options.binaries else None)
        return resolved, replace(inputs, stand_in=stand_in, metallib=library)

    here = _MACS.get(os.environ.get("ImageOS", ""))  # noqa: SIM112 - as GitHub writes it
    if here is not None:
        host.describe = lambda: here
    certificates.apple_trust = lambda: trust  # type: ignore[assignment]
    release_file._in_environment = rules  # noqa: SLF001
    carry.resolve = resolve


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2:])
