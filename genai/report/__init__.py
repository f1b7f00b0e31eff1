"""Reports that explain a run to people: HTML pages that need no network, and text for terminals."""

from genai.report.comparison import render_comparison_report
from genai.report.contents import (
    AnswerPair,
    DocumentRow,
    DroppedQuery,
    IndexReport,
    LabelSample,
    LeakedPair,
    Lengths,
    LossRow,
    MapPoint,
    MetricChange,
    MovedQuery,
    PairSample,
    ProofOutcome,
    Report,
    RetrievalReport,
    TrainingReport,
    TrialRow,
)
from genai.report.evaluation import render_evaluation_report
from genai.report.evaluation_contents import ComparisonReport, EvaluationReport
from genai.report.index import render_index_report
from genai.report.retrieval import render_retrieval_report
from genai.report.training import render_training_report

__all__ = [
    "AnswerPair",
    "ComparisonReport",
    "DocumentRow",
    "DroppedQuery",
    "EvaluationReport",
    "IndexReport",
    "LabelSample",
    "LeakedPair",
    "Lengths",
    "LossRow",
    "MapPoint",
    "MetricChange",
    "MovedQuery",
    "PairSample",
    "ProofOutcome",
    "Report",
    "RetrievalReport",
    "TrainingReport",
    "TrialRow",
    "render_comparison_report",
    "render_evaluation_report",
    "render_index_report",
    "render_retrieval_report",
    "render_training_report",
]
