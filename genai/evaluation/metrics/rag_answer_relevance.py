"""answer_relevance: whether an answer addresses what was asked, by a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genai.evaluation.judges.judge import Judge
from genai.evaluation.metrics.judge import RubricMetric


class AnswerRelevance(RubricMetric):
    """The rubric `relevance`: 1 addresses all that was asked and nothing else. Whether it is true does not count.

    Args:
        judges: all of the job, by name.
        judge: those that this metric asks; by default the only one.
    """

    name = "answer_relevance"
    what = "whether answers address what was asked and nothing else, by a judge"

    def __init__(self, *, judges: Mapping[str, Judge], judge: str | Sequence[str] | None = None) -> None:
        super().__init__(judges=judges, judge=judge, rubric="relevance")
