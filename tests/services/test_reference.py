"""The reference process: each prompt as often as the provider is asked, and several at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from release_tool.rehearsal import tiny_model
from release_tool.services import reference_child

mlx_lm: Any = pytest.importorskip("mlx_lm", reason="the extra `smoke` is not installed")

ASKED: list[dict[str, Any]] = [
    {"prompt": "Name the three primary colours.", "max_tokens": 5, "times": 2},
    {"prompt": "q", "max_tokens": 3, "times": 2},
    {"prompt": "A long story", "max_tokens": 7, "times": 1},
]


def test_it_is_warm_where_the_provider_is_and_keeps_what_it_says_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second answer counts, as of the provider's; texts at once stand beside those alone."""
    limits = []
    real = mlx_lm.stream_generate

    def counted(*arguments: object, max_tokens: int) -> Iterator[object]:
        limits.append(max_tokens)
        yield from real(*arguments, max_tokens=max_tokens)

    monkeypatch.setattr(mlx_lm, "stream_generate", counted)
    folder = str(tiny_model.make(tmp_path / "tiny"))
    request = {"model": folder, "prompts": ASKED, "rounds": [[1], [0, 1]]}
    told = reference_child._answer(request)
    assert limits == [5, 5, 3, 3, 7, 3]
    first, second, _ = told["texts"]
    [[alone], together] = told["rounds"]
    said = ("pieces", "ids", "reason", "prompt_tokens")
    assert {name: alone[name] for name in said} == {name: second[name] for name in said}
    for one, beside in zip((first, second), together, strict=True):
        assert {name: one[name] for name in said} == {name: beside[name] for name in said}
        assert beside["decode_seconds"] > 0
