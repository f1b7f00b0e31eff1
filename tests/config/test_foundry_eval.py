"""Files of llm-foundry's scripts/eval load as jobs of `genai eval`, or say key by key what is not supported."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from genai.config.eval import EvalConfig, TargetConfig
from genai.config.finetune import FinetuneConfig
from genai.config.foundry_convert import convert_foundry
from genai.config.loading import Loaded, load
from genai.config.schemas import guess_job
from genai.config.tree import Origin, graft
from genai.errors import ConfigError

Write = Callable[..., Path]

# The keys of scripts/eval/yamls/hf_eval.yaml and tasks_v0.3.yaml.
HF_EVAL = """\
variables:
  model_name_or_path: EleutherAI/gpt-neo-125m
  precision: fp32
  max_seq_len: 1024

precision: ${variables.precision}
max_seq_len: ${variables.max_seq_len}

models:
-
  model_name: ${variables.model_name_or_path}
  model:
    name: hf_causal_lm
    pretrained_model_name_or_path: ${variables.model_name_or_path}
    init_device: mixed
    pretrained: true
  tokenizer:
    name: ${variables.model_name_or_path}
    kwargs:
      model_max_length: ${variables.max_seq_len}

device_eval_batch_size: 4

fsdp_config:
  sharding_strategy: FULL_SHARD
  mixed_precision: FULL

icl_tasks:
-
  label: svamp
  dataset_uri: eval/local_data/symbolic_problem_solving/svamp.jsonl
  num_fewshot: [5]
  icl_task_type: generation_task_with_answers
  cot_delimiter: "The answer is "
  continuation_delimiter: "\\n\\nA:"
  question_prelimiter: "Question: "
  do_normalization: false
  early_stopping_criteria:
  - "\\n\\n"
  - "Question:"
-
  label: mmlu
  dataset_uri: eval/local_data/world_knowledge/mmlu.jsonl
  num_fewshot: [0, 5]
  icl_task_type: multiple_choice
  continuation_delimiter: "\\nAnswer: "
  has_categories: true
  prelimiter: "Q: "
eval_gauntlet:
  weighting: EQUAL
  subtract_random_baseline: true
  rescale_accuracy: true
  averages:
    core_average:
    - knowledge
  categories:
  - name: knowledge
    benchmarks:
    - name: mmlu
      num_fewshot: 5
      random_baseline: 0.25
"""
OPENAI = """\
seed: 1
max_seq_len: 1024
device_eval_batch_size: 4
models:
- model_name: openai/gpt-3.5-turbo
  model: {name: openai_chat, version: gpt-3.5-turbo}
  tokenizer: {name: tiktoken, kwargs: {model_name: gpt-3.5-turbo}}
- model_name: openai/davinci
  model: {name: openai_causal_lm, version: davinci}
icl_tasks: eval/yamls/lm_tasks_v0.2.yaml
"""


def loaded(path: Path) -> Loaded[EvalConfig]:
    return load(path, EvalConfig)


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(path)
    return [problem.line() for problem in caught.value.problems]


def test_a_file_for_models_of_the_hub(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="genai"):
        config = loaded(write(HF_EVAL)).config
    assert config.targets == {
        "gpt-neo-125m": TargetConfig(
            model="EleutherAI/gpt-neo-125m", max_model_len=1024, precision="fp32", batch_size=4
        )
    }
    assert not isinstance(config.icl_tasks, str)
    svamp, mmlu = config.icl_tasks
    assert (svamp.cot_delimiter, svamp.question_prelimiter, svamp.num_fewshot) == ("The answer is ", "Question: ", [5])
    assert (mmlu.has_categories, mmlu.question_prelimiter, mmlu.num_fewshot) == (True, "Q: ", [0, 5])
    gauntlet = config.eval_gauntlet
    assert gauntlet is not None and not isinstance(gauntlet, str)
    assert gauntlet.averages == {"core_average": ["knowledge"]}
    said = [record.getMessage() for record in caplog.records]
    assert any("models is translated: becomes targets" in line for line in said)
    assert any("fsdp_config has no effect" in line for line in said)
    assert any("icl_tasks.1.prelimiter is translated: becomes question_prelimiter" in line for line in said)


def test_openai_models_are_endpoints(write: Write) -> None:
    config = loaded(write(OPENAI)).config
    url = "https://api.openai.com/v1"
    shared = {"endpoint": url, "api_key": "env:OPENAI_API_KEY", "max_model_len": 1024, "batch_size": 4}
    assert config.targets == {
        "gpt-3-5-turbo": TargetConfig(model="gpt-3.5-turbo", api="chat", **shared),  # type: ignore[arg-type]
        "davinci": TargetConfig(model="davinci", api="completions", **shared),  # type: ignore[arg-type]
    }
    assert config.icl_tasks == "eval/yamls/lm_tasks_v0.2.yaml"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: hf_causal_lm", "name: mpt_causal_lm", "mpt_causal_lm is none of the models that transformers loads"),
        ("pretrained: true", "pretrained: false", "random weights are not evaluated"),
        ("pretrained: true", "load_in_8bit: true", "bitsandbytes is not what 8 bits mean here"),
        ("pretrained: true", "pretrained_lora_id_or_path: a/b", "an adapter is not a model of its own here"),
        ("pretrained: true", "pretraned: true", "llm-foundry's hf_causal_lm does not have it"),
        ("  tokenizer:", "  load_path: s3://a/b.pt\n  tokenizer:", "Composer's checkpoints are not read"),
        ("precision: fp32", "precision: amp_fp8", "there is no amp_fp8 (write amp_bf16 or fp32)"),
        ("device_eval_batch_size: 4", "icl_subset_num_batches: 1", "rows are counted, not batches"),
        ("device_eval_batch_size: 4", "eval_loader: {name: text}", "texts for perplexity are a data set of their own"),
        ("device_eval_batch_size: 4", "code_paths: [a.py]", "a job file runs no Python"),
        ("  has_categories: true", "  hf_parsing_map: {query: [a]}", "columns have fixed names here"),
        ("  has_categories: true", "  strip_dataset: false", "surrounding white space is always taken away"),
    ],
)
def test_what_would_change_a_score_is_refused_with_its_place(write: Write, old: str, new: str, said: str) -> None:
    assert old in HF_EVAL
    (line,) = problems(write(HF_EVAL.replace(old, new)))
    assert said in line
    assert line.startswith("job.yaml:")


def test_what_says_nothing_is_passed_over(write: Write) -> None:
    text = HF_EVAL + "icl_subset_num_batches: -1\ncode_paths: []\nloggers: {}\ncallbacks: {}\ndist_timeout: 600\n"
    assert loaded(write(text)).config.targets


def test_half_precision_becomes_the_model_s_own(write: Write) -> None:
    (target,) = loaded(write(HF_EVAL.replace("precision: fp32", "precision: amp_fp16"))).config.targets.values()
    assert isinstance(target, TargetConfig)
    assert target.precision == "auto"


def test_without_models_they_are_keys_of_a_target(write: Write) -> None:
    text = "target: gallery:smollm2-135m-instruct\nmax_seq_len: 8\nicl_tasks: tasks.yaml\n"
    (line,) = problems(write(text))
    assert "it is said of a target (write target: {model: ..., max_model_len: 1024})" in line


def test_two_models_of_one_name(write: Write) -> None:
    text = OPENAI.replace("openai/davinci", "other/gpt-3.5-turbo")
    assert list(loaded(write(text)).config.targets) == ["gpt-3-5-turbo", "gpt-3-5-turbo-2"]


def test_it_is_converted_with_nothing_dropped_in_silence(write: Write) -> None:
    text = HF_EVAL.replace("${variables.precision}", "fp32").replace("${variables.model_name_or_path}", "a/gpt-neo")
    path = write(text)
    assert guess_job(path, graft(yaml.safe_load(text), Origin("file", "job.yaml"))) == "eval"
    converted = convert_foundry(path)
    assert converted.job == "eval"
    assert "# models:" in converted.text
    assert "# device_eval_batch_size: 4    <- translated: it stands in each of targets" in converted.text
    again = write(converted.text)
    assert loaded(again).config == loaded(write(text)).config


def test_training_takes_tasks_as_well(write: Write, minimal: str) -> None:
    task = (
        "{label: copa, dataset_uri: copa.jsonl, icl_task_type: multiple_choice, num_fewshot: [0, 2], prelimiter: 'Q: '}"
    )
    held_out = "data: {split: {validation: 0.1}}\n"
    config = load(write(f"{minimal}{held_out}icl_tasks: [{task}]\n"), FinetuneConfig).config
    (copa,) = config.icl_tasks
    assert (copa.label, copa.num_fewshot, copa.question_prelimiter) == ("copa", [0, 2], "Q: ")
    assert load(write(f"{minimal}{held_out}icl_tasks: null\n"), FinetuneConfig).config.icl_tasks == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "icl_tasks: [{label: a, dataset_uri: b, icl_task_type: schema}]",
            "icl_tasks are measured with the held-out rows",
        ),
        (
            "data: {split: {validation: 0.1}}\n"
            "icl_tasks: [{label: a, dataset_uri: b, icl_task_type: question_answering}]",
            "task a wants answers, and training measures likelihoods only",
        ),
        ("icl_tasks: tasks.yaml", "icl_tasks"),
        ("icl_tasks_str: tasks.yaml", "write them out, as icl_tasks"),
        ("icl_subset_num_batches: 2", "write limit in each of icl_tasks"),
        ("eval_gauntlet: {categories: []}", "averages over tasks are made by `genai eval`"),
    ],
)
def test_tasks_that_training_cannot_measure(write: Write, minimal: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(f"{minimal}{text}\n"), FinetuneConfig)
    assert said in str(caught.value)
