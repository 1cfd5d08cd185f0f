"""The expressions of GitHub's workflows, as far as ours use them; anything else is refused.

Rules: https://docs.github.com/en/actions/reference/workflows-and-actions/expressions. Comparisons
are loose (text without regard to case, other kinds as numbers), `&&` and `||` give an operand, and
what is not there is null, which is written as nothing.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = "str | float | bool | Sequence[Value] | Mapping[str, Value] | None"
Function: TypeAlias = "Callable[..., Value]"

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?(?:0x[0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?))"
    r"|(?P<sign>&&|\|\||==|!=|<=|>=|[!<>().,\[\]*])|(?P<name>[A-Za-z_][A-Za-z0-9_-]*))"
)
_HOLE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_STATUS = frozenset({"success", "failure", "always", "cancelled"})
_DEEPEST = 32


class ExpressionError(Exception):
    """An expression that GitHub, or this reader, does not take."""


@dataclass(frozen=True)
class Context:
    """What names mean at one place of a workflow.

    Args:
        values: the contexts that this place has; any other is an error, as on GitHub.
        status: `success`, `failure`, `cancelled` as they are here.
    """

    values: Mapping[str, Value]
    status: Mapping[str, bool]


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def evaluate(expression: str, context: Context) -> Value:
    """The value of one expression, without its `${{ }}`.

    Raises:
        ExpressionError: it cannot be read, or names what there is not.
    """
    return _Parser(_tokens(expression), context, expression).whole()


def substitute(text: str, context: Context) -> str:
    """A text with every `${{ }}` in it replaced by its value.

    Raises:
        ExpressionError: as for `evaluate`.
    """
    return _HOLE.sub(lambda hole: written(evaluate(hole.group(1), context)), text)


def value_of(text: str, context: Context) -> Value:
    """A field that is one whole expression keeps the kind of its value; any other is text."""
    whole = _HOLE.fullmatch(text.strip())
    return evaluate(whole.group(1), context) if whole else substitute(text, context)


def condition(text: str, context: Context) -> bool:
    """An `if`, with the `success() &&` that GitHub puts before one without a status function."""
    whole = _HOLE.fullmatch(text.strip())
    inner = whole.group(1) if whole else text
    if not _STATUS & names_called(inner):
        inner = f"success() && ({inner})" if inner.strip() else "success()"
    return truth(evaluate(inner, context))


def holes(text: str) -> list[str]:
    """The expressions in a text."""
    return [found.group(1) for found in _HOLE.finditer(text)]


def names_called(expression: str) -> set[str]:
    """The functions that an expression calls, in lower case."""
    tokens = _tokens(expression)
    return {
        token.text.lower()
        for token, after in itertools.pairwise(tokens)
        if token.kind == "name" and after.text == "("
    }


def references(expression: str) -> list[tuple[str, ...]]:
    """What an expression reads, as steps: `needs.sign.outputs.head` is four."""
    found: list[tuple[str, ...]] = []
    tokens = [*_tokens(expression), _Token("end", "")]
    at = 0
    while at < len(tokens):
        if tokens[at].kind != "name" or tokens[at + 1].text == "(":
            at += 1
            continue
        steps = [tokens[at].text]
        while tokens[at + 1].text == "." and tokens[at + 2].kind == "name":
            steps.append(tokens[at + 2].text)
            at += 2
        if steps[0] not in ("true", "false", "null"):
            found.append(tuple(steps))
        at += 1
    return found


def truth(value: Value) -> bool:
    """What counts as true: everything but false, 0, '', null and NaN."""
    if isinstance(value, float) and math.isnan(value):
        return False
    return value is not None and value is not False and value not in (0, "")


def written(value: Value) -> str:
    """A value as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value:.15g}"
    if isinstance(value, str):
        return value
    return "Array" if isinstance(value, Sequence) else "Object"


def _tokens(expression: str) -> list[_Token]:
    found, at = [], 0
    text = expression.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            message = f"cannot read {text[at : at + 20]!r} in {expression!r}"
            raise ExpressionError(message)
        kind = match.lastgroup or ""
        found.append(_Token(kind, match.group(kind)))
        at = match.end()
    return found


class _Parser:
    """Recursive descent: `||`, `&&`, comparisons, `!`, then what is followed by `.` and `[ ]`."""

    def __init__(self, tokens: list[_Token], context: Context, text: str) -> None:
        self._tokens = [*tokens, _Token("end", "")]
        self._at = 0
        self._depth = 0
        self._context = context
        self._text = text

    def whole(self) -> Value:
        value = self._or()
        if self._tokens[self._at].kind != "end":
            raise self._error(f"{self._tokens[self._at].text!r} is too much")
        return value

    def _error(self, what: str) -> ExpressionError:
        return ExpressionError(f"{what}: {self._text.strip()!r}")

    def _take(self, *texts: str) -> str:
        """The sign that comes next, where it is one of these."""
        token = self._tokens[self._at]
        if token.kind == "sign" and token.text in texts:
            self._at += 1
            return token.text
        return ""

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise self._error(f"{text!r} is missing")

    def _or(self) -> Value:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error("too deep")
        value = self._and()
        while self._take("||"):
            other = self._and()
            value = value if truth(value) else other
        self._depth -= 1
        return value

    def _and(self) -> Value:
        value = self._comparison()
        while self._take("&&"):
            other = self._comparison()
            value = other if truth(value) else value
        return value

    def _comparison(self) -> Value:
        value = self._unary()
        while sign := self._take("==", "!=", "<", "<=", ">", ">="):
            value = _compare(sign, value, self._unary())
        return value

    def _unary(self) -> Value:
        if self._take("!"):
            return not truth(self._unary())
        return self._followed()

    def _followed(self) -> Value:
        value = self._primary()
        while True:
            if self._take("."):
                value = _member(value, self._name())
            elif self._take("["):
                value = _member(value, written(self._or()))
                self._need("]")
            else:
                return value

    def _name(self) -> str:
        token = self._tokens[self._at]
        if token.kind != "name":
            raise self._error("a name is missing behind a dot")
        self._at += 1
        return token.text

    def _primary(self) -> Value:
        if self._take("("):
            value = self._or()
            self._need(")")
            return value
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "text":
            return token.text[1:-1].replace("''", "'")
        if token.kind == "number":
            return float(int(token.text, 16)) if "x" in token.text else float(token.text)
        if token.kind != "name":
            raise self._error(f"{token.text!r} is no value")
        return self._named(token.text)

    def _named(self, name: str) -> Value:
        if self._take("("):
            return self._call(name.lower())
        literal: Mapping[str, Value] = {"true": True, "false": False, "null": None}
        if name in literal:
            return literal[name]
        if name not in self._context.values:
            raise self._error(f"there is no {name} at this place")
        return self._context.values[name]

    def _call(self, name: str) -> Value:
        given: list[Value] = []
        while not self._take(")"):
            if given:
                self._need(",")
            given.append(self._or())
        if name == "always" and not given:
            return True
        if name in self._context.status and not given:
            return self._context.status[name]
        function = _FUNCTIONS.get(name)
        if function is None:
            raise self._error(f"there is no function {name} here")
        try:
            return function(*given)
        except (TypeError, ValueError) as problem:
            raise self._error(f"{name}: {problem}") from problem


def _member(value: Value, name: str) -> Value:
    if isinstance(value, Mapping):
        # Names are compared without regard to case.
        return next((found for key, found in value.items() if key.lower() == name.lower()), None)
    if isinstance(value, Sequence) and not isinstance(value, str) and name.isdigit():
        return value[int(name)] if int(name) < len(value) else None
    return None


def _compare(sign: str, one: Value, other: Value) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        left: float | str = one.lower()
        right: float | str = other.lower()
    else:
        left, right = _number(one), _number(other)
    if sign in ("==", "!="):
        return (left == right) == (sign == "==")
    if isinstance(left, str) != isinstance(right, str):
        return False
    pair: tuple[str, str] | tuple[float, float] = (left, right)  # type: ignore[assignment]
    below, same = pair[0] < pair[1], pair[0] == pair[1]  # type: ignore[operator]
    return {"<": below, "<=": below or same, ">": not (below or same), ">=": not below}[sign]


def _number(value: Value) -> float:
    if value is None or value == "":
        return 0.0
    if isinstance(value, (bool, int, float)):
        return float(value)
    if isinstance(value, str):
        try:
            return float(int(value, 16)) if value.startswith("0x") else float(value)
        except ValueError:
            return math.nan
    return math.nan


def _contains(where: Value, what: Value) -> bool:
    if isinstance(where, Sequence) and not isinstance(where, str):
        return any(_compare("==", one, what) for one in where)
    return written(what).lower() in written(where).lower()


def _from_json(text: Value) -> Value:
    found: Value = json.loads(written(text))
    return found


def _format(text: Value, *given: Value) -> str:
    return re.sub(
        r"\{\{|\}\}|\{([0-9]+)\}",
        lambda hole: written(given[int(hole.group(1))]) if hole.group(1) else hole.group()[0],
        written(text),
    )


_FUNCTIONS: Mapping[str, Function] = {
    "contains": _contains,
    "startswith": lambda text, start: written(text).lower().startswith(written(start).lower()),
    "endswith": lambda text, end: written(text).lower().endswith(written(end).lower()),
    "format": _format,
    "fromjson": _from_json,
    "tojson": lambda value: json.dumps(value, indent=2),
    "join": lambda values, by=",": written(by).join(written(one) for one in values),
}
