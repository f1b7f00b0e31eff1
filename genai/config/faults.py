"""What pydantic found, said at keys of the job file and in the words of its user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import partial
from typing import Any, cast

from pydantic import ValidationError

from genai.config.annotations import Variants, all_keys, below, describe, hints, is_section, required, shapes
from genai.config.field_docs import field_docs
from genai.config.fixes import fix_for
from genai.config.secrets import looks_like_secret
from genai.config.tree import Key, Node, dotted, edit, find, nearest
from genai.config.wording import key_name, value_name
from genai.errors import Problem
from genai.registry import suggest

_MAX_LISTED_KEYS = 8
_SURE = 0.75
_MAX_QUOTED_CHARACTERS = 40


@dataclass(frozen=True)
class Fault:
    """A problem, and how to go on as if it were not there."""

    problem: Problem
    mend: Callable[[Node], Node] | None = None
    """Gives the tree as it was most likely meant; None where that is not clear."""


def faults_of(error: ValidationError, schema: type, tree: Node, values: Any, job: str | None) -> list[Fault]:
    """Every fault of a config.

    Args:
        error: what pydantic raised for `[values]`.
        schema: the job's config class.
        tree: what was written.
        values: the same as plain values, with the names of variants filled in.
        job: the job's name, for hints.
    """
    return _Explainer(schema, tree, values, job).faults(error)


class _Explainer:
    """Turns pydantic's errors into faults at keys."""

    def __init__(self, schema: type, tree: Node, values: Any, job: str | None) -> None:
        self._schema = schema
        self._tree = tree
        self._values = values
        self._job = job

    def faults(self, error: ValidationError) -> list[Fault]:
        by_key: dict[Key, list[Any]] = {}
        for each in error.errors(include_url=False, include_input=False):
            by_key.setdefault(self._key_of(each["loc"][1:]), []).append(each)
        return [
            self._fault(key, errors)
            for key, errors in by_key.items()
            if not self._is_broken(key) and not self._is_said_deeper(key, by_key)
        ]

    def _is_broken(self, key: Key) -> bool:
        """Whether a value, or the name of a section's variant, was reported before."""
        variants = (shape.type for shape in shapes(self._annotation(key)) if isinstance(shape.type, Variants))
        names = [(*key, each.discriminator) for each in variants]
        return any(nearest(self._tree, each).broken for each in [key, *names])

    def _is_said_deeper(self, key: Key, by_key: dict[Key, list[Any]]) -> bool:
        """Whether a list that may also be one word has its fault in an item."""
        node = find(self._tree, key)
        has_items = node is not None and isinstance(node.value, dict | list)
        return has_items and any(len(other) > len(key) and other[: len(key)] == key for other in by_key)

    def _key_of(self, loc: Sequence[str | int]) -> Key:
        """The key that pydantic's location means: without the names of union members and variants."""
        key: Key = ()
        annotation: Any = self._schema
        rest = list(loc)
        while rest:
            options = [shape.type for shape in shapes(annotation) if shape.type is not type(None)]
            variants = next((option for option in options if isinstance(option, Variants)), None)
            if len(options) > 1:
                rest.pop(0)
            if variants is not None and rest and rest[0] in variants.tags():
                annotation = variants.get(rest.pop(0))
            if not rest:
                break
            name = rest.pop(0)
            annotation = below(annotation, name, self._value(key))
            key = (*key, name)
            if annotation is None:
                break
        return key

    def _value(self, key: Key) -> Any:
        value = self._values
        for name in key:
            value = value[name]
        return value

    def _annotation(self, key: Key) -> Any:
        annotation: Any = self._schema
        for depth, name in enumerate(key):
            annotation = below(annotation, name, self._value(key[:depth]))
        return annotation

    def _section(self, key: Key) -> type:
        """The config class of a section, the variant that its name says."""
        section = next(shape.type for shape in shapes(self._annotation(key)) if is_section(shape.type))
        if isinstance(section, Variants):
            return cast(type, section.get(self._value(key).get(section.discriminator)))
        return cast(type, section)

    def _fault(self, key: Key, errors: list[Any]) -> Fault:
        kind = errors[0]["type"]
        if kind == "unexpected_keyword_argument":
            return self._unknown_key(key)
        if kind == "missing" and isinstance(key[-1], int):
            return Fault(self._wrong_value(key[:-1], errors))
        if kind == "missing":
            return Fault(self._missing(key, self._section(key[:-1])))
        if kind in ("union_tag_invalid", "union_tag_not_found"):
            return self._wrong_variant(key)
        return Fault(self._wrong_value(key, errors))

    def _unknown_key(self, key: Key) -> Fault:
        section, name = self._section(key[:-1]), str(key[-1])
        written = nearest(self._tree, key[:-1]).value
        free = [field for field in hints(section) if field not in cast(dict[str, Node], written)]
        near = suggest(name, free)
        fix = f"did you mean '{near or suggest(name, hints(section))}'?"
        if near is None and suggest(name, hints(section)) is None:
            fix = self._elsewhere(key) or self._keys_of(section, key[:-1])
        mend = partial(_rename, key=key, name=near) if near and _is_sure(name, near) else None
        return Fault(self._problem(key, f"unknown key '{key_name(key)}'", fix), mend)

    def _elsewhere(self, key: Key) -> str | None:
        """The place of a key of that name in another section, the closest one."""
        places = [path for path, _, name in all_keys(self._schema) if name == key[-1]]
        if not places or key in places:  # there it is a key of another variant of the section
            return None
        shared = [sum(1 for a, b in zip(path, key, strict=False) if a == b) for path in places]
        return f"did you mean '{dotted(places[shared.index(max(shared))])}'?"

    def _keys_of(self, section: type, key: Key) -> str:
        names = list(hints(section))
        if len(names) <= _MAX_LISTED_KEYS:
            return f"keys here: {', '.join(names)}"
        return f"genai config explain {dotted((self._job or 'JOB', *key))} lists the keys"

    def _missing(self, key: Key, section: type) -> Problem:
        name = str(key[-1])
        kind = shapes(hints(section)[name])[0].type
        if is_section(kind) and not isinstance(kind, Variants):
            fix = f"write {name}: {{{', '.join(f'{each}: ...' for each in required(kind))}}}"
        else:
            fix = field_docs(section).get(name) or f"it must be {describe(hints(section)[name])}"
        return self._problem(key, f"'{key_name(key)}' is missing", fix)

    def _wrong_variant(self, key: Key) -> Fault:
        variants = next(shape.type for shape in shapes(self._annotation(key)) if isinstance(shape.type, Variants))
        name_key = (*key, variants.discriminator)
        node = find(self._tree, name_key)
        if node is None:
            message = f"'{key_name(name_key)}' is missing"
            return Fault(self._problem(name_key, message, f"one of {', '.join(variants.tags())}"))
        typed = node.value if isinstance(node.value, str) else ""
        near = suggest(typed, variants.tags())
        message = f"{key_name(name_key)} must be one of {', '.join(variants.tags())}, not {value_name(node)}"
        mend = partial(_set_value, key=name_key, value=near) if near and _is_sure(typed, near) else None
        fix = f"did you mean '{near}'?" if near else None
        return Fault(self._problem(name_key, message, fix), mend)

    def _wrong_value(self, key: Key, errors: list[Any]) -> Problem:
        node = nearest(self._tree, key)
        said = next((str(each["ctx"]["error"]) for each in errors if each["type"] == "value_error"), None)
        is_short = isinstance(node.value, str) and len(node.value) <= _MAX_QUOTED_CHARACTERS
        if said and is_short and not looks_like_secret(node.value):
            return self._problem(key, f"{key_name(key)}: {said}")
        annotation = self._annotation(key)
        message = f"{key_name(key)} must be {describe(annotation)}, not {value_name(node)}"
        return self._problem(key, message, fix_for(annotation, str(key[-1]) if key else "", node))

    def _problem(self, key: Key, message: str, fix: str | None = None) -> Problem:
        return Problem(message=message, where=nearest(self._tree, key).origin.where(), fix=fix)


def _is_sure(typed: str, meant: str) -> bool:
    """Whether two words are so near that what stands below the first can be checked as if it were below the second."""
    return SequenceMatcher(None, typed, meant).ratio() >= _SURE


def _rename(tree: Node, *, key: Key, name: str) -> Node:
    """The tree with the last part of a key called something else."""

    def change(section: Node) -> Node:
        keys = cast(dict[str, Node], section.value)
        return replace(section, value={name if old == key[-1] else old: node for old, node in keys.items()})

    return edit(tree, key[:-1], change)


def _set_value(tree: Node, *, key: Key, value: str) -> Node:
    return edit(tree, key, lambda node: replace(node, value=value, raw=value))
