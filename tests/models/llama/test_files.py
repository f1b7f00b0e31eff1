"""Folders that transformers wrote and reads, and folders that are not as they should be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from genai.errors import DataError, UsageError
from genai.models.llama import Llama, LlamaConfig, load_llama, save_llama, to_transformers
from genai.models.pull import pull

Make = Callable[..., Any]
CONFIG = LlamaConfig(vocab_size=89, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=48, max_seq_len=64)
TOKENS = torch.randint(0, 89, (2, 40), generator=torch.Generator().manual_seed(1))
LINEAR = {"rope_type": "linear", "factor": 2.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
KINDS: dict[str, dict[str, Any]] = {
    "grouped queries": {},
    "as many keys as queries": {"n_kv_heads": 4},
    "tied": {"tie_embeddings": True},
    "head_dim": {"head_dim": 12},
    "linear": {"rope_scaling": LINEAR},
    "dynamic": {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    "llama3": {"rope_scaling": LLAMA3, "rope_theta": 5e5},
    "biases": {"attention_bias": True, "mlp_bias": True},
}


def make(**changes: Any) -> Llama:
    values = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}
    model = Llama(LlamaConfig(**{**values, **changes}), seed=1)
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            generator = torch.Generator().manual_seed(index)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + float(parameter.ndim == 1))
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: Any = model(TOKENS)
    return found if isinstance(found, torch.Tensor) else found.logits


def load_theirs(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.integration
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_what_we_write(kind: str, tmp_path: Path) -> None:
    model = make(**KINDS[kind])
    theirs = load_theirs(save_llama(model, tmp_path / "model"))
    assert type(theirs).__name__ == "LlamaForCausalLM"
    torch.testing.assert_close(logits(theirs), logits(model), rtol=0, atol=1e-4)
    again = load_llama(tmp_path / "model")
    assert again.config.to_hf() == model.config.to_hf() and torch.equal(logits(again), logits(model))


@pytest.mark.integration
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard", ["20KB", "5GB"])
def test_we_read_what_transformers_writes(tied: bool, shard: str, theirs: Make, tmp_path: Path) -> None:
    reference = theirs(tie_word_embeddings=tied)
    reference.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "20KB")
    model = load_llama(tmp_path)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    torch.testing.assert_close(logits(model), logits(reference), rtol=0, atol=1e-4)


@pytest.mark.integration
def test_shards_of_ours_are_read_by_both(tmp_path: Path) -> None:
    model = make()
    save_llama(model, tmp_path / "model", max_shard_bytes=20_000)
    files = sorted((tmp_path / "model").glob("model-*.safetensors"))
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors" and len(files) > 1
    assert all(file.stat().st_size < 25_000 for file in files)
    torch.testing.assert_close(logits(load_theirs(tmp_path / "model")), logits(model), rtol=0, atol=1e-4)
    assert torch.equal(logits(load_llama(tmp_path / "model")), logits(model))


@pytest.mark.integration
def test_the_real_smollm2_logit_by_logit(shared_cache: None, tmp_path: Path) -> None:
    folder = pull("smollm2-135m-instruct")
    reference, model = load_theirs(folder), load_llama(folder)
    assert model.num_parameters() == 134_515_008
    ids = torch.randint(0, 49152, (2, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), reference(ids).logits, rtol=0, atol=1e-4)
        save_llama(model, tmp_path / "ours")
        torch.testing.assert_close(load_theirs(tmp_path / "ours")(ids).logits, model(ids), rtol=0, atol=1e-4)


@pytest.mark.integration
@pytest.mark.parametrize("tied", [True, False])
def test_the_same_weights_as_a_model_of_transformers(tied: bool) -> None:
    model = make(tie_embeddings=tied, rope_scaling=LLAMA3)
    theirs = to_transformers(model)
    assert not theirs.training
    torch.testing.assert_close(logits(theirs), logits(model), rtol=0, atol=1e-4)
    assert theirs.get_input_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    generated = theirs.generate(TOKENS[:, :5], max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert torch.equal(generated[:, 5], logits(model)[:, 4].argmax(-1))


@pytest.mark.integration
def test_also_on_the_meta_device_for_plans_without_weights() -> None:
    with torch.device("meta"):
        theirs = to_transformers(Llama(CONFIG))
    assert {each.device.type for each in (*theirs.parameters(), *theirs.buffers())} == {"meta"}
    assert theirs.num_parameters() == make().num_parameters()


@pytest.mark.integration
def test_a_tokenizer_goes_with_it(tiny_tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    save_llama(make(), tmp_path / "model", tiny_tokenizer, dtype=torch.bfloat16)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["eos_token_id"], config["bos_token_id"], config["dtype"]) == (2, 1, "bfloat16")
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model")) == len(tiny_tokenizer)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert {each.dtype for each in weights.values()} == {torch.bfloat16}


def test_the_folder_is_replaced_whole_and_readable_for_others(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").write_text("")
    mask = os.umask(0o022)
    try:
        save_llama(make(), folder)
    finally:
        os.umask(mask)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_what_is_not_finite_is_not_written(tmp_path: Path) -> None:
    model = make()
    with torch.no_grad():
        model.model.norm.weight[3] = torch.nan
    with pytest.raises(DataError, match=r"model\.norm\.weight is not finite"):
        save_llama(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


# --- folders that cannot be used --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_llama(make(), tmp_path / "model")


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def test_a_missing_weight_is_named(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.pop("model.norm.weight"))
    with pytest.raises(DataError, match=r"1 weights are missing, e\.g\. model\.norm\.weight"):
        load_llama(folder)


def test_a_weight_without_a_place_is_named(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.update({"model.extra": torch.ones(1)}))
    with pytest.raises(DataError, match=r"no place in the model, e\.g\. model\.extra"):
        load_llama(folder)


def test_a_weight_of_another_shape_is_named(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.update({"model.norm.weight": torch.ones(3)}))
    with pytest.raises(DataError, match=r"model\.norm\.weight has shape \(3,\), not \(32,\)"):
        load_llama(folder)


def test_frequencies_of_old_files_are_passed_over(folder: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_weights(folder, lambda weights: weights.update({name: torch.ones(4)}))
    assert name not in load_llama(folder).state_dict()


def test_a_tied_model_may_hold_its_head_twice_or_under_the_heads_name(tmp_path: Path) -> None:
    model = make(tie_embeddings=True)
    embedding = model.get_input_embeddings().weight.detach().clone()
    for drop in (False, True):
        save_llama(model, tmp_path / "model")

        def change(weights: dict[str, torch.Tensor], drop: bool = drop) -> None:
            weights["lm_head.weight"] = embedding
            if drop:
                del weights["model.embed_tokens.weight"]

        change_weights(tmp_path / "model", change)
        assert torch.equal(load_llama(tmp_path / "model").get_input_embeddings().weight, embedding)


def test_damaged_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10" + bytes(40))
    with pytest.raises(DataError, match="the weights are damaged"):
        load_llama(folder)


def test_files_that_are_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors: there is no such file \(only safetensors are read\)"):
        load_llama(folder)
    (folder / "config.json").unlink()
    with pytest.raises(DataError, match=r"config\.json: there is no such file"):
        load_llama(folder)


def test_an_index_that_points_elsewhere(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="points outside the folder"):
        load_llama(folder)


def test_another_family_is_one_clear_line(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "qwen2"}))
    with pytest.raises(UsageError, match=r"config\.json: the model type is 'qwen2', not 'llama'"):
        load_llama(folder)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_config_that_is_none(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(DataError, match=r"config\.json"):
        load_llama(folder)
