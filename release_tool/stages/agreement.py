"""How far an answer is the reference's, token by token.

A provider tells its text, not its tokens. So the reference's tokens are laid along the text: as
many agree as the text begins with. That needs no second tokenizer, and a text that two sequences of
tokens spell alike is no divergence.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from release_tool.apple import checks
from release_tool.apple.checks import Check
from release_tool.plan import Prefix, Smoke
from release_tool.services import redaction
from release_tool.services.chat import Completion
from release_tool.services.reference import Reference, ReferenceText
from release_tool.stages import smoke_questions
from release_tool.stages.smoke_questions import Interview

_SHOWN_CHARACTERS = 60
_HINT = "the model, its chat template or the build differs: do not ship"


class Agreement(NamedTuple):
    """One answer beside the reference's."""

    agreed: int
    """Leading tokens of the reference with which the answer begins."""
    whole: bool
    """Whether the texts are the same."""

    def fulfills(self, policy: Smoke, reference: ReferenceText) -> bool:
        """Whether it is as much as the release asks for."""
        if isinstance(policy.agreement, Prefix):
            return self.agreed >= min(policy.agreement.prefix, reference.tokens)
        return self.whole


def of(text: str, reference: ReferenceText) -> Agreement:
    """Lay the reference's tokens along an answer's text."""
    agreed = 0
    for count, said in enumerate(itertools.accumulate(reference.pieces), start=1):
        if not text.startswith(said):
            break
        agreed = count
    return Agreement(agreed=agreed, whole=text == reference.text)


def judge_all(smoke: Smoke, interview: Interview, expected: Reference) -> Iterator[Check]:
    """Hold every answer against the reference's, whichever way it was asked for.

    Args:
        smoke: the policy.
        interview: what the provider answered.
        expected: the reference's answers to the plan's prompts, and to the long one last.
    """
    *texts, long = expected.texts
    ends = interview.tells_length
    for asked, text in zip(interview.asked, texts, strict=True):
        yield from judge("text", asked.plain, text, smoke, subject=asked.question.prompt, ends=ends)
    if interview.long:
        subject = interview.long.question.prompt
        yield from judge(
            "long text", interview.long.answer, long, smoke, subject=subject, ends=ends
        )
    for one, beside in zip(interview.rounds, expected.rounds, strict=True):
        for at, answer in enumerate(one.answers):
            alone = texts[at % len(texts)]
            yield from judge(
                f"text with {len(one.answers)} at once",
                answer,
                _nearest(answer.text, (alone, *beside[at : at + 1]), smoke),
                smoke,
                subject=one.questions[at].prompt,
                ends=ends,
            )


def _nearest(text: str, references: Sequence[ReferenceText], policy: Smoke) -> ReferenceText:
    """The reference's answer that is meant: of one alone, or of as many at once.

    Kernels for several answers add in another order, so that where two tokens are almost equally
    likely the reference itself says two things. Who joins whom at which token is another matter
    in each server: either of the two is what this model says.
    """

    def nearness(reference: ReferenceText) -> tuple[bool, int]:
        found = of(text, reference)
        return found.fulfills(policy, reference), found.agreed

    return max(references, key=nearness)


def judge(
    name: str,
    answer: Completion,
    reference: ReferenceText,
    policy: Smoke,
    *,
    subject: str,
    ends: bool,
) -> Iterator[Check]:
    """Hold an answer against the reference's: text, and where all must agree, count and end too.

    Args:
        name: of the check.
        answer: the provider's.
        reference: mlx-lm's.
        policy: how much has to agree.
        subject: the prompt.
        ends: whether the provider tells an answer that was cut from one that ended.
    """
    found = of(answer.text, reference)
    if found.fulfills(policy, reference):
        yield checks.passed(
            name, f"{found.agreed} of {reference.tokens} tokens agree", subject=subject
        )
    else:
        yield _diverging(name, answer.text, reference, found, subject)
    if not found.whole and reference.text.startswith(answer.text):
        yield _cut_short(name, answer, found, subject)
    if policy.agreement != "exact" or not found.whole:
        return
    # Whether the end mark counts as a token is each one's own affair.
    counts = {reference.tokens} | ({reference.tokens - 1} if reference.reason == "stop" else set())
    wanted = answer.tokens if answer.tokens in counts else reference.tokens
    yield smoke_questions.count(f"token count of {name}", answer, wanted, subject=subject)
    end = f"end of {name}"
    if not ends and answer.reason == "stop":
        why = "providers of this contract say stop of each answer"
        yield checks.not_checked(end, why, subject=subject)
        return
    yield checks.compare(end, expected=reference.reason, observed=answer.reason, subject=subject)


def _cut_short(name: str, answer: Completion, found: Agreement, subject: str) -> Check:
    """Where the reference says more, its tokens tell how many a text has: no more may be counted.

    The text may end within a token, and whether an end mark counts is each one's own affair.
    """
    most = found.agreed + 2
    counted = "token count of a shorter text"
    name = f"{counted}, {name}"
    if answer.tokens <= most:
        return checks.passed(name, str(answer.tokens), subject=subject, expected=f"at most {most}")
    return checks.failed(
        name,
        expected=f"at most {most}",
        observed=str(answer.tokens),
        subject=subject,
        hint="it counts tokens that it did not say",
    )


def _diverging(
    name: str, text: str, reference: ReferenceText, found: Agreement, subject: str
) -> Check:
    """The first divergence, with both continuations."""
    begun = "".join(reference.pieces[: found.agreed])
    # Not where the token ends, but where the texts part: the rest of the token may agree.
    parted = len(_common(text, reference.text))
    after = max(parted, len(begun))
    told = redaction.hidden(text)
    # A secret may have begun before: then all that is left of the text is shown.
    said = told[after:] if told.startswith(text[:after]) else told
    return checks.failed(
        name,
        subject=subject,
        expected=f"token {found.agreed + 1} of {reference.tokens} {_shown(reference.text[after:])}",
        observed=f"{_shown(said)} after {_shown(begun[-20:])}",
        hint=_HINT,
    )


def _common(one: str, other: str) -> str:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return one[:count]


def _shown(text: str) -> str:
    cut = text[:_SHOWN_CHARACTERS]
    return json.dumps(f"{cut}…" if len(text) > len(cut) else cut, ensure_ascii=False)
