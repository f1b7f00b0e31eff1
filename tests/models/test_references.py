import json
from pathlib import Path

import pytest

from genai.errors import DataError, GenaiError, UsageError
from genai.models.fingerprint import fingerprint
from genai.models.references import exists_problem, resolve_adapter, resolve_model
from genai.tracking import registry


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def register(here: Path, run: str) -> None:
    """Make the model of a run the next version of `faq`, in production."""
    made = registry.register(
        here / "runs",
        "faq",
        kind="sentence_encoder",
        model=f"runs:{run}",
        run=run,
        fingerprint=fingerprint(here / "runs" / run / "model"),
        data_fingerprint="",
        tables={},
        metrics=[],
        tuned_from="gallery:all-minilm-l6-v2",
        inputs={},
    )
    registry.set_alias(here / "runs", "faq", "production", made.version)


def test_folder(here: Path) -> None:
    make_model(here / "models" / "mine")
    resolved = resolve_model("models/mine")
    assert (resolved.kind, resolved.path, resolved.hub_id) == ("folder", Path("models/mine"), None)
    assert resolved.fingerprint != resolved.weights_fingerprint


def test_run_and_checkpoint(here: Path) -> None:
    model = make_model(here / "runs" / "faq" / "model")
    inner = make_model(here / "runs" / "faq" / "checkpoints" / "ba10" / "model")
    bare = make_model(here / "runs" / "faq" / "checkpoints" / "ba20")
    assert resolve_model("runs:faq", runs_dir=here / "runs").path == model
    assert resolve_model("runs:faq/ba10", runs_dir=here / "runs").path == inner
    assert resolve_model("runs:faq/ba20", runs_dir=here / "runs").path == bare
    assert resolve_model("runs:faq").kind == "run"


def test_registry(here: Path) -> None:
    for run in ("first", "second"):
        make_model(here / "runs" / run / "model")
        register(here, run)
    for reference, run in {
        "registry:faq": "second",
        "registry:faq@production": "second",
        "registry:faq@1": "first",
    }.items():
        resolved = resolve_model(reference, runs_dir=here / "runs")
        assert (resolved.kind, resolved.path) == ("registry", here / "runs" / run / "model")
        assert exists_problem(reference, runs_dir=here / "runs") is None
    registry.rollback_alias(here / "runs", "faq")
    assert resolve_model("registry:faq").path == Path("runs/first/model")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_registered_model_that_was_changed_is_refused(here: Path, file: str) -> None:
    model = make_model(here / "runs" / "first" / "model")
    register(here, "first")
    (model / "README.md").write_text("notes change nothing")
    assert resolve_model("registry:faq").path == Path("runs/first/model")
    (model / file).write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="is no longer what was registered") as caught:
        resolve_model("registry:faq")
    assert caught.value.where == "registry:faq@1"
    problem = exists_problem("registry:faq")
    assert problem is not None and problem.message == caught.value.message


@pytest.mark.parametrize("gone", ["runs/first", "runs/first/model", "runs/first/model/config.json"])
def test_a_registered_model_whose_run_is_gone(here: Path, gone: str) -> None:
    make_model(here / "runs" / "first" / "model")
    register(here, "first")
    (here / gone).rename(here / "elsewhere")
    with pytest.raises(DataError, match="its model is gone: ") as caught:
        resolve_model("registry:faq@1")
    assert caught.value.where == "registry:faq@1"
    assert exists_problem("registry:faq") is not None


def test_bucket_is_fetched(here: Path) -> None:
    make_model(here / "bucket" / "model")
    url = (here / "bucket" / "model").as_uri()
    assert resolve_model(url).path.name == "model"


@pytest.mark.parametrize(
    ("reference", "message", "fix"),
    [
        ("gallery:smollm2-135m-instuct", "no model 'smollm2-135m-instuct'", "did you mean 'gallery:smollm2-135m-instr"),
        ("gallary:smollm2-135m-instruct", "unknown kind of model reference 'gallary:'", "did you mean 'gallery:smoll"),
        ("smollm2-135m-instruct", "there is no model 'smollm2-135m-instruct'", "did you mean 'gallery:smollm2-135m-"),
        ("hf:not a name", "'not a name' cannot be the name of a model on the hub", "write hf:ORG/NAME"),
        ("hf:../../etc", "cannot be the name of a model on the hub", "write hf:ORG/NAME"),
        ("registry:fqa", "there is no model 'fqa' in the registry", "did you mean 'registry:faq'?"),
        ("registry:faq@prodction", "has no alias 'prodction'", "did you mean 'registry:faq@production'?"),
        ("registry:faq@9", "has no version 9", "it has 1"),
        ("registry:../faq", "cannot be used as a name in the registry", "letters, digits"),
        ("registy:faq", "unknown kind of model reference 'registy:'", "did you mean 'registry:faq'?"),
        ("models/mnie", "there is no folder 'models/mnie'", "did you mean 'models/mine'?"),
        ("models/zzzzzz", "there is no folder 'models/zzzzzz'", "write hf:models/zzzzzz for the hub"),
        ("/nowhere/at/all", "there is no folder", "use gallery:NAME"),
        ("weights.gguf", "there is no file 'weights.gguf'", "use gallery:NAME"),
        ("empty", "empty is no model: config.json is missing", "it holds nothing"),
        ("loose", "loose is no model: config.json is missing", "it holds notes.txt"),
        ("adapter", "adapter is an adapter, not a whole model", "model.adapter"),
        ("broken", "is no JSON", None),
        ("untyped", "does not say which model_type", "is it the config of a model?"),
        ("runs:fqa", "there is no run 'fqa'", "did you mean 'runs:faq'?"),
        ("runs:../secret", "cannot be used as a run name", "letters, digits"),
        ("runs:faq/ba1", "the run 'faq' has no checkpoint 'ba1'", "did you mean 'runs:faq/ba10'?"),
        ("runs:unfinished", "the run 'unfinished' has no model yet", "name a checkpoint: runs:unfinished/ba5"),
    ],
)
def test_what_cannot_be_resolved_says_what_would(here: Path, reference: str, message: str, fix: str | None) -> None:
    make_model(here / "models" / "mine")
    make_model(here / "runs" / "faq" / "model")
    make_model(here / "runs" / "faq" / "checkpoints" / "ba10")
    make_model(here / "runs" / "unfinished" / "checkpoints" / "ba5")
    for folder in ("empty", "loose", "adapter", "broken", "untyped"):
        (here / folder).mkdir()
    (here / "loose" / "notes.txt").touch()
    (here / "adapter" / "adapter_config.json").write_text("{}")
    (here / "broken" / "config.json").write_text("{")
    (here / "untyped" / "config.json").write_text("[]")
    register(here, "faq")
    with pytest.raises(UsageError) as caught:
        resolve_model(reference)
    assert message in caught.value.message
    assert fix is None or fix in (caught.value.fix or "")
    problem = exists_problem(reference)
    assert problem is not None
    assert problem.message == caught.value.message


@pytest.mark.parametrize(
    "reference", ["gallery:all-minilm-l6-v2", "hf:org/name", "org/name", "gpt2/x", "hf:gpt2", "s3://bucket/model"]
)
def test_plausible_references_cost_no_network(here: Path, reference: str) -> None:
    assert exists_problem(reference) is None


def test_offline_bucket(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_OFFLINE", "1")
    with pytest.raises(GenaiError, match="GENAI_OFFLINE"):
        resolve_model("s3://bucket/model")


def test_a_file_that_is_no_gguf(here: Path) -> None:
    (here / "fake.gguf").write_bytes(b"hello world")
    with pytest.raises(DataError, match="this is no GGUF file"):
        resolve_model("fake.gguf")


def test_adapter(here: Path) -> None:
    for folder in (here / "mine", here / "runs" / "faq" / "adapter"):
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text(json.dumps({"r": 4}))
    assert resolve_adapter("mine") == Path("mine")
    assert resolve_adapter("runs:faq") == Path("runs/faq/adapter")
    with pytest.raises(UsageError, match="there is no adapter at mnie") as caught:
        resolve_adapter("mnie")
    assert caught.value.fix == "did you mean 'mine'?"
    make_model(here / "whole")
    with pytest.raises(UsageError, match=r"adapter_config\.json is missing"):
        resolve_adapter("whole")


def test_needs_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from genai.models.references import exists_problem; exists_problem('gallery:qwen3-8b');"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy', 'huggingface_hub')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
