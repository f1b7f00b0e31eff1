"""Cross-entropy of a linear head without ever holding the logits of more than one chunk of tokens.

At a vocabulary of 49,152 the logits of 4 x 1024 tokens take 0.8 GB in float32, and as much again for their gradient;
more than a small model's weights. Here a chunk's logits are turned into their gradient on the spot, and only the
gradients of the hidden states and of the head leave the loop. Source: the idea of fusing head and loss is that of
Wijmans et al., Cut Your Losses (arXiv:2411.09009), section 4.

Shapes: N trained tokens, D hidden size, V vocabulary, C tokens of a chunk, R tokens of a softmax block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import is_fake
from torch.autograd.function import once_differentiable

_BLOCK_ELEMENTS = 1 << 22
"""On a CPU softmax, and the head's gradient, work on about this many numbers at a time: blocks that stay in its
cache."""


@dataclass(frozen=True)
class LogitTransform:
    """What some models do to their logits after the head."""

    softcap: float | None = None
    """Gemma's `softcap * tanh(logits / softcap)`."""


PLAIN = LogitTransform()


def default_chunk_tokens(device: torch.device) -> int:
    """Tokens whose logits are held at a time: enough to keep the matrix products efficient, measured on both kinds
    of device.
    """
    return 512 if device.type == "cpu" else 2048


def linear_cross_entropy(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    *,
    denominator: float,
    chunk_tokens: int,
    bias_V: torch.Tensor | None = None,
    transform: LogitTransform = PLAIN,
    z_loss: float = 0.0,
) -> torch.Tensor:
    """Sum of the tokens' negative log-likelihoods divided by `denominator`, differentiable once.

    Products are computed in autocast's dtype where autocast is on, softmax in float32 (float64 for float64).

    With `z_loss` each token adds `z_loss * log(Z)^2`, Z the sum over the vocabulary of the exponentials of its logits:
    it keeps the logits from drifting. Source: Chowdhery et al., PaLM (arXiv:2204.02311), section 5, with 1e-4.

    Args:
        hidden_ND: last hidden states of the tokens that are trained, (N, D).
        weight_VD: weight of the head, (V, D); its gradient is computed only when it requires one.
        targets_N: the tokens to predict, int64 (N,).
        denominator: trained tokens of the global batch, so that microbatches add up to the mean.
        chunk_tokens: tokens whose logits are held at a time.
        bias_V: bias of the head, (V,).
        transform: what the model does to its logits.
        z_loss: factor of log(Z)^2; 0 leaves it out.

    Returns:
        A scalar in softmax's dtype.
    """
    loss: torch.Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, bias_V, targets_N, denominator, chunk_tokens, transform, z_loss
    )
    return loss


def token_cross_entropy(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    targets_N: torch.Tensor,
    *,
    chunk_tokens: int,
    bias_V: torch.Tensor | None = None,
    transform: LogitTransform = PLAIN,
) -> torch.Tensor:
    """Negative log-likelihood of each token, (N,), without a gradient; arguments as for `linear_cross_entropy`.

    There is no z-loss here: it is no part of a perplexity.
    """
    head = _Head(hidden_ND, weight_VD, bias_V, transform)
    losses_N = torch.empty(len(targets_N), dtype=head.softmax_dtype, device=hidden_ND.device)
    with torch.no_grad(), head.no_autocast():
        for chunk in _slices(len(targets_N), chunk_tokens):
            logits_CV = head.logits(hidden_ND[chunk])
            head.softmax_(logits_CV, targets_N[chunk], losses_N[chunk], gradient=False)
    return losses_N


def _slices(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


class _Head:
    """The head's weights in the dtype of the products, and the steps of one chunk."""

    def __init__(
        self,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        transform: LogitTransform,
        z_loss: float = 0.0,
    ) -> None:
        device = hidden_ND.device.type
        self.dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
        self.softmax_dtype = torch.promote_types(self.dtype, torch.float32)
        self.weight_VD = weight_VD.detach().to(self.dtype)
        self.bias_V = None if bias_V is None else bias_V.detach().to(self.dtype)
        self.transform = transform
        self.z_loss = z_loss
        self._device = device
        vocabulary = len(weight_VD)
        on_cpu = device == "cpu"
        self._block_rows = max(1, _BLOCK_ELEMENTS // vocabulary) if on_cpu else 1 << 30
        self.part_rows = max(1, _BLOCK_ELEMENTS // weight_VD.shape[1]) if on_cpu else vocabulary
        """Rows of the head's gradient that are computed at a time."""

    def no_autocast(self) -> torch.autocast:
        return torch.autocast(self._device, enabled=False)

    def logits(self, hidden_CD: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(hidden_CD.to(self.dtype), self.weight_VD, self.bias_V)

    def softmax_(
        self, logits_CV: torch.Tensor, targets_C: torch.Tensor, losses_C: torch.Tensor, *, gradient: bool
    ) -> None:
        """Write each token's loss to `losses_C` and, on request, its gradient over the logits."""
        for block in _slices(len(targets_C), self._block_rows):
            self._softmax_block_(logits_CV[block], targets_C[block], losses_C[block], gradient=gradient)

    def _softmax_block_(
        self, logits_RV: torch.Tensor, targets_R: torch.Tensor, losses_R: torch.Tensor, *, gradient: bool
    ) -> None:
        scores_RV = logits_RV.to(self.softmax_dtype)
        cap = self.transform.softcap
        if cap is not None:
            scores_RV = torch.tanh(scores_RV / cap).mul_(cap)
        probabilities_RV = torch.softmax(scores_RV, -1)
        # The log of the sum is read off the largest entry, whose probability cannot underflow: an `exp` of its own
        # over all logits would cost more than this softmax does.
        rows_R = torch.arange(len(targets_R), device=targets_R.device)
        top_R, index_R = scores_RV.max(-1)
        log_z_R = top_R - probabilities_RV[rows_R, index_R].log()
        losses_R.copy_(log_z_R - scores_RV[rows_R, targets_R])
        if self.z_loss:
            # d(z log(Z)^2) / d(score) = 2 z log(Z) * probability: one more factor on what is there already.
            losses_R.addcmul_(log_z_R, log_z_R, value=self.z_loss)
            probabilities_RV *= (log_z_R * (2 * self.z_loss) + 1)[:, None]
        if not gradient:
            return
        probabilities_RV[rows_R, targets_R] -= 1
        if cap is not None:
            probabilities_RV *= 1 - (scores_RV / cap).square_()
        logits_RV.copy_(probabilities_RV)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_N: torch.Tensor,
        denominator: float,
        chunk_tokens: int,
        transform: LogitTransform,
        z_loss: float,
    ) -> torch.Tensor:
        head = _Head(hidden_ND, weight_VD, bias_V, transform, z_loss)
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        gradient = needs_hidden or needs_weight or needs_bias
        losses_N = torch.empty(len(targets_N), dtype=head.softmax_dtype, device=hidden_ND.device)
        grad_hidden_ND = torch.empty_like(hidden_ND) if needs_hidden else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=head.softmax_dtype) if needs_weight else None
        grad_bias_V = None
        if needs_bias and bias_V is not None:
            grad_bias_V = torch.zeros_like(bias_V, dtype=head.softmax_dtype)
        with head.no_autocast():
            for chunk in _slices(len(targets_N), chunk_tokens):
                hidden_CD = hidden_ND[chunk].to(head.dtype)
                logits_CV = head.logits(hidden_CD)
                head.softmax_(logits_CV, targets_N[chunk], losses_N[chunk], gradient=gradient)
                if grad_hidden_ND is not None:
                    grad_hidden_ND[chunk] = (logits_CV @ head.weight_VD).to(head.softmax_dtype).div_(denominator)
                if grad_weight_VD is not None:
                    for part in _slices(len(weight_VD), head.part_rows):
                        grad_weight_VD[part].add_(logits_CV[:, part].t() @ hidden_CD, alpha=1 / denominator)
                if grad_bias_V is not None:
                    grad_bias_V.add_(logits_CV.sum(0, dtype=head.softmax_dtype), alpha=1 / denominator)
        ctx.save_for_backward(
            grad_hidden_ND,
            None if grad_weight_VD is None else grad_weight_VD.to(weight_VD.dtype),
            None if grad_bias_V is None or bias_V is None else grad_bias_V.to(bias_V.dtype),
        )
        return losses_N.sum() / denominator

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients = ctx.saved_tensors
        if not _is_one(grad):
            gradients = [None if each is None else each * grad.to(each.dtype) for each in gradients]
        return (*gradients, None, None, None, None, None)


def _is_one(grad: torch.Tensor) -> bool:
    """Whether a multiplication can be left out. A GPU is not asked, since that would wait for it; a fake tensor has
    no value.
    """
    return grad.device.type == "cpu" and (is_fake(grad) or float(grad) == 1.0)
