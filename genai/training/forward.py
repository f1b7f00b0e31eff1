"""From a batch to its loss, for any causal language model of transformers, with or without an adapter of peft.

Hidden states come from the decoder, the loss from `linear_cross_entropy` over the trained positions only. A model that
does something of its own between the two is found out by comparing with its logits, and is then trained through those.

Shapes: B rows, S positions, N trained tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from genai.log import get_logger
from genai.models.freed_memory import return_freed_memory
from genai.training.documents import (
    IGNORED,
    PackingMethod,
    Tokens,
    choose_packing,
    document_starts,
    probe_tokens,
    probing,
)
from genai.training.loss import LogitTransform, default_chunk_tokens, linear_cross_entropy, token_cross_entropy
from genai.training.precision import autocast

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What a microbatch trains."""

    positions_N: torch.Tensor
    """Positions (row * S + column) whose hidden state predicts a trained token."""
    token_ids_N: torch.Tensor
    """Those tokens."""

    def of(self, states_BSX: torch.Tensor) -> torch.Tensor:
        """The states at those positions, (N, X)."""
        return states_BSX.flatten(0, 1).index_select(0, self.positions_N)


def prepare_tokens(tensors: Mapping[str, torch.Tensor], device: torch.device) -> tuple[Tokens, Targets]:
    """A microbatch on `device`, with its documents told apart and its labels shifted.

    Args:
        tensors: input_ids, labels and position_ids, int64 (B, S). Labels are not shifted; -100 where not trained.
        device: where the model lies.
    """
    labels_BS, position_ids_BS = tensors["labels"], tensors["position_ids"]
    shifted_M = torch.nn.functional.pad(labels_BS[:, 1:], (0, 1), value=IGNORED).flatten()
    positions_N = (shifted_M != IGNORED).nonzero().squeeze(1)
    starts_BS = document_starts(position_ids_BS, labels_BS)
    packed = bool(starts_BS.any())
    if not packed:
        # One document a row, and padding that nothing sees: plain causal attention will do.
        position_ids_BS = torch.arange(labels_BS.shape[1], device=labels_BS.device).expand_as(labels_BS)

    def move(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, non_blocking=True)

    tokens = Tokens(
        input_ids_BS=move(tensors["input_ids"]),
        position_ids_BS=move(position_ids_BS),
        starts_BS=move(starts_BS),
        packed=packed,
    )
    return tokens, Targets(positions_N=move(positions_N), token_ids_N=move(shifted_M[positions_N]))


class CausalLMLoss:
    """The loss of a model on batches of token ids.

    Args:
        model: a causal language model of transformers, or a PeftModel around one.
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
        self.z_loss = z_loss
        self.device = torch.device(device)
        self.precision = precision
        self.chunk_tokens = chunk_tokens or default_chunk_tokens(self.device)
        whole: Any = model
        self._base: Any = whole.get_base_model() if hasattr(whole, "get_base_model") else whole
        self._decoder = self._base.get_decoder()
        self._transform = LogitTransform(softcap=getattr(self._base.config, "final_logit_softcapping", None))
        with probing(model):
            self._packing = choose_packing(self._base, self._decoder, self._hidden_states, device=self.device)
            self._head = self._find_head()
        return_freed_memory()

    def loss(self, tensors: Mapping[str, torch.Tensor], denominator: float) -> torch.Tensor:
        """Sum of the negative log-likelihoods (and z-loss) of the trained tokens over `denominator`, a float32 scalar.

        Args:
            tensors: input_ids, labels and position_ids, int64 (B, S). Labels are not shifted; -100 where not trained.
            denominator: trained tokens of the global batch.
        """
        tokens, targets = prepare_tokens(tensors, self.device)
        if self._head is None:
            return self._full_losses(tokens, targets, self.z_loss).sum() / denominator
        hidden_ND = targets.of(self._hidden_states(tokens, self._packing))
        with autocast(self.precision, self.device):
            return linear_cross_entropy(
                hidden_ND,
                self._head.weight,
                targets.token_ids_N,
                denominator=denominator,
                chunk_tokens=self.chunk_tokens,
                bias_V=self._head.bias,
                transform=self._transform,
                z_loss=self.z_loss,
            )

    @torch.no_grad()
    def token_losses(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Negative log-likelihood of each trained token, float32 (N,), row by row; without a gradient."""
        tokens, targets = prepare_tokens(tensors, self.device)
        if self._head is None:
            return self._full_losses(tokens, targets)
        hidden_ND = targets.of(self._hidden_states(tokens, self._packing))
        with autocast(self.precision, self.device):
            return token_cross_entropy(
                hidden_ND,
                self._head.weight,
                targets.token_ids_N,
                chunk_tokens=self.chunk_tokens,
                bias_V=self._head.bias,
                transform=self._transform,
            )

    def logits(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """All logits (B, S, V) as the model itself computes them; for checks of short batches."""
        return self._logits(prepare_tokens(tensors, self.device)[0])

    # --- the forward pass ---------------------------------------------------------------------------------------------

    def _hidden_states(self, tokens: Tokens, packing: PackingMethod) -> torch.Tensor:
        with autocast(self.precision, self.device):
            hidden_BSD: torch.Tensor = self._decoder(use_cache=False, **packing.arguments(tokens)).last_hidden_state
        return hidden_BSD.view(*tokens.input_ids_BS.shape, -1)

    def _logits(self, tokens: Tokens) -> torch.Tensor:
        with autocast(self.precision, self.device):
            logits_BSV: torch.Tensor = self._base(use_cache=False, **self._packing.arguments(tokens)).logits
        return logits_BSV.view(*tokens.input_ids_BS.shape, -1)

    def _full_losses(self, tokens: Tokens, targets: Targets, z_loss: float = 0.0) -> torch.Tensor:
        logits_NV = targets.of(self._logits(tokens)).float()
        losses_N = torch.nn.functional.cross_entropy(logits_NV, targets.token_ids_N, reduction="none")
        return losses_N + z_loss * logits_NV.logsumexp(-1).square() if z_loss else losses_N

    # --- the head -----------------------------------------------------------------------------------------------------

    def _find_head(self) -> nn.Linear | None:
        """The model's output layer, if the logits are it and nothing else."""
        head = self._base.get_output_embeddings()
        if hasattr(head, "modules_to_save"):
            head = head.modules_to_save[head.active_adapter]
        if type(head) is nn.Linear and self._is_whole_head(head):
            return head
        _log.warning(
            "the output layer of %s is not a plain linear one: the loss takes the memory of all logits",
            type(self._base).__name__,
        )
        return None

    def _is_whole_head(self, head: nn.Linear) -> bool:
        tokens = probe_tokens([[2, 3, 5, 7]], head.out_features, self.device)
        theirs_SV = self._logits(tokens)[0].float()
        with autocast(self.precision, self.device):
            ours_SV = head(self._hidden_states(tokens, self._packing)[0]).float()
        if self._transform.softcap is not None:
            ours_SV = torch.tanh(ours_SV / self._transform.softcap) * self._transform.softcap
        tolerance = 0.02 * float(theirs_SV.abs().max())
        return ours_SV.shape == theirs_SV.shape and bool((ours_SV - theirs_SV).abs().max() <= tolerance)
