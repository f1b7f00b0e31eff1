import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from genai.config.training import PeftConfig
from genai.errors import DataError, GateError
from genai.models.adapters import add_adapter, merge
from genai.models.export import export_hf
from genai.models.model_card import ModelCard
from genai.training.forward import CausalLMLoss
from genai.training.precision import prepare_model
from genai.training.proofs import export as module
from genai.training.proofs.export import prove_export

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # peft reads it
]


@pytest.fixture
def sound(tiny_model, tiny_tokenizer):
    """What a job without an adapter does at its end."""
    return lambda folder: export_hf(tiny_model, tiny_tokenizer, folder / "model", card=ModelCard(name="t"))


@pytest.fixture
def prove(tiny_model, tiny_tokenizer, ten_rows, tmp_path):
    def run(export, model=tiny_model, **kwargs):
        model_loss = CausalLMLoss(model, precision="amp_bf16", device="cpu")
        return prove_export(model_loss, tiny_tokenizer, ten_rows, export=export, scratch=tmp_path, **kwargs)

    return run


def test_a_sound_export(tiny_model, sound, prove, snapshot, tmp_path):
    before = snapshot(tiny_model)
    result = prove(sound)
    assert result.ok and result.name == "export"
    assert result.numbers["saved_bytes"] == sum(p.nbytes for p in tiny_model.parameters())
    assert result.numbers["logits_difference"] < 0.02
    assert snapshot(tiny_model) == before
    assert list(tmp_path.iterdir()) == []


def test_a_sound_export_of_an_adapter(tiny_model, tiny_tokenizer, prove, tmp_path):
    tiny_model.save_pretrained(tmp_path / "base")
    adapted = add_adapter(tiny_model, PeftConfig(r=4))
    prepare_model(adapted, "amp_bf16")

    def export(folder):
        merged = merge(add_adapter(LlamaForCausalLM.from_pretrained(tmp_path / "base"), PeftConfig(r=4)))
        return export_hf(merged, tiny_tokenizer, folder / "model", card=ModelCard(name="t"), dtype=torch.bfloat16)

    result = prove(export, model=adapted)
    assert result.numbers["logits_difference"] < 0.05
    assert result.numbers["saved_bytes"] == sum(p.nbytes for p in adapted.parameters() if p.requires_grad)


def refutation(prove, export, tmp_path):
    with pytest.raises(GateError) as caught:
        prove(export)
    assert list(tmp_path.iterdir()) == []
    return str(caught.value)


def test_an_export_that_loses_a_weight(sound, prove, tmp_path):
    def export(folder):
        made = sound(folder)
        weights = load_file(made / "model.safetensors")
        del weights["model.layers.1.mlp.up_proj.weight"]
        save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
        return made

    assert "lacks 1 of the model's weights, among them model.layers.1.mlp.up_proj" in refutation(
        prove, export, tmp_path
    )


def test_an_export_of_another_model(tiny_model, tiny_tokenizer, prove, tmp_path):
    other = LlamaForCausalLM(tiny_model.config)

    def export(folder):
        return export_hf(other, tiny_tokenizer, folder / "model", card=ModelCard(name="t"))

    assert "the exported model is not the one in memory" in refutation(prove, export, tmp_path)


def test_an_export_with_another_tokenizer(tiny_tokenizer, sound, prove, tmp_path):
    def export(folder):
        made = sound(folder)
        path = made / "tokenizer.json"
        values = json.loads(path.read_text())
        vocab = values["model"]["vocab"]
        vocab["a"], vocab["e"] = vocab["e"], vocab["a"]
        path.write_text(json.dumps(values))
        return made

    assert "the exported tokenizer is not the one of the training" in refutation(prove, export, tmp_path)


def test_an_export_that_cannot_be_loaded(sound, prove, tmp_path):
    def export(folder):
        made = sound(folder)
        (made / "model.safetensors").write_bytes(b"\x00" * 10)
        return made

    assert "the exported model cannot be loaded by transformers" in refutation(prove, export, tmp_path)


def test_an_export_that_fails(prove, tmp_path):
    def export(folder):
        raise DataError("the weight x is not finite", fix="go back")

    assert refutation(prove, export, tmp_path) == "the weight x is not finite (go back)"


def test_weights_that_come_back_rounded(sound, prove, tmp_path, monkeypatch):
    def rounding(tensors, path):
        save_file({name: tensor.bfloat16().to(tensor.dtype) for name, tensor in tensors.items()}, path)

    monkeypatch.setattr(module, "save_file", rounding)
    assert "trained weights do not come back from disk as they were saved" in refutation(prove, sound, tmp_path)


def test_of_a_large_model_only_a_part_is_tried(tiny_model, prove, monkeypatch):
    monkeypatch.setattr(module, "_MAX_EXPORTED_PARAMETERS", 1000)
    monkeypatch.setattr(module, "_MAX_SAVED_BYTES", 4 * 259 * 64 + 4 * 64 * 64)
    result = prove(lambda folder: pytest.fail("exported"))
    assert result.ok and result.details[0].startswith(
        "2 of 20 trained tensors (0.1 MiB) saved and read back bit by bit"
    )
    assert "the export was not tried" in result.details[0]
