import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genai.errors import DataError
from genai.models.export import export_gguf
from genai.models.pretokenizers import PRE_TOKENIZERS
from genai.models.pull import read_provenance
from genai.models.references import resolve_model

pytestmark = pytest.mark.integration


def test_a_file_is_converted_once(tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = export_gguf(tiny, tmp_path / "model.gguf", dtype="f16")
    with caplog.at_level(logging.INFO, logger="genai"):
        first = resolve_model(str(file))
        again = resolve_model(str(file.rename(tmp_path / "renamed.gguf")))
    assert first.kind == "gguf"
    assert again.path == first.path
    assert caplog.text.count("converting") == 1
    provenance = read_provenance(first.path)
    assert provenance is not None
    assert provenance.source == "file model.gguf"
    assert "model.safetensors" in provenance.files


def test_numbers_are_cut_as_the_file_says(
    tokenizer_with: Callable[..., Any], llama_config: Callable[..., Any], build: Callable[..., Path], tmp_path: Path
) -> None:
    """transformers alone would cut SmolLM2's numbers in GPT-2's way, and pairs of spaces before them."""
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    digits = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer = tokenizer_with(digits)
    folder = build(llama_config(len(tokenizer)), tokenizer)
    resolved = resolve_model(str(export_gguf(folder, tmp_path / "model.gguf", dtype="f32")))
    after = AutoTokenizer.from_pretrained(resolved.path)
    described = json.loads((resolved.path / "tokenizer.json").read_text())["pre_tokenizer"]
    assert described == PRE_TOKENIZERS["smollm"]
    assert "ĠĠ" in tokenizer.tokenize("room  1234")
    assert after("room  1234")["input_ids"] == tokenizer("room  1234")["input_ids"]


@pytest.mark.parametrize("keep", [4, 200, 0.5])
def test_a_damaged_file(tiny: Path, tmp_path: Path, keep: float) -> None:
    file = export_gguf(tiny, tmp_path / "model.gguf", dtype="f32")
    content = file.read_bytes()
    file.write_bytes(content[: int(keep if keep >= 1 else len(content) * keep)])
    with pytest.raises(DataError, match="cannot read this GGUF file") as caught:
        resolve_model(str(file))
    assert caught.value.where == str(file)


def test_no_bars_on_stderr(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = export_gguf(tiny, tmp_path / "model.gguf", dtype="f32")
    capfd.readouterr()
    resolve_model(str(file))
    assert "%|" not in capfd.readouterr().err
