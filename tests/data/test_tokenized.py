"""The tokenised cache: found again by content, rebuilt when damaged, safe for two at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genai.data.labels import LabelSettings
from genai.data.rows import BadRow, Row
from genai.data.tokenized import TokenizedRows, cache_key, tokenize, tokenizer_fingerprint

LONG = LabelSettings(max_seq_len=256)


@pytest.fixture
def rows(chat: Callable[..., Row]) -> list[Row]:
    texts = ["Ten weeks.", "Yes.\n\nNo!", "A rule 🙂"]
    return [replace(chat("How long?", text), source=f"rows.jsonl:{n}") for n, text in enumerate(texts, 1)]


def arrays(tokenized: TokenizedRows) -> list[Any]:
    names = ("tokens", "trained", "offsets", "row_indices", "truncated", "answer_cut")
    return [getattr(tokenized, name).tolist() for name in names] + [tokenized.num_dropped, tokenized.bad]


def test_from_lists() -> None:
    rows = TokenizedRows.from_lists([[1, 2, 3], [4], [5, 6]], [[True, False, True], [True], [False, True]])
    assert (len(rows), rows.num_tokens) == (3, 6)
    assert rows.lengths.tolist() == [3, 1, 2]
    assert rows.trained_counts.tolist() == [1, 0, 1]  # the first token of an example is never trained
    ids, trained = rows.example(2)
    assert (ids.tolist(), trained.tolist()) == ([5, 6], [False, True])
    assert TokenizedRows.from_lists([[1, 2]]).fingerprint != TokenizedRows.from_lists([[1], [2]]).fingerprint
    empty = TokenizedRows.from_lists([])
    assert (len(empty), empty.num_tokens, empty.lengths.tolist(), empty.trained_counts.tolist()) == (0, 0, [], [])
    with pytest.raises(ValueError, match="must not be empty"):
        TokenizedRows.from_lists([[1], []])
    with pytest.raises(ValueError, match="one flag a token"):
        TokenizedRows.from_lists([[1, 2]], [[True]])


def test_cached_rows_are_the_built_ones(rows: list[Row], make_tokenizer: Callable[..., Any], tmp_path: Path) -> None:
    tokenizer = make_tokenizer("chatml")
    built = tokenize(rows, tokenizer, LONG)
    first = tokenize(rows, tokenizer, LONG, cache_dir=tmp_path)
    again = tokenize(rows, tokenizer, LONG, cache_dir=tmp_path)
    assert arrays(built) == arrays(first) == arrays(again)
    assert built.fingerprint == again.fingerprint
    assert isinstance(again.tokens, np.memmap)
    (folder,) = tmp_path.iterdir()
    assert folder.name == cache_key(rows, tokenizer, LONG)
    assert [tokenizer.decode(built.example(i)[0].tolist()).count("How long?") for i in range(3)] == [1, 1, 1]


def test_the_cache_is_really_used(rows: list[Row], make_tokenizer: Callable[..., Any], tmp_path: Path) -> None:
    tokenizer = make_tokenizer("chatml")
    tokenize(rows, tokenizer, LONG, cache_dir=tmp_path)
    broken = make_tokenizer("chatml")
    broken.__class__ = type("Broken", (type(broken),), {"__call__": lambda *_, **__: pytest.fail("tokenised again")})
    assert len(tokenize(rows, broken, LONG, cache_dir=tmp_path)) == 3


def test_the_key_follows_everything_that_matters(rows: list[Row], make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer("chatml")
    keys = [
        cache_key(rows, tokenizer, LONG),
        cache_key(rows[::-1], tokenizer, LONG),
        cache_key(rows[:2], tokenizer, LONG),
        cache_key(rows, make_tokenizer("zephyr"), LONG),
        cache_key(rows, make_tokenizer("chatml", "words"), LONG),
        cache_key(rows, make_tokenizer("chatml", eos_token="<|im_end|>"), LONG),
        cache_key(rows, tokenizer, replace(LONG, max_seq_len=128)),
        cache_key(rows, tokenizer, replace(LONG, target_prompts="all")),
        cache_key(rows, tokenizer, replace(LONG, truncation="drop")),
    ]
    assert len(set(keys)) == len(keys)
    moved = [replace(row, source="elsewhere.jsonl:9") for row in rows]
    assert cache_key(moved, tokenizer, LONG) == keys[0]


def test_the_fingerprint_ignores_padding_and_truncation(make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer("chatml")
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(["a", "a b c"], padding=True, truncation=True, max_length=2)
    assert tokenizer_fingerprint(tokenizer) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "meta.json").write_text("{"),
        lambda folder: (folder / "meta.json").write_text("{}"),
        lambda folder: (folder / "tokens.npy").write_bytes((folder / "tokens.npy").read_bytes()[:-3]),
        lambda folder: (folder / "tokens.npy").write_bytes(b""),
        lambda folder: (folder / "trained.npy").unlink(),
        lambda folder: _flip_last_bit(folder / "tokens.npy"),
        lambda folder: _flip_last_bit(folder / "trained.npy"),
        lambda folder: _flip_last_bit(folder / "offsets.npy"),
        lambda folder: [path.unlink() for path in folder.iterdir()],
    ],
)
def test_damage_is_found_and_mended(
    damage: Callable[[Path], object], rows: list[Row], make_tokenizer: Callable[..., Any], tmp_path: Path
) -> None:
    tokenizer = make_tokenizer("chatml")
    built = tokenize(rows, tokenizer, LONG, cache_dir=tmp_path)
    expected = arrays(built)
    del built
    (folder,) = tmp_path.iterdir()
    damage(folder)
    assert arrays(tokenize(rows, tokenizer, LONG, cache_dir=tmp_path)) == expected
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["fingerprint"] == tokenize(rows, tokenizer, LONG, cache_dir=tmp_path).fingerprint
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def _flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_two_at_once(rows: list[Row], make_tokenizer: Callable[..., Any], tmp_path: Path) -> None:
    tokenizers = [make_tokenizer("chatml") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda tokenizer: tokenize(rows, tokenizer, LONG, cache_dir=tmp_path), tokenizers))
    assert len({result.fingerprint for result in results}) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_bad_rows_are_kept_with_where_they_stand_now(
    rows: list[Row], chat: Callable[..., Row], make_tokenizer: Callable[..., Any], tmp_path: Path
) -> None:
    tokenizer = make_tokenizer("gemma")
    rows.insert(1, replace(chat("One?", "Yes.", system="Be terse."), source="rows.jsonl:9"))
    first = tokenize(rows, tokenizer, LONG, cache_dir=tmp_path)
    assert [bad.source for bad in first.bad] == ["rows.jsonl:9"]
    assert first.row_indices.tolist() == [0, 2, 3]
    moved = [replace(row, source=f"other.jsonl:{n}") for n, row in enumerate(rows, 1)]
    again = tokenize(moved, tokenizer, LONG, cache_dir=tmp_path)
    assert again.bad == (BadRow(source="other.jsonl:2", reason=first.bad[0].reason),)


def test_long_rows_are_cut_or_dropped(chat: Callable[..., Row], make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer("chatml")
    rows = [chat("How long?", "Ten weeks."), chat("How long?", "Ten weeks. " * 40)]
    cut = tokenize(rows, tokenizer, LabelSettings(max_seq_len=60))
    assert cut.truncated.tolist() == [False, True] == cut.answer_cut.tolist()
    assert cut.lengths.max() == 60
    dropped = tokenize(rows, tokenizer, LabelSettings(max_seq_len=60, truncation="drop"))
    assert (len(dropped), dropped.num_dropped, dropped.row_indices.tolist()) == (1, 1, [0])
    nothing = tokenize(rows[1:], tokenizer, LabelSettings(max_seq_len=60, truncation="drop"))
    assert (len(nothing), nothing.num_dropped) == (0, 1)


def test_rows_that_become_several_examples(
    chat: Callable[..., Row], make_tokenizer: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [chat("One?", "Yes."), chat("One?", "Yes.", "Two?", "No!")]
    with caplog.at_level("INFO", logger="genai"):
        tokenized = tokenize(rows, make_tokenizer("strips_reasoning"), LONG)
    assert tokenized.row_indices.tolist() == [0, 1, 1]
    assert "2 rows made 3 examples" in caplog.text
