"""Chooses the strategy that a job file asks for."""

from __future__ import annotations

from dataclasses import replace

from genai.config.training import FsdpConfig, ParallelConfig
from genai.errors import UsageError
from genai.training.checkpoints import Layout
from genai.training.interfaces import ModelLoss
from genai.training.parallel.ddp import DataParallel
from genai.training.parallel.ranks import Ranks
from genai.training.parallel.strategy import OneRank


def parallelize(
    model_loss: ModelLoss,
    ranks: Ranks,
    *,
    parallel: ParallelConfig | None = None,
    fsdp: FsdpConfig | None = None,
    bf16: bool = True,
) -> OneRank:
    """Share the work of a step among the ranks.

    All ranks must have built the same model. Compile its blocks before this; build the optimizer over
    `model_loss.model` after it.

    Args:
        model_loss: the whole model on this rank's device. Call the loss of the result from here on.
        ranks: who takes part.
        parallel: the strategy; None for `auto`.
        fsdp: how to shard.
        bf16: whether the job computes in bfloat16 (`precision: amp_bf16`).

    Raises:
        UsageError: what was asked for does not go together; `where` names the key.
    """
    strategy = strategy_of(parallel, fsdp)
    if ranks.tensor_parallel > 1:
        from genai.training.parallel.tensor import TensorParallel

        return TensorParallel(model_loss, ranks)
    if strategy == "fsdp2":
        from genai.training.parallel.fsdp import FullyShard

        return FullyShard(model_loss, ranks, fsdp or FsdpConfig(), bf16=bf16)
    return DataParallel(model_loss, ranks) if ranks.world_size > 1 else OneRank(model_loss, ranks)


def place_of(ranks: Ranks, parallel: ParallelConfig, fsdp: FsdpConfig | None = None) -> Ranks:
    """The ranks with their neighbours told: what streams of data and `parallelize` go by.

    Raises:
        UsageError: the ranks cannot be divided that way; `where` names the key.
    """
    degree, key = parallel.tensor_parallel_degree, "parallel.tensor_parallel_degree"
    if degree > 1 and strategy_of(parallel, fsdp) == "fsdp2":
        raise UsageError(f"{key} goes with ddp only", where=key, fix="set it to 1, or parallel.strategy: ddp")
    if ranks.world_size % degree:
        message = f"{ranks.world_size} ranks cannot be divided into groups of {degree}"
        raise UsageError(message, where=key, fix=f"--nproc {degree}, or a multiple of it")
    return replace(ranks, tensor_parallel=degree)


def layout_of(parallel: ParallelConfig, fsdp: FsdpConfig | None, ranks: Ranks) -> Layout:
    """How the tensors of a job's checkpoints are written: `sharded` where the weights are, and in the background."""
    shards = strategy_of(parallel, fsdp) == "fsdp2" and (fsdp or FsdpConfig()).state_dict_type == "sharded"
    return "sharded" if parallel.save_in_background or (shards and ranks.world_size > 1) else "whole"


def strategy_of(parallel: ParallelConfig | None, fsdp: FsdpConfig | None) -> str:
    """`ddp` or `fsdp2`.

    Raises:
        UsageError: fsdp2 is to shard nothing.
    """
    asked = "auto" if parallel is None else parallel.strategy
    no_shard = fsdp is not None and fsdp.sharding_strategy == "NO_SHARD"
    if asked == "fsdp2" and no_shard:
        raise UsageError(
            "parallel.strategy is fsdp2, but fsdp_config.sharding_strategy is NO_SHARD",
            where="parallel.strategy",
            fix="set one of them: ddp, or FULL_SHARD",
        )
    if asked == "auto":
        return "fsdp2" if fsdp is not None and not no_shard else "ddp"
    return asked
