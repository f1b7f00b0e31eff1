"""Solved examples: what stands before a question, and what must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from genai.evaluation.few_shot import with_shots
from genai.evaluation.records import Chat, Continuations, Example, Query


def asked(number: int, *, cluster: str | None = None) -> Example:
    question = Chat(prompt=f"Question {number}?")
    return Example(
        id=f"r{number}", dataset="d", kind="generation", question=question, references=(f"A{number}.",), cluster=cluster
    )


POOL = [asked(number) for number in range(8)]


def prompt_of(example: Example) -> str:
    assert isinstance(example.question, Chat)
    assert example.question.prompt is not None
    return example.question.prompt


def test_prompts_stand_after_solved_ones() -> None:
    (shown,) = with_shots([asked(99)], [asked(1)], num=1, seed=17)
    assert prompt_of(shown) == "Question 1? A1.\n\nQuestion 99?"
    assert shown.references == ("A99.",)


def test_no_question_sees_its_own_answer_and_nearly_all_begin_alike() -> None:
    shown = with_shots(POOL, POOL, num=3, seed=17)
    assert all(example.references[0] not in prompt_of(example) for example in shown)
    beginnings = [prompt_of(example).rpartition("\n\n")[0] for example in shown]
    assert max(beginnings.count(each) for each in beginnings) == len(POOL) - 3, "three of them are shown themselves"
    assert shown == with_shots(POOL, POOL[::-1], num=3, seed=17), "the order of the pool makes no difference"
    assert shown != with_shots(POOL, POOL, num=3, seed=18)


def test_rows_of_one_cluster_and_equal_questions_are_not_shown() -> None:
    pool = [asked(1, cluster="page 1"), asked(2, cluster="page 2"), replace(asked(3), id="again")]
    (first,) = with_shots([replace(asked(9), cluster="page 1")], pool[:2], num=1, seed=17)
    assert "A2." in prompt_of(first)
    (second,) = with_shots([asked(3)], pool[1:], num=1, seed=17)
    assert "A2." in prompt_of(second)


def test_turns_stand_after_the_system_message() -> None:
    system = {"role": "system", "content": "Be brief."}
    conversation = Chat(messages=(system, {"role": "user", "content": "Why?"}))
    other = Chat(messages=({"role": "system", "content": "Be long."}, {"role": "user", "content": "How?"}))
    solved = replace(asked(1), question=other, references=("So.",))
    (shown,) = with_shots([replace(asked(2), question=conversation)], [solved], num=1, seed=17)
    assert shown.question == Chat(
        messages=(
            system,
            {"role": "user", "content": "How?"},
            {"role": "assistant", "content": "So."},
            {"role": "user", "content": "Why?"},
        )
    )


def test_choices_show_the_right_one() -> None:
    pairs = (("2 + 2 =", " 3"), ("2 + 2 =", " 4"))
    solved = replace(asked(1), question=Continuations(pairs=pairs), references=("4",), gold=1)
    wanted = replace(asked(2), question=Continuations(pairs=(("1 + 1 =", " 2"), ("1 + 1 =", " 1"))), gold=0)
    (shown,) = with_shots([wanted], [solved], num=1, seed=17)
    prefix = "2 + 2 = 4\n\n1 + 1 ="
    assert shown.question == Continuations(pairs=((prefix, " 2"), (prefix, " 1")))


@pytest.mark.parametrize("other", [replace(asked(1), references=()), replace(asked(1), question=Query(text="x", k=1))])
def test_examples_that_cannot_be_shown(other: Example) -> None:
    with pytest.raises(ValueError, match="0 solved examples are there for 'r9', 1 are wanted"):
        with_shots([asked(9)], [other], num=1, seed=17)
