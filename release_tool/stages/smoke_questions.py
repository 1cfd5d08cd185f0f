"""What is asked of a running provider, as its first users would ask, and what has to come back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pydantic import JsonValue

from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.plan import Smoke
from release_tool.services import redaction
from release_tool.services.chat import Completion, Question, Refusal
from release_tool.services.provider import Provider
from release_tool.services.provider_contract import MAY, Contract
from release_tool.stages import smoke_streaming

# October refuses chat bodies over 32 MiB; what is twice that no provider may take.
_LARGE_BYTES = 64 * 1024 * 1024 + 1
# So long that the provider is still at it when the reader hangs up.
_CANCELLED_TOKENS = 400
_JSON = "application/json"
_CLIENT_ERRORS = range(400, 500)
_REFUSED = "a status of 4xx"
_SHOWN = 80
# A long answer has some hundred words.
_KEPT = 256 * 1024
OTHER_TYPE = "request of another type"
KEY_CHECKS = ("request without a key", "request with another key", "models without a key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One prompt, asked in both ways."""

    question: Question
    plain: Completion
    streamed: Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Long:
    """The long answer, asked in both ways."""

    question: Question
    answer: Completion
    """Streamed."""
    plain: Completion
    shares: tuple[float, ...]
    """How much of its time text came, of this one and of longer ones (`smoke_streaming`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Prompts that were asked at the same time, each streamed."""

    questions: tuple[Question, ...]
    answers: tuple[Completion, ...]
    seconds: float


@dataclass(kw_only=True)
class Interview:
    """Everything that was asked, and what came back."""

    model: str
    contract: Contract = MAY
    asked: list[Asked] = field(default_factory=list)
    long: Long | None = None
    rounds: list[Round] = field(default_factory=list)
    after: list[tuple[str, Completion]] = field(default_factory=list)
    """The first prompt again, after something went wrong, by what that was."""
    checks: list[Check] = field(default_factory=list)
    transcript: list[dict[str, JsonValue]] = field(default_factory=list)

    @property
    def tells_length(self) -> bool:
        """Whether an answer that was cut says so."""
        return self.contract.tells_length

    def note(self, kind: str, question: Question, answer: Completion) -> None:
        """Write an exchange down."""
        self.transcript.append(
            {
                "asked": kind,
                "prompt": question.prompt,
                "max_tokens": question.max_tokens,
                "text": redaction.hidden(answer.text)[:_KEPT],
                "tokens": answer.tokens,
                "end": answer.reason,
                "first_token_seconds": round(answer.first_token_seconds, 4),
                "decode_seconds": round(answer.decode_seconds, 4),
            }
        )

    def note_refusal(self, kind: str, refusal: Refusal) -> None:
        """Write down how something was refused."""
        self.transcript.append({"asked": kind, "status": refusal.status, "said": refusal.said})


def hold(provider: Provider, smoke: Smoke, *, wanted: str, seconds: float) -> Interview:
    """Ask everything.

    Args:
        provider: the running provider.
        smoke: what the release asks for.
        wanted: the model that it was started with.
        seconds: how long one answer may take.

    Raises:
        VerificationError: an answer is none, or the provider dies.
    """
    interview = Interview(model=provider.model(wanted), contract=provider.contract)
    interview.checks.append(checks.passed("models", interview.model))
    interview.checks += provider.manners()
    questions = [_question(interview, prompt, smoke.max_tokens) for prompt in smoke.prompts]
    for question in questions:
        interview.asked.append(_both_ways(provider, interview, question, seconds))
    long = _question(interview, smoke.long_prompt, smoke.long_tokens)
    interview.long = _at_length(provider, interview, long, seconds, more_than=smoke.max_tokens)
    for places in at_once(smoke):
        together = [questions[at] for at in places]
        interview.rounds.append(_at_once(provider, interview, together, seconds))
    cut = _question(interview, smoke.long_prompt, max(smoke.long_tokens, _CANCELLED_TOKENS))
    _cancel(provider, interview, cut, seconds)
    _ask_again(provider, interview, "a cancelled stream", questions[0], seconds)
    interview.checks += _refusals(provider, interview, questions[0], seconds)
    _ask_again(provider, interview, "refused requests", questions[0], seconds)
    # A port may open with the first request.
    interview.checks.append(provider.addresses(when="at the end"))
    health = provider.health(seconds=seconds)
    interview.checks.append(
        checks.compare("health at the end", expected=provider.version, observed=health)
    )
    return interview


def at_once(smoke: Smoke) -> tuple[tuple[int, ...], ...]:
    """The places of the prompts that are asked at once, one round after the other."""
    return tuple(
        tuple(at % len(smoke.prompts) for at in range(count)) for count in smoke.concurrency
    )


def judge(interview: Interview) -> Iterator[Check]:
    """What can be said without a reference: counts, ends, and the same text in every way."""
    yield from interview.checks
    if interview.long:
        yield from _at_length_judged(interview.long)
    for one in interview.asked:
        for kind, answer in (("plain", one.plain), ("streamed", one.streamed)):
            yield from _counts(kind, one.question, answer)
        yield from _same("streamed text", one.plain, one.streamed, one.question)
        yield count(
            "streamed token count", one.streamed, one.plain.tokens, subject=one.question.prompt
        )
    first = interview.asked[0]
    for kind, answer in interview.after:
        yield from _same(f"text after {kind}", first.plain, answer, first.question)


def _at_length_judged(long: Long) -> Iterator[Check]:
    yield from _counts("long", long.question, long.answer)
    yield from _counts("long plain", long.question, long.plain)
    yield from _same("long streamed text", long.plain, long.answer, long.question)
    yield smoke_streaming.judge(long.shares)


def version_told(contract: Contract, version: str, health: str) -> Check:
    """Whether `/health` tells the release's version, where this generation tells one."""
    name = "version in /health"
    if not health and not contract.tells_version:
        return checks.not_checked(name, "providers of this contract tell none there")
    return checks.compare(name, expected=version, observed=health or "none")


def count(name: str, answer: Completion, tokens: int, *, subject: str) -> Check:
    """Whether an answer has so many tokens; of a stream that tells none, no more pieces of text."""
    expected, observed = str(tokens), str(answer.tokens)
    if not answer.counted and answer.tokens <= tokens:
        told = f"{observed} pieces, and no count told"
        return checks.passed(name, told, subject=subject, expected=f"at most {tokens} pieces")
    return checks.compare(name, expected=expected, observed=observed, subject=subject)


def _counts(kind: str, question: Question, answer: Completion) -> Iterator[Check]:
    """The limit holds, and is the reason where it was reached."""
    within = answer.tokens <= question.max_tokens
    cut = answer.reason == "length" and answer.counted
    name = f"{kind} token count"
    if within and (not cut or answer.tokens == question.max_tokens):
        yield checks.passed(name, f"{answer.tokens}, {answer.reason}", subject=question.prompt)
        return
    wanted = "exactly" if cut else "at most"
    yield checks.failed(
        name,
        expected=f"{wanted} {question.max_tokens}",
        observed=f"{answer.tokens}, {answer.reason}",
        subject=question.prompt,
    )


def _same(name: str, one: Completion, other: Completion, question: Question) -> Iterator[Check]:
    # Compared as they are, shown without what may be a secret.
    same = one.text == other.text
    expected, observed = (_quoted(text) for text in (one.text, other.text))
    if not same and expected == observed:
        observed = f"{observed}, which differs in what is not shown"
    yield checks.compare(name, expected=expected, observed=observed, subject=question.prompt)


def _quoted(text: str) -> str:
    return json.dumps(redaction.hidden(text), ensure_ascii=False)


def _question(interview: Interview, prompt: str, max_tokens: int) -> Question:
    return Question(
        model=interview.model,
        prompt=prompt,
        max_tokens=max_tokens,
        more=interview.contract.raw_answers,
    )


def _both_ways(
    provider: Provider, interview: Interview, question: Question, seconds: float
) -> Asked:
    plain = provider.complete(question, seconds=seconds)
    interview.note("prompt, plain", question, plain)
    streamed = provider.stream(question, seconds=seconds)
    interview.note("prompt, streamed", question, streamed)
    return Asked(question=question, plain=plain, streamed=streamed)


def _at_length(
    provider: Provider, interview: Interview, question: Question, seconds: float, *, more_than: int
) -> Long:
    answer = provider.stream(question, seconds=seconds)
    interview.note("long answer", question, answer)
    shares = _shares(provider, interview, question, seconds, answer)
    plain = provider.complete(question, seconds=seconds)
    interview.note("long answer, plain", question, plain)
    wanted = min(more_than + 1, question.max_tokens)
    name, observed = "long answer", f"{answer.tokens} tokens"
    if answer.tokens >= wanted:
        interview.checks.append(checks.passed(name, observed))
    else:
        hint = "ask for something longer: smoke.long_prompt"
        expected = f"{wanted} tokens at least"
        interview.checks.append(
            checks.failed(name, expected=expected, observed=observed, hint=hint)
        )
    return Long(question=question, answer=answer, plain=plain, shares=shares)


def _shares(
    provider: Provider, interview: Interview, question: Question, seconds: float, first: Completion
) -> tuple[float, ...]:
    """How much of each long answer was streamed, until one shows that it is."""
    shares = [smoke_streaming.share(first)]
    while more := smoke_streaming.longer(question, shares):
        answer = provider.stream(more, seconds=seconds)
        interview.note("longer answer", more, answer)
        shares.append(smoke_streaming.share(answer))
    return tuple(shares)


def _at_once(
    provider: Provider,
    interview: Interview,
    questions: Sequence[Question],
    seconds: float,
) -> Round:
    asked, count = tuple(questions), len(questions)
    start = time.monotonic()
    pool = ThreadPoolExecutor(max_workers=count)
    try:
        answers = tuple(pool.map(lambda one: provider.stream(one, seconds=seconds), asked))
    finally:
        # Not waited for: after an interrupt the provider ends, and with it what is still asked.
        pool.shutdown(wait=False, cancel_futures=True)
    took = time.monotonic() - start
    for question, answer in zip(asked, answers, strict=True):
        interview.note(f"{count} at once", question, answer)
    return Round(questions=asked, answers=answers, seconds=took)


def _cancel(provider: Provider, interview: Interview, question: Question, seconds: float) -> None:
    provider.cancel(question, seconds=seconds)
    interview.transcript.append({"asked": "cancelled stream", "prompt": question.prompt})
    interview.checks.append(checks.passed("cancelled stream", "hung up at its first text"))


def _ask_again(
    provider: Provider, interview: Interview, after: str, question: Question, seconds: float
) -> None:
    """It must live on, and serve the next as if nothing had been."""
    answer = provider.complete(question, seconds=seconds)
    interview.note(f"after {after}", question, answer)
    interview.after.append((after, answer))


def _refusals(
    provider: Provider, interview: Interview, question: Question, seconds: float
) -> Iterator[Check]:
    good = question.body(stream=False)
    contract = provider.contract
    for kind, body, content_type in _wrong_requests(good, contract):
        refusal = provider.refusal(body, content_type=content_type, seconds=seconds)
        interview.note_refusal(kind, refusal)
        yield _refused(kind, refusal, contract)
    if provider.wants_key:
        yield from _keyless(provider, interview, good, seconds)


def _keyless(
    provider: Provider, interview: Interview, good: bytes, seconds: float
) -> Iterator[Check]:
    without, other, models = KEY_CHECKS
    refusals = {
        without: provider.refusal(good, content_type=_JSON, seconds=seconds, key="none"),
        other: provider.refusal(good, content_type=_JSON, seconds=seconds, key="other"),
        models: provider.models_refusal(seconds=seconds),
    }
    for kind, refusal in refusals.items():
        interview.note_refusal(kind, refusal)
        yield checks.compare(kind, expected="401", observed=str(refusal.status))


def _wrong_requests(good: bytes, contract: Contract) -> Iterator[tuple[str, bytes, str]]:
    yield "malformed request", good[:-1], _JSON
    document = {**json.loads(good), "messages": "not a list"}
    yield "request without messages", json.dumps(document).encode(), _JSON
    if contract.other_type_statuses:
        yield OTHER_TYPE, good, "text/plain"
    # Well-formed: only its size is wrong.
    yield "too large request", good + b" " * (_LARGE_BYTES - len(good)), _JSON


def _refused(kind: str, refusal: Refusal, contract: Contract) -> Check:
    accepted: Sequence[int] = _CLIENT_ERRORS
    expected = _REFUSED
    if kind == OTHER_TYPE:
        accepted = contract.other_type_statuses
        expected = " or ".join(map(str, accepted))
    if refusal.status in accepted:
        return checks.passed(kind, str(refusal.status), expected=expected)
    observed = f"{refusal.status} {refusal.said[:_SHOWN]}".strip()
    return checks.failed(kind, expected=expected, observed=observed)
