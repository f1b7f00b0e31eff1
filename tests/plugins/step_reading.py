"""A scheduler of twenty lines: it builds steps by hand, so that runners can be tested without the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genai.inference.interfaces import Answering, Part, Runner, Step
from genai.models.generation import GenerationRequest


def answering(token_ids: Sequence[int], blocks: Sequence[int], *, slot: int = 0, name: str = "a") -> Answering:
    """A sequence that was given these blocks."""
    request = GenerationRequest(id=name, model="m", prompt_ids=list(token_ids))
    return Answering(request=request, arrival=0.0, blocks=list(blocks), adapter_slot=slot)


def next_part(sequence: Answering, chunk: int, block_size: int) -> Part:
    """The next tokens of a sequence, at most `chunk`."""
    tokens = [*sequence.request.prompt_ids, *sequence.output_ids]
    start = sequence.num_computed
    stop = min(len(tokens), start + chunk)
    slots = [sequence.blocks[at // block_size] * block_size + at % block_size for at in range(start, stop)]
    return Part(sequence, start, tokens[start:stop], slots, stop == len(tokens))


def make_step(parts: Sequence[Part], block_size: int) -> Step:
    """As `Step` promises: single tokens first, equal adapters together."""
    ordered = sorted(parts, key=lambda part: (len(part.token_ids) > 1, part.sequence.adapter_slot))
    return Step(ordered, sum(len(part.token_ids) == 1 for part in ordered), block_size)


def greedy(
    runner: Runner,
    prompts: Sequence[Sequence[int]],
    num_new: int,
    *,
    slots: Sequence[int] | None = None,
    chunk: int = 5,
    block_size: int = 4,
    on_logits: Any = None,
) -> list[list[int]]:
    """The likeliest tokens of all prompts, read together: a chunk of each prompt a step, beside answers that go on.

    Prompts begin one step after the other; blocks are given out crosswise, so that neighbours never belong together.
    """
    each = -(-(max(map(len, prompts)) + num_new) // block_size)
    runner.allocate(1 + each * len(prompts), block_size)
    sequences = [
        answering(prompt, [1 + at + len(prompts) * block for block in range(each)], name=str(at))
        for at, prompt in enumerate(prompts)
    ]
    for sequence, slot in zip(sequences, slots or [0] * len(prompts), strict=True):
        sequence.adapter_slot = slot
    begun = 0
    while any(len(sequence.output_ids) < num_new for sequence in sequences):
        begun = min(begun + 1, len(sequences))
        open_ones = [sequence for sequence in sequences[:begun] if len(sequence.output_ids) < num_new]
        step = make_step([next_part(sequence, chunk, block_size) for sequence in open_ones], block_size)
        logits_RV = runner.forward(step)
        wanted = [part for part in step.parts if part.wants_logits]
        assert len(logits_RV) == len(wanted)
        for part, logits_V in zip(wanted, logits_RV, strict=True):
            part.sequence.output_ids.append(int(logits_V.argmax()))
            if on_logits is not None:
                on_logits(part, logits_V)
        for part in step.parts:
            part.sequence.num_computed = part.stop
    return [sequence.output_ids for sequence in sequences]
