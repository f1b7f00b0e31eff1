"""kill -9 at any moment, the same command again, and the final weights are those of a run that was never stopped.

The kills of a test follow one another on one run, each at another point; the last process runs to the end.
"""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from kill_points import AT_EVENT

pytestmark = pytest.mark.slow

AT_FSYNC = """
import os, signal
fsync, seen = os.fsync, 0
def killing(descriptor):
    global seen
    seen += "checkpoints" in os.readlink(f"/proc/self/fd/{{descriptor}}")
    if {after}:
        fsync(descriptor)
    if seen == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = killing
"""
AT_TENSORS = """
import os, signal, safetensors.torch as st
function, seen = st.{name}, 0
def killing(*arguments, **keywords):
    global seen
    result = function(*arguments, **keywords)
    path = str(arguments[{path}])
    seen += "checkpoints" in path
    if seen == {number}:
        if {torn}:
            os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    return result
st.{name} = killing
"""
AFTER_CPU_SECONDS = """
import os, signal, sys, threading, time
def kill():
    end = time.process_time() + {seconds}
    while time.process_time() < end:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)
def watch(event, arguments):
    if event == "open" and str(arguments[0]).endswith("metrics.jsonl") and threading.active_count() < 50:
        threading.Thread(target=kill, daemon=True).start()
sys.addaudithook(watch)
"""


def at_event(event: str, part: str, number: int = 1) -> str:
    return AT_EVENT.format(event=event, part=part, number=number)


def saving(number: int, *, torn: bool = False) -> str:
    return AT_TENSORS.format(name="save_file", path=1, number=number, torn=torn)


def loading(number: int) -> str:
    return AT_TENSORS.format(name="load_file", path=0, number=number, torn=False)


def at_fsync(number: int, *, after: bool = False) -> str:
    return AT_FSYNC.format(number=number, after=after)


# A checkpoint is two tensor files, seven fsyncs and three renames: these kill during the second one of their process.
WHILE_WRITING = {
    "half of a temporary file is written": saving(3, torn=True),
    "between two files of the state": saving(4),
    "before the last file of the state": at_event("open", "state.json", 2),
    "before the first fsync": at_fsync(8),
    "after an fsync": at_fsync(9, after=True),
    "before the manifest": at_event("open", ".manifest.json", 2),
    "before the rename that makes the checkpoint exist": at_event("os.rename", "checkpoints/", 6),
    "after that rename, before its fsync": at_fsync(14),
}
ELSEWHERE = {
    "when the base has been measured": at_event("open", "base.json"),
    "before the first checkpoint": saving(1),
    "before an old checkpoint is deleted": at_event("shutil.rmtree", "checkpoints"),
    "while it is deleted": at_event("os.remove", "trainer.safetensors"),
    "while a resume looks for the newest checkpoint": at_event("open", "trainer.safetensors"),
    "while a resume loads it": loading(1),
    "before the end is evaluated": at_event("open", "README.md"),
    "while the result is written": at_event("open", "result.json", 2),
}
FULL = {
    "half of a temporary file is written": saving(3, torn=True),
    "before the rename that makes the checkpoint exist": at_event("os.rename", "checkpoints/", 6),
    "while an old checkpoint is deleted": at_event("os.remove", "trainer.safetensors"),
    "while a resume loads it": loading(2),
}


def kill(job: Any, config: Path, point: str, prelude: str) -> None:
    killed = job.genai("finetune", str(config), prelude=prelude)
    assert killed.returncode == -signal.SIGKILL, f"{point}: not reached\n{killed.stderr}"


@pytest.mark.parametrize(
    ("kind", "points"),
    [("lora", WHILE_WRITING), ("lora", ELSEWHERE), ("full", FULL)],
    ids=["while-a-checkpoint-is-written", "elsewhere", "full-fine-tuning"],
)
def test_killed_at_named_points(job: Any, uninterrupted: Any, kind: str, points: dict[str, str]) -> None:
    config = job.write_resumable(kind)
    for point, prelude in points.items():
        kill(job, config, point, prelude)
    job.finish(config)
    assert job.outcome() == uninterrupted(kind)
    assert not [*(job.run_directory / "checkpoints").glob(".*")]


def test_killed_at_random_moments(job: Any, uninterrupted: Any) -> None:
    config = job.write_resumable()
    moments = random.Random(17)
    kills = 0
    for _ in range(15):
        prelude = AFTER_CPU_SECONDS.format(seconds=moments.uniform(0.05, 0.4))
        code = job.genai("finetune", str(config), prelude=prelude).returncode
        assert code in (0, -signal.SIGKILL)
        kills += code == -signal.SIGKILL
        if kills == 5:
            break
        if code == 0:  # a quick machine was through before the moment came
            assert job.outcome() == uninterrupted()
            shutil.rmtree(job.run_directory)
    assert kills == 5
    job.finish(config)
    assert job.outcome() == uninterrupted()


def test_killed_while_a_bucket_is_written(job: Any, uninterrupted: Any, s3_bucket: str) -> None:
    pytest.importorskip("boto3")
    config = job.write_resumable(save_folder=f"{s3_bucket}/tiny")
    kill(job, config, "between two uploads", at_event("open", ".ba00000004", 5))
    job.finish(config)
    assert job.outcome() == uninterrupted()


@pytest.mark.needs("g++")
def test_compiled_and_deterministic(job: Any, uninterrupted: Any, let_torch_warn: str) -> None:
    config = job.write_resumable("compiled")
    kill(job, config, "between two files of the state", let_torch_warn + saving(6))
    # Past torch's limit of recompilations, training would silently be eager.
    assert "recompile_limit" not in job.finish(config, let_torch_warn)
    assert job.outcome() == uninterrupted("compiled")
