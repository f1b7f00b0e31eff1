"""A data set is there as a whole or not at all, and its shards are byte for byte what the format says."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genai.data.mds import MDSWriter, read_index, read_samples, write_index
from genai.errors import DataError, UsageError

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_shard_by_hand(tmp_path: Path) -> None:
    with MDSWriter(str(tmp_path), {"n": "uint8", "a": "str"}) as writer:
        writer.write({"a": "xy", "n": 7})
        writer.write({"n": 8, "a": ""})
    header = (
        b'{"column_encodings": ["str", "uint8"], "column_names": ["a", "n"], "column_sizes": [null, 1], '
        b'"compression": null, "format": "mds", "hashes": [], "size_limit": 67108864, "version": 2}'
    )
    start = 4 + 3 * 4 + len(header)
    samples = b"\x02\x00\x00\x00xy\x07" + b"\x00\x00\x00\x00\x08"
    table = np.array([2, start, start + 7, start + 12], "<u4").tobytes()
    assert (tmp_path / "shard.00000.mds").read_bytes() == table + header + samples
    assert json.loads((tmp_path / "index.json").read_text()) == {
        "version": 2,
        "shards": [
            {
                **json.loads(header),
                "samples": 2,
                "raw_data": {"basename": "shard.00000.mds", "bytes": start + 12, "hashes": {}},
                "zip_data": None,
            }
        ],
    }


def test_shards_stay_below_the_limit_and_rows_fill_them_like_single_samples(tmp_path: Path) -> None:
    rows = np.arange(1000 * 8, dtype=np.uint16).reshape(1000, 8)
    columns = {"tokens": "ndarray:uint16:8"}
    with MDSWriter(str(tmp_path / "rows"), columns, size_limit_bytes=2000) as writer:
        writer.write_rows("tokens", rows[:333])
        writer.write_rows("tokens", rows[333:])
    with MDSWriter(str(tmp_path / "samples"), columns, size_limit_bytes=2000) as writer:
        for row in rows:
            writer.write({"tokens": row})
    shards = read_index(str(tmp_path / "rows"))
    assert shards == read_index(str(tmp_path / "samples"))
    assert max(shard.raw_data.size_bytes for shard in shards) <= 2000
    assert sum(shard.samples for shard in shards) == 1000
    for shard in shards:
        name = shard.raw_data.basename
        assert (tmp_path / "rows" / name).read_bytes() == (tmp_path / "samples" / name).read_bytes()
    found = np.stack([sample["tokens"] for sample in read_samples(str(tmp_path / "rows"))])
    assert np.array_equal(found, rows)


def test_a_sample_larger_than_the_limit_gets_a_shard_of_its_own(make_set: Callable[..., str]) -> None:
    url = make_set({"a": "str"}, [{"a": "x" * 900}, {"a": "y"}, {"a": "z" * 900}], size_limit_bytes=300)
    assert [shard.samples for shard in read_index(url)] == [1, 1, 1]


def test_compressed_and_hashed(make_set: Callable[..., str]) -> None:
    url = make_set({"a": "str"}, [{"a": "x" * 1000}], compression="zstd:7", hashes=["sha256", "sha1"])
    (shard,) = read_index(url)
    assert [path.name for path in sorted(Path(url).iterdir())] == ["index.json", "shard.00000.mds.zstd"]
    stored = (Path(url) / "shard.00000.mds.zstd").read_bytes()
    assert shard.zip_data is not None
    assert shard.zip_data.hashes["sha1"] == hashlib.sha1(stored).hexdigest()
    assert shard.hashes == ("sha1", "sha256")
    assert [sample["a"] for sample in read_samples(url, validate_hash="sha256")] == ["x" * 1000]


def test_several_writers_and_one_index(tmp_path: Path) -> None:
    shards = []
    for worker in range(3):
        with MDSWriter(str(tmp_path), {"n": "int"}, prefix=f"part-{worker}", index=False) as writer:
            writer.write({"n": worker})
            shards += writer.finish()
    assert not (tmp_path / "index.json").exists()
    write_index(str(tmp_path), shards)
    assert [sample["n"] for sample in read_samples(str(tmp_path))] == [0, 1, 2]
    with pytest.raises(DataError, match="the same name"):
        write_index(str(tmp_path), [shards[0], shards[0]])


def test_an_error_leaves_no_data_set(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        MDSWriter(str(tmp_path), {"n": "int"}, size_limit_bytes=1) as writer,
    ):
        writer.write({"n": 1})
        writer.write({"n": 1 // 0})
    with pytest.raises(DataError, match=r"no object 'index\.json'"):
        read_index(str(tmp_path))


def test_a_data_set_is_not_overwritten(make_set: Callable[..., str]) -> None:
    url = make_set({"n": "int"}, [{"n": 1}])
    with pytest.raises(DataError, match="holds a data set already"):
        MDSWriter(url, {"n": "int"})


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ({"n": 1}, "columns"),
        ({"n": 1, "a": "x", "b": "y"}, "columns"),
        ({"n": "1", "a": "x"}, "column 'n' cannot hold it as int"),
    ],
)
def test_a_sample_that_does_not_fit(tmp_path: Path, sample: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        MDSWriter(str(tmp_path), {"n": "int", "a": "str"}).write(sample)


def test_rows_that_do_not_fit(tmp_path: Path) -> None:
    writer = MDSWriter(str(tmp_path), {"tokens": "ndarray:uint16:8"})
    writer.write_rows("tokens", np.zeros((0, 8), np.uint16))
    with pytest.raises(DataError, match="expected an array of uint16"):
        writer.write_rows("tokens", np.zeros((2, 8), np.int32))
    with pytest.raises(DataError, match=r"expected an array of shape \(8,\)"):
        writer.write_rows("tokens", np.zeros((2, 4), np.uint16))
    with pytest.raises(DataError, match="single column 'other'"):
        writer.write_rows("other", np.zeros((2, 8), np.uint16))


@pytest.mark.parametrize(
    "settings", [{"compression": "br"}, {"hashes": ["md6"]}, {"size_limit_bytes": 2**33}, {"prefix": "a/b"}]
)
def test_settings_that_cannot_be_used(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        MDSWriter(str(tmp_path), {"n": "int"}, **settings)


KILLED = """
import os, signal, sys
from genai.data.mds import MDSWriter
from genai.storage import atomic
real, left = os.replace, int(sys.argv[2])
def replace(source, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
with MDSWriter(sys.argv[1], {"n": "int"}, size_limit_bytes=300) as writer:
    for n in range(30):
        writer.write({"n": n})
"""


@pytest.mark.integration
def test_killed_at_any_point_it_leaves_no_data_set_or_a_whole_one(tmp_path: Path) -> None:
    whole = 0
    for writes in (0, 1, 2, 3, 100):
        out = tmp_path / str(writes)
        subprocess.run([sys.executable, "-c", KILLED, str(out), str(writes)], cwd=REPOSITORY, check=False)
        if (out / "index.json").exists():
            whole += 1
            assert [sample["n"] for sample in read_samples(str(out))] == list(range(30))
        else:
            with MDSWriter(str(out), {"n": "int"}) as writer:  # and one can begin anew
                writer.write({"n": 1})
            assert [sample["n"] for sample in read_samples(str(out))] == [1]
    assert whole == 1


@pytest.mark.integration
def test_a_bucket(s3_bucket: str) -> None:
    url = f"{s3_bucket}/some/set"
    with MDSWriter(url, {"n": "int"}, compression="zstd", hashes=["sha1"], size_limit_bytes=300) as writer:
        for n in range(30):
            writer.write({"n": n})
    assert len(read_index(url)) > 1
    assert [sample["n"] for sample in read_samples(url, validate_hash="sha1")] == list(range(30))
