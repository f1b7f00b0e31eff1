"""What one key of a job file means: `genai config explain finetune.optimizer.lr`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, is_dataclass, replace
from typing import Any, get_args, get_origin

from genai.config.annotations import Variants, all_keys, default_of, describe, either, field_of, hints, sections, shapes
from genai.config.dialect import dump
from genai.config.field_docs import class_doc, field_docs
from genai.config.schemas import SCHEMAS, schema_of
from genai.config.tree import Key, dotted, parse_key
from genai.errors import UsageError
from genai.registry import suggest


@dataclass(frozen=True, kw_only=True)
class KeyInfo:
    """One key of a job file; a key that differs between the variants of its section has one for each form."""

    key: str
    """With dots, from the first level on."""
    allowed: str
    """What may be written."""
    default: str | None
    """As YAML; None where the key has to be written."""
    text: str
    """What it does."""
    variants: tuple[str, ...] = ()
    """The names of the section under which the key exists, where the section has variants."""
    told_by: str = "name"
    """The key that tells those variants apart."""
    sections: tuple[tuple[str | None, str], ...] = ()
    """Where the key is a section: what tells each form, such as `name: auto` (None for the only one), and its text."""


def key_infos(job: str, above: str = "") -> list[KeyInfo]:
    """The keys of a job, depth first; only `above` and those below it where it is given.

    Raises:
        UsageError: no such job or key; the nearest one is suggested.
    """
    schema = schema_of(job)
    prefix = parse_key(above)
    forms = dict(_forms(schema))
    merged: dict[KeyInfo, list[str]] = {}
    for path, config, name in all_keys(schema):
        if path[: len(prefix)] == prefix:
            form = forms.get(config)
            tells_form = form is not None and name == form.variants.discriminator
            info = _form_info(path, config, name, form) if form and tells_form else _info(path, config, name)
            info = replace(info, told_by=form.variants.discriminator) if form else info
            merged.setdefault(info, []).extend([form.tag] if form and not tells_form else [])
    if not merged:
        raise _unknown(job, schema, above)
    return [replace(info, variants=tuple(names)) for info, names in merged.items()]


def split_job(text: str) -> tuple[str, str]:
    """Tell the job from the key in `finetune.optimizer.lr`, `finetune`, or `optimizer.lr` (of the job that has it)."""
    first, _, rest = text.partition(".")
    if first in SCHEMAS:
        return first, rest
    last = text.rpartition(".")[2]
    owner = next((job for job, schema in SCHEMAS.items() if any(name == last for *_, name in all_keys(schema))), None)
    return (owner, text) if owner else (first, rest)


def explain(job: str, key: str = "") -> str:
    """What a key means, for a terminal; all keys of the job where none is given.

    Raises:
        UsageError: no such job or key.
    """
    infos = key_infos(job, key)
    if not key:
        return "\n".join([class_doc(schema_of(job)), "", *(_line(info) for info in infos)])
    blocks = ["\n".join(_block(info)) for info in infos if info.key == key]
    below = [_line(info) for info in infos if info.key != key]
    return "\n\n".join([*blocks, *(["\n".join(below)] if below else [])])


@dataclass(frozen=True)
class _Form:
    """A config class as one of the variants of a section."""

    variants: Variants
    tag: str
    default: Any
    """The section's default."""


def _forms(schema: type) -> Iterator[tuple[type, _Form]]:
    for _, config, name in all_keys(schema):
        for variants in _variants(hints(config)[name]):
            default = default_of(field_of(config, name))
            yield from ((each, _Form(variants, tag, default)) for tag, each in variants.classes)


def _variants(annotation: Any) -> Iterator[Variants]:
    """The sections of several forms that an annotation allows, also below names that the user chooses."""
    for shape in shapes(annotation):
        if isinstance(shape.type, Variants):
            yield shape.type
        elif get_origin(shape.type) is dict:
            yield from _variants(get_args(shape.type)[1])


def _info(path: Key, config: type, name: str) -> KeyInfo:
    annotation = hints(config)[name]
    tags = {
        each: f"{variants.discriminator}: {tag}" for variants in _variants(annotation) for tag, each in variants.classes
    }
    return KeyInfo(
        key=dotted(path),
        allowed=describe(annotation),
        default=_default_text(default_of(field_of(config, name))),
        text=field_docs(config).get(name, ""),
        sections=tuple((tags.get(each), class_doc(each)) for each in sections(annotation)),
    )


def _form_info(path: Key, config: type, name: str, form: _Form) -> KeyInfo:
    """Of the key that tells the variants of a section apart."""
    return KeyInfo(
        key=dotted(path),
        allowed=either(form.variants.tags()),
        default=getattr(form.default, name, None),
        text=field_docs(config).get(name, ""),
    )


def _default_text(default: Any) -> str | None:
    if default is MISSING:
        return None
    if is_dataclass(default):
        name = getattr(default, "name", None)
        return f"{{name: {name}}}" if name else "{}"
    return dump([default], flow=True).strip()[1:-1]


def _line(info: KeyInfo) -> str:
    only = f" [{', '.join(info.variants)}]" if info.variants else ""
    return f"{info.key}{only}: {info.allowed}; {f'default {info.default}' if info.default else 'required'}"


def _block(info: KeyInfo) -> Iterator[str]:
    yield info.key + (f"   (with {info.told_by}: {either(info.variants)})" if info.variants else "")
    yield f"  {info.text}"
    yield f"  must be  {info.allowed}"
    yield f"  default  {info.default or 'none, it has to be written'}"
    for tag, text in info.sections:
        yield f"  {tag or 'section'}  {text}"


def _unknown(job: str, schema: type, key: str) -> UsageError:
    known = {dotted(path) for path, _, _ in all_keys(schema)}
    same_name = sorted(other for other in known if other.rpartition(".")[2] == key.rpartition(".")[2])
    near = suggest(key, same_name) or next(iter(same_name), None) or suggest(key, known)
    fix = f"did you mean '{near}'?" if near else f"genai config explain {job} lists all keys"
    return UsageError(f"{job} has no key '{key}'", fix=fix)
