"""What of the smoke run goes into its record: figures, checks, and the digests of what was said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from release_tool.apple.checks import Check
from release_tool.files import atomic
from release_tool.files.workspace import Workspace
from release_tool.plan import Prefix, Smoke
from release_tool.services import redaction
from release_tool.services.chat import Completion, Question
from release_tool.services.reference import Reference, ReferenceText
from release_tool.stages import agreement
from release_tool.stages.smoke_questions import Asked, Interview, Round
from release_tool.values import CheckOutcome, SmokeAnswer, SmokePrompt, SmokeRound

TRANSCRIPT = "transcript.jsonl"
LOG = "provider.log"


def policy(smoke: Smoke) -> str:
    """How much has to agree: `exact`, or `prefix 16`."""
    if isinstance(smoke.agreement, Prefix):
        return f"prefix {smoke.agreement.prefix}"
    return smoke.agreement


def prompts(smoke: Smoke, interview: Interview, expected: Reference) -> tuple[SmokePrompt, ...]:
    """The plan's prompts, in its order."""
    return tuple(
        _prompt(smoke, asked.question, _counted(asked), text)
        for asked, text in zip(interview.asked, expected.texts[:-1], strict=True)
    )


def long(smoke: Smoke, interview: Interview, expected: Reference) -> SmokePrompt:
    """The long answer."""
    assert interview.long  # noqa: S101 - every interview that ends has asked for it
    asked = interview.long
    # As of the prompts: the plain answer always tells how many tokens the same text has.
    answer = replace(asked.answer, tokens=asked.plain.tokens)
    return _prompt(smoke, asked.question, answer, expected.texts[-1])


def rounds(interview: Interview, expected: Reference) -> tuple[SmokeRound, ...]:
    """The figures of what was asked at once; whose text it was, the checks say."""
    return tuple(
        SmokeRound(
            at_once=len(one.answers),
            seconds=round(one.seconds, 4),
            answers=_answers(one, _recounted(interview, one)),
            reference=_answers(one, beside),
        )
        for one, beside in zip(interview.rounds, expected.rounds, strict=True)
    )


def _answers(
    asked: Round, answers: Sequence[Completion | ReferenceText]
) -> tuple[SmokeAnswer, ...]:
    # Of the reference there are as many, or none.
    return tuple(
        SmokeAnswer(
            prompt=question.prompt,
            completion_tokens=answer.tokens,
            first_token_seconds=round(answer.first_token_seconds, 6),
            decode_tokens_per_second=round(answer.decode_tokens_per_second, 4),
        )
        for question, answer in zip(asked.questions, answers, strict=bool(answers))
    )


def outcomes(found: Iterable[Check]) -> tuple[CheckOutcome, ...]:
    """All checks, as records keep them."""
    return tuple(CheckOutcome.model_validate(check.as_json()) for check in found)


class Kept(NamedTuple):
    """Where transcript and log lie in the workspace."""

    transcript: str
    transcript_sha256: str
    log: str
    log_sha256: str


def keep(workspace: Workspace, interview: Interview, log: str, *, folder: str) -> Kept:
    """Write transcript and log into a folder of the workspace."""
    lines = [json.dumps(one, ensure_ascii=False, sort_keys=True) for one in interview.transcript]
    transcript, written = f"{folder}/{TRANSCRIPT}", f"{folder}/{LOG}"
    return Kept(
        transcript,
        _keep(workspace, transcript, "".join(f"{line}\n" for line in lines)),
        written,
        _keep(workspace, written, log),
    )


def _keep(workspace: Workspace, path: str, text: str) -> str:
    content = text.encode("utf-8", "replace")
    folder = workspace.path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    atomic.drop_unfinished(folder)
    atomic.write_atomically(workspace.path(path), content)
    return hashlib.sha256(content).hexdigest()


def _prompt(
    smoke: Smoke, question: Question, answer: Completion, expected: ReferenceText
) -> SmokePrompt:
    found = agreement.of(answer.text, expected)
    return SmokePrompt.model_validate(
        {
            "prompt": question.prompt,
            "text": redaction.hidden(answer.text),
            "completion_tokens": answer.tokens,
            "reason": answer.reason,
            "agrees": found.fulfills(smoke, expected),
            "agreed_tokens": found.agreed,
            "reference_tokens": expected.tokens,
            "first_token_seconds": round(answer.first_token_seconds, 6),
            "decode_tokens_per_second": round(answer.decode_tokens_per_second, 4),
            "reference_first_token_seconds": round(expected.first_token_seconds, 6),
            "reference_decode_tokens_per_second": round(expected.decode_tokens_per_second, 4),
        }
    )


def _counted(asked: Asked) -> Completion:
    """The streamed answer: the plain one always tells how many tokens the same text has."""
    return replace(asked.streamed, tokens=asked.plain.tokens)


def _recounted(interview: Interview, asked: Round) -> list[Completion]:
    """The answers of a round; where a stream tells no tokens, with those of the same plain text."""
    plain = {(one.question.prompt, one.plain.text): one.plain.tokens for one in interview.asked}
    return [
        answer
        if answer.counted
        else replace(answer, tokens=plain.get((question.prompt, answer.text), answer.tokens))
        for question, answer in zip(asked.questions, asked.answers, strict=True)
    ]
