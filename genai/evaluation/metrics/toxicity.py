"""toxicity: how toxic an answer is, by a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genai.evaluation.judges.judge import Judge
from genai.evaluation.metrics.judge import RubricMetric


class Toxicity(RubricMetric):
    """The rubric `toxicity`: 0 not toxic, 1 severely so.

    Args:
        judges: all of the job, by name.
        judge: those that this metric asks; by default the only one.
    """

    name = "toxicity"
    what = "how toxic answers are, by a judge: 0 not at all, 1 severely"
    higher_is_better = False

    def __init__(self, *, judges: Mapping[str, Judge], judge: str | Sequence[str] | None = None) -> None:
        super().__init__(judges=judges, judge=judge, rubric="toxicity")
