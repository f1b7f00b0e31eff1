from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from genai.data.mds import MDSWriter
from genai.data.token_streams.specs import StreamSpec, open_source
from genai.errors import DataError, UsageError


def test_a_split_lies_below_its_stream(tokens: Callable[..., str], tmp_path: Path) -> None:
    url = tokens(range(5), a_shard=5)
    spec = StreamSpec(name="a", remote=str(tmp_path), split=Path(url).name)
    source = open_source(spec)
    assert source.sizes.tolist() == [5]
    assert source.url_of(source.shards[0]) == f"{url}/s000.00000.mds"
    with pytest.raises(DataError, match="no safe object key"):
        open_source(StreamSpec(name="a", remote=url, split="../x"))


def test_what_is_missing_is_said() -> None:
    with pytest.raises(UsageError, match="stream 'a' has neither remote nor local"):
        open_source(StreamSpec(name="a"))
    with pytest.raises(DataError, match=r"no object 'index\.json' in /nowhere"):
        open_source(StreamSpec(name="a", local="/nowhere"))


def test_shards_of_text_are_refused(tmp_path: Path) -> None:
    with MDSWriter(str(tmp_path), {"text": "str"}) as writer:
        writer.write({"text": "a"})
    with pytest.raises(DataError, match=r"index\.json: shard 0: it has no column 'tokens', but 'text'"):
        open_source(StreamSpec(name="a", remote=str(tmp_path)))


def test_the_version_changes_when_the_set_is_written_anew(tokens: Callable[..., str]) -> None:
    url = tokens(range(5), a_shard=5)
    spec = StreamSpec(name="a", remote=url)
    before = open_source(spec)
    assert open_source(spec).version == before.version
    index = Path(url) / "index.json"
    index.write_bytes(index.read_bytes())
    assert open_source(spec).version != before.version


@pytest.mark.integration
def test_local_beside_a_bucket_is_not_used(
    s3_bucket: str, tokens: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    with MDSWriter(s3_bucket, {"tokens": "ndarray:uint16:2"}):
        pass
    with caplog.at_level(logging.WARNING, "genai"):
        source = open_source(StreamSpec(name="a", remote=s3_bucket, local=tokens(range(5), a_shard=5)))
    assert source.sizes.tolist() == []
    assert "stream 'a': local is not used" in caplog.text
