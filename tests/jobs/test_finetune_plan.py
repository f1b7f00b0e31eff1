"""`genai finetune --dry-run` on a tiny job: what is said, and that nothing is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from genai.config.finetune import FinetuneConfig
from genai.config.loading import load
from genai.errors import GateError
from genai.jobs.finetune_plan import Plan, make_plan

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    yield
    torch.set_num_threads(threads)


def plan(path: Path, *overrides: str) -> Plan:
    return make_plan(load(path, FinetuneConfig, overrides))


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if "cache" not in path.parts}


def test_a_plan_counts_measures_and_predicts(job: Any) -> None:
    path = job.write()
    before = files(job.folder)
    found = plan(path)
    assert files(job.folder) == before
    assert (found.run, found.status, found.device, found.num_threads) == ("tiny", "new", "cpu", 1)
    assert found.train_rows + found.eval_rows == 60
    assert (found.rows_per_batch, found.microbatch_size, found.seq_len) == (2, 1, 64)
    assert found.epochs == pytest.approx(3)
    assert 0 < found.num_trained_parameters < 0.2 * found.num_parameters
    assert found.tokens_per_s > 0
    assert found.predicted_s == pytest.approx(found.tokens / found.tokens_per_s)
    assert sum(found.memory_bytes.values()) < found.available_bytes
    assert f"{job.run_directory}/checkpoints/" in found.writes


def test_the_text_has_a_line_for_each_thing(job: Any) -> None:
    lines = plan(job.write(export={"formats": ["hf", "gguf"]})).text().splitlines()
    starts = [line.split("  ")[0] for line in lines]
    assert starts[:9] == ["run", "model", "trained", "device", "rows", "batch", "length", "time", "memory"]
    assert "disk" in starts
    assert any(line.startswith("run") and "nothing was written" in line for line in lines)
    assert any(line.endswith("tiny.gguf") for line in lines)
    column = lines[0].index("tiny")
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in lines)
    assert max(map(len, lines)) < 200


def test_rows_that_are_not_packed_are_as_long_as_the_longest(job: Any) -> None:
    rows = {"dataset": {"path": str(job.folder / "rows.jsonl")}}
    found = plan(job.write(train_loader=rows, device_train_microbatch_size="auto"))
    assert found.seq_len < 64
    assert found.seq_len % 8 == 0
    assert found.microbatch_size == 2


def test_a_run_that_is_there_is_told_of(job: Any) -> None:
    from genai.jobs.finetune import run

    path = job.write()
    run(load(path, FinetuneConfig, ["max_duration=2ba", "scheduler.t_warmup=1ba"]))
    before = files(job.folder)
    assert plan(path).status == "finished already"
    (job.run_directory / "result.json").unlink()
    assert plan(path).status == "would go on from ba00000002"
    assert files(job.folder) == before - {(job.run_directory / "result.json").relative_to(job.folder)}


def test_a_disk_too_small_is_foreseen(job: Any) -> None:
    with pytest.raises(GateError, match=r"the disk has .* GiB free, but 1000000000002 checkpoints"):
        plan(job.write(), "save_num_checkpoints_to_keep=1000000000000")


def test_the_command_line_prints_it_as_text_and_as_json(job: Any) -> None:
    path = job.write()
    shown = job.genai("finetune", str(path), "--dry-run", "--run-name", "other")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[0].split(maxsplit=1) == ["run", "other: new; nothing was written"]
    printed = job.genai("finetune", str(path), "--dry-run", "--json")
    assert printed.returncode == 0, printed.stderr
    values = json.loads(printed.stdout)
    assert values["run"] == "tiny"
    assert values["memory_bytes"]["weights"] > 0
    assert not (job.folder / "runs").exists()
