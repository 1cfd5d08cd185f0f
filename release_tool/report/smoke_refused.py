"""A refused smoke run as Markdown: what failed first, then everything that was judged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from release_tool.report.cells import cell

# Two whole digests side by side push what was observed off the page.
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b")
_WORDS = {"passed": "PASS", "failed": "FAIL"}


def as_markdown(kept: Mapping[str, Any]) -> str:
    """The page.

    Args:
        kept: `version`, `archive_sha256`, `message`, and by the name of a group its checks as JSON.
    """
    return "\n".join(_lines(kept)) + "\n"


def _lines(kept: Mapping[str, Any]) -> Iterator[str]:
    groups: Mapping[str, Sequence[Mapping[str, str]]] = kept["groups"]
    yield f"## Refused smoke run of {cell(kept['version'])}"
    yield ""
    yield f"{cell(kept['message'])}. Archive {cell(kept['archive_sha256'][:12])}."
    failed = {name: [one for one in found if _is(one, "failed")] for name, found in groups.items()}
    yield from _table("failed", failed)
    for name, found in groups.items():
        if not found:
            continue
        passed = sum(_is(one, "passed") for one in found)
        yield ""
        yield f"### {cell(name)}: {passed} of {len(found)} passed"
        yield from _table(name, {name: found})


def _table(title: str, groups: Mapping[str, Sequence[Mapping[str, str]]]) -> Iterator[str]:
    if not any(groups.values()):
        return
    yield ""
    yield f"| {cell(title)} | | expected | observed |"
    yield "|---|---|---|---|"
    # What was asked of several at once may come out in the same words for each.
    rows = Counter(_row(one) for found in groups.values() for one in found)
    for (name, *told), count in rows.items():
        shown = f"{name} ({count})" if count > 1 else name
        yield f"| {' | '.join(cell(text) for text in (shown, *told))} |"


def _row(one: Mapping[str, str]) -> tuple[str, str, str, str]:
    name = f"{one['name']} of {one['subject']}" if one.get("subject") else one["name"]
    verdict = _WORDS.get(one["outcome"], one["outcome"].replace("_", " "))
    told = one.get("expected") or "", one.get("observed") or one.get("hint") or ""
    expected, observed = (_DIGEST.sub(r"\1…", text) for text in told)
    return name, verdict, expected, observed


def _is(check: Mapping[str, str], outcome: str) -> bool:
    return check["outcome"] == outcome
