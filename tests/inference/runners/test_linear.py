"""Products over weights that were laid out anew, against plain ones."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from genai.inference.runners import linear
from genai.inference.runners.linear import Int8Linear, PackedLinear, PlainLinear, WeightOnlyLinear, make_linear

ROWS = [1, 2, 8, 33, 130]


def random_layer(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(70, 52).to(dtype), torch.randn(70).to(dtype)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_bfloat16_is_the_same_packed_or_not(rows: int, with_bias: bool) -> None:
    weight_OI, bias_O = random_layer(torch.bfloat16)
    x_TI = torch.randn(rows, 52, dtype=torch.bfloat16)
    found_TO = make_linear(weight_OI, bias_O if with_bias else None, "bf16")(x_TI)
    expected_TO = F.linear(x_TI, weight_OI, bias_O if with_bias else None)
    assert found_TO.dtype == torch.bfloat16
    torch.testing.assert_close(found_TO, expected_TO, atol=0.06, rtol=0.01)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_float32_is_the_same_packed_or_not(rows: int, with_bias: bool) -> None:
    weight_OI, bias_O = random_layer(torch.float32)
    x_TI = torch.randn(rows, 52)
    found_TO = make_linear(weight_OI, bias_O if with_bias else None, "fp32")(x_TI)
    expected_TO = F.linear(x_TI, weight_OI, bias_O if with_bias else None)
    torch.testing.assert_close(found_TO, expected_TO, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("kind", [Int8Linear, WeightOnlyLinear])
def test_eight_bits_lose_no_more_than_rounding_the_weights_does(rows: int, kind: type[Int8Linear]) -> None:
    if kind is Int8Linear and not linear._has_int8("cpu"):
        pytest.skip("this torch or processor has no int8 products")
    weight_OI, bias_O = random_layer(torch.float32)
    scale_O, whole_OI = linear._to_int8(weight_OI)
    x_TI = torch.randn(rows, 52) * torch.logspace(-3, 3, rows)[:, None]
    expected_TO = F.linear(x_TI, whole_OI * scale_O[:, None])
    found_TO = kind(weight_OI, bias_O)(x_TI) - bias_O
    size_T1 = expected_TO.norm(dim=1, keepdim=True) / 70**0.5 + 1e-3
    assert ((found_TO - expected_TO) / size_T1).abs().max() < 2e-3


def test_a_row_does_not_depend_on_its_neighbours_in_eight_bits() -> None:
    weight_OI, _ = random_layer(torch.float32)
    product = make_linear(weight_OI, None, "int8")
    x_TI = torch.randn(5, 52)
    beside_large_TI = torch.cat([x_TI, 1e4 * torch.randn(3, 52)])
    torch.testing.assert_close(product(beside_large_TI)[:5], product(x_TI), atol=1e-5, rtol=1e-5)


def test_rows_of_zeros_stay_zero_in_eight_bits() -> None:
    weight_OI, _ = random_layer(torch.float32)
    assert make_linear(torch.zeros(6, 52), None, "int8")(torch.randn(2, 52)).tolist() == [[0.0] * 6] * 2
    assert not make_linear(weight_OI, None, "int8")(torch.zeros(2, 52)).any()


def test_weights_in_eight_bits_take_a_quarter_of_float32() -> None:
    weight_OI = torch.randn(256, 256)
    assert make_linear(weight_OI, None, "int8").num_bytes < 0.27 * PlainLinear(weight_OI, None).num_bytes


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32), ("int8", torch.float32)]
)
def test_without_the_operators_a_plainer_way_is_taken(
    precision: linear.Precision, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise NotImplementedError("no such operator here")

    monkeypatch.setattr(PackedLinear, "__init__", missing)
    monkeypatch.setattr(Int8Linear, "__init__", missing)
    for probe in (linear._has_packed, linear._has_int8):
        monkeypatch.setattr(linear, probe.__name__, probe.__wrapped__)
    weight_OI, bias_O = random_layer(dtype)
    made = make_linear(weight_OI, bias_O, precision)
    assert isinstance(made, PlainLinear | WeightOnlyLinear)
    x_TI = torch.randn(3, 52).to(dtype)
    torch.testing.assert_close(made(x_TI), F.linear(x_TI, weight_OI, bias_O), atol=0.3, rtol=0.02)
