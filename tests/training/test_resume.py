"""Which changes a resume takes, and which it refuses."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from genai.config.finetune import FinetuneConfig, FinetuningDatasetConfig, FinetuningLoaderConfig, HFCausalLMConfig
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
def test_every_key_of_the_table_exists_in_the_schema(key: str) -> None:
    value: Any = CONFIG
    for part in key.split("."):
        assert hasattr(value, part), f"{key}: no field {part}"
        value = getattr(value, part)
