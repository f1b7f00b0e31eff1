"""What every training job is held against, on a job that trains no causal language model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from genai.config.checks_training import CAUSAL_CHECKS, TRAINING_CHECKS
from genai.config.embed_finetune import EmbedFinetuneConfig, RetrievalDataConfig, SentenceEncoderConfig
from genai.config.findings import Finding
from genai.config.training import CallbacksConfig, CosineConfig, LossSpikeConfig, TrainingJobConfig, WSDConfig
from genai.config.tree import dotted

MINIMAL = EmbedFinetuneConfig(
    model=SentenceEncoderConfig(pretrained_model_name_or_path="gallery:all-minilm-l6-v2"),
    data=RetrievalDataConfig(pairs="pairs.jsonl"),
)


def findings(config: TrainingJobConfig) -> list[Finding]:
    return [finding for check in TRAINING_CHECKS for finding in check(config)]


def test_the_minimal_job_has_none() -> None:
    assert findings(MINIMAL) == []


@pytest.mark.parametrize("size", [1, 7, 31, 32])
def test_a_batch_need_not_be_whole_microbatches(size: int) -> None:
    assert findings(replace(MINIMAL, device_train_microbatch_size=size)) == []


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        (
            {"device_train_microbatch_size": 33},
            "device_train_microbatch_size",
            "device_train_microbatch_size of 33 is more than global_train_batch_size of 32",
        ),
        ({"max_duration": "0.5dur"}, "max_duration", "max_duration cannot be a share of itself"),
        (
            {"max_duration": "20ba", "scheduler": CosineConfig(t_warmup="30ba")},
            "scheduler.t_warmup",
            "scheduler.t_warmup of 30ba is longer than max_duration of 20ba",
        ),
        (
            {"max_duration": "20ba", "scheduler": WSDConfig(t_decay="30ba")},
            "scheduler.t_decay",
            "scheduler.t_decay of 30ba is longer than max_duration of 20ba",
        ),
        ({"scheduler": CosineConfig(t_max="0ba")}, "scheduler.t_max", "scheduler.t_max must be longer than zero"),
        ({"save_folder": "s3://b/{run_name}"}, "save_folder", "save_folder holds a placeholder of Composer's"),
        ({"autoresume": False, "resume": "exact"}, "resume", "resume has no effect: autoresume is false"),
        (
            {"callbacks": CallbacksConfig(loss_spike=LossSpikeConfig(threshold=0.5))},
            "callbacks.loss_spike.threshold",
            "a threshold of 0.5 times the median calls every second batch a spike",
        ),
    ],
)
def test_what_is_found(changes: dict[str, Any], key: str, message: str) -> None:
    (finding,) = findings(replace(MINIMAL, **changes))
    assert (dotted(finding.key), finding.message) == (key, message)


def test_causal_jobs_are_held_against_the_same_and_more() -> None:
    assert set(TRAINING_CHECKS) < set(CAUSAL_CHECKS)
