"""A transformer run by torch in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from genai.embedding.pooling import padded, pooling_weights
from genai.embedding.settings import Pooling
from genai.embedding.torch_loading import load_text_model
from genai.embedding.vectors import Vectors
from genai.models.precision import Precision

if TYPE_CHECKING:
    import torch


class TorchModel:
    """From tokens to pooled vectors; see `genai.embedding.encoder.TokenModel`.

    Weights and products are bfloat16 where the processor has it. The pooling is always float32. On a CPU texts are
    packed, where the model can take them so; see `genai.embedding.packed`.

    Args:
        folder: with config.json and safetensors.
        pooling: from token vectors to one.
        pad_token_id: what shorter sequences are filled up with.
        precision: number format.
        trust_remote_code: run Python that comes with the model.
        num_threads: threads of torch, in the whole process; None leaves them.

    Raises:
        DataError, UsageError, MissingExtraError: see `load_text_model`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pooling: Pooling,
        pad_token_id: int,
        precision: Precision = "auto",
        trust_remote_code: bool = False,
        num_threads: int | None = None,
    ) -> None:
        self._model = load_text_model(
            folder, precision=precision, trust_remote_code=trust_remote_code, num_threads=num_threads
        )
        from genai.embedding.packed import find_packing

        self._packing = find_packing(self._model, pad_token_id)
        self._pooling = pooling
        self._pad_token_id = pad_token_id

    def __call__(self, sequences: Sequence[Sequence[int]]) -> Vectors:
        """(n, width)"""
        import torch

        with torch.inference_mode():
            if self._packing is not None and self._packing.fits(list(map(len, sequences))):
                pooled_BD = self._packing.vectors(self._model, sequences, self._pooling)
            else:
                pooled_BD = padded_vectors(self._model, sequences, self._pooling, self._pad_token_id)
        return np.asarray(pooled_BD.cpu().numpy(), dtype=np.float32)


def padded_vectors(
    model: Any, sequences: Sequence[Sequence[int] | NDArray[Any]], pooling: Pooling, pad_token_id: int
) -> torch.Tensor:
    """One vector a text, float32 (n, width), from texts that are filled up to the longest; equally long ones go without
    a mask.

    Args:
        model: of transformers.
        sequences: token ids.
        pooling: from token vectors to one.
        pad_token_id: what shorter sequences are filled up with.
    """
    import torch

    where = model.device
    ids, mask = padded(cast("Sequence[Sequence[int]]", sequences), pad_token_id)
    mask_BT = torch.from_numpy(mask).to(where)
    output = model(input_ids=torch.from_numpy(ids).to(where), attention_mask=None if mask.all() else mask_BT)
    hidden_BTD: torch.Tensor = output.last_hidden_state.float()
    if pooling == "max":
        return hidden_BTD.masked_fill(mask_BT[:, :, None] == 0, -torch.inf).amax(dim=1)
    weights_B1T = torch.from_numpy(pooling_weights(mask, pooling))[:, None].to(where)
    # as a product of matrices autocast would round it
    with torch.autocast(where.type, enabled=False):
        return torch.bmm(weights_B1T, hidden_BTD)[:, 0]
