"""What generates in the stand-in: mlx-lm on a model's folder, greedily."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some text of an answer."""

    text: str
    count: int
    """Tokens so far."""
    reason: str | None
    """`stop` or `length` on the last piece."""

    def saying(self, prefix: str) -> Piece:
        """The same piece with something in front."""
        return replace(self, text=prefix + self.text)


class Engine:
    """A loaded model."""

    def __init__(self, folder: Path) -> None:
        # Here, because it takes a second and `--version` needs none of it.
        import mlx_lm

        self._library = mlx_lm
        self._model, self._tokenizer = mlx_lm.load(str(folder))[:2]
        self.name = folder.resolve().name

    def generate(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Iterator[Piece]:
        """Answer the messages, always with the most likely token."""
        tokens = self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True)
        found = self._library.stream_generate(
            self._model, self._tokenizer, tokens, max_tokens=max_tokens
        )
        for piece in found:
            yield Piece(text=piece.text, count=piece.generation_tokens, reason=piece.finish_reason)
