import json
from pathlib import Path

import pytest

from genai.embedding.pair_tokenizing import PairTokenizer, has_segments
from genai.embedding.settings import read_settings


@pytest.mark.parametrize(("tokenizer", "expected"), [("BertTokenizer", True), ("TokenizersBackend", False)])
def test_segments_follow_the_tokenizer(tmp_path: Path, tokenizer: str, expected: bool) -> None:
    (tmp_path / "config.json").write_text('{"type_vocab_size": 2}')
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer}))
    assert has_segments(tmp_path) is expected
    (tmp_path / "config.json").write_text('{"type_vocab_size": 1}')
    assert not has_segments(tmp_path)


def test_pairs_against_transformers(bert: Path, texts: list[str]) -> None:
    from transformers import AutoTokenizer

    ours, theirs = PairTokenizer(read_settings(bert), max_length=24), AutoTokenizer.from_pretrained(bert)
    long = "who signs the protocol " * 20
    for query, text in [*(("who signs", text) for text in texts), ("who signs", long), (long, "the screed")]:
        expected = theirs([(query, text)], truncation=True, max_length=24, return_token_type_ids=True)
        found = ours.pair(query, text)
        assert (found.ids, found.segments) == (expected["input_ids"][0], expected["token_type_ids"][0])
        assert found.is_cut == (len(theirs([(query, text)])["input_ids"][0]) > 24)


def test_texts_alone(bert: Path) -> None:
    tokenizer = PairTokenizer(read_settings(bert), max_length=5)
    whole, is_cut = tokenizer.ids("the the the")
    assert not is_cut and len(whole) == 3
    assert tokenizer.ids("the " * 9) == ([*whole, *whole][:5], True)


def test_inputs_are_filled_up(tmp_path: Path, bert: Path) -> None:
    tokenizer = PairTokenizer(read_settings(bert))
    pairs = [tokenizer.pair("the", "the the"), tokenizer.pair("the", "the")]
    inputs = tokenizer.inputs(pairs)
    assert set(inputs) == {"input_ids", "attention_mask"}  # this tokenizer gives no segments
    assert inputs["input_ids"].tolist() == [pairs[0].ids, [*pairs[1].ids, 0]]
    assert inputs["attention_mask"].tolist() == [[1] * 6, [1] * 5 + [0]]
