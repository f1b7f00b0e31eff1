"""What a proof says, and how it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from genai.errors import GateError, Problem
from genai.training.proofs.rendering import Piece, RenderedExample


@dataclass(frozen=True, kw_only=True)
class ProofResult:
    """A proof that held."""

    name: str
    """Which proof: disk, labels, packing, accumulation, export."""
    ok: bool = True
    """False: it was not carried out, and the details say why. A proof that is refuted raises."""
    seconds: float = 0.0
    """Wall time it took."""
    details: tuple[str, ...] = ()
    """What was seen, one line each; the first is the summary."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What was measured."""
    examples: tuple[RenderedExample, ...] = ()
    """Rendered examples of the labels proof."""
    cached: bool = False
    """Whether it held in an earlier run of the same config, model and data, and was not repeated."""

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ProofResult:
        """The result that `to_json` gave."""
        examples = tuple(
            RenderedExample(source=example["source"], pieces=tuple(Piece(**piece) for piece in example["pieces"]))
            for example in values["examples"]
        )
        return cls(**{**values, "details": tuple(values["details"]), "examples": examples})


def refuted(problems: Sequence[Problem]) -> GateError:
    """The error that stops the job, with every problem that was found."""
    first = problems[0]
    error = GateError(first.message, where=first.where, fix=first.fix)
    error.problems = tuple(problems)
    return error
