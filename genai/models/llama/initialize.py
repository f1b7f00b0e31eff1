"""Fresh weights: normal with a small deviation, smaller still where a block adds to the residual stream.

Source: Radford et al., Language Models are Unsupervised Multitask Learners (GPT-2), section 2.3: deviation 0.02, and
the two projections that each block adds to the stream scaled by 1 / sqrt(2 n_layers), so that the stream's variance
does not grow with depth. Norms start at 1, biases at 0.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from genai.models.llama.model import Llama

_ADDED_TO_THE_STREAM = ("o_proj.weight", "down_proj.weight")


@torch.no_grad()
def init_weights(model: Llama, *, seed: int) -> None:
    """Give every parameter its fresh value, in place.

    Each parameter has a random stream of its own, made from the seed and its name and drawn on the CPU: the values are
    the same on every device and for every rank that holds only some of the parameters.

    Args:
        model: with real storage, i.e. not on the meta device.
        seed: of the job.
    """
    std = model.config.init_std
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
            continue
        added = name.endswith(_ADDED_TO_THE_STREAM)
        scale = std / math.sqrt(2 * model.config.n_layers) if added else std
        parameter.copy_(torch.randn(parameter.shape, generator=_generator(seed, name)).mul_(scale))


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
