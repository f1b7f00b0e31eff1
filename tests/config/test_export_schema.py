from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from genai.config.export_schema import json_schema
from genai.config.finetune import FinetuneConfig
from genai.config.loading import load
from genai.config.schemas import SCHEMAS
from genai.errors import ConfigError, UsageError

REPOSITORY = Path(__file__).resolve().parents[2]
Write = Callable[..., Path]

MODEL = {"pretrained_model_name_or_path": "gallery:tiny"}
LOADER = {"dataset": {"path": "x.jsonl"}}
MINIMAL: dict[str, Any] = {"model": MODEL, "train_loader": LOADER}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(json_schema("finetune"))


@pytest.mark.parametrize("job", SCHEMAS)
def test_it_is_a_schema_and_json(job: str) -> None:
    schema = json.loads(json.dumps(json_schema(job)))
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_section_is_closed_and_every_key_documented() -> None:
    schema = json_schema("finetune")
    for section in [schema, *schema["$defs"].values()]:
        assert section["additionalProperties"] is False
        assert all(field["description"] for field in section["properties"].values())
    assert schema["$defs"]["AdamWConfig"]["properties"]["lr"]["description"] == "Peak learning rate."


RIGHT: list[dict[str, Any]] = [
    MINIMAL,
    {"base": "other.yaml"},
    {"base": "other.yaml", "model": {"pretrained": False}, "eval_loader": {"drop_last": True}},
    {**MINIMAL, "optimizer": {"lr": 1e-4}},
    {**MINIMAL, "optimizer": {"name": "decoupled_lionw", "betas": [0.9, 0.99]}},
    {**MINIMAL, "seed": "${variables.seed}", "optimizer": "${variables.optimizer}", "variables": {"seed": 1}},
    {**MINIMAL, "run_name": "x-${seed}", "max_duration": "${variables.d}", "export": {"formats": ["${variables.f}"]}},
    {**MINIMAL, "device_train_microbatch_size": 4, "max_duration": "2e9tok"},
    {**MINIMAL, "tokenizer": {"kwargs": {"anything": [1, {"x": None}]}}, "eval_loader": None},
    {**MINIMAL, "data": {"split": {"validation": 100, "group_by": ["a", "b"]}}},
    {**MINIMAL, "model": {**MODEL, "peft_config": {"init_lora_weights": "pissa", "target_modules": "all-linear"}}},
]
WRONG: list[dict[str, Any]] = [
    {},
    {"model": MODEL},
    {"model": {}, "train_loader": LOADER},
    {**MINIMAL, "train_loader": {}},
    {**MINIMAL, "eval_loader": {"drop_last": True}},
    {**MINIMAL, "optimzer": {"lr": 1}},
    {**MINIMAL, "optimizer": {"lrr": 1}},
    {**MINIMAL, "optimizer": {"name": "sgd"}},
    {**MINIMAL, "optimizer": {"name": "decoupled_lionw", "eps": 1e-8}},
    {**MINIMAL, "optimizer": {"lr": 0}},
    {**MINIMAL, "optimizer": {"betas": [0.9, 1.5]}},
    {**MINIMAL, "optimizer": {"betas": [0.9, 0.9, 0.9]}},
    {**MINIMAL, "seed": "seventeen"},
    {**MINIMAL, "max_duration": "3 epochs"},
    {**MINIMAL, "max_duration": 3},
    {**MINIMAL, "compile": "yes"},
    {**MINIMAL, "export": {"formats": ["onnx"]}},
    {**MINIMAL, "model": {**MODEL, "peft_config": {"r": -1}}},
    {**MINIMAL, "precision": None},
    {"base": 5},
    {"base": "other.yaml", "sed": 1},
]


@pytest.mark.parametrize("values", RIGHT)
def test_right_files_pass(validator: Draft202012Validator, values: dict[str, Any]) -> None:
    assert [error.message for error in validator.iter_errors(values)] == []


@pytest.mark.parametrize("values", WRONG)
def test_wrong_files_do_not(validator: Draft202012Validator, write: Write, values: dict[str, Any]) -> None:
    assert not validator.is_valid(values)
    write(json.dumps(MINIMAL), "other.yaml")
    with pytest.raises(ConfigError):
        load(write(json.dumps(values)), FinetuneConfig)


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("configs/finetune/*.yaml")), ids=lambda path: path.name)
def test_shipped_files_pass(validator: Draft202012Validator, path: Path) -> None:
    assert validator.is_valid(load(path, FinetuneConfig).unresolved)


def test_an_unknown_job() -> None:
    with pytest.raises(UsageError, match="unknown job 'finetun'"):
        json_schema("finetun")
