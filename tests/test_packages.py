"""Wheel and sdist: what is in them, and that they work where nothing of the checkout is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from release_tool import credentials

ROOT = Path(__file__).resolve().parent.parent
# How this host reaches an index; uv takes the system's certificates only where it is told to.
_WAY_OUT = {**credentials.for_pip(os.environ), "UV_NATIVE_TLS": "1", "UV_SYSTEM_CERTS": "1"}
DATA = ("release.yaml", "templates/", "entitlements/")


def build(source: Path, target: Path, kind: str) -> Path:
    """Build one package with the pinned backend, without a network."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)],
        cwd=source,
        check=True,
        capture_output=True,
        timeout=100,
    )
    (made,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_wheel_of_the_sdist_is_the_wheel_of_the_checkout(
    wheel: Path, sdist: Path, tmp_path: Path
) -> None:
    """Byte for byte in every file, roots and data included: an sdist loses nothing on the way."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    again = contents(build(source, tmp_path / "built", "wheel"))
    once = contents(wheel)
    assert again == once
    for name in DATA:
        assert any(one.startswith(f"release_tool/_data/{name}") for one in once), name
    assert any(one.startswith("release_tool/apple/roots/") for one in once)
    assert "release_tool/py.typed" in once


def run(
    command: Sequence[str | Path], folder: Path, environ: Mapping[str, str] | None = None
) -> str:
    """Run a program in an empty folder, and tell what it said."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**_WAY_OUT, "HOME": str(folder.parent), **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode in (0, 4), done.stderr
    return done.stdout


def try_out(tool: Sequence[str | Path], folder: Path, profile: Path) -> None:
    """What a newcomer asks first, from a folder with nothing in it."""
    folder.mkdir()
    assert run([*tool, "--version"], folder).startswith("release-tool, version ")
    assert "verify-profile" in run([*tool, "--help"], folder)
    told = json.loads(run([*tool, "plan", "--env", "dev", "--version", "0.5.0", "--json"], folder))
    assert told["plan"]["product"]["name"] == "Darkbloom"
    assert "passed" in run([*tool, "verify-profile", profile], folder)
    found = json.loads(run([*tool, "doctor", "--json"], folder))
    lint = [one for one in found["checks"] if one["section"] == "entitlements"]
    assert lint
    assert all(one["outcome"] == "passed" for one in lint)
    assert list(folder.iterdir()) == []


@pytest.fixture
def profile(real_data: Path) -> Path:
    return real_data / "profiles" / "developer-id-2026.provisionprofile"


def test_a_wheel_works_from_an_empty_folder(wheel: Path, tmp_path: Path, profile: Path) -> None:
    """Unpacked into a folder of its own, with the packages that it asks for and no checkout."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)  # noqa: S202 - a zip that was just built
    program = f"import sys; sys.path.insert(0, {str(site)!r}); from release_tool.cli import entry;"
    check = f" import release_tool; assert release_tool.__file__.startswith({str(site)!r});"
    try_out([sys.executable, "-c", program + check + " entry.main()"], tmp_path / "empty", profile)


@pytest.mark.online
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["pip wheel", "pip sdist", "uv", "pipx"])
def test_it_installs_and_works(
    how: str, wheel: Path, sdist: Path, tmp_path: Path, profile: Path
) -> None:
    """Into a fresh environment, dependencies from the index; then as from the checkout."""
    venv.create(tmp_path / "venv", with_pip=True)
    own = tmp_path / "venv" / "bin"
    pip: list[str | Path] = [
        own / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    environ = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    match how:
        case "pip wheel" | "pip sdist":
            run([*pip, wheel if how == "pip wheel" else sdist], tmp_path)
            tool = own / "release-tool"
        case "uv":
            run([*pip, "uv"], tmp_path)
            made = tmp_path / "made"
            run([own / "uv", "venv", "--quiet", made, "--python", sys.executable], tmp_path)
            into = f"--python={made}/bin/python"
            run([own / "uv", "pip", "install", "--quiet", into, wheel], tmp_path)
            tool = made / "bin" / "release-tool"
        case _:
            run([*pip, "pipx"], tmp_path)
            run([own / "pipx", "install", "--python", sys.executable, wheel], tmp_path, environ)
            tool = tmp_path / "bin" / "release-tool"
    try_out([tool], tmp_path / "empty", profile)
