"""From a row of a file to an example: which columns each kind of data set has, and what they become.

    generation        prompt or messages, reference (a text, several, or a structure), contexts, tools
    classification    prompt or messages, label
    text              text
    multiple_choice   query, choices, gold
    language_modeling context, continuation
    schema            context_options, continuation, gold
    retrieval         query, relevant

Between a context and what continues it stands one space, unless one of them has a blank there already, as lm-eval does
it by default (`target_delimiter`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from genai.config.eval import DatasetConfig, DatasetKind
from genai.data.columns import rename
from genai.data.messages import Unusable, parse_messages, parse_tools, text_of
from genai.data.readers import Record
from genai.data.retrieval.labelled import grades_of, relevant_faults
from genai.evaluation.golden import hash_of_row
from genai.evaluation.records import Chat, Continuations, Example, Query, Question, WholeText
from genai.evaluation.templates import Template

REQUIRED: dict[DatasetKind, tuple[tuple[str, ...], ...]] = {
    "generation": (("prompt", "messages"),),
    "classification": (("prompt", "messages"), ("label",)),
    "text": (("text",),),
    "multiple_choice": (("query",), ("choices",), ("gold",)),
    "language_modeling": (("context",), ("continuation",)),
    "schema": (("context_options",), ("continuation",), ("gold",)),
    "retrieval": (("query",), ("relevant",)),
}
"""Columns that a row must have; of several in one place any will do. A template stands for those of the first place."""
_ID_LENGTH = 16


class Contradiction(Exception):
    """A row that cannot be meant as it is, in one sentence; unlike an incomplete one it must be mended."""


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """Makes examples of the rows of one data set."""

    config: DatasetConfig
    template: Template | None
    """Of the prompt."""

    def read(self, record: Record) -> Example:
        """The example of a row.

        Raises:
            Unusable: something is missing, or of another type.
            Contradiction: what is right cannot be.
        """
        values = rename(record.values, self.config.columns)
        asked = _KINDS[self.config.kind](self, values)
        return Example(
            id=_id_of(record, self.config.columns.get("id", "id")),
            dataset=self.config.name,
            kind=self.config.kind,
            question=asked.question,
            references=asked.references,
            gold=asked.gold,
            relevant=asked.relevant,
            contexts=_texts(values.get("contexts"), "'contexts'"),
            expected_tools=asked.expected_tools,
            slices={column: _word(record.values.get(column)) for column in self.config.slices},
            cluster=_cluster(record, self.config.cluster),
            synthetic=self.config.synthetic or _is_true(values.get("synthetic")),
        )

    def prompt_of(self, values: Mapping[str, Any], column: str) -> str:
        """The text of a column, or of the template in its place."""
        if self.template is not None:
            return self.template.fill(values)
        return _full_text(values, column)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is asked of a row, and what is right."""

    question: Question
    references: tuple[str, ...] = ()
    gold: int | None = None
    relevant: Mapping[str, float] = field(default_factory=dict)
    expected_tools: tuple[Mapping[str, Any], ...] = ()


def join_texts(context: str, continuation: str) -> tuple[str, str]:
    """A context and what continues it, so that one blank stands between them."""
    touches = not context or context[-1].isspace() or continuation[:1].isspace()
    return context, continuation if touches else f" {continuation}"


# --- kinds ------------------------------------------------------------------------------------------------------------


def _generation(reader: RowReader, values: Mapping[str, Any]) -> _Asked:
    tools = parse_tools(values.get("tools"))
    messages, last = _conversation(reader, values)
    calls = _calls(values.get("reference") if last is None else last.get("tool_calls")) if tools else None
    if calls is not None:
        references: tuple[str, ...] = ()
    elif last is None:
        references = _references(values.get("reference"))
    else:
        references = (last["content"],) if last["content"] else ()
    return _Asked(
        question=_chat(reader, values, messages, tools), references=references, expected_tools=tuple(calls or ())
    )


def _classification(reader: RowReader, values: Mapping[str, Any]) -> _Asked:
    label = values.get("label")
    if not isinstance(label, str | int | float) or not str(label).strip():
        raise Unusable("there is no label in 'label'")
    messages, last = _conversation(reader, values)
    if last is not None:
        raise Unusable("the last message is the assistant's; the label stands in 'label'")
    return _Asked(question=_chat(reader, values, messages, ()), references=(_word(label).strip(),))


def _text(_: RowReader, values: Mapping[str, Any]) -> _Asked:
    return _Asked(question=WholeText(text=_full_text(values, "text")))


def _multiple_choice(reader: RowReader, values: Mapping[str, Any]) -> _Asked:
    query = reader.prompt_of(values, "query")
    choices = _options(values, "choices")
    gold = _gold(values, len(choices), "choices")
    pairs = tuple(join_texts(query, choice) for choice in choices)
    return _Asked(question=Continuations(pairs=pairs), references=(choices[gold],), gold=gold)


def _language_modeling(reader: RowReader, values: Mapping[str, Any]) -> _Asked:
    context, continuation = reader.prompt_of(values, "context"), _full_text(values, "continuation")
    return _Asked(
        question=Continuations(pairs=(join_texts(context, continuation),)), references=(continuation,), gold=0
    )


def _schema(_: RowReader, values: Mapping[str, Any]) -> _Asked:
    options, continuation = _options(values, "context_options"), _full_text(values, "continuation")
    gold = _gold(values, len(options), "context_options")
    pairs = tuple(join_texts(option, continuation) for option in options)
    return _Asked(question=Continuations(pairs=pairs), references=(options[gold],), gold=gold)


def _retrieval(reader: RowReader, values: Mapping[str, Any]) -> _Asked:
    relevant = _from_json(values.get("relevant"))
    for message, fix in relevant_faults(relevant):
        raise Unusable(f"{message} ({fix})" if fix else message)
    # How many documents are wanted is for the metrics to say.
    return _Asked(question=Query(text=reader.prompt_of(values, "query"), k=1), relevant=grades_of(relevant))


_KINDS: dict[DatasetKind, Callable[[RowReader, Mapping[str, Any]], _Asked]] = {
    "generation": _generation,
    "classification": _classification,
    "text": _text,
    "multiple_choice": _multiple_choice,
    "language_modeling": _language_modeling,
    "schema": _schema,
    "retrieval": _retrieval,
}


# --- conversations ----------------------------------------------------------------------------------------------------


def _conversation(
    reader: RowReader, values: Mapping[str, Any]
) -> tuple[tuple[Mapping[str, Any], ...], Mapping[str, Any] | None]:
    """The messages of a row; apart from them the last one, where it is the assistant's and so the right answer."""
    if reader.template is not None or "messages" not in values:
        return (), None
    messages = [
        {"role": each.role, "content": each.content, **each.extra} for each in parse_messages(values["messages"])
    ]
    last = messages.pop() if messages[-1]["role"] == "assistant" and "reference" not in values else None
    if not messages or messages[-1]["role"] not in ("user", "tool"):
        raise Unusable("nobody asks: the last message before the answer must be the user's or a tool's")
    return tuple(messages), last


def _chat(
    reader: RowReader,
    values: Mapping[str, Any],
    messages: tuple[Mapping[str, Any], ...],
    tools: tuple[Mapping[str, Any], ...],
) -> Chat:
    config = reader.config
    return Chat(
        messages=messages,
        prompt=None if messages else reader.prompt_of(values, "prompt"),
        tools=tools,
        json_schema=config.json_schema,
        max_tokens=config.max_tokens,
        stop=None if config.stop is None else tuple(config.stop),
    )


def _calls(value: Any) -> list[dict[str, Any]] | None:
    """Calls of functions as {name, arguments}, whichever way they are written; None for what is none."""
    value = _from_json(value)
    calls = [value] if isinstance(value, Mapping) else value
    if not isinstance(calls, list) or not calls or not all(isinstance(call, Mapping) for call in calls):
        return None
    functions = [call.get("function", call) for call in calls]
    if not all(isinstance(each, Mapping) and isinstance(each.get("name"), str) for each in functions):
        return None
    return [{"name": each["name"], "arguments": _arguments(each.get("arguments"))} for each in functions]


def _arguments(value: Any) -> dict[str, Any]:
    arguments = _from_json(value)
    if arguments is None or arguments == "":
        return {}
    if not isinstance(arguments, dict):
        raise Unusable("the arguments of a call are no object")
    return arguments


# --- columns ----------------------------------------------------------------------------------------------------------


def _full_text(values: Mapping[str, Any], column: str) -> str:
    if column not in values:
        raise Unusable(f"'{column}' is missing")
    text = text_of(values[column], f"'{column}'")
    if not text.strip():
        raise Unusable(f"'{column}' is empty")
    return text


def _references(value: Any) -> tuple[str, ...]:
    """Right answers: a text, several texts, or a structure as JSON."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(each for each in value if each)
    if isinstance(value, list | dict):
        return (json.dumps(value, ensure_ascii=False, default=str),)
    return (word,) if (word := _word(value)) else ()


def _options(values: Mapping[str, Any], column: str) -> tuple[str, ...]:
    options = _from_json(values.get(column))
    if not isinstance(options, list) or len(options) < 2:
        raise Unusable(f"'{column}' is no list of two or more texts")
    return tuple(text_of(option, f"option {number} of '{column}'") for number, option in enumerate(options))


def _gold(values: Mapping[str, Any], num_options: int, of: str) -> int:
    value = _from_json(values.get("gold"))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Contradiction(f"'gold' is no number; it says which of '{of}' is right, counted from 0")
    if not 0 <= value < num_options:
        raise Contradiction(f"'gold' is {value}, but '{of}' are numbered 0 to {num_options - 1}")
    return value


def _texts(value: Any, what: str) -> tuple[str, ...]:
    value = _from_json(value) if isinstance(value, str) and value.lstrip()[:1] == "[" else value
    if value is None or value == "":
        return ()
    return tuple(text_of(each, what) for each in (value if isinstance(value, list) else [value]))


def _from_json(value: Any) -> Any:
    """What a text holds as JSON, which is how tables keep structures; any other text is left as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _id_of(record: Record, column: str) -> str:
    if column not in record.values:
        return hash_of_row(record.values)[:_ID_LENGTH]
    value = record.values[column]
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise Unusable(f"'{column}' names nothing")
    return str(value).strip()


def _cluster(record: Record, column: str | None) -> str | None:
    value = None if column is None else record.values.get(column)
    return None if value is None or value == "" else _word(value)


def _word(value: Any) -> str:
    """A value as one word; nothing is an empty one."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, int | str) and str(value).strip().lower() in ("1", "true", "yes"))


def missing_columns(known: Sequence[str], config: DatasetConfig) -> list[tuple[str, ...]]:
    """The columns that a data set of this kind needs and does not have; of each entry one would do.

    Args:
        known: our names of the columns that there are.
        config: of the data set.
    """
    places = REQUIRED[config.kind][1 if config.prompt is not None else 0 :]
    return [names for names in places if not any(name in known for name in names)]
