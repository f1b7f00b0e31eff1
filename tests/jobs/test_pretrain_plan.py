"""`genai pretrain --dry-run` on a tiny job: what is said, and that nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from genai.config.loading import load
from genai.config.pretrain import PretrainConfig
from genai.errors import ConfigError
from genai.jobs.pretrain import run
from genai.jobs.pretrain_plan import PretrainPlan, make_plan

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    yield
    torch.set_num_threads(threads)


def plan(path: Path, *overrides: str, num_ranks: int = 1) -> PretrainPlan:
    return make_plan(load(path, PretrainConfig, overrides), num_ranks=num_ranks)


def test_a_plan_counts_measures_and_predicts(token_job: Any) -> None:
    path = token_job.write()
    before = {file for file in token_job.folder.rglob("*") if "cache" not in file.parts}
    found = plan(path, "max_duration=1.5e4tok")
    assert {file for file in token_job.folder.rglob("*") if "cache" not in file.parts} == before
    assert (found.run, found.status, found.device, found.num_threads) == ("tiny", "new", "cpu", 1)
    assert (found.train_rows, found.eval_rows, found.rows_per_batch, found.microbatch_size) == (256, 48, 16, 8)
    assert found.batches == -(-15000 // (16 * 32)) and found.tokens == found.batches * 16 * 32
    assert found.shards > 1 and found.stream_bytes == pytest.approx(found.shard_bytes * found.epochs, rel=1e-3)
    assert found.predicted_s == pytest.approx(found.tokens / found.tokens_per_s)
    assert {"weights", "gradients", "optimizer", "activations"} <= found.memory_bytes.keys()
    assert 0 < sum(found.memory_bytes.values()) < found.available_bytes
    starts = [line.split("  ")[0] for line in found.text().splitlines()]
    assert starts[:9] == ["run", "model", "device", "streams", "reads", "batch", "length", "time", "memory"]
    assert any(line.endswith("tiny/report.html") for line in found.text().splitlines())


def test_ranks_share_the_batch_and_the_time(token_job: Any) -> None:
    found = plan(token_job.write(device_train_microbatch_size="auto"), num_ranks=4)
    assert found.microbatch_size == 4
    assert found.predicted_s == pytest.approx(found.tokens / found.tokens_per_s / 4)
    assert "4 x cpu" in found.text()


def test_it_says_what_the_run_that_is_there_would_do(token_job: Any) -> None:
    path = token_job.write(max_duration="2ba", scheduler={"t_warmup": "1ba"})
    run(load(path, PretrainConfig))
    assert plan(path).status == "finished already"
    (token_job.run_directory / "result.json").unlink()
    assert plan(path).status == "would go on from ba00000002"


def test_it_refuses_what_a_run_would_refuse(token_job: Any) -> None:
    with pytest.raises(ConfigError, match="rows have 32 tokens"):
        plan(token_job.write(max_seq_len=64))
