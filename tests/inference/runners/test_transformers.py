"""Tiny random models of many architectures, token by token against transformers' own generate, in float32."""

import dataclasses
from typing import Any

import pytest
import torch
from step_reading import answering, greedy, make_step, next_part

from genai.errors import UsageError
from genai.inference.probing import check_runner, own_logits
from genai.inference.runners.transformers import (
    TransformersRunner,
    check_architecture,
    context_of,
    survey,
    vocab_size_of,
)

VOCABULARY = 97
PROMPTS = [[5, 9, 13, 2, 44, 90, 7], [1, 2, 3], [60, 3, 3, 8, 21, 22, 23, 24, 25, 70, 71, 72, 80], [11]]

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 96,
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SLIDING = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}

SERVED: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", GPT2),
    "gemma": ("GemmaConfig", SMALL),
    "gemma2": ("Gemma2Config", {**SMALL, **SLIDING, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3TextConfig", {**SMALL, **SLIDING}),
    "phi": ("PhiConfig", SMALL),
    "phi3": ("Phi3Config", SMALL),
    "qwen3_moe": ("Qwen3MoeConfig", {**SMALL, **MOE}),
    "qwen2_window": ("Qwen2Config", {**SMALL, **SLIDING, "use_sliding_window": True}),
    "mistral_window": ("MistralConfig", {**SMALL, "sliding_window": 6}),
    "opt": ("OPTConfig", {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.3}),
    "gpt_neox": ("GPTNeoXConfig", SMALL),
    "stablelm": ("StableLmConfig", SMALL),
    "cohere": ("CohereConfig", SMALL),
    "deepseek": (
        "DeepseekV3Config",
        {
            **{name: value for name, value in SMALL.items() if name != "head_dim"},
            "num_key_value_heads": 4,
            "q_lora_rank": 16,
            "kv_lora_rank": 8,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 6,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "moe_intermediate_size": 16,
            "first_k_dense_replace": 1,
        },
    ),
}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "gptj": ("GPTJConfig", {**GPT2, "rotary_dim": 4}, "attention interface"),
    "bloom": ("BloomConfig", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}, "places"),
    "mamba": ("MambaConfig", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}, "linear_attention"),
    "gpt_oss": ("GptOssConfig", {**SMALL, "num_local_experts": 2, "num_experts_per_tok": 1}, "s_aux"),
    "lfm2": ("Lfm2Config", {**SMALL, "layer_types": ["conv", "full_attention"]}, "conv"),
}


def build(kind: str, values: dict[str, Any]) -> Any:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, kind)(**values)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def opened(model: Any) -> TransformersRunner:
    references = own_logits(model, vocab_size_of(model))
    runner = TransformersRunner(model, survey(model, name="tiny"), max_positions=128)
    check_runner(runner, references, tolerance=1e-3, name="tiny")
    return runner


def generated(model: Any, prompt: list[int], num_new: int) -> list[int]:
    ids = torch.tensor([prompt])
    model.generation_config.eos_token_id = None
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_new, do_sample=False)
    return [int(token) for token in out[0, len(prompt) :]]


@pytest.mark.parametrize("name", SERVED)
def test_greedy_tokens_are_those_of_transformers(name: str) -> None:
    model = build(*SERVED[name])
    expected = [generated(model, prompt, 12) for prompt in PROMPTS]
    assert len({tuple(tokens) for tokens in expected}) > 1
    runner = opened(model)
    assert runner.vocab_size == VOCABULARY
    assert greedy(runner, PROMPTS, 12) == expected
    assert greedy(runner, PROMPTS[:1], 12, chunk=64) == expected[:1]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_in_pieces_is_refused(name: str) -> None:
    import transformers

    kind, values, reason = REFUSED[name]
    if name in ("bloom", "mamba", "lfm2"):
        with pytest.raises(UsageError, match=reason):
            check_architecture(getattr(transformers, kind)(**values), name="tiny")
        return
    with pytest.raises(UsageError, match=f"(?s)cannot be served.*{reason}"):
        opened(build(kind, values))


def test_logits_of_a_whole_prompt(phi: Any) -> None:
    expected_PV = phi(torch.tensor([PROMPTS[2]])).logits[0]
    runner = opened(phi)
    runner.allocate(8, 4)
    sequence = answering(PROMPTS[2], [3, 6, 1, 2])
    for start, stop in ((0, 6), (6, 13)):
        part = next_part(sequence, stop - start, 4)
        step = make_step([dataclasses.replace(part, wants_all_logits=True)], 4)
        torch.testing.assert_close(runner.forward(step), expected_PV[start:stop], atol=1e-4, rtol=1e-4)
        sequence.num_computed = stop


def test_a_model_that_disagrees_with_itself_is_refused(phi: Any) -> None:
    references = own_logits(phi, VOCABULARY)
    found = survey(phi, name="tiny")
    with torch.no_grad():
        phi.model.layers[1].self_attn.v_proj.weight.mul_(1.02)
    with pytest.raises(UsageError, match="its logits are not the model's own"):
        check_runner(TransformersRunner(phi, found, max_positions=128), references, tolerance=1e-3, name="tiny")


def test_the_context_ends_where_rotary_embeddings_would_change() -> None:
    from transformers import GPT2Config, LlamaConfig

    assert context_of(GPT2Config(**GPT2)) == 128
    assert context_of(LlamaConfig(max_position_embeddings=64)) == 64
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e4}
    assert context_of(LlamaConfig(max_position_embeddings=256, rope_parameters=yarn)) == 256
    dynamic = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    assert context_of(LlamaConfig(max_position_embeddings=64, rope_parameters=dynamic)) == 64


def test_sizes(phi: Any) -> None:
    runner = opened(phi)
    assert runner.kv_bytes_per_token == 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, width, float32
    assert runner.weight_bytes == sum(parameter.nbytes for parameter in phi.parameters()) + sum(
        buffer.nbytes for buffer in phi.buffers()
    )
    runner.close()


@pytest.fixture
def phi() -> Any:
    return build(*SERVED["phi"])
