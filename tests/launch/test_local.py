"""What the launching process tells of its ranks: the result, or the first failing rank's own words and exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from genai.errors import GenaiError, StoppedError
from genai.launch import local
from genai.launch.local import launch_local

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`stub(what)` launches tests/plugins/rank_stub.py on two ranks."""
    command = local._command

    def of_stub(job: str, *arguments: Any) -> list[str]:
        return ["rank_stub" if word == f"genai.jobs.{job}" else word for word in command(job, *arguments)]

    monkeypatch.setattr(local, "_command", of_stub)
    monkeypatch.setenv("PYTHONPATH", str(PLUGINS))
    return lambda what, **options: launch_local("stub", Path(what), ["a=1"], nproc=2, **options)


@pytest.mark.integration
def test_the_result_of_rank_0_comes_back(stub: Any, capfd: pytest.CaptureFixture[str]) -> None:
    result = stub("done", run_name="faq", flags=["--quiet"])
    assert result == {"words": ["done", "a=1", "--quiet", "--run-name", "faq"], "ranks": "2", "threads": "1"}
    out, err = capfd.readouterr()
    assert out == ""
    assert sorted(err.splitlines()) == ["rank 0 prints", "rank 1 prints"]


@pytest.mark.integration
def test_the_rank_that_failed_first_is_heard(stub: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GenaiError) as caught:
        stub("fail")
    assert str(caught.value) == "rows.jsonl:7: rank 1: row 7 is broken (mend it)"
    assert (caught.value.exit_code, caught.value.code) == (1, "data")
    assert "Root Cause" not in capfd.readouterr().err


@pytest.mark.integration
def test_a_bug_in_a_rank_keeps_its_traceback(stub: Any) -> None:
    with pytest.raises(RuntimeError, match="rank 1: ZeroDivisionError: oh") as caught:
        stub("crash")
    assert "rank_stub.py" in caught.value.__notes__[0]


@pytest.mark.integration
@pytest.mark.parametrize("what", ["die", "die fast"])
def test_a_rank_that_was_killed_is_named(stub: Any, what: str) -> None:
    if what == "die fast" and not Path("/proc/self/stat").exists():
        pytest.skip("looks for processes in /proc")
    with pytest.raises(GenaiError, match="rank 1 was killed by SIGKILL, the others were ended") as caught:
        stub(what)
    assert "goes on from the last checkpoint" in (caught.value.fix or "")


@pytest.mark.parametrize("first", [0, 1])
def test_a_killed_rank_is_named_whichever_torchrun_saw_first(tmp_path: Path, first: int) -> None:
    errors = pytest.importorskip("torch.distributed.elastic.multiprocessing.errors")
    lost, killed = (
        errors.ProcessFailure(local_rank=rank, pid=4711, exitcode=code, error_file=str(tmp_path / "none"))
        for rank, code in ((0, 1), (1, -9))
    )
    lost.timestamp, killed.timestamp = (5, 6) if first == 0 else (6, 5)
    (tmp_path / "torchrun.log").write_text(str(errors.ChildFailedError("job", {0: lost, 1: killed})))
    error = local._error(tmp_path, 1, [])
    assert str(error).startswith("rank 1 was killed by SIGKILL")


@pytest.mark.integration
def test_ranks_that_only_lost_each_other_are_no_bug(stub: Any) -> None:
    with pytest.raises(GenaiError, match=r"another rank went away, and did not say why: .*pair\.cc") as caught:
        stub("lose")
    assert (caught.value.exit_code, caught.value.code) == (1, "rank_lost")


@pytest.mark.integration
def test_a_signal_reaches_all_ranks_and_their_saving_is_waited_for(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = local.pids

    def stop_when_all_are_there() -> None:
        while len(found) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    found: list[int] = []
    popen = subprocess.Popen

    def watched(*arguments: Any, **keywords: Any) -> Any:
        folder = Path(keywords["env"]["GENAI_RANK_REPORTS"])

        def look() -> None:
            while len(pids(folder)) < 2:
                time.sleep(0.05)
            time.sleep(0.2)
            found.extend(pids(folder))

        threading.Thread(target=look, daemon=True).start()
        return popen(*arguments, **keywords)

    monkeypatch.setattr(subprocess, "Popen", watched)
    threading.Thread(target=stop_when_all_are_there, daemon=True).start()
    with pytest.raises(StoppedError, match="after batch 3") as caught:
        stub("wait")
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_ranks_meet_over_a_private_file(tmp_path: Path) -> None:
    command = local._command("finetune", ["a.yaml"], 2, tmp_path)
    assert command[command.index("--rdzv-endpoint") + 1] == str(tmp_path / "rendezvous")
    assert "store_type=file" in command
    assert "--standalone" not in command
    values = local._environment(2, tmp_path)
    assert values["GENAI_RANK_STORE"] == str(tmp_path / "store")
    assert values["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"


def test_torch_is_not_imported_to_launch() -> None:
    code = "import sys, genai.launch.local; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_cpus_are_divided_among_the_ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(local, "_num_cpus", lambda: 8)
    assert local._environment(3, tmp_path)["OMP_NUM_THREADS"] == "2"
    assert local._environment(16, tmp_path)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in local._environment(3, tmp_path)


def test_without_a_word_from_any_rank_what_torchrun_said_is_kept(tmp_path: Path) -> None:
    (tmp_path / "torchrun.log").write_text("No module named nonsense")
    error = local._error(tmp_path, 1, [])
    assert str(error) == "torchrun ended with exit code 1, and no rank said why"
    assert error.__notes__ == ["No module named nonsense"]
    stopped = local._error(tmp_path, -15, [signal.SIGTERM])
    assert isinstance(stopped, StoppedError)
    assert stopped.exit_code == 143
