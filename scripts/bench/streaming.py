"""Loading tokens for training: from a local disk, shuffled, and from an S3 server that is far or behind a thin line.

    python scripts/bench/streaming.py --install-streaming     the full table (some ten minutes on two cores)
    python scripts/bench/streaming.py --quick --json          less data, one round, one JSON object, under a minute

Every loader runs in a process of its own and gives batches of 16 rows of 256 tokens as int64, shuffled. The loaders
take turns for `--rounds` rounds; the table shows medians of million tokens a second of wall time. All processes keep
the memory that they free, as genai's training jobs do.

- local disk: genai's `TokenStream` and mosaicml-streaming on the same MDS shards, HF datasets streaming on Parquet with
  the same rows, a plain memory map of all tokens with a permutation of all rows.
- S3: a moto server behind a proxy of this script that holds every request back for 50 ms, or lets no more than 50 MB/s
  through, and a cache that is empty. The time until the first batch is the cold start; the rate is that of a whole
  epoch with its cold start, held against what plain ranged requests get through the same proxy (without the 50 ms),
  and against what the same loader gets without them (`ours_plain`).

mosaicml-streaming pins older packages: `--install-streaming` puts it into a folder that is removed afterwards,
`--streaming-target` names one where it is already; without either it is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from turns.machine import environment
from turns.rounds import take_turns
from turns.workers import run_worker

SEQ, ROWS = 256, 16
SHARD_BYTES = 8 << 20
DELAY_S = 0.05
LINE_BYTES_S = 50e6
STREAMING = ("mosaicml-streaming==0.13.0", "zstd", "Brotli", "python-snappy", "cramjam", "catalogue>=2,<3")
PACKAGES = ("numpy", "datasets", "boto3", "moto")
LOCAL = ("memmap", "ours_local", "streaming_local", "hf_local")
REMOTE = {
    "line": ("raw_line", "ours_line", "streaming_line"),
    "delay": ("raw_plain", "ours_plain", "ours_delay", "streaming_delay"),
}


# --- the parent: makes the data, takes turns, prints ------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round over less data")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--local-mb", type=int, default=64, help="size of the token shards on the local disk")
    parser.add_argument("--remote-mb", type=int, default=320, help="size of the token shards in the bucket")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a loader reads from the local disk")
    parser.add_argument("--install-streaming", action="store_true", help="install mosaicml-streaming for this run")
    parser.add_argument("--streaming-target", type=Path, help="folder where mosaicml-streaming is installed")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        from genai.training.allocator import keep_freed_memory

        keep_freed_memory()  # as genai's jobs do: else page faults of new batches are half of a loader's time
        name, settings = options.worker
        print(json.dumps(WORKERS[name](json.loads(settings))))
        return
    if options.quick:
        options.rounds, options.local_mb, options.remote_mb, options.seconds = 1, 16, 48, 1.0
    with tempfile.TemporaryDirectory(prefix="bench-streaming-") as folder:
        results = measure(options, Path(folder))
    print(json.dumps(results) if options.json else table(results))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    target = options.streaming_target
    if options.install_streaming:
        target = install_streaming(folder / "streaming")
    with ExitStack() as stack:
        settings = {"folder": str(folder), "seconds": options.seconds, "target": str(target) if target else None}
        run_loader("make_local", {**settings, "size": options.local_mb << 20})
        server = stack.enter_context(s3_server(folder))
        run_loader("make_remote", {**settings, "size": options.remote_mb << 20, "endpoint": server})
        endpoints = {
            "line": stack.enter_context(proxy(server, delay_s=0.0, bytes_s=LINE_BYTES_S)),
            "delay": stack.enter_context(proxy(server, delay_s=DELAY_S, bytes_s=None)),
            "plain": stack.enter_context(proxy(server, delay_s=0.0, bytes_s=None)),
        }

        def run(name: str) -> dict[str, Any]:
            return run_loader(name, {**settings, "endpoint": endpoints.get(name.rpartition("_")[2])})

        results = take_turns((*LOCAL, *REMOTE["line"], *REMOTE["delay"]), options.rounds, run)
    return {
        "benchmark": "streaming",
        "seq": SEQ,
        "rows": ROWS,
        "shard_bytes": SHARD_BYTES,
        "local_bytes": options.local_mb << 20,
        "remote_bytes": options.remote_mb << 20,
        "delay_s": DELAY_S,
        "line_bytes_s": LINE_BYTES_S,
        **environment(PACKAGES),
        "results": results,
    }


def run_loader(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    variables = {
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(Path(settings["folder"]) / "huggingface"),
    }
    if settings.get("endpoint"):
        variables |= {
            "AWS_ENDPOINT_URL": settings["endpoint"],
            "S3_ENDPOINT_URL": settings["endpoint"],  # what mosaicml-streaming calls it
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
        }
    arguments = [name, json.dumps(dict(settings))]
    return run_worker(__file__, arguments, environment=variables, python_flags=("-W", "ignore"))


def install_streaming(folder: Path) -> Path | None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*command, *STREAMING], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"mosaicml-streaming is left out: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return folder


def table(report: Mapping[str, Any]) -> str:
    results = report["results"]
    lines = [
        f"{report['cpu']}; {report['versions']}; shards of {SHARD_BYTES >> 20} MiB, batches of {ROWS} x {SEQ} tokens",
        "",
        "| loader | million tokens/s | first batch s |",
        "|---|---|---|",
    ]
    for name, values in results.items():
        if "skipped" in values:
            lines.append(f"| {name} | {values['skipped']} | |")
        else:
            lines.append(f"| {name} | {values['mtok_s']:.2f} | {values['first_s']:.3f} |")
    if "mtok_s" in results["streaming_local"]:
        ratio = results["ours_local"]["mtok_s"] / results["streaming_local"]["mtok_s"]
        lines.append(f"\nours_local / streaming_local: {ratio:.1f}x")
    for ours, raw in (("ours_line", "raw_line"), ("ours_delay", "raw_plain")):
        best = min(results["ours_local"]["mtok_s"], results[raw]["mtok_s"])
        lines.append(f"\n{ours} / the smaller of ours_local and {raw}: {results[ours]['mtok_s'] / best:.2f}")
    # What the delay costs by itself: server, proxy and loader may need all cores of a small machine even without it.
    lines.append(f"ours_delay / ours_plain: {results['ours_delay']['mtok_s'] / results['ours_plain']['mtok_s']:.2f}")
    return "\n".join(lines)


# --- the far server ---------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_open(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the S3 server did not start")


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """The URL of a moto server with an empty bucket."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with open(folder / "moto.log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_until_open(port)
            request = urllib.request.Request(f"http://127.0.0.1:{port}/bench", method="PUT")
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextmanager
def proxy(server: str, *, delay_s: float, bytes_s: float | None) -> Iterator[str]:
    """The URL of a proxy before `server`, in a process of its own."""
    port = free_port()
    settings = {"port": port, "server": int(server.rpartition(":")[2]), "delay_s": delay_s, "bytes_s": bytes_s}
    command = [sys.executable, __file__, "--worker", "proxy", json.dumps(settings)]
    with subprocess.Popen(command) as process:
        try:
            wait_until_open(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def run_proxy(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Carry bytes both ways; a piece from the client is a request as long as requests are small and have no body."""
    line = Line(settings["bytes_s"])
    with socket.create_server(("127.0.0.1", settings["port"]), backlog=128) as listener:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", settings["server"]))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            there = lambda size, delay_s=settings["delay_s"]: time.sleep(delay_s)  # noqa: E731
            threading.Thread(target=carry, args=(client, server, there), daemon=True).start()
            threading.Thread(target=carry, args=(server, client, line.wait), daemon=True).start()


class Line:
    """A line that all connections share."""

    def __init__(self, bytes_s: float | None) -> None:
        self._bytes_s = bytes_s
        self._free_at = 0.0
        self._lock = threading.Lock()

    def wait(self, size: int) -> None:
        """Return when `size` bytes are through."""
        if self._bytes_s is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self._bytes_s
            pause_s = self._free_at - time.monotonic()
        time.sleep(max(pause_s, 0.0))


def carry(source: socket.socket, target: socket.socket, wait: Callable[[int], None]) -> None:
    try:
        while data := source.recv(1 << 17):
            wait(len(data))
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


# --- the workers: one loader each -------------------------------------------------------------------------------------


def random_rows(size: int) -> Any:
    import numpy

    return numpy.random.default_rng(0).integers(0, 50_000, (size // (2 * SEQ), SEQ)).astype(numpy.uint16)


def write_shards(out: str, rows: Any) -> None:
    from genai.data.mds import MDSWriter

    with MDSWriter(out, {"tokens": f"ndarray:uint16:{SEQ}"}, size_limit_bytes=SHARD_BYTES) as writer:
        writer.write_rows("tokens", rows)


def make_local(settings: Mapping[str, Any]) -> dict[str, Any]:
    import numpy

    folder, rows = Path(settings["folder"]), random_rows(settings["size"])
    numpy.save(folder / "rows.npy", rows)
    write_shards(str(folder / "mds"), rows)
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return {}
    values = pyarrow.array(rows.ravel())
    tokens = pyarrow.ListArray.from_arrays(numpy.arange(0, rows.size + 1, SEQ, dtype=numpy.int32), values)
    pyarrow.parquet.write_table(pyarrow.table({"tokens": tokens}), folder / "rows.parquet", row_group_size=4096)
    return {}


def make_remote(settings: Mapping[str, Any]) -> dict[str, Any]:
    write_shards("s3://bench/mds", random_rows(settings["size"]))
    return {}


def timed(batches: Iterator[Any], *, seconds: float) -> dict[str, float]:
    """Tokens a second over at least `seconds`, from the first batch on, which is timed by itself."""
    started = time.perf_counter()
    next(batches)
    first = time.perf_counter()
    num_tokens = 0
    for batch in batches:
        num_tokens += batch.size
        if (now := time.perf_counter()) - first > seconds:
            break
    return {"mtok_s": num_tokens / (now - first) / 1e6, "first_s": first - started}


def memmap(settings: Mapping[str, Any]) -> dict[str, float]:
    import numpy

    rows = numpy.load(Path(settings["folder"]) / "rows.npy", mmap_mode="r")

    def batches() -> Iterator[Any]:
        for epoch in range(10**6):
            order = numpy.random.default_rng(epoch).permutation(len(rows))
            for start in range(0, len(rows) - ROWS + 1, ROWS):
                yield rows[order[start : start + ROWS]].astype(numpy.int64)

    return timed(batches(), seconds=settings["seconds"])


def open_ours(url: str, settings: Mapping[str, Any]) -> Any:
    from genai.data.token_streams import StreamSpec, TokenStream

    cache = tempfile.mkdtemp(prefix="cache-", dir=settings["folder"])
    return TokenStream(
        [StreamSpec(name="bench", remote=url)], seq_len=SEQ, global_batch_size=ROWS, seed=1, cache_dir=Path(cache)
    )


def ours_local(settings: Mapping[str, Any]) -> dict[str, float]:
    stream = open_ours(str(Path(settings["folder"]) / "mds"), settings)
    batches = (stream.next_batch().input_ids for _ in itertools.count())
    found = timed(batches, seconds=settings["seconds"])
    stream.close()
    return found


def ours_remote(settings: Mapping[str, Any]) -> dict[str, float]:
    stream = open_ours("s3://bench/mds", settings)

    def epoch() -> Iterator[Any]:
        for _ in range(stream.batches_in_epoch(0)):
            yield stream.next_batch().input_ids

    found = timed_epoch(epoch())
    stream.close()
    return found


def timed_epoch(batches: Iterator[Any], *, most_s: float = float("inf")) -> dict[str, float]:
    """Tokens a second of a whole epoch (or of its first `most_s` seconds), the cold start included."""
    started = time.perf_counter()
    num_tokens = next(batches).size
    first = now = time.perf_counter()
    for batch in batches:
        num_tokens += batch.size
        if (now := time.perf_counter()) - started > most_s:
            break
    return {"mtok_s": num_tokens / (now - started) / 1e6, "first_s": first - started}


def raw_remote(settings: Mapping[str, Any]) -> dict[str, float]:
    """What plain ranged requests get, eight at a time, with nothing done to what comes."""
    from concurrent.futures import ThreadPoolExecutor

    from genai.storage import open_store

    store = open_store("s3://bench/mds")
    infos = [info for info in store.list() if info.key.endswith(".mds")]
    part = 2 << 20
    ranges = [(info.key, start) for info in infos for start in range(0, info.size_bytes, part)]
    started = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda item: len(store.read(item[0], item[1], item[1] + part)), ranges))
    return {"mtok_s": sum(sizes) / 2 / (time.perf_counter() - started) / 1e6, "first_s": 0.0}


def import_streaming(settings: Mapping[str, Any]) -> bool:
    """Make `import streaming` work, with an empty module in place of torchvision; False where it is not installed."""
    import importlib.abc
    import importlib.machinery
    import types

    if not settings["target"]:
        return False

    class Stub(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
            if name.partition(".")[0] == "torchvision":
                return importlib.machinery.ModuleSpec(name, self, is_package=True)
            return None

        def create_module(self, spec: Any) -> Any:
            module: Any = types.ModuleType(spec.name)
            module.__path__ = []
            module.__getattr__ = lambda name: type(name, (), {})
            return module

        def exec_module(self, module: Any) -> None:
            pass

    import transformers  # noqa: F401  (it must find that there is no torchvision)

    sys.path.remove(str(Path(__file__).resolve().parent))  # this file is called streaming as well
    sys.path.append(settings["target"])
    sys.meta_path.append(Stub())
    return True


def streaming_batches(dataset: Any, *, epochs: int) -> Iterator[Any]:
    import numpy

    for _ in range(epochs):
        rows = []
        for sample in dataset:
            rows.append(sample["tokens"])
            if len(rows) == ROWS:
                yield numpy.stack(rows).astype(numpy.int64)
                rows = []


def streaming_local(settings: Mapping[str, Any]) -> dict[str, Any]:
    if not import_streaming(settings):
        return {"skipped": "mosaicml-streaming is not installed (--install-streaming)"}
    from streaming import StreamingDataset

    dataset = StreamingDataset(local=str(Path(settings["folder"]) / "mds"), batch_size=ROWS, shuffle=True)
    return timed(streaming_batches(dataset, epochs=10**6), seconds=settings["seconds"])


def streaming_remote(settings: Mapping[str, Any]) -> dict[str, Any]:
    if not import_streaming(settings):
        return {"skipped": "mosaicml-streaming is not installed (--install-streaming)"}
    from streaming import StreamingDataset

    local = tempfile.mkdtemp(prefix="streaming-", dir=settings["folder"])
    started = time.perf_counter()
    dataset = StreamingDataset(remote="s3://bench/mds", local=local, batch_size=ROWS, shuffle=True)
    opened = time.perf_counter()
    found = timed_epoch(streaming_batches(dataset, epochs=1), most_s=4 * settings["seconds"])
    return {**found, "first_s": found["first_s"] + opened - started}


def hf_local(settings: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(settings["folder"]) / "rows.parquet"
    try:
        import datasets
    except ImportError:
        return {"skipped": "datasets is not installed"}
    import numpy

    files = {"train": str(path)}
    rows = datasets.load_dataset("parquet", data_files=files, streaming=True, split="train").with_format("numpy")

    def batches() -> Iterator[Any]:
        for epoch in range(10**6):
            for batch in rows.shuffle(seed=epoch, buffer_size=10_000).iter(batch_size=ROWS):
                yield numpy.stack(batch["tokens"]).astype(numpy.int64)

    return timed(batches(), seconds=settings["seconds"])


WORKERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "proxy": run_proxy,
    "make_local": make_local,
    "make_remote": make_remote,
    "memmap": memmap,
    "ours_local": ours_local,
    "streaming_local": streaming_local,
    "hf_local": hf_local,
    "raw_line": raw_remote,
    "ours_line": ours_remote,
    "streaming_line": streaming_remote,
    "raw_plain": raw_remote,
    "ours_plain": ours_remote,
    "ours_delay": ours_remote,
    "streaming_delay": streaming_remote,
}

if __name__ == "__main__":
    main()
