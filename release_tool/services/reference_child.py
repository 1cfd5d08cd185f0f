"""The process in which mlx-lm generates: `reference_child.py REQUEST ANSWER`, files of JSON.

A process of its own keeps the tool free of gigabytes of weights, and mlx's log out of its output.
"""

from __future__ import annotations

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
    }


def _generate(
    mlx_lm: Any,  # noqa: ANN401 - mlx-lm has no types
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    prompt: str,
    limit: int,
) -> dict[str, Any]:
    tokens = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True
    )
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
