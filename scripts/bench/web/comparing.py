"""The comparison of scripts/bench/http.py."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from turns.machine import environment
from turns.rounds import take_turns

from web.asking import EVENTS, ask, chat, completion, cpu_s

FOLDER = Path(__file__).resolve().parents[1]
PACKAGES = ("uvicorn", "uvloop", "httptools", "msgspec", "fastapi", "pydantic", "prometheus_client", "tokenizers")
GOALS = {"request": 100.0, "event": 25.0}
"""CPU microseconds of ours."""
VARIANTS = ("bare", "ours", "chat", "link", "fastapi")
SIZES = {"full": {"requests": 4000, "streams": 200}, "quick": {"requests": 250, "streams": 12}}


def main(text: str | None) -> None:
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer requests, three rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    size = "quick" if options.quick else "full"
    rounds = options.rounds or (3 if options.quick else 7)
    report: dict[str, Any] = {
        "benchmark": "http",
        "size": size,
        "rounds": rounds,
        "connections": options.connections,
        **environment(PACKAGES),
    }
    with tempfile.TemporaryDirectory(prefix="bench-http-") as scratch, ExitStack() as stack:
        servers = start_all(stack, Path(scratch), tokenizer_folder())
        names = [name for name in VARIANTS if name in servers]
        results = take_turns(
            names, rounds, lambda name: measure(servers[name], name, options.connections, **SIZES[size])
        )
    report["results"] = results
    report["goals_met"] = {kind: results["ours"][f"{kind}_cpu_us"] <= most for kind, most in GOALS.items()}
    print(json.dumps(report) if options.json else table(report))


def tokenizer_folder() -> str:
    from genai.models.references import resolve_model

    return str(resolve_model("gallery:smollm2-135m-instruct").path)


# --- servers ----------------------------------------------------------------------------------------------------------


def start_all(stack: ExitStack, scratch: Path, folder: str) -> dict[str, list[tuple[int, int]]]:
    """Port and process of every server, by the variants that ask it; what follows the first is the engine's."""
    places = {name: scratch / name for name in ("bare", "ours", "link", "fastapi")}
    for place in places.values():
        place.mkdir()
    bare = stack.enter_context(server("bare", folder, places["bare"]))
    ours = stack.enter_context(server("ours", folder, places["ours"]))
    engine = stack.enter_context(server("engine", folder, places["link"]))
    link = stack.enter_context(server("link", folder, places["link"]))
    fastapi = stack.enter_context(server("fastapi", folder, places["fastapi"]))
    return {"bare": [bare], "ours": [ours], "chat": [ours], "link": [link, engine], "fastapi": [fastapi]}


@contextmanager
def server(name: str, folder: str, scratch: Path) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "web.servers", name, folder, str(scratch)]
    paths = os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])])
    environ = {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "TOKENIZERS_PARALLELISM": "false"}
    if name in ("ours", "link"):
        environ["PROMETHEUS_MULTIPROC_DIR"] = str(scratch)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.terminate()
        process.communicate()


# --- measuring --------------------------------------------------------------------------------------------------------


def measure(
    processes: list[tuple[int, int]], name: str, connections: int, *, requests: int, streams: int
) -> dict[str, Any]:
    """CPU of a request and of an event, of the server and, where it is another process, of the engine."""
    path = "/v1/chat/completions" if name == "chat" else "/v1/completions"
    made = chat if name == "chat" else completion
    found: dict[str, Any] = {}
    for kind, times, per in (("request", requests, 1), ("event", streams, EVENTS)):
        body = made(stream=kind == "event")
        port = processes[0][0]
        asyncio.run(ask(port, path, body, connections=connections, times=max(2, times // 20)))
        before = [cpu_s(pid) for _, pid in processes]
        seconds = asyncio.run(ask(port, path, body, connections=connections, times=times))
        spent = [cpu_s(pid) - start for (_, pid), start in zip(processes, before, strict=True)]
        number = connections * times * per
        found[f"{kind}_cpu_us"] = spent[0] / number * 1e6
        found[f"{kind}s_per_s"] = number / seconds
        if len(spent) > 1:
            found[f"{kind}_engine_cpu_us"] = spent[1] / number * 1e6
    return found


def table(report: dict[str, Any]) -> str:
    rows = [
        "| server | CPU us a request | CPU us a streamed event | requests/s | events/s |",
        "|---|---|---|---|---|",
    ]
    for name, found in report["results"].items():
        cells = [f"{found['request_cpu_us']:.0f}", f"{found['event_cpu_us']:.1f}"]
        if "request_engine_cpu_us" in found:
            engine = found["request_engine_cpu_us"], found["event_engine_cpu_us"]
            cells = [f"{cell} (+ {more:.0f} of the engine)" for cell, more in zip(cells, engine, strict=True)]
        cells += [f"{found['requests_per_s']:,.0f}", f"{found['events_per_s']:,.0f}"]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    told = ", ".join(
        f"{kind} <= {GOALS[kind]:g}: {'met' if met else 'missed'}" for kind, met in report["goals_met"].items()
    )
    return "\n".join([*rows, "", f"goals of ours, CPU us: {told}"])
