from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from genai.errors import DataError, UsageError
from genai.models.pretokenizers import name_of
from genai.models.tokenizer_training import (
    SMALLEST_VOCABULARY,
    SPECIAL_TOKENS,
    bytes_per_token,
    save_tokenizer,
    train_tokenizer,
)

TEXTS = ["The site office opens at 7 and closes at 17.\n"] * 5 + [
    "Ett bygglov krävs för ett plank.\n\n  12345 日本"
] * 5


def test_the_same_texts_give_the_same_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    first = train_tokenizer(iter(TEXTS), vocab_size=300)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    assert train_tokenizer(iter(TEXTS), vocab_size=300).to_str() == first.to_str()
    assert first.get_vocab_size() == 300


def test_every_text_comes_back() -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=280)
    for text in [*TEXTS, "\x00\x7f ünknown 🙂\t\r\n"]:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.integration
def test_a_folder_that_transformers_loads(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from transformers import AutoTokenizer

    tokenizer = train_tokenizer(TEXTS, vocab_size=300)
    save_tokenizer(tokenizer, tmp_path / "tokenizer", model_max_length=64)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert loaded.convert_ids_to_tokens([0, 1, 2, 3]) == list(SPECIAL_TOKENS)
    assert (loaded.eos_token, loaded.pad_token, loaded.model_max_length) == ("<|endoftext|>", "<|pad|>", 64)
    assert loaded(TEXTS[0])["input_ids"] == tokenizer.encode(TEXTS[0]).ids
    written = json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_text())
    assert name_of(written["pre_tokenizer"]) == "llama-bpe"
    with pytest.raises(DataError, match="already exists"):
        save_tokenizer(tokenizer, tmp_path / "tokenizer")


def test_bytes_per_token() -> None:
    tokenizer = train_tokenizer([], vocab_size=SMALLEST_VOCABULARY)
    assert bytes_per_token(tokenizer, ["abc", "é"]) == 1
    assert math.isnan(bytes_per_token(tokenizer, []))


def test_a_vocabulary_that_cannot_hold_all_bytes() -> None:
    with pytest.raises(UsageError, match="260 can"):
        train_tokenizer(TEXTS, vocab_size=SMALLEST_VOCABULARY - 1)
