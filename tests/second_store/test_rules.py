"""What the second store lacks is told to people in the same words."""

from __future__ import annotations

from pathlib import Path

from tests.second_store import rules

ROOT = Path(__file__).resolve().parent.parent.parent


def test_each_lacking_rule_stands_in_the_documentation() -> None:
    """docs/oracles.md has exactly the reasons with which tests are expected to fail."""
    lines = (ROOT / "docs/oracles.md").read_text().splitlines()
    start = lines.index("| rule of R2 | the second store |")
    told = dict[str, str]()
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        _, name, reason, _ = line.split("|")
        told[name.strip()] = reason.strip()
    assert told == rules.LACKING
