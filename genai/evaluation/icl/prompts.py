"""The texts that a task of in-context learning puts before a model: instruction, solved examples, question.

What stands where is llm-foundry's, so that scores can be held against those of its models:

    prompt_string
    {example_delimiter}{question_prelimiter}CONTEXT{continuation_delimiter}ANSWER      num_fewshot times
    {example_delimiter}{question_prelimiter}CONTEXT{continuation_delimiter}            without white space at its end
     ANSWER                                                                            behind one space

The delimiter before an example is left out at the very beginning. llm-foundry turns the three parts into tokens one by
one; here the whole text is read at once, as a user would write it. For tokenizers that never join the end of one part
with the beginning of the next (all that split at line breaks and spaces) that is the same.

Source: mosaicml/llm-foundry, llmfoundry/eval/datasets/in_context_learning_evaluation.py and utils.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from genai.config.eval import IclTaskConfig
from genai.evaluation.icl.rows import GENERATION, IclRow
from genai.evaluation.records import Chat, Continuations


def questions(task: IclTaskConfig, rows: Sequence[IclRow], num_fewshot: int) -> Iterator[Chat | Continuations]:
    """The question of every row, in order.

    Args:
        task: kind, delimiters, seed.
        rows: all of them; the solved examples are drawn from them too.
        num_fewshot: how many solved examples stand before each.
    """
    # One source of chance for all rows, drawn from in their order: that is part of what makes a prompt what it is.
    chance = random.Random(task.fewshot_random_seed)
    for index, row in enumerate(rows):
        before = task.prompt_string
        for shown in draw(len(rows), num_fewshot, index, chance):
            before += _solved(task, rows[shown], before)
        yield _question(task, row, before)


def draw(num_rows: int, num_fewshot: int, index: int, chance: random.Random) -> list[int]:
    """Numbers of the rows that are shown before row `index`, which is not among them, in the order they are shown.

    Args:
        num_rows: how many rows there are.
        num_fewshot: how many are wanted; with fewer rows than that, all others are shown.
        index: the row that is asked.
        chance: drawn from.
    """
    if num_fewshot == 0:
        return []
    chosen = set(chance.sample(range(num_rows), min(num_rows - 1, num_fewshot)))
    if index in chosen:
        chosen.remove(index)
        if len(chosen) < num_rows - 1:
            chosen.add(_another(num_rows, chosen | {index}, chance))
    return list(chosen)  # in the order of the set, as there


def _another(num_rows: int, taken: set[int], chance: random.Random) -> int:
    while (number := chance.choice(range(num_rows))) in taken:
        pass
    return number


def _solved(task: IclTaskConfig, row: IclRow, before: str) -> str:
    """A row with its answer."""
    delimiter = task.example_delimiter if before else ""
    if task.icl_task_type == "schema":
        # There the delimiter stands behind what is before every question.
        right = row.options[row.gold or 0]
        return f"{task.question_prelimiter}{delimiter}{right}{task.continuation_delimiter}{row.answer}"
    return f"{delimiter}{task.question_prelimiter}{row.context}{task.continuation_delimiter}{_answer(task, row)}"


def _answer(task: IclTaskConfig, row: IclRow) -> str:
    """What follows a solved example's context."""
    if task.icl_task_type == "multiple_choice":
        return row.options[row.gold or 0]
    if row.reasoning is not None:
        return f"{row.reasoning}{task.cot_delimiter}{row.answer}"
    return row.answer


def _question(task: IclTaskConfig, row: IclRow, before: str) -> Chat | Continuations:
    if task.icl_task_type == "schema":
        return _schema(task, row, before)
    delimiter = task.example_delimiter if before else ""
    asked = f"{delimiter}{task.question_prelimiter}{row.context}{task.continuation_delimiter}".rstrip()
    context = before + asked
    if task.icl_task_type in GENERATION:
        return Chat(prompt=context, max_tokens=task.max_new_tokens, stop=tuple(task.early_stopping_criteria))
    answers = row.options if task.icl_task_type == "multiple_choice" else (row.answer,)
    return Continuations(pairs=tuple((context, _spaced(answer)) for answer in answers))


def _schema(task: IclTaskConfig, row: IclRow, before: str) -> Continuations:
    """One continuation after each of several contexts; without anything before them they stand there bare."""
    if before:
        begin, end = task.question_prelimiter + task.example_delimiter, task.continuation_delimiter.rstrip()
    else:
        begin, end = task.question_prelimiter, ""
    contexts = (f"{before}{begin}{option}{end}" for option in row.options)
    return Continuations(pairs=tuple((context, _spaced(row.answer)) for context in contexts))


def _spaced(answer: str) -> str:
    return answer if answer.startswith(" ") else f" {answer}"
