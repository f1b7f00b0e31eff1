"""A query and a text as one sequence of tokens: what rerankers read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genai.embedding.pooling import padded
from genai.embedding.settings import FolderSettings, read_json
from genai.embedding.tokenizing import open_backend, valid


@dataclass(frozen=True, slots=True)
class PairTokens:
    """One sequence, special tokens among it."""

    ids: list[int]
    """Token ids."""
    segments: list[int]
    """Of each token: 0 in the query, 1 in the text."""
    is_cut: bool
    """Whether tokens were left out because there were too many."""

    def __len__(self) -> int:
        return len(self.ids)


class PairTokenizer:
    """Joins query and text in the way of a model's folder; what is too long is cut where it is longest.

    Args:
        settings: of the folder.
        max_length: tokens of the longest pair; by default what the folder says.

    Raises:
        DataError: there is no tokenizer, or it is damaged.
    """

    def __init__(self, settings: FolderSettings, *, max_length: int | None = None) -> None:
        self.max_length = max_length or settings.max_length
        self._pad_token_id = settings.pad_token_id
        self._tokenizer = open_backend(settings.transformer)
        self._tokenizer.enable_truncation(self.max_length)
        self._has_segments = has_segments(settings.transformer)

    def pair(self, query: str, text: str) -> PairTokens:
        """As the model reads them."""
        # One pair a call: the batch functions start threads, which a process that forks later must not have.
        encoded = self._tokenizer.encode(valid(query), valid(text))
        return PairTokens(list(encoded.ids), list(encoded.type_ids), bool(encoded.overflowing))

    def ids(self, text: str) -> tuple[list[int], bool]:
        """Of a text alone, without special tokens, and whether it was cut."""
        encoded = self._tokenizer.encode(valid(text), add_special_tokens=False)
        return list(encoded.ids), bool(encoded.overflowing)

    def inputs(self, pairs: Sequence[PairTokens]) -> dict[str, NDArray[np.int64]]:
        """What the model is called with, each (batch, seq), filled up at the end."""
        ids, mask = padded([pair.ids for pair in pairs], self._pad_token_id)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self._has_segments:
            inputs["token_type_ids"] = padded([pair.segments for pair in pairs], 0)[0]
        return inputs


def has_segments(folder: Path) -> bool:
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
