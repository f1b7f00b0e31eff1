"""`genai finetune --nproc 2`, end to end: the result of one process, and ends that are no ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from rank_processes import pid_of_rank
from safetensors.torch import load_file

from genai.tracking.metrics import read_metrics
from genai.tracking.run import RunDirectory

LONG = {"max_duration": "60ep", "save_interval": "10ba", "eval_interval": "20ep"}
LORA = {"r": 4, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}


def told(folder: Path, name: str) -> dict[int, float]:
    return {record["step"]: record[name] for record in read_metrics(folder / "metrics.jsonl") if name in record}


def one_error(said: str) -> str:
    [error] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Root Cause" not in said
    assert "Traceback" not in said
    return error


def wait_for_steps(job: Any, process: Any, steps: int) -> None:
    deadline = time.monotonic() + 120
    while len(read_metrics(job.run_directory / "metrics.jsonl")) < steps:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_two_ranks_fine_tune_like_one(job: Any) -> None:
    config = job.write(**same_everywhere(job, peft_config=LORA))
    job.finish(config)
    two = job.genai("finetune", str(config), "--nproc", "2", "--run-name", "two", "--json")
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("\n") == 1
    assert_alike(job, "two")
    again = job.genai("finetune", str(config), "--nproc", "2", "--run-name", "two")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("is finished already") == 1


@pytest.mark.slow
def test_sharded_and_divided_models_are_exported_whole(job: Any) -> None:
    config = job.write(**same_everywhere(job))
    job.finish(config)
    kinds = {"fsdp": "fsdp_config.sharding_strategy=FULL_SHARD", "tensor": "parallel.tensor_parallel_degree=2"}
    for name, override in kinds.items():
        done = job.genai("finetune", str(config), override, "--nproc", "2", "--run-name", name)
        assert done.returncode == 0, done.stderr
        assert_alike(job, name)


def same_everywhere(job: Any, **model: Any) -> dict[str, Any]:
    """A job without dropout, in float32."""
    model = {"config_overrides": {"attention_dropout": 0.0}, **model}
    return {
        "model": {"pretrained_model_name_or_path": str(job.folder / "model"), **model},
        "precision": "fp32",
        "max_duration": "1ep",
        "global_train_batch_size": 4,
        "optimizer": {"name": "decoupled_adamw", "lr": 0.001},
    }


def assert_alike(job: Any, run: str) -> None:
    """The run of many ranks told and exported what the one of a single process did."""
    folder = job.folder / "runs" / run
    for name in ("loss/train", "grad_norm", "loss/eval"):
        assert told(folder, name) == pytest.approx(told(job.run_directory, name), rel=1e-4)
    assert RunDirectory(folder).status.status == "done"
    ours, theirs = (load_file(path / "model" / "model.safetensors") for path in (folder, job.run_directory))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert float((weight.float() - theirs[name].float()).abs().mean()) < 1e-5, name


@pytest.mark.slow
def test_sigterm_stops_both_after_a_checkpoint_and_one_process_goes_on(job: Any) -> None:
    config = job.write(**LONG)
    with job.start("finetune", str(config), "--nproc", "2") as process:
        wait_for_steps(job, process, 5)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "stopped by SIGTERM after batch" in one_error(said)
    directory = RunDirectory(job.run_directory)
    assert directory.status.status == "stopped"
    saved = max(os.listdir(directory.checkpoints))
    done = job.genai("finetune", str(config), "max_duration=" + f"{int(saved[2:]) + 3}ba")
    assert done.returncode == 0, done.stderr
    assert f"going on from checkpoint {saved}" in done.stderr
    assert "environment.num_ranks: 2 -> 1" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_one_rank_is_killed_and_the_same_command_goes_on(job: Any) -> None:
    config = job.write(**LONG)
    with job.start("finetune", str(config), "--nproc", "2") as process:
        wait_for_steps(job, process, 15)
        os.kill(pid_of_rank(1, process.pid), signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "rank 1 was killed by SIGKILL, the others were ended" in one_error(said)
    status = RunDirectory(job.run_directory).status
    assert (status.status, "another rank of the run went away" in status.message) == ("failed", True)
    saved = max(os.listdir(job.run_directory / "checkpoints"))
    done = job.genai("finetune", str(config), "--nproc", "2", f"max_duration={int(saved[2:]) + 3}ba")
    assert done.returncode == 0, done.stderr
    assert f"going on from checkpoint {saved}" in done.stderr
    steps = [record["step"] for record in read_metrics(job.run_directory / "metrics.jsonl") if "loss/train" in record]
    assert steps == list(range(1, int(saved[2:]) + 4))


@pytest.mark.slow
def test_what_fails_on_the_ranks_is_told_once(job: Any) -> None:
    config = job.write()
    (job.folder / "rows.jsonl").unlink()
    refused = job.genai("finetune", str(config), "--nproc", "2")
    assert refused.returncode == 2
    assert "rows.jsonl" in one_error(refused.stderr)
