"""From a batch to its loss, for the native Llama.

Like `CausalLMLoss`, but nothing has to be found out by trying: the model takes its attention as a function and computes
the loss within its forward pass. That matters where its parameters are sharded (FSDP2): the head's weight is whole only
while the forward pass runs.

Shapes: B rows, S positions, N trained tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from genai.models.llama import causal_attention
from genai.training.attention import document_attention, document_mask
from genai.training.documents import Tokens
from genai.training.forward import Targets, prepare_tokens
from genai.training.loss import default_chunk_tokens, linear_cross_entropy, token_cross_entropy
from genai.training.precision import autocast

Head = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class LlamaLoss:
    """The loss of a `genai.models.llama.Llama` on batches of token ids.

    Args:
        model: a Llama, or a wrapper (DDP) that hands its arguments on.
        precision: `amp_bf16` or `fp32`.
        device: where the model lies.
        chunk_tokens: tokens whose logits are held at a time; None for what suits the device.
        z_loss: factor of log(Z)^2 that `loss` adds for each token (see `linear_cross_entropy`).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        precision: str,
        device: torch.device | str,
        chunk_tokens: int | None = None,
        z_loss: float = 0.0,
    ) -> None:
        self.model = model
        self.device = torch.device(device)
        self.precision = precision
        self.chunk_tokens = chunk_tokens or default_chunk_tokens(self.device)
        self.z_loss = z_loss

    def loss(self, tensors: Mapping[str, torch.Tensor], denominator: float) -> torch.Tensor:
        """Sum of the negative log-likelihoods (and z-loss) of the trained tokens over `denominator`, a float32 scalar.

        Args:
            tensors: input_ids, labels and position_ids, int64 (B, S). Labels are not shifted; -100 where not trained.
            denominator: trained tokens of the global batch.
        """
        tokens, targets = prepare_tokens(tensors, self.device)

        def head(hidden_BSD: torch.Tensor, weight_VD: torch.Tensor) -> torch.Tensor:
            return linear_cross_entropy(
                targets.of(hidden_BSD),
                weight_VD,
                targets.token_ids_N,
                denominator=denominator,
                chunk_tokens=self.chunk_tokens,
                z_loss=self.z_loss,
            )

        return self._forward(tokens, head)

    @torch.no_grad()
    def token_losses(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Negative log-likelihood of each trained token, float32 (N,), row by row; without z-loss or gradient."""
        tokens, targets = prepare_tokens(tensors, self.device)
        return self._forward(tokens, self._token_losses_of(targets))

    def logits(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """All logits (B, S, V); for checks of short batches."""
        return self._forward(prepare_tokens(tensors, self.device)[0], None)

    def _token_losses_of(self, targets: Targets) -> Head:
        def head(hidden_BSD: torch.Tensor, weight_VD: torch.Tensor) -> torch.Tensor:
            hidden_ND = targets.of(hidden_BSD)
            return token_cross_entropy(hidden_ND, weight_VD, targets.token_ids_N, chunk_tokens=self.chunk_tokens)

        return head

    def _forward(self, tokens: Tokens, head: Head | None) -> torch.Tensor:
        tiles = self.device.type == "cpu"
        mask = None
        if tiles:
            mask = document_mask(tokens.starts_BS)
        elif tokens.packed:
            mask = _seen_of(tokens.starts_BS)
        with autocast(self.precision, self.device):
            result: torch.Tensor = self.model(
                tokens.input_ids_BS,
                tokens.position_ids_BS if tokens.packed else None,
                mask=mask,
                attend=attend_in_tiles if tiles else causal_attention,
                head=head,
            )
        return result


def attend_in_tiles(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, /
) -> torch.Tensor:
    """Our attention on a CPU, as the model's `Attend`; the mask is that of `document_mask`."""
    assert mask is not None
    out: torch.Tensor = document_attention(query, key, value, mask, query.shape[-1] ** -0.5)
    return out


def _seen_of(starts_BS: torch.Tensor) -> torch.Tensor:
    """Which keys each query may look at, boolean (B, 1, S, S): those of its own document that are not later."""
    index_S = torch.arange(starts_BS.shape[1], device=starts_BS.device)
    seen_BSS = (index_S >= starts_BS[:, :, None]) & (index_S <= index_S[:, None])
    return seen_BSS[:, None]
