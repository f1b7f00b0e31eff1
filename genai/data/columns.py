"""Columns: what each row format needs, which format the first rows have, and what the user probably meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from genai.config.finetune import RowFormat
from genai.data.faults import data_fault
from genai.data.readers import Record
from genai.registry import suggest

Format = Literal["chat", "prompt_response", "alpaca", "sharegpt", "text"]

REQUIRED: dict[Format, tuple[tuple[str, ...], ...]] = {
    "chat": (("messages",),),
    "prompt_response": (("prompt",), ("response", "completion")),
    "alpaca": (("instruction",), ("output",)),
    "sharegpt": (("conversations",),),
    "text": (("text",),),
}
"""Columns that a record of each format must have; of several names in one place any will do."""

_GUESSABLE = [("prompt", "response"), ("messages",), ("text",)]
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "prompt": ("question", "query", "q", "instruction", "input", "user", "human", "problem", "request"),
    "response": ("answer", "a", "output", "completion", "reply", "assistant", "target", "solution", "gold"),
    "instruction": ("prompt", "question", "query", "q", "task"),
    "output": ("response", "answer", "a", "completion", "reply"),
    "conversations": ("conversation", "messages", "dialogue", "dialog", "chat", "turns"),
    "messages": ("conversations", "conversation", "dialogue", "dialog", "chat", "turns"),
    "text": ("content", "body", "document", "passage", "article"),
}


def choose_format(records: Sequence[Record], wanted: RowFormat, columns: Mapping[str, str]) -> Format:
    """The format of a data set: the one that the job file says, if most of the first records have it, else a guess.

    Args:
        records: some of the first ones, at least one.
        wanted: `dataset.format`.
        columns: what the format expects -> what the file calls it.

    Raises:
        DataConfigError: the format said does not fit, or none does (a mapping is suggested), or several do; or a column
            of the mapping does not exist.
    """
    check_columns(records, columns)
    views = [rename(record.values, columns) for record in records]
    where = records[0].source
    keys = ", ".join(views[0]) or "nothing"
    fitting = [kind for kind in REQUIRED if 2 * sum(not missing_columns(view, kind) for view in views) > len(views)]
    if wanted != "auto":
        if wanted in fitting:
            return wanted
        missing = " and ".join(missing_columns(views[0], wanted)) or "what it needs in most rows"
        fix = f"format: {fitting[0]} fits" if fitting else suggest_columns(list(records[0].values), wanted)
        message = f"format {wanted} needs {missing}; the rows have {keys}"
        raise data_fault(message, key="dataset.format", where=where, fix=fix)
    if not fitting:
        fix = suggest_columns(list(records[0].values))
        raise data_fault(f"no known format has the columns {keys}", key="dataset.columns", where=where, fix=fix)
    if len(fitting) > 1:
        message = f"the rows could be {' or '.join(fitting)}: they have {keys}"
        raise data_fault(message, key="dataset.format", where=where, fix=f"say which: format: {fitting[0]}")
    return fitting[0]


def check_columns(records: Sequence[Record], columns: Mapping[str, str]) -> None:
    """Refuse a column mapping to columns that none of the first records has.

    Raises:
        DataConfigError: names each of them, with the nearest column that exists.
    """
    known = list(dict.fromkeys(key for record in records for key in record.values))
    for name in columns.values():
        if name not in known:
            near = suggest(name, known)
            fix = f"did you mean '{near}'?" if near else f"the columns are: {', '.join(known)}"
            raise data_fault(f"there is no column '{name}'", key="dataset.columns", where=records[0].source, fix=fix)


def rename(values: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The record under the names that formats expect; columns that are empty (null) count as missing."""
    renamed = {**values, **{expected: values[name] for expected, name in columns.items() if name in values}}
    return {key: value for key, value in renamed.items() if value is not None}


def missing_columns(view: Mapping[str, Any], kind: Format) -> list[str]:
    """What a record of that format must have and this one lacks."""
    return [" or ".join(f"'{n}'" for n in names) for names in REQUIRED[kind] if not any(n in view for n in names)]


def suggest_columns(keys: Sequence[str], kind: RowFormat = "auto") -> str:
    """A mapping that would make rows with these columns one of the formats, guessed from the usual names of columns."""
    formats = _GUESSABLE if kind == "auto" else [tuple(names[0] for names in REQUIRED[kind])]
    for wanted in formats:
        found = {name: _guess(name, keys) for name in wanted}
        if all(found.values()) and len(set(found.values())) == len(found):
            pairs = ", ".join(f"{name}: {key}" for name, key in found.items() if name != key)
            return f"set columns: {{{pairs}}}"
    return "set columns, e.g. {prompt: YOUR_QUESTIONS, response: YOUR_ANSWERS}"


def _guess(name: str, keys: Sequence[str]) -> str | None:
    words = (name, *_SYNONYMS.get(name, ()))
    lowered = {key.lower(): key for key in keys}
    parts = {part: key for key in keys for part in key.lower().replace("-", "_").split("_") if len(part) > 2}
    exact = next((lowered[word] for word in words if word in lowered), None)
    return exact or next((parts[word] for word in words if word in parts), None) or suggest(name, keys)
