"""Real Apple-signed code, downloaded once from the package indexes: for tests marked `online`."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path

import pytest
import real_items

from release_tool import errors
from release_tool.apple.tree import MemoryTree, in_memory
from release_tool.services import wheels

APP = real_items.APP
MAIN = "Contents/MacOS/PermanentAgentRecord"
TOOL = "Contents/Helpers/AgentRecordBridge"
INNER = "Contents/Helpers/AgentRecordHost.app"
INNER_MAIN = f"{INNER}/Contents/MacOS/AgentRecordHost"
LAUNCH_AGENT = "Contents/Library/LaunchAgents/com.nuclearcyborg.permanentagentrecord.host.plist"

_OLD_CODE_WHEEL_SHA256 = "f8cd88624450317e95497c43ab22f36c956a70560c67cf8d99c597b5ad7b81b7"


def _fetch(wanted: wheels.WheelFile) -> bytes:
    return real_items.fetch(wanted, os.environ).read_bytes()


def packed_app() -> bytes:
    """A zip of a complete app: notarized, stapled, with a nested app and a tool."""
    return _fetch(real_items.RECORD)


@lru_cache(maxsize=1)
def app() -> MemoryTree:
    """That app's files."""
    packed = zipfile.ZipFile(io.BytesIO(packed_app()))
    members = [item for item in packed.infolist() if not item.is_dir()]
    names = {item.filename.removeprefix(f"{APP}/"): item for item in members}
    return in_memory(
        {name: packed.read(item) for name, item in names.items()},
        modes={name: item.external_attr >> 16 & 0o777 for name, item in names.items()},
    )


@lru_cache(maxsize=1)
def ruff() -> bytes:
    """A thin tool that another signer than Apple's signed."""
    return _fetch(real_items.RUFF)


def node() -> bytes:
    """A linker-signed ad-hoc tool of 124 MB."""
    return _fetch(real_items.NODE)


def node_of_2021() -> bytes:
    """Developer ID code with directories of SHA-1 and SHA-256, whose certificate has expired.

    Its entitlements begin with white space, which XML does not allow and Apple's readers pass over.
    """
    return _fetch(real_items.NODE_OF_2021)


def node_of_2024() -> bytes:
    """Developer ID code whose entitlements in DER are of the older dialect: a SET, true as 01."""
    return _fetch(real_items.NODE_OF_2024)


def signed_in_a_sixtieth_second() -> bytes:
    """A Developer ID library whose signing time, as codesign wrote it, is `231018080560Z`."""
    return _fetch(real_items.SIXTIETH_SECOND)


@lru_cache(maxsize=1)
def old_code() -> dict[str, bytes]:
    """Programs and bundles for PowerPC, Intel and arm64, thin and universal, by their names."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--only-binary", ":all:", "--dest", folder, "py2app==0.28.6"]
        subprocess.run(command, check=True, capture_output=True)
        wheel = next(Path(folder).glob("*.whl")).read_bytes()
    assert hashlib.sha256(wheel).hexdigest() == _OLD_CODE_WHEEL_SHA256
    packed = zipfile.ZipFile(io.BytesIO(wheel))
    names = [name for name in packed.namelist() if "/prebuilt/" in name]
    return {name: packed.read(name) for name in names if not name.endswith("/")}


@lru_cache(maxsize=1)
def sentry() -> bytes:
    """A universal tool with another identifier in each slice."""
    try:
        return real_items.fetch_sentry(os.environ).read_bytes()
    except errors.HostError:
        pytest.skip("npm is not here")
