"""A metric whose scores are there already, because another product made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from genai.evaluation.interfaces import Floats, OutcomeKind
from genai.evaluation.records import Example, Outcome, Score, Unscored


class LoggedMetric:
    """What another product scored, example by example, and how it adds that up.

    Args:
        name: of the metric there.
        higher_is_better: what it says of that.
        scores: id of an example -> its score.
        aggregate: (parts_NP, weights_RN) -> (R,), the figure that the product itself would have found.
    """

    looks_at: OutcomeKind = "any"
    unit = ""

    def __init__(
        self,
        name: str,
        *,
        higher_is_better: bool,
        scores: Mapping[str, Score],
        aggregate: Callable[[Floats, Floats], Floats],
    ) -> None:
        self.name = name
        self.higher_is_better = higher_is_better
        self._scores = scores
        self._aggregate = aggregate

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """The score that was logged; nothing is measured again."""
        found = self._scores.get(example.id)
        return Unscored(reason="it was not scored there") if found is None else found

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """The figure over examples, for many weightings at once."""
        return self._aggregate(parts_NP, weights_RN)
