"""The expressions of workflows, against what GitHub's reference says of them."""

from __future__ import annotations

import pytest
import workflow_expressions as expressions
from workflow_expressions import Context, ExpressionError, Value

CONTEXT = Context(
    values={
        "needs": {"sign": {"result": "success", "outputs": {"head": "ab"}}},
        "inputs": {"flag": False, "name": "dev", "empty": ""},
        "matrix": {"lane": "oldest"},
        "github": {"ref_name": "v0.5.0-dev.1"},
    },
    status={"success": True, "failure": False, "cancelled": False},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.name == 'DEV'", True),
        ("inputs.flag || 'other'", "other"),
        ("inputs.name && 'yes' || 'no'", "yes"),
        ("inputs.empty && 'yes' || 'no'", "no"),
        ("inputs.absent.deeper", None),
        ("!inputs.flag", True),
        ("!inputs.absent", True),
        ("inputs.empty == 0", True),
        ("inputs.name == 0", False),
        ("null == false", True),
        ("'1' == 1", True),
        ("1 < 2 && 2 >= 2", True),
        ("'it''s'", "it's"),
        ("contains(github.ref_name, '-DEV.')", True),
        ('contains(fromJSON(\'["failure", "cancelled"]\'), needs.sign.result)', False),
        ("needs['sign'].outputs.head", "ab"),
        ("needs.sign.Outputs.HEAD", "ab"),
        ("format('{0}-{{{1}}}', 'a', 'b')", "a-{b}"),
        ("startsWith('release', 'REL')", True),
        ("success() && !cancelled()", True),
        ("fromJSON('[1, 2]')[1]", 2),
    ],
)
def test_values(text: str, value: Value) -> None:
    """Loose comparison, operands as results, names in any case, null for what is not there."""
    assert expressions.evaluate(text, CONTEXT) == value


@pytest.mark.parametrize(
    "text",
    ["secrets.KEY", "hashFiles('a')", "inputs.name ==", "(1", "a b", "needs.*.result", '"text"'],
)
def test_what_it_does_not_know_it_refuses(text: str) -> None:
    """A context that a place does not have, a function, or a form that ours do not use."""
    with pytest.raises(ExpressionError):
        expressions.evaluate(text, CONTEXT)


def test_a_condition_asks_for_success_where_it_does_not_say_otherwise() -> None:
    """`if: true` does not run behind a failure; one with a status function decides alone."""
    failed = Context(CONTEXT.values, {"success": False, "failure": True, "cancelled": False})
    assert not expressions.condition("true", failed)
    assert not expressions.condition("", failed)
    assert expressions.condition("${{ !cancelled() }}", failed)
    assert expressions.condition("always() && inputs.name == 'dev'", failed)
    assert not expressions.condition("${{ !failure() && !cancelled() }}", failed)


def test_text_with_expressions() -> None:
    """Kinds are written as GitHub writes them; a whole expression keeps its kind."""
    told = "${{ inputs.flag }} ${{ 3 }} ${{ inputs.absent }}|${{ matrix.lane }}"
    assert expressions.substitute(told, CONTEXT) == "false 3 |oldest"
    assert expressions.value_of("${{ inputs.flag }}", CONTEXT) is False


def test_what_an_expression_reads() -> None:
    """For the walk over the files: every reference, no literal and no function."""
    found = expressions.references("contains(needs.a.outputs.b, 'needs.c') && !inputs.d == true")
    assert found == [("needs", "a", "outputs", "b"), ("inputs", "d")]
