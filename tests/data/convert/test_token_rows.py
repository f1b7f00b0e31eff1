from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.data.convert.settings import TokenSettings
from genai.data.convert.token_rows import DocumentTokenizer, RowCutter


def _settings(dtype: str = "uint16") -> TokenSettings:
    values = {"end_of_text": "<|endoftext|>", "end_of_text_id": 0, "tokenizer": "t", "tokenizer_fingerprint": "f"}
    return TokenSettings(seq_len=4, dtype=dtype, vocab_size=257, **values)  # type: ignore[arg-type]


@given(st.lists(st.lists(st.integers(0, 9), max_size=20), max_size=20), st.integers(1, 7))
def test_rows_are_the_stream_cut_in_pieces(documents: list[list[int]], seq_len: int) -> None:
    rows: list[list[int]] = []
    cutter = RowCutter(seq_len, "uint16", lambda rows_NS: rows.extend(rows_NS.tolist()))
    for ids in documents:
        cutter.add(np.array(ids, dtype=np.uint16))
    rest = cutter.flush().tolist()
    assert [token for row in rows for token in row] + rest == [token for ids in documents for token in ids]
    assert {len(row) for row in rows} <= {seq_len}
    assert len(rest) < seq_len


def test_blocks_are_handed_on_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genai.data.convert.token_rows._ROWS_AT_ONCE", 2)
    blocks: list[tuple[int, ...]] = []
    cutter = RowCutter(3, "uint16", lambda rows_NS: blocks.append(rows_NS.shape))
    for _ in range(5):
        cutter.add(np.ones(4, dtype=np.uint16))
    assert blocks == [(2, 3)] * 3


def test_a_text_cannot_end_its_own_document(tokenizer_json: str) -> None:
    tokenizer = DocumentTokenizer(tokenizer_json, _settings())
    (ids,) = tokenizer.encode(["a<|endoftext|>b"])
    assert ids.tolist().count(0) == 1
    assert ids[-1] == 0
    assert len(ids) == len("a<|endoftext|>b") + 1


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_ids_have_the_type_of_the_shards(dtype: str, tokenizer_json: str) -> None:
    one, two = DocumentTokenizer(tokenizer_json, _settings(dtype)).encode(["ab", "é"])
    assert one.dtype == two.dtype == np.dtype(dtype)
    assert (len(one), len(two)) == (3, 3)
