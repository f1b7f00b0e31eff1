"""A vector index: building and searching it beside other engines, and what it costs to keep it in step with a table.

    python scripts/bench/index.py --install-peers          the full tables (an hour on two cores)
    python scripts/bench/index.py --quick --json           smaller sizes, one round, one JSON object, under a minute
    python scripts/bench/index.py --large --install-peers  one million points, this engine and faiss only

Everything runs in processes of their own with one thread. Engines are built once, in turn; then they are searched in
turn for `--rounds` rounds, query by query, and the tables show medians: CPU time (over all threads of the process),
which a busy machine disturbs less than wall time, and the median wall time of a query. Memory is the peak of the
process's resident set, data read for the build included.

- mixture: 100,000 points of 384 numbers around 1,000 centres. A centre is normal with variance 1/384 in each
  dimension; a point is a centre drawn at random plus normal noise of a quarter of that variance, scaled to length 1
  (numpy's default_rng(20)). 1,000 further points are the queries. Recall is that of the true 10 nearest by dot product.
- text: what all-MiniLM-L6-v2 makes of the answers of the construction FAQ and of sentences from the docstrings of the
  packages that are installed here, as many as are embedded in `--embed-s` CPU-seconds (kept in .cache/bench). Queries
  are the FAQ's questions and sentences that are left out.
- filters leave 50, 10, 1 and 0.1 % of the points: drawn at random (independent), or the points that lie furthest in one
  direction (correlated), which are far from most queries.
- index: the whole of genai's search over the mixture: ledger, filter, fusion, texts of the results. Each chunk is given
  four sentences of docstrings for BM25, a query six words of a chunk.
- sync: a Delta table of 10,000 documents of three sentences, embedded by all-MiniLM-L6-v2. One in a hundred is changed;
  then nothing is; then it is followed.

The other engines are faiss, hnswlib, usearch and lancedb, which has threads of its own and hangs with a single one.
`--install-peers` puts them into a folder that is removed afterwards, `--peers-target` names one where they are already;
one that is missing is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from turns.clock import cpu_s, peak_rss_mib
from turns.machine import environment
from turns.rounds import medians, take_turns
from turns.workers import ONE_THREAD, run_worker

PACKAGES = ("qdrant-edge-py", "deltalake", "numpy", "torch")
INSTALLED = ("faiss-cpu", "hnswlib", "usearch", "numkong", "lancedb", "lance-namespace", "deprecation", "overrides")
OURS = ("qdrant_edge", "exact")
PEERS = ("faiss HNSW", "hnswlib", "usearch f16", "lancedb")
REPOSITORY = Path(__file__).resolve().parents[2]
SIZES: dict[str, dict[str, Any]] = {
    "full": {
        "num_points": 100_000,
        "num_queries": 1000,
        "embed_s": 600,
        "num_documents": 10_000,
        "pool": 20_000,
        "commits": 9,
    },
    "quick": {"num_points": 10_000, "num_queries": 100, "embed_s": 2, "num_documents": 150, "pool": 2000, "commits": 3},
    "large": {"num_points": 1_000_000, "num_queries": 1000, "efforts": (128, 256, 512, 1024)},
}
ENGINES = {"full": (*OURS, *PEERS), "quick": (*OURS, PEERS[0]), "large": (OURS[0], PEERS[0])}
GRAPHS = (OURS[0], *PEERS[:3])
"""Engines whose effort is the number of candidates in a graph."""
TEXT_EFFORTS = (64, 128, 256, 512)
"""Real text wants more candidates than a mixture."""
PARTS = ("mixture", "text", "index", "sync")
GOALS = {"full": 1.0, "large": 2.5}
"""Milliseconds a query at recall 0.99."""


# --- the parent: makes the data, takes turns, prints ------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 points, 150 documents, one round, fewer engines")
    parser.add_argument("--large", action="store_true", help="1,000,000 points, genai's default engine and faiss")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--engines", nargs="+", choices=(*OURS, *PEERS), help="which engines to compare")
    parser.add_argument("--embed-s", type=float, help="CPU-seconds for embedding the text data set, once")
    parser.add_argument("--install-peers", action="store_true", help="install the other engines for this run")
    parser.add_argument("--peers-target", type=Path, help="folder where the other engines are installed")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, settings = options.worker
        print(json.dumps(work(name, json.loads(settings))))
        return
    size = "quick" if options.quick else "large" if options.large else "full"
    if options.quick:
        options.rounds = 1
    if options.large:
        options.parts = ["mixture"]
    with tempfile.TemporaryDirectory(prefix="bench-index-") as folder:
        report = measure(options, size, Path(folder))
    print(json.dumps(report) if options.json else table(report))


def measure(options: argparse.Namespace, size: str, folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {
        **SIZES[size],
        "filters": "index" in options.parts,
        "folder": str(folder),
        "rounds": options.rounds,
    }
    if options.embed_s is not None:
        settings["embed_s"] = options.embed_s
    target = install_peers(folder / "peers") if options.install_peers else options.peers_target
    settings["peers"] = str(target) if target else None
    report: dict[str, Any] = {"benchmark": "index", "size": size, **SIZES[size], **environment(PACKAGES)}
    engines = tuple(options.engines or ENGINES[size])
    if {"index", "sync"} & set(options.parts):
        run("make_pool", settings)
    for dataset in ("mixture", "text"):
        if dataset in options.parts:
            report[dataset] = measure_engines(dataset, engines, settings)
    if "index" in options.parts:
        report["index"] = measure_index(settings)
    if "sync" in options.parts:
        report["sync"] = measure_sync(settings)
    return report


def measure_engines(dataset: str, engines: tuple[str, ...], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Build each engine once, and search them in turn."""
    here = {**settings, "data": str(Path(settings["folder"]) / dataset)}
    if dataset == "text":
        here["efforts"] = TEXT_EFFORTS
    data = run(f"make_{dataset}", here)
    built = take_turns(engines, 1, lambda name: run("build", {**here, "engine": name}))
    there = tuple(name for name in engines if "skipped" not in built[name])
    searched = take_turns(there, settings["rounds"], lambda name: run("search", {**here, "engine": name}))
    return {"data": data, "built": built, "searched": searched}


def measure_index(settings: Mapping[str, Any]) -> dict[str, Any]:
    data = Path(settings["folder"]) / "mixture"
    here = {**settings, "data": str(data)}
    if not data.exists():
        run("make_mixture", here)
    built = run("build_index", here)
    return {"built": built, **take_turns(("search_index",), settings["rounds"], lambda name: run(name, here))}


def measure_sync(settings: Mapping[str, Any]) -> dict[str, float]:
    run("make_table", settings)
    first = run("sync_once", settings)
    later = []
    for change in range(settings["rounds"]):
        run("change_table", {**settings, "change": change + 1})
        later.append(run("sync_once", settings))
    second = medians(later)
    unchanged = run("sync_unchanged", settings)
    return {
        "first_cpu_s": first["cpu_s"],
        "one_percent_changed_cpu_s": second["cpu_s"],
        "share_of_the_first": second["cpu_s"] / first["cpu_s"],
        "nothing_changed_cpu_s": unchanged["cpu_s"],
        "nothing_changed_loads_torch": unchanged["loads_torch"],
        **{f"following_{name}": value for name, value in run("follow", settings).items()},
        "embedding_one_document_s": second["embed_one_s"],
    }


def run(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    print(f"{name} {settings.get('engine', '')}", file=sys.stderr, flush=True)
    paths = [str(REPOSITORY), *([settings["peers"]] if settings.get("peers") else [])]
    variables = {**ONE_THREAD, "RAYON_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)}
    return run_worker(__file__, [name, json.dumps(dict(settings))], environment=variables)


def install_peers(folder: Path) -> Path:
    for package in INSTALLED:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--no-deps",
            "--target",
            str(folder),
        ]
        done = subprocess.run([*command, package], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{package} is left out: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    return folder


def table(report: Mapping[str, Any]) -> str:
    lines = [f"{report['cpu']}, one thread; {report['versions']}"]
    for dataset in ("mixture", "text"):
        if dataset in report:
            lines += ["", *engine_table(dataset, report[dataset], goal=GOALS.get(report["size"]))]
    if "index" in report:
        lines += ["", *index_table(report["index"])]
    if "sync" in report:
        lines += ["", "| sync | |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {round(value, 3)} |" for name, value in report["sync"].items()]
    return "\n".join(lines)


def engine_table(dataset: str, found: Mapping[str, Any], *, goal: float | None) -> list[str]:
    lines = [
        f"{dataset}: {found['data']['num_points']} points, {found['data']['num_queries']} queries",
        "",
        "| engine | build CPU-s | MB on disk | MiB building, searching | effort: recall@10, p50 ms, CPU ms a query |",
        "|---|---|---|---|---|",
    ]
    for name, built in found["built"].items():
        if "skipped" in built:
            lines.append(f"| {name} | {built['skipped']} | | | |")
            continue
        searched = found["searched"][name]
        efforts = sorted({int(key.partition(" ")[0]) for key in searched if key[0].isdigit()})
        cells = "; ".join(
            f"{each}: {searched[f'{each} recall']:.4f}, {searched[f'{each} p50_ms']:.2f}, "
            f"{searched[f'{each} cpu_ms']:.2f}"
            for each in efforts
        )
        memory = f"{built['peak_rss_mib']:.0f}, {searched['peak_rss_mib']:.0f}"
        lines.append(f"| {name} | {built['cpu_s']:.1f} | {built['disk_bytes'] / 1e6:.0f} | {memory} | {cells} |")
    if goal is not None and OURS[0] in found["searched"]:
        searched = found["searched"][OURS[0]]
        efforts = [key.removesuffix(" recall") for key in searched if key.endswith(" recall")]
        reached = [searched[f"{each} p50_ms"] for each in efforts if searched[f"{each} recall"] >= 0.99]
        fastest = f"{min(reached):.2f} ms" if reached else "not reached"
        lines += ["", f"{OURS[0]}, p50 at recall 0.99: {fastest} (goal {goal} ms)"]
    return lines


def index_table(found: Mapping[str, Any]) -> list[str]:
    built, searched = found["built"], found["search_index"]
    kinds = [key.removesuffix(" p50_ms") for key in searched if key.endswith(" p50_ms")]
    size = f"{built['disk_bytes'] / 1e6:.0f} MB on disk"
    lines = [
        f"index: {built['cpu_s']:.1f} CPU-s to build without embedding, {size}, {searched['peak_rss_mib']:.0f} MiB",
        "",
        "| query | p50 ms | CPU ms | recall@10 |",
        "|---|---|---|---|",
    ]
    for kind in kinds:
        recall = searched.get(f"{kind} recall")
        shown = "" if recall is None else f"{recall:.4f}"
        lines.append(f"| {kind} | {searched[f'{kind} p50_ms']:.2f} | {searched[f'{kind} cpu_ms']:.2f} | {shown} |")
    return lines


# --- the workers ------------------------------------------------------------------------------------------------------


def work(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    from vectors import data, ours, syncing

    workers: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
        "make_mixture": data.make_mixture,
        "make_text": data.make_text,
        "build": build,
        "search": search,
        "build_index": lambda settings: costs(lambda: ours.build_index(settings), Path(settings["folder"]) / "index"),
        "search_index": lambda settings: {**ours.search_index(settings), "peak_rss_mib": peak_rss_mib()},
        **{function.__name__: function for function in (data.make_pool, *syncing.STEPS)},
    }
    return workers[name](settings)


def build(settings: Mapping[str, Any]) -> dict[str, Any]:
    import numpy
    from vectors.ours import build_engine
    from vectors.peers import PEERS as peers

    name, folder = settings["engine"], engine_folder(settings)
    peer = peers.get(name)
    if peer and (fault := peer.fault()):
        return {"skipped": fault}
    folder.mkdir(parents=True)
    base = numpy.load(Path(settings["data"]) / "base.npy", mmap_mode="r")
    make = peer.build if peer else lambda base, folder: build_engine(name, base, folder)
    return costs(lambda: make(base, folder), folder)


def costs(make: Callable[[], Any], folder: Path) -> dict[str, float]:
    """What making a folder takes."""
    started, cpu_started = time.perf_counter(), cpu_s()
    make()
    return {
        "cpu_s": cpu_s() - cpu_started,
        "wall_s": time.perf_counter() - started,
        "disk_bytes": sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()),
        "peak_rss_mib": peak_rss_mib(),
    }


def search(settings: Mapping[str, Any]) -> dict[str, Any]:
    import numpy
    from vectors.data import recall
    from vectors.ours import EFFORTS, open_engine_search
    from vectors.peers import PEERS as peers
    from vectors.timing import each_query

    name, folder, data = settings["engine"], engine_folder(settings), Path(settings["data"])
    queries, truth = numpy.load(data / "queries.npy"), numpy.load(data / "truth.npz")["all"]
    peer = peers.get(name)
    found: dict[str, float] = {}
    ask = peer.open(folder) if peer else None
    known = peer.efforts if peer else EFFORTS[name]
    for effort in settings.get("efforts", known) if name in GRAPHS else known:
        asked = ask or open_engine_search(name, folder, effort)
        rows, took = each_query(lambda query, effort=effort, asked=asked: asked(query, effort), queries)
        found |= {f"{effort} recall": recall(rows, truth), **{f"{effort} {key}": took[key] for key in took}}
    return {**found, "peak_rss_mib": peak_rss_mib()}


def engine_folder(settings: Mapping[str, Any]) -> Path:
    return Path(settings["data"]) / "engines" / settings["engine"].replace(" ", "-")


if __name__ == "__main__":
    main()
