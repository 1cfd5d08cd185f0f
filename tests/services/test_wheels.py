"""Files out of pinned wheels, fetched by the real pip from a folder."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from release_tool import credentials, errors
from release_tool.services import wheels
from release_tool.services.wheels import WheelFile

_CONTENT = b"kernels " * 10_000
_METADATA = "Metadata-Version: 2.1\nName: sample-data\nVersion: 1.2.3\n"
_TAGS = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    info = "sample_data-1.2.3.dist-info"
    with zipfile.ZipFile(folder / "sample_data-1.2.3-py3-none-any.whl", "w") as wheel:
        wheel.writestr("sample/data.bin", _CONTENT)
        wheel.writestr(f"{info}/METADATA", _METADATA)
        wheel.writestr(f"{info}/WHEEL", _TAGS)
        wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture
def environ(index: Path) -> dict[str, str]:
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}
    return {**credentials.for_pip(os.environ), **settings}


@pytest.fixture
def wanted(index: Path) -> WheelFile:
    wheel = (index / "sample_data-1.2.3-py3-none-any.whl").read_bytes()
    return WheelFile(
        package="sample-data",
        version="1.2.3",
        wheel_sha256=hashlib.sha256(wheel).hexdigest(),
        member="sample/data.bin",
        sha256=hashlib.sha256(_CONTENT).hexdigest(),
    )


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_once(
    tmp_path: Path, wanted: WheelFile, environ: dict[str, str], index: Path
) -> None:
    """The pinned file comes through pip, and afterwards from the cache without any index."""
    cache = tmp_path / "cache"
    path = wheels.fetch(wanted, cache=cache, environ=environ)
    assert path.read_bytes() == _CONTENT
    assert _files(cache) == [f"{wanted.sha256}/data.bin"]
    (index / "sample_data-1.2.3-py3-none-any.whl").unlink()
    assert wheels.fetch(wanted, cache=cache, environ=environ) == path


def test_a_damaged_cache_is_repaired(
    tmp_path: Path, wanted: WheelFile, environ: dict[str, str]
) -> None:
    """A cached file with other bytes is fetched again."""
    path = wheels.fetch(wanted, cache=tmp_path / "cache", environ=environ)
    path.write_bytes(_CONTENT[:-1] + b"!")
    again = wheels.fetch(wanted, cache=tmp_path / "cache", environ=environ)
    assert again.read_bytes() == _CONTENT


@pytest.mark.parametrize("pin", ["wheel_sha256", "sha256"])
def test_other_bytes_are_refused(
    tmp_path: Path, wanted: WheelFile, environ: dict[str, str], pin: str
) -> None:
    """A wheel or a member that is not what is pinned is refused and nothing is kept."""
    if pin == "sha256":
        wanted = replace(wanted, sha256="0" * 64)
    else:
        wanted = replace(wanted, wheel_sha256="0" * 64)
    with pytest.raises(errors.VerificationError, match="pinned"):
        wheels.fetch(wanted, cache=tmp_path / "cache", environ=environ)
    assert _files(tmp_path / "cache") == []


def test_an_absent_package_is_named(
    tmp_path: Path, wanted: WheelFile, environ: dict[str, str]
) -> None:
    """The error names the package, the digest and what to do."""
    wanted = replace(wanted, package="sample-absent")
    with pytest.raises(errors.HostError) as caught:
        wheels.fetch(wanted, cache=tmp_path / "cache", environ=environ)
    text = "\n".join(caught.value.lines())
    assert "sample-absent 1.2.3" in text
    assert wanted.wheel_sha256 in text
    assert "pip config list" in text


def test_a_missing_member_is_a_format_error(
    tmp_path: Path, wanted: WheelFile, environ: dict[str, str]
) -> None:
    """A wheel without the member gives one clear error."""
    wanted = replace(wanted, member="sample/none.bin")
    with pytest.raises(errors.FormatError, match="holds no intact"):
        wheels.fetch(wanted, cache=tmp_path / "cache", environ=environ)


def test_a_dead_index_is_transient(
    tmp_path: Path, wanted: WheelFile, environ: dict[str, str]
) -> None:
    """An index that does not answer ends in the exit code for trying again."""
    del environ["PIP_NO_INDEX"], environ["PIP_FIND_LINKS"]
    environ |= {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "1"}
    with pytest.raises(errors.TransientError, match="no package index answers"):
        wheels.fetch(wanted, cache=tmp_path / "cache", environ=environ)


def test_an_interrupt_leaves_nothing(
    tmp_path: Path, wanted: WheelFile, environ: dict[str, str]
) -> None:
    """Ctrl-C while pip waits for an answer ends pip too and leaves no half file."""
    cache = tmp_path / "cache"
    program = (
        "import socket, os, sys\nfrom pathlib import Path\n"
        "from release_tool import credentials\n"
        "from release_tool.services import wheels\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "port = server.getsockname()[1]\n"
        "environ = credentials.for_pip(os.environ)\n"
        "environ |= {'PIP_INDEX_URL': f'http://127.0.0.1:{port}/simple'}\n"
        f"wanted = wheels.{wanted!r}\n"
        "wheels.fetch(wanted, cache=Path(sys.argv[1]), environ=environ)\n"
    )
    del environ["PIP_NO_INDEX"], environ["PIP_FIND_LINKS"]
    command = [sys.executable, "-c", program, str(cache)]
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as process:
        _wait_for(cache, "said.txt")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) != 0
    assert _files(cache) == []


def _wait_for(cache: Path, name: str) -> None:
    deadline = time.monotonic() + 20
    while not list(cache.rglob(name)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("environ", "tail"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/release-tool"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/release-tool"),
    ],
)
def test_the_cache_follows_the_environment(environ: dict[str, str], tail: str) -> None:
    """`XDG_CACHE_HOME` wins; an empty one does not count."""
    path = str(wheels.cache_folder(environ))
    assert path.endswith(tail)
    assert path.startswith(("/x", "/h"))


@pytest.mark.online
def test_the_pinned_metallib_is_there(tmp_path: Path) -> None:
    """The index still serves the Metal library that `release.yaml` pins."""
    import yaml

    from release_tool import credentials, data

    pin = yaml.safe_load(data.release_file().read_text())["bundle"]["metallib"]
    wanted = WheelFile(
        package=pin["package"],
        version=pin["version"],
        platform=pin["wheel_platform"],
        wheel_sha256=pin["wheel_sha256"],
        member=pin["member"],
        sha256=pin["sha256"],
    )
    path = wheels.fetch(wanted, cache=tmp_path, environ=credentials.for_pip(os.environ))
    assert path.read_bytes()[:4] == b"MTLB"
