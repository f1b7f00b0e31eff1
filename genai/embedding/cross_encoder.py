"""A reranker in this process: a transformer reads query and text together and gives one number."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genai.embedding.pair_tokenizing import PairTokenizer, PairTokens
from genai.embedding.settings import read_settings
from genai.embedding.torch_loading import load_classifier
from genai.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BATCH_SIZE = 32


class CrossEncoder:
    """Scores texts for a query; see `genai.index.interfaces.Reranker`. The weights are loaded by the first query.

    Args:
        folder: a sequence classification model with one label.
        num_threads: threads of torch, in the whole process; None leaves them.
    """

    def __init__(self, folder: Path, *, num_threads: int | None = None) -> None:
        self._settings = read_settings(folder)
        self._num_threads = num_threads
        self._loading = threading.Lock()
        self._loaded: tuple[PairTokenizer, PreTrainedModel] | None = None

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Between 0 and 1, one number a text: the sigmoid of the model's logit.

        Raises:
            DataError: the weights cannot be read, or give infinite numbers.
        """
        return [float(score) for score in probabilities(self.logits([(query, text) for text in texts]))]

    def logits(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """What the model says of each query and text, (n,): any number, higher is better.

        Raises:
            DataError: see `score`.
        """
        if not pairs:
            return np.empty(0, dtype=np.float64)
        tokenizer, _ = self._parts()
        return self._logits([tokenizer.pair(query, text) for query, text in pairs])

    def tokens(self, query: str, texts: Sequence[str]) -> list[PairTokens]:
        """What the model reads of the query and each text.

        Raises:
            DataError: the weights or the tokenizer cannot be read.
        """
        tokenizer, _ = self._parts()
        return [tokenizer.pair(query, text) for text in texts]

    def score_tokens(self, pairs: Sequence[PairTokens]) -> list[float]:
        """As `score`, of what `tokens` gives; pairs of several queries may be mixed.

        Raises:
            DataError: see `score`.
        """
        return [float(score) for score in probabilities(self._logits(pairs))]

    def _logits(self, encoded: Sequence[PairTokens]) -> NDArray[np.float64]:
        tokenizer, model = self._parts()
        logits = np.empty(len(encoded), dtype=np.float64)
        order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]))
        for start in range(0, len(order), _BATCH_SIZE):
            rows = order[start : start + _BATCH_SIZE]
            logits[rows] = _read(model, tokenizer, [encoded[row] for row in rows])
        if not np.isfinite(logits).all():
            where = str(self._settings.transformer)
            raise DataError("the reranker gave infinite numbers: its weights are damaged", where=where)
        return logits

    def _parts(self) -> tuple[PairTokenizer, PreTrainedModel]:
        with self._loading:
            if self._loaded is None:
                model = load_classifier(self._settings.transformer, num_threads=self._num_threads)
                self._loaded = PairTokenizer(self._settings), model
            return self._loaded


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sigmoid: the scale on which rerankers of genai answer."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -700, 700))), dtype=np.float64)


def _read(model: PreTrainedModel, tokenizer: PairTokenizer, pairs: Sequence[PairTokens]) -> NDArray[np.float64]:
    import torch

    inputs = {name: torch.from_numpy(values).to(model.device) for name, values in tokenizer.inputs(pairs).items()}
    with torch.inference_mode():
        output: Any = model(**inputs)
    return np.asarray(output.logits[:, 0].double().cpu().numpy())
