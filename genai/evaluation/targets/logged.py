"""Answers that were logged earlier, in a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genai.data.readers import SourceFile, read_file
from genai.data.rows import BadRow
from genai.errors import DataError
from genai.evaluation.records import Answer, Example, Failure, Outcome, Question, Usage

_FIX = 'a row is {"id": ..., "answer": ...}, the id as in the data set'
_NUMBERS = ("latency_s", "ttft_s", "prompt_tokens", "completion_tokens", "usd")


class LoggedTarget:
    """A file of {id, answer} that answers examples by their ids; see `genai.evaluation.interfaces.Target`.

    A row may also have `dataset` (where ids of several data sets are alike), `contexts`, `tool_calls`, `finish_reason`,
    `error` (why there is no answer), `latency_s`, `ttft_s`, `prompt_tokens`, `completion_tokens` and `usd`. An answer
    that is no text is taken as JSON. Since a question says nothing of its example, `bind` comes before `ask`.

    Args:
        name: in results.
        path: JSON lines, or what else rows are read from.

    Raises:
        DataError: the file is missing or damaged, or a row is none.
    """

    def __init__(self, name: str, path: str | Path) -> None:
        self._name = name
        self._path = Path(path)
        if not self._path.is_file():
            raise DataError("there is no such file of answers", where=str(path))
        self._rows = _read(self._path)
        self._bound: dict[int, tuple[Question, Outcome]] = {}

    @property
    def name(self) -> str:
        """In results."""
        return self._name

    @property
    def fingerprint(self) -> str | None:
        """None: there is nothing to be kept that the file does not have; see `sha256`."""
        return None

    @property
    def concurrency(self) -> int:
        """Answers are there at once."""
        return 64

    @property
    def sha256(self) -> str:
        """Of the file, for the record of what was measured."""
        return hashlib.sha256(self._path.read_bytes()).hexdigest()

    def bind(self, examples: Sequence[Example]) -> None:
        """Find the answers to examples, whose own questions can then be asked; others stay bound.

        Raises:
            DataError: no row has the id of any of them, or a row could be meant for two.
        """
        self._refuse_ambiguous(examples)
        found = {id(each.question): (each.question, self._outcome_of(each)) for each in examples}
        if examples and not any(self._row_of(each) for each in examples):
            in_file = ", ".join(repr(key) for _, key in list(self._rows)[:3])
            raise DataError(
                f"none of the {len(self._rows)} answers has an id of the data: the file has {in_file}, "
                f"the data {examples[0].id!r}",
                where=str(self._path),
                fix=_FIX,
            )
        self._bound |= found

    async def __aenter__(self) -> LoggedTarget:
        """Nothing is needed."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Nothing is held."""

    async def ask(self, question: Question) -> Outcome:
        """The answer to the question of an example that was bound: that very object, since equal questions of two
        examples may have been answered in two ways.
        """
        bound = self._bound.get(id(question))
        return bound[1] if bound else Failure(reason="the question belongs to no example that was bound")

    def _outcome_of(self, example: Example) -> Outcome:
        row = self._row_of(example)
        return Failure(reason="the file has no answer with this id") if row is None else row

    def _row_of(self, example: Example) -> Outcome | None:
        return self._rows.get((example.dataset, example.id)) or self._rows.get((None, example.id))

    def _refuse_ambiguous(self, examples: Sequence[Example]) -> None:
        seen: dict[str, str] = {}
        for example in examples:
            if (example.dataset, example.id) in self._rows or (None, example.id) not in self._rows:
                continue
            other = seen.setdefault(example.id, example.dataset)
            if other != example.dataset:
                raise DataError(
                    f"the id {example.id!r} is one of data set {other} and of {example.dataset}",
                    where=str(self._path),
                    fix="add a column `dataset` to the answers",
                )


def _read(path: Path) -> dict[tuple[str | None, str], Outcome]:
    """(data set, id) -> answer; the data set is None where the row names none."""
    rows: dict[tuple[str | None, str], Outcome] = {}
    for record in read_file(SourceFile(path=path, name=str(path))):
        if isinstance(record, BadRow):
            raise DataError(record.reason, where=record.source, fix=_FIX)
        values, where = record.values, record.source
        if values.get("id") is None:
            raise DataError("the row has no `id`", where=where, fix=_FIX)
        dataset = values.get("dataset")
        key = (None if dataset is None else str(dataset), str(values["id"]))
        if key in rows:
            raise DataError(f"a second answer with the id {key[1]!r}", where=where, fix="an answer for each id")
        rows[key] = _outcome(values, where)
    return rows


def _outcome(values: Mapping[str, Any], where: str) -> Outcome:
    numbers: dict[str, Any] = {name: _number(values, name, where) for name in _NUMBERS if values.get(name) is not None}
    usage = Usage(**numbers)
    if values.get("error"):
        return Failure(reason=str(values["error"]), usage=usage)
    if values.get("answer") is None and not values.get("tool_calls"):
        raise DataError("the row has no `answer`, and no `error` that says why", where=where, fix=_FIX)
    return Answer(
        text=_text(values.get("answer")),
        tool_calls=tuple(_call(call, where) for call in _list(values, "tool_calls", where)),
        contexts=tuple(str(text) for text in _list(values, "contexts", where)),
        finish_reason=None if values.get("finish_reason") is None else str(values["finish_reason"]),
        usage=usage,
    )


def _text(answer: Any) -> str:
    if answer is None:
        return ""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _number(values: Mapping[str, Any], name: str, where: str) -> float:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise DataError(f"`{name}` is {value!r}, which is no such number", where=where)
    return int(value) if name.endswith("_tokens") else value


def _list(values: Mapping[str, Any], name: str, where: str) -> list[Any]:
    value = values.get(name)
    if value is not None and not isinstance(value, list):
        raise DataError(f"`{name}` is no list", where=where)
    return value or []


def _call(call: Any, where: str) -> dict[str, str]:
    """{name, arguments}, or OpenAI's form with a `function` around it."""
    inner = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise DataError("a tool call has no name", where=where, fix='write {"name": ..., "arguments": {...}}')
    return {"name": inner["name"], "arguments": _text(inner.get("arguments", "{}"))}
