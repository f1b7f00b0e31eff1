"""The prompts of in-context learning are word for word those that llm-foundry makes of the same rows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from genai.config.eval import IclTaskConfig
from genai.evaluation.icl.prompts import draw
from genai.evaluation.icl.tasks import load_icl
from genai.evaluation.records import Chat, Continuations, Question

GOLDEN = json.loads((Path(__file__).parent / "llm_foundry_prompts.json").read_text())
CASES = GOLDEN["cases"]


def as_written(question: Question) -> list[Any]:
    if isinstance(question, Continuations):
        return [list(pair) for pair in question.pairs]
    assert isinstance(question, Chat)
    return [question.prompt]


@pytest.mark.parametrize("case", CASES, ids=[f"{each['rows']}-{each['task']['num_fewshot'][0]}" for each in CASES])
def test_prompts_are_those_of_llm_foundry(case: dict[str, Any], tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in GOLDEN["rows"][case["rows"]]))
    task = IclTaskConfig(label="task", dataset_uri=str(data), **case["task"])
    ((_, examples),) = load_icl(task, 17)
    assert [as_written(example.question) for example in examples] == case["prompts"]


def test_a_row_is_never_shown_before_itself() -> None:
    chance = random.Random(3)
    for num_rows in range(1, 9):
        for num_fewshot in range(10):
            for index in range(num_rows):
                shown = draw(num_rows, num_fewshot, index, chance)
                assert index not in shown
                assert len(shown) == len(set(shown)) == min(num_fewshot, num_rows - 1)
