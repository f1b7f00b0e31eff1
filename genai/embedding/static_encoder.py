"""Static embeddings: a table with one vector a token, and their mean. No network, no torch, a few microseconds a text.

Three layouts are read:

    model2vec               config.json, tokenizer.json, model.safetensors with `embeddings` (and `weights`, `mapping`)
    sentence-transformers   modules.json with a StaticEmbedding, whose model.safetensors has `embedding.weight`
    wordllama               weights/NAME.safetensors with `embedding.weight`, tokenizers/NAME.json

Source:
    Tulkens and van Dongen 2024, model2vec; Miller 2024, WordLlama.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.embedding.settings import read_json, read_modules
from genai.embedding.tokenizing import TextTokenizer, read_tokenizer
from genai.embedding.vectors import Vectors
from genai.errors import DataError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MODEL2VEC_TENSOR = "embeddings"
_TENSORS = (_MODEL2VEC_TENSOR, "embedding.weight")
_DEFAULT_MAX_LENGTH = 512
"""Where model2vec cuts texts, unless its config says otherwise. A mean over more says ever less."""
_MAX_HEADER_BYTES = 100 << 20


@dataclass(frozen=True, kw_only=True)
class StaticFolder:
    """Where the parts of a table of token vectors lie."""

    weights: Path
    """A safetensors file."""
    tensor: str
    """The table in it."""
    tokenizer: Path
    """A tokenizer.json, whatever its name."""
    width: int
    """Numbers a vector."""
    max_length: int
    """Tokens that are looked at."""

    @property
    def drops_unknown(self) -> bool:
        """Whether the unknown token counts for nothing, which is the way of model2vec."""
        return self.tensor == _MODEL2VEC_TENSOR


def find_static(folder: Path) -> StaticFolder | None:
    """The table in a model's folder; None when the model is no static one.

    Raises:
        DataError: a file is damaged or missing.
        UsageError: the folder holds several tables or tokenizers.
    """
    weights, tokenizer = _files(folder)
    if weights is None or not weights.is_file():
        return None
    shapes = tensor_shapes(weights)
    tensor = next((name for name in _TENSORS if len(shapes.get(name, ())) == 2), None)
    if tensor is None:
        return None
    if tokenizer is None or not tokenizer.is_file():
        raise DataError("the table has no tokenizer (tokenizer.json)", where=str(folder))
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    stated = config.get("max_length")
    return StaticFolder(
        weights=weights,
        tensor=tensor,
        tokenizer=tokenizer,
        width=shapes[tensor][1],
        max_length=stated if isinstance(stated, int) and stated > 0 else _DEFAULT_MAX_LENGTH,
    )


class StaticModel:
    """From tokens to the mean of their vectors; see `genai.embedding.encoder.TokenModel`.

    Args:
        folder: where the parts lie.

    Raises:
        DataError: they cannot be read.
    """

    def __init__(self, folder: StaticFolder) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(folder.weights)
        except (OSError, KeyError, SafetensorError) as error:
            raise DataError(f"the table of vectors cannot be read: {error}", where=str(folder.weights)) from error
        self._table: NDArray[Any] = tensors[folder.tensor]
        self._token_weights = tensors.get("weights")
        self._row_of = tensors.get("mapping")
        self._dropped = _unknown_id(folder.tokenizer) if folder.drops_unknown else None
        self._num_ids = len(self._table if self._row_of is None else self._row_of)

    def __call__(self, sequences: Sequence[Sequence[int]]) -> Vectors:
        """(n, width); zeros for a text of unknown tokens only."""
        import numpy as np

        vectors = np.zeros((len(sequences), self._table.shape[1]), dtype=np.float32)
        for row, sequence in enumerate(sequences):
            ids = np.asarray(sequence)
            ids = ids[(ids < self._num_ids) & (ids != (-1 if self._dropped is None else self._dropped))]
            if ids.size:
                vectors[row] = self._mean(ids)
        return vectors

    def _mean(self, ids: NDArray[Any]) -> Vectors:
        found: Vectors = self._table[ids if self._row_of is None else self._row_of[ids]].astype("float32", copy=False)
        if self._token_weights is not None:
            found = found * self._token_weights[ids, None].astype("float32")
        mean: Vectors = found.mean(axis=0)
        return mean


def static_tokenizer(folder: StaticFolder) -> TextTokenizer:
    """Its tokenizer; a mean needs no special tokens.

    Raises:
        DataError: it is damaged.
    """
    return TextTokenizer(read_tokenizer(folder.tokenizer), prefix=(), suffix=())


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors, read from the header alone.

    Raises:
        DataError: the file is no safetensors file.

    Source:
        https://github.com/huggingface/safetensors#format
    """
    try:
        with open(file, "rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header: Any = json.loads(stream.read(size)) if size <= _MAX_HEADER_BYTES else None
        return {name: tuple(values["shape"]) for name, values in header.items() if name != "__metadata__"}
    except (struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError("this is no safetensors file, or it is damaged", where=str(file)) from error


def _files(folder: Path) -> tuple[Path | None, Path | None]:
    """The weights and the tokenizer, should this be a table."""
    modules = read_modules(folder)
    if modules and modules[0][0] == "StaticEmbedding":
        base = folder / modules[0][1]
        return base / "model.safetensors", base / "tokenizer.json"
    if (folder / "model.safetensors").is_file():
        return folder / "model.safetensors", folder / "tokenizer.json"
    if (folder / "weights").is_dir() and (folder / "tokenizers").is_dir():
        return _only(folder / "weights", "*.safetensors"), _only(folder / "tokenizers", "*.json")
    return None, None


def _only(folder: Path, pattern: str) -> Path | None:
    found = sorted(folder.glob(pattern))
    if len(found) > 1:
        raise UsageError(
            f"there are {len(found)} files {pattern}, and which one is meant cannot be told",
            where=str(folder),
            fix="keep one of them in a folder of its own",
        )
    return found[0] if found else None


def _unknown_id(file: Path) -> int | None:
    """The id of the unknown token."""
    model = read_json(file).get("model", {})
    if isinstance(model.get("unk_id"), int):  # a Unigram model
        return int(model["unk_id"])
    vocabulary, name = model.get("vocab"), model.get("unk_token")
    return vocabulary.get(name) if isinstance(vocabulary, dict) and name is not None else None
