from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from genai.config.finetune import FinetuneConfig
from genai.config.foundry_convert import convert_foundry
from genai.config.loading import load
from genai.config.pretrain import PretrainConfig
from genai.errors import ConfigError

Write = Callable[..., Path]
FILES = Path(__file__).with_name("llm_foundry")


@pytest.mark.parametrize(
    ("name", "job", "schema"),
    [("mpt-125m.yaml", "pretrain", PretrainConfig), ("mpt-7b_dolly_sft.yaml", "finetune", FinetuneConfig)],
)
def test_the_converted_file_means_the_same(write: Write, name: str, job: str, schema: type) -> None:
    source = write((FILES / name).read_text(), name)
    converted = convert_foundry(source)
    assert converted.job == job
    path = write(converted.text, "converted.yaml")
    assert load(path, schema).config == load(source, schema).config
    assert "max_seq_len: ${variables.max_seq_len}" in converted.text


def test_what_was_answered_stays_as_a_comment_in_its_place(write: Write) -> None:
    source = write((FILES / "gpt2-arc-easy-cpu.yaml").read_text(), "gpt2.yaml")
    converted = convert_foundry(source)
    lines = converted.text.splitlines()
    assert lines[0].startswith("# Written from gpt2.yaml by: genai config from-llmfoundry.")
    preprocessing = next(line for line in lines if "preprocessing_fn" in line)
    assert preprocessing.startswith("    # preprocessing_fn: rows.preprocessing:multiple_choice    <- not supported: ")
    assert lines[lines.index("# eval_interval: 1    <- translated: a bare number counts epochs: 1 is 1ep") + 1] == (
        "eval_interval: 1ep"
    )
    # A section of which nothing is left is empty, not null.
    assert lines[lines.index("callbacks:") + 1 :][-1] == "  {}"
    assert converted.keys("refused") == ["train_loader.dataset.preprocessing_fn"]
    assert converted.keys("translated") == ["eval_interval"]
    assert "callbacks.speed_monitor" in converted.keys("no effect")


def test_a_broken_file_is_told(write: Write) -> None:
    with pytest.raises(ConfigError):
        convert_foundry(write("model: {name: [}"))
