"""What metrics have in common that ask judges."""

from __future__ import annotations

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from genai.config.eval import DatasetKind
from genai.evaluation.interfaces import Floats, OutcomeKind
from genai.evaluation.judges.judge import Judge, Request, Verdict
from genai.evaluation.judges.panel import chosen, score_of
from genai.evaluation.judges.verdicts import Opinion
from genai.evaluation.records import Answer, Chat, Example, Outcome, Score, Unscored, Usage
from genai.metrics.aggregates import mean

PROBE = Example(
    id="probe",
    dataset="probe",
    kind="generation",
    question=Chat(prompt="What do bees eat?"),
    references=("Honey.",),
    contexts=("Bees eat honey.", "Bees fly."),
)
PROBE_ANSWER = Answer(text="They eat honey [1].", contexts=PROBE.contexts)
"""Put to a judge on paper only: the hash of the prompt says which version of the prompts was used."""


class JudgedMetric(ABC):
    """A figure from 0 to 1 that one judge or several give; the mean over examples is the figure of a data set.

    Args:
        judges: all of the job, by name.
        judge: those that this metric asks; by default the only one.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    kinds: ClassVar[tuple[DatasetKind, ...]] = ("generation", "classification")
    higher_is_better: bool = True
    looks_at: OutcomeKind = "answer"
    unit: str = ""

    def __init__(self, *, judges: Mapping[str, Judge], judge: str | Sequence[str] | None = None) -> None:
        self.judges = chosen(judges, judge, metric=self.name)

    @abstractmethod
    def request(self, example: Example, outcome: Outcome, scale: tuple[int, int]) -> Request | Opinion | Unscored:
        """What a judge is asked of one example; or what can be said without asking; or why nothing can be said.

        Args:
            example: with what is right.
            outcome: what is judged.
            scale: the judge's.
        """

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """The mean of the judges; `Unscored` where one of them gave no verdict.

        Raises:
            GenaiError: a judge's target fails for all questions alike.
        """

        async def ask(judge: Judge) -> Verdict | Unscored:
            request = self.request(example, outcome, judge.scale)
            if isinstance(request, Opinion):
                return Verdict(opinion=request, attempts=0, usage=Usage())
            return request if isinstance(request, Unscored) else await judge.ask(request)

        return await score_of(self.judges, ask)

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """The mean; see `Metric`."""
        return mean(parts_NP, weights_RN)

    def only(self, judge: Judge) -> Self:
        """The same metric with one judge, to be calibrated."""
        alone = copy.copy(self)
        alone.judges = (judge,)
        return alone

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of the judges and of the very words that they are asked with."""
        asked = [[judge.fingerprint, *self._words(judge)] for judge in self.judges]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    def _words(self, judge: Judge) -> list[object]:
        request = self.request(PROBE, PROBE_ANSWER, judge.scale)
        assert isinstance(request, Request), "the probe has all that a metric may need"
        return [request.messages, request.json_schema]
