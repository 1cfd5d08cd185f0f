"""What this tool runs on is pinned: packages by version and digest."""

from __future__ import annotations

import re
import tomllib

from tests.pages import markdown

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[a-z0-9,]+\])?==[0-9][^ ;]*( ;.*)?")
_DIGEST = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def _requirements() -> dict[str, tuple[str, list[str]]]:
    """Each package: its line, and what follows it."""
    text = (markdown.ROOT / "requirements.txt").read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            words, _, options = line.partition(" --hash=")
            name = re.split(r"[=\[ ;]", words)[0].lower()
            found[f"{name}{words}"] = (words.strip(), ("--hash=" + options).split())
    return found


def test_every_dependency_is_pinned_by_version_and_digest() -> None:
    """One version and at least one digest for each line, and nothing but digests behind it."""
    found = _requirements()
    assert len(found) > 40
    for line, digests in found.values():
        assert _REQUIREMENT.fullmatch(line), line
        assert digests, line
        assert all(_DIGEST.fullmatch(one) for one in digests), line


def test_every_named_dependency_is_among_them() -> None:
    """What pyproject.toml asks for was resolved."""
    project = tomllib.loads((markdown.ROOT / "pyproject.toml").read_text())
    asked = [
        *project["project"]["dependencies"],
        *(one for extra in project["project"]["optional-dependencies"].values() for one in extra),
        *project["dependency-groups"]["dev"],
    ]
    names = {re.split(r"[\[<>=~; ]", one)[0].lower().replace("_", "-") for one in asked}
    pinned = {re.split(r"[=\[]", line)[0].lower() for line, _ in _requirements().values()}
    assert names <= pinned


def test_nothing_is_installed_without_its_digest() -> None:
    """The one place that installs asks for digests and for wheels, which run no code."""
    makefile = (markdown.ROOT / "Makefile").read_text().replace("\\\n", " ")
    installs = [line for line in makefile.splitlines() if "pip install" in line]
    for line in installs:
        local = "--no-deps" in line and line.rstrip().endswith("-e .")
        assert local or ("--require-hashes" in line and "--only-binary :all:" in line), line
    assert len(installs) >= 2
