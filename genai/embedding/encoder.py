"""An encoder that runs in this process: prompts, tokens, batches, and what comes after the model."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from genai.embedding.tokenizing import TextTokenizer
from genai.embedding.vectors import Vectors, finished
from genai.errors import UsageError


class TokenModel(Protocol):
    """From tokens to vectors."""

    def __call__(self, sequences: Sequence[Sequence[int]]) -> Vectors:
        """(n, width); every sequence has at least one token."""


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """What the vectors of an encoder depend on, beside its weights."""

    model: str
    """The reference, for messages."""
    width: int
    """Numbers of a vector as the model gives it."""
    dimension: int
    """How many of them are kept."""
    max_length: int
    """Tokens of the longest input, special ones among them."""
    document_prompt: str = ""
    """Before every document."""
    query_prompt: str = ""
    """Before every query."""
    normalize: bool = True
    """Scale to length 1."""
    batch_size: int = 32
    """Texts a call of the model."""


class TextEncoder:
    """Turns texts into vectors; see `genai.index.interfaces.Encoder`.

    Several threads may use one. Tokenizer and weights are loaded by the first text.

    Args:
        settings: prompts, lengths, dimension.
        fingerprint: makes the fingerprint, when it is asked for.
        tokenizer: loads the tokenizer.
        model: loads the weights.
    """

    def __init__(
        self,
        settings: EncoderSettings,
        *,
        fingerprint: Callable[[], str],
        tokenizer: Callable[[], TextTokenizer],
        model: Callable[[], TokenModel],
    ) -> None:
        self.settings = settings
        self._make_fingerprint = fingerprint
        self._load_tokenizer = tokenizer
        self._load_model = model
        self._loading = threading.Lock()
        self._loaded: TokenModel | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the vectors would."""
        return self._make_fingerprint()

    @property
    def dimension(self) -> int:
        """Numbers a vector."""
        return self.settings.dimension

    @property
    def max_length(self) -> int:
        """Tokens of the longest input, the prompt and special tokens among them."""
        return self.settings.max_length

    @property
    def normalize(self) -> bool:
        """Whether vectors have length 1."""
        return self.settings.normalize

    @cached_property
    def max_tokens(self) -> int:
        """What the model reads of a document itself: the prompt and special tokens are taken off.

        Raises:
            UsageError: nothing is left.
        """
        prompt = len(self._tokenizer.ids(self.settings.document_prompt))
        left = self.settings.max_length - self._tokenizer.num_special_tokens - prompt
        if left < 1:
            raise UsageError(
                f"max_tokens {self.settings.max_length} leaves no room for a text beside the prompt and special tokens",
                where="embedding.max_tokens",
            )
        return left

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """(n, dim), for texts that are to be found.

        Raises:
            DataError: the weights cannot be read, or give infinite numbers.
        """
        return self.embed_tokens(self.tokens(texts, "document"))

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """(n, dim), for what is asked.

        Raises:
            DataError: see `embed_documents`.
        """
        return self.embed_tokens(self.tokens(texts, "query"))

    def tokens(
        self, texts: Sequence[str], role: Literal["document", "query"], *, truncate: bool = True
    ) -> list[list[int]]:
        """What the model reads of each text: its prompt and special tokens too.

        Args:
            texts: as they are.
            role: whose prompt is put before them.
            truncate: leave out what is beyond `max_length`; else it is there, and the model cannot read it.
        """
        prompt = self.settings.query_prompt if role == "query" else self.settings.document_prompt
        most = self.max_length if truncate else sys.maxsize
        return [self._tokenizer.sequence(prompt + text, most) for text in texts]

    def embed_tokens(self, sequences: Sequence[Sequence[int]]) -> Vectors:
        """(n, dim), of what `tokens` gives; texts of both roles may be mixed.

        Raises:
            DataError: see `embed_documents`.
        """
        import numpy as np

        settings = self.settings
        vectors = np.zeros((len(sequences), settings.width), dtype=np.float32)
        # The longest first: batches of one length are hardly filled up, and too little memory shows at once. A text
        # without a token, which only tokenizers without special tokens leave, keeps its zeros.
        order = sorted((row for row, ids in enumerate(sequences) if ids), key=lambda row: -len(sequences[row]))
        for start in range(0, len(order), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            vectors[rows] = self._model([sequences[row] for row in rows])
        return finished(vectors, dimension=settings.dimension, normalize=settings.normalize, model=settings.model)

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        """Start and end, in characters, of every token of the whole text, special tokens and prompts left out."""
        return self._tokenizer.offsets(text)

    @cached_property
    def _tokenizer(self) -> TextTokenizer:
        return self._load_tokenizer()

    @property
    def _model(self) -> TokenModel:
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load_model()
            return self._loaded


def fingerprint_of(parts: Mapping[str, object]) -> str:
    """`sha256:...` of plain values, the same in every process."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
