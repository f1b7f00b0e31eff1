"""From one vector a token to one a text, and the layers that may stand after that.

hidden (batch, seq, width) -> pooled (batch, width) -> dense (batch, dim)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genai.embedding.encoder import TokenModel
from genai.embedding.settings import Pooling, read_json
from genai.embedding.vectors import Vectors
from genai.errors import DataError, UsageError

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "Identity": lambda values: values,
    "Tanh": np.tanh,
    "ReLU": lambda values: np.maximum(values, 0),
    "Sigmoid": lambda values: 1 / (1 + np.exp(-values)),
}


def padded(sequences: Sequence[Sequence[int]], pad_token_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and mask, both (batch, seq), shorter sequences filled up at their end."""
    shape = (len(sequences), max(map(len, sequences)))
    ids, mask = np.full(shape, pad_token_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return ids, mask


def pooling_weights(mask: NDArray[np.int64], pooling: Pooling) -> Vectors:
    """What every token counts, (batch, seq): mean, cls and last_token are sums with such weights; max is none.

    Args:
        mask: (batch, seq), 1 for tokens and 0 for filling, which comes last.
        pooling: which.
    """
    lengths = mask.sum(axis=1)
    if pooling == "mean":
        return np.asarray(mask / lengths[:, None], dtype=np.float32)
    weights = np.zeros(mask.shape, dtype=np.float32)
    weights[np.arange(len(mask)), 0 if pooling == "cls" else lengths - 1] = 1
    return weights


def pool(hidden: NDArray[np.floating[Any]], mask: NDArray[np.int64], pooling: Pooling) -> Vectors:
    """One vector a text, (batch, width)."""
    if pooling == "max":
        return np.asarray(np.where(mask[:, :, None] == 1, hidden, -np.inf).max(axis=1), dtype=np.float32)
    weights = pooling_weights(mask, pooling)[:, None]
    return np.asarray(np.matmul(weights, hidden.astype(np.float32, copy=False))[:, 0], dtype=np.float32)


@dataclass(frozen=True)
class Dense:
    """A linear layer after the pooling, with its activation."""

    weight: Vectors
    """(out, in)"""
    bias: Vectors
    """(out,)"""
    activation: Callable[[Any], Any]

    def __call__(self, vectors: Vectors) -> Vectors:
        """(n, in) -> (n, out)"""
        return np.asarray(self.activation(vectors @ self.weight.T + self.bias), dtype=np.float32)


def load_dense(folder: Path) -> Dense:
    """The layer of a sentence-transformers Dense module.

    Raises:
        DataError: its files are missing or damaged.
        UsageError: its activation is unknown.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    config = read_json(folder / "config.json")
    name = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise UsageError(
            f"the activation {name} is unknown", where=str(folder), fix=f"genai knows {', '.join(_ACTIVATIONS)}"
        )
    try:
        tensors = load_file(folder / "model.safetensors")
        weight = tensors["linear.weight"].astype(np.float32)
        bias = tensors["linear.bias"].astype(np.float32) if config.get("bias", True) else np.zeros(len(weight))
    except (OSError, KeyError, SafetensorError) as error:
        raise DataError(f"the weights of the layer cannot be read: {error}", where=str(folder)) from error
    return Dense(weight, np.asarray(bias, dtype=np.float32), _ACTIVATIONS[name])


def with_layers(model: TokenModel, layers: Sequence[Dense]) -> TokenModel:
    """The model with layers after its pooling."""
    if not layers:
        return model

    def run(sequences: Sequence[Sequence[int]]) -> Vectors:
        vectors = model(sequences)
        for layer in layers:
            vectors = layer(vectors)
        return vectors

    return run
