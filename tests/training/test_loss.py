"""The chunked loss against torch's cross-entropy over full logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from genai.training import loss as loss_module
from genai.training.loss import LogitTransform, default_chunk_tokens, linear_cross_entropy, token_cross_entropy

N, D, V = 23, 8, 37


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that do not divide anything evenly."""
    monkeypatch.setattr(loss_module, "_BLOCK_ELEMENTS", 3 * V)


def inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((N, D), (V, D), (V,)))
    targets = torch.randint(0, V, (N,), generator=generator)
    leaves = [each.to(dtype).requires_grad_() for each in (hidden, weight, bias)]
    return leaves[0], leaves[1], leaves[2], targets


def reference(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, targets: torch.Tensor, cap: float | None
) -> torch.Tensor:
    logits = F.linear(hidden, weight, bias)
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    return F.cross_entropy(logits, targets, reduction="none")


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("chunk_tokens", [1, 7, N, 1000])
def test_loss_and_gradients_are_those_of_full_logits(chunk_tokens: int, cap: float | None) -> None:
    hidden, weight, bias, targets = inputs()
    expected = reference(hidden, weight, bias, targets, cap).sum() / 5.0
    ours = linear_cross_entropy(
        hidden, weight, targets, denominator=5.0, chunk_tokens=chunk_tokens, bias_V=bias, transform=LogitTransform(cap)
    )
    torch.testing.assert_close(ours, expected)
    leaves = (hidden, weight, bias)
    for a, b in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("chunk_tokens", [7, 1000])
def test_z_loss_and_its_gradients_are_those_of_the_formula(chunk_tokens: int, cap: float | None) -> None:
    """PaLM's auxiliary loss: z * log(Z)^2 for each token."""
    hidden, weight, bias, targets = inputs()
    scores = F.linear(hidden, weight, bias)
    scores = scores if cap is None else cap * torch.tanh(scores / cap)
    log_z = scores.exp().sum(-1).log()
    expected = (reference(hidden, weight, bias, targets, cap) + 0.1 * log_z**2).sum() / 5.0
    ours = linear_cross_entropy(
        hidden,
        weight,
        targets,
        denominator=5.0,
        chunk_tokens=chunk_tokens,
        bias_V=bias,
        transform=LogitTransform(cap),
        z_loss=0.1,
    )
    torch.testing.assert_close(ours, expected)
    leaves = (hidden, weight, bias)
    for a, b in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(a, b)


def test_gradcheck_with_z_loss() -> None:
    hidden, weight, bias, targets = inputs()

    def with_z(*leaves: torch.Tensor) -> torch.Tensor:
        h, w, b = leaves
        return linear_cross_entropy(h, w, targets, denominator=2.0, chunk_tokens=9, bias_V=b, z_loss=0.3)

    assert torch.autograd.gradcheck(with_z, (hidden, weight, bias))


def test_z_loss_of_bfloat16_products() -> None:
    hidden, weight, _, targets = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(hidden, weight, targets, denominator=float(N), chunk_tokens=6, z_loss=1e-2)
    logits = F.linear(hidden.bfloat16(), weight.bfloat16()).float()
    expected = F.cross_entropy(logits, targets) + 1e-2 * logits.logsumexp(-1).square().mean()
    torch.testing.assert_close(ours, expected)


def test_gradcheck() -> None:
    hidden, weight, bias, targets = inputs()

    def scaled(*leaves: torch.Tensor) -> torch.Tensor:
        h, w, b = leaves
        transform = LogitTransform(1.5)
        return 3 * linear_cross_entropy(h, w, targets, denominator=2.0, chunk_tokens=9, bias_V=b, transform=transform)

    assert torch.autograd.gradcheck(scaled, (hidden, weight, bias))


def test_token_losses() -> None:
    hidden, weight, bias, targets = inputs()
    losses = token_cross_entropy(hidden, weight, targets, chunk_tokens=6, bias_V=bias)
    assert not losses.requires_grad
    torch.testing.assert_close(losses, reference(hidden, weight, bias, targets, None).detach())


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight, _, targets = inputs()
    frozen = weight.detach()
    linear_cross_entropy(hidden, frozen, targets, denominator=1.0, chunk_tokens=6).backward()
    assert frozen.grad is None and hidden.grad is not None


def test_a_tied_head_adds_to_the_embedding() -> None:
    _, weight, _, targets = inputs()
    tokens = torch.arange(N) % V

    def grad(loss_of: Any) -> torch.Tensor:
        return torch.autograd.grad(loss_of(F.embedding(tokens, weight)), weight)[0]

    ours = grad(lambda h: linear_cross_entropy(h, weight, targets, denominator=float(N), chunk_tokens=6))
    torch.testing.assert_close(ours, grad(lambda h: F.cross_entropy(h @ weight.t(), targets)))


def test_huge_logits_do_not_overflow() -> None:
    """A target with a probability that float32 cannot hold still has a finite loss: the distance of two logits."""
    hidden, weight = torch.tensor([[300.0]]), torch.tensor([[1.0], [-1.0], [0.0]])
    losses = token_cross_entropy(hidden, weight, torch.tensor([1]), chunk_tokens=1)
    assert losses.tolist() == [600.0]


def test_nan_is_not_hidden() -> None:
    hidden = torch.full((1, 2), torch.nan)
    assert token_cross_entropy(hidden, torch.ones(3, 2), torch.tensor([1]), chunk_tokens=1).isnan().all()


def test_bfloat16_is_used_where_autocast_is_on_and_softmax_stays_in_float32() -> None:
    hidden, weight, bias, targets = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(hidden, weight, targets, denominator=float(N), chunk_tokens=6, bias_V=bias)
    logits = F.linear(hidden.bfloat16(), weight.bfloat16(), bias.bfloat16()).float()
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, F.cross_entropy(logits, targets))
    exact = F.cross_entropy(F.linear(hidden, weight, bias), targets)
    for a, b in zip(
        torch.autograd.grad(ours, (hidden, weight)), torch.autograd.grad(exact, (hidden, weight)), strict=True
    ):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.01 * float(b.abs().max()))


def test_microbatches_add_up() -> None:
    hidden, weight, _, targets = inputs()
    whole = linear_cross_entropy(hidden, weight, targets, denominator=float(N), chunk_tokens=6)
    cut = [
        linear_cross_entropy(hidden[part], weight, targets[part], denominator=float(N), chunk_tokens=6)
        for part in (slice(0, 3), slice(3, N))
    ]
    torch.testing.assert_close(sum(cut), whole)


def test_no_tokens_give_a_loss_of_zero() -> None:
    hidden, weight, _, targets = inputs()
    loss = linear_cross_entropy(hidden[:0], weight, targets[:0], denominator=3.0, chunk_tokens=6)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0 and weight.grad is not None and not weight.grad.any()


def test_memory_does_not_grow_with_the_number_of_tokens() -> None:
    """The largest block that the loss allocates is a chunk's, not the batch's."""
    sizes: list[int] = []

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            sizes.extend(
                each.numel() for each in torch.utils._pytree.tree_leaves(out) if isinstance(each, torch.Tensor)
            )
            return out

    hidden, weight = torch.randn(512, D), torch.randn(V, D)
    with Largest():
        token_cross_entropy(hidden, weight, torch.zeros(512, dtype=torch.int64), chunk_tokens=64)
    assert max(sizes) == 64 * V < 512 * V


def test_chunks_are_larger_on_a_gpu() -> None:
    assert default_chunk_tokens(torch.device("cpu")) < default_chunk_tokens(torch.device("cuda"))
