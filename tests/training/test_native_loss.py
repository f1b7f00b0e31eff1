"""The native Llama's loss against plain formulas and against `CausalLMLoss` over transformers' Llama."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from genai.config.training import AdamWConfig, MuonConfig, OptimizerConfig
from genai.models.llama import Llama, LlamaConfig, causal_attention, to_transformers
from genai.training import native_loss as module
from genai.training.activation_checkpointing import checkpoint_activations
from genai.training.compiling import has_cpp_compiler
from genai.training.forward import CausalLMLoss
from genai.training.native_loss import LlamaLoss
from genai.training.optimizers import build_optimizer

LENGTHS = (9, 1, 7, 12)
CONFIG = LlamaConfig(vocab_size=97, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=48, max_seq_len=64)


def build(**changes: Any) -> Llama:
    values = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}
    # Larger weights than usual: attention must matter for a leak to show.
    return Llama(LlamaConfig(**{**values, "init_std": 0.4, **changes}), seed=1)


def documents() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 97, (length,), generator=generator) for length in LENGTHS]


def tensors(rows: list[list[torch.Tensor]], seq: int) -> dict[str, torch.Tensor]:
    """Rows of documents with padding behind them; all tokens but each document's first are trained."""
    ids = torch.zeros(len(rows), seq, dtype=torch.int64)
    labels, positions = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, packed in enumerate(rows):
        start = 0
        for document in packed:
            end = start + len(document)
            ids[row, start:end], labels[row, start + 1 : end] = document, document[1:]
            positions[row, start:end] = torch.arange(len(document))
            start = end
        positions[row, start:] = torch.arange(seq - start)
    return {"input_ids": ids, "labels": labels, "position_ids": positions}


def separately(model: Llama, denominator: float, z_loss: float = 0.0) -> torch.Tensor:
    losses = []
    for document in documents():
        logits = model(document[None])[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, document[1:], reduction="none"))
        losses.append(z_loss * torch.logsumexp(logits, -1) ** 2)
    return torch.cat(losses).sum() / denominator


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_close(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert ours.keys() == expected.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("tiles", [True, False], ids=["tiles", "sdpa"])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize("tied", [True, False])
def test_packed_and_padded_rows_equal_separate_documents(
    tied: bool, z_loss: float, tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sdpa` is what a GPU uses: torch's kernel, with a boolean mask where a row holds several documents."""
    if not tiles:
        monkeypatch.setattr(module, "attend_in_tiles", causal_attention)
        monkeypatch.setattr(module, "document_mask", lambda starts: module._seen_of(starts))
    model = build(tie_embeddings=tied)
    denominator = float(sum(LENGTHS) - len(LENGTHS))
    expected = separately(model, denominator, z_loss)
    expected.backward()  # type: ignore[no-untyped-call]
    expected_gradients = gradients(model)
    model_loss = LlamaLoss(model, precision="fp32", device="cpu", chunk_tokens=5, z_loss=z_loss)
    one, two, three, four = documents()
    for batch in (tensors([[one, two, three, four]], 32), tensors([[one], [two], [three], [four]], 12)):
        loss = model_loss.loss(batch, denominator)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(loss.detach(), expected.detach(), rtol=1e-5, atol=1e-5)
        assert_close(gradients(model), expected_gradients)


def test_token_losses_are_row_by_row_and_without_z_loss() -> None:
    model = build()
    one, _, three, _ = documents()
    model_loss = LlamaLoss(model, precision="fp32", device="cpu", z_loss=1.0)
    both = model_loss.token_losses(tensors([[one], [three]], 12))
    assert both.shape == (8 + 6,) and not both.requires_grad
    expected = [
        torch.nn.functional.cross_entropy(model(each[None])[0, :-1], each[1:], reduction="none").detach()
        for each in (one, three)
    ]
    torch.testing.assert_close(both, torch.cat(expected))


def test_logits_are_the_models() -> None:
    model = build()
    one, _, three, _ = documents()
    found = LlamaLoss(model, precision="fp32", device="cpu").logits(tensors([[one, three]], 16))
    torch.testing.assert_close(found[0, :9], model(one[None])[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0, 9:], model(three[None])[0], rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near_float32() -> None:
    model = build(init_std=0.1)
    batch = tensors([documents()], 32)
    exact, rounded = (LlamaLoss(model, precision=each, device="cpu").loss(batch, 25.0) for each in ("fp32", "amp_bf16"))
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)


def test_activation_checkpointing_changes_no_bit() -> None:
    found = []
    for checkpointing in (False, True):
        model = build()
        if checkpointing:
            checkpoint_activations(model)
        model_loss = LlamaLoss(model, precision="amp_bf16", device="cpu")
        model_loss.loss(tensors([documents()], 32), 10.0).backward()  # type: ignore[no-untyped-call]
        found.append(gradients(model))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("cfg", [AdamWConfig(lr=1e-2), MuonConfig(lr=1e-2)], ids=lambda cfg: cfg.name)
def test_it_learns(cfg: OptimizerConfig) -> None:
    model = build(init_std=0.02, tie_embeddings=True)
    model_loss = LlamaLoss(model, precision="amp_bf16", device="cpu", z_loss=1e-4)
    optimizer = build_optimizer(cfg, model)
    losses = []
    for _ in range(30):
        loss = model_loss.loss(tensors([documents()], 32), 25.0)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(4.58, abs=0.1)  # log(97) and a little z-loss
    assert losses[-1] < 1.5


def test_a_wrapper_that_hands_arguments_on_may_stand_for_the_model() -> None:
    class Wrapper(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.module = inner

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self.module(*args, **kwargs)

    model, batch = build(), tensors([documents()], 32)
    plain, wrapped = (
        LlamaLoss(each, precision="fp32", device="cpu").loss(batch, 10.0) for each in (model, Wrapper(model))
    )
    assert torch.equal(plain, wrapped)


@pytest.mark.integration
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_it_trains_as_transformers_llama_does(z_loss: float) -> None:
    model = build(init_std=0.1, tie_embeddings=True)
    theirs = to_transformers(build(init_std=0.1, tie_embeddings=True))
    batch = tensors([documents()], 32)
    losses = [
        LlamaLoss(model, precision="fp32", device="cpu", z_loss=z_loss).loss(batch, 25.0),
        CausalLMLoss(theirs, precision="fp32", device="cpu", z_loss=z_loss).loss(batch, 25.0),
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    for loss in losses:
        loss.backward()  # type: ignore[no-untyped-call]
    assert_close(gradients(model), gradients(theirs))


PROGRAM = """
import sys, torch
torch.set_num_threads(1)
from genai.models.llama import Llama, LlamaConfig
from genai.training.compiling import compile_blocks
from genai.training.native_loss import LlamaLoss
from genai.training.optimizers import build_optimizer
config = LlamaConfig(vocab_size=128, d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=128)
losses = {}
for how in ("eager", "compiled"):
    model = Llama(config, seed=1)
    names = [name for name, _ in model.named_parameters()]
    if how == "compiled":
        assert compile_blocks(model, device="cpu")
        torch._dynamo.config.error_on_recompile = True
    model_loss = LlamaLoss(model, precision="amp_bf16", device="cpu")
    ids = torch.randint(0, 128, (2, 64), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, 0] = -100
    positions = torch.arange(64).repeat(2, 1)
    for step in range(3):
        loss = model_loss.loss({"input_ids": ids, "labels": labels, "position_ids": positions}, 126.0)
        loss.backward()
    losses[how] = float(loss.detach())
    gradient = model.model.layers[0].mlp.up_proj.weight.grad
    assert gradient.isfinite().all() and gradient.any()
    assert names == [name for name, _ in model.named_parameters()]
assert abs(losses["eager"] - losses["compiled"]) < 0.01, losses
assert torch._dynamo.utils.counters["graph_break"] == {}, torch._dynamo.utils.counters["graph_break"]
"""


@pytest.mark.slow
@pytest.mark.skipif(not has_cpp_compiler(), reason="no C++ compiler")
def test_blocks_compile_once_without_a_break() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
