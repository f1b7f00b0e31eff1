"""Predicted against measured peak memory of a training on a CPU.

    python scripts/bench/memory_plan.py                    eight settings and the 4.5 GiB goal (ten minutes)
    python scripts/bench/memory_plan.py --quick --json     two settings, one JSON object, under a minute

Each setting runs in a process of its own through the job's real code (`build_parts`, the trainer) for a few optimizer
steps of two microbatches. Measured is the peak of its resident memory (VmHWM) less what it had after importing torch,
transformers and peft; predicted is what `genai finetune --dry-run` says.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from turns.workers import run_worker

SETTINGS = [(method, seq, rows) for method in ("lora", "full") for seq in (256, 1024) for rows in (1, 4)]
QUICK = [("lora", 256, 4), ("full", 256, 1)]
GOAL_BYTES = 4.5 * 2**30
"""Full fine-tuning of SmolLM2-135M, sequence 1024, global batch 8, everything counted."""
WORDS = ["the", "brick", "wall", "of", "a", "house", "must", "not", "be", "laid", "in", "frost", "sand", "and", "lime"]


# --- the parent: one process a setting --------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two settings, two steps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--model", default="gallery:smollm2-135m-instruct", help="reference of a model")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(json.loads(options.worker))))
        return
    results = [run(job) for job in jobs(options)]
    report = {"benchmark": "memory_plan", "model": options.model, "results": results}
    print(json.dumps(report) if options.json else table(results))


def jobs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What is measured; the last of the full list is the goal, with the microbatch left to genai."""
    common = {"model": options.model, "steps": 2 if options.quick else 3}
    for method, seq, rows in QUICK if options.quick else SETTINGS:
        yield {**common, "method": method, "seq": seq, "microbatch": rows, "global_batch": 2 * rows}
    if not options.quick:
        yield {**common, "method": "full", "seq": 1024, "microbatch": "auto", "global_batch": 8}


def run(job: Mapping[str, Any]) -> dict[str, Any]:
    print("{method} {seq} x {microbatch}".format(**job), file=sys.stderr, flush=True)
    return {**job, **run_worker(__file__, [json.dumps(job)])}


def table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| training | seq | microbatch | predicted MiB | measured MiB | measured / predicted |",
        "|---|---|---|---|---|---|",
    ]
    for each in results:
        cells = (each["method"], each["seq"], each["microbatch"], f"{each['predicted_bytes'] / 2**20:.0f}")
        measured = f"{each['measured_bytes'] / 2**20:.0f}", f"{each['measured_bytes'] / each['predicted_bytes']:.2f}"
        lines.append("| " + " | ".join(map(str, (*cells, *measured))) + " |")
    for each in results:
        if each["microbatch"] == "auto":
            whole = f"{each['total_bytes'] / 2**30:.2f} GiB with imports, goal {GOAL_BYTES / 2**30} GiB"
            lines += ["", f"full, sequence 1024, global batch 8, microbatch {each['chosen_microbatch']}: {whole}"]
    return "\n".join(lines)


# --- the child: one training ------------------------------------------------------------------------------------------


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    imported = status_bytes("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        parts = train(job, Path(folder))
    peak = status_bytes("VmHWM")
    from genai.jobs.finetune_parts import longest_row
    from genai.training.plan.memory import predict

    seq_len = longest_row(parts.config, parts.train_tokens)
    plan = predict(
        parts.meta, parts.config, microbatch_size=parts.microbatch_size, seq_len=seq_len, device=parts.device
    )
    return {
        "predicted_bytes": plan.total_bytes,
        "measured_bytes": peak - imported,
        "total_bytes": peak,
        "chosen_microbatch": parts.microbatch_size,
        "moment": plan.moment,
        "parts": dict(plan.parts),
    }


def train(job: Mapping[str, Any], folder: Path) -> Any:
    from genai.config.finetune import FinetuneConfig
    from genai.config.loading import load
    from genai.jobs.finetune_inputs import read_inputs

    loaded = load(write_job(job, folder), FinetuneConfig)
    inputs = read_inputs(loaded)
    from genai.jobs.finetune_parts import build_parts, build_trainer

    parts = build_parts(loaded, inputs)
    build_trainer(parts, Nothing(), Nothing(), run_name="memory").fit()  # type: ignore[arg-type]
    return parts


class Nothing:
    """Keeps no checkpoint and no metric."""

    def save(self, trainer: Any) -> str:
        return "none"

    def prune(self, *, best: str | None) -> None:
        pass

    def finish(self) -> None:
        pass

    def log(self, state: Any, metrics: Any) -> None:
        pass


def write_job(job: Mapping[str, Any], folder: Path) -> Path:
    """A job file, and enough text for its steps."""
    words = random.Random(1)
    num_rows = 8 * job["global_batch"] * (job["steps"] + 1)
    rows = [" ".join(words.choices(WORDS, k=words.randint(job["seq"] // 4, job["seq"] // 2))) for _ in range(num_rows)]
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    model: dict[str, Any] = {"pretrained_model_name_or_path": job["model"]}
    if job["method"] == "lora":
        model["peft_config"] = {"r": 16, "target_modules": "all-linear"}
    config = {
        "runs_dir": str(folder / "runs"),
        "max_seq_len": job["seq"],
        "model": model,
        "train_loader": {"dataset": {"path": str(folder / "rows.jsonl"), "packing_ratio": "auto"}},
        "max_duration": f"{job['steps']}ba",
        "global_train_batch_size": job["global_batch"],
        "device_train_microbatch_size": job["microbatch"],
        "device": "cpu",
        "num_threads": 1,
    }
    path = folder / "job.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


def status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise SystemExit("this benchmark reads /proc/self/status, which is Linux's")


if __name__ == "__main__":
    main()
