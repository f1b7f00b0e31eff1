"""Pretraining speed on a CPU, against transformers' Llama in a plain loop, its Trainer, and litgpt's model.

    python scripts/bench/pretrain_cpu.py                      the full table (about ten minutes on two cores)
    python scripts/bench/pretrain_cpu.py --quick --json       fewer variants and steps, one JSON object, under a minute
    pip install --no-deps --target FOLDER litgpt              then with --litgpt FOLDER: litgpt's model too

The model is a Llama of 26.7M parameters (16,384 tokens, 6 layers of 512, 8 heads over 4, tied embeddings), fresh; a
step is 4 rows of 256 tokens, all of them trained: forward, backward, clipping, fused AdamW. Each variant runs in a
process of its own with one thread; the variants take turns for `--rounds` rounds, and the table shows medians of tokens
per CPU-second (process time over all threads, compilers included), which a busy machine disturbs less than wall time.

`ours_*` runs in our Trainer with everything on that a job has (guards, monitors, metrics.jsonl); `hf_trainer_bf16` in
transformers' with logging at each step; the others are bare loops. litgpt needs lightning for its trainer only: just
its model is taken, with tied weights as here.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from turns.clock import cpu_s
from turns.machine import environment
from turns.rounds import take_turns
from turns.steps import speed, step_times
from turns.workers import run_training_worker

ROWS, SEQ = 4, 256
TOKENS = ROWS * SEQ
SIZES: dict[str, Any] = {
    "vocab_size": 16384,
    "d_model": 512,
    "n_layers": 6,
    "n_heads": 8,
    "n_kv_heads": 4,
    "d_ff": 1472,
    "max_seq_len": SEQ,
    "tie_embeddings": True,
}
FULL = ("hf_fp32", "hf_bf16", "hf_trainer_bf16", "litgpt_bf16", "ours_eager", "ours_compiled")
QUICK = ("hf_bf16", "ours_eager")
REFERENCE = "hf_bf16"
PACKAGES = ("torch", "transformers", "accelerate")


# --- the parent: takes turns, prints ----------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two variants, one round, three steps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15, help="measured steps a process, after two that are not")
    parser.add_argument("--litgpt", help="folder that holds litgpt, where it is not installed")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.litgpt:
        os.environ["BENCH_LITGPT"] = options.litgpt
    if options.worker:
        print(json.dumps(WORKERS[options.worker](options.steps)))
        return
    if options.quick:
        options.rounds, options.steps = 1, 3
    results = take_turns(
        QUICK if options.quick else FULL,
        options.rounds,
        lambda name: run_training_worker(__file__, name, options.steps),
    )
    report = {"benchmark": "pretrain_cpu", "rows": ROWS, "seq": SEQ, **environment(PACKAGES), "results": results}
    print(json.dumps(report) if options.json else table(report))


def table(report: Mapping[str, Any]) -> str:
    results = report["results"]
    base = results[REFERENCE]["tokens_per_cpu_s"]
    lines = [
        f"{report['cpu']}, one thread; {report['versions']}",
        "",
        f"| variant | tokens per CPU-second | x {REFERENCE} | first step's extra CPU-seconds | peak RSS MiB |",
        "|---|---|---|---|---|",
    ]
    for name, values in results.items():
        if "skipped" in values:
            lines.append(f"| {name} | skipped: {values['skipped']} | | | |")
            continue
        speed = values["tokens_per_cpu_s"]
        figures = f"{speed:.0f} | {speed / base:.2f} | {values['compile_s']:.1f} | {values['peak_rss_mib']:.0f}"
        lines.append(f"| {name} | {figures} |")
    compiled, eager = results.get("ours_compiled", {}), results.get("ours_eager", {})
    if "compile_s" in compiled:
        saved = TOKENS / eager["tokens_per_cpu_s"] - TOKENS / compiled["tokens_per_cpu_s"]
        pays = f"pays after {compiled['compile_s'] / saved:.0f} steps" if saved > 0 else "does not pay"
        lines.append(f"\ncompiling takes {compiled['compile_s']:.0f} CPU-seconds and {pays}")
    return "\n".join(lines)


# --- the workers: one variant each ------------------------------------------------------------------------------------


def random_rows(count: int) -> Any:
    import numpy

    return numpy.random.default_rng(0).integers(0, SIZES["vocab_size"], (count, SEQ))


def plain_loop(model: Any, loss_of: Callable[[Any], Any], steps: int, *, bf16: bool) -> dict[str, float]:
    """The loop that everybody writes first, with the fused optimizer that not everybody does."""
    import torch

    torch.set_num_threads(1)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    times = []
    for row in range(steps + 2):
        batch = torch.from_numpy(random_rows((row + 1) * ROWS)[-ROWS:])
        started = cpu_s()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        float(loss.detach())
        times.append(cpu_s() - started)
    return speed(times, tokens=TOKENS)


def hf_model() -> Any:
    from transformers import LlamaConfig as TransformersConfig
    from transformers import LlamaForCausalLM

    from genai.models.llama import LlamaConfig

    values = {key: value for key, value in LlamaConfig(**SIZES).to_hf().items() if value is not None}
    return LlamaForCausalLM(TransformersConfig(**values))


def hf(steps: int, *, bf16: bool) -> dict[str, float]:
    model = hf_model()
    return plain_loop(model, lambda batch: model(input_ids=batch, labels=batch).loss, steps, bf16=bf16)


def hf_trainer_bf16(steps: int) -> dict[str, Any]:
    try:
        import accelerate  # noqa: F401
    except ImportError:
        return {"skipped": "transformers' Trainer needs accelerate"}
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(cpu_s())

    torch.set_num_threads(1)
    rows = [{"input_ids": row, "labels": row} for row in random_rows(ROWS * (steps + 4)).tolist()]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=ROWS,
            max_steps=steps + 3,
            bf16=True,
            use_cpu=True,
            optim="adamw_torch_fused",
            report_to="none",
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = Trainer(model=hf_model(), args=arguments, train_dataset=rows, callbacks=[Clock()])
        sys.stdout = sys.stderr  # the trainer prints its logs
        trainer.train()
        sys.stdout = sys.__stdout__
    return speed([after - before for before, after in itertools.pairwise(times)], tokens=TOKENS)


def litgpt_bf16(steps: int) -> dict[str, Any]:
    import torch

    package = litgpt_package()
    if package is None:
        return {"skipped": "litgpt is not there (pip install --no-deps --target DIR litgpt, then --litgpt DIR)"}
    config = importlib.import_module("litgpt.config").Config(
        block_size=SEQ,
        padded_vocab_size=SIZES["vocab_size"],
        vocab_size=SIZES["vocab_size"],
        n_layer=SIZES["n_layers"],
        n_embd=SIZES["d_model"],
        n_head=SIZES["n_heads"],
        n_query_groups=SIZES["n_kv_heads"],
        intermediate_size=SIZES["d_ff"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    module = importlib.import_module("litgpt.model")
    model = module.GPT(config)
    model.apply(model._init_weights)
    model.lm_head.weight = model.transformer.wte.weight

    def loss_of(batch: Any) -> Any:
        logits = model(batch)[:, :-1].float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    return plain_loop(model, loss_of, steps, bf16=True)


def litgpt_package() -> types.ModuleType | None:
    """litgpt as a bare package: its `__init__` wants lightning, its model does not."""
    folder = os.environ.get("BENCH_LITGPT")
    if folder:
        sys.path.insert(0, folder)
    spec = importlib.util.find_spec("litgpt")
    if spec is None or spec.submodule_search_locations is None:
        return None
    package = types.ModuleType("litgpt")
    package.__path__ = list(spec.submodule_search_locations)
    # The model takes one function from here, for reading checkpoints of another layout.
    conversion = types.ModuleType("litgpt.scripts.convert_hf_checkpoint")
    conversion.qkv_reassemble = None  # type: ignore[attr-defined]
    sys.modules |= {"litgpt": package, "litgpt.scripts.convert_hf_checkpoint": conversion}
    return package


def ours(steps: int, *, compiled: bool) -> dict[str, float]:
    """CPU time between the ends of two steps, so that everything the trainer does in between counts."""
    import torch

    from genai.models.llama import Llama, LlamaConfig
    from genai.training.allocator import keep_freed_memory
    from genai.training.compiling import compile_blocks

    torch.set_num_threads(1)
    keep_freed_memory()
    model = Llama(LlamaConfig(**SIZES), seed=0)
    if compiled:
        compile_blocks(model, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        trainer = our_trainer(model, steps=steps + 2, folder=Path(folder))
        return speed(step_times(trainer, cpu_s), tokens=TOKENS)


def our_trainer(model: Any, *, steps: int, folder: Path) -> Any:
    """A trainer with everything on that a job has: stream, guards, monitors, progress, metrics.jsonl."""
    import torch

    from genai.config.durations import Duration
    from genai.config.training import AdamWConfig, CallbacksConfig, CosineConfig
    from genai.data.batches import BatchStream
    from genai.data.tokenized import TokenizedRows
    from genai.jobs.metric_sinks import MetricSinks
    from genai.tracking.metrics import MetricsLog
    from genai.training.callbacks import build_callbacks
    from genai.training.checkpoints import Checkpoints
    from genai.training.native_loss import LlamaLoss
    from genai.training.optimizers import build_optimizer
    from genai.training.schedules import build_schedule
    from genai.training.trainer import Settings, Trainer

    device = torch.device("cpu")
    rows = TokenizedRows.from_lists(random_rows(ROWS * (steps + 2)).tolist())
    stream = BatchStream(
        rows, max_seq_len=SEQ, batch_size=ROWS, packing=False, shuffle=True, seed=1, drop_last=True, pad_token_id=0
    )
    duration, never = Duration(steps, "ba"), Duration(10**9, "ba")
    return Trainer(
        model_loss=LlamaLoss(model, precision="amp_bf16", device=device),
        optimizer=build_optimizer(AdamWConfig(lr=1e-4), model, device=device),
        schedule=build_schedule(CosineConfig(), max_duration=duration, batches_per_epoch=stream.batches_in_epoch(0)),
        stream=stream,
        eval_batches=None,
        callbacks=build_callbacks(CallbacksConfig(), run_name="bench", total_batches=steps),
        checkpoints=Checkpoints(str(folder / "checkpoints"), keep=1, context={}),
        metrics=MetricSinks(MetricsLog(folder / "metrics.jsonl"), []),
        settings=Settings(
            max_duration=duration,
            eval_interval=never,
            save_interval=never,
            total_batches=steps,
            microbatch_size=ROWS,
        ),
    )


WORKERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "hf_fp32": lambda steps: hf(steps, bf16=False),
    "hf_bf16": lambda steps: hf(steps, bf16=True),
    "hf_trainer_bf16": hf_trainer_bf16,
    "litgpt_bf16": litgpt_bf16,
    "ours_eager": lambda steps: ours(steps, compiled=False),
    "ours_compiled": lambda steps: ours(steps, compiled=True),
}

if __name__ == "__main__":
    main()
