"""Small sets of tokens whose every row says which sample it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genai.data.mds import MDSWriter, write_index
from genai.data.token_streams import StreamSpec, TokenStream

SEQ = 6


def row_of(sample: int) -> list[int]:
    """The tokens of the row with this number."""
    return [sample % 60000, sample // 60000, *range(SEQ - 2)]


def write_tokens(out: str, samples: range, *, a_shard: int, encoding: str | None = None, **settings: Any) -> str:
    """A set of shards of `a_shard` rows each."""
    shards = []
    for number, start in enumerate(range(0, len(samples), a_shard)):
        columns = {"tokens": encoding or f"ndarray:uint16:{SEQ}"}
        with MDSWriter(out, columns, prefix=f"s{number:03}", index=False, **settings) as writer:
            for sample in samples[start : start + a_shard]:
                writer.write({"tokens": np.array(row_of(sample), dtype=np.uint16)})
            shards += writer.finish()
    write_index(out, shards)
    return out


@pytest.fixture
def tokens(tmp_path: Path) -> Callable[..., str]:
    """tokens(range(100), a_shard=10): the folder of a set of tokens."""

    def make(samples: range, *, a_shard: int, **settings: Any) -> str:
        return write_tokens(str(tmp_path / f"set{samples.start}-{samples.stop}"), samples, a_shard=a_shard, **settings)

    return make


@pytest.fixture
def open_stream(tmp_path: Path) -> Iterator[Callable[..., TokenStream]]:
    """open_stream(url or specs, **settings): a stream that is closed after the test."""
    opened: list[TokenStream] = []

    def make(source: str | Sequence[StreamSpec], **settings: Any) -> TokenStream:
        specs = [StreamSpec(name="only", remote=source)] if isinstance(source, str) else source
        defaults: dict[str, Any] = {
            "seq_len": SEQ,
            "global_batch_size": 4,
            "seed": 7,
            "shuffle_block_size": 40,
            "cache_dir": tmp_path / "cache",
        }
        opened.append(TokenStream(specs, **(defaults | settings)))
        return opened[-1]

    yield make
    for stream in opened:
        stream.close()


@pytest.fixture(scope="session")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> str:
    """103 samples in 11 shards."""
    return write_tokens(str(tmp_path_factory.mktemp("hundred") / "set"), range(103), a_shard=10, hashes=["sha1"])
