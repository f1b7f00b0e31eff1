"""Proofs on a loaded model: that a runner computes what the model itself does, and that an adapter changes it.

Shapes: P tokens of a probe; R rows of which logits are wanted; V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from genai.errors import DataError, UsageError
from genai.inference.interfaces import Answering, Part, Runner, Step
from genai.models.generation import GenerationRequest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BLOCK_SIZE = 16
_LENGTHS = (20, 18)
_TABLES = ((5, 2), (3, 1))
"""Blocks of the two probes, out of order."""
_EXACT = 0.01
"""Up to this tolerance no row may be further off."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the model itself makes of a text."""

    token_ids: list[int]
    logits_PV: torch.Tensor
    """float32, on the CPU."""


def probe_ids(vocab_size: int, length: int, *, first: int = 11) -> list[int]:
    """Tokens from all over the vocabulary."""
    stride = max(1, vocab_size // (length + 1)) | 1
    return [(first + stride * index) % vocab_size for index in range(length)]


@torch.inference_mode()
def own_logits(model: PreTrainedModel, vocab_size: int) -> list[Reference]:
    """What `model` makes of two short texts, by its own forward pass."""
    found = []
    for length in _LENGTHS:
        ids = probe_ids(vocab_size, length, first=length)
        called: Any = model
        logits_PV = called(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0]
        found.append(Reference(token_ids=ids, logits_PV=logits_PV.float().cpu()))
    return found


def check_runner(runner: Runner, references: Sequence[Reference], *, tolerance: float, name: str) -> None:
    """Read the texts in pieces, mixed with one another, and compare with what the model made of them.

    The runner's cache is used up by it: `allocate` afterwards.

    Args:
        runner: freshly made.
        references: see `own_logits`.
        tolerance: how far logits may be off, as a share of their spread; see `_judged`.
        name: what the user calls the model.

    Raises:
        UsageError: they differ.
    """
    runner.allocate(2 + max(map(max, _TABLES)), _BLOCK_SIZE)
    sequences = [
        Answering(request=GenerationRequest(id=str(at), model="", prompt_ids=reference.token_ids), arrival=0.0)
        for at, reference in enumerate(references)
    ]
    for sequence, blocks in zip(sequences, _TABLES, strict=True):
        sequence.blocks = list(blocks)
    first, second = sequences
    num_first, num_second = _LENGTHS
    steps = [
        [(first, 0, 7)],
        [(first, 7, num_first - 1), (second, 0, num_second - 1)],
        [(first, num_first - 1, num_first), (second, num_second - 1, num_second)],
    ]
    theirs = [reference.logits_PV for reference in references]
    distances = []
    for pieces in steps:
        ours_RV = runner.forward(_step(pieces, _BLOCK_SIZE)).cpu()
        distances.append(_distances(ours_RV, torch.cat([theirs[int(each.id)][a:b] for each, a, b in pieces])))
    distance = _judged(torch.cat(distances), tolerance)
    if distance > tolerance:
        raise UsageError(
            f"{name} cannot be served by the local engine: its logits are not the model's own "
            f"(off by {distance:.1%} of their spread, {tolerance:.1%} are allowed)",
            fix="this architecture does something that reading in pieces does not allow for",
        )


def prove_effect(runner: Runner, *, slot: int, block_size: int) -> None:
    """See that the adapter in `slot` changes what the model says.

    It reads into block 0 of the cache, which belongs to no sequence, so that it can be done between any two steps.

    Raises:
        DataError: it changes nothing, or makes numbers that are not finite.
    """
    ids = probe_ids(runner.vocab_size, min(block_size, 8))
    plain_RV, changed_RV = (_logits_in_block_zero(runner, ids, slot, block_size) for slot in (0, slot))
    if not bool(changed_RV.isfinite().all()):
        raise DataError("with the adapter the model's logits are not finite", fix="train the adapter again")
    if torch.equal(plain_RV, changed_RV):
        raise DataError(
            "the adapter has no effect: the model's logits are the same with and without it",
            fix="its matrices are too small for the model's number format; was it trained?",
        )


def _logits_in_block_zero(runner: Runner, ids: list[int], slot: int, block_size: int) -> torch.Tensor:
    request = GenerationRequest(id="probe", model="", prompt_ids=ids)
    sequence = Answering(request=request, arrival=0.0, blocks=[0], adapter_slot=slot)
    return runner.forward(_step([(sequence, 0, len(ids))], block_size))


def _step(pieces: Sequence[tuple[Answering, int, int]], block_size: int) -> Step:
    parts = [_part(*piece, block_size) for piece in pieces]
    return Step(parts=parts, num_decodes=sum(len(part.token_ids) == 1 for part in parts), block_size=block_size)


def _part(sequence: Answering, start: int, stop: int, block_size: int) -> Part:
    return Part(
        sequence=sequence,
        start=start,
        token_ids=sequence.request.prompt_ids[start:stop],
        slots=[sequence.blocks[at // block_size] * block_size + at % block_size for at in range(start, stop)],
        wants_logits=stop == len(sequence.request.prompt_ids),
        wants_all_logits=True,
    )


def _distances(ours_RV: torch.Tensor, theirs_RV: torch.Tensor) -> torch.Tensor:
    """(R,) root mean square of the difference, as a share of each row's spread; infinite where something is missing."""
    if ours_RV.shape != theirs_RV.shape:
        return torch.tensor([float("inf")])
    spread_R = theirs_RV.std(dim=1).clamp_min(1e-30)
    distances_R = (ours_RV - theirs_RV).square().mean(dim=1).sqrt() / spread_R
    return distances_R.nan_to_num(nan=float("inf"))


def _judged(distances: torch.Tensor, tolerance: float) -> float:
    """The distance that counts: the worst where products are exact, else that of three rows in four.

    Rounding sends a token to another expert now and then, which moves its logits much and those of few others.
    """
    return float(distances.max() if tolerance <= _EXACT else distances.quantile(0.75))
