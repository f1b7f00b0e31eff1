"""The way out of a value of the wrong kind, where one can be guessed."""

from __future__ import annotations

from typing import Any, get_origin

from genai.config.annotations import Shape, Variants, allowed_words, hints, is_section, required, shapes
from genai.config.fields import Notation
from genai.config.tree import Node
from genai.config.wording import quotable
from genai.registry import suggest

_BOOLEANS = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
_FLAT = (str, int, float, bool)


def fix_for(annotation: Any, name: str, node: Node) -> str | None:
    """What to write instead.

    Args:
        annotation: what is allowed.
        name: of the key.
        node: what was written.
    """
    options = shapes(annotation)
    kinds = [shape.type for shape in options]
    if node.value is None:
        below = (
            "indent its keys below it" if any(is_section(kind) for kind in kinds) else "write a value after the colon"
        )
        return f"{below}, or remove the line"
    if isinstance(node.value, str):
        return _for_text(options, annotation, name, node.value)
    if isinstance(node.value, bool | int | float):
        return _for_scalar(kinds, options, name, node)
    if isinstance(node.value, dict) and any(get_origin(kind) is list for kind in kinds):
        return f"write the whole list: {name}: [...]"
    return _notation(options)


def _for_text(options: tuple[Shape, ...], annotation: Any, name: str, text: str) -> str | None:
    kinds = [shape.type for shape in options]
    near = suggest(text, ["true", "false"] if bool in kinds else allowed_words(annotation))
    if bool in kinds and text.lower() in _BOOLEANS:
        return f"write {_BOOLEANS[text.lower()]}"
    if near:
        return f"did you mean '{near}'?"
    number = text.replace("_", "").replace(",", "").strip()
    if (int in kinds or float in kinds) and _is_number(number):
        return f"write {number}, without quotes or separators"
    return _for_section(kinds, name, text) or _for_list(kinds, quotable(text)) or _notation(options)


def _for_scalar(kinds: list[Any], options: tuple[Shape, ...], name: str, node: Node) -> str | None:
    typed = node.raw or str(node.value)
    if str in kinds and node.raw and not _notation(options):
        return f"put it in quotes: '{typed}'"
    if int in kinds and isinstance(node.value, float) and node.value.is_integer():
        return f"write {int(node.value)}"
    if bool in kinds and typed in _BOOLEANS:
        return f"write {_BOOLEANS[typed]}"
    return _for_section(kinds, name, None) or _for_list(kinds, typed) or _notation(options)


def _for_section(kinds: list[Any], name: str, text: str | None) -> str | None:
    for kind in kinds:
        if isinstance(kind, Variants):
            tag = suggest(text, kind.tags()) if text else None
            return f"write {name}: {{{kind.discriminator}: {tag or '...'}}}"
        if is_section(kind):
            key = _text_key(kind) if text else None
            if key:
                return f"write {name}: {{{key}: {quotable(text or '')}}}"
            missing = ", ".join(f"{each}: ..." for each in required(kind))
            return f"write {name}: {{{missing}}}" if missing else f"write {name}: {{}} for its defaults"
    return None


def _text_key(config: type) -> str | None:
    """The key of a section that a bare text most likely belongs to: the first one that takes any text."""
    names = [*required(config), *hints(config)]
    return next((name for name in names if any(shape.type is str for shape in shapes(hints(config)[name]))), None)


def _for_list(kinds: list[Any], typed: str) -> str | None:
    has_list = any(get_origin(kind) is list for kind in kinds)
    return f"write [{typed}]" if has_list and not any(kind in _FLAT for kind in kinds) else None


def _notation(options: tuple[Shape, ...]) -> str | None:
    return next((rule.example for shape in options for rule in shape.rules if isinstance(rule, Notation)), None)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
