"""The process in which mlx-lm generates: `reference_child.py REQUEST ANSWER`, files of JSON.

A process of its own keeps the tool free of gigabytes of weights, and mlx's log out of its output.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer each prompt of the request greedily, and write the texts."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    target = Path(sys.argv[2])
    try:
        answer = _answer(request)
    except ImportError as problem:
        answer = {"missing": str(problem)}
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as problem:
        answer = {"failed": f"{type(problem).__name__}: {problem}"}
    target.write_text(json.dumps(answer), encoding="utf-8")


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    import mlx.core as mx
    import mlx_lm

    # Without a GPU mlx runs the host's C++ compiler for every kernel, once for each TMPDIR.
    if not mx.metal.is_available():
        mx.disable_compile()
    model, tokenizer = mlx_lm.load(request["model"])[:2]
    return {
        "version": mlx_lm.__version__,
        "texts": [_asked(mlx_lm, model, tokenizer, one) for one in request["prompts"]],
        "rounds": [
            _at_once(mlx_lm, model, tokenizer, [request["prompts"][at] for at in places])
            for places in request["rounds"]
        ],
    }


def _asked(
    mlx_lm: Any,  # noqa: ANN401 - mlx-lm has no types
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    asked: dict[str, Any],
) -> dict[str, Any]:
    """The last of the answers to a prompt that is asked as often as the provider is.

    The first one pays for reading the weights and for building the GPU's kernels.
    """
    for _ in range(asked["times"] - 1):
        _generate(mlx_lm, model, tokenizer, asked["prompt"], asked["max_tokens"])
    return _generate(mlx_lm, model, tokenizer, asked["prompt"], asked["max_tokens"])


def _at_once(
    mlx_lm: Any,  # noqa: ANN401
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    asked: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """The answers to prompts that are answered at once."""
    if len(asked) == 1:
        [only] = asked
        return [_generate(mlx_lm, model, tokenizer, only["prompt"], only["max_tokens"])]
    try:
        return _batch(model, tokenizer, asked)
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError) as problem:
        # Its interface for several answers is not the same in every version. Without it the texts
        # of one at a time are what is compared with, and these ratios are not measured, which a
        # threshold on them does not pass.
        sys.stderr.write(f"mlx-lm cannot generate several at once: {problem}\n")
        return []


def _batch(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    asked: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    # By its full name: the package has a function of the module's name.
    library = importlib.import_module("mlx_lm.generate")
    start = time.perf_counter()
    generator = library.BatchGenerator(
        model, stop_tokens=[[token] for token in tokenizer.eos_token_ids]
    )
    prompts = [_tokens(tokenizer, one["prompt"]) for one in asked]
    places = generator.insert(prompts, [one["max_tokens"] for one in asked])
    answers = {
        place: _Answer(tokenizer, len(prompt))
        for place, prompt in zip(places, prompts, strict=True)
    }
    while pieces := generator.next_generated():
        now = time.perf_counter()
        for piece in pieces:
            answers[piece.uid].add(int(piece.token), piece.finish_reason, now)
    generator.close()
    return [answers[place].told(start) for place in places]


class _Answer:
    """One of several answers, as its tokens come."""

    def __init__(self, tokenizer: Any, prompt_tokens: int) -> None:  # noqa: ANN401
        self._words = tokenizer.detokenizer
        self._prompt_tokens = prompt_tokens
        self._pieces: list[str] = []
        self._ids: list[int] = []
        self._times: list[float] = []
        self._reason = ""

    def add(self, token: int, reason: str | None, now: float) -> None:
        """One more token; the mark of the end adds nothing to the text."""
        if reason != "stop":
            self._words.add_token(token)
        if reason:
            self._words.finalize()
            self._reason = reason
        self._pieces.append(self._words.last_segment)
        self._ids.append(token)
        self._times.append(now)

    def told(self, start: float) -> dict[str, Any]:
        """As `_generate` tells it."""
        return _told(self._pieces, self._ids, self._times, self._reason, self._prompt_tokens, start)


def _tokens(tokenizer: Any, prompt: str) -> list[int]:  # noqa: ANN401
    found: list[int] = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True
    )
    return found


def _generate(
    mlx_lm: Any,  # noqa: ANN401
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    prompt: str,
    limit: int,
) -> dict[str, Any]:
    tokens = _tokens(tokenizer, prompt)
    start = time.perf_counter()
    pieces, times, ids, reason = [], [], [], None
    # Without a sampler mlx-lm takes the most likely token.
    for piece in mlx_lm.stream_generate(model, tokenizer, tokens, max_tokens=limit):
        pieces.append(piece.text)
        times.append(time.perf_counter())
        ids.append(int(piece.token))
        reason = piece.finish_reason
    return _told(pieces, ids, times, reason or "", len(tokens), start)


def _told(
    pieces: list[str],
    ids: list[int],
    times: list[float],
    reason: str,
    prompt_tokens: int,
    start: float,
) -> dict[str, Any]:
    return {
        "pieces": pieces,
        "ids": ids,
        "reason": reason,
        "prompt_tokens": prompt_tokens,
        "first_token_seconds": times[0] - start,
        "decode_seconds": times[-1] - times[0],
    }


if __name__ == "__main__":
    main()
