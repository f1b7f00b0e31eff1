"""Reports that explain a run to people: HTML pages that need no network, and text for terminals."""

from genai.report.contents import (
    AnswerPair,
    LabelSample,
    Lengths,
    LossRow,
    ProofOutcome,
    TrainingReport,
)
from genai.report.training import render_training_report

__all__ = [
    "AnswerPair",
    "LabelSample",
    "Lengths",
    "LossRow",
    "ProofOutcome",
    "TrainingReport",
    "render_training_report",
]
