"""The hash of what was asked changes with everything that makes a difference, and with nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from genai.evaluation.example_hash import hash_of_examples
from genai.evaluation.records import Chat, Continuations, Example

FIRST = Example(
    id="1",
    dataset="walls/0-shot",
    kind="multiple_choice",
    question=Continuations(pairs=(("A wall is", " high"), ("A wall is", " low"))),
    gold=0,
)
SECOND = Example(id="2", dataset="walls/0-shot", kind="generation", question=Chat(prompt="?"), references=("a", "b"))


def test_the_same_examples_have_the_same_hash() -> None:
    assert hash_of_examples([FIRST, SECOND]) == hash_of_examples([FIRST, SECOND])
    renamed = [replace(each, dataset="other", slices={"topic": "roofs"}) for each in (FIRST, SECOND)]
    assert hash_of_examples(renamed) == hash_of_examples([FIRST, SECOND])
    assert len(hash_of_examples([])) == 64


@pytest.mark.parametrize(
    "changed",
    [
        [SECOND, FIRST],
        [FIRST],
        [replace(FIRST, id="3"), SECOND],
        [replace(FIRST, gold=1), SECOND],
        [FIRST, replace(SECOND, references=("a",))],
        [FIRST, replace(SECOND, question=Chat(prompt="!"))],
        [FIRST, replace(SECOND, relevant={"a": 1.0})],
    ],
)
def test_what_makes_a_difference(changed: list[Example]) -> None:
    assert hash_of_examples(changed) != hash_of_examples([FIRST, SECOND])
