"""groundedness: which share of an answer's claims follows from the passages that it rests on."""

from __future__ import annotations

from genai.evaluation.judges.claims import claims_request
from genai.evaluation.judges.judge import Request
from genai.evaluation.judges.judged_metric import JudgedMetric
from genai.evaluation.judges.prompting import answer_text
from genai.evaluation.judges.verdicts import Opinion
from genai.evaluation.records import Answer, Example, Outcome, Unscored


class Groundedness(JudgedMetric):
    """Share of the claims of an answer that its passages support; the mean over answers that claim something.

    The passages are those that came with the answer (of a retrieval chain), else those of the row.

    Args:
        judges: all of the job, by name.
        judge: those that this metric asks; by default the only one.
    """

    name = "groundedness"
    what = "share of an answer's claims that its passages support, by a judge"
    kinds = ("generation",)

    def request(self, example: Example, outcome: Outcome, scale: tuple[int, int]) -> Request | Opinion | Unscored:
        """See `JudgedMetric`."""
        text = answer_text(example, outcome).strip()
        contexts = (outcome.contexts if isinstance(outcome, Answer) else ()) or example.contexts
        if not text:
            return Unscored(reason="there is no answer to check")
        if not contexts:
            return Unscored(reason="neither the answer nor the row has passages")
        return claims_request(example, contexts, ("ANSWER", text))
