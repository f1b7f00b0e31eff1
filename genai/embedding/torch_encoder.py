"""A transformer run by torch in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genai.embedding.pooling import padded, pooling_weights
from genai.embedding.settings import Pooling
from genai.embedding.torch_loading import Precision, load_text_model
from genai.embedding.vectors import Vectors


class TorchModel:
    """From tokens to pooled vectors; see `genai.embedding.encoder.TokenModel`.

    Weights and products are bfloat16 where the processor has it. The pooling is always float32.

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
        self._pooling = pooling
        self._pad_token_id = pad_token_id

    def __call__(self, sequences: Sequence[Sequence[int]]) -> Vectors:
        """(n, width)"""
        import torch

        ids, mask = padded(sequences, self._pad_token_id)
        where = self._model.device
        with torch.inference_mode():
            mask_BT = torch.from_numpy(mask).to(where)
            output = self._model(input_ids=torch.from_numpy(ids).to(where), attention_mask=mask_BT)
            hidden_BTD = output.last_hidden_state.float()
            if self._pooling == "max":
                pooled_BD = hidden_BTD.masked_fill(mask_BT[:, :, None] == 0, -torch.inf).amax(dim=1)
            else:
                weights_B1T = torch.from_numpy(pooling_weights(mask, self._pooling))[:, None].to(where)
                pooled_BD = torch.bmm(weights_B1T, hidden_BTD)[:, 0]
        return np.asarray(pooled_BD.cpu().numpy(), dtype=np.float32)
