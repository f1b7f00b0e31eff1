"""Tasks of in-context learning as data sets: one for every number of solved examples and every category."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence

from genai.config.eval import DatasetKind, IclTaskConfig
from genai.data.tables import OpenTable
from genai.evaluation.icl.prompts import questions
from genai.evaluation.icl.rows import GENERATION, IclRow, read_rows
from genai.evaluation.records import Example


def load_icl(task: IclTaskConfig, seed: int, *, open_table: OpenTable | None = None) -> list[tuple[str, list[Example]]]:
    """The data sets of a task: (label, examples), e.g. `copa/0-shot`, or `mmlu/5-shot/anatomy` of one category.

    Args:
        task: the task; solved examples are drawn by its own seed, so that prompts are those of llm-foundry.
        seed: of the job: chooses the rows that are asked where the task has a limit.
        open_table: for `delta:`; without one there are no tables here.

    Raises:
        DataConfigError: there is no such file.
        DataError: a row cannot be used.
    """
    parts = _parts(task, read_rows(task, open_table=open_table))
    return [
        (label, _chosen(_examples(task, rows, label, num_fewshot), task.limit, seed))
        for num_fewshot in task.num_fewshot
        for label, rows in ((f"{task.label}/{num_fewshot}-shot{suffix}", rows) for suffix, rows in parts)
    ]


def labels_of(task: IclTaskConfig) -> list[str]:
    """What its data sets are called, as far as the job file tells: a task with categories has one more part each."""
    return [f"{task.label}/{num_fewshot}-shot" for num_fewshot in task.num_fewshot]


def kind_of(task: IclTaskConfig) -> DatasetKind:
    """Which kind of data set a task makes."""
    if task.icl_task_type in GENERATION:
        return "generation"
    return {
        "language_modeling": "language_modeling",
        "multiple_choice": "multiple_choice",
        "schema": "schema",
    }[task.icl_task_type]  # type: ignore[return-value]


def _parts(task: IclTaskConfig, rows: list[IclRow]) -> list[tuple[str, list[IclRow]]]:
    """Each category with its rows, by name; solved examples come from the same category."""
    if not task.has_categories:
        return [("", rows)]
    categories = sorted({row.category for row in rows})
    return [(f"/{name}", [row for row in rows if row.category == name]) for name in categories]


def _examples(task: IclTaskConfig, rows: Sequence[IclRow], label: str, num_fewshot: int) -> list[Example]:
    ids = _ids(rows)
    return [
        Example(
            id=name,
            dataset=label,
            kind=kind_of(task),
            question=question,
            references=tuple(dict.fromkeys((row.answer, *row.aliases))) if task.icl_task_type in GENERATION else (),
            gold=row.gold if row.options else (0 if task.icl_task_type == "language_modeling" else None),
        )
        for name, row, question in zip(ids, rows, questions(task, rows, num_fewshot), strict=True)
    ]


def _chosen(examples: list[Example], limit: int | None, seed: int) -> list[Example]:
    """At most `limit` of them, the same for any number of solved examples."""
    if limit is None or limit >= len(examples):
        return examples
    numbers = random.Random(seed).sample(range(len(examples)), limit)
    return [examples[number] for number in sorted(numbers)]


def _ids(rows: Sequence[IclRow]) -> list[str]:
    """A hash of each row's content; rows that are alike are numbered."""
    seen: dict[str, int] = {}
    ids = []
    for row in rows:
        content = json.dumps([row.context, row.answer, row.options, row.gold, row.aliases, row.category])
        digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        seen[digest] = seen.get(digest, 0) + 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids
