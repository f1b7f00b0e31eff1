"""Reports that explain a run to people: HTML pages that need no network, and text for terminals."""

from genai.report.contents import (
    AnswerPair,
    DocumentRow,
    IndexReport,
    LabelSample,
    Lengths,
    LossRow,
    MapPoint,
    ProofOutcome,
    Report,
    TrainingReport,
)
from genai.report.index import render_index_report
from genai.report.training import render_training_report

__all__ = [
    "AnswerPair",
    "DocumentRow",
    "IndexReport",
    "LabelSample",
    "Lengths",
    "LossRow",
    "MapPoint",
    "ProofOutcome",
    "Report",
    "TrainingReport",
    "render_index_report",
    "render_training_report",
]
