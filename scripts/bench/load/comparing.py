"""`genai serve` with SmolLM2-135M-Instruct on one compute thread, asked the same kind of questions by both in turn."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streams.requests import Prompts
from streams.server import Server
from turns.clock import cpu_s
from turns.rounds import medians

from load.bare import ask_all

MODEL = "gallery:smollm2-135m-instruct"
SIZES: dict[str, dict[str, int]] = {
    "full": {"prompt": 128, "new": 32, "questions": 96, "concurrency": 16, "rounds": 5},
    "quick": {"prompt": 64, "new": 16, "questions": 16, "concurrency": 8, "rounds": 2},
}
GOAL = 0.95
"""Of the bare load generator's tokens a second."""


def measure(size: str, rounds: int | None = None) -> dict[str, Any]:
    """Both sides in turn, each round the other one first.

    Args:
        size: full or quick.
        rounds: by default what belongs to the size.
    """
    settings = {**SIZES[size], **({"rounds": rounds} if rounds else {})}
    with Server(MODEL, {"precision": "bf16"}) as server, tempfile.TemporaryDirectory(prefix="bench-eval-") as folder:
        sides = Sides(server, Path(folder), settings)
        for name in ("bare", "genai eval"):  # caches and connections of the server have seen something once
            sides.run(name, settings["concurrency"])
        samples: dict[str, list[dict[str, Any]]] = {"bare": [], "genai eval": []}
        for number in range(settings["rounds"]):
            for name in sorted(samples, reverse=bool(number % 2)):
                samples[name].append(sides.run(name, settings["questions"]))
    pairs = zip(samples["genai eval"], samples["bare"], strict=True)
    return {
        **settings,
        "results": {name: medians(found) for name, found in samples.items()},
        "ratio": statistics.median(ours["tokens_per_s"] / bare["tokens_per_s"] for ours, bare in pairs),
        "goal": GOAL,
    }


class Sides:
    """Ask a server in either way."""

    def __init__(self, server: Server, folder: Path, settings: Mapping[str, int]) -> None:
        from tokenizers import Tokenizer

        from genai.models.references import resolve_model

        model = resolve_model(MODEL).path
        self._server = server
        self._folder = folder
        self._settings = settings
        self._prompts = Prompts(model, settings["prompt"])
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._runs = 0

    def run(self, name: str, count: int) -> dict[str, Any]:
        """Tokens of answers a second, and CPU seconds of the server and of the asker, a thousand answers."""
        # Every prompt is another one, so that nothing is to be had from a cache of prefixes.
        texts = [self._tokenizer.decode(ids) for ids in self._prompts.take(count)]
        before, mine, began = self._server.cpu_s(), cpu_s(), time.perf_counter()
        tokens = self._bare(texts) if name == "bare" else self._eval(texts)
        wall_s = time.perf_counter() - began
        assert tokens == count * self._settings["new"], tokens
        server_s, asker_s = self._server.cpu_s() - before, cpu_s() - mine
        return {
            "tokens_per_s": tokens / wall_s,
            "server_busy": server_s / wall_s,
            "asker_cpu_ms_an_answer": 1000 * asker_s / count,
        }

    def _bare(self, texts: list[str]) -> int:
        asked = {"model": "chat", "max_tokens": self._settings["new"], "temperature": 0, "ignore_eos": True}
        url = f"http://127.0.0.1:{self._server.port}/v1/completions"
        return asyncio.run(ask_all(url, [{**asked, "prompt": text} for text in texts], self._settings["concurrency"]))

    def _eval(self, texts: list[str]) -> int:
        """As `genai eval` does it: answers read, and on the disk."""
        from genai.config.eval import SamplingConfig, TargetConfig
        from genai.evaluation.records import Chat, Example
        from genai.evaluation.running import collect
        from genai.evaluation.store import open_store
        from genai.evaluation.targets.endpoint import EndpointTarget

        config = TargetConfig(
            endpoint=f"http://127.0.0.1:{self._server.port}",
            model="chat",
            api="completions",
            sampling=SamplingConfig(max_tokens=self._settings["new"]),
            concurrency=self._settings["concurrency"],
            extra_body={"ignore_eos": True},
        )
        examples = [
            Example(id=str(number), dataset="bench", kind="generation", question=Chat(prompt=text))
            for number, text in enumerate(texts)
        ]
        self._runs += 1
        with open_store(self._folder / "answers.sqlite") as store:
            asking = collect(EndpointTarget("it", config), examples, store=store, kept_as=str(self._runs))
            return sum(outcome.usage.completion_tokens for outcome in asyncio.run(asking))


def table(report: Mapping[str, Any]) -> str:
    """The report of `measure`, in Markdown."""
    lines = [
        f"{report['questions']} questions of {report['prompt']} tokens, {report['new']} new tokens each, "
        f"{report['concurrency']} at once, {report['rounds']} rounds",
        "",
        "| | tokens/s | server's CPU, cores | asker's CPU an answer, ms |",
        "|---|---|---|---|",
    ]
    for name, figures in report["results"].items():
        values = (figures["tokens_per_s"], figures["server_busy"], figures["asker_cpu_ms_an_answer"])
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    missed = "" if report["ratio"] >= report["goal"] else " **missed**"
    return "\n".join([*lines, "", f"genai eval / bare: {report['ratio']:.3f}{missed} (goal {report['goal']})"])
