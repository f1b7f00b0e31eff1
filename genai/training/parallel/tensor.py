"""Tensor parallel: neighbouring ranks hold parts of each matrix of a block and compute its products together.

The matrices into attention and MLP are cut by output (each rank has its heads and its part of the MLP), those out of
them by input, so that a block needs two sums over the neighbours, forward and backward each. Embedding, norms and head
are whole on every rank. Neighbours see the same rows; ranks that hold the same parts sum their gradients as in `ddp`.

Source: Megatron-LM (arXiv:1909.08053), section 3, by way of `torch.distributed.tensor.parallel`.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from genai.errors import UsageError
from genai.training.compiling import decoder_blocks
from genai.training.interfaces import ModelLoss
from genai.training.parallel.ddp import DataParallel
from genai.training.parallel.ranks import Ranks

_BY_OUTPUT = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
_BY_INPUT = ("self_attn.o_proj", "mlp.down_proj")
_KEY = "parallel.tensor_parallel_degree"


class TensorParallel(DataParallel):
    """Blocks cut over `ranks.tensor_parallel` neighbours; see the module.

    Args:
        model_loss: of a model whose blocks name their matrices as Llama does; they become this rank's parts.
        ranks: who takes part.

    Raises:
        UsageError: the model has other matrices, or sizes that cannot be divided.
    """

    def __init__(self, model_loss: ModelLoss, ranks: Ranks) -> None:
        super().__init__(model_loss, ranks)
        degree = ranks.tensor_parallel
        mesh = init_device_mesh(ranks.device.type, (ranks.data_world_size, degree), mesh_dim_names=("data", "tensor"))
        self.group = mesh.get_group("data")
        plan: dict[str, Any] = {name: ColwiseParallel() for name in _BY_OUTPUT}
        plan |= {name: RowwiseParallel() for name in _BY_INPUT}
        blocks = decoder_blocks(model_loss.model)
        for block in blocks:
            _check(block, degree)
        for block in blocks:
            parallelize_module(block, mesh["tensor"], plan)


def _check(block: nn.Module, degree: int) -> None:
    modules: dict[str, Any] = dict(block.named_modules())
    missing = [name for name in (*_BY_OUTPUT, *_BY_INPUT) if type(modules.get(name)) is not nn.Linear]
    if missing:
        raise UsageError(
            f"the model's blocks have no plain matrix '{missing[0]}' that could be divided",
            where=_KEY,
            fix="set it to 1",
        )
    head_size = int(getattr(modules["self_attn"], "head_size", 0) or modules["self_attn"].head_dim)
    sizes = {
        "key-value heads": modules["self_attn.k_proj"].out_features // head_size,
        "query heads": modules["self_attn.q_proj"].out_features // head_size,
        "columns of the MLP": modules["mlp.up_proj"].out_features,
    }
    for what, size in sizes.items():
        if size % degree:
            raise UsageError(
                f"{size} {what} cannot be divided among {degree} ranks", where=_KEY, fix="choose a divisor"
            )
