"""Which Pythons and hosts the pages claim: those that the jobs of `ci.yml` run, and no others."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import yaml

from tests.pages.markdown import DOCS, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
# The C library of each Ubuntu that GitHub's runners have.
_LIBRARIES = {"ubuntu-22.04": "2.35", "ubuntu-24.04": "2.39"}


def _test_job() -> dict[str, Any]:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    found: dict[str, Any] = jobs["test"]
    return found


def _matrix() -> dict[str, list[str]]:
    found: dict[str, list[str]] = _test_job()["strategy"]["matrix"]
    return found


def _span(text: str) -> list[str]:
    """Every version from the first to the last that a text names so."""
    found = re.search(r"Python 3\.(\d+) to 3\.(\d+)", text)
    assert found
    return [f"3.{minor}" for minor in range(int(found[1]), int(found[2]) + 1)]


def test_readme_claims_the_pythons_that_jobs_run() -> None:
    """Each version that it names has a job, and none is run that it does not name."""
    assert _span(README) == _matrix()["python"]


def test_the_package_and_make_take_the_same_pythons() -> None:
    """What pip would install on, and what `make` chooses from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first, last = _matrix()["python"][0], _matrix()["python"][-1]
    after = f"3.{int(last.removeprefix('3.')) + 1}"
    assert project["requires-python"] == f">={first},<{after}"
    chosen = re.search(r"^ +([0-9. |]+)\)$", (ROOT / "tools/find-python.sh").read_text(), re.M)
    assert chosen
    assert chosen[1].split(" | ") == _matrix()["python"]


def test_readme_claims_the_hosts_that_jobs_run() -> None:
    """The oldest macOS and the oldest C library of the matrix, on which all of it runs."""
    systems = _matrix()["os"]
    macs = [int(one.removeprefix("macos-")) for one in systems if one.startswith("macos-")]
    linuxes = [_LIBRARIES[one] for one in systems if one.startswith("ubuntu-")]
    assert f"(macOS {min(macs)} or newer)" in README
    assert f"(glibc {min(linuxes)} or newer)" in README
    job = _test_job()
    assert job["runs-on"] == "${{ matrix.os }}"
    assert {"make lint", "make test", "make rehearse"} <= {one.get("run") for one in job["steps"]}
    assert "exclude" not in _matrix()


def test_the_claim_says_what_it_hangs_on() -> None:
    """README names the file of the matrix, and the page of claims the same versions and file."""
    assert "`ci.yml`" in README
    (row,) = (line for line in (DOCS / "claims.md").read_text().splitlines() if "ci.yml" in line)
    assert _span(row) == _matrix()["python"]
