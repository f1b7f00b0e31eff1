"""Which strategy a job file asks for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from genai.config.training import FsdpConfig, ParallelConfig
from genai.errors import UsageError
from genai.training.parallel.ddp import DataParallel
from genai.training.parallel.parallelize import layout_of, parallelize, place_of, strategy_of
from genai.training.parallel.ranks import Ranks
from genai.training.parallel.strategy import OneRank


class Loss:
    device = torch.device("cpu")
    model = nn.Linear(2, 2)


def test_one_rank_has_nobody_to_share_with() -> None:
    loss: Any = Loss()
    assert type(parallelize(loss, Ranks())) is OneRank
    assert type(parallelize(loss, Ranks(world_size=2))) is DataParallel


@pytest.mark.parametrize(
    ("asked", "fsdp", "expected"),
    [
        (None, None, "ddp"),
        ("auto", FsdpConfig(), "fsdp2"),
        ("auto", FsdpConfig(sharding_strategy="NO_SHARD"), "ddp"),
        ("ddp", FsdpConfig(), "ddp"),
        ("fsdp2", None, "fsdp2"),
    ],
)
def test_the_strategy(asked: Any, fsdp: FsdpConfig | None, expected: str) -> None:
    assert strategy_of(None if asked is None else ParallelConfig(strategy=asked), fsdp) == expected


def test_fsdp2_that_shards_nothing_is_a_contradiction() -> None:
    with pytest.raises(UsageError, match="NO_SHARD"):
        strategy_of(ParallelConfig(strategy="fsdp2"), FsdpConfig(sharding_strategy="NO_SHARD"))


def test_cpu_offload_needs_a_gpu() -> None:
    loss: Any = Loss()
    with pytest.raises(UsageError, match="there is none"):
        parallelize(loss, Ranks(), fsdp=FsdpConfig(cpu_offload=True))


def test_a_model_without_blocks_cannot_be_sharded() -> None:
    loss: Any = Loss()
    with pytest.raises(UsageError, match="no list of decoder blocks"):
        parallelize(loss, Ranks(), fsdp=FsdpConfig())


def test_neighbours_see_the_same_rows() -> None:
    ranks = place_of(Ranks(rank=5, world_size=8), ParallelConfig(tensor_parallel_degree=4))
    assert (ranks.data_rank, ranks.data_world_size) == (1, 2)
    alone = place_of(Ranks(rank=5, world_size=8), ParallelConfig())
    assert (alone.data_rank, alone.data_world_size) == (5, 8)


def test_what_cannot_be_divided_among_neighbours() -> None:
    with pytest.raises(UsageError, match="6 ranks cannot be divided into groups of 4"):
        place_of(Ranks(world_size=6), ParallelConfig(tensor_parallel_degree=4))
    with pytest.raises(UsageError, match="goes with ddp only"):
        place_of(Ranks(world_size=4), ParallelConfig(tensor_parallel_degree=2), FsdpConfig())


@pytest.mark.parametrize(
    ("parallel", "fsdp", "world_size", "expected"),
    [
        (ParallelConfig(), None, 2, "whole"),
        (ParallelConfig(), FsdpConfig(), 2, "sharded"),
        (ParallelConfig(), FsdpConfig(), 1, "whole"),
        (ParallelConfig(), FsdpConfig(state_dict_type="full"), 2, "whole"),
        (ParallelConfig(save_in_background=True), None, 1, "sharded"),
    ],
)
def test_how_checkpoints_are_written(
    parallel: ParallelConfig, fsdp: FsdpConfig | None, world_size: int, expected: str
) -> None:
    assert layout_of(parallel, fsdp, Ranks(world_size=world_size)) == expected
