import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from genai.config.training import PeftConfig
from genai.models.adapters import add_adapter
from genai.training.forward import CausalLMLoss
from genai.training.precision import prepare_model
from genai.training.proofs import probe
from genai.training.proofs.accumulation import prove_accumulation
from genai.training.proofs.packing import prove_packing
from genai.training.proofs.probe import in_float32, is_quantised, undisturbed

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # peft reads it
]


def leave_traces(model):
    """A model in the middle of training: gradients, mixed modes, a used random stream."""
    model.train()
    next(iter(model.modules())).training = False
    for index, parameter in enumerate(model.parameters()):
        if parameter.requires_grad and index % 2:
            parameter.grad = torch.randn_like(parameter)


@pytest.fixture(params=["full", "lora"])
def model_loss(tiny_model, request):
    """In full, and with an adapter (with dropout) on a bfloat16 base."""
    torch.manual_seed(3)
    model = tiny_model
    if request.param == "lora":
        model = add_adapter(tiny_model, PeftConfig(r=4, lora_dropout=0.3))
    prepare_model(model, "amp_bf16")
    leave_traces(model)
    return CausalLMLoss(model, precision="amp_bf16", device="cpu")


@pytest.mark.parametrize("prove", [prove_packing, prove_accumulation])
def test_a_proof_leaves_no_trace(model_loss, ten_rows, snapshot, prove):
    before = snapshot(model_loss.model)
    assert prove(model_loss, ten_rows, pad_token_id=0).ok
    assert snapshot(model_loss.model) == before
    assert model_loss.precision == "amp_bf16"


def test_a_failure_leaves_no_trace_either(model_loss, snapshot, monkeypatch):
    monkeypatch.setitem(probe._MAX_PARAMETERS, "cpu", 1)
    before = snapshot(model_loss.model)
    with pytest.raises(ZeroDivisionError), in_float32(model_loss) as scope:
        assert scope == "the first 1 of 2 layers"
        torch.rand(3)
        for parameter in model_loss.model.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        raise ZeroDivisionError
    assert snapshot(model_loss.model) == before
    assert model_loss.precision == "amp_bf16"


def test_inside_all_is_float32_without_dropout_and_gradients(model_loss):
    with in_float32(model_loss) as scope:
        assert scope == "all 2 layers"
        assert {p.dtype for p in model_loss.model.parameters()} == {torch.float32}
        assert {p.grad for p in model_loss.model.parameters()} == {None}
        assert not any(module.training for module in model_loss.model.modules())
        batch = {
            "input_ids": torch.arange(8)[None],
            "labels": torch.arange(8)[None],
            "position_ids": torch.arange(8)[None],
        }
        assert model_loss.logits(batch).dtype == torch.float32
    dtypes = {p.dtype for p in model_loss.model.parameters() if not p.requires_grad}
    assert dtypes <= {torch.bfloat16}


def test_undisturbed_restores_the_random_stream():
    before = torch.get_rng_state()
    with undisturbed(torch.nn.Linear(2, 2)):
        before = torch.get_rng_state()
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("limit", "kept"), [(10**9, 6), (40_000, 3), (1, 2)])
def test_a_large_model_is_looked_at_in_its_first_layers_of_each_kind(monkeypatch, limit, kept):
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=6, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    config.layer_types = ["sliding_attention", "full_attention"] * 3
    monkeypatch.setitem(probe._MAX_PARAMETERS, "cpu", limit)
    layers = model.model.layers
    with probe._few_layers(CausalLMLoss(model, precision="fp32", device="cpu")) as scope:
        assert len(model.model.layers) == kept
        assert scope == ("all 6 layers" if kept == 6 else f"the first {kept} of 6 layers")
    assert model.model.layers is layers


def test_memory_limits_layers_as_well(monkeypatch, tiny_model):
    model_loss = CausalLMLoss(tiny_model.to(torch.bfloat16), precision="amp_bf16", device="cpu")
    monkeypatch.setitem(probe._MAX_EXTRA_BYTES, "cpu", 100_000)
    with in_float32(model_loss) as scope:
        assert scope == "the first 1 of 2 layers"
        cast = {name for name, p in tiny_model.named_parameters() if p.dtype == torch.float32}
        assert "model.embed_tokens.weight" in cast and not any("layers.1" in name for name in cast)


@pytest.mark.parametrize("prove", [prove_packing, prove_accumulation])
def test_quantised_weights_are_told_and_not_judged(tiny_model, ten_rows, prove):
    model_loss = CausalLMLoss(tiny_model, precision="fp32", device="cpu")
    assert not is_quantised(tiny_model)
    packed = torch.nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
    tiny_model.register_parameter("packed", packed)
    result = prove(model_loss, ten_rows, pad_token_id=0)
    assert not result.ok and "quantised" in result.details[0]


def test_nothing_is_compiled_for_a_proof(tiny_model, ten_rows):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    model_loss = CausalLMLoss(tiny_model, precision="amp_bf16", device="cpu")
    for block in tiny_model.model.layers:
        block.compile(backend=backend)
    assert prove_packing(model_loss, ten_rows, pad_token_id=0).ok
    assert compiled == []
    ids = torch.arange(8)[None]
    with torch.no_grad():
        model_loss.logits({"input_ids": ids, "labels": ids, "position_ids": ids})
    assert compiled
