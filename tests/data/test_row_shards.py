"""Shards of rows, as `genai data convert` and llm-foundry write them, read back for fine-tuning."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from genai.config.finetune import DataConfig, FinetuningDatasetConfig, RowStreamConfig
from genai.data.faults import DataConfigError
from genai.data.mds import MDSWriter
from genai.data.prepare import load_rows
from genai.data.row_shards import read_shards
from genai.data.rows import RowSet
from genai.errors import DataError

PAIRS = {"prompt": "str", "response": "str"}


def write(folder: Path, start: int, end: int, columns: dict[str, str] | None = None) -> None:
    with MDSWriter(str(folder), columns or PAIRS, size_limit_bytes=200) as writer:
        for number in range(start, end):
            writer.write({"prompt": f"question {number}", "response": f"answer {number}"})


def load(**keys: Any) -> RowSet:
    return load_rows(FinetuningDatasetConfig(**keys), DataConfig())


@pytest.mark.parametrize("key", ["remote", "local"])
def test_one_data_set(key: str, tmp_path: Path) -> None:
    write(tmp_path / "train", 0, 20)
    for place in (tmp_path, tmp_path / "train"):  # with and without the split's folder
        rows = load(**{key: str(place)})
        assert [row.messages[1].content for row in rows.rows] == [f"answer {number}" for number in range(20)]
    assert rows.rows[3].source == f"{tmp_path}/train[4]"


def test_streams_come_one_after_the_other(tmp_path: Path) -> None:
    write(tmp_path / "a" / "big", 0, 3)
    write(tmp_path / "b", 3, 5)
    streams = {
        "first": RowStreamConfig(remote=str(tmp_path / "a"), split="big"),
        "second": RowStreamConfig(local=str(tmp_path / "b")),
    }
    assert [row.messages[0].content[-1] for row in load(streams=streams).rows] == list("01234")


def test_conversations_as_json(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    with MDSWriter(str(tmp_path), {"messages": "json"}) as writer:
        writer.write({"messages": messages})
    row = load(local=str(tmp_path)).rows[0]
    assert [(message.role, message.content) for message in row.messages] == [("user", "hi"), ("assistant", "hello")]


def test_mistakes(tmp_path: Path) -> None:
    streams = {"a": RowStreamConfig(remote=str(tmp_path / "x")), "b": RowStreamConfig(local=str(tmp_path / "y"))}
    with pytest.raises(DataConfigError) as caught:
        read_shards(FinetuningDatasetConfig(streams=streams))
    assert caught.value.key == "dataset.streams.a.remote"
    assert [problem.where for problem in caught.value.problems] == [str(tmp_path / "x"), str(tmp_path / "y")]
    assert "there are no shards: no object 'index.json'" in caught.value.problems[0].message
    with pytest.raises(DataConfigError, match="no safe object key"):
        read_shards(FinetuningDatasetConfig(local=str(tmp_path), split="../elsewhere"))
    write(tmp_path, 0, 20)
    shard = next(tmp_path.glob("*.mds"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"bytes that index\.json says"):
        list(read_shards(FinetuningDatasetConfig(local=str(tmp_path))))


def test_tokens_are_no_rows(tmp_path: Path) -> None:
    with MDSWriter(str(tmp_path), {"tokens": "bytes"}) as writer:
        writer.write({"tokens": b"12"})
    with pytest.raises(DataConfigError, match="no known format has the columns tokens"):
        load(local=str(tmp_path))


def test_local_beside_remote_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "here", 0, 2)
    with caplog.at_level(logging.WARNING, "genai"):
        rows = load(remote=str(tmp_path / "here"), local=str(tmp_path / "there"))
    assert len(rows) == 2
    assert "there is not used" in caplog.text


def test_hashes(tmp_path: Path) -> None:
    with MDSWriter(str(tmp_path), PAIRS, hashes=["sha1"]) as writer:
        writer.write({"prompt": "question", "response": "answer"})
    assert len(load(local=str(tmp_path), validate_hash="sha1")) == 1
    shard = next(tmp_path.glob("*.mds"))
    shard.write_bytes(shard.read_bytes().replace(b"answer", b"anzwer"))
    assert len(load(local=str(tmp_path))) == 1
    with pytest.raises(DataError, match="sha1"):
        load(local=str(tmp_path), validate_hash="sha1")


@pytest.mark.integration
def test_shards_in_a_bucket(tmp_path: Path, s3_bucket: str) -> None:
    from genai.storage import open_store

    write(tmp_path, 0, 20)
    store = open_store(f"{s3_bucket}/rows/train")
    for file in tmp_path.iterdir():
        store.upload(file.name, file)
    assert len(load(remote=f"{s3_bucket}/rows")) == 20
