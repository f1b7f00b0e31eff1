"""context_recall: whether the passages that were found hold what the right answer needs."""

from __future__ import annotations

from genai.evaluation.interfaces import OutcomeKind
from genai.evaluation.judges.claims import claims_request
from genai.evaluation.judges.judge import Request
from genai.evaluation.judges.judged_metric import JudgedMetric
from genai.evaluation.judges.prompting import found_passages
from genai.evaluation.judges.verdicts import Opinion
from genai.evaluation.records import Example, Outcome, Unscored


class ContextRecall(JudgedMetric):
    """Share of the claims of the reference (the first one) that the passages support.

    Args:
        judges: all of the job, by name.
        judge: those that this metric asks; by default the only one.
    """

    name = "context_recall"
    what = "share of the reference's claims that the passages found support, by a judge"
    kinds = ("generation", "retrieval")
    looks_at: OutcomeKind = "any"

    def request(self, example: Example, outcome: Outcome, scale: tuple[int, int]) -> Request | Opinion | Unscored:
        """See `JudgedMetric`."""
        contexts = found_passages(example, outcome)
        if not example.references or not example.references[0].strip():
            return Unscored(reason="the row has no reference")
        if contexts is None:
            return Unscored(reason="no passages came with the answer, and the row has none")
        if not contexts:
            return Opinion(value=0.0, reason="nothing was found")
        return claims_request(example, contexts, ("REFERENCE", example.references[0]))
