"""A reranker in this process: a transformer reads query and text together and gives one number."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genai.embedding.pooling import padded
from genai.embedding.settings import read_json, read_settings
from genai.embedding.tokenizing import open_backend, valid
from genai.embedding.torch_loading import load_classifier
from genai.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
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
        self._folder = self._settings.transformer
        self._num_threads = num_threads
        self._loading = threading.Lock()
        self._loaded: tuple[Tokenizer, PreTrainedModel] | None = None
        self._has_segments = _has_segments(self._folder)

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Between 0 and 1, one number a text: the sigmoid of the model's logit.

        Raises:
            DataError: the weights cannot be read, or give infinite numbers.
        """
        if not texts:
            return []
        tokenizer, model = self._parts()
        encoded = [tokenizer.encode(valid(query), valid(text)) for text in texts]
        order = sorted(range(len(texts)), key=lambda row: -len(encoded[row].ids))
        logits = np.empty(len(texts), dtype=np.float64)
        for start in range(0, len(order), _BATCH_SIZE):
            rows = order[start : start + _BATCH_SIZE]
            logits[rows] = self._logits(model, [encoded[row] for row in rows])
        if not np.isfinite(logits).all():
            raise DataError("the reranker gave infinite numbers: its weights are damaged", where=str(self._folder))
        return [float(score) for score in 1 / (1 + np.exp(-np.clip(logits, -700, 700)))]

    def _logits(self, model: PreTrainedModel, encoded: Sequence[Any]) -> Any:
        import torch

        ids, mask = padded([pair.ids for pair in encoded], self._settings.pad_token_id)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self._has_segments:
            inputs["token_type_ids"] = padded([pair.type_ids for pair in encoded], 0)[0]
        with torch.inference_mode():
            output: Any = model(**{name: torch.from_numpy(values).to(model.device) for name, values in inputs.items()})
        return output.logits[:, 0].double().cpu().numpy()

    def _parts(self) -> tuple[Tokenizer, PreTrainedModel]:
        with self._loading:
            if self._loaded is None:
                tokenizer = open_backend(self._folder)
                tokenizer.enable_truncation(self._settings.max_length)
                self._loaded = tokenizer, load_classifier(self._folder, num_threads=self._num_threads)
            return self._loaded


def _has_segments(folder: Path) -> bool:
    """Whether the model was trained to tell query and text apart by segment numbers, as BERT was.

    Its architecture must have a table for them, and its tokenizer must give them: transformers 5 gives none by a
    tokenizer without a class of its own.
    """
    if int(read_json(folder / "config.json").get("type_vocab_size") or 0) < 2:
        return False
    file = folder / "tokenizer_config.json"
    config = read_json(file) if file.is_file() else {}
    if isinstance(names := config.get("model_input_names"), list):
        return "token_type_ids" in names
    return config.get("tokenizer_class") != "TokenizersBackend"
