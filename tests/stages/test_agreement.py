"""How far a text is the reference's, token by token."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_tool.apple import checks
from release_tool.plan import Prefix, Smoke
from release_tool.services.chat import Completion, Question
from release_tool.services.reference import Reference, ReferenceText
from release_tool.stages import agreement, smoke_questions, smoke_record
from release_tool.stages.smoke_questions import Asked, Interview, Round

REFERENCE = ReferenceText(
    # The third token ends within a character, which the fourth completes.
    pieces=("The", " ca", "", "fé", " is", " open"),
    ids=(1, 2, 3, 4, 5, 6),
    reason="length",
    prompt_tokens=3,
    first_token_seconds=0.1,
    decode_seconds=0.5,
)
ANSWER = Completion(
    text="The café is open",
    tokens=6,
    first_token_seconds=0.1,
    decode_seconds=0.5,
    reason="length",
)
EXACT = Smoke(prompts=("q",), model="m")


def failures(answer: Completion, smoke: Smoke, reference: ReferenceText = REFERENCE) -> list[str]:
    found = agreement.judge("text", answer, reference, smoke, subject="q", ends=True)
    return [
        f"{check.name}: {check.expected} | {check.observed}"
        for check in found
        if check.outcome == "failed"
    ]


@pytest.mark.parametrize(
    ("text", "agreed"),
    [
        ("The café is open", 6),
        ("The café is open, and more", 6),
        ("The café is", 5),
        ("The café was open", 4),
        ("The cafe", 3),
        ("The", 1),
        ("Café", 0),
        ("", 0),
    ],
)
def test_leading_tokens_are_counted(text: str, agreed: int) -> None:
    """Tokens agree while the text begins with what they say together."""
    assert agreement.of(text, REFERENCE).agreed == agreed


def test_the_whole_answer_agrees() -> None:
    """Text, count and end are the reference's."""
    assert failures(ANSWER, EXACT) == []


def test_the_first_divergence_is_told_with_both_continuations() -> None:
    """The number of the token, and what each says from where the texts part."""
    other = replace(ANSWER, text="The café was shut")
    assert failures(other, EXACT) == ['text: token 5 of 6 "is open" | "was shut" after "The café"']


@pytest.mark.parametrize("text", ["The café is", "The café is open now"])
def test_exact_takes_neither_less_nor_more(text: str) -> None:
    """An answer that ends early or goes on is another one."""
    assert len(failures(replace(ANSWER, text=text), EXACT)) == 1


def test_a_prefix_is_enough_where_the_policy_says_so() -> None:
    """The first N tokens agree, and the rest is free; one token fewer is refused."""
    other = replace(ANSWER, text="The café was shut", tokens=9, reason="stop")
    four, five = (EXACT.model_copy(update={"agreement": Prefix(prefix=n)}) for n in (4, 5))
    assert failures(other, four) == []
    assert len(failures(other, five)) == 1


def test_a_short_answer_agrees_as_a_whole() -> None:
    """A prefix that is longer than the reference asks for all of it."""
    policy = EXACT.model_copy(update={"agreement": Prefix(prefix=100)})
    assert failures(ANSWER, policy) == []
    assert len(failures(replace(ANSWER, text="The café is"), policy)) == 1


def test_count_and_end_belong_to_an_exact_answer() -> None:
    """The same text with another count or reason is refused; the end mark may be left out."""
    assert failures(replace(ANSWER, tokens=7), EXACT) == ["token count of text: 6 | 7"]
    assert failures(replace(ANSWER, reason="stop"), EXACT) == ["end of text: length | stop"]
    ended = replace(REFERENCE, reason="stop")
    for tokens in (5, 6):
        answer = replace(ANSWER, tokens=tokens, reason="stop")
        assert failures(answer, EXACT, ended) == []


@pytest.mark.parametrize(("pieces", "fits"), [(6, True), (3, True), (7, False)])
def test_pieces_of_a_stream_that_tells_no_count_are_no_tokens(pieces: int, fits: bool) -> None:
    """Two tokens in one chunk are right; a piece without a token is not."""
    answer = replace(ANSWER, tokens=pieces, counted=False)
    assert (failures(answer, EXACT) == []) == fits
    question = Question(model="m", prompt="q", max_tokens=6)
    interview = Interview(model="m")
    interview.asked.append(Asked(question=question, plain=ANSWER, streamed=answer))
    interview.rounds.append(Round(questions=(question,), answers=(answer,), seconds=1.0))
    judged = list(smoke_questions.judge(interview))
    assert checks.all_hold(judged) == fits
    expected = Reference(version="1", texts=(REFERENCE, REFERENCE), rounds=((REFERENCE,),))
    [kept] = smoke_record.rounds(interview, expected)
    assert kept.answers[0].completion_tokens == ANSWER.tokens


@given(text=st.text(max_size=30), pieces=st.lists(st.text(max_size=4), min_size=1, max_size=8))
def test_agreement_is_what_it_says(text: str, pieces: list[str]) -> None:
    """Exact holds for equal texts alone, and what agrees is a beginning of both."""
    reference = replace(REFERENCE, pieces=tuple(pieces), ids=tuple(range(len(pieces))))
    found = agreement.of(text, reference)
    assert text.startswith("".join(pieces[: found.agreed]))
    assert found.whole == (text == "".join(pieces))
    if found.whole:
        assert found.agreed == len(pieces)
        assert found.fulfills(EXACT, reference)


def test_an_end_that_is_not_told_is_not_judged() -> None:
    """Providers of May end each answer with stop: that says nothing, where another word would."""
    for reason, outcome in (("stop", "not_checked"), ("length", "passed")):
        answer = replace(ANSWER, reason=reason)
        *_, end = agreement.judge("text", answer, REFERENCE, EXACT, subject="q", ends=False)
        assert (end.name, end.outcome) == ("end of text", outcome)


BATCH = replace(REFERENCE, pieces=("The", " ca", "", "fé", " is", " shut"))


@pytest.mark.parametrize(
    ("text", "beside", "refused"),
    [
        ("The café is open", (BATCH, BATCH), []),
        ("The café is shut", (BATCH, BATCH), []),
        # An mlx-lm that cannot generate several says nothing of them.
        ("The café is shut", (), ["text with 2 at once"]),
        ("The café is full", (BATCH, BATCH), ["text with 2 at once"]),
    ],
)
def test_several_at_once_may_say_what_the_reference_says_at_once(
    text: str, beside: tuple[ReferenceText, ...], refused: list[str]
) -> None:
    """A near-tie falls otherwise in a batch: both of the reference's texts are right, no third."""
    question = Question(model="m", prompt="q", max_tokens=6)
    interview = Interview(model="m")
    interview.asked.append(Asked(question=question, plain=ANSWER, streamed=ANSWER))
    answers = (ANSWER, replace(ANSWER, text=text))
    interview.rounds.append(Round(questions=(question,) * 2, answers=answers, seconds=1.0))
    expected = Reference(version="1", texts=(REFERENCE, REFERENCE), rounds=(beside,))
    found = agreement.judge_all(EXACT, interview, expected)
    assert [one.name for one in found if one.outcome == "failed"] == refused
