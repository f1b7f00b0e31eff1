"""What an evaluation leaves in its run directory: result.json, and examples.jsonl with every answer and score.

A line of examples.jsonl is an example with what one target made of it:

    {"target", "dataset", "kind", "id", "question", "references", "answer", "error", "scores", "slices", "cluster",
     "synthetic", "latency_s", "usd", "outcome"}

`question`, `references` and `answer` are texts for people; `outcome` is the whole of what the target said. `scores`
maps the label of a metric to {"value", "parts", "note", "details"} or {"unscored": why}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from genai.config.eval import DatasetKind
from genai.errors import DataError
from genai.evaluation.outcome_json import outcome_json, read_outcome
from genai.evaluation.records import (
    Chat,
    Comparison,
    EvalResult,
    Example,
    Failure,
    GateOutcome,
    Measured,
    Outcome,
    Score,
    Scored,
    SliceValue,
    Unscored,
    Usage,
)
from genai.evaluation.wording import expected_texts, outcome_text, question_text
from genai.storage.atomic import atomic_file, write_json
from genai.tracking.metrics import plain

EXAMPLES_FILE = "examples.jsonl"
RESULT_FILE = "result.json"


@dataclass(frozen=True, kw_only=True)
class ExampleRow:
    """A line of examples.jsonl."""

    target: str
    dataset: str
    kind: DatasetKind
    id: str
    question: str
    """As people read it."""
    references: tuple[str, ...]
    """Right answers, as people read them."""
    answer: str | None
    """As people read it; None where there is none."""
    error: str | None
    """Why there is none."""
    outcome: Outcome
    """All that the target said."""
    scores: Mapping[str, Score | Unscored]
    """Label of the metric -> what it says."""
    slices: Mapping[str, str] = field(default_factory=dict)
    """Column -> value."""
    cluster: str | None = None
    synthetic: bool = False
    """The question was made by a model."""

    @property
    def key(self) -> tuple[str, str]:
        """(data set, id): what pairs the rows of two targets, or of two runs."""
        return self.dataset, self.id

    def scored(self, example: Example | None = None) -> Scored:
        """The row as `genai.evaluation.measuring` takes it.

        Args:
            example: what the row was made of; without it one with the texts of the row, which is enough to measure
                and compare by the scores that are there.
        """
        if example is None:
            example = Example(
                id=self.id,
                dataset=self.dataset,
                kind=self.kind,
                question=Chat(prompt=self.question),
                references=self.references,
                slices=self.slices,
                cluster=self.cluster,
                synthetic=self.synthetic,
            )
        return Scored(example=example, outcome=self.outcome, scores=self.scores)


def row_of(target: str, scored: Scored) -> ExampleRow:
    """What a target made of an example, as a line of the file."""
    example, outcome = scored.example, scored.outcome
    return ExampleRow(
        target=target,
        dataset=example.dataset,
        kind=example.kind,
        id=example.id,
        question=question_text(example.question),
        references=expected_texts(example),
        answer=outcome_text(example.question, outcome),
        error=outcome.reason if isinstance(outcome, Failure) else None,
        outcome=outcome,
        scores=scored.scores,
        slices=example.slices,
        cluster=example.cluster,
        synthetic=example.synthetic,
    )


def write_examples(path: Path, scored_by_target: Mapping[str, Sequence[Scored]]) -> None:
    """Write every answer with its scores.

    Args:
        path: of the file, `EXAMPLES_FILE` in a run directory; complete or absent.
        scored_by_target: target (and baseline) -> its examples, in their order.

    Raises:
        GenaiError: the disk is full.
    """
    with atomic_file(path) as stream:
        for target, all_scored in scored_by_target.items():
            for scored in all_scored:
                # half a surrogate pair becomes the escape that JSON has for it
                stream.write(_line(row_of(target, scored)).encode("utf-8", "backslashreplace"))


def read_examples(path: Path) -> list[ExampleRow]:
    """The rows of examples.jsonl in their order.

    Raises:
        DataError: there is no such file, or a line of it cannot be read.
    """
    rows = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                with _explained(f"{path}:{number}", "this line is no example of an evaluation"):
                    rows.append(_row(json.loads(line)))
    except FileNotFoundError:
        raise DataError("this run has no examples", where=str(path), fix="did genai eval end there?") from None
    except UnicodeDecodeError as error:
        raise DataError("this file is no text in UTF-8", where=str(path)) from error
    return rows


def write_result(path: Path, result: EvalResult) -> None:
    """Write what an evaluation found.

    Args:
        path: of the file, `RESULT_FILE` in a run directory.
        result: what it found.

    Raises:
        GenaiError: the disk is full.
    """
    write_json(path, result_to_json(result))


def read_result(path: Path) -> EvalResult:
    """What `write_result` wrote.

    Raises:
        DataError: there is no such file, it is damaged, or of another job.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise DataError("this run has no result", where=str(path), fix="did genai eval end there?") from None
    with _explained(str(path), "this is no result of genai eval"):
        values = json.loads(text)
        if values["kind"] != "eval":
            raise ValueError("another job")
        return result_from_json(values)


def result_to_json(result: EvalResult) -> dict[str, Any]:
    """An evaluation's result as plain values, `passed` beside its fields."""
    values: dict[str, Any] = plain(asdict(result))
    return {**values, "passed": result.passed}


def result_from_json(values: Mapping[str, Any]) -> EvalResult:
    """What `result_to_json` gave, after a turn through JSON.

    Raises:
        ValueError: these are no values of a result (or LookupError, TypeError).
    """
    rest = {name: value for name, value in values.items() if name != "passed"}
    return EvalResult(
        **{
            **rest,
            "targets": tuple(values["targets"]),
            "measured": tuple(_measured(each) for each in values["measured"]),
            "gates": tuple(GateOutcome(**each) for each in values["gates"]),
            "usage": {name: Usage(**each) for name, each in values["usage"].items()},
            "warnings": tuple(values["warnings"]),
            "averages": {
                target: {name: float(value) for name, value in each.items()}
                for target, each in values["averages"].items()
            },
        }
    )


# --- lines and values -------------------------------------------------------------------------------------------------


def _line(row: ExampleRow) -> str:
    usage = row.outcome.usage
    values = {
        "target": row.target,
        "dataset": row.dataset,
        "kind": row.kind,
        "id": row.id,
        "question": row.question,
        "references": row.references,
        "answer": row.answer,
        "error": row.error,
        "scores": {label: _score_values(score) for label, score in row.scores.items()},
        "slices": row.slices,
        "cluster": row.cluster,
        "synthetic": row.synthetic,
        "latency_s": usage.latency_s,
        "usd": usage.usd,
        "outcome": _outcome_values(row.outcome),
    }
    return json.dumps(plain(values), ensure_ascii=False, allow_nan=False, default=str) + "\n"


def _row(values: Mapping[str, Any]) -> ExampleRow:
    return ExampleRow(
        target=values["target"],
        dataset=values["dataset"],
        kind=values["kind"],
        id=values["id"],
        question=values["question"],
        references=tuple(values["references"]),
        answer=values["answer"],
        error=values["error"],
        outcome=_outcome(values["outcome"]),
        scores={label: _score(each) for label, each in values["scores"].items()},
        slices=values["slices"],
        cluster=values["cluster"],
        synthetic=values["synthetic"],
    )


def _outcome_values(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Failure):
        return {"kind": "failure", **asdict(outcome)}
    return {**json.loads(outcome_json(outcome)), "cached": outcome.cached}


def _outcome(values: Mapping[str, Any]) -> Outcome:
    rest = {name: value for name, value in values.items() if name != "cached"}
    if values["kind"] == "failure":
        return Failure(reason=values["reason"], usage=Usage(**values["usage"]))
    if values["kind"] == "likelihoods":
        rest["each"] = [{**each, **_floats(each, "logprob")} for each in values["each"]]
    outcome = read_outcome(json.dumps(rest))
    return outcome if isinstance(outcome, Failure) else replace(outcome, cached=values["cached"])


def _score_values(score: Score | Unscored) -> dict[str, Any]:
    """Without what is empty: most lines say nothing but the value."""
    usage = {"usage": asdict(score.usage)} if score.usage is not None else {}
    if isinstance(score, Unscored):
        return {"unscored": score.reason, **usage}
    more = {"note": score.note, "details": dict(score.details)}
    return {"value": score.value, "parts": score.parts, **{name: each for name, each in more.items() if each}, **usage}


def _score(values: Mapping[str, Any]) -> Score | Unscored:
    usage: Usage | None = Usage(**values["usage"]) if "usage" in values else None
    if "unscored" in values:
        return Unscored(reason=values["unscored"], usage=usage)
    value = values["value"]
    return Score(
        parts=tuple(float(part) for part in values["parts"]),
        value=None if value is None else float(value),
        note=values.get("note", ""),
        details=values.get("details", {}),
        usage=usage,
    )


def _measured(values: Mapping[str, Any]) -> Measured:
    comparison = values["comparison"]
    return Measured(
        **{
            **values,
            **_floats(values, "value", "low", "high"),
            "slices": tuple(
                SliceValue(**{**each, **_floats(each, "measured", "low", "high")}) for each in values["slices"]
            ),
            "comparison": None if comparison is None else _comparison(comparison),
            "notes": tuple(values["notes"]),
        }
    )


def _comparison(values: Mapping[str, Any]) -> Comparison:
    names = ("baseline", "value", "difference", "low", "high", "p_value", "p_adjusted")
    return Comparison(**{**values, **_floats(values, *names)})


def _floats(values: Mapping[str, Any], *names: str) -> dict[str, float]:
    """Numbers, of which JSON says some as texts: NaN, Infinity."""
    return {name: float(values[name]) for name in names}


@contextmanager
def _explained(where: str, message: str) -> Iterator[None]:
    """What a damaged file leads to, as one line."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(message, where=where, fix="run genai eval again, or bring it back from a backup") from error
