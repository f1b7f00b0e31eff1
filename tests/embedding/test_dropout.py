"""Dropout as torch's own: shares, scale, gradient, and a stream that torch's generator alone decides."""

import pytest
import torch
from torch import nn

from genai.embedding.dropout import QuickDropout, quicken_dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_that_is_dropped_and_the_mean_that_stays(dtype: torch.dtype, share: float) -> None:
    torch.manual_seed(0)
    values = torch.ones(1000, 400, dtype=dtype)
    out = QuickDropout(share)(values).float()
    dropped = float((out == 0).float().mean())
    assert dropped == pytest.approx(share, abs=4 * (share * (1 - share) / values.numel()) ** 0.5 + 1e-4)
    assert out.max() == pytest.approx(1 / (1 - share), rel=1e-2 if dtype == torch.bfloat16 else 1e-4)
    assert float((out == 0).float().mean(0).std()) < 0.02  # no column that is dropped more often
    # neighbours, which four at a time come from one draw, know nothing of each other
    zero = (out == 0).float() - dropped
    for shift in (1, 2, 3, 4):
        assert abs(float((zero[:, shift:] * zero[:, :-shift]).mean())) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_goes_where_the_values_went(dtype: torch.dtype) -> None:
    values = torch.randn(37, 11, dtype=dtype, requires_grad=True)
    out = QuickDropout(0.3)(values)
    out.backward(torch.full_like(out, 2.0))
    assert values.grad is not None
    expected = torch.where(out == 0, 0.0, 2 / (1 - 0.3))
    torch.testing.assert_close(values.grad.float(), expected.float(), rtol=1e-2, atol=0)


def test_the_generators_state_is_all_there_is() -> None:
    drop, values = QuickDropout(0.5), torch.ones(64, 3)
    state = torch.get_rng_state()
    first, second = drop(values), drop(values)
    torch.set_rng_state(state)
    assert torch.equal(drop(values), first)
    assert torch.equal(drop(values), second)
    assert not torch.equal(first, second)


def test_nothing_is_dropped_in_evaluation_or_without_probability() -> None:
    values = torch.randn(50, 50)
    assert torch.equal(QuickDropout(0.5).eval()(values), values)
    assert torch.equal(QuickDropout(0.0)(values), values)


def test_every_dropout_of_a_model_is_replaced() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2), nn.Sequential(nn.Dropout(0.4))).eval()
    names = set(model.state_dict())
    quicken_dropout(model)
    quick = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert [(type(module), module.p, module.training) for module in quick] == [
        (QuickDropout, 0.2, False),
        (QuickDropout, 0.4, False),
    ]
    assert set(model.state_dict()) == names
