"""What tensor parallelism refuses; that it computes the same is shown in test_strategies.py."""

from __future__ import annotations

import pytest
from torch import nn

from genai.errors import UsageError
from genai.models.llama import Llama, LlamaConfig
from genai.training.parallel.tensor import _check


def block(**changes: int) -> nn.Module:
    sizes = {"d_model": 24, "n_heads": 6, "n_kv_heads": 3, "d_ff": 48, "vocab_size": 8, "max_seq_len": 8, "n_layers": 1}
    return Llama(LlamaConfig(**{**sizes, **changes})).model.layers[0]


def test_sizes_that_can_be_divided() -> None:
    _check(block(), 3)


@pytest.mark.parametrize(
    ("degree", "changes", "message"),
    [
        (2, {}, "3 key-value heads cannot be divided among 2 ranks"),
        (3, {"d_ff": 50}, "50 columns of the MLP cannot be divided among 3 ranks"),
    ],
)
def test_sizes_that_cannot(degree: int, changes: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _check(block(**changes), degree)


def test_other_architectures_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no plain matrix 'self_attn\.q_proj'"):
        _check(nn.Linear(2, 2), 2)
