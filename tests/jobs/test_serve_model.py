"""`genai serve MODEL`: what the one model is called, and what becomes of a reference that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from genai.config.serve import ModelEndpointConfig
from genai.errors import ConfigError, UsageError
from genai.jobs.serve_model import for_model, name_of


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("runs:faq-lora", "faq-lora"),
        ("runs:faq-lora/ba20", "ba20"),
        ("gallery:smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("hf:Qwen/Qwen3-0.6B", "Qwen3-0.6B"),
        ("./models/my model/", "my-model"),
        ("/data/model.gguf", "model"),
        ("s3://bucket/folder/chat", "chat"),
        ("registry:faq@production", "faq"),
        ("./Modell für Bäder", "Modell-f-r-B-der"),
        ("../..", "model"),
        ("./日本", "model"),
    ],
)
def test_a_model_has_the_last_part_of_its_reference_as_name(reference: str, name: str) -> None:
    assert name_of(reference) == name


def test_a_model_alone_makes_a_job_file(tmp_path: Path) -> None:
    (tmp_path / "chat").mkdir()
    (tmp_path / "chat" / "config.json").write_text('{"model_type": "llama"}')
    loaded = for_model(str(tmp_path / "chat"), ["listen.port=9000"])
    assert loaded.config.listen.port == 9000
    endpoint = loaded.config.endpoints["chat"]
    assert isinstance(endpoint, ModelEndpointConfig)
    assert endpoint.model == str(tmp_path / "chat")


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        for_model(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"listen\.prt"):
        for_model("gallery:smollm2-135m-instruct", ["listen.prt=9000"])
