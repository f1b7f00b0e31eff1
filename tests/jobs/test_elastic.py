"""Two ranks, one killed in mid-epoch, then one, then four: the global batches are those of a run never stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rank_processes import pid_of_rank

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"),
]

Place = tuple[int, int]
# Every rank notes the samples of each batch that it is given. Python imports this module by itself from PYTHONPATH.
NOTE_BATCHES = """
import atexit, json, os, sys
if "RANK" in os.environ or "NOTE_ALONE" in os.environ:
    from importlib.machinery import PathFinder
    class Watch:
        def find_spec(self, name, path=None, target=None):
            if name != "genai.data.token_streams.stream":
                return None
            sys.meta_path.remove(self)
            spec = PathFinder.find_spec(name, path)
            run = spec.loader.exec_module
            def exec_module(module):
                run(module)
                wrap(module.TokenStream)
            spec.loader.exec_module = exec_module
            return spec
    def wrap(stream):
        given = stream.next_batch
        def next_batch(self):
            place = [self.epoch, self.batch_in_epoch]
            batch = given(self)
            line = json.dumps({"batch": place, "rank": int(os.environ.get("RANK", 0)),
                               "ranks": int(os.environ.get("WORLD_SIZE", 1)),
                               "samples": [int(number) for row in batch.row_ids for number in row]})
            with open(os.environ["NOTES"], "a") as notes:
                notes.write(line + "\\n")
            return batch
        stream.next_batch = next_batch
    sys.meta_path.insert(0, Watch())
"""


def run(job: Any, config: Path, name: str, *words: str, kill_after: int | None = None) -> dict[Place, list[int]]:
    """Run the job, its rank 1 killed once it was given so many batches.

    Returns:
        (epoch, batch) -> the samples of that global batch, for all batches that every rank was given.
    """
    notes = job.folder / f"{name}.jsonl"
    (job.folder / "sitecustomize.py").write_text(NOTE_BATCHES)
    env = {"PYTHONPATH": str(job.folder), "NOTES": str(notes), **({} if "--nproc" in words else {"NOTE_ALONE": "1"})}
    with job.start("pretrain", str(config), *words, env=env) as process:
        if kill_after is not None:
            deadline = time.monotonic() + 120
            while not notes.exists() or notes.read_text().count('"rank": 1') < kill_after:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            os.kill(pid_of_rank(1, process.pid), signal.SIGKILL)
        _, said = process.communicate(timeout=200)
    assert process.returncode == (0 if kill_after is None else 1), said
    parts: dict[Place, dict[int, list[int]]] = {}
    for line in notes.read_text().splitlines():
        note = json.loads(line)
        parts.setdefault(tuple(note["batch"]), {})[note["rank"]] = note["samples"]
    num_ranks = max(len(found) for found in parts.values())
    return {
        place: [sample for _, samples in sorted(found.items()) for sample in samples]
        for place, found in parts.items()
        if len(found) == num_ranks
    }


def test_no_sample_is_missed_or_seen_twice(token_job: Any) -> None:
    config = token_job.write(save_interval="3ba", eval_interval="3ep")
    whole = run(token_job, config, "whole", "--run-name", "whole")
    # 256 samples in batches of 16: an epoch is 16 batches, the kill comes in the second one.
    killed = run(token_job, config, "killed", "--nproc", "2", kill_after=21)
    alone = run(token_job, config, "alone", "max_duration=29ba")
    four = run(token_job, config, "four", "--nproc", "4")
    assert [len(found) for found in (whole, killed | alone | four)] == [48, 48]
    for found in (killed, alone, four):
        assert found == {place: whole[place] for place in found}
    assert min(alone) > (0, 15) and min(four) > max(alone)
    for epoch in range(3):
        samples = Counter(sample for place, batch in whole.items() if place[0] == epoch for sample in batch)
        assert samples == Counter(range(256))
