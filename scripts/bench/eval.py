"""What `genai eval` makes of an engine: a server that it asks, and likelihoods of a model in its own process.

    python scripts/bench/eval.py                         both parts (twenty minutes on two cores)
    python scripts/bench/eval.py --quick --json          fewer questions and texts, one JSON object, under a minute
    python scripts/bench/eval.py --parts endpoint        one of them

- endpoint: `genai serve` with SmolLM2-135M-Instruct in bfloat16 on one compute thread, asked for answers of one length
  by `genai eval` (each of them read, and kept on the disk) and by a plain loop of aiohttp with as many requests under
  way. Prompts are Python source of which no two begin alike. They take turns; the ratio is the median of the rounds'.
- perplexity: tokens per CPU-second of likelihoods, beside lm-eval in process, at the same batch and arithmetic.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from turns.machine import environment

PACKAGES = ("aiohttp", "lm-eval", "torch", "transformers", "uvicorn")
PARTS = {"endpoint": "load.comparing", "perplexity": "likelihoods.comparing"}
"""Part -> the module that measures it (`measure`) and shows what came out (`table`)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer questions and texts, fewer rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="by default both")
    parser.add_argument("--rounds", type=int, help="by default 5 of endpoint and 2 of perplexity")
    options = parser.parse_args()
    size = "quick" if options.quick else "full"
    report = {"benchmark": "eval", "size": size, **environment(PACKAGES)}
    for part in options.parts:
        report[part] = import_module(PARTS[part]).measure(size, options.rounds)
    print(json.dumps(report) if options.json else table(report, options.parts))


def table(report: Mapping[str, Any], parts: list[str]) -> str:
    shown = [f"{report['cpu']}; {report['versions']}"]
    shown += [f"## {part}\n\n{import_module(PARTS[part]).table(report[part])}" for part in parts]
    return "\n\n".join(shown)


if __name__ == "__main__":
    main()
