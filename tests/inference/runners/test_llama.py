"""The lean pass against transformers: tiny random models of each family, and the real SmolLM2."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from step_reading import answering, greedy, make_step, next_part
from torch import Tensor, nn

from genai.inference.adapter_files import LoadedAdapter, LoraLayer
from genai.inference.adapters import AdapterBank
from genai.inference.interfaces import Part
from genai.inference.runners.linear import Precision
from genai.inference.runners.llama import LlamaRunner, activation_dtype, supports

VOCABULARY = 97
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 96,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SUPPORTED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "one_head_of_keys_each": ("LlamaConfig", {"num_key_value_heads": 4}),
    "one_head_of_keys": ("LlamaConfig", {"num_key_value_heads": 1}),
    "tied": ("LlamaConfig", {"tie_word_embeddings": True}),
    "biases": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    "wide_heads": ("LlamaConfig", {"head_dim": 16}),
    "linear_rope": ("LlamaConfig", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}),
    "llama3_rope": ("LlamaConfig", {"rope_parameters": LLAMA3}),
    "yarn_rope": ("LlamaConfig", {"rope_parameters": YARN}),
    "mistral": ("MistralConfig", {"sliding_window": None, "head_dim": 8}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 16}),
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma": ("GemmaConfig", {"head_dim": 8}),
    "activation": ("LlamaConfig", {"hidden_act": "gelu"}),
    "dynamic_rope": ("LlamaConfig", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
    "window": ("MistralConfig", {"sliding_window": 16, "head_dim": 8}),
    "window_of_some": ("Qwen2Config", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
}
PROMPTS = [[5, 9, 13, 2, 44, 90, 7], [1, 2, 3], [60, 3, 3, 8, 21, 22, 23, 24, 25, 70, 71, 72, 80], [11]]


def make_config(kind: str, changes: dict[str, Any]) -> Any:
    import transformers

    return getattr(transformers, kind)(**{**SMALL, **changes})


def make_model(kind: str, changes: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(make_config(kind, changes)).eval()
    for name, weight in model.named_parameters():
        if weight.ndim == 1:  # norms and biases, which begin as 1 and 0
            nn.init.normal_(weight, 1.0 if "norm" in name else 0.0, 0.3)
    return model.to(dtype)


def lean(model: Any, precision: Precision = "fp32", **kwargs: Any) -> LlamaRunner:
    return LlamaRunner(copy.deepcopy(model), model.config, precision=precision, **kwargs)


@torch.inference_mode()
def own_logits(model: Any, token_ids: list[int]) -> Tensor:
    logits: Tensor = model(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0].float()
    return logits


def differences(model: Any, runner: LlamaRunner, **how: Any) -> list[float]:
    """Of each row of logits from the model's own over the same tokens, as a share of its spread."""
    found: list[float] = []

    def compare(part: Part, logits_V: Tensor) -> None:
        tokens = [*part.sequence.request.prompt_ids, *part.sequence.output_ids[:-1]]
        expected_V = own_logits(model, tokens)[-1]
        found.append(float((logits_V - expected_V).abs().max() / expected_V.square().mean().sqrt()))

    greedy(runner, PROMPTS, 8, on_logits=compare, **how)
    return found


@pytest.mark.parametrize("name", SUPPORTED)
def test_logits_are_those_of_transformers(name: str) -> None:
    model = make_model(*SUPPORTED[name])
    assert supports(model.config)
    found = differences(model, lean(model))
    assert len(found) == 8 * len(PROMPTS)
    assert max(found) < 1e-4


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_computed_otherwise_is_left_to_others(name: str) -> None:
    assert not supports(make_config(*OTHERS[name]))


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.15), ("int8", 0.3)])
@pytest.mark.parametrize("name", ["llama", "biases", "qwen3"])
def test_fewer_bits_stay_near(name: str, precision: Precision, tolerance: float) -> None:
    model = make_model(*SUPPORTED[name], dtype=torch.bfloat16)
    whole = copy.deepcopy(model).float()
    assert max(differences(whole, lean(model, precision))) < tolerance


def test_logits_of_every_token_of_a_part() -> None:
    model = make_model(*SUPPORTED["llama"])
    runner = lean(model)
    runner.allocate(10, 4)
    tokens = list(range(2, 13))
    first = next_part(answering(tokens, [3, 1, 2]), 6, 4)
    runner.forward(make_step([first], 4))
    first.sequence.num_computed = 6
    rest = next_part(first.sequence, 6, 4)
    rest = Part(rest.sequence, rest.start, rest.token_ids, rest.slots, True, wants_all_logits=True)
    logits_RV = runner.forward(make_step([rest], 4))
    torch.testing.assert_close(logits_RV, own_logits(model, tokens)[6:], atol=1e-4, rtol=1e-4)
    logits_RV[0, 0] = 1.0  # whoever gets them may change them


def test_a_step_that_wants_no_logits_gives_none() -> None:
    runner = lean(make_model(*SUPPORTED["llama"]))
    runner.allocate(10, 4)
    assert runner.forward(make_step([next_part(answering(list(range(2, 13)), [3, 1, 2]), 6, 4)], 4)).shape == (0, 97)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_adapter_is_what_merging_it_would_be(precision: Precision) -> None:
    model = make_model(*SUPPORTED["biases"])
    layers = {name: layer for name, layer in model.model.named_modules(prefix="model") if isinstance(layer, nn.Linear)}
    dtype = activation_dtype(precision, model.dtype, "cpu")
    bank = AdapterBank(
        {name: (layer.in_features, layer.out_features) for name, layer in layers.items()},
        max_adapters=2,
        max_rank=4,
        dtype=dtype,
    )
    runner = lean(model, precision, adapters=bank)
    loras = {
        name: LoraLayer(a_RI=torch.randn(2, layer.in_features), b_OR=torch.randn(layer.out_features, 2), scale=0.1)
        for name, layer in layers.items()
    }
    bank.add(1, LoadedAdapter(path=Path("imagined"), layers=loras, rank=2))
    merged = copy.deepcopy(model)
    for name, lora in loras.items():
        merged.get_submodule(name).weight.data += lora.scale * lora.b_OR @ lora.a_RI
    found: list[float] = []

    def compare(part: Part, logits_V: Tensor) -> None:
        whole = merged if part.sequence.adapter_slot else model
        tokens = [*part.sequence.request.prompt_ids, *part.sequence.output_ids[:-1]]
        expected_V = own_logits(whole, tokens)[-1]
        found.append(float((logits_V - expected_V).abs().max() / expected_V.square().mean().sqrt()))

    greedy(runner, PROMPTS, 4, slots=[1, 0, 1, 0], on_logits=compare)
    assert max(found) < (1e-3 if precision == "fp32" else 0.3)


def test_what_is_not_finite_does_not_outlive_its_owner() -> None:
    model = make_model(*SUPPORTED["llama"])
    model.model.embed_tokens.weight.data[50] = torch.nan
    runner = lean(model)
    runner.allocate(4, 4)
    assert not runner.forward(make_step([next_part(answering([50] * 8, [1, 2]), 8, 4)], 4)).isfinite().any()
    good = answering([2, 3, 4, 5, 6], [1, 2])
    logits_RV = runner.forward(make_step([next_part(good, 5, 4)], 4))
    torch.testing.assert_close(logits_RV[0], own_logits(model, [2, 3, 4, 5, 6])[-1], atol=1e-4, rtol=1e-4)


def test_what_it_takes_is_told() -> None:
    model = make_model(*SUPPORTED["tied"])
    runner = lean(model)
    assert runner.vocab_size == VOCABULARY
    assert runner.max_positions == 256
    assert runner.kv_bytes_per_token == 3 * 2 * 2 * 8 * 4
    matrices = sum(weight.nbytes for weight in model.parameters() if weight.ndim == 2)
    head = model.lm_head.weight.nbytes  # laid out for products, beside the embeddings that it is tied to
    assert runner.weight_bytes == matrices + head
    runner.close()


def test_a_model_is_taken_apart_as_it_is_read() -> None:
    model = make_model(*SUPPORTED["llama"])
    LlamaRunner(model, model.config, precision="fp32")
    assert model.model.layers[0].mlp.down_proj.weight.numel() == 0


@pytest.mark.slow
@pytest.mark.needs("g++")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # torch's own, from its compiler
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.15), ("int8", 0.3)])
def test_compiled_it_computes_the_same(precision: Precision, tolerance: float) -> None:
    model = make_model(*SUPPORTED["qwen3"], dtype=torch.float32 if precision == "fp32" else torch.bfloat16)
    runner = lean(model, precision, compile=True)
    assert max(differences(copy.deepcopy(model).float(), runner)) < tolerance


@pytest.mark.integration
@pytest.mark.parametrize(
    ("precision", "mean", "largest"), [("fp32", 1e-4, 1e-3), ("bf16", 0.06, 0.6), ("int8", 0.1, 0.8)]
)
def test_logprobs_of_a_real_model_on_real_text(precision: Precision, mean: float, largest: float) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from genai.models.references import resolve_model

    folder = resolve_model("gallery:smollm2-135m-instruct").path
    tokens = AutoTokenizer.from_pretrained(folder)(REAL_TEXT)["input_ids"]
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    expected_P = logprobs(own_logits(whole, tokens), tokens)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32 if precision == "fp32" else torch.bfloat16)
    runner = LlamaRunner(model, model.config, precision=precision)
    runner.allocate(40, 16)
    sequence = answering(tokens, list(range(39, 0, -1)))
    rows = []
    while sequence.num_computed < len(tokens):
        part = next_part(sequence, 1 if sequence.num_computed % 3 == 2 else 50, 16)
        part = Part(sequence, part.start, part.token_ids, part.slots, part.wants_logits, wants_all_logits=True)
        rows.append(runner.forward(make_step([part], 16)))
        sequence.num_computed = part.stop
    error_P = (logprobs(torch.cat(rows), tokens) - expected_P).abs()
    assert error_P.mean() < mean
    assert error_P.max() < largest


REAL_TEXT = """The harbour of the little town had been closed for three weeks when the first ships came back.
Nobody on the quay believed that they would bring anything but bad news, yet the captains told of
full markets in the south, of new lighthouses, and of a cable that was to be laid along the coast
before winter. In the evening the mayor read out a letter from the capital: the railway would be
built after all, and it would end here, between the fish market and the old salt stores. People
laughed, for they had heard it before. But in spring the surveyors came, with their poles and their
little flags, and after them two hundred men with shovels, who ate everything that the bakers could
bake."""


def logprobs(logits_PV: Tensor, tokens: list[int]) -> Tensor:
    return logits_PV.log_softmax(-1)[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
