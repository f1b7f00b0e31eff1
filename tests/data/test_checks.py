"""Thresholds stop the job with exit code 3, each with what was measured and where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from genai.config.finetune import DataChecksConfig
from genai.data.checks import check_rows, check_tokens
from genai.data.rows import BadRow, Message, Row, RowSet
from genai.data.summary import summarise_rows
from genai.data.tokenized import TokenizedRows
from genai.errors import GateError


def row(number: int, line: int) -> Row:
    messages = (Message(role="user", content=f"{number}?"), Message(role="assistant", content="So.", trained=True))
    return Row(messages=messages, source=f"a.jsonl:{line}")


DISTINCT = RowSet(rows=tuple(row(n, n) for n in range(1, 11)))
COPIES = RowSet(rows=tuple(row(n % 5, n) for n in range(1, 11)))


def lines(train: RowSet, evaluation: RowSet | None = None, **checks: float) -> list[str]:
    cfg = DataChecksConfig(**checks)  # type: ignore[arg-type]
    with pytest.raises(GateError) as caught:
        check_rows(summarise_rows(train, evaluation), train, evaluation, cfg)
    assert caught.value.exit_code == 3
    return str(caught.value).splitlines()


def test_good_rows_pass() -> None:
    evaluation = RowSet(rows=(row(77, 1),))
    check_rows(summarise_rows(DISTINCT, evaluation), DISTINCT, evaluation, DataChecksConfig())
    check_rows(summarise_rows(COPIES), COPIES, None, DataChecksConfig(max_duplicates=0.5))


def test_bad_rows_are_shown_different_ones_first() -> None:
    reasons = ["is no JSON", "is no JSON", "is no JSON", "the response is empty", "has no 'prompt'"]
    bad = tuple(BadRow(source=f"a.jsonl:{20 + n}", reason=reason) for n, reason in enumerate(reasons))
    assert lines(replace(DISTINCT, bad=bad)) == [
        "data.checks.max_bad_rows: 5 of 15 rows cannot be used (33.3%, allowed 0.0%)",
        "a.jsonl:20: is no JSON",
        "a.jsonl:23: the response is empty",
        "a.jsonl:24: has no 'prompt'",
    ]
    assert lines(replace(DISTINCT, bad=bad[:2]))[1:] == ["a.jsonl:20: is no JSON", "a.jsonl:21: is no JSON"]
    check_rows(
        summarise_rows(replace(DISTINCT, bad=bad)),
        replace(DISTINCT, bad=bad),
        None,
        DataChecksConfig(max_bad_rows=0.34),
    )


def test_bad_evaluation_rows_count_as_well() -> None:
    bad = (BadRow(source="b.jsonl:1", reason="is no JSON"),)
    assert lines(DISTINCT, RowSet(rows=(row(77, 1),), bad=bad))[1:] == ["b.jsonl:1: is no JSON"]


def test_copies() -> None:
    assert lines(COPIES, max_duplicates=0.49) == [
        "data.checks.max_duplicates: 5 of 10 rows are copies of another one (50.0%, allowed 49.0%), "
        "e.g. a.jsonl:6, a.jsonl:7, a.jsonl:8"
    ]


def test_leaked_rows() -> None:
    evaluation = RowSet(rows=(row(77, 1), row(3, 2)))
    assert lines(DISTINCT, evaluation) == [
        "data.checks.max_leaked: 1 of 2 evaluation rows also stand in the training rows (50.0%, allowed 0.0%), "
        "e.g. a.jsonl:2"
    ]


def test_all_thresholds_are_named_at_once() -> None:
    bad = (BadRow(source="a.jsonl:9", reason="is no JSON"),)
    found = lines(replace(COPIES, bad=bad), RowSet(rows=(row(3, 2),)), max_duplicates=0.1, min_rows=11)
    assert [line.partition(":")[0] for line in found] == [
        "data.checks.max_bad_rows",
        "a.jsonl",
        "data.checks.max_duplicates",
        "data.checks.max_leaked",
        "data.checks.min_rows",
    ]


def test_nothing_left_to_train_on() -> None:
    assert lines(RowSet(rows=())) == ["data.checks.min_rows: 0 rows are left to train on, 1 are needed"]


def token_lines(tokenized: TokenizedRows, train: RowSet = DISTINCT, **checks: float) -> list[str]:
    with pytest.raises(GateError) as caught:
        check_tokens(tokenized, train, DataChecksConfig(**checks))  # type: ignore[arg-type]
    return str(caught.value).splitlines()


TOKENIZED = TokenizedRows.from_lists([[1, 2]] * 9)


def test_good_tokens_pass() -> None:
    check_tokens(TOKENIZED, DISTINCT, DataChecksConfig())


def test_too_many_truncated() -> None:
    truncated = np.array([False] * 6 + [True] * 3)
    tokenized = replace(TOKENIZED, truncated=truncated, row_indices=np.array([0, 1, 2, 3, 4, 5, 6, 8, 9]))
    assert token_lines(tokenized) == [
        "data.checks.max_truncated: 3 of 9 rows are longer than max_seq_len (33.3%, allowed 10.0%), "
        "e.g. a.jsonl:7, a.jsonl:9, a.jsonl:10"
    ]
    check_tokens(tokenized, DISTINCT, DataChecksConfig(max_truncated=0.34))


def test_dropped_rows_are_truncated_ones() -> None:
    assert token_lines(replace(TOKENIZED, num_dropped=3)) == [
        "data.checks.max_truncated: 3 of 12 rows are longer than max_seq_len (25.0%, allowed 10.0%)"
    ]
    empty = TokenizedRows.from_lists([])
    assert token_lines(empty) == ["data.checks.min_rows: 0 rows are left to train on, 1 are needed"]


def test_rows_that_the_template_refuses() -> None:
    bad = (BadRow(source="a.jsonl:4", reason="the chat template refuses the conversation: no system"),)
    assert token_lines(replace(TOKENIZED, bad=bad)) == [
        "data.checks.max_bad_rows: 1 of 10 rows cannot be used (10.0%, allowed 0.0%)",
        "a.jsonl:4: the chat template refuses the conversation: no system",
    ]
