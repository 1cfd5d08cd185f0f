"""Digests of what a stage reads from outside of the ledger: a change of it repeats the stage."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from release_tool import data, smoke_lanes, smoke_records, values
from release_tool.cli.wiring.services import Services
from release_tool.files import hashing
from release_tool.ledger import Ledger
from release_tool.stages import (
    installer_file,
    listing,
)


@dataclass(kw_only=True)
class Externals:
    """The outside inputs of one release's stages, each as name and digest."""

    wired: Services

    @property
    def _entitlements_files(self) -> list[str]:
        bundle = self.wired.plan.bundle
        names = (one.entitlements for one in (*bundle.executables, *bundle.helpers))
        return [name for name in names if name]

    @cached_property
    def _entitlements_digests(self) -> dict[str, str]:
        folder = data.entitlements_folder()
        return {
            f"entitlements {name}": hashing.sha256_of(folder / name)
            for name in self._entitlements_files
            if (folder / name).is_file()
        }

    def profile(self) -> Mapping[str, str]:
        found = dict(self._entitlements_digests)
        if self.wired.inputs.profile is not None:
            found["profile"] = hashlib.sha256(self.wired.inputs.profile).hexdigest()
        return found

    @cached_property
    def _binaries_digest(self) -> Mapping[str, str]:
        found = dict(self._entitlements_digests)
        if self.wired.inputs.binaries is not None:
            found["binaries"] = _folder_digest(self.wired.inputs.binaries)
        if self.wired.inputs.metallib is not None:
            found["metallib"] = hashing.sha256_of(self.wired.inputs.metallib)
        return found

    def installer(self) -> Mapping[str, str]:
        """Of the project's own installer; the template's belongs to the tool."""
        if not self.wired.plan.smoke.installer:
            return {}
        return {"installer": hashlib.sha256(installer_file.read(self.wired.plan)).hexdigest()}

    def other_hosts(self) -> list[values.SmokeEvidence]:
        """What the smoke run recorded on other hosts than the newest record's."""
        if not smoke_lanes.of(self.wired.plan).several:
            return []
        return smoke_records.beside(Ledger(self.wired.workspace.path("ledger")).records)

    def evidence(self) -> Mapping[str, str]:
        """Each is an input by itself, so that a record says which hosts it relied on."""
        return {
            f"smoke of {smoke_lanes.name_of(one.host)}": one.digest() for one in self.other_hosts()
        }

    def binaries(self) -> Mapping[str, str]:
        return self._binaries_digest


def _folder_digest(folder: Path) -> str:
    """One digest for a folder: names, modes and contents."""
    listed = [file.model_dump_json() for file in listing.sealed_files(folder)]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()
