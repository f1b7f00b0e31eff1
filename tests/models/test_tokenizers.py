from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genai.errors import DataError, UsageError
from genai.models.tokenizer_training import save_tokenizer, train_tokenizer
from genai.models.tokenizers import load_fast_tokenizer, resolve_tokenizer, tokenizer_problem

pytestmark = pytest.mark.integration


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    save_tokenizer(train_tokenizer(["some text"], vocab_size=262), tmp_path / "trained")
    return tmp_path / "trained"


def test_a_folder_with_nothing_but_a_tokenizer(trained: Path) -> None:
    assert tokenizer_problem(str(trained)) is None
    found = load_fast_tokenizer(str(trained))
    assert (found.end_of_text, found.end_of_text_id, found.vocab_size) == ("<|endoftext|>", 0, 262)
    assert found.fingerprint == hashlib.sha256(found.json.encode()).hexdigest()
    assert load_fast_tokenizer(str(trained)) == found


def test_the_tokenizer_of_a_model(tiny: Path) -> None:
    found = load_fast_tokenizer(str(tiny))
    assert found.end_of_text == "<|endoftext|>"
    assert load_fast_tokenizer(str(tiny), end_of_text="<|im_end|>").end_of_text_id == 2


def test_a_tokenizer_in_a_bucket(trained: Path, s3_bucket: str) -> None:
    from genai.storage import open_store

    store = open_store(f"{s3_bucket}/tokenizer")
    for file in trained.iterdir():
        store.upload(file.name, file)
    found = resolve_tokenizer(f"{s3_bucket}/tokenizer")
    assert (found.path / "tokenizer.json").read_bytes() == (trained / "tokenizer.json").read_bytes()


def test_mistakes(trained: Path, tmp_path: Path, build: Callable[..., Path], llama_config: Any) -> None:
    problem = tokenizer_problem(str(tmp_path / "traind"))
    assert problem is not None
    assert problem.fix == f"did you mean '{trained}'?"
    with pytest.raises(UsageError, match=r"has no token '<\|end\|>'"):
        load_fast_tokenizer(str(trained), end_of_text="<|end|>")
    (trained / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="the tokenizer can"):
        load_fast_tokenizer(str(trained))
