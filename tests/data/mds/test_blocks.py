"""Token rows of a shard at once are the rows one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai.data.mds import FileInfo, MDSWriter, Shard, ShardInfo, TokenBlock, read_index, read_shard, token_block
from genai.errors import DataError
from genai.storage import open_store

ROWS = np.random.default_rng(0).integers(0, 60000, (50, 12))


def block_of(url: str) -> TokenBlock:
    return token_block(read_shard(open_store(url), read_index(url)[0]))


@pytest.mark.parametrize("encoding", ["ndarray:uint16:12", "ndarray:uint32:12", "ndarray:int32", "ndarray", "bytes"])
@pytest.mark.parametrize("others", [{}, {"attention": "ndarray:uint8:12", "url": "str", "z": "int"}])
def test_rows_at_once(make_set: Callable[..., str], encoding: str, others: dict[str, str]) -> None:
    dtype = {"ndarray:uint16:12": np.uint16, "ndarray:uint32:12": np.uint32}.get(encoding, np.int32)
    values = {"attention": np.ones(12, np.uint8), "url": "abc", "z": 7}
    samples: list[dict[str, Any]] = []
    for row in ROWS:
        tokens = row.astype(np.int64).tobytes() if encoding == "bytes" else row.astype(dtype)
        samples.append({"tokens": tokens, **{name: values[name] for name in others}})
    block = block_of(make_set({"tokens": encoding, **others}, samples))
    assert block.seq_len == 12
    chosen = np.array([3, 3, 49, 0], dtype=np.int64)
    assert np.array_equal(block.gather(chosen), ROWS[chosen])
    assert np.array_equal(block.gather(chosen, 5), ROWS[chosen, :5])
    assert block.gather(chosen[:0]).shape == (0, 12)
    assert block.dtype.itemsize == {"bytes": 8, "ndarray:uint16:12": 2}.get(encoding, 4)


def test_the_rows_are_no_copy(make_set: Callable[..., str]) -> None:
    url = make_set({"tokens": "ndarray:uint16:12"}, [{"tokens": row.astype(np.uint16)} for row in ROWS])
    block = block_of(url)
    assert not block.rows.flags.owndata
    assert not block.rows.flags.writeable


@pytest.mark.parametrize(
    ("columns", "samples", "said"),
    [
        ({"text": "str"}, [{"text": "a"}], "no column 'tokens', but 'text'"),
        ({"tokens": "str"}, [{"tokens": "a"}], "holds no tokens"),
        ({"tokens": "bytes"}, [{"tokens": b"1234567"}], "no whole int64"),
        ({"tokens": "bytes"}, [{"tokens": b""}], "no whole int64"),
        ({"tokens": "bytes"}, [{"tokens": b"1" * 8}, {"tokens": b"1" * 16}], "sample 1 has other sizes"),
        (
            {"tokens": "bytes", "u": "str"},
            [{"tokens": b"1" * 8, "u": "x" * 8}, {"tokens": b"1" * 16, "u": ""}],
            "sample 1",
        ),
        ({"tokens": "ndarray"}, [{"tokens": np.zeros(4, np.int32)}, {"tokens": np.zeros(4, np.uint32)}], "sample 1"),
        ({"tokens": "ndarray"}, [{"tokens": np.zeros((2, 2), np.int32)}], "2 axes"),
        ({"tokens": "ndarray:float32:4"}, [{"tokens": np.zeros(4, np.float32)}], "no whole float32"),
        ({"tokens": "ndarray:int32:2,2"}, [{"tokens": np.zeros((2, 2), np.int32)}], "2 axes"),
    ],
)
def test_what_is_no_block_of_tokens(
    make_set: Callable[..., str], columns: dict[str, str], samples: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        block_of(make_set(columns, samples))


@pytest.fixture(scope="module", params=["ndarray", "ndarray:int32", "bytes", "ndarray:uint16:12"])
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ShardInfo]:
    out = tmp_path_factory.mktemp("good")
    with MDSWriter(str(out), {"tokens": request.param, "a": "str"}) as writer:
        for row in ROWS[:3]:
            kind = {"bytes": np.int64, "ndarray:uint16:12": np.uint16}.get(request.param, np.int32)
            tokens = row.astype(kind)
            writer.write({"tokens": tokens.tobytes() if request.param == "bytes" else tokens, "a": "x"})
    (info,) = read_index(str(out))
    return (out / info.raw_data.basename).read_bytes(), info


@settings(max_examples=150)
@given(st.data())
def test_no_damage_does_more_than_fail(good: tuple[bytes, ShardInfo], data: st.DataObject) -> None:
    content, info = bytearray(good[0]), good[1]
    first = int.from_bytes(content[4:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, 19) | st.integers(first, first + 24))
        content[place] = data.draw(st.integers(0, 255))
    try:
        block = token_block(Shard(bytes(content), info, "x"))
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert block.gather(np.arange(3)).shape == (3, block.seq_len)


def test_a_shard_without_samples() -> None:
    info = ShardInfo(
        column_names=("tokens",),
        column_encodings=("bytes",),
        column_sizes=(None,),
        samples=0,
        raw_data=FileInfo(basename="x", size_bytes=8),
    )
    with pytest.raises(DataError, match="no sample"):
        token_block(Shard(b"\x00\x00\x00\x00\x08\x00\x00\x00", info, "x"))
