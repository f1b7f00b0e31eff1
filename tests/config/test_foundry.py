from __future__ import annotations

import logging
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from genai.config.annotations import all_keys
from genai.config.finetune import FinetuneConfig
from genai.config.foundry import PASSED_OVER, REFUSED
from genai.config.loading import load
from genai.config.training import DecoupledLionWConfig
from genai.config.tree import dotted
from genai.errors import ConfigError

Write = Callable[..., Path]

AS_IN_LLM_FOUNDRY = """\
global_seed: 17
variables:
  max_seq_len: 512
  run_name:
max_seq_len: ${variables.max_seq_len}
run_name: ${variables.run_name}
model:
  name: hf_causal_lm
  init_device: mixed
  use_auth_token: true
  pretrained: true
  pretrained_model_name_or_path: org/model
  peft_config: {r: 64, peft_type: LORA, task_type: CAUSAL_LM, lora_alpha: 128, target_modules: [Wqkv]}
tokenizer:
  name: org/model
  kwargs: {model_max_length: "${variables.max_seq_len}"}
train_loader: &loader
  name: finetuning
  dataset:
    hf_name: org/data
    split: train
    max_seq_len: ${max_seq_len}
    allow_pad_trimming: false
    decoder_only_format: true
    packing_ratio: auto
    shuffle: true
  drop_last: true
  num_workers: 8
  pin_memory: false
  timeout: 0
eval_loader:
  <<: *loader
  drop_last: false
optimizer: {lr: 0.0001, name: decoupled_lionw, betas: [0.9, 0.95], weight_decay: 1.0e-06}
scheduler: {name: cosine_with_warmup, alpha_f: 0, t_warmup: 0.02dur}
algorithms:
  gradient_clipping: {clipping_type: norm, clipping_threshold: 1}
max_duration: 2ep
eval_interval: 1ep
eval_first: false
eval_subset_num_batches: -1
global_train_batch_size: 16
seed: ${global_seed}
device_eval_batch_size: 8
device_train_microbatch_size: auto
precision: amp_bf16
progress_bar: false
log_to_console: true
console_log_interval: 1ba
dist_timeout: 3600
callbacks:
  speed_monitor: {window_size: 10}
  lr_monitor: {}
  memory_monitor: {}
  runtime_estimator: {}
save_interval: 1000ba
save_num_checkpoints_to_keep: 1
load_path: s3://bucket/checkpoint
load_weights_only: true
"""


def test_a_file_of_llm_foundrys_loads_as_it_is(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="genai"):
        loaded = load(write(AS_IN_LLM_FOUNDRY), FinetuneConfig)
    config = loaded.config
    assert isinstance(config.optimizer, DecoupledLionWConfig)
    assert (config.seed, config.max_seq_len, config.tokenizer.kwargs) == (17, 512, {"model_max_length": 512})
    assert config.eval_loader is not None and config.eval_loader.dataset.hf_name == "org/data"
    lines = [record.getMessage() for record in caplog.records]
    assert "job.yaml:28:3: train_loader.num_workers has no effect: rows are tokenised once" in "\n".join(lines)
    assert not any("eval_subset_num_batches" in line for line in lines)
    assert lines.index(next(line for line in lines if "global_seed" in line)) == 0


def test_what_is_not_supported_is_said_key_by_key(write: Write) -> None:
    text = AS_IN_LLM_FOUNDRY.replace("eval_subset_num_batches: -1", "eval_subset_num_batches: 4") + (
        "fsdp_config: {sharding_strategy: FULL_SHARD}\nicl_tasks:\n- {label: x}\n"
    ).replace("- {label", "  - {label")
    text = text.replace("    packing_ratio: auto\n", "    preprocessing_fn: a.b:c\n    streams: {x: {local: y}}\n")
    with pytest.raises(ConfigError) as error:
        load(write(text), FinetuneConfig)
    said = str(error.value)
    for key, fix in [
        ("train_loader.dataset.preprocessing_fn", "name the columns: format and columns"),
        ("train_loader.dataset.streams", "write path: FILE"),
        ("eval_subset_num_batches", "write eval_loader.dataset.max_rows"),
        ("fsdp_config", "activation_checkpointing: true is a key of its own"),
        ("icl_tasks", "remove it"),
    ]:
        line = next(line for line in said.splitlines() if f"{key} is not supported: " in line)
        assert fix in line and line.startswith("job.yaml:")


def test_no_key_of_ours_is_taken_for_one_of_theirs() -> None:
    ours = {dotted(path) for path, _, _ in all_keys(FinetuneConfig)}
    for pattern in [*PASSED_OVER, *REFUSED]:
        assert not [key for key in ours if fnmatchcase(key, pattern)], pattern
    assert not set(PASSED_OVER) & set(REFUSED)
