import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genai.embedding.pooling import load_dense, padded, pool, pooling_weights, with_layers
from genai.errors import DataError, UsageError

MASK = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
HIDDEN = np.random.default_rng(1).standard_normal((3, 4, 5)).astype(np.float32)


def test_filled_up_at_the_end() -> None:
    ids, mask = padded([[5, 6, 7], [8]], 9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", lambda tokens: tokens.mean(axis=0)),
        ("cls", lambda tokens: tokens[0]),
        ("last_token", lambda tokens: tokens[-1]),
        ("max", lambda tokens: tokens.max(axis=0)),
    ],
)
def test_filling_counts_for_nothing(pooling: Any, expected: Any) -> None:
    wanted = [expected(HIDDEN[row, : MASK[row].sum()]) for row in range(3)]
    pooled = pool(HIDDEN, MASK, pooling)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, wanted, atol=1e-6)


def test_weights_add_up_to_one() -> None:
    for pooling in ("mean", "cls", "last_token"):
        np.testing.assert_allclose(pooling_weights(MASK, pooling).sum(axis=1), 1, rtol=1e-6)  # type: ignore[arg-type]


def write_dense(folder: Path, *, activation: str = "torch.nn.modules.activation.Tanh", bias: bool = True) -> Any:
    """A layer of 5 -> 3, and the module of torch that it is."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 3, bias=bias)
    folder.mkdir()
    save_file({f"linear.{name}": value for name, value in layer.state_dict().items()}, folder / "model.safetensors")
    config = {"in_features": 5, "out_features": 3, "bias": bias, "activation_function": activation}
    (folder / "config.json").write_text(json.dumps(config))
    return layer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["activation.Tanh", "linear.Identity", "activation.ReLU", "activation.Sigmoid"])
def test_a_layer_computes_what_torch_does(tmp_path: Path, activation: str, bias: bool) -> None:
    import torch

    layer = write_dense(tmp_path / "2_Dense", activation=f"torch.nn.modules.{activation}", bias=bias)
    function = getattr(torch.nn, activation.rpartition(".")[2])()
    vectors = HIDDEN[:, 0]
    with torch.no_grad():
        expected = function(layer(torch.from_numpy(vectors))).numpy()
    model = with_layers(lambda sequences: vectors, [load_dense(tmp_path / "2_Dense")])
    np.testing.assert_allclose(model([[1]] * 3), expected, atol=1e-6)


def test_an_unknown_activation(tmp_path: Path) -> None:
    write_dense(tmp_path / "2_Dense", activation="torch.nn.modules.activation.GLU")
    with pytest.raises(UsageError, match="activation GLU is unknown"):
        load_dense(tmp_path / "2_Dense")


def test_damaged_weights(tmp_path: Path) -> None:
    write_dense(tmp_path / "2_Dense")
    (tmp_path / "2_Dense" / "model.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(DataError, match="weights of the layer cannot be read"):
        load_dense(tmp_path / "2_Dense")
