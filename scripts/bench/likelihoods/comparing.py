"""Likelihoods of SmolLM2-135M-Instruct by `genai eval` and by lm-eval, in process, each on one thread.

- long: source code in windows that are full, so that nothing is to be had from packing or sharing;
- documents: docstrings from two lines to some pages, in windows of the same length;
- choices: beginnings of docstrings with four ways to go on.

Both get the same texts, the same batch size, arithmetic and window. Tokens are those of the texts, counted once for
each text (choices: each with its context) whatever is padded or shared. They take turns; medians of the rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turns.rounds import take_turns
from turns.workers import ONE_THREAD, run_worker

GOAL = 1.2
TOLERANCE = 1e-4
"""Of all log-probabilities together, relative, in fp32."""
SETTINGS: dict[str, dict[str, list[str]]] = {
    "full": {
        "long, batch 1, bf16": ["long", "--batch", "1", "--count", "4", "--precision", "bf16"],
        "long, batch 16, bf16": ["long", "--batch", "16", "--count", "16", "--precision", "bf16"],
        "long, batch 16, fp32": ["long", "--batch", "16", "--count", "16", "--precision", "fp32"],
        "documents, batch 16, bf16": ["documents", "--batch", "16", "--count", "32", "--precision", "bf16"],
        "choices, batch 16, bf16": ["choices", "--batch", "16", "--count", "16", "--precision", "bf16"],
        "choices, batch 16, fp32": ["choices", "--batch", "16", "--count", "16", "--precision", "fp32"],
    },
    "quick": {
        "long, batch 4, bf16": ["long", "--batch", "4", "--count", "4", "--length", "256", "--precision", "bf16"],
    },
}
ROUNDS = {"full": 2, "quick": 1}
_WORKER = str(Path(__file__).with_name("worker.py"))
_ENVIRONMENT = {
    **ONE_THREAD,
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
}


def measure(size: str, rounds: int | None = None) -> dict[str, Any]:
    """Tokens per CPU-second of both, their ratio, and how far their log-probabilities are apart.

    Args:
        size: full or quick.
        rounds: by default what belongs to the size.
    """
    rounds = rounds or ROUNDS[size]
    variants = {
        f"{side}: {what}": [side, *arguments]
        for what, arguments in SETTINGS[size].items()
        for side in ("ours", "lm-eval")
    }
    results = take_turns(
        list(variants), rounds, lambda name: run_worker(_WORKER, variants[name], environment=_ENVIRONMENT)
    )
    rows = {name.removeprefix("ours: "): None for name in variants if name.startswith("ours: ")}
    compared = {what: _compared(results[f"ours: {what}"], results[f"lm-eval: {what}"]) for what in rows}
    return {"rounds": rounds, "goal": GOAL, "results": results, "compared": compared}


def _compared(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    if ours["num_tokens"] != theirs["num_tokens"]:
        raise SystemExit("the two sides did not read the same tokens")
    return {
        "ratio": ours["tokens_per_cpu_s"] / theirs["tokens_per_cpu_s"],
        "logprob_difference": abs(ours["logprob"] / theirs["logprob"] - 1),
    }


def table(report: Mapping[str, Any]) -> str:
    """The measurements as Markdown."""
    lines = [f"One thread each, {report['rounds']} rounds; tokens per CPU-second", ""]
    lines += ["| | genai eval | lm-eval | ratio | log-probabilities apart |", "|---|---|---|---|---|"]
    for what, found in report["compared"].items():
        ours, theirs = (report["results"][f"{side}: {what}"]["tokens_per_cpu_s"] for side in ("ours", "lm-eval"))
        missed = "" if found["ratio"] >= report["goal"] else " **missed**"
        wrong = " **too far**" if "fp32" in what and found["logprob_difference"] > TOLERANCE else ""
        apart = f"{found['logprob_difference']:.1e}{wrong}"
        lines.append(f"| {what} | {ours:.0f} | {theirs:.0f} | {found['ratio']:.2f}{missed} | {apart} |")
    lines += ["", f"The goal is a ratio of {report['goal']}."]
    return "\n".join(lines)
