"""The two ways to write a filter, read into one tree whose values are not yet typed.

As text, with `and`, `or`, `not` and parentheses; what holds spaces, commas or operators stands in quotes:

    topic = floors
    year >= 2020 and (tag in a, "under floor" or not exists(draft))

As values, the way JSON has them: the keys of a mapping must all hold, a list means one of them, null means absent:

    {"topic": "floors", "year": {">=": 2020}, "or": [{"tag": ["a", "b"]}, {"not": {"draft": {"exists": true}}}]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from genai.errors import UsageError

OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in", "exists")
_SAME = {"==": "=", "<>": "!="}
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<operator><=|>=|!=|<>|==|=|<|>)
    | (?P<mark>[(),])
    | (?P<word>[^\s()=!<>,"']+)
    | (?P<wrong>\S)
    )""",
    re.VERBOSE,
)
_EXAMPLE = "e.g. \"year >= 2020 and topic in floors, 'under floor'\""
MAX_DEPTH = 50
"""Of parentheses and `not`; nobody writes more, and what is deeper would exhaust the stack."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`column operator value`, the value as it was written."""

    column: str
    operator: str
    value: Any
    is_text: bool
    """True: the value was written in a text, where a number is a text too."""
    where: str
    """For messages."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Several parts that must all hold, or of which one must; `not` has one part."""

    kind: Literal["and", "or", "not"]
    parts: tuple[Node, ...]


Node = Comparison | Group


def read_text(text: str) -> Node:
    """The tree of a filter that is written as text.

    Raises:
        UsageError: it cannot be read; says where.
    """
    return _Parser(text).whole()


def read_values(values: Mapping[str, Any], *, path: str = "filter", depth: int = 0) -> Node:
    """The tree of a filter that is written as values.

    Args:
        values: column -> value, list of values or {operator: value}; `and` and `or` -> list of filters; `not` -> one.
        path: where it stands, for messages.
        depth: how many filters it stands in.

    Raises:
        UsageError: it cannot be read; says where.
    """
    if depth > MAX_DEPTH:
        raise UsageError(f"the filter is nested more than {MAX_DEPTH} deep", where=path)
    parts: list[Node] = []
    for key, value in values.items():
        place = f"{path}.{key}"
        if key in ("and", "or"):
            inner = [read_values(_mapping(item, place), path=place, depth=depth + 1) for item in _items(value, place)]
            parts.append(Group(kind="and" if key == "and" else "or", parts=tuple(inner)))
        elif key == "not":
            inner = [read_values(_mapping(value, place), path=place, depth=depth + 1)]
            parts.append(Group(kind="not", parts=tuple(inner)))
        else:
            parts.extend(_column_values(str(key), value, place))
    return parts[0] if len(parts) == 1 else Group(kind="and", parts=tuple(parts))


def _column_values(column: str, value: Any, place: str) -> list[Node]:
    if value is None:
        return [Group(kind="not", parts=(_value(column, "exists", None, place),))]
    if isinstance(value, list | tuple):
        return [_value(column, "in", tuple(value), place)]
    if not isinstance(value, Mapping):
        return [_value(column, "=", value, place)]
    found: list[Node] = []
    for name, operand in value.items():
        operator = _SAME.get(str(name), str(name))
        if operator not in OPERATORS:
            raise UsageError(f"unknown operator {str(name)!r}", where=place, fix=f"known: {', '.join(OPERATORS)}")
        if operator == "exists":
            if not isinstance(operand, bool):
                raise UsageError("exists is true or false", where=place)
            there = _value(column, "exists", None, place)
            found.append(there if operand else Group(kind="not", parts=(there,)))
        elif operator == "in":
            found.append(_value(column, "in", tuple(_items(operand, place)), place))
        else:
            found.append(_value(column, operator, operand, place))
    return found


def _value(column: str, operator: str, value: Any, place: str) -> Comparison:
    return Comparison(column=column, operator=operator, value=value, is_text=False, where=place)


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError("a filter is expected here", where=place, fix='write {"COLUMN": VALUE}')
    return value


def _items(value: Any, place: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise UsageError("a list is expected here", where=place)
    return value


@dataclass(frozen=True, kw_only=True)
class _Token:
    kind: str
    """quoted, operator, mark, word or end"""
    text: str
    start: int


class _Parser:
    """Recursive descent: or, and, not, one comparison."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._next = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._either()
        if self._peek().kind != "end":
            self._fail("'and' or 'or' is expected", fix="put a value with spaces in quotes")
        return node

    def _split(self) -> list[_Token]:
        tokens, start = [], 0
        while match := _TOKEN.match(self._text, start):
            kind = match.lastgroup or ""
            if kind == "wrong":
                self._fail("a quote that is not closed, or a '!' without '='", at=match.start(kind))
            text = match[kind]
            if kind == "quoted":
                text = re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
            tokens.append(_Token(kind=kind, text=text, start=match.start(kind)))
            start = match.end()
        return [*tokens, _Token(kind="end", text="", start=len(self._text))]

    def _either(self) -> Node:
        parts = [self._both()]
        while self._take_word("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Group(kind="or", parts=tuple(parts))

    def _both(self) -> Node:
        parts = [self._one()]
        while self._take_word("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Group(kind="and", parts=tuple(parts))

    def _one(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"nested more than {MAX_DEPTH} deep")
        try:
            if self._take_word("not"):
                return Group(kind="not", parts=(self._one(),))
            if self._take_mark("("):
                node = self._either()
                self._expect_mark(")")
                return node
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Node:
        if self._peek().kind == "word" and self._peek().text.lower() == "exists" and self._is_mark("(", ahead=1):
            start = self._take().start
            self._expect_mark("(")
            column = self._name()
            self._expect_mark(")")
            return self._compare(column, "exists", None, start)
        start = self._peek().start
        column = self._name()
        if self._take_word("in"):
            return self._compare(column, "in", self._list(), start)
        if self._peek().kind != "operator":
            self._fail(f"an operator is expected after {column!r}")
        operator = self._take().text
        return self._compare(column, _SAME.get(operator, operator), self._value(), start)

    def _compare(self, column: str, operator: str, value: Any, start: int) -> Comparison:
        return Comparison(column=column, operator=operator, value=value, is_text=True, where=self._where(start))

    def _name(self) -> str:
        if self._peek().kind not in ("word", "quoted") or self._is_word("and", "or", "not", "in"):
            self._fail("a column is expected")
        return self._take().text

    def _value(self) -> str:
        if self._peek().kind not in ("word", "quoted") or self._is_word("and", "or"):
            self._fail("a value is expected", fix="put a value with odd characters in quotes")
        return self._take().text

    def _list(self) -> tuple[str, ...]:
        closes = self._take_mark("(")
        values = [self._value()]
        while self._take_mark(","):
            values.append(self._value())
        if closes:
            self._expect_mark(")")
        return tuple(values)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _is_word(self, *words: str) -> bool:
        return self._peek().kind == "word" and self._peek().text.lower() in words

    def _take_word(self, word: str) -> bool:
        found = self._is_word(word)
        self._next += found
        return found

    def _is_mark(self, mark: str, *, ahead: int = 0) -> bool:
        token = self._tokens[min(self._next + ahead, len(self._tokens) - 1)]
        return token.kind == "mark" and token.text == mark

    def _take_mark(self, mark: str) -> bool:
        found = self._is_mark(mark)
        self._next += found
        return found

    def _expect_mark(self, mark: str) -> None:
        if not self._take_mark(mark):
            self._fail(f"{mark!r} is expected")

    def _where(self, at: int) -> str:
        return f"filter {self._text!r}, character {at + 1}"

    def _fail(self, message: str, *, at: int | None = None, fix: str = _EXAMPLE) -> NoReturn:
        raise UsageError(message, where=self._where(self._peek().start if at is None else at), fix=fix)
