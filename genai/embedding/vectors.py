"""What is done to every vector, wherever it comes from: checked, cut to its first numbers, scaled to length 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genai.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    """(n, dim), one row a text."""
else:
    Vectors = Any  # who only asks for an encoder's fingerprint need not load numpy


def finished(vectors: Vectors, *, dimension: int, normalize: bool, model: str) -> Vectors:
    """The vectors as the caller gets them.

    Cutting comes before scaling: the first numbers of a Matryoshka embedding are a shorter embedding of the same text,
    but not one of length 1.

    Args:
        vectors: (n, width) as the model gives them.
        dimension: how many numbers are kept, at most `width`.
        normalize: scale to length 1; a vector of zeros (a text without a single known token) stays as it is.
        model: named in the error.

    Raises:
        DataError: a number is infinite or not a number.

    Source:
        Kusupati et al. 2022, "Matryoshka Representation Learning".
    """
    import numpy as np

    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if broken.size:
        raise DataError(
            f"{model} gave infinite numbers for {broken.size} of {len(vectors)} texts",
            fix="the weights are damaged, or do not fit bfloat16: try precision: fp32",
        )
    cut = vectors[:, :dimension]
    if not normalize:
        return np.ascontiguousarray(cut)
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    return np.asarray(cut / np.where(lengths > 0, lengths, 1), dtype=np.float32)
