"""`genai serve` under mixed load for half an hour: does it keep its memory, its slots, and its head?

    python scripts/soak.py                    30 minutes (the target: make soak)
    python scripts/soak.py --minutes 2        a short one; below ten minutes the memory is told but not judged

A real server (SmolLM2 with an adapter, encoder, index, keys, two workers) is asked by clients of all sorts
(scripts/soaking/load.py); meanwhile an operator replaces an adapter and reloads the job file. Exit code 1, when

- memory (PSS of all processes) rises by 5 % or more of its level over the last 20 minutes, after 5 of warming up;
- a slot is left behind: nobody asks any more, and something still runs, waits, holds blocks or connections;
- an answer is not the one that has to come, a process fell, or there is a traceback in the log.

The table goes to stderr, one JSON object to stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent))

from soaking.load import Load, kinds
from soaking.memory import Growth, Sample, growth, sample
from soaking.server import Server, serving

WARM_UP_S, WINDOW_S = 300.0, 1200.0
MAX_GROWTH = 0.05
JUDGED_FROM_MINUTES = 10
SAMPLE_EVERY_S, OPERATE_EVERY_S, TELL_EVERY_S = 5.0, 15.0, 60.0
SETTLE_S = 60.0
"""What is left of the load may take so long to be over."""


def main() -> int:
    """Run it; 1 when something was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="of load (30)")
    parser.add_argument("--clients", type=int, default=24, help="that ask at the same time (24)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, serving(Path(folder)) as server:
        report = asyncio.run(soak(server, options.minutes, options.clients, options.seed))
        report["exit_code"] = server.stop()
        report["tracebacks"] = server.said.count("Traceback (most recent call last)")
        report["missed"] = missed(report, judges_memory=options.minutes >= JUDGED_FROM_MINUTES)
        if report["missed"]:
            print(server.said[-5000:], file=sys.stderr)
    print(table(report), file=sys.stderr)
    print(json.dumps(report))
    return 1 if report["missed"] else 0


async def soak(server: Server, minutes: float, num_clients: int, seed: int) -> dict[str, Any]:
    """Ask and watch for so long, then see what is left."""
    load = Load(server.url, num_clients=num_clients, seed=seed)
    watched = Watched(server, load)
    asking = asyncio.create_task(load.run())
    others = [asyncio.create_task(watched.sample_on()), asyncio.create_task(watched.operate_on())]
    await asyncio.wait({asking, *others}, timeout=minutes * 60, return_when=asyncio.FIRST_EXCEPTION)
    load.end()
    await asking
    for task in others:
        task.cancel()
    for ended in await asyncio.gather(*others, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
    left = await asyncio.to_thread(settle, server)
    grown = growth(watched.samples, warm_up_s=min(WARM_UP_S, minutes * 20), window_s=WINDOW_S)
    return {
        "soak": "serve",
        "minutes": minutes,
        "clients": num_clients,
        "answered": dict(load.answered),
        "not_now": dict(load.refused),
        "num_surprises": load.num_surprises,
        "surprises": load.surprises,
        "operated": watched.num_operated,
        "left": left,
        "memory": None if grown is None else asdict(grown),
        "samples": [(round(one.time_s), round(one.total / 2**20), one.num_descriptors) for one in watched.samples],
        "engine": server.status()["engine"]["models"][0]["stats"],
    }


class Watched:
    """What happens beside the questions."""

    def __init__(self, server: Server, load: Load) -> None:
        self.samples: list[Sample] = []
        self.num_operated = 0
        self._server = server
        self._load = load
        self._began = time.monotonic()

    async def sample_on(self) -> None:
        """Look at the memory now and then, and say how it goes."""
        told = 0.0
        while True:
            await asyncio.sleep(SAMPLE_EVERY_S)
            now = time.monotonic() - self._began
            self.samples.append(await asyncio.to_thread(self._look, now))
            if now - told >= TELL_EVERY_S:
                told = now
                mib = self.samples[-1].total / 2**20
                num = self._load.answered.total()
                print(f"{now / 60:5.1f} min  {num:6d} answers  {mib:6.0f} MiB", file=sys.stderr, flush=True)

    def _look(self, now: float) -> Sample:
        return sample(self._server.processes(), now)

    async def operate_on(self) -> None:
        """Replace an adapter under load, add and remove one, and take over the same job file again."""
        orders: list[tuple[str, dict[str, Any]]] = [
            ("adapters", {"model": "chat", "name": "lora", "reference": "./other"}),
            ("adapters", {"model": "chat", "name": "more", "reference": "./lora"}),
            ("adapters", {"model": "chat", "name": "lora", "reference": "./lora"}),
            ("adapters/remove", {"model": "chat", "name": "more"}),
            ("reload", {}),
        ]
        while True:
            path, body = orders[self.num_operated % len(orders)]
            await asyncio.sleep(OPERATE_EVERY_S)
            await asyncio.to_thread(self._server.order, path, body)
            self.num_operated += 1


def settle(server: Server) -> dict[str, int]:
    """What is still held when nobody asks any more; waits a while for it to be nothing."""
    deadline = time.monotonic() + SETTLE_S
    while any((left := held(server)).values()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return {**left, "restarts": restarts(server)}


def held(server: Server) -> dict[str, int]:
    """Everything that a request holds, by what it is; all are 0 when nobody asks."""
    models = server.status()["engine"]["models"]
    return {
        "open": sum(model["num_open"] for model in models),
        "running": sum(model["stats"]["running"] for model in models),
        "waiting": sum(model["stats"]["waiting"] for model in models),
        "blocks": sum(
            round(model["stats"].get("kv_usage", 0) * model["stats"].get("kv_blocks", 0)) for model in models
        ),
        "connections": connections(server),
    }


def connections(server: Server) -> int:
    """That clients have to the port."""
    port, num = int(server.url.rpartition(":")[2]), 0
    for process in server.processes().values():
        with contextlib.suppress(psutil.Error):
            found = process.net_connections("tcp")
            num += sum(one.laddr.port == port and one.status != psutil.CONN_LISTEN for one in found)
    return num


def restarts(server: Server) -> int:
    """Processes that fell."""
    status = server.status()
    return int(status["engine"]["num_restarts"]) + sum(worker["num_restarts"] for worker in status["workers"])


def missed(report: Mapping[str, Any], *, judges_memory: bool) -> list[str]:
    """What is not as it has to be."""
    left = [f"{count} {name} left" for name, count in report["left"].items() if count]
    found = left + [f"{report[name]} {name}" for name in ("num_surprises", "tracebacks", "exit_code") if report[name]]
    never = [kind for kind in kinds() if not report["answered"].get(kind)]
    found += [f"never answered: {', '.join(never)}"] if never else []
    if judges_memory and (report["memory"] is None or report["memory"]["share"] >= MAX_GROWTH):
        found.append("memory grows")
    return found


def table(report: Mapping[str, Any]) -> str:
    """For people."""
    lines = ["| asked | answered | not now |", "|---|---|---|"]
    lines += [f"| {kind} | {report['answered'].get(kind, 0)} | {report['not_now'].get(kind, 0)} |" for kind in kinds()]
    if report["memory"] is not None:
        grown = Growth(**report["memory"])
        lines.append(
            f"\nmemory {grown.level_bytes / 2**20:.0f} MiB, {grown.slope_bytes_per_min / 2**20:+.2f} MiB a minute: "
            f"{grown.share:+.2%} from minute {grown.from_s / 60:.0f} to {grown.to_s / 60:.0f}"
        )
        lines += [f"  {name}: {slope / 2**20:+.2f} MiB a minute" for name, slope in grown.by_process.items()]
    lines += [f"left: {report['left']}", *(f"surprise: {one}" for one in report["surprises"])]
    return "\n".join([*lines, f"missed: {', '.join(report['missed']) or 'nothing'}"])


if __name__ == "__main__":
    sys.exit(main())
