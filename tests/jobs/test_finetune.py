"""`genai finetune` end to end on a tiny model: what a run leaves behind, what goes on, what is refused."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from genai.config.finetune import FinetuneConfig
from genai.config.loading import load
from genai.errors import ConfigError, GateError, GenaiError
from genai.jobs.finetune import run
from genai.jobs.result import FinetuneResult
from genai.jobs.training_run import name_of_run
from genai.models.adapters import continue_adapter
from genai.models.references import resolve_model
from genai.storage import open_store
from genai.storage.manifest import list_folders
from genai.tracking.metrics import read_metrics, series
from genai.tracking.run import RunDirectory
from genai_cli.main import main

pytestmark = pytest.mark.integration

SECRET = "hook-4711-do-not-tell"
SHORT = {"max_duration": "4ba", "eval_interval": "4ba", "save_interval": "2ba"}


class Hook(HTTPServer):
    """Keeps what is POSTed to it."""

    def __init__(self) -> None:
        received: list[tuple[str, dict[str, Any]]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((self.path, json.loads(body)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.received = received


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def finished(make_job: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory, hook: Hook) -> Any:
    """A job that ran to its end as a process of its own; `job.ended` is that process."""
    job = make_job(tmp_path_factory.mktemp("finished"))
    config = job.write(
        variables={"peak": 0.02},
        optimizer={"name": "decoupled_adamw", "lr": "${variables.peak}"},
        callbacks={"webhook": {"url": "env:GENAI_TEST_HOOK"}},
        loggers={"tensorboard": {}},
        export={"formats": ["hf", "gguf"]},
        proofs={"labels": {"num_examples": 2}, "packing": True, "accumulation": True, "export": True},
    )
    address = f"http://127.0.0.1:{hook.server_port}/{SECRET}"
    ended = job.genai("finetune", config.name, "max_duration=2ep", "--json", env={"GENAI_TEST_HOOK": address})
    assert ended.returncode == 0, ended.stderr
    object.__setattr__(job, "ended", ended)
    return job


def finetune(job: Any, *overrides: str, run_name: str | None = None, **changes: Any) -> FinetuneResult:
    """Run the job in this process."""
    return run(load(job.write(**changes), FinetuneConfig, overrides), run_name=run_name)


def losses(result: FinetuneResult, name: str = "loss/train") -> list[tuple[float, float]]:
    return series(read_metrics(Path(result.path) / "metrics.jsonl"), name)


def files(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


# --- what a run leaves behind -----------------------------------------------------------------------------------------


def test_the_result_is_one_json_object_on_stdout(finished: Any) -> None:
    result = json.loads(finished.ended.stdout)
    assert result.pop("schema_version") == 1
    assert result["run"] == "tiny"
    assert result["losses"]["after"] < result["losses"]["before"]
    assert result["losses"]["num_rows"] > 0
    assert result["losses"]["before_with_shots"] is not None
    assert result["epochs"] == 2
    assert result["exact"] is True
    assert result["tokens"] > result["trained_tokens"] > 0
    [answer] = result["answers"]
    assert answer["prompt"].startswith("what is a ")
    saved = json.loads((finished.run_directory / "result.json").read_text())
    assert {key: saved[key] for key in result} == result


def test_the_log_goes_to_stderr_without_foreign_bars(finished: Any) -> None:
    said = finished.ended.stderr
    assert "proof packing" in said
    assert "held-out loss" in said
    assert "Traceback" not in said
    assert "it/s" not in said
    assert "%|" not in said


def test_the_run_directory_holds_what_the_job_language_says(finished: Any) -> None:
    folder = finished.run_directory
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("adapter", "base.json", "checkpoints", "config.yaml", "environment.json", "inputs.json", "lock"),
        *("metrics.jsonl", "model", "overrides.txt", "report.html", "result.json", "run.log", "status.json"),
        *("tensorboard", "tiny.gguf"),
    }
    directory = RunDirectory(folder)
    assert directory.status.status == "done"
    assert directory.read_overrides() == ["max_duration=2ep"]
    config = directory.read_config() or ""
    assert "${variables.peak}" in config
    assert "env:GENAI_TEST_HOOK" in config
    assert "max_duration: 2ep" in config
    inputs = directory.read_inputs() or {}
    assert {"model", "train", "eval"} == set(inputs)
    assert len(inputs["train"]["fingerprint"]) == 64
    environment = directory.read_environment() or {}
    assert environment["packages"]["torch"] == torch.__version__
    assert not any(path.name.endswith(".tmp") for path in folder.rglob("*"))


def test_metrics_are_told_for_every_step_once(finished: Any) -> None:
    records = read_metrics(finished.run_directory / "metrics.jsonl")
    batches = json.loads(finished.ended.stdout)["batches"]
    assert [record["step"] for record in records if "loss/train" in record] == list(range(1, batches + 1))
    evaluated = [record["step"] for record in records if "loss/eval" in record]
    assert evaluated == [*range(3, batches, 3), batches]
    first = next(record for record in records if "loss/train" in record)
    assert {"epoch", "tokens", "time_s", "lr", "grad_norm"} <= set(first)


def test_a_secret_stands_nowhere(finished: Any, hook: Hook) -> None:
    [(path, told)] = hook.received
    assert path == f"/{SECRET}"
    assert (told["run"], told["status"]) == ("tiny", "done")
    assert SECRET not in finished.ended.stdout + finished.ended.stderr
    for file in finished.folder.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


def test_the_report_shows_losses_answers_labels_and_proofs(finished: Any) -> None:
    page = (finished.run_directory / "report.html").read_text()
    result = json.loads(finished.ended.stdout)
    assert f"{result['losses']['after']:.3f}" in page
    for text in ("what is a ", "Curves", "Labels", "packing", "env:GENAI_TEST_HOOK", "${variables.peak}"):
        assert text in page, text


def test_the_model_is_what_the_adapter_makes_of_the_base_in_plain_transformers(finished: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = finished.run_directory
    merged = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    base = AutoModelForCausalLM.from_pretrained(finished.folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "what is a beam ?"}], return_tensors="pt")
    with torch.no_grad():
        ours = merged(**prompt).logits
        untouched = base(**prompt).logits
        adapted = continue_adapter(base, folder / "adapter").eval()(**prompt).logits
    torch.testing.assert_close(ours, adapted, rtol=1e-4, atol=1e-5)
    assert (ours - untouched).abs().max() > 1e-3


def test_tensorboard_has_the_losses(finished: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished.run_directory / "tensorboard"))
    events.Reload()
    told = dict(series(read_metrics(finished.run_directory / "metrics.jsonl"), "loss/train"))
    assert {point.step: point.value for point in events.Scalars("loss/train")} == pytest.approx(told)


def test_the_gguf_file_loads_as_the_same_model(finished: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    resolved = resolve_model(str(finished.run_directory / "tiny.gguf"))
    ours = AutoModelForCausalLM.from_pretrained(finished.run_directory / "model").state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(resolved.path).state_dict()
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=1e-3)


def test_one_can_talk_to_the_run(
    finished: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)
    words = ["models", "chat", "runs:tiny", "--message", "what is a beam ?", "--max-new-tokens", "4", "--json"]
    assert main(words) == 0
    assert len(json.loads(capsys.readouterr().out)["answers"]) == 1


# --- the same command again -------------------------------------------------------------------------------------------


def test_a_finished_run_gives_its_result_again_without_training(finished: Any) -> None:
    kept = ("adapter", "checkpoints", "model", "metrics.jsonl", "result.json", "report.html")
    before = {name: text for name, text in files(finished.run_directory).items() if name.startswith(kept)}
    again = finished.genai(
        "finetune", "tiny.yaml", "max_duration=2ep", "--json", env={"GENAI_TEST_HOOK": "http://127.0.0.1:9/"}
    )
    assert again.stdout == finished.ended.stdout
    assert "finished already" in again.stderr
    after = {name: text for name, text in files(finished.run_directory).items() if name.startswith(kept)}
    assert after == before
    assert RunDirectory(finished.run_directory).status.status == "done"


@pytest.fixture(scope="module")
def stopped_material(make_job: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of four batches, to be copied."""
    job = make_job(tmp_path_factory.mktemp("stopped"))
    finetune(job, **SHORT)
    return job


@pytest.fixture
def stopped(stopped_material: Any, tmp_path: Path) -> Any:
    """A copy of a run that has checkpoints and no result."""
    shutil.copytree(stopped_material.folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    (tmp_path / "runs" / "tiny" / "result.json").unlink()
    return replace(stopped_material, folder=tmp_path, write=_writer(stopped_material, tmp_path))


def _writer(job: Any, folder: Path) -> Callable[..., Path]:
    """The job file in `folder`, over the model and rows that the checkpoints were made with."""

    def write(**changes: Any) -> Path:
        path = job.write(**{**SHORT, "runs_dir": str(folder / "runs"), **changes})
        return path.rename(folder / path.name)

    return write


def problems_of(job: Any, **changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        finetune(job, **changes)
    return [problem.line() for problem in caught.value.problems]


def test_a_stopped_run_goes_on_and_ends_with_the_same_weights(stopped: Any, stopped_material: Any) -> None:
    result = finetune(stopped)
    assert result.exact
    told = files(stopped_material.run_directory / "adapter")
    assert files(Path(result.path) / "adapter") == told


def test_autoresume_off_refuses(stopped: Any) -> None:
    [line] = problems_of(stopped, autoresume=False)
    assert f"{stopped.folder}/tiny.yaml:1:1: " in line
    assert "holds checkpoints of this run already" in line
    assert "--run-name" in line


@pytest.mark.parametrize("state", ["done", "stopped"])
def test_other_rows_are_refused_with_the_key_and_the_fix(job: Any, state: str) -> None:
    rows = job.folder / "rows.jsonl"
    text = rows.read_text()
    rows.unlink()
    rows.write_text(text)
    first = finetune(job, **SHORT)
    if state == "stopped":
        (Path(first.path) / "result.json").unlink()
    rows.write_text(text.replace("beam", "girder"))
    [line] = problems_of(job, **SHORT)
    assert line.startswith(f"{job.folder}/tiny.yaml:")
    assert "the training rows changed since the run's last checkpoint (put it back, or start another run" in line
    assert RunDirectory(Path(first.path)).status.status == "done"


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"seed": 4}, "seed"), ({"max_seq_len": 72}, "max_seq_len"), ({"global_train_batch_size": 3}, "global_train_bat")],
)
def test_what_moves_the_position_in_the_data_is_refused(stopped: Any, changes: dict[str, Any], key: str) -> None:
    before = RunDirectory(stopped.run_directory).status.status
    [line] = problems_of(stopped, **changes)
    assert f"{key}" in line
    assert "at the run's last checkpoint and is" in line
    assert "put it back, or start another run with --run-name" in line
    assert RunDirectory(stopped.run_directory).status.status == before
    assert "seed: 3" in (RunDirectory(stopped.run_directory).read_config() or "")


def test_another_number_of_threads_goes_on_and_says_so(stopped: Any, caplog: pytest.LogCaptureFixture) -> None:
    (stopped.run_directory / "checkpoints" / "ba00000004").rename(stopped.folder / "aside")
    with caplog.at_level(logging.WARNING, logger="genai"):
        result = finetune(stopped, num_threads=2)
    assert not result.exact
    assert result.inexact_reasons == ("num_threads: 1 -> 2",)
    assert "not bit-equal" in caplog.text
    assert "num_threads: 1 -&gt; 2" in Path(result.report).read_text()


def test_resume_exact_refuses_what_could_not_be_bit_equal(stopped: Any) -> None:
    lines = problems_of(stopped, resume="exact", num_threads=2, precision="fp32")
    assert len(lines) == 2
    assert all("and resume: exact is set" in line for line in lines)


def test_a_longer_run_goes_on_from_the_shorter_one(job: Any) -> None:
    short = losses(finetune(job, **SHORT))
    result = finetune(job, **{**SHORT, "max_duration": "7ba"})
    assert result.batches == 7
    assert result.exact
    assert losses(result)[:4] == short
    assert [int(step) for step, _ in losses(result)] == list(range(1, 8))
    assert [int(step) for step, _ in losses(result, "loss/eval")] == [4, 7]


# --- places for checkpoints -------------------------------------------------------------------------------------------


def test_save_folder_takes_the_place_of_checkpoints(job: Any) -> None:
    folder = job.folder / "elsewhere"
    result = finetune(job, **SHORT, save_folder=str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["ba00000002", "ba00000004"]
    assert not (Path(result.path) / "checkpoints").exists()


def test_checkpoints_go_to_a_bucket_and_come_back(job: Any, s3_bucket: str) -> None:
    pytest.importorskip("boto3")
    url = f"{s3_bucket}/tiny"
    whole = finetune(job, **SHORT, run_name="whole")
    first = finetune(
        job, **{**SHORT, "max_duration": "2ba"}, save_folder=url, scheduler={"name": "constant_with_warmup"}
    )
    assert list_folders(open_store(url)) == ["ba00000002"]
    assert first.batches == 2
    result = finetune(job, **SHORT, save_folder=url, scheduler={"name": "constant_with_warmup"})
    assert result.batches == 4
    assert list_folders(open_store(url)) == ["ba00000002", "ba00000004"]
    assert whole.batches == 4


# --- starting from something else -------------------------------------------------------------------------------------


def test_a_warm_start_takes_the_weights_and_nothing_else(job: Any) -> None:
    first = finetune(job, **SHORT, run_name="first")
    newest = "runs:first", "runs:first/ba00000004", f"{first.path}/checkpoints/ba00000004"
    for name, reference in zip("abc", newest, strict=True):
        result = finetune(job, **SHORT, run_name=name, load_path=reference)
        assert result.batches == 4
        assert result.losses.before == pytest.approx(first.losses.after)


def test_weights_of_another_shape_are_refused_with_the_key(job: Any) -> None:
    finetune(job, **SHORT, run_name="first")
    [line] = problems_of(job, **SHORT, run_name="warm", load_path="runs:first", model=model_of(job, r=8))
    assert "tiny.yaml:" in line
    assert "the weights do not fit the model" in line


def test_an_adapter_is_gone_on_with(job: Any) -> None:
    first = finetune(job, **SHORT, run_name="first")
    model = {"pretrained_model_name_or_path": str(job.folder / "model"), "adapter": "runs:first"}
    second = finetune(job, **SHORT, run_name="second", model=model)
    assert second.losses.before == pytest.approx(first.losses.after, rel=1e-4)
    assert second.losses.after != second.losses.before
    shapes = {
        name: tensor.shape for name, tensor in load_file(Path(first.path) / "adapter/adapter_model.safetensors").items()
    }
    again = load_file(Path(second.path) / "adapter/adapter_model.safetensors")
    assert {name: tensor.shape for name, tensor in again.items()} == shapes
    assert "all weights" not in (Path(second.path) / "model/README.md").read_text()


# --- ways to train ----------------------------------------------------------------------------------------------------


def model_of(job: Any, **peft: Any) -> dict[str, Any]:
    adapter = {"peft_config": {"r": 4, "target_modules": ["q_proj", "v_proj"], **peft}} if peft else {}
    return {"pretrained_model_name_or_path": str(job.folder / "model"), **adapter}


def rows_of(job: Any, rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    path = job.folder / "other.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"dataset": {"path": str(path), **changes}}


CHATS = [
    {
        "messages": [
            {"role": "system", "content": "what is it ?"},
            {"role": "user", "content": f"what is a {word} ?"},
            {"role": "assistant", "content": f"it is a {word}"},
            {"role": "user", "content": "what ?"},
            {"role": "assistant", "content": f"a {word} {word}"},
        ]
    }
    for word in ("brick", "beam", "roof", "wall", "floor", "door", "nail", "sand") * 3
]


def test_full_fine_tuning_moves_every_weight(job: Any) -> None:
    result = finetune(job, **SHORT, model=model_of(job))
    assert result.adapter is None
    before = load_file(job.folder / "model" / "model.safetensors")
    after = load_file(Path(result.model) / "model.safetensors")
    assert {name for name, tensor in before.items() if torch.equal(tensor, after[name])} == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "fp32"},
        {"peft": {"use_dora": True}},
        {"peft": {"target_modules": "all-linear", "use_rslora": True, "init_lora_weights": "pissa"}},
        {"train_loader": {"packing_ratio": None}},
        {"activation_checkpointing": True},
        {"optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}},
        {"optimizer": {"name": "decoupled_lionw", "lr": 0.001}},
        {"scheduler": {"name": "wsd", "t_warmup": "1ba", "t_decay": "2ba"}},
        {"algorithms": {"gradient_clipping": {"clipping_type": "value", "clipping_threshold": 0.1}}},
        {"algorithms": {"gradient_clipping": None}},
        {"device_train_microbatch_size": 2, "device_eval_batch_size": 3},
    ],
    ids=lambda changes: "-".join(map(str, changes)),
)
def test_each_way_to_train_lowers_the_loss(job: Any, changes: dict[str, Any]) -> None:
    dataset = {"path": str(job.folder / "rows.jsonl"), "packing_ratio": "auto", **changes.pop("train_loader", {})}
    peft = {"r": 4, **changes.pop("peft", {})}
    result = finetune(
        job,
        **{"max_duration": "8ba", "eval_interval": "8ba", "save_interval": "8ba", **changes},
        model=model_of(job, **peft),
        train_loader={"dataset": dataset},
    )
    assert result.losses.after is not None
    assert result.losses.before is not None
    assert result.losses.after < result.losses.before


def test_recomputed_activations_give_the_same_weights(job: Any) -> None:
    whole = finetune(job, **SHORT, run_name="kept")
    again = finetune(job, **SHORT, run_name="recomputed", activation_checkpointing=True)
    assert files(Path(whole.path) / "adapter") == files(Path(again.path) / "adapter")


def test_text_rows_are_trained_on_whole_and_have_no_answers(job: Any) -> None:
    rows = [{"text": f"it is a {word} what is a {word} ?"} for word in ("brick", "beam", "roof", "wall") * 6]
    loader = rows_of(job, rows, format="text", packing_ratio="auto")
    result = finetune(job, **SHORT, train_loader=loader, data={"split": {"validation": 0.25}})
    assert result.answers == ()
    assert result.losses.num_shots == 0
    assert result.losses.after is not None
    assert result.trained_tokens > 0.8 * result.tokens


def test_only_the_last_turn_is_trained_when_asked_for(job: Any) -> None:
    data = {"split": {"validation": 0.25}}
    every = finetune(job, **SHORT, train_loader=rows_of(job, CHATS), data=data, run_name="all")
    last = finetune(job, **SHORT, train_loader=rows_of(job, CHATS, target_responses="last"), data=data, run_name="last")
    assert every.tokens == last.tokens
    assert last.trained_tokens < every.trained_tokens
    assert "what ?" in every.answers[0].prompt
    assert every.answers[0].expected.startswith("a ")


def test_evaluation_rows_of_their_own(job: Any) -> None:
    rows = [{"prompt": f"what is a {word} ?", "response": f"it is a {word}"} for word in ("lime", "glass", "stone")]
    loader = rows_of(job, rows)
    result = finetune(job, **SHORT, data=None, eval_loader=loader)
    assert result.losses.num_rows == 3
    assert result.losses.after is not None


def test_without_evaluation_there_is_a_model_and_no_losses(job: Any) -> None:
    result = finetune(job, **{**SHORT, "eval_interval": "1ep"}, data=None)
    assert result.losses.after is None
    assert result.answers == ()
    assert (Path(result.model) / "model.safetensors").is_file()
    assert losses(result, "loss/eval") == []


def test_early_stopping_ends_in_good_order(job: Any) -> None:
    stopping = {"early_stopping": {"patience": 2, "min_delta": 100.0}}
    result = finetune(job, eval_interval="1ba", save_interval="1ba", callbacks=stopping)
    assert result.batches == 3
    assert [int(step) for step, _ in losses(result, "loss/eval")] == [1, 2, 3]
    assert RunDirectory(Path(result.path)).status.status == "done"


def test_a_duration_in_tokens(job: Any) -> None:
    result = finetune(job, **{**SHORT, "max_duration": "300tok", "save_interval": "100tok"})
    per_batch = result.tokens / result.batches
    assert 300 <= result.tokens < 300 + 2 * per_batch


def test_the_name_comes_from_the_file_and_its_content(job: Any) -> None:
    loaded = load(job.write(run_name=None), FinetuneConfig)
    name = name_of_run(loaded, None)
    assert name.startswith("tiny-")
    assert name_of_run(load(job.write(run_name=None, seed=4), FinetuneConfig), None) != name
    assert name_of_run(loaded, "mine") == "mine"


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_threshold_that_is_not_met_ends_before_training(job: Any) -> None:
    with pytest.raises(GateError, match=r"data\.checks\.min_rows: 46 rows are left"):
        finetune(job, data={"split": {"validation": 12}, "checks": {"min_rows": 1000}})
    assert not (job.folder / "runs").exists()


def test_a_run_that_fails_says_so_and_keeps_its_checkpoints(job: Any) -> None:
    guard = {"nan_guard": {"max_skipped": 0}}
    with pytest.raises(GenaiError, match="not finite") as caught:
        finetune(
            job, callbacks=guard, save_interval="1ba", model=model_of(job), optimizer={"name": "adamw", "lr": 1e30}
        )
    assert "the last checkpoint is ba" in (caught.value.fix or "")
    directory = RunDirectory(job.run_directory)
    assert directory.status.status == "failed"
    assert "not finite" in directory.status.message
    assert os.listdir(directory.checkpoints)
