"""The reference: what mlx-lm, in a process of its own, answers from the same model."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pydantic

from release_tool import errors
from release_tool.services import child, reference_child

_CHILD = Path(reference_child.__file__)
_HINT = "install release-tool with its extra `smoke`"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceText:
    """What mlx-lm generated for one prompt, token by token."""

    pieces: tuple[str, ...]
    """What each token added to the text; empty where a character is not complete yet."""
    ids: tuple[int, ...]
    reason: str
    """`stop` or `length`; the last token of `stop` is the model's end mark."""
    prompt_tokens: int
    first_token_seconds: float
    decode_seconds: float

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def decode_tokens_per_second(self) -> float:
        """The rate behind the first token; 0 where it cannot be told."""
        if self.decode_seconds <= 0:
            return 0.0
        return max(self.tokens - 1, 0) / self.decode_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """All texts, in the order of the prompts, and the mlx-lm that made them."""

    version: str
    texts: tuple[ReferenceText, ...]
    rounds: tuple[tuple[ReferenceText, ...], ...] = ()
    """Of each round that was asked for; an empty one where this mlx-lm cannot generate several."""


class Pending:
    """A reference that is being generated. Made by `generating`."""

    def __init__(self, running: child.Child, answer: Path, count: int) -> None:
        self._running = running
        self._answer = answer
        self._count = count

    @property
    def group(self) -> int:
        """The number of its process group."""
        return self._running.group

    def result(self, *, seconds: float) -> Reference:
        """Wait for the texts.

        Raises:
            HostError: mlx-lm is not installed, does not load the model, dies or takes too long.
        """
        ending = self._running.wait(seconds)
        if ending is None:
            raise self._failed(f"did not end within {seconds:g} s")
        self._running.settle()
        try:
            document = json.loads(self._answer.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise self._failed(str(ending)) from None
        if "missing" in document:
            raise _missing(str(document["missing"]))
        if "failed" in document:
            raise self._failed(str(document["failed"]))
        return self._read(document)

    def _read(self, document: object) -> Reference:
        try:
            found = pydantic.TypeAdapter(Reference).validate_python(document)
        except pydantic.ValidationError as problem:
            raise self._failed(f"{problem.error_count()} wrong fields") from problem
        if len(found.texts) != self._count:
            raise self._failed(f"{len(found.texts)} texts for {self._count} prompts")
        return found

    def _failed(self, observed: str) -> errors.HostError:
        return errors.HostError(
            "mlx-lm gives no reference here",
            observed=observed[:300],
            details=self._running.log,
            hint="try the model with `python -m mlx_lm generate --model FOLDER`",
        )


def require() -> None:
    """Refuse a host without mlx-lm.

    Raises:
        HostError: it is not installed.
    """
    if importlib.util.find_spec("mlx_lm") is None:
        raise _missing("no module mlx_lm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One user's message, put through the model's chat template."""

    prompt: str
    max_tokens: int
    """Where the answer is cut."""
    times: int = 1
    """How often it is asked, one after the other; the last answer counts."""


@contextmanager
def generating(
    model: Path, prompts: Sequence[Prompt], *, home: Path, rounds: Sequence[Sequence[int]] = ()
) -> Iterator[Pending]:
    """Generate greedily with mlx-lm while the block lasts; its processes are gone afterwards.

    Args:
        model: the folder that mlx-lm loads.
        prompts: what is asked.
        home: an existing folder, the process's whole world.
        rounds: prompts by their place, to be generated at once after all texts.

    Raises:
        HostError: mlx-lm is not installed, or no process can be started.
    """
    require()
    request, answer = home / "request.json", home / "answer.json"
    asked = {
        "model": str(model),
        "prompts": [asdict(one) for one in prompts],
        "rounds": [list(one) for one in rounds],
    }
    request.write_text(json.dumps(asked), encoding="utf-8")
    # Offline: what is not in the model's folder must not come from somewhere else.
    environment = {
        **child.small_world(home),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, "-I", str(_CHILD), str(request), str(answer)]
    with child.running(command, environment=environment, folder=home) as running:
        yield Pending(running, answer, len(prompts))


def _missing(observed: str) -> errors.HostError:
    return errors.HostError(
        "mlx-lm is not installed here, and the smoke run compares with it",
        observed=observed[:300],
        hint=_HINT,
    )
