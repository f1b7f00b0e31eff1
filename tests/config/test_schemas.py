from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genai.config import schemas
from genai.config.embed_finetune import EmbedFinetuneConfig
from genai.config.eval import EvalConfig
from genai.config.finetune import FinetuneConfig
from genai.config.index import IndexConfig
from genai.config.pretrain import PretrainConfig
from genai.config.schemas import HOOKS, SCHEMAS, guess_job, job_of, schema_of
from genai.config.tree import Node, Origin, graft
from genai.errors import UsageError


def tree(values: dict[str, Any]) -> Node:
    return graft(values, Origin("file", "x.yaml"))


def test_jobs_and_their_config_classes() -> None:
    assert schema_of("finetune") is FinetuneConfig
    assert schema_of("pretrain") is PretrainConfig
    assert schema_of("embed-finetune") is EmbedFinetuneConfig
    assert schema_of("index") is IndexConfig
    assert schema_of("eval") is EvalConfig
    assert job_of(FinetuneConfig) == "finetune"
    assert job_of(dict) is None
    assert set(HOOKS) <= set(SCHEMAS.values())


def test_an_unknown_job_is_suggested() -> None:
    with pytest.raises(UsageError) as near:
        schema_of("finetun")
    assert near.value.fix == "did you mean 'finetune'?"
    with pytest.raises(UsageError) as far:
        schema_of("xyz")
    assert far.value.fix == "jobs: finetune, pretrain, embed-finetune, index, serve, eval"


def test_the_folder_tells_the_job_and_else_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        """Any other job's config class."""

    monkeypatch.setitem(SCHEMAS, "other", Other)
    monkeypatch.setattr(
        schemas, "hints", lambda schema: {"index": str} if schema is Other else {"model": str, "seed": int}
    )
    assert guess_job(Path("configs/other/deep/er/x.yaml"), tree({"model": 1})) == "other"
    assert guess_job(Path("elsewhere/x.yaml"), tree({"index": 1, "unknown": 2})) == "other"
    assert guess_job(Path("elsewhere/x.yaml"), tree({"model": 1})) == "finetune"
    assert guess_job(Path("configs/unknown/x.yaml"), tree({})) == "finetune"


def test_an_index_is_told_by_its_keys() -> None:
    values = {"name": "faq", "source": {"table": "delta:x"}, "embedding": {"model": "m"}}
    assert guess_job(Path("elsewhere/faq.yaml"), tree(values)) == "index"


@pytest.mark.parametrize(
    "values",
    [
        {"model": {"name": "sentence_encoder"}, "data": {}},
        {"model": {"name": "cross_encoder"}, "data": {}, "seed": 1},
        {"model": {}, "data": {}, "hard_negatives": {}, "matryoshka": {}},
    ],
)
def test_embedding_finetuning_is_told_by_its_model_and_its_keys(values: dict[str, Any]) -> None:
    assert guess_job(Path("elsewhere/faq.yaml"), tree(values)) == "embed-finetune"


@pytest.mark.parametrize(
    ("values", "job"),
    [
        ({"target": "gallery:x", "datasets": []}, "eval"),
        ({"target": "gallery:x", "lm_eval": {}}, "eval"),
        ({"models": [], "icl_tasks": "tasks.yaml", "max_seq_len": 1, "precision": "fp32", "seed": 1}, "eval"),
        ({"model": {}, "train_loader": {}, "icl_tasks": []}, "finetune"),
    ],
)
def test_an_evaluation_is_told_by_what_is_asked(values: dict[str, Any], job: str) -> None:
    assert guess_job(Path("elsewhere/faq.yaml"), tree(values)) == job


@pytest.mark.parametrize(
    ("loader", "job"),
    [
        ({"name": "text"}, "pretrain"),
        ({"name": "finetuning", "dataset": {"streams": {}}}, "finetune"),
        ({"dataset": {"remote": "s3://b"}}, "pretrain"),
        ({"dataset": {"streams": {}}}, "pretrain"),
        ({"dataset": {"path": "x.jsonl"}}, "finetune"),
    ],
)
def test_the_loader_tells_pretraining_from_finetuning(loader: dict[str, Any], job: str) -> None:
    assert guess_job(Path("x.yaml"), tree({"model": {}, "train_loader": loader})) == job
