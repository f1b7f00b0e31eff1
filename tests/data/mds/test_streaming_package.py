"""Our shards in mosaicml-streaming 0.13.0 and its shards here, bit for bit, for every encoding.

It pins older packages than ours, so it is installed without its dependencies into a folder that vanishes with the test,
and imported in a process of its own, where an empty module stands for torchvision.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGES = ("mosaicml-streaming==0.13.0", "zstd", "Brotli", "python-snappy", "cramjam", "catalogue>=2,<3")

STUB = """
import importlib.abc, importlib.machinery, sys, types

class Stub(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = lambda name: type(name, (), {})
        return module
    def exec_module(self, module):
        pass

import torch, transformers
sys.meta_path.append(Stub())
"""

COMPARE = (
    STUB
    + """
import json
from decimal import Decimal
from pathlib import Path
import numpy as np
import streaming
from streaming import LocalDataset, StreamingDataset
from streaming.base.format import get_index_basename
from genai.data.mds import MDSWriter, read_index, read_samples

folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
samples = []
for n in range(40):
    samples.append({
        "a_bytes": bytes(rng.integers(0, 256, n).tolist()), "b_str": "é" * n, "c_int": -n, "d_str_int": 10**n,
        "e_str_float": n / 7, "f_str_decimal": Decimal(n) / 10, "g_json": {"n": [n, None]},
        "h_ndarray": rng.integers(0, 9, (n + 1, 2)).astype(np.int16),
        "i_array16": rng.integers(0, 9, 300 + n).astype(np.uint16),
        "j_fixed": rng.integers(0, 60000, (2, 3)).astype(np.uint16), "k_half": np.ones((1, 2), np.float16) * n,
        **{f"s_{name}": getattr(np, name)(n) for name in (
            "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")},
    })
columns = {
    "a_bytes": "bytes", "b_str": "str", "c_int": "int", "d_str_int": "str_int", "e_str_float": "str_float",
    "f_str_decimal": "str_decimal", "g_json": "json", "h_ndarray": "ndarray", "i_array16": "ndarray:uint16",
    "j_fixed": "ndarray:uint16:2,3", "k_half": "ndarray:float16",
    **{f"s_{name}": name for name in (
        "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")},
}

def equal(left, right):
    return left.keys() == right.keys() and all(
        type(left[key]) is type(right[key]) and getattr(left[key], "dtype", None) == getattr(right[key], "dtype", None)
        and np.array_equal(left[key], right[key]) for key in left)

done = []
for compression in (None, "zstd", "zstd:9", "gz", "bz2"):
    for hashes in ([], ["sha1", "xxh64"]):
        name = f"{compression}-{len(hashes)}".replace(":", "_")
        theirs, ours, back = (str(folder / f"{kind}-{name}") for kind in ("theirs", "ours", "back"))
        same = {"columns": columns, "compression": compression, "hashes": hashes}
        with streaming.MDSWriter(out=theirs, size_limit=9000, **same) as w, MDSWriter(
            ours, size_limit_bytes=9000, **same
        ) as v:
            for sample in samples:
                w.write(sample)
                v.write(sample)
        check = hashes[0] if hashes else None
        assert all(equal(*pair) for pair in zip(read_samples(theirs, validate_hash=check), samples, strict=True)), name
        assert len(read_index(theirs)) > 1
        stream = StreamingDataset(remote=ours, local=back, batch_size=1, shuffle=False, validate_hash=check)
        assert all(equal(*pair) for pair in zip(stream, samples, strict=True)), name
        if compression is None:
            assert all(equal(*pair) for pair in zip(LocalDataset(ours), samples, strict=True)), name
            for path in Path(theirs).iterdir():
                assert path.read_bytes() == (Path(ours) / path.name).read_bytes(), path
        done.append(name)

rows = rng.integers(0, 60000, (500, 16)).astype(np.uint16)
with MDSWriter(str(folder / "rows"), {"tokens": "ndarray:uint16:16"}, size_limit_bytes=3000) as w:
    w.write_rows("tokens", rows)
assert np.array_equal(np.stack([sample["tokens"] for sample in LocalDataset(str(folder / "rows"))]), rows)
print(json.dumps(done))
"""
)


@pytest.fixture(scope="module")
def streaming_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with mosaicml-streaming, or the test is skipped."""
    folder = tmp_path_factory.mktemp("streaming-package")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*command, *PACKAGES], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        pytest.skip(f"mosaicml-streaming cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.mark.slow
def test_both_ways_for_every_encoding(streaming_package: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{streaming_package}"}
    command = [sys.executable, "-W", "ignore", "-c", COMPARE, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(json.loads(done.stdout.splitlines()[-1])) == 10
