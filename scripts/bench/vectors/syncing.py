"""What it costs to keep an index in step with a Delta table, by the command that a user gives."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from turns.clock import cpu_s
from turns.processes import run_python

from vectors.data import MODEL, SEED, pool

_SENTENCES = 3
_CHANGED = 100
"""One document in so many."""
_UNCHANGED = 3
"""How often a sync without a change is run."""
_NEW_TEXT = "The word {word} stands in no other document of this table, which is why a search for it tells them apart."
_TORCH = 99
_TELLS_TORCH = f"""
import sys
from genai_cli.main import main
sys.exit(main(sys.argv[1:]) or ("torch" in sys.modules) * {_TORCH})
"""
_WAIT_S = 120.0


def make_table(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The table's first version, and the job file."""
    folder = sync_folder(settings)
    folder.mkdir(parents=True)
    parts, chosen = pool(settings["pool"]), random.Random(SEED)
    texts = [" ".join(chosen.choices(parts, k=_SENTENCES)) for _ in range(settings["num_documents"])]
    write(folder, list(range(len(texts))), texts, mode="overwrite")
    job = {
        "name": "bench",
        "indexes_dir": str(folder / "indexes"),
        "runs_dir": str(folder / "runs"),
        "source": {"table": f"delta:{folder / 'table'}", "primary_key": "id", "text": "text", "metadata": ["topic"]},
        "embedding": {"model": MODEL},
        "num_threads": 1,
    }
    job_file(settings).write_text(json.dumps(job))  # JSON is YAML
    return {"num_documents": len(texts)}


def change_table(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A new text for one document in a hundred."""
    number = settings["change"]
    parts, chosen = pool(settings["pool"]), random.Random(SEED + number)
    rows = range(0, settings["num_documents"], _CHANGED)
    texts = [f"Change {number} of {row}. " + " ".join(chosen.choices(parts, k=_SENTENCES)) for row in rows]
    merge(sync_folder(settings), list(rows), texts)
    return {"num_changed": len(texts)}


def sync_once(settings: Mapping[str, Any]) -> dict[str, Any]:
    """CPU-seconds of `genai index`, what it imports and the loading of the model apart."""
    import deltalake  # noqa: F401
    import qdrant_edge  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    from genai.config.embedding import EmbeddingConfig
    from genai.embedding.opening import open_encoder

    encoder = open_encoder(EmbeddingConfig(model=MODEL), num_threads=1)
    encoder.embed_documents([_NEW_TEXT])
    began = time.perf_counter()
    encoder.embed_documents([_NEW_TEXT])
    started, cpu_started = time.perf_counter(), cpu_s()
    command(settings)
    return {
        "cpu_s": cpu_s() - cpu_started,
        "wall_s": time.perf_counter() - started,
        "embed_one_s": started - began,
    }


def sync_unchanged(settings: Mapping[str, Any]) -> dict[str, Any]:
    """CPU-seconds of a whole process that finds nothing to do, the start of Python included."""
    arguments = ["-c", _TELLS_TORCH, "index", str(job_file(settings))]
    done = [run_python(arguments, cwd=sync_folder(settings)) for _ in range(_UNCHANGED)]
    codes = {each["exit_code"] for each in done}
    if not codes <= {0, _TORCH}:
        raise SystemExit(done[0]["stderr"])
    return {"cpu_s": statistics.median(each["cpu_s"] for each in done), "loads_torch": float(_TORCH in codes)}


def follow(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds from a commit until the new text is found, while `genai index` follows the table, and CPU-seconds of the
    process that follows, a commit.
    """
    waits, cpu = [], []
    with following(settings) as process, open_index(settings) as index:
        for number in range(settings["commits"] + 1):
            word = f"mark{number}x"
            merge(sync_folder(settings), [number], [_NEW_TEXT.format(word=word)])
            cpu.append(process_cpu_s(process))
            waits.append(until_found(index, word, process))
        cpu.append(process_cpu_s(process))
    # The first one waits for the process to start and load its model.
    return {
        "searchable_s": statistics.median(waits[1:]),
        "worst_s": max(waits[1:]),
        "cpu_s": (cpu[-1] - cpu[1]) / settings["commits"],
    }


def process_cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Of a process and of the children that it waited for.

    Source: proc_pid_stat(5), fields 14 to 17.
    """
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def until_found(index: Any, word: str, process: subprocess.Popen[bytes]) -> float:
    started = time.perf_counter()
    while time.perf_counter() - started < _WAIT_S and process.poll() is None:
        results = index.search([word], k=1, mode="bm25")[0]
        if results and word in results[0].text:
            return time.perf_counter() - started
        time.sleep(0.01)
    raise SystemExit(
        f"{word} was not found within {_WAIT_S:g} s of its commit, or genai index ended ({process.poll()})"
    )


@contextmanager
def following(settings: Mapping[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [sys.executable, "-m", "genai_cli.main", "index", str(job_file(settings)), "sync.mode=continuous"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def open_index(settings: Mapping[str, Any]) -> Iterator[Any]:
    """The index, as who searches opens it."""
    from genai.config.index import IndexConfig
    from genai.config.loading import load
    from genai.index.engines import open_engine
    from genai.index.search import Index

    config = load(job_file(settings), IndexConfig).config
    folder = sync_folder(settings) / "indexes" / "bench"
    engine = open_engine(config.engine, folder / "engine", index="bench")
    index = Index.open(folder, config, encoder_of=no_encoder, engine=engine, reranker=None)
    try:
        yield index
    finally:
        index.close()


def no_encoder(config: Any) -> Any:
    raise AssertionError("a search by words embeds nothing")


def command(settings: Mapping[str, Any]) -> None:
    """`genai index JOB` in this process."""
    from genai_cli.main import main

    with redirect_stdout(sys.stderr):
        exit_code = main(["index", str(job_file(settings))])
    if exit_code:
        raise SystemExit(f"genai index ended with {exit_code}")


def write(folder: Path, ids: list[int], texts: list[str], *, mode: str) -> None:
    from deltalake import write_deltalake

    configuration = {"delta.enableChangeDataFeed": "true"}
    write_deltalake(folder / "table", rows(ids, texts), mode=mode, configuration=configuration)


def merge(folder: Path, ids: list[int], texts: list[str]) -> None:
    from deltalake import DeltaTable

    table = DeltaTable(folder / "table")
    merged = table.merge(rows(ids, texts), "old.id = new.id", source_alias="new", target_alias="old")
    merged.when_matched_update_all().when_not_matched_insert_all().execute()


def rows(ids: list[int], texts: list[str]) -> Any:
    import pyarrow

    topics = [("floors", "walls", "roofs")[number % 3] for number in ids]
    return pyarrow.table({"id": ids, "text": texts, "topic": topics})


def sync_folder(settings: Mapping[str, Any]) -> Path:
    return Path(settings["folder"]) / "sync"


def job_file(settings: Mapping[str, Any]) -> Path:
    return sync_folder(settings) / "bench.yaml"


STEPS = (make_table, change_table, sync_once, sync_unchanged, follow)
