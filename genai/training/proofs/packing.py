"""Proof that documents packed into one row do not see each other.

Run on the real model, through the trainer's own forward pass, with the beginnings of real rows: packed side by side
they must give the logits that they give alone, and exchanging the first one must not move those of the others.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from genai.errors import GenaiError, Problem
from genai.training.proofs.probe import in_float32, is_quantised
from genai.training.proofs.result import ProofResult, refuted
from genai.training.step import microbatches

if TYPE_CHECKING:
    from genai.data.batches import Batch
    from genai.data.tokenized import TokenizedRows
    from genai.training.forward import CausalLMLoss

TOLERANCE = 1e-4
"""Largest difference of two logits that is put down to rounding, for logits up to 10; for larger ones 1e-5 of them."""

_LENGTHS = (40, 29, 37)
"""Tokens of the documents: unequal, and no multiple of anything a kernel might work in."""


def prove_packing(model_loss: CausalLMLoss, rows: TokenizedRows, *, pad_token_id: int) -> ProofResult:
    """Compare packed documents with separate ones, in float32; the model is left as it was.

    Args:
        model_loss: the trainer's forward pass.
        rows: training rows, whose beginnings are packed.
        pad_token_id: fills the end of the packed row.

    Raises:
        GateError: documents see each other, or what stands beside them.
    """
    started = time.perf_counter()
    if is_quantised(model_loss.model):
        return ProofResult(name="packing", ok=False, details=("not looked at: the base's weights are quantised",))
    documents = _documents(rows)
    strangers = [_other_tokens(documents, pad_token_id), *documents[1:]]
    with in_float32(model_loss) as scope, torch.no_grad():
        try:
            packed = _packed_logits(model_loss, documents, pad_token_id)
            moved = _packed_logits(model_loss, strangers, pad_token_id)
            alone = [_packed_logits(model_loss, [document], pad_token_id)[0] for document in documents]
        except GenaiError as error:
            raise refuted(error.problems) from error
    difference = _largest_difference(packed, alone)
    leak = _largest_difference(packed[1:], moved[1:])
    tolerance = max(TOLERANCE, TOLERANCE / 10 * max(float(logits.abs().max()) for logits in alone))
    _judge(difference, leak, tolerance)
    return ProofResult(
        name="packing",
        seconds=time.perf_counter() - started,
        details=(
            f"packed and separate logits differ by {difference:.1e}, and by {leak:.1e} when the neighbour changes "
            f"({scope}, float32)",
        ),
        numbers={"packed_difference": difference, "neighbour_difference": leak, "tolerance": tolerance},
    )


def _judge(difference: float, leak: float, tolerance: float) -> None:
    problems = []
    # Written so that NaN is a failure.
    if not leak <= tolerance:
        problems.append(f"a packed document sees its neighbour: changing that one moves its logits by {leak:.2g}")
    if not difference <= tolerance:
        problems.append(f"packed documents do not give the logits they give alone: these differ by {difference:.2g}")
    if problems:
        fix = "set train_loader.dataset.packing_ratio: null, or another model.attn_implementation (sdpa, eager)"
        raise refuted([Problem(message=message, where="proofs.packing", fix=fix) for message in problems])


def _documents(rows: TokenizedRows) -> list[list[int]]:
    """The beginnings of rows spread over the data, repeated where a row is too short."""
    indices = np.linspace(0, len(rows) - 1, num=len(_LENGTHS), dtype=np.int64)
    pieces = (np.resize(rows.example(int(index))[0], length) for index, length in zip(indices, _LENGTHS, strict=True))
    return [list(map(int, piece)) for piece in pieces]


def _other_tokens(documents: list[list[int]], pad_token_id: int) -> list[int]:
    """A document as long as the first one that differs from it in every token, made of tokens of all of them."""
    known = sorted({pad_token_id}.union(*documents))
    following = dict(zip(known, [*known[1:], known[0]], strict=True))
    return [following[token] for token in documents[0]]


def _packed_logits(model_loss: CausalLMLoss, documents: list[list[int]], pad_token_id: int) -> list[torch.Tensor]:
    """The logits of each document, (length, vocabulary), computed in one row with padding at its end."""
    from genai.data.batches import assemble
    from genai.data.tokenized import TokenizedRows

    lengths = [len(document) for document in documents]
    padding = 11 if len(documents) > 1 else 0
    row = tuple(range(len(documents)))
    batch: Batch = assemble(
        TokenizedRows.from_lists(documents), [row], seq_len=sum(lengths) + padding, pad_token_id=pad_token_id
    )
    (tensors,) = microbatches(batch, 1, model_loss.device)
    logits = model_loss.logits(tensors)[0]
    return list(torch.split(logits[: sum(lengths)], lengths))


def _largest_difference(some: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(some, others, strict=True))
