from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from genai.config.checks_finetune import COLUMNS, check_finetune
from genai.config.finetune import FinetuneConfig, RowFormat
from genai.config.loading import load
from genai.config.tree import dotted
from genai.errors import ConfigError

Write = Callable[..., Path]
MODEL, DATASET = "model", "train_loader.dataset"


def findings(write: Write, minimal: str, *overrides: str) -> list[tuple[str, str, str | None]]:
    """The checks' findings for the minimal job with overrides, past the loader (which raises on the first faults)."""
    try:
        loaded = load(write(minimal), FinetuneConfig, overrides)
    except ConfigError as error:
        return [(problem.where or "", problem.message, problem.fix) for problem in error.problems]
    return [(dotted(each.key), each.message, each.fix) for each in check_finetune(loaded.config)]


def test_the_minimal_job_has_none(write: Write, minimal: str) -> None:
    assert findings(write, minimal) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([f"{DATASET}={{}}"], "train_loader.dataset names no data"),
        ([f"{DATASET}={{path: []}}"], "train_loader.dataset names no data"),
        ([f"{DATASET}.hf_name=x"], "train_loader.dataset has both path and hf_name"),
        ([f"{DATASET}.remote=s3://b/rows"], "train_loader.dataset has both path and remote"),
        ([f"{DATASET}.path=null", f"{DATASET}.streams={{a: {{split: x}}}}"], "stream 'a' names no shards"),
        ([f"{DATASET}.path=null", f"{DATASET}.streams={{}}"], "train_loader.dataset names no data"),
        (
            [f"{DATASET}.max_seq_len=2048"],
            "train_loader.dataset.max_seq_len is 2048, more than the job's max_seq_len of 1024",
        ),
        ([f"{DATASET}.columns={{promt: q}}"], "the format auto has no 'promt'"),
        ([f"{DATASET}.format=chat", f"{DATASET}.columns={{prompt: q}}"], "the format chat has no 'prompt'"),
        (
            [f"{DATASET}.format=text", f"{DATASET}.columns={{body: text}}"],
            "the format text has no 'body'; it is written {text: body}",
        ),
        (
            [f"{DATASET}.hf_name=d", f"{DATASET}.path=null", f"{DATASET}.hf_kwargs={{trust_remote_code: true}}"],
            "code of a data",
        ),
        (
            ["eval_loader.dataset.path=x", "data.split.validation=0.1"],
            "data.split makes evaluation rows, and eval_loader",
        ),
        (["eval_loader.dataset={}"], "eval_loader.dataset names no data"),
        (["data.split.validation=0"], "data.split.validation of 0 holds nothing back"),
        (["data.split.validation=1.0"], "data.split.validation of 1.0 leaves nothing to train on"),
        (["callbacks.early_stopping={}"], "early stopping needs rows to evaluate on"),
        (
            [f"{MODEL}.adapter=runs:x", f"{MODEL}.peft_config={{}}"],
            "model.adapter and model.peft_config are both given",
        ),
        ([f"{MODEL}.quantization={{}}"], "quantised weights cannot be trained"),
        ([f"{MODEL}.adapter=runs:x", f"{MODEL}.pretrained=false"], "an adapter continues a pretrained model"),
        (
            [f"{MODEL}.quantization={{}}", f"{MODEL}.peft_config={{}}", f"{MODEL}.pretrained=false"],
            "random weights cannot be loaded in few bits",
        ),
        ([f"{MODEL}.peft_config.lora_dropout=1"], "lora_dropout of 1 drops everything"),
        ([f"{MODEL}.peft_config.target_modules=[]"], "target_modules is empty"),
        (["tokenizer.kwargs.trust_remote_code=true"], "trust_remote_code is a key of the model"),
        (["device_train_microbatch_size=3"], "global_train_batch_size of 8 cannot be divided into microbatches of 3"),
        (
            ["device_train_microbatch_size=16"],
            "device_train_microbatch_size of 16 is more than global_train_batch_size of 8",
        ),
        (
            ["max_duration=100ba", "scheduler.t_warmup=200ba"],
            "scheduler.t_warmup of 200ba is longer than max_duration of 100ba",
        ),
        (
            ["max_duration=2ep", "scheduler={name: wsd, t_decay: 3ep}"],
            "scheduler.t_decay of 3ep is longer than max_duration of 2ep",
        ),
        (["scheduler.t_max=0ba"], "scheduler.t_max must be longer than zero"),
        (["max_duration=1dur"], "max_duration cannot be a share of itself"),
        (["save_folder=x/{run_name}/y"], "save_folder holds a placeholder of Composer's"),
        (["callbacks.loss_spike.threshold=1"], "a threshold of 1 times the median calls every second batch a spike"),
    ],
)
def test_contradictions_are_refused(write: Write, minimal: str, overrides: list[str], message: str) -> None:
    found = findings(write, minimal, *overrides)
    assert len(found) == 1, found
    where, said, fix = found[0]
    assert said.startswith(message)
    assert where.startswith(("override '", "job.yaml:")) and fix


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [f"{DATASET}.shuffle=false", f"{DATASET}.shuffle_seed=1"],
            f"{DATASET}.shuffle_seed has no effect: shuffle is false",
        ),
        ([f"{DATASET}.packing_ratio=9"], f"{DATASET}.packing_ratio has no effect: rows are filled best-fit"),
        ([f"{DATASET}.hf_kwargs={{data_dir: x}}"], f"{DATASET}.hf_kwargs has no effect"),
        (
            [f"{DATASET}.path=null", f"{DATASET}.local=a", f"{DATASET}.streams={{a: {{local: b}}}}"],
            f"{DATASET}.local has no effect: streams take its place",
        ),
        ([f"{DATASET}.validate_hash=sha1"], f"{DATASET}.validate_hash has no effect: the rows do not come from shards"),
        (["eval_interval=10ba"], "eval_interval has no effect: there are no rows to evaluate on"),
        (["device_eval_batch_size=4"], "device_eval_batch_size has no effect: there are no rows to evaluate on"),
        (
            [f"{MODEL}.peft_config={{}}", f"{MODEL}.quantization={{bits: 8, quant_type: fp4}}"],
            "model.quantization.quant_type has no effect: it belongs to 4 bits",
        ),
        ([f"{MODEL}.revision=main"], "model.revision has no effect: gallery: references have no revisions"),
        (["autoresume=false", "resume=exact"], "resume has no effect: autoresume is false"),
    ],
)
def test_settings_without_an_effect_are_warned_of(
    write: Write, minimal: str, overrides: list[str], message: str
) -> None:
    (finding,) = findings(write, minimal, *overrides)
    assert finding[1].startswith(message)


@pytest.mark.parametrize(
    "overrides",
    [
        [f"{DATASET}.path=hf:org/data", f"{DATASET}.hf_kwargs={{data_dir: x}}"],
        [f"{DATASET}.path=[a.jsonl, 'hf:org/data']", f"{DATASET}.hf_kwargs={{data_dir: x}}"],
        ["eval_loader.dataset.path=x", "eval_interval=10ba", "callbacks.early_stopping={}"],
        [f"{DATASET}.path=null", f"{DATASET}.remote=s3://b/rows", f"{DATASET}.validate_hash=sha1"],
        [f"{DATASET}.path=null", f"{DATASET}.streams={{a: {{remote: s3://b/a, split: x}}, b: {{local: c}}}}"],
        ["data.split.validation=1"],
        ["model.pretrained_model_name_or_path=hf:org/model", "model.revision=main"],
        ["model.pretrained_model_name_or_path=models/tiny", "model.revision=main"],
        ["device_train_microbatch_size=4"],
        ["max_duration=1ep", "scheduler.t_warmup=200ba"],
        ["save_folder=x/${run_name}/y", "run_name=z"],
        ["model.adapter=runs:x", "model.quantization={}"],
    ],
)
def test_what_goes_together_passes(write: Write, minimal: str, overrides: list[str]) -> None:
    assert findings(write, minimal, *overrides) == []


def test_a_microbatch_that_divides_is_suggested(write: Write, minimal: str) -> None:
    (finding,) = findings(write, minimal, "global_train_batch_size=12", "device_train_microbatch_size=5")
    assert finding[2] == "write 4, or auto"


def test_every_format_names_its_columns() -> None:
    assert {"auto", *COLUMNS} == set(get_args(RowFormat))
