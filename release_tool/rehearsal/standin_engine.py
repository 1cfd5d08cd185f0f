"""What generates in the stand-in: mlx-lm on a model's folder, greedily, some answers at once."""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

IDLE_SECONDS = 0.02
"""How soon an idle engine sees that it shall end."""
KEPT_PROMPTS = 8
"""Prompts whose state is kept, of some megabytes each: a smoke run has fewer."""
# mlx-lm reads longer prompts in pieces.
_KEPT_TOKENS = 2048


class GenerationError(RuntimeError):
    """The library failed in the middle of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some text of an answer."""

    text: str
    count: int
    """Tokens so far."""
    reason: str | None
    """`stop` or `length` on the last piece."""
    prompt_count: int = 0
    """Tokens of the prompt, put through the chat template."""

    def saying(self, text: str) -> Piece:
        """The same piece with another text."""
        return replace(self, text=text)


@dataclass(eq=False, kw_only=True)
class Job:
    """One answer under way; its pieces arrive from the thread that generates."""

    messages: Sequence[dict[str, str]]
    max_tokens: int
    dropped: bool = False
    _arrived: queue.SimpleQueue[Piece | Exception | None] = field(default_factory=queue.SimpleQueue)

    def give(self, piece: Piece | Exception | None) -> None:
        """Hand on a piece, a failure, or None for the end."""
        self._arrived.put(piece)

    def pieces(self) -> Iterator[Piece]:
        """The pieces as they come; who stops listening drops the answer."""
        try:
            while (piece := self._arrived.get()) is not None:
                if isinstance(piece, Exception):
                    raise GenerationError from piece
                yield piece
        finally:
            self.dropped = True


class Engine:
    """A loaded model. One thread generates for all: `run` is that thread's life."""

    def __init__(self, folder: Path) -> None:
        # Here, because it takes a second and `--version` needs none of it.
        import mlx.core as mx
        import mlx_lm

        # Without a GPU mlx runs the host's C++ compiler for every kernel, once for each TMPDIR.
        if not mx.metal.is_available():
            mx.disable_compile()
        self._mx = mx
        self._library = mlx_lm
        self._model, self._tokenizer = mlx_lm.load(str(folder))[:2]
        # No SimpleQueue: before Python 3.13 its `get` waits for ever, whatever its timeout, where a
        # signal comes and is handled only after that time, as TERM on a busy machine.
        self._waiting: queue.Queue[Job] = queue.Queue()
        self.kept: dict[tuple[int, ...], Any] = {}
        """What the model holds of a prompt before its last token; the oldest goes first."""
        self.name = folder.resolve().name

    def ask(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Iterator[Piece]:
        """Answer the messages, always with the most likely token; from any thread."""
        job = Job(messages=messages, max_tokens=max_tokens)
        self._waiting.put(job)
        return job.pieces()

    def run(self, stop: threading.Event) -> None:
        """Generate a token for each answer in turn, in the thread that loaded the model."""
        active: list[tuple[Job, Iterator[Piece]]] = []
        while not stop.is_set():
            active += [(job, self._generate(job)) for job in self._taken(idle=not active)]
            active = [entry for entry in active if _goes_on(*entry)]

    def _taken(self, *, idle: bool) -> Iterator[Job]:
        try:
            yield self._waiting.get(timeout=IDLE_SECONDS) if idle else self._waiting.get_nowait()
        except queue.Empty:
            return

    def _generate(self, job: Job) -> Iterator[Piece]:
        tokens = self._tokenizer.apply_chat_template(list(job.messages), add_generation_prompt=True)
        rest, state = self._read(tokens)
        found = self._library.stream_generate(
            self._model, self._tokenizer, rest, max_tokens=job.max_tokens, prompt_cache=state
        )
        for piece in found:
            yield Piece(
                text=piece.text,
                count=piece.generation_tokens,
                reason=piece.finish_reason,
                prompt_count=len(tokens),
            )

    def _read(self, tokens: list[int]) -> tuple[list[int], Any]:
        """The tokens of a prompt that are still to be read, and the state behind the others.

        On a CPU reading a prompt takes longer than the answer, and the same few are asked again and
        again. It is read here as mlx-lm reads it, so the arithmetic is the same.
        """
        before = tuple(tokens[:-1])
        if not 0 < len(before) <= _KEPT_TOKENS:
            return tokens, None
        if before not in self.kept:
            state = self._new_state()
            self._model(self._mx.array(before)[None], cache=state)
            self._mx.eval([one.state for one in state])
            self.kept[before] = state
            while len(self.kept) > KEPT_PROMPTS:
                del self.kept[next(iter(self.kept))]
        return tokens[-1:], copy.deepcopy(self.kept[before])

    def _new_state(self) -> Any:  # noqa: ANN401 - mlx-lm has no types
        from mlx_lm.models import cache

        return cache.make_prompt_cache(self._model)


def _goes_on(job: Job, pieces: Iterator[Piece]) -> bool:
    """Make one token of an answer; False once it is complete, failed or dropped."""
    if job.dropped:
        return False
    try:
        job.give(next(pieces))
    except StopIteration:
        job.give(None)
        return False
    except Exception as problem:
        # Whatever the library raises ends this answer, not the server.
        job.give(problem)
        return False
    return True
