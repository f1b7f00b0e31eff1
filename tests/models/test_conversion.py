import json
from pathlib import Path

import pytest
import torch

from genai.config.finetune import HFCausalLMConfig
from genai.config.training import PeftConfig
from genai.errors import UsageError
from genai.models.adapters import add_adapter, save_adapter
from genai.models.conversion import export_model
from genai.models.loading import load_model
from genai.models.references import resolve_model

pytestmark = pytest.mark.integration


def logits(path: Path) -> torch.Tensor:
    config = HFCausalLMConfig(pretrained_model_name_or_path=str(path))
    with torch.no_grad():
        model = load_model(config, resolve_model(str(path)), dtype=torch.float32)
        return torch.as_tensor(model(torch.arange(3, 20)[None]).logits)


def test_folder_and_file(tiny: Path, tmp_path: Path) -> None:
    folder = export_model(str(tiny), tmp_path / "out", kind="hf")
    assert torch.equal(logits(folder), logits(tiny))
    assert f'base_model: "{tiny}"' in (folder / "README.md").read_text()
    file = export_model(str(tiny), tmp_path / "deep" / "out.gguf", kind="gguf", dtype="f32")
    assert torch.equal(logits(file), logits(tiny))


def test_dtype(tiny: Path, tmp_path: Path) -> None:
    folder = export_model(str(tiny), tmp_path / "out", kind="hf", dtype="bfloat16")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    with pytest.raises(UsageError, match="--dtype q8_0 is unknown for hf") as caught:
        export_model(str(tiny), tmp_path / "other", kind="hf", dtype="q8_0")
    assert caught.value.fix == "one of float32, bfloat16, float16"


def test_an_adapter_is_merged_on_the_way(tiny: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = resolve_model(str(tiny))
    config = HFCausalLMConfig(pretrained_model_name_or_path=str(tiny))
    model = add_adapter(load_model(config, base, dtype=torch.float32), PeftConfig(r=2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
        expected = model.eval()(torch.arange(3, 20)[None]).logits
    save_adapter(model, tmp_path / "adapter", base=base)
    adapter = str(tmp_path / "adapter")
    file = export_model(str(tiny), tmp_path / "out.gguf", kind="gguf", dtype="f32", adapter=adapter)
    # A sum taken in another order, with weights of a random adapter that may be large.
    assert torch.allclose(logits(file), expected, atol=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".merged")) == []
