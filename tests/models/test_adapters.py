import json
from pathlib import Path
from typing import Any

import pytest
import torch

from genai.config.finetune import HFCausalLMConfig
from genai.config.training import PeftConfig
from genai.errors import DataError, UsageError
from genai.models.adapters import (
    Task,
    add_adapter,
    check_target_modules,
    continue_adapter,
    merge,
    merge_adapter,
    save_adapter,
    trainable_state,
)
from genai.models.loading import build_meta, load_model
from genai.models.references import ResolvedModel, resolve_model

pytestmark = pytest.mark.integration
IDS = torch.arange(3, 35).reshape(2, 16)

SHAPES = {
    "lora": PeftConfig(r=4),
    "dora": PeftConfig(r=4, use_dora=True),
    "rslora": PeftConfig(r=4, use_rslora=True, lora_alpha=8),
    "pissa": PeftConfig(r=4, init_lora_weights="pissa"),
    "olora-rslora": PeftConfig(r=4, init_lora_weights="olora", use_rslora=True),
    "bias": PeftConfig(r=4, bias="lora_only", target_modules=["q_proj", "v_proj"]),
    "embeddings": PeftConfig(r=4, modules_to_save=["embed_tokens"]),
}


def load(folder: Path) -> Any:
    config = HFCausalLMConfig(pretrained_model_name_or_path=str(folder))
    return load_model(config, resolve_model(str(folder)), dtype=torch.float32)


def meta(folder: Path) -> Any:
    return build_meta(HFCausalLMConfig(pretrained_model_name_or_path=str(folder)), resolve_model(str(folder)))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return torch.as_tensor(model.eval()(IDS).logits)


@torch.no_grad()
def train_a_little(model: Any) -> None:
    """Move every trainable weight, as training would."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("name", ["lora", "dora", "rslora"])
def test_a_fresh_adapter_changes_nothing(tiny: Path, name: str) -> None:
    before = logits(load(tiny))
    assert torch.allclose(logits(add_adapter(load(tiny), SHAPES[name])), before, atol=1e-5)


def test_only_the_adapter_is_trained(tiny: Path) -> None:
    model = add_adapter(load(tiny), SHAPES["lora"])
    names = set(trainable_state(model))
    assert all("lora_" in name for name in names)
    assert len(names) == 2 * 2 * 7  # A and B, two layers, seven projections


@pytest.mark.parametrize("name", SHAPES)
def test_merged_and_reloaded_logits_equal_those_of_the_adapter(tiny: Path, tmp_path: Path, name: str) -> None:
    base = resolve_model(str(tiny))
    model = add_adapter(load(tiny), SHAPES[name])
    train_a_little(model)
    expected = logits(model)
    assert (expected - logits(load(tiny))).abs().max() > 0.1
    save_adapter(model, tmp_path / "adapter", base=base)
    reloaded = merge_adapter(load(tiny), tmp_path / "adapter", base=base)
    assert torch.allclose(logits(reloaded), expected, atol=1e-3)
    merged = merge(model)
    assert type(merged).__name__ == "LlamaForCausalLM"
    assert torch.allclose(logits(merged), expected, atol=1e-3)


def test_merging_is_done_in_float32(tiny: Path) -> None:
    model = add_adapter(load(tiny), SHAPES["lora"]).to(torch.bfloat16)
    assert merge(model).dtype == torch.float32


def test_an_adapter_goes_on_where_it_was(tiny: Path, tmp_path: Path) -> None:
    base = resolve_model(str(tiny))
    model = add_adapter(load(tiny), SHAPES["lora"])
    train_a_little(model)
    save_adapter(model, tmp_path / "adapter", base=base)
    again = continue_adapter(load(tiny), tmp_path / "adapter", base=base)
    assert torch.equal(logits(again), logits(model))
    assert set(trainable_state(again)) == set(trainable_state(model))


def test_what_is_saved_is_safe_and_says_its_base(tiny: Path, tmp_path: Path) -> None:
    base = ResolvedModel(reference="gallery:tiny", kind="gallery", path=tiny, hub_id="org/tiny")
    save_adapter(add_adapter(load(tiny), SHAPES["lora"]), tmp_path / "adapter", base=base)
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert names == {"adapter_model.safetensors", "adapter_config.json", "genai-base.json"}
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/tiny"
    assert str(tmp_path) not in json.dumps(config)


def test_other_base_weights_are_refused(tiny: Path, tmp_path: Path) -> None:
    base = resolve_model(str(tiny))
    save_adapter(add_adapter(load(tiny), SHAPES["lora"]), tmp_path / "adapter", base=base)
    model = load(tiny)
    model.model.norm.weight.data += 1
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(DataError, match="trained on other weights") as caught:
        continue_adapter(model, tmp_path / "adapter", base=resolve_model(str(tmp_path / "other")))
    assert str(tiny) in str(caught.value.fix)


def test_another_architecture_is_refused(tiny: Path, tmp_path: Path, llama_config: Any) -> None:
    from transformers import LlamaForCausalLM

    save_adapter(add_adapter(load(tiny), SHAPES["lora"]), tmp_path / "adapter", base=resolve_model(str(tiny)))
    wider = LlamaForCausalLM(llama_config(369, hidden_size=128))
    with pytest.raises(DataError, match="does not fit this model"):
        continue_adapter(wider, tmp_path / "adapter")


@pytest.mark.parametrize("damage", ["cut", "missing", "tensor"])
def test_damaged_adapters(tiny: Path, tmp_path: Path, damage: str) -> None:
    from safetensors.torch import load_file, save_file

    save_adapter(add_adapter(load(tiny), SHAPES["lora"]), tmp_path / "adapter", base=resolve_model(str(tiny)))
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "missing":
        file.unlink()
    else:
        state = load_file(file)
        state.pop(next(iter(state)))
        save_file(state, file)
    with pytest.raises(DataError):
        continue_adapter(load(tiny), tmp_path / "adapter")


def test_all_linear_is_all_but_the_output_layer(tiny: Path) -> None:
    names = check_target_modules(meta(tiny), PeftConfig())
    assert len(names) == 14
    assert "lm_head" not in names


@pytest.mark.parametrize(
    ("changes", "message", "fix"),
    [
        ({"target_modules": ["q_proj", "v_prj"]}, "'v_prj' matches nothing", "did you mean 'v_proj'?"),
        ({"target_modules": ["c_attn"]}, "'c_attn' matches nothing", "there are down_proj, gate_proj"),
        ({"target_modules": ".*q_prj"}, "matches nothing", "did you mean 'q_proj'?"),
        ({"target_modules": "(q_proj"}, "is no regular expression", None),
        ({"target_modules": ["mlp"]}, "'model.layers.0.mlp' is no linear layer", "it holds down_proj, gate_proj"),
        ({"target_modules": ["norm"]}, "'model.norm' is no linear layer", "there are"),
        ({"modules_to_save": ["embed_token"]}, "modules_to_save: 'embed_token'", "did you mean 'embed_tokens'?"),
        ({"use_dora": True, "init_lora_weights": "pissa"}, "use_dora does not go with", None),
    ],
)
def test_wrong_targets(tiny: Path, changes: dict[str, Any], message: str, fix: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        check_target_modules(meta(tiny), PeftConfig(**changes))
    assert message in caught.value.message
    assert fix is None or fix in str(caught.value.fix)


@pytest.mark.parametrize(
    ("targets", "count"), [(["q_proj"], 2), ("model.layers.0.*proj", 7), (["layers.1.mlp.up_proj"], 1)]
)
def test_right_targets(tiny: Path, targets: Any, count: int) -> None:
    peft = PeftConfig(r=2, target_modules=targets)
    names = check_target_modules(meta(tiny), peft)
    assert len(names) == count
    adapted = {
        name.split("base_model.model.")[1].split(".lora_")[0] for name in trainable_state(add_adapter(load(tiny), peft))
    }
    assert adapted == set(names)


# --- encoders and sequence classifiers --------------------------------------------------------------------------------


def bert(kind: Task, **changes: Any) -> Any:
    """A random BERT with a pooler; the weights are the same every time."""
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    values = {"vocab_size": 40, "initializer_range": 0.3, "num_labels": 1, **sizes, **changes}
    made: Any = BertForSequenceClassification if kind == "SEQ_CLS" else BertModel
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return made(BertConfig(**values))


@torch.no_grad()
def outputs(model: Any, kind: Task) -> torch.Tensor:
    """Scores, or token vectors."""
    found = model.eval()(input_ids=IDS)
    return torch.as_tensor(found.logits if kind == "SEQ_CLS" else found.last_hidden_state)


ENCODER_SHAPES = {
    "lora": PeftConfig(r=4),
    "dora": PeftConfig(r=4, use_dora=True),
    "pissa": PeftConfig(r=4, init_lora_weights="pissa"),
    "chosen": PeftConfig(r=4, target_modules=["query", "value"]),
    "embeddings": PeftConfig(r=4, modules_to_save=["word_embeddings"]),
}


@pytest.mark.parametrize("name", ENCODER_SHAPES)
@pytest.mark.parametrize("kind", ["FEATURE_EXTRACTION", "SEQ_CLS"])
def test_an_encoder_with_a_merged_adapter_is_the_adapted_one(tmp_path: Path, kind: Task, name: str) -> None:
    # fresh bases every time, because an adapter is put on in place
    base = ResolvedModel(reference="tiny-bert", kind="folder", path=tmp_path, hub_id=None)
    model = add_adapter(bert(kind), ENCODER_SHAPES[name], task=kind)
    assert torch.allclose(outputs(model, kind), outputs(bert(kind), kind), atol=1e-5)
    train_a_little(model)
    expected = outputs(model, kind)
    assert (expected - outputs(bert(kind), kind)).abs().max() > 0.1
    save_adapter(model, tmp_path / "adapter", base=base)
    again = continue_adapter(bert(kind), tmp_path / "adapter")
    if name != "pissa":  # which goes on as a plain one of twice the rank
        assert set(trainable_state(again)) == set(trainable_state(model))
    assert torch.allclose(outputs(again, kind), expected, atol=1e-4)
    assert torch.allclose(outputs(merge_adapter(bert(kind), tmp_path / "adapter"), kind), expected, atol=1e-4)
    merged = merge(model)
    assert type(merged) is type(bert(kind))
    assert set(merged.state_dict()) == set(bert(kind).state_dict())
    assert torch.allclose(outputs(merged, kind), expected, atol=1e-4)


def test_all_linear_of_an_encoder_leaves_its_pooler_out() -> None:
    names = check_target_modules(bert("FEATURE_EXTRACTION"), PeftConfig(), task="FEATURE_EXTRACTION")
    assert len(names) == 2 * 6
    trained = set(trainable_state(add_adapter(bert("FEATURE_EXTRACTION"), PeftConfig(), task="FEATURE_EXTRACTION")))
    assert len(trained) == 2 * len(names)
    assert not any("pooler" in name for name in trained)


def test_every_trained_weight_of_an_encoder_has_a_gradient() -> None:
    model = add_adapter(bert("FEATURE_EXTRACTION"), PeftConfig(r=4), task="FEATURE_EXTRACTION")
    train_a_little(model)
    model(input_ids=IDS).last_hidden_state.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in trainable_state(model).values())


def test_the_head_of_a_classifier_is_trained_and_saved_whole(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    base = ResolvedModel(reference="tiny-bert", kind="folder", path=tmp_path, hub_id=None)
    model = add_adapter(bert("SEQ_CLS"), PeftConfig(r=4), task="SEQ_CLS")
    whole = {name for name in trainable_state(model) if "lora_" not in name}
    assert sorted(name.split(".modules_to_save")[0].removeprefix("base_model.model.") for name in whole) == [
        *["bert.pooler"] * 2,
        *["classifier"] * 2,
    ]
    assert not any("lora_" in name and ("pooler" in name or "classifier" in name) for name in trainable_state(model))
    save_adapter(model, tmp_path / "adapter", base=base)
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {name for name in saved if "lora_" not in name} == {
        f"base_model.model.{part}.{kind}" for part in ("bert.pooler.dense", "classifier") for kind in ("weight", "bias")
    }


def test_a_new_head_comes_out_of_the_adapter(tmp_path: Path) -> None:
    """What a base without a head gets at random is not lost when the adapter is merged into the base loaded anew."""
    base = ResolvedModel(reference="tiny-bert", kind="folder", path=tmp_path, hub_id=None)
    model = add_adapter(bert("SEQ_CLS"), PeftConfig(r=4), task="SEQ_CLS")
    expected = outputs(model, "SEQ_CLS")
    save_adapter(model, tmp_path / "adapter", base=base)
    other = bert("SEQ_CLS")
    for part in (other.classifier, other.bert.pooler.dense):
        torch.nn.init.normal_(part.weight)
    assert not torch.allclose(outputs(other, "SEQ_CLS"), expected, atol=1e-2)
    assert torch.allclose(outputs(merge_adapter(other, tmp_path / "adapter"), "SEQ_CLS"), expected, atol=1e-5)


def test_heads_of_several_layers() -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    sizes = {"dim": 16, "hidden_dim": 24, "n_layers": 1, "n_heads": 2, "vocab_size": 40}
    model: Any = add_adapter(
        DistilBertForSequenceClassification(DistilBertConfig(**sizes)), PeftConfig(), task="SEQ_CLS"
    )
    whole = {name.split(".modules_to_save")[0] for name in trainable_state(model) if "lora_" not in name}
    assert whole == {"base_model.model.pre_classifier", "base_model.model.classifier"}
