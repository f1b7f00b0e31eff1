import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genai.embedding.encoder import EncoderSettings, TextEncoder, fingerprint_of
from genai.embedding.tokenizing import TextTokenizer, load_tokenizer
from genai.errors import DataError, UsageError


class Recorder:
    """A model whose vectors are (number of tokens, sum of ids), and that remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, sequences: Sequence[Sequence[int]]) -> Any:
        self.batches.append([len(ids) for ids in sequences])
        return np.array([[len(ids), sum(ids)] for ids in sequences], dtype=np.float32)


def make(tokenizer: TextTokenizer, model: Any, **changes: Any) -> TextEncoder:
    values = {"model": "m", "width": 2, "dimension": 2, "max_length": 10, "normalize": False, **changes}
    return TextEncoder(
        EncoderSettings(**values), fingerprint=lambda: "f", tokenizer=lambda: tokenizer, model=lambda: model
    )


@pytest.fixture(scope="module")
def tokenizer(bert: Path) -> TextTokenizer:
    return load_tokenizer(bert)


def test_the_order_of_the_texts_is_kept(tokenizer: TextTokenizer) -> None:
    texts = ["the the the", "the", "", "the the the the", "the the"]
    model = Recorder()
    vectors = make(tokenizer, model, batch_size=2).embed_documents(texts)
    assert vectors[:, 0].tolist() == [5, 3, 2, 6, 4]
    assert model.batches == [[6, 5], [4, 3], [2]]


def test_no_texts(tokenizer: TextTokenizer) -> None:
    model = Recorder()
    assert make(tokenizer, model, dimension=1).embed_queries([]).shape == (0, 1)
    assert model.batches == []


def test_prompts_come_first_and_are_cut_last(tokenizer: TextTokenizer) -> None:
    encoder = make(tokenizer, Recorder(), document_prompt="site ", query_prompt="the the ")
    prompts = [len(tokenizer.ids(prompt)) for prompt in ("site ", "the the ")]
    assert encoder.embed_documents(["the"])[0, 0] == 2 + prompts[0] + 1
    assert encoder.embed_queries(["the"])[0, 0] == 2 + prompts[1] + 1
    assert encoder.embed_documents(["the " * 50])[0, 0] == 10
    assert encoder.max_tokens == 10 - 2 - prompts[0]
    assert encoder.token_offsets("the") == [(0, 3)]


def test_texts_of_both_roles_are_read_together(tokenizer: TextTokenizer) -> None:
    encoder = make(tokenizer, Recorder(), document_prompt="site ", query_prompt="the the ")
    sequences = encoder.tokens(["the", "the " * 50], "document") + encoder.tokens(["the"], "query")
    assert [len(ids) for ids in sequences] == encoder.embed_tokens(sequences)[:, 0].tolist()
    alone = [*encoder.embed_documents(["the", "the " * 50]), *encoder.embed_queries(["the"])]
    np.testing.assert_array_equal(encoder.embed_tokens(sequences), alone)
    assert not encoder.normalize


def test_a_prompt_without_room_for_a_text(tokenizer: TextTokenizer) -> None:
    with pytest.raises(UsageError, match=r"embedding\.max_tokens: max_tokens 4 leaves no room"):
        _ = make(tokenizer, Recorder(), max_length=4, document_prompt="the the ").max_tokens


def test_a_text_without_a_token_is_zeros(tokenizer: TextTokenizer) -> None:
    bare = TextTokenizer(tokenizer._tokenizer, prefix=(), suffix=())
    vectors = make(bare, Recorder(), normalize=True).embed_documents(["", "the"])
    assert vectors[0].tolist() == [0, 0]
    assert np.linalg.norm(vectors[1]) == pytest.approx(1)


def test_infinite_numbers(tokenizer: TextTokenizer) -> None:
    with pytest.raises(DataError, match="infinite numbers for 2 of 2 texts"):
        make(tokenizer, lambda ids: np.full((len(ids), 2), np.nan)).embed_documents(["a", "b"])


def test_loaded_once_by_whoever_comes_first(tokenizer: TextTokenizer) -> None:
    loads = []

    def load() -> Recorder:
        loads.append(1)
        return Recorder()

    settings = EncoderSettings(model="m", width=2, dimension=2, max_length=10)
    encoder = TextEncoder(settings, fingerprint=lambda: "f", tokenizer=lambda: tokenizer, model=load)
    assert (encoder.fingerprint, encoder.dimension, loads) == ("f", 2, [])
    threads = [threading.Thread(target=encoder.embed_queries, args=(["the"],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [1]


def test_a_fingerprint_depends_on_every_part() -> None:
    assert fingerprint_of({"a": 1, "b": "ü"}) == fingerprint_of({"b": "ü", "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": "1"})
    assert fingerprint_of({"a": 1}).startswith("sha256:")
