"""Predicted against measured peak memory of fine-tuning on a CPU.

    python scripts/bench/memory_plan.py                    the table: full and LoRA, 256 and 1024 tokens, 1 and 4 rows
    python scripts/bench/memory_plan.py --quick --json     four settings, one JSON object, under a minute

Each setting runs in a process of its own that trains two steps of two microbatches with the product's own parts;
measured is the process's peak resident memory (VmHWM) less what was resident once everything was imported. The model is
SmolLM2-135M-Instruct from the gallery, or with `--random` its shape with random weights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

SETTINGS = tuple(f"{method},{rows},{seq}" for method in ("full", "lora") for seq in (256, 1024) for rows in (1, 4))
QUICK = ("full,4,256", "full,1,1024", "lora,4,256", "lora,1,1024")
STEPS, MICROBATCHES = 2, 2
MODEL = "gallery:smollm2-135m-instruct"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four settings")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--random", action="store_true", help="random weights: needs no download")
    parser.add_argument(
        "--setting", action="append", help="METHOD,ROWS,TOKENS instead of the list; METHOD full or lora"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.worker, random=options.random)))
        return
    settings = options.setting or (QUICK if options.quick else SETTINGS)
    rows = [run_worker(setting, random=options.random) for setting in settings]
    report = {"benchmark": "memory_plan", "model": MODEL, "settings": rows}
    print(json.dumps(report) if options.json else table(rows))


def run_worker(setting: str, *, random: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", setting, *(["--random"] if random else [])]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{setting} failed:\n{done.stderr[-3000:]}")
    values: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return values


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| setting | predicted MiB | measured MiB | error | at the peak |", "|---|---|---|---|---|"]
    for row in rows:
        predicted, measured = (row[key] / 2**20 for key in ("predicted_bytes", "measured_bytes"))
        parts = ", ".join(f"{name} {size / 2**20:.0f}" for name, size in row["parts"].items())
        error = predicted / measured - 1
        lines.append(
            f"| {row['setting']} | {predicted:.0f} | {measured:.0f} | {error:+.0%} | {row['moment']}: {parts} |"
        )
    return "\n".join(lines)


# --- the worker: one setting ------------------------------------------------------------------------------------------


def measure(setting: str, *, random: bool) -> dict[str, Any]:
    """Predict and train; everything is imported before the first reading."""
    import torch

    method, rows_text, seq_text = setting.split(",")
    rows, seq = int(rows_text), int(seq_text)
    config = job(method, rows, seq)
    model_config, load = model_source(random)
    import_all()
    base_bytes = status_bytes("VmRSS")
    train(config, load, rows, seq)
    measured_bytes = status_bytes("VmHWM") - base_bytes

    from transformers import AutoModelForCausalLM

    from genai.training.plan.microbatch import plan_memory

    with torch.device("meta"):
        meta = AutoModelForCausalLM.from_config(model_config, attn_implementation="eager")
    meta.tie_weights()
    if random:
        # Random weights are made in their final number format: no file is mapped meanwhile.
        meta.config.dtype = torch.bfloat16
    plan = plan_memory(meta, config, microbatch=rows, device=torch.device("cpu"))
    return {
        "setting": setting,
        "predicted_bytes": plan.total_bytes,
        "measured_bytes": measured_bytes,
        "imported_bytes": base_bytes,
        "moment": plan.moment,
        "parts": plan.parts,
    }


def job(method: str, rows: int, seq: int) -> Any:
    from genai.config.finetune import (
        FinetuneConfig,
        FinetuningDatasetConfig,
        FinetuningLoaderConfig,
        HFCausalLMConfig,
        PeftConfig,
    )

    return FinetuneConfig(
        model=HFCausalLMConfig(
            pretrained_model_name_or_path=MODEL, peft_config=PeftConfig() if method == "lora" else None
        ),
        train_loader=FinetuningLoaderConfig(dataset=FinetuningDatasetConfig()),
        max_seq_len=seq,
        global_train_batch_size=rows * MICROBATCHES,
    )


def model_source(random: bool) -> tuple[Any, Any]:
    """The model's config, and what loads it in float32."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

    if random:
        config: Any = LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            tie_word_embeddings=True,
        )
        return config, lambda: AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    from genai.models.references import resolve_model

    path = resolve_model(MODEL).path
    return (
        AutoConfig.from_pretrained(path),
        lambda: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa"),
    )


def import_all() -> None:
    """What a training process has imported before its model is loaded."""
    import transformers.models.llama.modeling_llama  # noqa: F401


def train(config: Any, load: Any, rows: int, seq: int) -> None:
    import torch

    from genai.models.adapters import add_adapter
    from genai.training.allocator import keep_freed_memory
    from genai.training.forward import CausalLMLoss
    from genai.training.optimizers import build_optimizer
    from genai.training.precision import prepare_model

    torch.manual_seed(0)
    model = load()
    if config.model.peft_config is not None:
        model = add_adapter(model, config.model.peft_config)
    prepare_model(model, config.precision)
    keep_freed_memory()
    model.train()
    model_loss = CausalLMLoss(model, precision=config.precision, device="cpu")
    optimizer = build_optimizer(config.optimizer, model)
    positions = torch.arange(seq).repeat(rows, 1)
    for _ in range(STEPS):
        for _ in range(MICROBATCHES):
            ids = torch.randint(0, 49152, (rows, seq))
            labels = ids.clone()
            labels[:, 0] = -100
            batch = {"input_ids": ids, "labels": labels, "position_ids": positions}
            model_loss.loss(batch, float(rows * (seq - 1) * MICROBATCHES)).backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        optimizer.zero_grad()


def status_bytes(name: str) -> int:
    """A line of /proc/self/status, such as VmHWM, in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith(f"{name}:"))
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    main()
