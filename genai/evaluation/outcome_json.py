"""Questions and outcomes as JSON and back, so that they can be kept."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Likelihood,
    Likelihoods,
    Outcome,
    Query,
    Question,
    Ranking,
    Usage,
    WholeText,
)

_QUESTIONS: dict[type, str] = {Chat: "chat", Continuations: "continuations", WholeText: "text", Query: "query"}


def question_json(question: Question) -> str:
    """A question as one JSON object: its kind, and what it says beside the defaults.

    Names in it stand in the order that they were given in, since a model may answer another order (of the properties of
    a schema, of tools) with other words.
    """
    defaults = {field.name: field.default for field in fields(question)}
    values = {name: value for name, value in asdict(question).items() if value != defaults[name]}
    return json.dumps({"kind": _QUESTIONS[type(question)], **values})


def outcome_json(outcome: Outcome) -> str:
    """An outcome as one JSON object, which `read_outcome` reads.

    Raises:
        ValueError: it is a `Failure`, which is not kept.
    """
    values = asdict(outcome)
    values.pop("cached", None)
    if isinstance(outcome, Answer):
        return json.dumps({"kind": "answer", **values})
    if isinstance(outcome, Likelihoods):
        return json.dumps({"kind": "likelihoods", **values})
    if isinstance(outcome, Ranking):
        return json.dumps({"kind": "ranking", **values})
    raise ValueError("a failure is not kept")


def read_outcome(text: str) -> Outcome:
    """What `outcome_json` wrote, marked as taken from before.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    values: dict[str, Any] = json.loads(text)
    kind, usage = values.pop("kind"), Usage(**values.pop("usage"))
    if kind == "answer":
        values |= {name: tuple(values[name]) for name in ("tool_calls", "contexts")}
        return Answer(**values, usage=usage, cached=True)
    if kind == "likelihoods":
        return Likelihoods(each=tuple(Likelihood(**each) for each in values["each"]), usage=usage, cached=True)
    if kind == "ranking":
        return Ranking(keys=tuple(values["keys"]), texts=tuple(values["texts"]), usage=usage, cached=True)
    raise ValueError(f"an outcome of kind {kind!r}")
