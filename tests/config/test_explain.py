from __future__ import annotations

import pytest

from genai.config.annotations import all_keys
from genai.config.explain import explain, key_infos, split_job
from genai.config.schemas import SCHEMAS
from genai.config.tree import dotted
from genai.errors import UsageError


def test_a_key_with_its_type_default_and_text() -> None:
    (info,) = key_infos("finetune", "train_loader.dataset.max_rows")
    assert (info.allowed, info.default, info.variants) == ("a whole number above 0 or null", "null", ())
    text = explain("finetune", "train_loader.dataset.max_rows")
    assert text.splitlines()[0] == "train_loader.dataset.max_rows"
    assert "Take at most this many rows" in text


def test_a_required_key() -> None:
    assert "none, it has to be written" in explain("finetune", "model.pretrained_model_name_or_path")


def test_a_key_of_several_variants_is_told_for_each() -> None:
    forms = {info.variants: info.default for info in key_infos("finetune", "optimizer.lr")}
    assert forms == {("adamw", "decoupled_adamw"): "1.0e-05", ("decoupled_lionw",): "1.0e-06", ("muon",): "0.001"}
    assert "optimizer.lr   (with name: decoupled_lionw)" in explain("finetune", "optimizer.lr")


def test_a_section_names_its_variants_and_lists_its_keys() -> None:
    text = explain("finetune", "scheduler")
    for tag in ("cosine_with_warmup", "linear_decay_with_warmup", "constant_with_warmup", "wsd"):
        assert f"  name: {tag}  " in text
    assert "scheduler.t_decay [wsd]: a duration; default 0.1dur" in text.splitlines()
    assert "  default  {name: cosine_with_warmup}" in text
    (name, *_) = key_infos("finetune", "scheduler.name")
    assert name.allowed == "cosine_with_warmup, linear_decay_with_warmup, constant_with_warmup or wsd"
    assert name.default == "cosine_with_warmup"


def test_a_job_lists_all_its_keys() -> None:
    for job, schema in SCHEMAS.items():
        text = explain(job)
        for path, _, _ in all_keys(schema):
            assert f"\n{dotted(path)}" in text


@pytest.mark.parametrize(
    ("text", "job", "key"),
    [
        ("finetune", "finetune", ""),
        ("finetune.optimizer.lr", "finetune", "optimizer.lr"),
        ("optimizer.lr", "finetune", "optimizer.lr"),
        ("lr", "finetune", "lr"),
        ("nothing.zzz", "nothing", "zzz"),
    ],
)
def test_split_job(text: str, job: str, key: str) -> None:
    assert split_job(text) == (job, key)


@pytest.mark.parametrize(
    ("job", "key", "message", "fix"),
    [
        ("finetune", "optimzer.lr", "finetune has no key 'optimzer.lr'", "did you mean 'optimizer.lr'?"),
        ("finetune", "lora_alpha", "finetune has no key 'lora_alpha'", "did you mean 'model.peft_config.lora_alpha'?"),
        ("finetune", "qqqq", "finetune has no key 'qqqq'", "genai config explain finetune lists all keys"),
        ("finetun", "", "unknown job 'finetun'", "did you mean 'finetune'?"),
    ],
)
def test_what_does_not_exist_is_suggested(job: str, key: str, message: str, fix: str) -> None:
    with pytest.raises(UsageError) as error:
        explain(job, key)
    assert (error.value.message, error.value.fix) == (message, fix)
