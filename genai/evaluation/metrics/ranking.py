"""How good the documents are that were found: recall@10, ndcg@10, mrr@10, map@100, precision@5, hit_rate@1."""

from __future__ import annotations

from genai.config.eval import DatasetKind
from genai.evaluation.interfaces import Floats, OutcomeKind
from genai.evaluation.metrics.base import unfit
from genai.evaluation.records import Example, Outcome, Ranking, Score, Unscored
from genai.metrics import aggregates
from genai.metrics.retrieval import parse_metric


class RankingMetric:
    """A measure of rankings, the mean over all queries.

    Args:
        depth: how many places it looks at.
    """

    measure: str
    what: str
    """In one sentence, for the list of metrics."""
    kinds: tuple[DatasetKind, ...] = ("retrieval",)
    """Of data sets that it can be measured on."""
    looks_at: OutcomeKind = "ranking"
    higher_is_better: bool = True
    unit: str = ""

    def __init__(self, *, depth: int) -> None:
        self.name = f"{self.measure}@{depth}"
        self.depth = depth
        self._of = parse_metric(self.name)

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """Of one query; one to which nothing is relevant is left unscored."""
        if not isinstance(outcome, Ranking):
            return unfit("rankings", outcome)
        if not any(grade > 0 for grade in example.relevant.values()):
            return Unscored(reason="the row names no relevant document")
        value = self._of(outcome.keys, example.relevant)
        return Score(parts=(value,), value=value)

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """The weighted mean over queries."""
        return aggregates.mean(parts_NP, weights_RN)


class Recall(RankingMetric):
    """See `genai.metrics.retrieval.recall_at_k`."""

    measure = "recall"
    what = "share of the relevant documents that is among the first K"


class Precision(RankingMetric):
    """See `genai.metrics.retrieval.precision_at_k`."""

    measure = "precision"
    what = "share of the first K places that relevant documents take"


class HitRate(RankingMetric):
    """See `genai.metrics.retrieval.hit_rate_at_k`."""

    measure = "hit_rate"
    what = "share of queries with a relevant document among the first K"


class ReciprocalRank(RankingMetric):
    """See `genai.metrics.retrieval.mrr_at_k`."""

    measure = "mrr"
    what = "one divided by the rank of the first relevant document among the first K"


class MeanAveragePrecision(RankingMetric):
    """See `genai.metrics.retrieval.map_at_k`."""

    measure = "map"
    what = "average precision at the ranks of the relevant documents among the first K"


class Ndcg(RankingMetric):
    """See `genai.metrics.retrieval.ndcg_at_k`."""

    measure = "ndcg"
    what = "discounted gain of the first K documents, as a share of the best possible one"
