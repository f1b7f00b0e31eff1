"""`genai pretrain` on a tiny language: it learns it, goes on bit by bit, and refuses what it must."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genai.config.loading import load
from genai.config.pretrain import PretrainConfig
from genai.data.mds import MDSWriter, read_samples
from genai.errors import ConfigError, DataError
from genai.jobs.pretrain import run
from genai.jobs.pretrain_result import PretrainResult
from genai.tracking.metrics import read_metrics
from genai.tracking.run import RunDirectory
from genai.training.trainer import Trainer

pytestmark = pytest.mark.integration

GPT2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 32, "n_layer": 2, "n_head": 4}
MPT = {"name": "mpt_causal_lm", "d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": 64}
MPT |= {"attn_config": {"alibi": True}, "no_bias": True}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    yield
    torch.set_num_threads(threads)


def pretrain(path: Path, *overrides: str, run_name: str | None = None) -> PretrainResult:
    return run(load(path, PretrainConfig, overrides), run_name=run_name)


def weights_of(result: PretrainResult) -> str:
    return hashlib.sha256(Path(result.model, "model.safetensors").read_bytes()).hexdigest()


def told(result: PretrainResult, *names: str) -> list[tuple[int, str, float]]:
    records = read_metrics(Path(result.path) / "metrics.jsonl")
    return [(int(record["step"]), name, record[name]) for record in records for name in names if name in record]


def tokens_of(folder: Path) -> np.ndarray[Any, Any]:
    """All rows of a data set, shape (rows, SEQ_LEN)."""
    return np.stack([sample["tokens"] for sample in read_samples(str(folder))])


def crash_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """The process ends without saving anything when so many steps are taken."""
    step = Trainer.step

    def crashing(self: Trainer) -> None:
        if self.state.batch == steps:
            raise RuntimeError("power cut")
        step(self)

    monkeypatch.setattr(Trainer, "step", crashing)


# --- learning ---------------------------------------------------------------------------------------------------------


def test_a_model_from_scratch_learns_the_language(token_job: Any) -> None:
    result = pretrain(token_job.write(proofs={}, eval_first=True))
    rows = tokens_of(token_job.folder / "shards" / "val")
    shares = np.bincount(rows[:, 1:].ravel()) / rows[:, 1:].size
    unigram = -float(sum(share * math.log(share) for share in shares if share))
    assert result.eval_loss is not None and result.eval_loss < 0.6 * unigram
    assert result.perplexity == pytest.approx(math.exp(result.eval_loss))
    assert (result.batches, result.epochs, result.tokens) == (48, 3, 48 * 16 * 32)
    assert result.eval_tokens == 48 * 31
    measured = told(result, "loss/eval", "perplexity/eval")
    assert [step for step, name, _ in measured if name == "loss/eval"] == [0, 16, 32, 48]
    assert measured[0][2] == pytest.approx(math.log(64), rel=0.1)
    assert {name for _, name, _ in measured} == {"loss/eval", "perplexity/eval"}
    report = Path(result.report).read_text()
    assert "genai pretrain" in report and "perplexity" in report
    assert all(f">{proof}<" in report for proof in ("disk", "accumulation", "export"))
    inputs = RunDirectory(Path(result.path)).read_inputs()
    assert inputs is not None and inputs["train"]["samples"] == 256
    # The same command again: nothing is left to do.
    assert pretrain(token_job.write(proofs={}, eval_first=True)) == result


def test_the_export_is_the_model_that_was_measured(token_job: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    result = pretrain(token_job.write(max_duration="10ba"))
    loaded = AutoModelForCausalLM.from_pretrained(result.model)
    assert isinstance(loaded, LlamaForCausalLM)
    rows = torch.from_numpy(tokens_of(token_job.folder / "shards" / "val").astype(np.int64))
    with torch.no_grad():
        loss = float(loaded(input_ids=rows, labels=rows).loss)
    assert loss == pytest.approx(result.eval_loss, abs=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(result.model)
    assert tokenizer("w3 w4")["input_ids"] == [3, 4]
    assert loaded.generation_config.eos_token_id == [tokenizer.eos_token_id]


@pytest.mark.parametrize("kind", ["mpt", "hf", "hf_pretrained", "llama_pretrained"])
def test_every_kind_of_model_trains_and_is_exported(token_job: Any, kind: str) -> None:
    from transformers import AutoModelForCausalLM

    model: dict[str, Any] = MPT
    if kind == "hf":
        folder = token_job.folder / "gpt2"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**GPT2, "n_positions": 32, "vocab_size": 9}))
        model = {"name": "hf_causal_lm", "pretrained_model_name_or_path": str(folder), "pretrained": False}
        model |= {"config_overrides": {"vocab_size": 51}}
    if kind.endswith("pretrained"):
        name = "hf_causal_lm" if kind == "hf_pretrained" else "llama"
        first = pretrain(token_job.write(max_duration="12ba"), run_name="first")
        model = {"name": name, "pretrained_model_name_or_path": "runs:first"}
    result = pretrain(token_job.write(model=model, max_duration="12ba", eval_first=True, loss={"z_loss": 1e-4}))
    losses = [value for _, _, value in told(result, "loss/eval")]
    assert losses[-1] < losses[0]
    if kind.endswith("pretrained"):
        assert losses[0] == pytest.approx(first.eval_loss, abs=1e-4)
    assert AutoModelForCausalLM.from_pretrained(result.model).num_parameters() == result.num_parameters


def test_streams_are_mixed_and_samples_ahead_are_asked_for(token_job: Any) -> None:
    shards = token_job.folder / "shards"
    streams = {"a": {"local": str(shards), "split": "train", "choose": 64}, "b": {"local": str(shards / "val")}}
    loader = {"dataset": {"streams": streams, "predownload": 100, "cache_limit": "1gb"}}
    result = pretrain(token_job.write(train_loader=loader, eval_subset_num_batches=2, max_duration="1ep"))
    assert result.batches == (64 + 48) // 16
    assert result.eval_tokens == 2 * 8 * 31


def test_shards_come_from_a_bucket(token_job: Any, s3_bucket: str) -> None:
    pytest.importorskip("boto3")
    from genai.storage import open_store

    local = pretrain(token_job.write(max_duration="4ba"), run_name="local")
    for split in ("train", "val"):
        store = open_store(f"{s3_bucket}/shards/{split}")
        for file in (token_job.folder / "shards" / split).iterdir():
            store.upload(file.name, file)
    loaders = {
        "train_loader": {"dataset": {"remote": f"{s3_bucket}/shards", "split": "train"}},
        "eval_loader": {"dataset": {"remote": f"{s3_bucket}/shards", "split": "val"}},
    }
    remote = pretrain(token_job.write(max_duration="4ba", **loaders), run_name="remote")
    assert weights_of(remote) == weights_of(local)


def test_a_token_that_the_tokenizer_lacks_ends_the_run_at_its_sample(token_job: Any) -> None:
    rows = np.full((128, 32), 3, dtype=np.uint16)
    rows[100, 7] = 60
    with MDSWriter(str(token_job.folder / "late"), {"tokens": "ndarray:uint16:32"}) as writer:
        writer.write_rows("tokens", rows)
    loader = {"dataset": {"local": str(token_job.folder / "late")}}
    with pytest.raises(DataError, match="sample 100 of the training shards holds token 60, and the tokenizer has 51"):
        pretrain(token_job.write(train_loader=loader, max_duration="1ep"))


# --- going on ---------------------------------------------------------------------------------------------------------


def test_after_a_crash_the_run_goes_on_bit_by_bit(token_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = token_job.write(max_duration="20ba", save_interval="6ba", eval_interval="8ba")
    whole = pretrain(path, run_name="whole")
    with monkeypatch.context() as patch:
        crash_after(patch, 15)
        with pytest.raises(RuntimeError, match="power cut"):
            pretrain(path, "resume=exact")
    assert RunDirectory(token_job.run_directory).status.status == "failed"
    result = pretrain(path, "resume=exact")
    assert weights_of(result) == weights_of(whole)
    names = ("loss/train", "loss/eval", "grad_norm", "lr")
    assert told(result, *names) == told(whole, *names)
    assert result.exact


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("seed=4", "seed was 3 at the run's last checkpoint and is 4 now"),
        ("train_loader.dataset.shuffle=false", "train_loader.dataset.shuffle was True"),
        ("train_loader.dataset.epoch_size=100", "train_loader.dataset.epoch_size was None"),
        ("global_train_batch_size=32", "global_train_batch_size was 16"),
        ("model.d_model=64", "model.d_model was 32"),
        ("train_loader.dataset.split=val", "what the training shards hold changed"),
    ],
)
def test_what_moves_the_order_is_refused(
    token_job: Any, monkeypatch: pytest.MonkeyPatch, override: str, says: str
) -> None:
    path = token_job.write(max_duration="4ba", save_interval="2ba")
    with monkeypatch.context() as patch:
        crash_after(patch, 3)
        with pytest.raises(RuntimeError):
            pretrain(path)
    with pytest.raises(ConfigError) as error:
        pretrain(path, override)
    assert says in str(error.value) and error.value.where is not None
    assert pretrain(path).exact


def test_shards_may_move_between_two_commands(token_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = token_job.write(max_duration="6ba", save_interval="2ba")
    whole = pretrain(path, run_name="whole")
    with monkeypatch.context() as patch:
        crash_after(patch, 5)
        with pytest.raises(RuntimeError):
            pretrain(path)
    shutil.copytree(token_job.folder / "shards", token_job.folder / "moved")
    moved = f"train_loader.dataset.local={token_job.folder / 'moved'}"
    result = pretrain(path, moved, "eval_loader=null", "train_loader.dataset.cache_limit=1gb")
    assert result.exact and weights_of(result) == weights_of(whole)


# --- as processes -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_and_stopped_it_ends_as_if_nothing_had_happened(token_job: Any) -> None:
    config = token_job.write(max_duration="10ep", save_interval="7ba", eval_interval="40ba")
    uninterrupted = token_job.genai("pretrain", str(config), "--run-name", "whole", "--json")
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    metrics = token_job.run_directory / "metrics.jsonl"
    for number, steps, code in ((signal.SIGKILL, 30, -signal.SIGKILL), (signal.SIGTERM, 60, 143)):
        with token_job.start("pretrain", str(config)) as process:
            deadline = time.monotonic() + 120
            while not any(record["step"] >= steps for record in read_metrics(metrics)):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(number)
            process.communicate(timeout=60)
        assert process.returncode == code
    token_job.finish(config, verb="pretrain")
    assert token_job.outcome() == token_job.outcome(token_job.folder / "runs" / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [None, {"sharding_strategy": "FULL_SHARD"}], ids=["ddp", "fsdp2"])
def test_two_ranks_train_like_one_and_go_on_alone(token_job: Any, fsdp: dict[str, Any] | None) -> None:
    config = token_job.write(max_duration="12ba", fsdp_config=fsdp)
    one = token_job.genai("pretrain", str(config), "--run-name", "one", "--json")
    assert one.returncode == 0, one.stderr
    with token_job.start("pretrain", str(config), "--nproc", "2", "save_interval=4ba") as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    losses = [
        dict((step, value) for step, _, value in _told(token_job.folder / "runs" / name)) for name in ("one", "tiny")
    ]
    assert losses[0].keys() == losses[1].keys()
    assert all(losses[1][step] == pytest.approx(value, abs=1e-4) for step, value in losses[0].items())
    # The last checkpoint away, the run goes on with one rank, and says what that costs.
    shutil.rmtree(token_job.run_directory / "checkpoints" / "ba00000012")
    os.remove(token_job.run_directory / "result.json")
    alone = token_job.genai("pretrain", str(config), "save_interval=4ba", "--json")
    assert alone.returncode == 0, alone.stderr
    result = json.loads(alone.stdout)
    assert not result["exact"] and "environment.num_ranks: 2 -> 1" in result["inexact_reasons"]
    assert result["eval_loss"] == pytest.approx(json.loads(one.stdout)["eval_loss"], abs=1e-4)


def _told(folder: Path) -> list[tuple[int, str, float]]:
    records = read_metrics(folder / "metrics.jsonl")
    return [(int(record["step"]), "loss/train", record["loss/train"]) for record in records if "loss/train" in record]
