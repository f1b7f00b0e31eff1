"""classifier: what a model for text classification thinks of answers: are they toxic, a refusal, friendly?"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from genai.config.eval import DatasetKind
from genai.errors import GenaiError, UsageError
from genai.evaluation.interfaces import Floats, OutcomeKind
from genai.evaluation.metrics.base import unfit
from genai.evaluation.records import Answer, Example, Outcome, Score, Unscored
from genai.metrics.aggregates import mean
from genai.models.references import resolve_model
from genai.models.text_classifier import TextClassifier
from genai.registry import suggest

_AT_ONCE = 64
"""Answers that the model gets together."""


class Classifier:
    """The probability of one class, by a model in this process; the figure is the mean over answers. Meets `Metric`.

    Args:
        model: a reference of a model for text classification.
        positive: the class whose probability is wanted, e.g. toxic.
        higher_is_better: of that class; by default not, as of toxicity.

    Raises:
        UsageError: there is no such model, or it does not know the class.
        DataError: it is no classifier of texts.
    """

    name: ClassVar[str] = "classifier"
    what: ClassVar[str] = "probability of a class such as toxic or refusal, by a text-classification model of your own"
    kinds: ClassVar[tuple[DatasetKind, ...]] = ("generation", "classification")
    looks_at: OutcomeKind = "answer"
    unit = ""

    def __init__(self, *, model: str, positive: str, higher_is_better: bool = False) -> None:
        self.higher_is_better = higher_is_better
        self._classifier = TextClassifier(resolve_model(model).path)
        if positive not in self._classifier.labels:
            near = suggest(positive, self._classifier.labels)
            known = f"its classes are: {', '.join(self._classifier.labels)}"
            raise UsageError(f"{model} knows no class '{positive}'", fix=f"did you mean '{near}'?" if near else known)
        self._positive = positive
        self._waiting: list[tuple[str, asyncio.Future[float]]] = []
        self._working: asyncio.Task[None] | None = None

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        """The probability of the class; answers that come at the same time are read together.

        Raises:
            GenaiError: the model cannot be loaded.
        """
        if not isinstance(outcome, Answer):
            return unfit("answers", outcome)
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((outcome.text, future))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        value = await future
        return Score(parts=(value,), value=value, note=f"{self._positive}: {value:.3f}")

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """The weighted mean of the only part."""
        return mean(parts_NP, weights_RN)

    async def _work(self) -> None:
        """Until nothing waits."""
        try:
            await asyncio.sleep(0)  # those who ask at the same time come first
            while self._waiting:
                batch = self._waiting[:_AT_ONCE]
                del self._waiting[:_AT_ONCE]
                try:
                    found = await asyncio.to_thread(self._classifier.probabilities, [text for text, _ in batch])
                except GenaiError as error:
                    for _, future in batch:
                        future.set_exception(error)
                    continue
                for (_, future), shares in zip(batch, found, strict=True):
                    if not future.done():
                        future.set_result(shares[self._positive])
        finally:
            self._working = None
