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
        "texts": [
            _generate(mlx_lm, model, tokenizer, asked["prompt"], asked["max_tokens"])
            for asked in request["prompts"]
        ],
        "rounds": [
            _times(mlx_lm, model, tokenizer, [request["prompts"][at] for at in places])
            for places in request["rounds"]
        ],
    }


def _times(
    mlx_lm: Any,  # noqa: ANN401
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    asked: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """When each token came of prompts that are answered at once."""
    if len(asked) == 1:
        [only] = asked
        alone = _generate(mlx_lm, model, tokenizer, only["prompt"], only["max_tokens"])
        times = {name: alone[name] for name in ("first_token_seconds", "decode_seconds")}
        return [{"tokens": len(alone["ids"]), **times}]
    try:
        return _batch(model, tokenizer, asked)
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError) as problem:
        # Its interface for several answers is not the same in every version, and no text hangs on
        # it: without it these ratios are not measured, which a threshold on them does not pass.
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
    times: dict[int, list[float]] = {place: [] for place in places}
    while pieces := generator.next_generated():
        now = time.perf_counter()
        for piece in pieces:
            times[piece.uid].append(now)
    generator.close()
    return [
        {
            "tokens": len(times[place]),
            "first_token_seconds": times[place][0] - start,
            "decode_seconds": times[place][-1] - times[place][0],
        }
        for place in places
    ]


def _tokens(tokenizer: Any, prompt: str) -> list[int]:  # noqa: ANN401
    found: list[int] = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True
    )
    return found


def _generate(
    mlx_lm: Any,  # noqa: ANN401 - mlx-lm has no types
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
    return {
        "pieces": pieces,
        "ids": ids,
        "reason": reason or "",
        "prompt_tokens": len(tokens),
        "first_token_seconds": times[0] - start,
        "decode_seconds": times[-1] - times[0],
    }


if __name__ == "__main__":
    main()
