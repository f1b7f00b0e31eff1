"""One rank of a job, as torchrun would start it: what it prints, how it fails, how loud it is."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from genai.config.finetune import FinetuneConfig
from genai.errors import DataError
from genai.jobs.worker import main


@dataclass
class Result:
    run: str

    def to_json(self) -> dict[str, Any]:
        return {"run": self.run}


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    logger = logging.getLogger("genai")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("RANK", raising=False)
    path = tmp_path / "job.yaml"
    path.write_text("model: {pretrained_model_name_or_path: m}\ntrain_loader: {dataset: {path: rows.jsonl}}\n")
    return str(path)


def test_rank_0_prints_the_result(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run(loaded: Any, *, run_name: str | None, allow_code: bool, ranks: Any) -> Result:
        assert (loaded.config.seed, run_name, allow_code, ranks.world_size) == (4, "faq", True, 1)
        return Result(run="faq")

    assert main(FinetuneConfig, run, [config, "seed=4", "device=cpu", "--run-name", "faq", "--allow-code"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": "faq"}


def test_the_other_ranks_print_nothing(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(FinetuneConfig, lambda loaded, **_: None, [config, "device=cpu"]) == 0
    assert capsys.readouterr().out == ""


def test_an_error_has_its_exit_code(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run(loaded: Any, **_: Any) -> None:
        raise DataError("row 7 is broken")

    assert main(FinetuneConfig, run, [config, "device=cpu"]) == 1
    assert "error: [rank 0] row 7 is broken" in capsys.readouterr().err


def test_a_wrong_job_file_is_told_before_anything_is_imported(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run(loaded: Any, **_: Any) -> None:
        raise AssertionError

    assert main(FinetuneConfig, run, [config, "sed=4"]) == 2
    assert "unknown key 'sed'" in capsys.readouterr().err


@pytest.mark.parametrize(("rank", "level"), [("0", logging.INFO), ("3", logging.ERROR)])
def test_only_rank_0_talks(config: str, monkeypatch: pytest.MonkeyPatch, rank: str, level: int) -> None:
    monkeypatch.setenv("RANK", rank)
    main(FinetuneConfig, lambda loaded, **_: None, [config, "sed=4"])
    assert logging.getLogger("genai").level == level
