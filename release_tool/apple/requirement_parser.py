"""Read code requirements from their source form: recursive descent over its tokens.

Rule and source: the requirement language of Apple's Technical Note 2206, and the texts that
codesign wrote into real resource seals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from typing import Literal, NoReturn

from release_tool import errors
from release_tool.apple.requirement_expression import (
    EPOCH,
    LAST_SECOND,
    LEAF,
    MAX_DEPTH,
    MAX_OPERATIONS,
    ROOT,
    Expression,
    Match,
    MatchKind,
    Operation,
    oid_octets,
)
from release_tool.apple.requirement_text import (
    COMPARISONS,
    DATE_COMPARISONS,
    OID_PREFIXES,
    TIME_FORMAT,
    TYPE_NAMES,
)

# The longest text in a real seal has under 700 characters.
MAX_TEXT = 64 * 1024

Nesting = Literal["left", "right"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str
    text: str


_TOKENS = re.compile(
    r"""(?P<space>\s+|/\*.*?\*/|//[^\n]*|\#[^\n]*)
      | (?P<hash>H"[0-9A-Fa-f]*")
      | (?P<hex>0x[0-9A-Fa-f]*)
      | (?P<string>"(?:\\.|[^"\\])*")
      | (?P<time><\d{1,4}-\d\d-\d\d\ \d\d:\d\d:\d\dZ>)
      | (?P<sign><=|>=|=>|==|[()\[\]=~<>!*])
      | (?P<word>[A-Za-z0-9_.\-]+)
      """,
    re.VERBOSE | re.DOTALL,
)


def parse(text: str, *, nesting: Nesting = "left") -> Expression:
    """Read the source form.

    Args:
        text: one requirement.
        nesting: how `and` and `or` chains nest, which the text does not say: to the left, as
            Apple's compiler builds them, or to the right, as codesign writes the requirement
            that it designates by default. Text and meaning are the same, the octets are not.

    Raises:
        FormatError: it is not of the requirement language.
    """
    parser = _Parser(_tokens(text), nesting)
    expression = parser.alternatives(0)
    parser.expect_end()
    return expression


def parse_set(text: str, *, nesting: Nesting = "left") -> dict[int, Expression]:
    """Read a set in its source form: `designated => … library => …`, a type's number allowed.

    Raises:
        FormatError: it is not one, or names a type twice.
    """
    parser = _Parser(_tokens(text), nesting)
    found: dict[int, Expression] = {}
    while not parser.at_end():
        kind = parser.requirement_type()
        if kind in found:
            raise errors.FormatError("the requirement set names a type twice", observed=str(kind))
        found[kind] = parser.alternatives(0)
    return found


def _tokens(text: str) -> list[_Token]:
    if len(text) > MAX_TEXT:
        raise errors.FormatError("the requirement's text is too long", observed=str(len(text)))
    found: list[_Token] = []
    position = 0
    while position < len(text):
        token = _TOKENS.match(text, position)
        if token is None or token.lastgroup is None:
            _refuse(text[position : position + 20])
        if token.lastgroup != "space":
            found.append(_Token(kind=token.lastgroup, text=token.group()))
        position = token.end()
    return found


def _refuse(near: str) -> NoReturn:
    raise errors.FormatError("not of the requirement language", observed=f"near {near!r}")


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[_Token], nesting: Nesting) -> None:
        self._tokens = tokens
        self._nesting = nesting
        self._position = 0
        self._operations = 0

    def at_end(self) -> bool:
        return self._position >= len(self._tokens)

    def expect_end(self) -> None:
        if not self.at_end():
            _refuse(self._tokens[self._position].text)

    def requirement_type(self) -> int:
        """The type that a member of a set begins with, and its arrow."""
        text = self._next().text
        names = {name: kind for kind, name in TYPE_NAMES.items()}
        kind = names[text] if text in names else self._integer(text)
        self._expect("=>")
        if kind < 0:
            _refuse(text)
        return kind

    def alternatives(self, depth: int) -> Expression:
        return self._chain(depth, "or", Operation.OR, self._conjunction)

    def _conjunction(self, depth: int) -> Expression:
        return self._chain(depth, "and", Operation.AND, self._primary)

    def _chain(
        self, depth: int, word: str, operation: Operation, part: Callable[[int], Expression]
    ) -> Expression:
        parts = [part(depth + 1)]
        while self._accept(word):
            if depth + len(parts) > MAX_DEPTH:
                raise errors.FormatError("the requirement is nested too deeply")
            parts.append(part(depth + 1))
        if self._nesting == "left":
            return reduce(lambda one, two: _joined(operation, one, two), parts)
        return reduce(lambda two, one: _joined(operation, one, two), reversed(parts))

    def _primary(self, depth: int) -> Expression:
        self._operations += 1
        if depth > MAX_DEPTH or self._operations > MAX_OPERATIONS:
            raise errors.FormatError("the requirement is nested too deeply")
        token = self._next()
        if token.text == "!":
            return Expression(operation=Operation.NOT, operands=(self._primary(depth + 1),))
        if token.text == "(":
            return self._parenthesis(depth)
        reader = _READERS.get(token.text)
        if reader is None:
            _refuse(token.text)
        return reader(self)

    def _parenthesis(self, depth: int) -> Expression:
        if self._peek(1) == ")" and self._peek() not in _READERS:
            named = Expression(operation=Operation.NAMED_CODE, data=self.value())
            self._expect(")")
            return named
        inside = self.alternatives(depth + 1)
        self._expect(")")
        return inside

    def _equals(self) -> None:
        """The language's optional sign of equality."""
        if not self._accept("="):
            self._accept("==")

    def identifier(self) -> Expression:
        self._equals()
        return Expression(operation=Operation.IDENTIFIER, data=self.value())

    def cdhash(self) -> Expression:
        self._equals()
        return Expression(operation=Operation.CDHASH, data=self._hash())

    def platform(self) -> Expression:
        self._equals()
        return Expression(operation=Operation.PLATFORM, number=self._integer(self._next().text))

    def anchor(self) -> Expression:
        if self._accept("trusted"):
            return Expression(operation=Operation.TRUSTED_CERTIFICATES)
        if self._accept("apple"):
            return self._apple_anchor()
        self._equals()
        return Expression(operation=Operation.ANCHOR_HASH, certificate=ROOT, data=self._hash())

    def _apple_anchor(self) -> Expression:
        if self._accept("generic"):
            return Expression(operation=Operation.APPLE_GENERIC_ANCHOR)
        if self._kind() in ("word", "string", "hex") and self._peek() not in ("and", "or"):
            return Expression(operation=Operation.NAMED_ANCHOR, data=self.value())
        return Expression(operation=Operation.APPLE_ANCHOR)

    def info(self) -> Expression:
        return Expression(operation=Operation.INFO_FIELD, key=self._key(), match=self._match())

    def entitlement(self) -> Expression:
        key = self._key()
        return Expression(operation=Operation.ENTITLEMENT_FIELD, key=key, match=self._match())

    def certificate(self) -> Expression:
        slot = self._slot()
        if self._accept("trusted"):
            return Expression(operation=Operation.TRUSTED_CERTIFICATE, certificate=slot)
        if self._peek() in ("=", "==") or self._kind() == "hash":
            self._equals()
            data = self._hash()
            return Expression(operation=Operation.ANCHOR_HASH, certificate=slot, data=data)
        key = self._key()
        for operation, prefix in OID_PREFIXES.items():
            if key.startswith(prefix.encode()):
                octets = oid_octets(key.decode("ascii", "replace").removeprefix(prefix))
                match = self._match()
                return Expression(operation=operation, certificate=slot, key=octets, match=match)
        match = self._match()
        return Expression(
            operation=Operation.CERTIFICATE_FIELD, certificate=slot, key=key, match=match
        )

    def _slot(self) -> int:
        names = {"leaf": LEAF, "root": ROOT, "anchor": ROOT}
        text = self._next().text
        return names[text] if text in names else self._integer(text)

    def _integer(self, text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,9}", text):
            _refuse(text)
        return int(text)

    def _key(self) -> bytes:
        self._expect("[")
        key = self.value()
        self._expect("]")
        return key

    def value(self) -> bytes:
        """A bare word, a quoted string or hexadecimal."""
        token = self._next()
        if token.kind == "string":
            return _utf8(re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL))
        if token.kind == "hex":
            return self._octets(token.text[2:])
        if token.kind != "word":
            _refuse(token.text)
        return _utf8(token.text)

    def _hash(self) -> bytes:
        token = self._next()
        if token.kind != "hash":
            _refuse(token.text)
        return self._octets(token.text[2:-1])

    def _octets(self, digits: str) -> bytes:
        if len(digits) % 2:
            _refuse(digits[:20])
        return bytes.fromhex(digits)

    def _match(self) -> Match:
        if self._accept("absent"):
            return Match(kind=MatchKind.ABSENT)
        sign = self._peek()
        if sign not in ("=", "==", "~", "<", ">", "<=", ">=", "=>"):
            self._accept("exists")
            return Match()
        self._next()
        sign = "=" if sign == "==" else sign
        if self._kind() == "time":
            return self._date_match(sign)
        if sign == "=":
            return self._equality()
        kinds = {text: kind for kind, text in COMPARISONS.items()} | {"=>": MatchKind.GREATER_EQUAL}
        return Match(kind=kinds[sign], value=self.value())

    def _equality(self) -> Match:
        if self._accept("*"):
            value = self.value()
            kind = MatchKind.CONTAINS if self._accept("*") else MatchKind.ENDS_WITH
            return Match(kind=kind, value=value)
        value = self.value()
        kind = MatchKind.BEGINS_WITH if self._accept("*") else MatchKind.EQUAL
        return Match(kind=kind, value=value)

    def _date_match(self, sign: str) -> Match:
        kinds = {text: kind for kind, text in DATE_COMPARISONS.items()}
        if sign not in kinds:
            _refuse(sign)
        text = self._next().text[1:-1]
        try:
            moment = datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            _refuse(text)
        seconds = int((moment - EPOCH).total_seconds())
        if not 0 <= seconds <= LAST_SECOND:
            _refuse(text)
        return Match(kind=kinds[sign], seconds=seconds)

    def _peek(self, ahead: int = 0) -> str:
        index = self._position + ahead
        return self._tokens[index].text if index < len(self._tokens) else ""

    def _kind(self) -> str:
        return "" if self.at_end() else self._tokens[self._position].kind

    def _accept(self, text: str) -> bool:
        if self._peek() != text:
            return False
        self._position += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            _refuse(self._peek() or "the end")

    def _next(self) -> _Token:
        if self.at_end():
            _refuse("the end")
        self._position += 1
        return self._tokens[self._position - 1]


def _joined(operation: Operation, one: Expression, two: Expression) -> Expression:
    return Expression(operation=operation, operands=(one, two))


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        _refuse("a lone surrogate")


_READERS: Mapping[str, Callable[[_Parser], Expression]] = {
    "always": lambda _: Expression(operation=Operation.TRUE),
    "true": lambda _: Expression(operation=Operation.TRUE),
    "never": lambda _: Expression(operation=Operation.FALSE),
    "false": lambda _: Expression(operation=Operation.FALSE),
    "notarized": lambda _: Expression(operation=Operation.NOTARIZED),
    "legacy": lambda _: Expression(operation=Operation.LEGACY_DEVELOPER_ID),
    "identifier": _Parser.identifier,
    "cdhash": _Parser.cdhash,
    "platform": _Parser.platform,
    "anchor": _Parser.anchor,
    "info": _Parser.info,
    "entitlement": _Parser.entitlement,
    "certificate": _Parser.certificate,
    "cert": _Parser.certificate,
}
