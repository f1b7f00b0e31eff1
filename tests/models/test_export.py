import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genai.config.finetune import HFCausalLMConfig, TokenizerConfig
from genai.config.training import PeftConfig
from genai.errors import DataError
from genai.models.adapters import add_adapter
from genai.models.export import ModelCard, export_hf, stored_dtype
from genai.models.loading import load_model, load_tokenizer
from genai.models.references import resolve_model

pytestmark = pytest.mark.integration
CARD = ModelCard(name="tiny")


def load(folder: Path) -> tuple[Any, Any]:
    config = HFCausalLMConfig(pretrained_model_name_or_path=str(folder))
    resolved = resolve_model(str(folder))
    return load_model(config, resolved, dtype=torch.float32), load_tokenizer(config, TokenizerConfig(), resolved)


def test_plain_transformers_loads_it(tiny: Path, tmp_path: Path) -> None:
    model, tokenizer = load(tiny)
    expected = model(torch.arange(3, 20)[None]).logits
    folder = export_hf(model, tokenizer, tmp_path / "out", card=CARD)
    code = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
messages = [{"role": "user", "content": "Hello"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
model.generate(**inputs, max_new_tokens=4)
torch.save(model(torch.arange(3, 20)[None]).logits, sys.argv[2])
assert not any(name.split(".")[0] in ("genai", "peft") for name in sys.modules)
"""
    command = [sys.executable, "-I", "-c", code, str(folder), str(tmp_path / "logits.pt")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert torch.equal(torch.load(tmp_path / "logits.pt", weights_only=True), expected)


def test_everything_is_there_and_nothing_of_this_machine(tiny: Path, tmp_path: Path) -> None:
    folder = export_hf(*load(tiny), tmp_path / "out", card=CARD)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for name in names - {"model.safetensors"}:
        assert str(tmp_path) not in (folder / name).read_text(), name
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_generation_config_knows_every_end(
    tokenizer_with: Callable[..., Any], llama_config: Callable[..., Any], build: Callable[..., Path], tmp_path: Path
) -> None:
    tokenizer = tokenizer_with(chat_template="{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}")
    folder = build(llama_config(len(tokenizer)), tokenizer)
    (folder / "generation_config.json").write_text('{"eos_token_id": 2, "temperature": 0.6, "do_sample": true}')
    exported = export_hf(*load(folder), tmp_path / "out", card=CARD)
    values = json.loads((exported / "generation_config.json").read_text())
    assert values["eos_token_id"] == [0, 2]
    assert (values["temperature"], values["do_sample"]) == (0.6, True)


@pytest.mark.parametrize("tied", [True, False])
def test_dtype_of_the_files(
    tiny_tokenizer: Any, llama_config: Callable[..., Any], build: Callable[..., Path], tmp_path: Path, tied: bool
) -> None:
    from safetensors.torch import load_file

    folder = build(llama_config(len(tiny_tokenizer), tie_word_embeddings=tied), tiny_tokenizer)
    model, tokenizer = load(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exported = export_hf(model, tokenizer, tmp_path / "out", card=CARD, dtype=torch.bfloat16)
    state = load_file(exported / "model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}
    assert ("lm_head.weight" in state) is not tied
    assert json.loads((exported / "config.json").read_text())["dtype"] == "bfloat16"
    assert stored_dtype(resolve_model(str(exported))) == torch.bfloat16
    assert stored_dtype(resolve_model(str(folder))) == torch.float32
    assert model.dtype == torch.float32
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    again, _ = load(exported)
    assert torch.equal(again.model.norm.weight, before["model.norm.weight"].bfloat16().float())


def test_a_broken_model_is_not_exported(tiny: Path, tmp_path: Path) -> None:
    model, tokenizer = load(tiny)
    model.model.norm.weight.data[3] = float("nan")
    with pytest.raises(DataError, match=r"model\.norm\.weight is not finite"):
        export_hf(model, tokenizer, tmp_path / "out", card=CARD)
    assert not (tmp_path / "out").exists()


def test_an_adapter_must_be_merged_first(tiny: Path, tmp_path: Path) -> None:
    model, tokenizer = load(tiny)
    adapted: Any = add_adapter(model, PeftConfig(r=2))
    with pytest.raises(DataError, match="still holds an adapter"):
        export_hf(adapted, tokenizer, tmp_path / "out", card=CARD)


def test_replaces_what_was_there(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").touch()
    export_hf(*load(tiny), tmp_path / "out", card=CARD)
    assert not (tmp_path / "out" / "old.txt").exists()
