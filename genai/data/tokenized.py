"""Rows as tokens: flat memory-mapped arrays that batches are cut from, kept in a cache that is keyed by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genai.data.labels import Encoded, Encoder, LabelSettings
from genai.data.rows import BadRow, Row
from genai.log import get_logger, progress
from genai.storage.atomic import atomic_directory, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT_VERSION = 1
"""Part of the cache key: raise it when the files, or what labels mean, change."""
_ROWS_AT_ONCE = 1000
_ARRAYS = ("tokens", "trained", "offsets", "row_indices", "truncated", "answer_cut")
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class TokenizedRows:
    """Examples one after the other in flat arrays; N tokens in n examples, none of them empty.

    The first token of an example is never trained: nothing before it predicts it.
    """

    tokens: NDArray[np.int32]
    """Token ids, shape (N,)."""
    trained: NDArray[np.bool_]
    """Which tokens carry a loss, shape (N,)."""
    offsets: NDArray[np.int64]
    """Example i is tokens[offsets[i]:offsets[i + 1]], shape (n + 1,)."""
    row_indices: NDArray[np.int64]
    """Which of the rows that were given each example came from, shape (n,); dropped and bad rows leave gaps."""
    truncated: NDArray[np.bool_]
    """Whether the example was longer than allowed, shape (n,)."""
    answer_cut: NDArray[np.bool_]
    """Whether trained tokens were cut off, shape (n,)."""
    num_dropped: int = 0
    """Rows left out because they were too long (`truncation: drop`)."""
    bad: tuple[BadRow, ...] = field(default=(), repr=False)
    """Rows that the chat template or the tokenizer refused."""

    @classmethod
    def from_lists(
        cls, token_ids: Sequence[Sequence[int]], trained: Sequence[Sequence[bool]] | None = None
    ) -> TokenizedRows:
        """Build from one list of token ids an example.

        Args:
            token_ids: ids of each example.
            trained: which of them carry a loss; all by default. The first of an example never does.

        Raises:
            ValueError: an example is empty, or the two differ in shape.
        """
        lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
        masks = [[True] * len(ids) for ids in token_ids] if trained is None else trained
        if (lengths == 0).any() or [len(mask) for mask in masks] != lengths.tolist():
            raise ValueError("examples must not be empty, and each needs one flag a token")
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        tokens = np.fromiter((t for ids in token_ids for t in ids), dtype=np.int32, count=int(offsets[-1]))
        flags = np.fromiter((bool(t) for mask in masks for t in mask), dtype=np.bool_, count=int(offsets[-1]))
        flags[offsets[:-1]] = False
        return cls(
            tokens=tokens,
            trained=flags,
            offsets=offsets,
            row_indices=np.arange(len(lengths), dtype=np.int64),
            truncated=np.zeros(len(lengths), dtype=np.bool_),
            answer_cut=np.zeros(len(lengths), dtype=np.bool_),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_tokens(self) -> int:
        """Tokens of all examples."""
        return int(self.offsets[-1])

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, shape (n,)."""
        return np.diff(self.offsets)

    @cached_property
    def trained_counts(self) -> NDArray[np.int64]:
        """Trained tokens of each example, shape (n,)."""
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        counts: NDArray[np.int64] = np.add.reduceat(self.trained, self.offsets[:-1], dtype=np.int64)
        return counts

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all arrays; what a checkpoint compares to know that the data is still the same."""
        digest = hashlib.sha256()
        for name in _ARRAYS:
            array = np.ascontiguousarray(getattr(self, name))
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def example(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Token ids and trained flags of one example, each a view of shape (length,)."""
        piece = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return self.tokens[piece], self.trained[piece]


def tokenize(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    settings: LabelSettings,
    *,
    cache_dir: Path | None = None,
) -> TokenizedRows:
    """Tokens and labels of all rows, from the cache when the same rows were tokenised in the same way before.

    Args:
        rows: what to tokenise.
        tokenizer: a fast tokenizer with a chat template (not needed for plain text).
        settings: lengths and what is trained.
        cache_dir: folder that holds one folder for each set of rows; None builds in memory. Several processes may use
            it at once: each builds for itself, the first one done is kept.

    Raises:
        UsageError: the tokenizer or its chat template cannot be used.
    """
    if cache_dir is None:
        return _build(rows, tokenizer, settings)[0]
    folder = cache_dir / cache_key(rows, tokenizer, settings)
    cached = _load(folder, rows)
    if cached is None:
        damaged = folder.exists()
        if damaged:
            _log.warning("the tokenised rows in %s are damaged and are made again", folder)
        built, bad_indices = _build(rows, tokenizer, settings)
        with atomic_directory(folder, existing="replace" if damaged else "keep") as scratch:
            _save(built, bad_indices, scratch)
        # Should the disk be at fault again, what is in memory is still right.
        cached = _load(folder, rows) or built
    return cached


def cache_key(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, settings: LabelSettings) -> str:
    """Name of the cache folder: a hash of the rows, the tokenizer with its chat template, and the settings."""
    digest = hashlib.sha256()
    for part in (FORMAT_VERSION, json.dumps(asdict(settings), sort_keys=True), tokenizer_fingerprint(tokenizer)):
        digest.update(f"{part}\n".encode())
    for row in rows:
        digest.update(row.key.encode())
    return digest.hexdigest()[:40]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 of all that decides how text becomes tokens: the tokenizer, its chat template, the libraries' versions."""
    import tokenizers
    import transformers

    backend = getattr(tokenizer, "backend_tokenizer", None)
    # Padding and truncation are set anew by each call; they are no part of what the tokenizer is.
    model = {} if backend is None else json.loads(backend.to_str())
    parts = {
        "model": {key: value for key, value in model.items() if key not in ("padding", "truncation")},
        "chat_template": tokenizer.chat_template,
        "special_tokens": {key: str(value) for key, value in tokenizer.special_tokens_map.items()},
        "versions": [tokenizers.__version__, transformers.__version__],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _build(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, settings: LabelSettings
) -> tuple[TokenizedRows, list[int]]:
    """The tokenised rows, and the indices of the bad ones."""
    encoder = Encoder(tokenizer, settings)
    examples: list[Encoded] = []
    row_indices: list[int] = []
    bad: dict[int, BadRow] = {}
    num_dropped = 0
    with progress("tokenising", len(rows)) as task:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            piece = rows[start : start + _ROWS_AT_ONCE]
            for index, encoded in enumerate(encoder.encode_all(piece), start):
                if isinstance(encoded, BadRow):
                    bad[index] = encoded
                    continue
                kept = [example for example in encoded if settings.truncation == "cut" or not example.truncated]
                num_dropped += len(encoded) - len(kept)
                examples += kept
                row_indices += [index] * len(kept)
            task.update(start + len(piece))
    if len(examples) + num_dropped + len(bad) > len(rows):
        _log.info("the chat template rewrites earlier turns: %d rows made %d examples", len(rows), len(examples))
    tokenized = TokenizedRows(
        tokens=_concatenate((example.input_ids for example in examples), np.int32),
        trained=_concatenate((example.trained for example in examples), np.bool_),
        offsets=np.cumsum([0, *(len(example.input_ids) for example in examples)], dtype=np.int64),
        row_indices=np.array(row_indices, dtype=np.int64),
        truncated=np.array([example.truncated for example in examples], dtype=np.bool_),
        answer_cut=np.array([example.answer_cut for example in examples], dtype=np.bool_),
        num_dropped=num_dropped,
        bad=tuple(bad.values()),
    )
    return tokenized, list(bad)


def _concatenate(arrays: Iterable[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype=dtype), *arrays])


def _save(tokenized: TokenizedRows, bad_indices: Sequence[int], folder: Path) -> None:
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(tokenized, name), allow_pickle=False)
    meta = {
        "format_version": FORMAT_VERSION,
        "fingerprint": tokenized.fingerprint,
        "num_dropped": tokenized.num_dropped,
        # Where a row stands is no part of the key, so it is looked up again when the cache is read.
        "bad": [[index, bad.reason] for index, bad in zip(bad_indices, tokenized.bad, strict=True)],
    }
    write_json(folder / "meta.json", meta)


def _load(folder: Path, rows: Sequence[Row]) -> TokenizedRows | None:
    """What `_save` wrote, or None when it is missing or damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        arrays = {name: _memory_map(folder / f"{name}.npy") for name in _ARRAYS}
        bad = tuple(BadRow(source=rows[index].source, reason=reason) for index, reason in meta["bad"])
        tokenized = TokenizedRows(**arrays, num_dropped=meta["num_dropped"], bad=bad)
        return tokenized if tokenized.fingerprint == meta["fingerprint"] else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, IndexError, EOFError):
        return None


def _memory_map(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
