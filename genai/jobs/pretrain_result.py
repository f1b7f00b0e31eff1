"""What `genai pretrain` hands back: plain data for result.json, the report and the command line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """A finished pretraining run."""

    run: str
    """Name of the run."""
    path: str
    """Its directory."""
    model: str
    """Folder of the trained model, as plain transformers loads it."""
    gguf: str | None
    """The GGUF file, where one was asked for."""
    report: str
    """The HTML report."""
    num_parameters: int
    """Weights, tied ones once."""
    train_loss: float | None
    """Loss of the last step, in nats a token."""
    eval_loss: float | None
    """Loss on the held-out stream, in nats a token; None without one."""
    perplexity: float | None
    """e to the power of that."""
    eval_tokens: int
    """Tokens that it was measured on."""
    batches: int
    """Optimizer steps."""
    epochs: int
    """Complete passes over the streams."""
    tokens: int
    """Tokens seen."""
    num_ranks: int
    """Devices that trained together, at the end."""
    train_s: float
    """Seconds in training steps."""
    total_s: float
    """Seconds of the whole job (of its last process, when it was resumed)."""
    tokens_per_s: float
    """Of all devices together."""
    exact: bool
    """Whether all resumes were bit-equal continuations."""
    inexact_reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As result.json holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PretrainResult:
        """What `to_json` gave."""
        return cls(**{**values, "inexact_reasons": tuple(values["inexact_reasons"])})
