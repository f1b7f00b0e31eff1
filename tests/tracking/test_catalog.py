from pathlib import Path

import pytest

from genai.errors import GenaiError, UsageError
from genai.tracking.catalog import Difference, diff_runs, find_run, list_runs, remove_run, size_bytes, summarise
from genai.tracking.metrics import MetricsLog
from genai.tracking.run import RunDirectory


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def make(runs_dir: Path, name: str, *, config: str = "seed: 17\n") -> RunDirectory:
    run = RunDirectory.open(runs_dir, name)
    run.write_config(config)
    return run


def test_runs_are_listed_with_status_step_and_last_metrics(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for moment, name, status in [("2026-02", "young", "failed"), ("2026-01", "old", "done")]:
        monkeypatch.setattr("genai.tracking.status.now", lambda moment=moment: moment)
        make(runs_dir, name).set_status(status, f"it {status}")  # type: ignore[arg-type]
    make(runs_dir, "fresh")
    (runs_dir / "no-run").mkdir()
    (runs_dir / "mlflow.db").touch()
    log = MetricsLog(runs_dir / "old" / "metrics.jsonl")
    log.log(7, {"loss/train": 2.5}, epoch=1)
    log.close()
    listed = list_runs(runs_dir)
    assert [(run.name, run.status, run.message) for run in listed] == [
        ("old", "done", "it done"),
        ("young", "failed", "it failed"),
        ("fresh", "new", ""),
    ]
    assert listed[0].step == 7
    assert listed[0].metrics == {"epoch": 1, "loss/train": 2.5}
    assert (listed[2].step, listed[2].metrics) == (None, {})


def test_no_folder_no_runs(runs_dir: Path) -> None:
    assert list_runs(runs_dir) == []


def test_the_size_counts_files_and_not_links(runs_dir: Path, tmp_path: Path) -> None:
    run = make(runs_dir, "a", config="12345")
    run.checkpoints.mkdir()
    (run.checkpoints / "weights").write_bytes(bytes(1000))
    (tmp_path / "elsewhere").write_bytes(bytes(5000))
    (run.path / "link").symlink_to(tmp_path / "elsewhere")
    assert summarise(run).size_bytes == 1005
    assert size_bytes(run.path / "config.yaml") == 5


def test_a_run_is_found_by_its_name_or_an_unambiguous_beginning(runs_dir: Path) -> None:
    for name in ("faq", "faq-lora", "chat-1"):
        make(runs_dir, name)
    assert find_run(runs_dir, "faq").name == "faq"
    assert find_run(runs_dir, "faq-").name == "faq-lora"
    assert find_run(runs_dir, "ch").name == "chat-1"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fa", "could be several runs"),
        ("faq-loar", "did you mean 'faq-lora'"),
        ("zzz", "known: faq, faq-lora"),
        ("", "there is no run ''"),
        ("../runs/faq", "there is no run"),
    ],
)
def test_a_run_that_is_not_found_is_guessed(runs_dir: Path, name: str, words: str) -> None:
    for known in ("faq", "faq-lora"):
        make(runs_dir, known)
    with pytest.raises(UsageError) as caught:
        find_run(runs_dir, name)
    assert words in str(caught.value)


def test_two_runs_differ_key_by_key(runs_dir: Path) -> None:
    first = make(runs_dir, "a", config="optimizer: {lr: 1.0e-4, name: adamw}\nmodel: x\n")
    second = make(runs_dir, "b", config="optimizer: {lr: 2.0e-4, name: adamw}\nmodel: x\nseed: 1\n")
    second.write_overrides(["optimizer.lr=2e-4"])
    for run, version, loss in [(first, "5.0", 2.5), (second, "5.1", 2.25)]:
        run.write_environment({"packages": {"peft": "0.21", "transformers": version}})
        run.write_inputs({"model": {"sha256": "ab"}})
        run.write_result({"losses": {"before": 3.0, "after": loss}})
    assert diff_runs(first, first) == []
    expected = [
        ("config", "optimizer.lr", "0.0001", "0.0002"),
        ("config", "seed", None, "1"),
        ("overrides", "optimizer.lr", None, "2e-4"),
        ("environment", "packages.transformers", "5.0", "5.1"),
        ("result", "losses.after", "2.5", "2.25"),
    ]
    assert diff_runs(first, second) == [
        Difference(section=section, key=key, first=before, second=after) for section, key, before, after in expected
    ]


def test_runs_that_wrote_nothing_yet_can_be_compared(runs_dir: Path) -> None:
    empty = RunDirectory.open(runs_dir, "empty")
    (difference,) = diff_runs(empty, make(runs_dir, "a"))
    assert (difference.key, difference.first, difference.second) == ("seed", None, "17")


def test_a_removed_run_is_gone_with_everything_in_it(runs_dir: Path) -> None:
    run = make(runs_dir, "a", config="12345")
    assert remove_run(run) == 5
    assert list(runs_dir.iterdir()) == []


def test_a_living_run_is_not_removed(runs_dir: Path, hold_elsewhere) -> None:
    process = hold_elsewhere(runs_dir, "faq")
    with pytest.raises(GenaiError, match=f"held by process {process.pid}") as caught:
        remove_run(find_run(runs_dir, "faq"))
    assert caught.value.fix == f"stop it first: kill {process.pid}"
    assert (runs_dir / "faq" / "status.json").exists()
