import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from genai.config.serve import LocalEngineConfig
from genai.errors import DataError, UsageError
from genai.inference.memory import LEAN_FAMILIES, count_blocks, plan_encoder_memory, plan_memory
from genai.inference.weight_headers import read_header, read_weights
from genai.models.references import resolve_model

LLAMA = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 16,
    "vocab_size": 32,
    "max_position_embeddings": 64,
}
KEY_NUMBERS = 2 * 2 * 2
"""Layers, heads of keys, numbers of a head."""


def shapes(*, is_tied: bool = True, prefix: str = "model.") -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {f"{prefix}embed_tokens.weight": (32, 8), f"{prefix}norm.weight": (8,)}
    for layer in range(2):
        at = f"{prefix}layers.{layer}"
        found |= {f"{at}.self_attn.{name}.weight": (8, 8) for name in ("q_proj", "o_proj")}
        found |= {f"{at}.self_attn.{name}.weight": (4, 8) for name in ("k_proj", "v_proj")}
        found |= {f"{at}.mlp.{name}.weight": (16, 8) for name in ("gate_proj", "up_proj")}
        found |= {f"{at}.mlp.down_proj.weight": (8, 16), f"{at}.input_layernorm.weight": (8,)}
    return found if is_tied else {**found, "lm_head.weight": (32, 8)}


NUM_PRODUCTS = 2 * (2 * 64 + 2 * 32 + 3 * 128)
NUM_ROWS = 2 * (2 * 8 + 2 * 4 + 2 * 16 + 8)
NUM_OTHER = 3 * 8
NUM_TABLE = 32 * 8


def write(
    folder: Path,
    tensors: Mapping[str, Sequence[int]] | None = None,
    config: Mapping[str, Any] = LLAMA,
    dtype: torch.dtype = torch.float32,
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    made = {name: torch.zeros(*shape).to(dtype) for name, shape in (shapes() if tensors is None else tensors).items()}
    save_file(made, folder / "model.safetensors")
    return folder


def engine(**values: Any) -> LocalEngineConfig:
    return LocalEngineConfig(**{"precision": "fp32", **values})


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_weights_are_counted_in_the_format_they_will_have(tmp_path: Path, stored: torch.dtype) -> None:
    folder = write(tmp_path, dtype=stored)
    numbers = NUM_PRODUCTS + NUM_OTHER + 2 * NUM_TABLE
    assert plan_memory(folder, engine()).weights_bytes == 4 * numbers
    assert plan_memory(folder, engine(precision="bf16")).weights_bytes == 2 * numbers


def test_a_head_of_its_own_is_there_once(tmp_path: Path) -> None:
    folder = write(tmp_path, shapes(is_tied=False))
    assert plan_memory(folder, engine(precision="bf16")).weights_bytes == 2 * (NUM_PRODUCTS + NUM_OTHER + 2 * NUM_TABLE)


def test_a_tied_head_of_another_family_is_not_there_twice(tmp_path: Path) -> None:
    folder = write(tmp_path, config={**LLAMA, "model_type": "gemma2"})
    assert plan_memory(folder, engine(precision="bf16")).weights_bytes == 2 * (NUM_PRODUCTS + NUM_OTHER + NUM_TABLE)


def test_products_in_8_bits_take_a_byte_a_number_and_a_scale_a_row(tmp_path: Path) -> None:
    planned = plan_memory(write(tmp_path), engine(precision="int8"), has_bf16=True)
    head = NUM_TABLE + 4 * 32
    assert planned.weights_bytes == NUM_PRODUCTS + 4 * NUM_ROWS + 2 * (NUM_OTHER + NUM_TABLE) + head
    assert (planned.precision, planned.kv_bytes_per_token) == ("int8", 2 * KEY_NUMBERS * 2)


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_goes_by_the_processor(tmp_path: Path, has_bf16: bool, expected: str) -> None:
    assert plan_memory(write(tmp_path), engine(precision="auto"), has_bf16=has_bf16).precision == expected


def test_the_processor_is_judged_as_by_torch(tmp_path: Path) -> None:
    from genai.models.precision import dtype_for

    expected = "bf16" if dtype_for("auto", torch.device("cpu")) == torch.bfloat16 else "fp32"
    assert plan_memory(write(tmp_path), engine(precision="auto")).precision == expected


def test_the_families_are_those_of_the_lean_runner() -> None:
    from genai.inference.runners import llama

    assert llama._FAMILIES == LEAN_FAMILIES


def test_shards_are_added_up_and_a_second_layout_is_not(tmp_path: Path) -> None:
    whole = plan_memory(write(tmp_path / "whole"), engine())
    folder = write(tmp_path / "sharded")
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    names = list(shapes())
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[:5], names[5:])):
        file = f"model-{number + 1:05}-of-00002.safetensors"
        save_file({name: torch.zeros(shapes()[name]) for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert plan_memory(folder, engine()) == whole
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DataError, match="part of the weights is missing: model-00002-of-00002"):
        plan_memory(folder, engine())
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(DataError, match="outside of its folder"):
        plan_memory(folder, engine())
    index.write_text("[]")
    with pytest.raises(DataError, match="list of the weights' parts"):
        plan_memory(folder, engine())


def test_pickled_weights_and_none_at_all_are_told_apart(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match="there are no weights"):
        plan_memory(folder, engine())
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(DataError, match=r"pickled \(pytorch_model.bin\)") as caught:
        plan_memory(folder, engine())
    assert "safetensors" in str(caught.value.fix)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{{",
        struct.pack("<Q", 10) + b'{"a": "b"}',
        struct.pack("<Q", 8) + b'{"a":{}}',
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(DataError, match="no intact safetensors file"):
        read_header(file)


def test_a_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    file = write(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="cut off"):
        read_weights(tmp_path)


# --- the cache --------------------------------------------------------------------------------------------------------


def test_keys_and_values_are_counted_by_the_weights_or_else_by_the_config(tmp_path: Path) -> None:
    by_weights = plan_memory(write(tmp_path / "a"), engine())
    assert by_weights.kv_bytes_per_token == 2 * KEY_NUMBERS * 4
    fused = {name: shape for name, shape in shapes().items() if "_proj" not in name or "mlp" in name}
    fused |= {f"model.layers.{layer}.self_attn.qkv_proj.weight": (16, 8) for layer in range(2)}
    assert plan_memory(write(tmp_path / "b", fused), engine()).kv_bytes_per_token == 2 * KEY_NUMBERS * 4


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({"num_key_value_heads": None}, 2 * 8),
        ({"head_dim": 5}, 2 * 2 * 5),
        ({"num_key_value_heads": None, "multi_query": True}, 2 * 2),
        ({"num_key_value_heads": None, "num_kv_heads": 1}, 2 * 2),
    ],
)
def test_keys_that_a_config_leaves_out(tmp_path: Path, changes: dict[str, Any], numbers: int) -> None:
    folder = write(tmp_path, {"transformer.word_embeddings.weight": (32, 8)}, {**LLAMA, **changes})
    assert plan_memory(folder, engine()).kv_bytes_per_token == 2 * numbers * 4


def test_the_names_of_gpt_2(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 3, "n_positions": 20, "vocab_size": 32}
    planned = plan_memory(write(tmp_path, {"wte.weight": (32, 8), "h.0.attn.c_attn.weight": (8, 24)}, config), engine())
    assert (planned.kv_bytes_per_token, planned.max_model_len) == (2 * 3 * 8 * 4, 20)


def test_a_config_inside_a_config_and_weights_for_other_senses(tmp_path: Path) -> None:
    inner = {key: value for key, value in LLAMA.items() if key != "model_type"}
    config = {"model_type": "gemma3", "text_config": inner, "hidden_size": 999, "max_position_embeddings": 9999}
    tensors = {**shapes(prefix="language_model.model."), "vision_tower.layers.0.self_attn.k_proj.weight": (99, 99)}
    planned = plan_memory(write(tmp_path, tensors, config), engine())
    assert (planned.kv_bytes_per_token, planned.max_model_len) == (2 * KEY_NUMBERS * 4, 64)
    assert planned.weights_bytes == 4 * (NUM_PRODUCTS + NUM_OTHER + NUM_TABLE)


def test_the_cache_by_default_and_by_size() -> None:
    def blocks(max_model_len: int, **values: Any) -> int:
        return count_blocks(engine(**values), kv_bytes_per_token=100, max_model_len=max_model_len)

    assert blocks(8192, max_num_seqs=4) == 8192 // 16 + 1
    assert blocks(8192, max_num_seqs=32) == 32 * 64 + 1
    assert blocks(100, max_num_seqs=2) == 13 + 1
    assert blocks(8192, kv_cache="160kb") == 102
    with pytest.raises(UsageError, match="holds no block of 16 tokens") as caught:
        blocks(8192, kv_cache="3199b")
    assert "at least 3200 bytes" in str(caught.value.fix)
    assert blocks(8192, kv_cache="3200b") == 2


def test_the_cache_counts_all_of_its_blocks(tmp_path: Path) -> None:
    planned = plan_memory(write(tmp_path), engine(max_num_seqs=2))
    assert planned.num_blocks == 9
    assert planned.kv_bytes == 9 * 16 * planned.kv_bytes_per_token
    parts = (planned.weights_bytes, planned.kv_bytes, planned.workspace_bytes, planned.adapters_bytes)
    assert planned.total_bytes == sum(parts)


def test_the_context_is_the_models_or_less(tmp_path: Path) -> None:
    folder = write(tmp_path)
    assert plan_memory(folder, engine()).max_model_len == 64
    assert plan_memory(folder, engine(max_model_len=10)).max_model_len == 10
    with pytest.raises(UsageError, match="65 is more than the model can read"):
        plan_memory(folder, engine(max_model_len=65))
    write(tmp_path, config={**LLAMA, "max_position_embeddings": None})
    assert plan_memory(folder, engine(max_model_len=65)).max_model_len == 65
    with pytest.raises(UsageError, match="does not say how long"):
        plan_memory(folder, engine())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "no JSON"),
        ("[]", "no model's config"),
        ('{"n_positions": 9}', "num_hidden_layers is missing"),
        ('{"num_hidden_layers": "many"}', "'many', and not a number above 0"),
        ('{"num_hidden_layers": true}', "True, and not a number above 0"),
    ],
)
def test_a_config_that_does_not_tell(tmp_path: Path, text: str, expected: str) -> None:
    folder = write(tmp_path, {"wte.weight": (32, 8)})
    (folder / "config.json").write_text(text)
    with pytest.raises(DataError, match=expected):
        plan_memory(folder, engine())


def test_a_config_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        plan_memory(tmp_path, engine())


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_a_step_takes_more_the_more_it_holds(tmp_path: Path) -> None:
    folder = write(tmp_path)
    few = plan_memory(folder, engine(max_num_seqs=1, max_num_batched_tokens=16)).workspace_bytes
    many = plan_memory(folder, engine(max_num_seqs=64, max_num_batched_tokens=2048)).workspace_bytes
    assert few < many


def test_adapters_are_counted_by_their_files(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({"a": torch.zeros(4, 8), "b": torch.zeros(8, 4)}, adapter / "adapter_model.safetensors")
    folder = write(tmp_path / "model")
    assert plan_memory(folder, engine()).adapters_bytes == 0
    assert plan_memory(folder, engine(), adapters=[adapter, adapter]).adapters_bytes == 2 * 64 * 4
    assert plan_memory(folder, engine(precision="bf16"), adapters=[adapter]).adapters_bytes == 64 * 2


def test_an_encoder_and_what_stands_behind_it(tmp_path: Path) -> None:
    tensors = {"embeddings.word_embeddings.weight": (32, 8), "layer.0.dense.weight": (16, 8)}
    folder = write(tmp_path, tensors, {"model_type": "bert"})
    alone = plan_encoder_memory(folder, max_batch_tokens=100, precision="fp32")
    assert alone.weights_bytes == 4 * (256 + 128)
    assert alone.total_bytes == alone.weights_bytes + alone.workspace_bytes
    more = plan_encoder_memory(folder, max_batch_tokens=200, precision="fp32")
    assert more.workspace_bytes - alone.workspace_bytes == 100 * (8 * 8 + 3 * 16) * 4
    (folder / "2_Dense").mkdir()
    save_file({"linear.weight": torch.zeros(4, 8)}, folder / "2_Dense" / "model.safetensors")
    modules = [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    assert plan_encoder_memory(folder, max_batch_tokens=1, precision="bf16").weights_bytes == 2 * (256 + 128 + 32)
    (folder / "modules.json").write_text("{")
    with pytest.raises(DataError, match="list of the encoder's parts"):
        plan_encoder_memory(folder, max_batch_tokens=1)


def test_a_table_of_vectors_needs_no_config(tmp_path: Path) -> None:
    save_file({"embeddings": torch.zeros(32, 8)}, tmp_path / "model.safetensors")
    assert plan_encoder_memory(tmp_path, max_batch_tokens=1, precision="fp32").weights_bytes == 4 * 256


@pytest.mark.integration
def test_a_real_model_takes_what_was_planned() -> None:
    """Weights and cache to the byte, as its runner counts them."""
    from genai.inference.opening import open_model

    resolved = resolve_model("gallery:smollm2-135m-instruct")
    config = LocalEngineConfig(precision="bf16")
    planned = plan_memory(resolved.path, config)
    opened = open_model(resolved, engine=config)
    assert opened.runner.kv_bytes_per_token == planned.kv_bytes_per_token
    assert opened.max_model_len == planned.max_model_len
    assert opened.runner.weight_bytes == pytest.approx(planned.weights_bytes, rel=0.01)
    opened.runner.close()
