"""Proof that the gradient does not depend on how a batch is cut into microbatches.

A mean per microbatch weighs the tokens of short answers more than those of long ones, and nothing in a loss curve shows
it (transformers #34191). Four rows with unequal numbers of trained tokens bring it to light.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genai.errors import Problem
from genai.training.proofs.probe import in_float32, is_quantised
from genai.training.proofs.result import ProofResult, refuted
from genai.training.step import accumulate_gradients

if TYPE_CHECKING:
    from genai.data.batches import Batch
    from genai.data.tokenized import TokenizedRows
    from genai.training.proofs.probe import ProvableLoss

TOLERANCE = 1e-4
"""Largest norm of the difference of two gradients, as a share of their norm, that is put down to rounding."""

_LENGTHS = (32, 21, 13, 6)
"""Tokens of the four rows; all but the first of each are trained."""


def prove_accumulation(
    model_loss: ProvableLoss,
    rows: TokenizedRows,
    *,
    pad_token_id: int,
    accumulate: Callable[..., float] = accumulate_gradients,
) -> ProofResult:
    """Compare the gradient of four rows at once with that of one at a time, in float32; the model is left as it was.

    Args:
        model_loss: the trainer's forward pass.
        rows: training rows, whose beginnings are used.
        pad_token_id: fills the end of the shorter rows.
        accumulate: the trainer's step function.

    Raises:
        GateError: the two differ, or there is no gradient at all.
    """
    started = time.perf_counter()
    if is_quantised(model_loss.model):
        return ProofResult(name="accumulation", ok=False, details=("not looked at: the base's weights are quantised",))
    batch = _unequal_rows(rows, pad_token_id)
    with in_float32(model_loss) as scope:
        accumulate(model_loss, batch, microbatch_size=len(_LENGTHS))
        gradients = [p.grad for p in model_loss.model.parameters() if p.grad is not None]
        norm = _norm(gradients)
        # The second gradient is added to the first one's negative: no more memory than training itself takes.
        for gradient in gradients:
            gradient.neg_()
        accumulate(model_loss, batch, microbatch_size=1)
        difference = _norm(gradients) / norm if norm else math.nan
    _judge(norm, difference)
    return ProofResult(
        name="accumulation",
        seconds=time.perf_counter() - started,
        details=(
            f"microbatches of 1 and of {len(_LENGTHS)} rows give the same gradient within {difference:.1e} of its norm "
            f"({scope}, float32)",
        ),
        numbers={"relative_difference": difference, "gradient_norm": norm},
    )


def _judge(norm: float, difference: float) -> None:
    if not (math.isfinite(norm) and norm > 0):
        message = f"the gradient of {len(_LENGTHS)} training rows has the norm {norm:g}: nothing would be learnt"
        fix = "look at the weights that are loaded (model, load_path) and at what is trained (model.peft_config)"
        raise refuted([Problem(message=message, where="proofs.accumulation", fix=fix)])
    # Written so that NaN is a failure.
    if not difference <= TOLERANCE:
        sizes = f"1 and {len(_LENGTHS)} rows at a time"
        message = f"the gradient depends on the microbatch size: {sizes} differ by {difference:.2g} of its norm"
        fix = "set device_train_microbatch_size to global_train_batch_size, so that nothing is accumulated"
        raise refuted([Problem(message=message, where="proofs.accumulation", fix=fix)])


def _unequal_rows(rows: TokenizedRows, pad_token_id: int) -> Batch:
    """Four rows of unequal lengths, all of their tokens trained: the beginnings of rows spread over the data."""
    from genai.data.batches import assemble
    from genai.data.tokenized import TokenizedRows

    indices = np.linspace(0, len(rows) - 1, num=len(_LENGTHS), dtype=np.int64)
    # Repeated where a row is too short.
    pieces = [np.resize(rows.example(int(index))[0], length) for index, length in zip(indices, _LENGTHS, strict=True)]
    examples = [(index,) for index in range(len(pieces))]
    unequal = TokenizedRows.from_lists([list(map(int, piece)) for piece in pieces])
    return assemble(unequal, examples, seq_len=max(_LENGTHS), pad_token_id=pad_token_id)


def _norm(gradients: list[Any]) -> float:
    return math.sqrt(sum(float(torch.linalg.vector_norm(gradient)) ** 2 for gradient in gradients))
