from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genai.data.batches import Batch
from genai.data.token_streams import StreamSpec, token_eval_batches
from genai.errors import UsageError


@pytest.fixture
def batches(hundred: str, tmp_path: Path) -> Callable[..., list[Batch]]:
    def read(**settings: Any) -> list[Batch]:
        specs = [StreamSpec(name="eval", remote=hundred)]
        defaults: dict[str, Any] = {"seq_len": 6, "batch_size": 8, "cache_dir": tmp_path}
        return list(token_eval_batches(specs, **(defaults | settings)))

    return read


def rows(found: list[Batch]) -> list[list[int]]:
    return [[sample for (sample,) in batch.row_ids] for batch in found]


def test_one_pass_in_order(batches: Callable[..., list[Batch]]) -> None:
    found = batches()
    assert [row for batch in rows(found) for row in batch] == list(range(103))
    assert [len(batch) for batch in rows(found)] == [8] * 12 + [7]
    assert (found[-1].num_examples, found[-1].num_tokens, found[-1].num_trained_tokens) == (7, 42, 35)
    assert [batch.ends_epoch for batch in found] == [False] * 12 + [True]


def test_ranks_take_batches_in_turn(batches: Callable[..., list[Batch]]) -> None:
    one = rows(batches(num_batches=5))
    assert rows(batches(num_batches=5, rank=0, world_size=2)) == one[0::2]
    assert rows(batches(num_batches=5, rank=1, world_size=2)) == one[1::2]
    assert batches(num_batches=1, rank=1, world_size=2) == []


def test_a_fault_is_told_before_the_first_batch(hundred: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="max_seq_len"):
        token_eval_batches([StreamSpec(name="e", remote=hundred)], seq_len=99, batch_size=8, cache_dir=tmp_path)


def test_a_pass_may_be_left_early(hundred: str, tmp_path: Path) -> None:
    import threading

    before = threading.active_count()
    found = token_eval_batches([StreamSpec(name="e", remote=hundred)], seq_len=6, batch_size=8, cache_dir=tmp_path)
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
