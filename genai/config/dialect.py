"""The YAML that job files are written in: YAML 1.2's core schema, read by PyYAML's parser.

Plain scalars mean what they look like, unlike in YAML 1.1:

    null, ~ or nothing      null
    true, false             booleans; yes, no, on and off are text
    10, -3, 0x1f, 0o17      whole numbers (64 bits); 010 is ten, 12:30:00 and 1_000 are text
    1.5, 1e-4, 2e9          numbers; .inf and .nan are refused
    anything else           text, dates as well

Anchors, aliases and merge keys (`<<`) work; a key written twice, a key that is not text, tags such as `!!python/name`,
several documents in one file, very deep nesting and alias bombs are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from genai.config.tree import Node, Origin, Scalar
from genai.config.wording import quotable
from genai.errors import ConfigError, Problem

MAX_DEPTH = 40
MAX_NODES = 50_000
_LARGEST_INT = 2**63 - 1

_TAG = "tag:yaml.org,2002:"
_PLAIN_SCALARS: dict[str, tuple[str, list[str] | None]] = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": ("<<", ["<"]),
}
"""Name of the tag -> pattern of the plain scalars that have it, and the characters they can begin with."""

_PLAIN_ENGLISH = (
    ("mapping values are not allowed", "unexpected ':'", "check the indentation, or quote text that holds ': '"),
    ("could not find expected ':'", "this line has no ': ' after its key", "write key: value"),
    ("'\\t' that cannot start any token", "a tab where spaces are needed", "indent with spaces"),
    ("cannot start any token", "text cannot start with this character", "put the text in quotes"),
    ("found unexpected end of stream", "a quote is not closed", None),
    ("expected <block end>", "the indentation does not fit the lines above", "align it with its neighbours"),
    ("expected ',' or ']'", "a '[' is not closed, or a comma is missing", None),
    ("expected ',' or '}'", "a '{' is not closed, or a comma is missing", None),
    ("found undefined alias", "an alias without its anchor", "write &name at the value that *name stands for"),
    ("but found another document", "the file holds more than one document", "remove the line '---' and what follows"),
)
"""What PyYAML says -> what we say, and the way out."""


class _Dialect(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's parser with YAML 1.2's scalars and a limit on the depth."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either YAML 1.1 or our dialect would read as something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, (_pattern, _first) in _PLAIN_SCALARS.items():
    _compiled = re.compile(rf"(?:{_pattern})\Z")
    _Dialect.add_implicit_resolver(f"{_TAG}{_name}", _compiled, _first)
    _Dumper.add_implicit_resolver(f"{_TAG}{_name}", _compiled, _first)


def read(text: str, origin: Origin) -> tuple[Node | None, list[Problem]]:
    """Read one YAML document.

    Args:
        text: the document.
        origin: of the whole; nodes of a file get their own line and column, those of an override share its origin.

    Returns:
        the tree (None where the document is empty), and what is wrong with single keys and values.

    Raises:
        ConfigError: the text is no YAML.
    """
    try:
        loader = _Dialect(text)
    except yaml.reader.ReaderError as error:
        raise ConfigError([_unprintable(text, error, origin)]) from None
    try:
        document = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax_problem(error, origin)]) from None
    except ValueError:
        where = _at(loader.get_mark(), origin).where()
        raise ConfigError([Problem(message="an escape that is no character", where=where)]) from None
    if document is None:
        return None, []
    builder = _Builder(origin)
    return builder.build(document, _at(document.start_mark, origin)), builder.problems


def dump(value: Any, *, flow: bool = False) -> str:
    """Plain dicts, lists and scalars as YAML text that `read` gives back unchanged.

    Args:
        value: what to write.
        flow: on one line, with brackets.
    """
    return yaml.dump(
        value, Dumper=_Dumper, default_flow_style=flow, sort_keys=False, allow_unicode=True, width=1_000_000
    )


class _Builder:
    """Makes our tree from PyYAML's, collecting what is wrong with it."""

    def __init__(self, origin: Origin) -> None:
        self.problems: list[Problem] = []
        self._origin = origin
        self._open: list[yaml.Node] = []
        self._num_nodes = 0

    def build(self, node: yaml.Node, origin: Origin) -> Node:
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES:
            message = f"more than {MAX_NODES} values once its aliases are written out"
            raise ConfigError([Problem(message=message, where=origin.where())])
        if any(node is parent for parent in self._open) or len(self._open) > MAX_DEPTH:
            return self._broken(origin, "an alias that contains itself, or too many in one another")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, origin)
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
                return Node(self._mapping(node), origin)
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
                return Node([self.build(item, self._at(item)) for item in node.value], origin)
            return self._unknown_tag(node, origin)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Node]:
        written: dict[str, Node] = {}
        inherited: dict[str, Node] = {}
        for key_node, value_node in node.value:
            origin = self._at(key_node)
            if key_node.tag == f"{_TAG}merge":
                inherited = {**self._merged(value_node, origin), **inherited}
                continue
            name = self._key(key_node, origin)
            if name is None:
                continue
            if name in written:
                first = written[name].origin.line
                self._report(origin, f"key '{quotable(name)}' is written twice (first in line {first})", "keep one")
            written[name] = self.build(value_node, origin)
        return {**inherited, **written}

    def _merged(self, node: yaml.Node, origin: Origin) -> dict[str, Node]:
        """The mapping, or the mappings (the first wins), that stand after `<<:`."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Node] = {}
        for source in sources:
            below = self.build(source, origin)
            if isinstance(below.value, dict):
                merged = {**below.value, **merged}
            elif not below.broken:
                self._report(origin, "'<<' takes a mapping", "write <<: *name of an anchor on a section")
        return merged

    def _key(self, node: yaml.Node, origin: Origin) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}str":
            below = self._scalar(node, origin)
            return None if below.broken else str(below.value)
        typed = f" '{quotable(node.value)}'" if isinstance(node, yaml.ScalarNode) else ""
        self._report(origin, f"the key{typed} is not text", "put it in quotes" if typed else "a key is one word")
        return None

    def _scalar(self, node: yaml.ScalarNode, origin: Origin) -> Node:
        tag = node.tag.removeprefix(_TAG)
        if tag not in ("str", "merge", *_CONVERTERS):
            return self._unknown_tag(node, origin)
        try:
            value = _CONVERTERS[tag](node.value) if tag in _CONVERTERS else _usable_text(node.value)
        except ValueError as error:
            return self._broken(origin, str(error))
        return Node(value, origin, raw=node.value)

    def _unknown_tag(self, node: yaml.Node, origin: Origin) -> Node:
        tag = node.tag.replace(_TAG, "!!")
        return self._broken(origin, f"the tag {quotable(tag)} does not fit here", "write the value without a tag")

    def _broken(self, origin: Origin, message: str, fix: str | None = None) -> Node:
        self._report(origin, message, fix)
        return Node(None, origin, broken=True)

    def _report(self, origin: Origin, message: str, fix: str | None = None) -> None:
        self.problems.append(Problem(message=message, where=origin.where(), fix=fix))

    def _at(self, node: yaml.Node) -> Origin:
        return _at(node.start_mark, self._origin)


def _null(text: str) -> None:
    if text not in ("", "~", "null", "Null", "NULL"):
        raise ValueError(f"'{quotable(text)}' is not null")


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"'{quotable(text)}' is neither true nor false")
    return text.lower() == "true"


def _integer(text: str) -> int:
    if len(text) > 64:
        raise ValueError(f"a number of {len(text)} digits is too large")
    try:
        value = int(text, 16 if "x" in text else 8 if "o" in text else 10)
    except ValueError:
        raise ValueError(f"'{quotable(text)}' is not a whole number") from None
    if abs(value) > _LARGEST_INT:
        raise ValueError(f"the number {text} is too large")
    return value


def _finite(text: str) -> float:
    try:
        value = float(text.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"'{quotable(text)}' is not a finite number")
    return value


def _usable_text(text: str) -> str:
    if "\0" in text or any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        raise ValueError("text with a NUL or half a surrogate pair in it")
    return text


_CONVERTERS: dict[str, Callable[[str], Scalar]] = {
    "null": _null,
    "bool": _boolean,
    "int": _integer,
    "float": _finite,
}


def _at(mark: Any, origin: Origin) -> Origin:
    if origin.source == "override":
        return origin
    return Origin(origin.source, origin.label, mark.line + 1, mark.column + 1)


def _syntax_problem(error: yaml.MarkedYAMLError, origin: Origin) -> Problem:
    said = error.problem or "this is no YAML"
    mark = error.problem_mark or error.context_mark
    for theirs, ours, fix in _PLAIN_ENGLISH:
        if theirs in said:
            began_earlier = ours.startswith(("a quote", "a '", "this line"))
            place = error.context_mark if began_earlier and error.context_mark else mark
            return Problem(message=ours, where=_at(place, origin).where(), fix=fix)
    return Problem(message=quotable(said), where=_at(mark, origin).where())


def _unprintable(text: str, error: yaml.reader.ReaderError, origin: Origin) -> Problem:
    before = text[: error.position]
    line, column = before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1
    where = origin.where() if origin.source == "override" else Origin(origin.source, origin.label, line, column).where()
    code = error.character if isinstance(error.character, int) else ord(error.character)
    return Problem(message=f"the control character U+{code:04X} cannot stand in YAML", where=where)
