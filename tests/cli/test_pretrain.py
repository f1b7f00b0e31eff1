"""The command line of `genai pretrain`; what it does is tested in tests/jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from genai.jobs.pretrain_result import PretrainResult

RESULT = PretrainResult(
    run="r",
    path="runs/r",
    model="runs/r/model",
    gguf=None,
    report="runs/r/report.html",
    num_parameters=27_500_000,
    train_loss=2.5,
    eval_loss=2.0,
    perplexity=7.389,
    eval_tokens=1000,
    batches=1500,
    epochs=1,
    tokens=2_000_000,
    num_ranks=2,
    train_s=90.0,
    total_s=120.0,
    tokens_per_s=22_222.0,
    exact=True,
    inexact_reasons=(),
)
JOB = """\
model: {name: llama, d_model: 64, n_layers: 2, n_heads: 4}
tokenizer: {name: t}
train_loader: {dataset: {local: x}}
"""


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("job.yaml")
    path.write_text(JOB)
    return path


def test_a_result_as_text_and_as_json(
    genai: Callable[..., Any], job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def run(loaded: Any, **options: Any) -> PretrainResult:
        seen.update(options, lr=loaded.config.optimizer.lr)
        return RESULT

    monkeypatch.setattr("genai.jobs.pretrain.run", run)
    ended = genai("pretrain", job_file, "optimizer.lr=3e-4", "--run-name", "r", "--allow-code")
    assert seen == {"run_name": "r", "allow_code": True, "lr": 3e-4}
    assert ended.out.splitlines() == [
        "held out   2.0000 nats a token over 1,000 tokens, perplexity 7.39",
        "weights    runs/r/model (27.5 M parameters)",
        "report     runs/r/report.html",
        "training   1.5 min of 2.0 (1,500 steps, 2,000,000 tokens, 22,222 tokens/s on 2 ranks)",
    ]
    assert (
        PretrainResult.from_json(
            {key: value for key, value in genai("pretrain", job_file, "--json").json.items() if key != "schema_version"}
        )
        == RESULT
    )


def test_without_a_held_out_stream_and_with_a_gguf(
    genai: Callable[..., Any], job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = replace(RESULT, eval_loss=None, perplexity=None, gguf="runs/r/r.gguf", num_ranks=1)
    monkeypatch.setattr("genai.jobs.pretrain.run", lambda *_, **__: result)
    lines = genai("pretrain", job_file).out.splitlines()
    assert lines[0].startswith("weights") and lines[1] == "gguf       runs/r/r.gguf"
    assert "ranks" not in lines[-1]


def test_ranks_are_launched(genai: Callable[..., Any], job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def launch(job: str, config: Path, overrides: tuple[str, ...], **options: Any) -> dict[str, Any]:
        seen.update(options, job=job, config=config, overrides=overrides)
        return RESULT.to_json()

    monkeypatch.setattr("genai.launch.local.launch_local", launch)
    ended = genai("pretrain", job_file, "seed=4", "--nproc", "2", "--quiet")
    assert ended.code == 0, ended.err
    assert (seen["job"], seen["nproc"], seen["overrides"], seen["flags"]) == ("pretrain", 2, ("seed=4",), ["--quiet"])


def test_a_wrong_job_file_is_told_before_anything_is_started(genai: Callable[..., Any], job_file: Path) -> None:
    job_file.write_text(JOB.replace("dataset", "datset"))
    ended = genai("pretrain", job_file, "--nproc", "2")
    assert ended.code == 2 and "did you mean 'dataset'?" in ended.err
