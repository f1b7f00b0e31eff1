"""Fully sharded data parallel (FSDP2): every rank holds a part of each weight, gradient and optimizer state.

`torch.distributed.fsdp.fully_shard` puts its work into the `forward` of modules, but a loss here calls the decoder and
reads the head's weight directly. So the loss itself becomes the outermost module (`_LossModule`): its forward gathers
embedding, norm and head for as long as the loss needs them, and each decoder block gathers its own.

Source: torchtitan's `parallelize_llama` for the order (checkpointing, then blocks, then the root); arXiv:2304.11277 for
the method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import HashStore
from torch.autograd.graph import save_on_cpu
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

from genai.config.training import FsdpConfig
from genai.errors import UsageError
from genai.training.compiling import decoder_blocks
from genai.training.interfaces import ModelLoss
from genai.training.parallel.ranks import Ranks, backend_of, stay_on_loopback
from genai.training.parallel.strategy import OneRank
from genai.training.step import count_microbatches

if TYPE_CHECKING:
    from genai.data.batches import Batch

_PRECISIONS = {
    "PURE": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.bfloat16),
    "DEFAULT": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32),
    "FULL": MixedPrecisionPolicy(),
}


class FullyShardedLoss:
    """Meets `ModelLoss` over a loss whose model was sharded; every call is one pass of all ranks."""

    def __init__(self, inner: ModelLoss, module: nn.Module) -> None:
        self._inner = inner
        self._module: Any = module
        self.model = inner.model
        self.device = inner.device

    def loss(self, tensors: Mapping[str, torch.Tensor], denominator: float) -> torch.Tensor:
        """See `ModelLoss.loss`."""
        loss: torch.Tensor = self._module("loss", tensors, denominator)
        return loss

    def token_losses(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """See `ModelLoss.token_losses`."""
        return self._measure("token_losses", tensors)

    def logits(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """See `ModelLoss.logits`; without a graph."""
        return self._measure("logits", tensors)

    def _measure(self, what: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = self._module(what, tensors)
        # A backward pass would free the gathered weights of the root; without one they would stay.
        self._module.reshard()
        return result


class FullyShard(OneRank):
    """Sharded models on all ranks; see the module.

    Args:
        model_loss: its model's parameters are replaced by this rank's parts; build the optimizer afterwards.
        ranks: who takes part.
        cfg: how to shard.
        bf16: whether the job computes in bfloat16 at all; in float32 the policy of `cfg` is FULL.

    Raises:
        UsageError: the model has no decoder blocks, or CPU offload is asked for without a GPU.
    """

    in_step = True

    def __init__(self, model_loss: ModelLoss, ranks: Ranks, cfg: FsdpConfig, *, bf16: bool) -> None:
        self.module = _shard(model_loss, ranks, cfg, bf16=bf16)
        super().__init__(FullyShardedLoss(model_loss, self.module), ranks)

    def accumulate(self, batch: Batch, microbatch_size: int) -> float:
        """See `OneRank.accumulate`; a rank with fewer microbatches than another makes empty passes."""
        own = count_microbatches(batch, microbatch_size)
        (most,) = self.ranks.max([own])
        loss = super().accumulate(batch, microbatch_size)
        for _ in range(most - own):
            self.empty_pass(training=True)
        return loss

    def empty_pass(self, *, training: bool) -> None:
        """One short row; in training its loss is divided by infinity, which leaves zeros as its gradient."""
        row = torch.zeros((1, 8), dtype=torch.int64, device=self.model_loss.device)
        positions = torch.arange(8, device=row.device).unsqueeze(0)
        tensors = {"input_ids": row, "labels": row, "position_ids": positions}
        if training:
            self.model_loss.loss(tensors, math.inf).backward()
        else:
            self.model_loss.token_losses(tensors)


class _LossModule(nn.Module):
    """Makes the methods of a loss the forward of a module, for `fully_shard` to gather around."""

    def __init__(self, model_loss: ModelLoss) -> None:
        super().__init__()
        self.model = model_loss.model
        self._model_loss = model_loss

    def forward(self, what: str, *arguments: Any) -> torch.Tensor:
        result: torch.Tensor = getattr(self._model_loss, what)(*arguments)
        return result


def _shard(model_loss: ModelLoss, ranks: Ranks, cfg: FsdpConfig, *, bf16: bool) -> nn.Module:
    if cfg.cpu_offload and ranks.device.type != "cuda":
        raise UsageError("CPU offload moves weights off a GPU, and there is none", where="fsdp_config.cpu_offload")
    blocks = decoder_blocks(model_loss.model)
    if not blocks:
        raise UsageError("the model has no list of decoder blocks that could be sharded", fix="train it with ddp")
    if cfg.activation_checkpointing or cfg.activation_cpu_offload:
        for block in blocks:
            _save_activations(block, cfg, pin_memory=ranks.device.type == "cuda")
    if not dist.is_initialized():
        _open_group_of_one(ranks)
    settings: dict[str, Any] = {
        "mesh": _mesh(ranks, cfg),
        "mp_policy": _PRECISIONS[cfg.mixed_precision if bf16 else "FULL"],
        "offload_policy": CPUOffloadPolicy() if cfg.cpu_offload else OffloadPolicy(),
    }
    for block in blocks:
        fully_shard(block, reshard_after_forward="SHARD_GRAD_OP" not in cfg.sharding_strategy, **settings)
    # The root's weights are needed again at once, by the head and then by the backward pass.
    root = _LossModule(model_loss)
    fully_shard(root, reshard_after_forward=False, **settings)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            # Losses are divided by the tokens of the global batch already: sum, do not average.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return root


def _save_activations(block: Any, cfg: FsdpConfig, *, pin_memory: bool) -> None:
    """Keep only a block's input for the backward pass (checkpointing), and that in the host's memory (offload).

    The block's forward is replaced, not the block: a wrapper around it would rename its parameters.
    """
    inner = block.forward

    def forward(*arguments: Any, **keywords: Any) -> Any:
        place = save_on_cpu(pin_memory=pin_memory) if cfg.activation_cpu_offload else nullcontext()
        with place:
            if cfg.activation_checkpointing:
                return checkpoint(inner, *arguments, use_reentrant=False, **keywords)
            return inner(*arguments, **keywords)

    block.forward = forward


def _mesh(ranks: Ranks, cfg: FsdpConfig) -> DeviceMesh:
    """One dimension over all ranks, or for HYBRID nodes x ranks of a node: sharded within a node, copied between."""
    kind = ranks.device.type
    if cfg.sharding_strategy.startswith("HYBRID"):
        shape = (ranks.world_size // ranks.local_world_size, ranks.local_world_size)
        return init_device_mesh(kind, shape, mesh_dim_names=("replicate", "shard"))
    return init_device_mesh(kind, (ranks.world_size,), mesh_dim_names=("shard",))


def _open_group_of_one(ranks: Ranks) -> None:
    """A process that nobody launched as a rank is a group by itself; its store is a dictionary, nothing listens."""
    stay_on_loopback()
    dist.init_process_group(backend_of(ranks.device), store=HashStore(), rank=0, world_size=1)
