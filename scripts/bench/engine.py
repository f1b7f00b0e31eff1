"""The `local` engine through our HTTP server, beside transformers on the same model, one compute thread each.

    python scripts/bench/engine.py                     the full table (some ten minutes on two cores)
    python scripts/bench/engine.py --quick --json      shorter answers, one round, one JSON object, under a minute

SmolLM2-135M-Instruct from the gallery; prompts of 128 tokens of Python source of which no two begin alike, 64 new
tokens each, greedy, the model's own end passed over. All streams of a measurement are asked for at once. Variants take
turns for `--rounds` rounds; the table shows medians.

- generate: transformers' `generate`, one prompt after the other, bfloat16.
- generate_batch: transformers' continuous batching, with 8 and 32 prompts, bfloat16; kept between measurements.
- ours: `genai serve`, streamed over HTTP with 1, 8 and 32 connections, bfloat16; and with 8-bit weights.

TTFT is the median over the prompts of a measurement. The CPU seconds of the server are those of all its processes.
Beside the table: how far log-probabilities with 8-bit weights are from those in bfloat16, on the same continuations.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from streams.client import ask_all
from streams.logprobs import compare_logprobs
from streams.requests import Prompts
from streams.server import Server
from turns.machine import environment
from turns.rounds import take_turns
from turns.workers import ONE_THREAD

MODEL = "gallery:smollm2-135m-instruct"
PACKAGES = ("torch", "transformers", "uvicorn")
SIZES: dict[str, dict[str, Any]] = {
    "full": {"prompt": 128, "new": 64, "streams": [1, 8, 32], "one_by_one": 2},
    "quick": {"prompt": 64, "new": 16, "streams": [1, 8], "one_by_one": 1},
}
GOALS = {
    "8 streams / generate": ("ours 8", "generate 1", 5.5),
    "32 streams / generate": ("ours 32", "generate 1", 11.0),
    "8 streams / generate_batch": ("ours 8", "generate_batch 8", 1.0),
    "32 streams / generate_batch": ("ours 32", "generate_batch 32", 1.5),
    "one stream / generate": ("ours 1", "generate 1", 1.2),
    "one stream, 8-bit weights / generate": ("ours int8 1", "generate 1", 1.8),
}


class Transformers:
    """transformers in a process that keeps the model; started when it is made, waited for when it is entered."""

    def __init__(self, folder: Path) -> None:
        import os

        worker = Path(__file__).with_name("streams") / "transformers_worker.py"
        self._process = subprocess.Popen(
            [sys.executable, str(worker), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )

    def __enter__(self) -> Transformers:
        self._told()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def run(self, do: str, prompts: list[list[int]], num_new: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "prompts": prompts, "num_new": num_new}) + "\n")
        self._process.stdin.flush()
        return self._told()

    def _told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                told: dict[str, Any] = json.loads(line)
                return told
        raise SystemExit("transformers' process fell")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 + 16 tokens, up to 8 streams, one round")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    size = "quick" if options.quick else "full"
    report = measure(size, 1 if options.quick else options.rounds)
    print(json.dumps(report) if options.json else table(report))


def measure(size: str, rounds: int) -> dict[str, Any]:
    from genai.models.references import resolve_model

    settings = SIZES[size]
    folder = resolve_model(MODEL).path
    prompts, num_new = Prompts(folder, settings["prompt"]), settings["new"]
    with ExitStack() as stack:
        # All start side by side; every prompt is another one, so that nothing is to be had from a cache of prefixes.
        theirs, ours = Transformers(folder), {kind: Server(MODEL, {"precision": kind}) for kind in ("bf16", "int8")}
        peer = stack.enter_context(theirs)
        servers = {
            "ours": stack.enter_context(ours["bf16"]),
            "ours int8": stack.enter_context(ours["int8"]),
        }

        def run(name: str) -> dict[str, Any]:
            kind, _, streams = name.rpartition(" ")
            if kind == "generate":
                return peer.run(kind, prompts.take(settings["one_by_one"]), num_new)
            if kind == "generate_batch":
                return peer.run(kind, prompts.take(int(streams)), num_new)
            server, before = servers[kind], servers[kind].cpu_s()
            told = asyncio.run(ask_all(server.port, prompts.take(int(streams)), num_new))
            return told | {"tokens_per_cpu_s": int(streams) * num_new / (server.cpu_s() - before)}

        names = ["generate 1", *(f"generate_batch {count}" for count in settings["streams"] if count > 1)]
        names += [f"ours {count}" for count in settings["streams"]] + ["ours int8 1"]
        for name in names:  # compilers, allocators and caches of each have seen everything once
            run(name)
        results = take_turns(names, rounds, run)
        logprobs = asyncio.run(compare_logprobs(servers, prompts.take(4), num_new))
    ratios = {
        goal: results[ours]["tokens_per_s"] / results[theirs]["tokens_per_s"]
        for goal, (ours, theirs, _) in GOALS.items()
        if ours in results and theirs in results
    }
    return {
        "benchmark": "engine",
        "size": size,
        "rounds": rounds,
        **settings,
        **environment(PACKAGES),
        "results": results,
        "ratios": ratios,
        "goals": {goal: wanted for goal, (*_, wanted) in GOALS.items()},
        "int8_logprob_error": logprobs,
    }


def table(report: Mapping[str, Any]) -> str:
    sizes = f"{report['prompt']} + {report['new']} tokens, one compute thread, {report['rounds']} rounds"
    lines = [f"{report['cpu']}, {sizes}; {report['versions']}", ""]
    lines += ["| | tokens/s | TTFT, ms | tokens per CPU-second |", "|---|---|---|---|"]
    for name, figures in report["results"].items():
        values = (figures["tokens_per_s"], figures["ttft_ms"], figures["tokens_per_cpu_s"])
        lines.append(f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |")
    lines += ["", "| tokens/s | ratio | goal |", "|---|---|---|"]
    for goal, ratio in report["ratios"].items():
        wanted = report["goals"][goal]
        lines.append(f"| {goal} | {ratio:.2f}{'' if ratio >= wanted else ' **missed**'} | {wanted} |")
    error = report["int8_logprob_error"]
    lines += [
        "",
        f"8-bit weights: log-probabilities of {error['num_tokens']} tokens differ by {error['mean']:.4f} on average, "
        f"{error['max']:.3f} at most; perplexity {error['perplexity']:.3f} instead of {error['perplexity_bf16']:.3f}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
