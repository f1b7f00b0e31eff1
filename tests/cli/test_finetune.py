"""`genai finetune` as a command: its words, and how a result is shown. A finished run tells its own without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from genai.config.finetune import FinetuneConfig
from genai.config.loading import load
from genai.jobs.finetune_inputs import read_inputs
from genai.jobs.result import Answers, FinetuneResult, Losses
from genai.tracking.run import RunDirectory

LOSSES = Losses(before=4.0, before_with_shots=3.0, after=2.5, num_shots=3, num_rows=20, num_tokens=1234)
RESULT = FinetuneResult(
    run="faq",
    path="runs/faq",
    model="runs/faq/model",
    adapter="runs/faq/adapter",
    gguf=None,
    report="runs/faq/report.html",
    losses=LOSSES,
    answers=(Answers(prompt="What is\nsand?", expected="Small stones.", base="\x1b[2JBeach", tuned="Small stones"),),
    batches=50,
    epochs=1.0,
    tokens=20000,
    trained_tokens=9000,
    train_s=120.0,
    total_s=150.0,
    tokens_per_s=166.7,
    exact=True,
    inexact_reasons=(),
)


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make a finished run with that result in the current folder; gives the name of the job file."""

    def make(result: FinetuneResult = RESULT, **model: Any) -> str:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
        rows = [{"prompt": f"question {number}", "response": f"answer {number}"} for number in range(3)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = {
            "run_name": "faq",
            "model": {"pretrained_model_name_or_path": "model", "peft_config": {}, **model},
            "train_loader": {"dataset": {"path": "rows.jsonl"}},
        }
        (tmp_path / "faq.yaml").write_text(yaml.safe_dump(config))
        loaded = load("faq.yaml", FinetuneConfig)
        identity = {"config": asdict(loaded.config), "rows": read_inputs(loaded, allow_code=True).fingerprint}
        RunDirectory.open("runs", "faq").write_result({**result.to_json(), **identity})
        return "faq.yaml"

    return make


def test_the_result_as_text(finished: Any, genai: Any) -> None:
    ended = genai("finetune", finished(), "--quiet")
    assert ended.code == 0
    assert ended.err == ""
    assert ended.out.splitlines() == [
        "Held-out loss of 20 rows (1,234 answer tokens), nats a token:",
        "MODEL                            LOSS  CHANGE",
        "base                            4.000       -",
        "base, 3 examples in its prompt  3.000  -25.0%",
        "tuned                           2.500  -37.5%",
        "",
        "Q         What is sand?",
        "expected  Small stones.",
        "base      [2JBeach",
        "tuned     Small stones",
        "",
        "weights   runs/faq/model",
        "adapter   runs/faq/adapter",
        "report    runs/faq/report.html",
        "training  2.0 min of 2.5 (50 steps, 20,000 tokens, 167 tokens/s)",
        "try it    genai models chat runs:faq",
    ]


def test_the_result_as_json(finished: Any, genai: Any) -> None:
    ended = genai("finetune", finished(), "--json")
    assert ended.code == 0
    assert ended.json == {"schema_version": 1, **json.loads(json.dumps(RESULT.to_json()))}


def test_what_was_not_measured_is_not_shown(finished: Any, genai: Any) -> None:
    ended = genai("finetune", finished(replace(RESULT, losses=Losses(), answers=(), adapter=None, gguf="faq.gguf")))
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()] == ["weights", "gguf", "report", "training", "try"]


def test_only_the_loss_after(finished: Any, genai: Any) -> None:
    ended = genai("finetune", finished(replace(RESULT, losses=replace(LOSSES, before=None, before_with_shots=None))))
    assert [line.split() for line in ended.out.splitlines()[2:4]] == [["base", "-", "-"], ["tuned", "2.500", "-"]]


def test_code_of_a_model_runs_only_when_the_command_line_allows_it(finished: Any, genai: Any) -> None:
    config = finished(trust_remote_code=True)
    refused = genai("finetune", config)
    assert refused.code == 2
    assert "faq.yaml:4:3: this runs Python that comes with the model" in refused.err
    assert "--allow-code" in refused.err
    assert genai("finetune", config, "--allow-code").code == 0


def test_another_name_is_another_run(finished: Any, genai: Any) -> None:
    config = finished()
    assert genai("finetune", config, "--run-name", "../faq").code == 2
    assert genai("finetune", config, "run_name=..").code == 2


def test_the_result_of_a_finished_run_needs_no_torch(finished: Any) -> None:
    code = (
        "import sys\nfrom genai_cli.main import main\ncode = main()\n"
        "sys.exit(code or len({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, "finetune", finished()], capture_output=True).returncode == 0


def test_the_help_shows_how_it_is_used(genai: Any) -> None:
    ended = genai("finetune", "--help")
    assert ended.code == 0
    for word in ("CONFIG.yaml [KEY=VALUE]...", "--dry-run", "--run-name", "--allow-code", "--json", "Examples:"):
        assert word in ended.out
