"""The loss of whole models, packed and padded, against transformers run document by document."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genai.config.training import PeftConfig
from genai.errors import GenaiError
from genai.models.adapters import add_adapter
from genai.training.activation_checkpointing import checkpoint_activations
from genai.training.documents import DocumentTiles, NoPacking, PackedPositions
from genai.training.forward import CausalLMLoss
from genai.training.precision import prepare_model

pytestmark = pytest.mark.integration
VOCABULARY = 97
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**COMMON, "tie_word_embeddings": True},
    "qwen2": COMMON,
    "mistral": {**COMMON, "sliding_window": 5},
    "gemma2": {**COMMON, "head_dim": 8, "sliding_window": 5, "final_logit_softcapping": 3.0},
    "granite": {**COMMON, "logits_scaling": 4.0},
    "gpt2": {
        "vocab_size": VOCABULARY,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "attn_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "falcon": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
}
LENGTHS = (9, 1, 7, 12)


def build(family: str, implementation: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **FAMILIES[family])
        model = AutoModelForCausalLM.from_config(config, attn_implementation=implementation)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                # Larger than usual: attention must matter for a leak to show.
                torch.nn.init.normal_(parameter, std=0.3)
    return model.train()


def documents() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator) for length in LENGTHS]


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


def separately(model: Any, denominator: float) -> torch.Tensor:
    losses = []
    for document in documents():
        logits = model(input_ids=document[None]).logits[0].float()
        losses.append(torch.nn.functional.cross_entropy(logits[:-1], document[1:], reduction="sum"))
    return torch.stack(losses).sum() / denominator


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize(
    ("family", "implementation"),
    [(family, "eager") for family in FAMILIES] + [(f, "sdpa") for f in ("llama", "qwen2", "mistral", "gpt2", "falcon")],
)
def test_packed_and_padded_rows_equal_separate_documents(family: str, implementation: str) -> None:
    model = build(family, implementation)
    denominator = float(sum(LENGTHS) - len(LENGTHS))
    expected = separately(model, denominator)
    expected.backward()
    expected_gradients = gradients(model)
    model_loss = CausalLMLoss(model, precision="fp32", device="cpu", chunk_tokens=5)
    assert model.training
    one, two, three, four = documents()
    for batch in (tensors([[one, two, three, four]], 32), tensors([[one], [two], [three], [four]], 12)):
        loss = model_loss.loss(batch, denominator)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(loss.detach(), expected.detach(), rtol=1e-5, atol=1e-5)
        ours = gradients(model)
        assert ours.keys() == expected_gradients.keys()
        largest = max(float(gradient.abs().max()) for gradient in ours.values())
        for name, gradient in ours.items():
            torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-5 * largest)
        token_losses = model_loss.token_losses(batch)
        assert token_losses.shape == (denominator,) and not token_losses.requires_grad
        torch.testing.assert_close(token_losses.sum() / denominator, expected.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "granite"])
def test_z_loss_is_part_of_the_training_loss_alone(family: str) -> None:
    """Granite's logits are its own, not those of a plain head."""
    model = build(family, "sdpa")
    batch = tensors([documents()], 32)
    plain, with_z = (CausalLMLoss(model, precision="fp32", device="cpu", z_loss=z) for z in (0.0, 0.01))
    log_z = torch.logsumexp(plain.logits(batch)[:, :-1], -1)[batch["labels"][:, 1:] >= 0]
    expected = plain.loss(batch, 25.0) + 0.01 * log_z.square().sum() / 25.0
    torch.testing.assert_close(with_z.loss(batch, 25.0), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(with_z.token_losses(batch), plain.token_losses(batch))


def test_token_losses_come_row_by_row() -> None:
    model_loss = CausalLMLoss(build("llama", "sdpa"), precision="fp32", device="cpu")
    one, _, three, _ = documents()
    both = model_loss.token_losses(tensors([[one], [three]], 12))
    first, second = (model_loss.token_losses(tensors([[each]], 12)) for each in (one, three))
    torch.testing.assert_close(both, torch.cat([first, second]))


def test_models_with_a_head_of_their_own_are_found_out(log_lines: list[str]) -> None:
    model_loss = CausalLMLoss(build("granite", "sdpa"), precision="fp32", device="cpu")
    assert model_loss._head is None
    assert any("takes the memory of all logits" in line for line in log_lines)
    assert CausalLMLoss(build("gemma2", "eager"), precision="fp32", device="cpu")._head is not None


def test_a_model_that_cannot_keep_documents_apart_refuses_packed_rows_only() -> None:
    from transformers import BloomConfig, BloomForCausalLM

    model = BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4))
    model_loss = CausalLMLoss(model, precision="fp32", device="cpu")
    assert isinstance(model_loss._packing, NoPacking)
    one, _, three, _ = documents()
    with pytest.raises(GenaiError, match="packed row"):
        model_loss.loss(tensors([[one, three]], 16), 1.0)
    assert float(model_loss.loss(tensors([[one], [three]], 16), 1.0).detach()) > 0


def test_an_all_ones_mask_or_a_cache_would_leak() -> None:
    """Why neither is passed: with them transformers stops looking at positions, without a word."""
    model = build("llama", "sdpa").eval()
    one, _, three, _ = documents()
    batch = tensors([[one, three]], 16)
    packed = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"]}
    with torch.no_grad():
        alone = model(input_ids=three[None]).logits[0]
        kept = model(**packed, use_cache=False).logits[0, 9:16]
        masked = model(**packed, use_cache=False, attention_mask=torch.ones_like(batch["input_ids"])).logits[0, 9:16]
        cached = model(**packed, use_cache=True).logits[0, 9:16]
    torch.testing.assert_close(kept, alone, rtol=1e-4, atol=1e-4)
    assert (masked - alone).abs().max() > 0.1 and (cached - alone).abs().max() > 0.1


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16"])
def test_an_adapter_is_trained_and_nothing_else(precision: str) -> None:
    model = add_adapter(build("llama", "sdpa"), PeftConfig(r=4))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    exact = separately(model, 10.0)
    prepare_model(model, precision)
    one, two, three, four = documents()
    loss = CausalLMLoss(model, precision=precision, device="cpu").loss(tensors([[one, two, three, four]], 32), 10.0)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss.detach(), exact.detach(), rtol=1e-5 if precision == "fp32" else 0.03, atol=1e-4)
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }


def test_modules_to_save_keep_the_chunked_loss() -> None:
    model = add_adapter(build("qwen2", "sdpa"), PeftConfig(r=4, modules_to_save=["lm_head"]))
    prepare_model(model, "fp32")
    model_loss = CausalLMLoss(model, precision="fp32", device="cpu")
    assert model_loss._head is not None
    model_loss.loss(tensors([documents()], 32), 10.0).backward()  # type: ignore[no-untyped-call]
    assert {
        name.split(".")[-3] for name, p in model.named_parameters() if p.grad is not None and "lora" not in name
    } == {"modules_to_save"}


def test_an_adapted_head_goes_through_the_models_own_logits() -> None:
    model = add_adapter(build("qwen2", "sdpa"), PeftConfig(r=4, target_modules=["lm_head", "q_proj"]))
    prepare_model(model, "fp32")
    model_loss = CausalLMLoss(model, precision="fp32", device="cpu")
    assert model_loss._head is None
    loss = model_loss.loss(tensors([documents()], 32), 10.0)
    torch.testing.assert_close(loss, separately(model, 10.0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_activation_checkpointing_changes_no_bit(implementation: str) -> None:
    found = []
    for checkpointing in (False, True):
        model = build("llama", implementation)
        if checkpointing:
            checkpoint_activations(model)
        model_loss = CausalLMLoss(model, precision="amp_bf16", device="cpu")
        model_loss.loss(tensors([documents()], 32), 10.0).backward()  # type: ignore[no-untyped-call]
        found.append(gradients(model))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_bfloat16_is_near_float32() -> None:
    model = build("llama", "sdpa")
    batch = tensors([documents()], 32)
    exact, rounded = (
        CausalLMLoss(model, precision=precision, device="cpu").loss(batch, 25.0) for precision in ("fp32", "amp_bf16")
    )
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)


def test_generation_is_as_before() -> None:
    """Attention in tiles stays switched on, and leaves every other caller to sdpa: padding on the left, a cache."""
    model = build("llama", "sdpa").eval()
    ids = torch.tensor([[0, 0, 5, 6, 7], [3, 4, 5, 6, 9]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "max_new_tokens": 6, "do_sample": False}
    before = model.generate(**arguments)
    model_loss = CausalLMLoss(model, precision="fp32", device="cpu")
    assert isinstance(model_loss._packing, DocumentTiles)
    assert torch.equal(model.generate(**arguments), before)


def test_our_attention_is_not_written_into_the_models_config() -> None:
    model = build("llama", "sdpa")
    CausalLMLoss(model, precision="fp32", device="cpu")
    assert "genai" not in model.config.to_json_string()


def test_a_second_loss_on_the_same_model_chooses_alike() -> None:
    model = build("llama", "sdpa")
    first, second = (CausalLMLoss(model, precision="fp32", device="cpu") for _ in range(2))
    assert type(first._packing) is type(second._packing) is DocumentTiles
    assert type(CausalLMLoss(build("llama", "eager"), precision="fp32", device="cpu")._packing) is PackedPositions


def test_logits_are_the_models() -> None:
    model = build("qwen2", "sdpa").eval()
    one, _, three, _ = documents()
    batch = tensors([[one, three]], 16)
    with torch.no_grad():
        ours = CausalLMLoss(model, precision="fp32", device="cpu").logits(batch)
        torch.testing.assert_close(ours[0, :9], model(input_ids=one[None]).logits[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours[0, 9:], model(input_ids=three[None]).logits[0], rtol=1e-4, atol=1e-4)
