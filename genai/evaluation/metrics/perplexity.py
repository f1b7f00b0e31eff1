"""How well a model foresees texts: a token, a word, a byte at a time.

    perplexity = exp(-sum of ln p / number of tokens)

over all texts together, as lm-eval adds them up; bits a byte is the same sum in base 2. Words are what white space
divides, counted as lm-eval does (an empty one at each end that is white space); bytes are those of UTF-8. Words and
bytes are the same for all models, tokens are not: compare models of different vocabularies by bits a byte.

Source: Gao et al. 2020, "The Pile: An 800GB Dataset of Diverse Text for Language Modeling", section 3.1 (bits a byte).
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod

from genai.errors import UsageError
from genai.evaluation.interfaces import Floats
from genai.evaluation.metrics.base import LikelihoodMetric
from genai.evaluation.records import Continuations, Example, Likelihood, Likelihoods, Score, Unscored, WholeText
from genai.metrics import aggregates

_SPACE = re.compile(r"\s+")


class WindowedMetric(LikelihoodMetric):
    """A metric of whole texts or continuations, the smaller the better.

    Args:
        context: tokens that the model looks at, at most; None: all it can.
        stride: tokens that a window moves on; None: as many as it looks at.
    """

    kinds = ("text", "language_modeling")
    higher_is_better = False

    def __init__(self, *, context: int | None = None, stride: int | None = None) -> None:
        if context is not None and stride is not None and stride > context:
            raise UsageError(
                f"metric '{self.name}' has stride {stride} and context {context}, so that tokens would be left out",
                fix="make stride no larger than context",
            )
        self.context = context
        self.stride = stride

    def of_likelihoods(self, example: Example, likelihoods: Likelihoods) -> Score | Unscored:
        """Minus the logarithm of the likelihood, and what it is spread over."""
        likelihood = likelihoods.each[0]
        text = _text_of(example)
        number = 0 if text is None else self.count(likelihood, text)
        if not number:
            return Unscored(reason="the text is empty")
        if not math.isfinite(likelihood.logprob):
            return Unscored(reason=f"the logarithm of its likelihood is {likelihood.logprob}")
        loss = -likelihood.logprob
        return Score(parts=(loss, number), value=self.figure(loss / number))

    @abstractmethod
    def count(self, likelihood: Likelihood, text: str) -> int:
        """What the loss is spread over."""

    def figure(self, loss: float) -> float:
        """Of one text, from the loss a token, word or byte."""
        return math.exp(min(loss, 700.0))  # beyond it a float has no room

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """Over all texts together."""
        return aggregates.exp_ratio(parts_NP, weights_RN)


class Perplexity(WindowedMetric):
    """A token at a time."""

    name = "perplexity"
    what = "perplexity a token, over all texts together"

    def count(self, likelihood: Likelihood, text: str) -> int:
        """Tokens."""
        return likelihood.num_tokens


class WordPerplexity(WindowedMetric):
    """A word at a time: `word_perplexity` of lm-eval."""

    name = "word_perplexity"
    what = "perplexity a word, over all texts together, as lm-eval's"

    def count(self, likelihood: Likelihood, text: str) -> int:
        """Words."""
        return len(_SPACE.split(text)) if text else 0


class BytePerplexity(WindowedMetric):
    """A byte at a time: `byte_perplexity` of lm-eval."""

    name = "byte_perplexity"
    what = "perplexity a byte of UTF-8, over all texts together, as lm-eval's"

    def count(self, likelihood: Likelihood, text: str) -> int:
        """Bytes."""
        return len(text.encode("utf-8", "surrogatepass"))


class BitsPerByte(BytePerplexity):
    """The logarithm of it: `bits_per_byte` of lm-eval."""

    name = "bits_per_byte"
    what = "bits that a byte of UTF-8 takes, over all texts together, as lm-eval's"
    unit = "bits"

    def figure(self, loss: float) -> float:
        """In base 2."""
        return loss / math.log(2)

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        """Over all texts together."""
        return aggregates.ratio(parts_NP, weights_RN) / math.log(2)


def _text_of(example: Example) -> str | None:
    question = example.question
    if isinstance(question, WholeText):
        return question.text
    return question.pairs[0][1] if isinstance(question, Continuations) and question.pairs else None
