from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genai.data.convert.parts import PartResult, is_unicode, split_of
from genai.data.convert.settings import ConvertSettings
from genai.data.mds import read_shard
from genai.data.rows import BadRow
from genai.storage import open_store

Prepare = Callable[..., Any]


def test_a_part_is_written_and_counted(prepare: Prepare, lines: Callable[..., Path], tmp_path: Path) -> None:
    work, inputs = prepare(lines(["abc", "", "  ", "defgh"]), part_bytes=1 << 20)
    told: list[int] = []
    result = work.convert(inputs.parts[0], told.append)
    (split,) = result.splits
    assert sum(told) == 8
    assert (split.counts.documents, split.counts.text_bytes, split.counts.tokens, split.counts.rows) == (2, 8, 10, 1)
    assert result.num_empty == 2
    assert len(split.rest) == 2
    (info,) = split.shards
    assert info.stored.basename == "part-00000.00000.mds"
    assert list(info.stored.hashes) == ["sha1"]
    (sample,) = read_shard(open_store(str(tmp_path / "out")), info)
    ids = {letter: work_id for letter, work_id in zip("abc", sample["tokens"].tolist(), strict=False)}
    assert sample["tokens"].tolist()[:4] == [ids["a"], ids["b"], ids["c"], 0]
    assert split.rest[-1] == 0


def test_the_journal_gives_the_same_result_back(prepare: Prepare, lines: Callable[..., Path], tmp_path: Path) -> None:
    path = lines(["abc" * 20, "def"])
    with open(path, "a") as stream:
        stream.write('no json\n{"text": "half \\ud800"}\n')
    work, inputs = prepare(path, shares={"validation": 0.5}, part_bytes=1 << 20)
    result = work.convert(inputs.parts[0], lambda _: None)
    assert PartResult.from_json(json.loads(json.dumps(result.to_json())), "journal") == result
    assert result.num_bad == 2
    assert result.bad[1] == BadRow(source=f"{path}:4", reason="holds half of a surrogate pair, which is no character")


def test_rows_are_written_as_they_are(prepare: Prepare, tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "response": "é"} for n in range(3)]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    work, inputs = prepare(tmp_path / "chat.jsonl", target="rows")
    result = work.convert(inputs.parts[0], lambda _: None)
    store = open_store(work.out)
    samples = [sample for info in result.splits[0].shards for sample in read_shard(store, info)]
    assert [sample["messages"][0]["content"] for sample in samples] == ["q0", "q1", "q2"]
    assert result.splits[0].counts.rows == 3


def test_splits_are_a_function_of_the_text() -> None:
    settings = ConvertSettings(target="tokens", shares={"validation": 0.1, "test": 0.2})
    texts = [f"document {n}" for n in range(3000)]
    found = Counter(settings.splits[split_of(text, settings)] for text in texts)
    assert found["validation"] == pytest.approx(300, abs=60)
    assert found["test"] == pytest.approx(600, abs=80)
    larger = ConvertSettings(target="tokens", shares={"validation": 0.2})
    held_back = {text for text in texts if split_of(text, settings) == 1}
    assert all(split_of(text, larger) == 1 for text in held_back)


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert is_unicode("é😀")
    assert not is_unicode("\ud800")
