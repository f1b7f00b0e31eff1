"""What the annotations of a config class allow, in the words of its user."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Discriminator
from pydantic.fields import FieldInfo

from genai.config.fields import Notation


@dataclass(frozen=True)
class Bound:
    """A limit on a number."""

    kind: Literal["gt", "ge", "lt", "le"]
    limit: float


@dataclass(frozen=True)
class Shape:
    """One of the forms that a value may have; an annotation allows one or several."""

    type: Any
    """`str`, `int`, `list[str]`, a `Literal`, a config class, `NoneType`...; the config class of each `name` for a
    `Variants`."""
    rules: tuple[Any, ...] = ()
    """`Bound`s and `Notation`s."""


@dataclass(frozen=True)
class Variants:
    """A section that is one of several config classes, told apart by one of its keys."""

    discriminator: str
    classes: tuple[tuple[str, type], ...]

    def tags(self) -> list[str]:
        """What may stand under the discriminator."""
        return [tag for tag, _ in self.classes]

    def get(self, tag: object) -> type | None:
        """The class with that tag."""
        return dict(self.classes).get(tag) if isinstance(tag, str) else None


def is_section(kind: Any) -> bool:
    """Whether a value of this type is written as a section with known keys."""
    return isinstance(kind, Variants) or (isinstance(kind, type) and is_dataclass(kind))


@cache
def hints(config: type) -> dict[str, Any]:
    """Name of each field of a config class -> its annotation."""
    found = get_type_hints(config, include_extras=True)
    return {field.name: found[field.name] for field in fields(config)}


def field_of(config: type, name: str) -> Field[Any]:
    """The dataclass field of that name."""
    return next(field for field in fields(config) if field.name == name)


def default_of(field: Field[Any]) -> Any:
    """A field's default value, `MISSING` where it has to be written."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def required(config: type) -> list[str]:
    """Names of the fields that have to be written."""
    return [field.name for field in fields(config) if default_of(field) is MISSING]


def shapes(annotation: Any, rules: tuple[Any, ...] = ()) -> tuple[Shape, ...]:
    """The forms that an annotation allows, unions unfolded."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        tag_key = next((entry.discriminator for entry in metadata if isinstance(entry, Discriminator)), None)
        if isinstance(tag_key, str):
            return (Shape(_variants(tag_key, get_args(inner))),)
        return shapes(inner, (*rules, *_rules(metadata)))
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(shape for member in get_args(annotation) for shape in shapes(member, rules))
    return (Shape(annotation, rules),)


def _variants(tag_key: str, classes: Sequence[type]) -> Variants:
    return Variants(tag_key, tuple((tag, each) for each in classes for tag in get_args(hints(each)[tag_key])))


def _rules(metadata: Sequence[Any]) -> Iterator[Bound | Notation]:
    for entry in metadata:
        if isinstance(entry, Notation):
            yield entry
        elif isinstance(entry, FieldInfo):
            for rule in entry.metadata:
                yield from (Bound(kind, getattr(rule, kind)) for kind in _BOUNDS if hasattr(rule, kind))


def below(annotation: Any, name: str | int, value: Any = None) -> Any:
    """The annotation of what stands under a key or position, None where nothing can stand there.

    Args:
        annotation: of the section or list.
        name: a key or a position.
        value: the section itself, where known; its discriminator tells which variant it is.
    """
    for shape in shapes(annotation):
        kind, arguments = shape.type, get_args(shape.type)
        if isinstance(kind, Variants):
            tag = value.get(kind.discriminator) if isinstance(value, dict) else None
            for each in [kind.get(tag)] if kind.get(tag) else [each for _, each in kind.classes]:
                if each and name in hints(each):
                    return hints(each)[str(name)]
        elif is_section(kind):
            if name in hints(kind):
                return hints(kind)[str(name)]
        elif get_origin(kind) is dict:
            return arguments[1]
        elif get_origin(kind) is list and isinstance(name, int):
            return arguments[0]
        elif get_origin(kind) is tuple and isinstance(name, int) and name < len(arguments):
            return arguments[name]
    return None


def describe(annotation: Any) -> str:
    """What may be written, to follow 'must be': `auto or a whole number above 0`."""
    return either(word for shape in shapes(annotation) for word in _words(shape))


def allowed_words(annotation: Any) -> list[str]:
    """The fixed words that an annotation allows, e.g. of a `Literal`."""
    return [
        word
        for shape in shapes(annotation)
        if get_origin(shape.type) is Literal
        for word in get_args(shape.type)
        if isinstance(word, str)
    ]


_BOUNDS: dict[Literal["gt", "ge", "lt", "le"], str] = {
    "gt": " above {}",
    "ge": " of {} or more",
    "lt": " below {}",
    "le": " of {} or less",
}
_NAMES: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    Any: "any value",
}


def _words(shape: Shape) -> list[str]:
    kind, origin, arguments = shape.type, get_origin(shape.type), get_args(shape.type)
    if isinstance(kind, Variants):
        return [f"a section with {kind.discriminator}: {either(kind.tags())}"]
    if is_section(kind):
        return ["a section of keys"]
    if origin is Literal:
        return ["true" if word is True else "false" if word is False else str(word) for word in arguments]
    if origin is list:
        return [f"a list (of {describe(arguments[0])})"]
    if origin is tuple:
        return [f"a list of {len(arguments)} items (each {describe(arguments[0])})"]
    if origin is dict or kind is dict:
        return ["a section of keys"]
    for rule in shape.rules:
        if isinstance(rule, Notation):
            return [rule.name]
    return [_NAMES[kind] + _bounds(shape.rules)]


def _bounds(rules: Sequence[Any]) -> str:
    limits = {rule.kind: rule.limit for rule in rules if isinstance(rule, Bound)}
    if limits.keys() == {"ge", "le"}:
        return f" between {limits['ge']:g} and {limits['le']:g}"
    return " and".join(_BOUNDS[kind].format(f"{limit:g}") for kind, limit in limits.items())


def either(words: Iterable[str]) -> str:
    """`a, b or c`, each word once."""
    distinct = list(dict.fromkeys(words))
    return " or ".join([", ".join(distinct[:-1]), distinct[-1]] if len(distinct) > 1 else distinct)


def all_keys(config: type, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type, str]]:
    """Every key of a config class, depth first: its path, the class that it stands in, its name there.

    Keys of several variants with the same path come once for each variant; a name that the user chooses is `NAME`.
    """
    for name, annotation in hints(config).items():
        path = (*above, name)
        yield path, config, name
        is_named = any(get_origin(shape.type) is dict for shape in shapes(annotation))
        for inner in sections(annotation):
            yield from all_keys(inner, (*path, "NAME") if is_named else path)


def sections(annotation: Any) -> list[type]:
    """The config classes that an annotation allows, those of its variants, list items and named entries too."""
    found: list[type] = []
    for shape in shapes(annotation):
        if isinstance(shape.type, Variants):
            found += [each for _, each in shape.type.classes]
        elif is_section(shape.type):
            found.append(shape.type)
        elif get_origin(shape.type) in (list, dict):
            found += sections(get_args(shape.type)[-1])
    return found
