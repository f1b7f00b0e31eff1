"""What the parts of the `local` engine say to each other.

    scheduler  chooses what the next step reads             -> Step
    runner     reads it with a model                        -> logits (R, V)
    sampler    chooses a token for each row                 -> Sampled
    text       turns tokens into text and finds the end

Shapes: T all tokens of a step, laid end to end; S sequences of a step; R rows of which logits are wanted; V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from genai.errors import GenaiError
from genai.models.generation import FaultCode, GenerationRequest

if TYPE_CHECKING:
    import torch


class RefusedError(GenaiError):
    """A request that cannot be carried out; becomes a `Fault`.

    Args:
        message: for the one who asked.
        fault: which kind.
        param: the part of the request that is to blame.
    """

    def __init__(self, message: str, *, fault: FaultCode = "invalid", param: str | None = None) -> None:
        super().__init__(message)
        self.fault = fault
        self.param = param


# --- sequences --------------------------------------------------------------------------------------------------------


class Constraint(Protocol):
    """What an answer may still become."""

    def fill_mask(self, mask: torch.Tensor) -> None:
        """Set the bits of the tokens that may come next.

        Args:
            mask: (ceil(V / 32),) int32, bit i % 32 of number i // 32 for token i; overwritten.
        """

    def accept(self, token_id: int) -> None:
        """The answer goes on with this token."""

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow any more (the answer is complete)."""


@dataclass(eq=False, slots=True)
class Answering:
    """One answer under way; owned by the engine's thread."""

    request: GenerationRequest
    arrival: float
    """time.monotonic() when the engine got it."""
    constraint: Constraint | None = None
    output_ids: list[int] = field(default_factory=list)
    """Tokens of the answer so far."""
    num_computed: int = 0
    """Tokens of prompt and answer whose keys and values lie in the cache."""
    blocks: list[int] = field(default_factory=list)
    """Blocks of the cache that hold them, in order."""
    num_cached: int = 0
    """Tokens of the prompt that were found in the cache at the first admission."""
    adapter_slot: int = 0
    """Where the runner keeps its adapter; 0: no adapter."""
    cache_salt: int = 0
    """Keys and values are shared by sequences of the same salt only; one for each adapter that was ever loaded, never
    used again; 0: no adapter."""
    num_preempted: int = 0

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def num_tokens(self) -> int:
        """Of prompt and answer so far."""
        return len(self.request.prompt_ids) + len(self.output_ids)


# --- a step -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """What a step reads of one sequence: its tokens from `num_computed` on."""

    sequence: Answering
    start: int
    """Place of the first token that is read, counted from the beginning of the prompt (= tokens computed before)."""
    token_ids: list[int]
    """The tokens that are read: one when the answer goes on, a chunk of the prompt before."""
    slots: list[int]
    """Where each one's key and value go: block * block_size + place in the block."""
    wants_logits: bool
    """Whether the last token is the sequence's last one, so that the next is chosen from its logits."""
    wants_all_logits: bool = False
    """Whether logits of every token of this part are wanted (`prompt_logprobs`)."""

    @property
    def stop(self) -> int:
        """Place behind the last token that is read = context that the last one sees."""
        return self.start + len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Step:
    """What the model reads at once: first all parts of one token, then the longer ones; within each, parts of the same
    adapter lie together.
    """

    parts: list[Part]
    num_decodes: int
    """How many parts at the beginning have one token."""
    block_size: int

    @property
    def num_tokens(self) -> int:
        """T."""
        return sum(len(part.token_ids) for part in self.parts)


class Runner(Protocol):
    """A model that reads steps; owns the cache of keys and values."""

    @property
    def vocab_size(self) -> int:
        """V: logits have so many columns."""

    @property
    def max_positions(self) -> int:
        """The context that the model was made for."""

    @property
    def kv_bytes_per_token(self) -> int:
        """Of one token in all layers, keys and values."""

    @property
    def weight_bytes(self) -> int:
        """In memory."""

    def allocate(self, num_blocks: int, block_size: int) -> None:
        """Make the cache anew, empty. Block 0 is never given to a sequence: padding may be written there."""

    def forward(self, step: Step) -> torch.Tensor:
        """Read a step.

        Returns:
            (R, V) float32 on the CPU (or the runner's device): for each part in order, a row for its last token where
            `wants_logits`, or rows for all of its tokens where `wants_all_logits`; a part with neither has none.
        """

    def close(self) -> None:
        """Let go of weights and cache."""


# --- choosing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was chosen for one sequence."""

    token_id: int
    logprob: float | None = None
    """Of the token, by the model's own logits; None where not asked for."""
    rank: int = 0
    top: Sequence[tuple[int, float]] = ()
    """The likeliest tokens and their log-probabilities, best first."""
