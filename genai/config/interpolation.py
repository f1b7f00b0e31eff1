r"""References within a job file: `${variables.lr}`, `${.sibling}`, `out-${seed}`; `\${` is a plain `${`.

OmegaConf resolves them. Before it does, every reference is looked up here, so that a wrong one is reported with its
place and a suggestion, a chain cannot go in a circle or grow without end, and no resolver runs: `${oc.env:NAME}` would
carry a secret into the resolved config, past the `env:NAME` references.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, TypeGuard

from genai.config.tree import Key, Node, dotted, graft, leaves, map_leaves, nearest, parse_key, plain
from genai.config.wording import quotable
from genai.errors import Problem
from genai.registry import suggest

MAX_CHARACTERS = 200_000
"""Size of everything that references stand for; more is a bomb, not a config."""
MAX_CHAIN = 30
_MAX_CANDIDATES = 500
TO_FILL_IN = "???"
"""What a template writes where the user has to decide."""

_OPENING = re.compile(r"(?<!\\)(?:\\\\)*\$\{")
_NAME = r"[^\s.:{}()\[\]\\'\"$]+"
_REFERENCE = re.compile(rf"[ \t]*(?P<up>\.*)(?P<path>{_NAME}(?:\.{_NAME})*)[ \t]*\}}")


class _Wrong(Exception):
    """A value cannot be resolved; no message where the fault was reported at its target."""

    def __init__(self, message: str | None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


def has_reference(text: object) -> bool:
    """Whether a value holds `${...}`."""
    return isinstance(text, str) and _OPENING.search(text) is not None


def resolve_references(tree: Node) -> tuple[Node, list[Problem]]:
    """Put values in the place of the references to them.

    Returns:
        the resolved tree, broken where a value cannot be known, and what is wrong there.
    """
    sizes = _Sizes(tree)
    problems: list[Problem] = []
    total = 0

    def mark_broken(key: Key, node: Node) -> Node:
        nonlocal total
        try:
            if has_reference(node.value):
                total += sizes.of(key, node, ())
            elif node.value == TO_FILL_IN:
                raise _Wrong("is still to be filled in", f"write a value in the place of {TO_FILL_IN}")
            if total > MAX_CHARACTERS:
                raise _Wrong(f"with this one, references stand for more than {MAX_CHARACTERS} characters")
        except _Wrong as wrong:
            if wrong.message is not None:
                message = f"{quotable(dotted(key))}: {wrong.message}"
                problems.append(Problem(message=message, where=node.origin.where(), fix=wrong.fix))
            return replace(node, value=None, broken=True)
        return node

    tree = map_leaves(tree, mark_broken)
    if not any("${" in node.value for _, node in leaves(tree) if isinstance(node.value, str)):
        return tree, problems
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        values = OmegaConf.to_container(OmegaConf.create(plain(tree)), resolve=True)
    except OmegaConfBaseException as error:  # such as a text that becomes ??? only when it is put together
        where = nearest(tree, parse_key(error.full_key or "")).origin.where()
        message = f"{quotable(error.full_key or 'a reference')}: the reference cannot be resolved"
        return replace(tree, broken=True), [*problems, Problem(message=message, where=where)]

    def resolved(key: Key, node: Node) -> Node:
        is_reference = isinstance(node.value, str) and "${" in node.value
        return graft(_value_at(values, key), node.origin) if is_reference else node

    return map_leaves(tree, resolved), problems


def _value_at(values: Any, key: Key) -> Any:
    for name in key:
        values = values[name]
    return values


class _Sizes:
    """Follows references and measures what they stand for, in characters."""

    def __init__(self, tree: Node) -> None:
        self._tree = tree
        self._known: dict[Key, int] = {}

    def of(self, key: Key, node: Node, chain: tuple[Key, ...]) -> int:
        """The size of a node once it is resolved.

        Args:
            key: where the node stands.
            node: what stands there.
            chain: the keys that led here.

        Raises:
            _Wrong: it cannot be resolved.
        """
        if key in chain:
            raise _Wrong(quotable(f"refers to itself: {' -> '.join(dotted(step) for step in (*chain, key))}"))
        if len(chain) > MAX_CHAIN:
            raise _Wrong(f"the chain of references is longer than {MAX_CHAIN}")
        if key not in self._known:
            self._known[key] = self._measure(key, node, chain)
        return self._known[key]

    def _measure(self, key: Key, node: Node, chain: tuple[Key, ...]) -> int:
        chain = (*chain, key)
        if isinstance(node.value, dict | list):
            return 1 + sum(self.of((*key, name), below, chain) for name, below in node.children())
        if node.broken or node.value == TO_FILL_IN:
            raise _Wrong(None)
        if not isinstance(node.value, str):
            return 1
        size = 1 + len(node.value) + sum(self.of(*target, chain) for target in self._targets(key, node.value))
        if size > MAX_CHARACTERS:
            raise _Wrong(f"its references stand for more than {MAX_CHARACTERS} characters")
        return size

    def _targets(self, key: Key, text: str) -> Iterator[tuple[Key, Node]]:
        for opening in _OPENING.finditer(text):
            reference = _REFERENCE.match(text, opening.end())
            if reference is None:
                raise _malformed(text[opening.end() :])
            target_key, target = self._look_up(_absolute(reference, key))
            is_whole = text.startswith("${") and reference.end() == len(text)
            if not is_whole and (target.value is None or isinstance(target.value, dict | list)):
                kind = "null" if target.value is None else "a list" if isinstance(target.value, list) else "a section"
                raise _Wrong(f"{_typed(reference)} stands for {kind}, which cannot be part of a text")
            yield target_key, target

    def _look_up(self, key: Key, hops: int = 0) -> tuple[Key, Node]:
        """Where a reference ends, going through references on the way (`${a.b}` where a is `${c}`)."""
        if hops > MAX_CHAIN:
            raise _Wrong(quotable(f"refers to itself on the way to {dotted(key)}"))
        node = self._tree
        for depth in range(len(key) + 1):
            reference = _REFERENCE.match(node.value, 2) if _is_whole_reference(node.value) else None
            if reference is not None:
                start, _ = self._look_up(_absolute(reference, key[:depth]), hops + 1)
                return self._look_up((*start, *key[depth:]), hops + 1)
            if depth == len(key):
                return key, node
            below = node.child(key[depth])
            if below is None:
                raise self._unknown(key)
            if isinstance(node.value, list):
                key = (*key[:depth], int(key[depth]), *key[depth + 1 :])
            node = below
        raise AssertionError("the loop ends at the key's end")

    def _unknown(self, key: Key) -> _Wrong:
        written = [dotted(other) for other, _ in islice(leaves(self._tree), _MAX_CANDIDATES)]
        same_name = [other for other in written if other.rpartition(".")[2] == key[-1]]
        near = same_name[0] if same_name else suggest(dotted(key), written)
        fix = f"did you mean ${{{near}}}?" if near else "write the value under variables"
        return _Wrong(f"${{{quotable(dotted(key))}}} stands for no key of this file", fix)


def _absolute(reference: re.Match[str], key: Key) -> Key:
    """The key that a reference names; one leading dot is a sibling of `key`, two are its parent's siblings."""
    levels_up = len(reference["up"])
    if levels_up > len(key):
        raise _Wrong(f"{_typed(reference)} has more dots than there are levels above it")
    return (*(key[:-levels_up] if levels_up else ()), *reference["path"].split("."))


def _is_whole_reference(value: object) -> TypeGuard[str]:
    if not isinstance(value, str) or not value.startswith("${"):
        return False
    reference = _REFERENCE.match(value, 2)
    return reference is not None and reference.end() == len(value)


def _typed(reference: re.Match[str]) -> str:
    return f"${{{quotable(reference['up'] + reference['path'])}}}"


def _malformed(rest: str) -> _Wrong:
    """What is wrong with a reference, given the text after its `${`."""
    inner, closing, _ = rest.partition("}")
    name, colon, _ = inner.partition(":")
    if colon and "${" not in name:
        fix = "write env:NAME where a secret is needed, and other values under variables"
        return _Wrong(f"${{{quotable(name)}:...}} is switched off: only keys of this file can be referred to", fix)
    if "${" in inner:
        return _Wrong("one ${...} inside another is not supported", "write the name of the key")
    if not closing:
        return _Wrong("a '${' is not closed", "write ${variables.NAME}, or \\${ for the plain characters")
    return _Wrong(f"${{{quotable(inner)}}} is no reference", "write ${variables.NAME}, or ${a.list.0} for an item")
