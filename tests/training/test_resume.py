"""Which changes a resume takes, and which it refuses."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from genai.config.annotations import all_keys
from genai.config.finetune import FinetuneConfig, FinetuningDatasetConfig, FinetuningLoaderConfig, HFCausalLMConfig
from genai.config.schemas import SCHEMAS
from genai.config.tree import dotted
from genai.training.resume import FREE, INEXACT, compare

CONFIG = FinetuneConfig(
    model=HFCausalLMConfig(pretrained_model_name_or_path="folder"),
    train_loader=FinetuningLoaderConfig(dataset=FinetuningDatasetConfig(path="rows.jsonl")),
)


def _through_json(config: FinetuneConfig) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values


def test_the_same_config_has_no_changes_even_after_json() -> None:
    changes = compare(_through_json(CONFIG), asdict(CONFIG))
    assert changes.refused == changes.inexact == changes.free == ()


@pytest.mark.parametrize(
    ("new", "kind", "key"),
    [
        (replace(CONFIG, max_duration="9ep"), "free", "max_duration"),
        (replace(CONFIG, save_interval="5ba"), "free", "save_interval"),
        (replace(CONFIG, num_threads=1), "inexact", "num_threads"),
        (replace(CONFIG, compile=True), "inexact", "compile"),
        (replace(CONFIG, seed=1), "refused", "seed"),
        (replace(CONFIG, global_train_batch_size=99), "refused", "global_train_batch_size"),
        (replace(CONFIG, max_seq_len=2048), "refused", "max_seq_len"),
        (
            replace(CONFIG, model=replace(CONFIG.model, pretrained_model_name_or_path="other")),
            "refused",
            "model.pretrained_model_name_or_path",
        ),
    ],
)
def test_each_change_has_its_class(new: FinetuneConfig, kind: str, key: str) -> None:
    changes = compare(_through_json(CONFIG), asdict(new))
    by_kind = {"refused": changes.refused, "inexact": changes.inexact, "free": changes.free}
    assert {name: [change.key for change in found] for name, found in by_kind.items() if found} == {kind: [key]}


def test_another_environment_is_inexact() -> None:
    changes = compare({"environment": {"torch": "2.13"}}, {"environment": {"torch": "2.14"}})
    assert [str(change) for change in changes.inexact] == ["environment.torch: '2.13' -> '2.14'"]


@pytest.mark.parametrize("key", [*FREE, *INEXACT])
def test_every_key_of_the_table_exists_in_a_schema(key: str) -> None:
    known = {dotted(path) for schema in SCHEMAS.values() for path, _, _ in all_keys(schema)}
    assert key.replace("*", "NAME") in known


@pytest.mark.parametrize(
    ("dataset", "kind"),
    [
        ({"streams": {"a": {"remote": "s3://new/a", "repeat": 1.0}}}, "free"),
        ({"streams": {"a": {"remote": "s3://old/a", "repeat": 2.0}}}, "refused"),
        ({"streams": {"b": {"remote": "s3://old/a", "repeat": 1.0}}}, "refused"),
    ],
)
def test_shards_may_move_but_not_the_mix(dataset: dict[str, Any], kind: str) -> None:
    before = {"train_loader": {"dataset": {"streams": {"a": {"remote": "s3://old/a", "repeat": 1.0}}}}}
    changes = compare(before, {"train_loader": {"dataset": dataset}})
    assert [name for name in ("free", "inexact", "refused") if getattr(changes, name)][-1] == kind


def test_other_ranks_are_inexact() -> None:
    changes = compare({"fsdp_config": None, "parallel": {"strategy": "auto"}}, {"fsdp_config": {"verbose": False}})
    assert not changes.refused and changes.inexact
