"""Versity's S3 gateway over a folder, built from its pinned sources: a process of its own.

`go.mod` and `go.sum` beside this file pin it and all that it is made of, as requirements.txt pins
our packages.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from release_tool.rehearsal import signature_v4
from release_tool.services import wheels

_PINS = Path(__file__).resolve().parent
_PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
_BUILD_SECONDS = 900
_START_SECONDS = 20
# Its folder for parts that wait to be completed.
_UPLOADS = ".sgwtmp/multipart"


def program() -> Path:
    """The gateway, built once for each change of its pins.

    Skips the test where there is no Go to build it with.
    """
    pins = b"".join((_PINS / name).read_bytes() for name in ("go.mod", "go.sum"))
    folder = wheels.cache_folder(os.environ) / hashlib.sha256(pins).hexdigest()
    final = folder / "versitygw"
    if final.is_file():
        return final
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no Go here to build the second store with")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as scratch:
        built = Path(scratch) / final.name
        done = subprocess.run(
            [go, "build", "-mod=readonly", "-o", str(built), _PACKAGE],
            cwd=_PINS,
            env={**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off"},
            capture_output=True,
            check=False,
            timeout=_BUILD_SECONDS,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
        built.replace(final)
    return final


@contextmanager
def running(folder: Path, bucket: str, credentials: signature_v4.Credentials) -> Iterator[int]:
    """A gateway over `folder` with one bucket; yields its port.

    What an earlier one left there stays, but for uploads that were under way.
    """
    root, notes = folder / "root", folder / "notes"
    for place in (root / bucket, notes):
        place.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(root / bucket / _UPLOADS, ignore_errors=True)
    port = _free_port()
    command = [
        *(str(program()), "--port", f"127.0.0.1:{port}", "--region", "auto", "--quiet"),
        *("posix", "--sidecar", str(notes), str(root)),
    ]
    environ = {
        "PATH": os.environ["PATH"],
        "ROOT_ACCESS_KEY_ID": credentials.access_key_id,
        "ROOT_SECRET_ACCESS_KEY": credentials.secret_access_key,
    }
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(command, env=environ, stdout=said, stderr=said)
    try:
        _await_port(process, port, folder / "said.txt")
        yield port
    finally:
        process.terminate()
        process.wait(timeout=_START_SECONDS)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def _await_port(process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None, said.read_text(errors="replace")[-2000:]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "the gateway does not listen"
            time.sleep(0.02)
        else:
            return
