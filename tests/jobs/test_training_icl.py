"""Tasks of in-context learning while a model is trained: they see it learn, and change nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from genai.config.eval import IclTaskConfig
from genai.config.loading import load
from genai.config.pretrain import PretrainConfig
from genai.evaluation.icl.metrics import metrics_of
from genai.evaluation.icl.tasks import load_icl
from genai.evaluation.likelihood import answer
from genai.evaluation.records import Continuations, Score
from genai.jobs.pretrain import run
from genai.models.likelihoods import TransformersLikelihoods
from genai.tracking.metrics import read_metrics

pytestmark = pytest.mark.integration

NUM_WORDS = 50
WORDS = ["brick", "beam", "roof", "wall", "floor", "door"]


def told(folder: Path, name: str) -> dict[int, float]:
    return {int(record["step"]): record[name] for record in read_metrics(folder / "metrics.jsonl") if name in record}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def next_words(folder: Path) -> dict[str, Any]:
    """What follows a word in the language of the shards."""
    rows = [{"context": f"w{word}", "continuation": f"w{(word * 7 + 3) % NUM_WORDS}"} for word in range(NUM_WORDS)]
    uri = write(folder / "next.jsonl", rows)
    return {"label": "next", "dataset_uri": uri, "icl_task_type": "language_modeling", "num_fewshot": [0]}


def choices(folder: Path) -> dict[str, Any]:
    rows = [
        {"query": f"what is a {word} ? it is a", "choices": [other, word], "gold": 1}
        for word, other in zip(WORDS, reversed(WORDS), strict=True)
    ]
    uri = write(folder / "choices.jsonl", rows)
    return {"label": "choices", "dataset_uri": uri, "icl_task_type": "multiple_choice", "num_fewshot": [0, 2]}


def accuracy(folder: Path, task: dict[str, Any]) -> dict[str, float]:
    """What `genai eval` would say of an exported model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    likelihoods = TransformersLikelihoods(model, AutoTokenizer.from_pretrained(folder))
    config = IclTaskConfig(**task)
    found = {}
    for label, examples in load_icl(config, 1):
        questions = [each.question for each in examples if isinstance(each.question, Continuations)]
        scores = [
            asyncio.run(metrics_of(config)["accuracy"].score(example, outcome))
            for example, outcome in zip(examples, answer(likelihoods, questions), strict=True)
        ]
        found[label] = sum(score.parts[0] for score in scores if isinstance(score, Score)) / len(scores)
    return found


def test_a_model_is_seen_to_learn(token_job: Any) -> None:
    task = next_words(token_job.folder)
    path = token_job.write(icl_tasks=[task], eval_first=True)
    result = run(load(path, PretrainConfig))
    measured = told(Path(result.path), "icl/next/0-shot/accuracy")
    assert list(measured) == [0, 16, 32, 48] == list(told(Path(result.path), "loss/eval"))
    assert measured[0] < 0.2 < 0.5 < measured[48]
    assert accuracy(Path(result.model), task) == {"next/0-shot": pytest.approx(measured[48])}


def test_measuring_changes_nothing(job: Any) -> None:
    short = {"max_duration": "6ba", "precision": "fp32", "eval_interval": "3ba"}
    job.finish(job.write(**short, run_name="without"))
    task = choices(job.folder)
    job.finish(job.write(**short, run_name="with", icl_tasks=[task]))
    with_tasks, without = job.folder / "runs" / "with", job.folder / "runs" / "without"
    assert job.outcome(with_tasks) == job.outcome(without)
    found = accuracy(with_tasks / "model", task)
    assert found.keys() == {"choices/0-shot", "choices/2-shot"}
    for label, value in found.items():
        measured = told(with_tasks, f"icl/{label}/accuracy")
        assert list(measured) == [3, 6]
        assert measured[6] == pytest.approx(value)


@pytest.mark.slow
def test_on_two_ranks_the_first_one_measures(job: Any) -> None:
    task = choices(job.folder)
    model = {
        "pretrained_model_name_or_path": str(job.folder / "model"),
        "config_overrides": {"attention_dropout": 0.0},
    }
    path = job.write(
        model=model,
        max_duration="4ba",
        precision="fp32",
        eval_interval="2ba",
        global_train_batch_size=4,
        icl_tasks=[task],
    )
    job.finish(path)
    two = job.genai("finetune", str(path), "--nproc", "2", "--run-name", "two")
    assert two.returncode == 0, two.stderr
    for label in ("choices/0-shot", "choices/2-shot"):
        name = f"icl/{label}/accuracy"
        assert told(job.folder / "runs" / "two", name) == told(job.run_directory, name)
    sharded = job.genai(
        "finetune", str(path), "fsdp_config.sharding_strategy=FULL_SHARD", "--nproc", "2", "--run-name", "sharded"
    )
    assert sharded.returncode == 2
    assert "icl_tasks are measured where every rank holds the whole model" in sharded.stderr
