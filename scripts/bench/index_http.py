"""An index over HTTP: what a question costs through the server, beside the search alone.

    python scripts/bench/index_http.py                     100,000 points of 384 numbers (two minutes on two cores)
    python scripts/bench/index_http.py --quick --json      10,000 points, one JSON object, under a minute

The index is that of scripts/bench/index.py (its mixture, qdrant_edge, texts of four sentences, no model). A server
process of one worker has it open: real HTTP on a loopback, keys, metrics and access log on, one connection, one request
after the other. CPU time is the server's own; p50 is what the client waits. All kinds of questions take turns for
`--rounds` rounds, and the table shows medians. Beside them:

- search alone: the same vectors asked of `genai.index.search.Index` in a process of its own.
- embeddings: 256 vectors of 1,536 numbers from an encoder that has them ready, as numbers and as base64.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turns.machine import environment
from turns.rounds import take_turns
from turns.workers import ONE_THREAD, run_worker

PACKAGES = ("qdrant-edge-py", "msgspec", "uvicorn", "uvloop", "httptools", "numpy")
REPOSITORY = Path(__file__).resolve().parents[2]
SIZES: dict[str, dict[str, Any]] = {
    "full": {"num_points": 100_000, "num_queries": 1000, "pool": 20_000},
    "quick": {"num_points": 10_000, "num_queries": 300, "pool": 2000},
}
ALONE = "search alone"
OVER_HTTP = ("vector", "vector, base64", "vector, 10 % pass", "words", "embeddings", "embeddings, base64")
GOAL_P50_MS, GOAL_CPU_MS = 1.5, 1.0
"""Of a vector as base64 or numbers, at full size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 points, fewer queries")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker[0], json.loads(options.worker[1]))
        return
    size = "quick" if options.quick else "full"
    with tempfile.TemporaryDirectory(prefix="bench-index-http-") as folder:
        settings = {**SIZES[size], "filters": True, "folder": folder, "data": str(Path(folder) / "mixture")}
        report = {"benchmark": "index_http", "size": size, **SIZES[size], **environment(PACKAGES)}
        report["asked"] = measure(settings, options.rounds)
    print(json.dumps(report) if options.json else table(report))


def measure(settings: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    run("make", settings)
    with serving(settings) as server:

        def ask(kind: str) -> dict[str, Any]:
            if kind == ALONE:
                return run("alone", settings)
            before = server.cpu_s()
            answered = run("ask", {**settings, "port": server.port, "kind": kind})
            cpu_ms = (server.cpu_s() - before) * 1e3 / answered.pop("num_requests")
            return {**answered, "cpu_ms": cpu_ms}

        return take_turns((ALONE, *OVER_HTTP), rounds, ask)


def run(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    print(f"{name} {settings.get('kind', '')}", file=sys.stderr, flush=True)
    return run_worker(__file__, [name, json.dumps(dict(settings))], environment=variables())


def variables() -> dict[str, str]:
    return {**ONE_THREAD, "RAYON_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)}


class Server:
    """The server's process: says its port, then its CPU seconds whenever it is sent a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._line())

    def cpu_s(self) -> float:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the server ended")
        return line


@contextmanager
def serving(settings: Mapping[str, Any]) -> Iterator[Server]:
    command = [sys.executable, __file__, "--worker", "serve", json.dumps(dict(settings))]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **variables()})
    try:
        yield Server(process)
    finally:
        process.kill()
        process.wait()


def table(report: Mapping[str, Any]) -> str:
    lines = [f"{report['cpu']}, {report['num_points']} points; {report['versions']}", ""]
    lines += ["| asked | p50 ms | p95 ms | CPU ms | recall@10 |", "|---|---|---|---|---|"]
    for kind, found in report["asked"].items():
        recall = f"{found['recall']:.4f}" if "recall" in found else ""
        times = " | ".join(f"{found[name]:.2f}" for name in ("p50_ms", "p95_ms", "cpu_ms"))
        lines.append(f"| {kind} | {times} | {recall} |")
    if report["size"] == "full":
        found = report["asked"]["vector, base64"]
        goals = f"goals {GOAL_P50_MS} and {GOAL_CPU_MS} ms"
        lines += ["", f"a vector over HTTP: p50 {found['p50_ms']:.2f} ms, CPU {found['cpu_ms']:.2f} ms ({goals})"]
    return "\n".join(lines)


# --- the workers ------------------------------------------------------------------------------------------------------


def work(name: str, settings: Mapping[str, Any]) -> None:
    from vectors import over_http

    if name == "serve":
        over_http.serve(settings)
        return
    steps = {"make": over_http.make, "alone": over_http.alone, "ask": over_http.ask}
    print(json.dumps(steps[name](settings)))


if __name__ == "__main__":
    main()
