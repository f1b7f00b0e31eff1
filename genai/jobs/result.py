"""What `genai finetune` hands back: plain data for result.json, the report and the command line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One evaluation prompt, answered by the model before and after training."""

    prompt: str
    expected: str
    base: str
    tuned: str


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Held-out loss in nats a trained token; None where it was not measured."""

    before: float | None = None
    """The model as it was loaded."""
    before_with_shots: float | None = None
    """The same with training rows in its prompt."""
    after: float | None = None
    """The trained model."""
    num_shots: int = 0
    """Training rows in that prompt."""
    num_rows: int = 0
    """Evaluation rows."""
    num_tokens: int = 0
    """Trained tokens in the evaluation rows."""

    @property
    def change(self) -> float | None:
        """after / before - 1."""
        return self.after / self.before - 1 if self.after is not None and self.before else None


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """A finished fine-tuning run."""

    run: str
    """Name of the run."""
    path: str
    """Its directory."""
    model: str
    """Folder of the trained model, as plain transformers loads it."""
    adapter: str | None
    """Folder of the adapter, where one was trained."""
    gguf: str | None
    """The GGUF file, where one was asked for."""
    report: str
    """The HTML report."""
    losses: Losses
    answers: tuple[Answers, ...]
    batches: int
    """Optimizer steps."""
    epochs: float
    tokens: int
    """Tokens seen, padding left out."""
    trained_tokens: int
    train_s: float
    """Seconds in training steps."""
    total_s: float
    """Seconds of the whole job (of its last process, when it was resumed)."""
    tokens_per_s: float
    exact: bool
    """Whether all resumes were bit-equal continuations."""
    inexact_reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As result.json holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FinetuneResult:
        """What `to_json` gave."""
        return cls(
            **{
                **values,
                "losses": Losses(**values["losses"]),
                "answers": tuple(Answers(**answer) for answer in values["answers"]),
                "inexact_reasons": tuple(values["inexact_reasons"]),
            }
        )
