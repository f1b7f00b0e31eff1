"""What a newcomer gets wrong with shards, through the real command line: a line with the place, the cause, the way
out, and exit code 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from genai.config.pretrain import StreamConfig, TextDatasetConfig
from genai.data.mds import MDSWriter
from genai.jobs.pretrain_inputs import ONE_STREAM, cache_limit_bytes, specs_of
from genai_cli.main import main

DATA = "train_loader.dataset"
MISTAKES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "missing-folder": ({f"{DATA}.local": "shrads"}, (f"{DATA}.local", "shrads", "index.json")),
    "missing-split": ({f"{DATA}.split": "trian"}, (f"{DATA}.local", "trian", "index.json")),
    "damaged-index": ({f"{DATA}.local": "damaged", f"{DATA}.split": None}, (f"{DATA}.local", "it is no JSON")),
    "rows-of-another-kind": (
        {f"{DATA}.local": "chat", f"{DATA}.split": None},
        (f"{DATA}.local", "no column 'tokens'", "genai data convert"),
    ),
    "sequence-too-long": (
        {"max_seq_len": 64, "eval_loader": None},
        (f"{DATA}.local", "rows have 32 tokens", "set max_seq_len: 32"),
    ),
    "vocabulary-too-small": (
        {"tokenizer.name": "small"},
        ("tokenizer.name", "the shards of train_loader hold token", "the tokenizer has 10 tokens"),
    ),
    "model-smaller-than-the-tokenizer": (
        {"model.vocab_size": 40},
        ("model.vocab_size", "40 rows in its embedding, and the tokenizer 51 tokens", "write vocab_size: 51"),
    ),
    "missing-tokenizer": ({"tokenizer.name": "tokeniser"}, ("tokenizer.name", "did you mean 'tokenizer'?")),
    "tokenizer-argument": (
        {"tokenizer.kwargs": {"paddding_side": "left"}},
        ("tokenizer.kwargs.paddding_side", "did you mean 'padding_side'?"),
    ),
    "misspelt-key": ({f"{DATA}.shufle": True}, (f"{DATA}.shufle", "did you mean 'shuffle'?")),
    "misspelt-model": ({"model.name": "lama"}, ("model.name", "did you mean 'llama'?")),
    "misspelt-in-a-stream": (
        {f"{DATA}": {"streams": {"a": {"local": "shards/train", "proportoin": 1}}}},
        (f"{DATA}.streams.a.proportoin", "did you mean 'proportion'?"),
    ),
    "one-of-two-streams": (
        {f"{DATA}": {"streams": {"a": {"local": "shards/train"}, "b": {"local": "nowhere"}}}},
        (f"{DATA}.streams.b.local", "nowhere"),
    ),
    "unknown-hash": ({f"{DATA}.validate_hash": "md99"}, (f"{DATA}.validate_hash", "holds no md99", "leave it out")),
    "cache-too-small": (
        {f"{DATA}.local": None, f"{DATA}.remote": "shards", f"{DATA}.cache_limit": "ten"},
        (f"{DATA}.cache_limit", "write a number and a unit"),
    ),
    "model-folder": (
        {"model": {"name": "llama", "pretrained_model_name_or_path": "modle"}},
        ("model.pretrained_model_name_or_path", "there is no folder 'modle'"),
    ),
    "not-enough-positions": (
        {"model": {"name": "hf_causal_lm", "pretrained_model_name_or_path": "gpt2", "pretrained": False}},
        ("max_seq_len", "more than the 16 positions of the model"),
    ),
    "sizes-that-do-not-fit": ({"model.n_heads": 5, "model.n_kv_heads": None}, ("model.n_heads", "cannot be divided")),
    "load-path": ({"load_path": "runs:never"}, ("load_path", "there are no checkpoints")),
    "code": (
        {"model": {"name": "hf_causal_lm", "pretrained_model_name_or_path": "gpt2", "trust_remote_code": True}},
        ("model.trust_remote_code", "--allow-code"),
    ),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(token_job: Any, make_tokenizer: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a job, with what it may be pointed at by mistake."""
    monkeypatch.chdir(token_job.folder)
    (token_job.folder / "damaged").mkdir()
    (token_job.folder / "damaged" / "index.json").write_text("{")
    with MDSWriter("chat", {"text": "str"}) as writer:
        writer.write({"text": "hello"})
    make_tokenizer(token_job.folder / "small", 10)
    (token_job.folder / "gpt2").mkdir()
    shape = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 32, "n_layer": 1, "n_head": 2}
    config = {**shape, "n_positions": 16, "vocab_size": 64}
    (token_job.folder / "gpt2" / "config.json").write_text(json.dumps(config))
    return Path(token_job.folder)


def write(token_job: Any, changes: dict[str, Any]) -> Path:
    path = token_job.write(tokenizer={"name": "tokenizer"})
    config = yaml.safe_load(path.read_text())
    config["train_loader"]["dataset"]["local"] = "shards"
    for key, value in changes.items():
        *above, name = key.split(".")
        section = config
        for part in above:
            section = section[part]
        section[name] = value
    path.write_text(yaml.safe_dump(config))
    return Path(path.name)


def place_of(path: Path, key: str) -> str:
    """`file:line:column` of a key, or of the nearest section above it that was written."""
    node = yaml.compose(path.read_text())
    mark = node.start_mark
    for name in key.split("."):
        pairs = {pair[0].value: pair for pair in node.value} if isinstance(node, yaml.MappingNode) else {}
        if name not in pairs:
            break
        mark, node = pairs[name][0].start_mark, pairs[name][1]
    return f"{path}:{mark.line + 1}:{mark.column + 1}"


@pytest.mark.integration
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_its_place(
    token_job: Any, folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, (key, *says) = MISTAKES[name]
    path = write(token_job, changes)
    code = main(["pretrain", str(path)])
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 2, said
    assert len(errors) == 1, said
    assert errors[0].startswith(f"error: {place_of(path, key)}: "), said
    assert all(text in errors[0] for text in says), said
    assert not list((folder / "runs").glob("*/checkpoints/*"))


@pytest.mark.integration
def test_a_missing_bucket_is_told(
    token_job: Any, folder: Path, s3_bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("boto3")
    path = write(token_job, {f"{DATA}.local": None, f"{DATA}.remote": "s3://no-such-bucket-here/tokens"})
    code = main(["pretrain", str(path)])
    said = capsys.readouterr().err
    assert code == 2
    assert f"error: {place_of(path, f'{DATA}.remote')}: " in said and "no-such-bucket-here" in said


@pytest.mark.integration
def test_an_index_is_missing_in_a_bucket(
    token_job: Any, folder: Path, s3_bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("boto3")
    path = write(token_job, {f"{DATA}.local": None, f"{DATA}.remote": f"{s3_bucket}/nothing"})
    assert main(["pretrain", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"error: {place_of(path, f'{DATA}.remote')}: " in said and "index.json" in said


def test_specs_of_one_and_of_several_streams() -> None:
    (one,) = specs_of(TextDatasetConfig(remote="s3://b/x", split="train"))
    assert (one.name, one.remote, one.local, one.split) == (ONE_STREAM, "s3://b/x", None, "train")
    streams = {"a": StreamConfig(local="x", repeat=2.0), "b": StreamConfig(remote="y", choose=3)}
    several = specs_of(TextDatasetConfig(streams=streams))
    assert [(spec.name, spec.repeat, spec.choose) for spec in several] == [("a", 2.0, None), ("b", None, 3)]


def test_the_cache_limit_in_bytes() -> None:
    assert cache_limit_bytes(TextDatasetConfig()) is None
    assert cache_limit_bytes(TextDatasetConfig(cache_limit="2kb")) == 2048
    assert cache_limit_bytes(TextDatasetConfig(cache_limit=7)) == 7
