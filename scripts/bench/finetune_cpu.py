"""Fine-tuning speed on a CPU, against a plain PyTorch loop and TRL's SFTTrainer, on the same model and the same tokens.

    python scripts/bench/finetune_cpu.py                      the full table (about half an hour on two cores)
    python scripts/bench/finetune_cpu.py --quick --json       fewer variants and steps, one JSON object, under a minute

Each variant runs in a process of its own with one thread; the variants take turns for `--rounds` rounds, and the table
shows medians of tokens per CPU-second (process time over all threads), which a busy machine disturbs less than wall
time. The model is SmolLM2-135M-Instruct from the gallery; a step is 4 rows of 256 tokens, all of them trained. TRL is
measured when it can be imported (`pip install trl datasets`), with gradient checkpointing off, packed rows and a fused
optimizer as here, and once more with its defaults.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from turns.machine import environment
from turns.rounds import take_turns
from turns.steps import speed, step_times
from turns.workers import run_training_worker

ROWS, SEQ = 4, 256
TOKENS = ROWS * SEQ
FULL = (
    "plain_fp32",
    "ours_full",
    "ours_full_compiled",
    "trl_full",
    "trl_full_defaults",
    "ours_lora",
    "trl_lora",
    "trl_lora_defaults",
)
QUICK = ("plain_fp32", "ours_full", "ours_lora")
PACKAGES = ("torch", "transformers", "peft", "trl")


# --- the parent: takes turns, prints ----------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three variants, one round, three steps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="measured steps a process, after two that are not")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(WORKERS[options.worker](options.steps)))
        return
    if options.quick:
        options.rounds, options.steps = 1, 3
    results = take_turns(QUICK if options.quick else FULL, options.rounds, lambda name: run_worker(name, options.steps))
    if not options.quick:
        results["overhead"] = overhead(options.rounds)
        results["packing"] = run_worker("packing", options.steps)
    report = {"benchmark": "finetune_cpu", "rows": ROWS, "seq": SEQ, **environment(PACKAGES), "results": results}
    print(json.dumps(report) if options.json else table(report))


def run_worker(name: str, steps: int) -> dict[str, Any]:
    return run_training_worker(__file__, name, steps, {"TRL_EXPERIMENTAL_SILENCE": "1"})


def overhead(rounds: int) -> dict[str, Any]:
    """What the trainer adds to a bare loop of the same step: at 135M in percent, on a 1M model in milliseconds of
    CPU a step.
    """
    small = [run_worker("overhead_1m", 300) for _ in range(rounds)]
    large = [run_worker("overhead_135m", 10) for _ in range(rounds)]
    return {
        "ms_a_step_1m": statistics.median(sample["extra_ms"] for sample in small),
        "share_135m": statistics.median(sample["extra_share"] for sample in large),
    }


def table(report: Mapping[str, Any]) -> str:
    results = report["results"]
    base = results["plain_fp32"]["tokens_per_cpu_s"]
    lines = [
        f"{report['cpu']}, one thread; {report['versions']}",
        "",
        "| variant | tokens per CPU-second | x plain fp32 | peak RSS MiB |",
        "|---|---|---|---|",
    ]
    for name, values in results.items():
        if "tokens_per_cpu_s" in values:
            speed = values["tokens_per_cpu_s"]
            lines.append(f"| {name} | {speed:.0f} | {speed / base:.2f} | {values['peak_rss_mib']:.0f} |")
        elif "skipped" in values:
            lines.append(f"| {name} | {values['skipped']} | | |")
    for ours, theirs in (
        ("ours_full", "trl_full"),
        ("ours_full", "trl_full_defaults"),
        ("ours_lora", "trl_lora"),
        ("ours_lora", "trl_lora_defaults"),
    ):
        if all("tokens_per_cpu_s" in results.get(name, {}) for name in (ours, theirs)):
            ratio = results[ours]["tokens_per_cpu_s"] / results[theirs]["tokens_per_cpu_s"]
            lines.append(f"\n{ours} / {theirs}: {ratio:.2f}x")
    compiled = results.get("ours_full_compiled", {})
    if "compile_s" in compiled:
        saved = TOKENS / results["ours_full"]["tokens_per_cpu_s"] - TOKENS / compiled["tokens_per_cpu_s"]
        pays = f"pays after {compiled['compile_s'] / saved:.0f} steps" if saved > 0 else "does not pay"
        lines.append(f"\ncompiling takes {compiled['compile_s']:.0f} CPU-seconds and {pays}")
    for name in ("overhead", "packing"):
        if name in results:
            lines.append(f"\n{name}: {json.dumps(results[name])}")
    return "\n".join(lines)


# --- the workers: one variant each ------------------------------------------------------------------------------------


def model_folder() -> Path:
    from genai.models.pull import pull

    return pull("smollm2-135m-instruct")


def load(dtype: str = "float32") -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(model_folder(), dtype=getattr(torch, dtype))


def random_rows(count: int, vocabulary: int = 49152, length: int = SEQ) -> list[list[int]]:
    import numpy

    generator = numpy.random.default_rng(0)
    return [generator.integers(10, vocabulary, length).tolist() for _ in range(count)]


def timed(step: Callable[[], object], steps: int) -> dict[str, float]:
    """Median CPU seconds of `step`, after two that are not counted (the first one's extra is the compile time)."""
    times = []
    for _ in range(steps + 2):
        started = time.process_time()
        step()
        times.append(time.process_time() - started)
    return speed(times, tokens=TOKENS)


def plain_fp32(steps: int) -> dict[str, float]:
    import torch

    model = load()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=False, fused=False)
    batch = torch.tensor(random_rows(ROWS))

    def step() -> None:
        model(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return timed(step, steps)


def our_trainer(model: Any, *, steps: int, folder: Path, compiled: bool = False, length: int = SEQ) -> Any:
    """A trainer with everything on that a job has: stream, guards, monitors, progress, metrics.jsonl."""
    import torch

    from genai.config.durations import Duration
    from genai.config.finetune import AdamWConfig, CallbacksConfig, CosineConfig
    from genai.data.batches import BatchStream
    from genai.data.tokenized import TokenizedRows
    from genai.jobs.metric_sinks import MetricSinks
    from genai.tracking.metrics import MetricsLog
    from genai.training.allocator import keep_freed_memory
    from genai.training.callbacks import build_callbacks
    from genai.training.checkpoints import Checkpoints
    from genai.training.compiling import compile_blocks
    from genai.training.forward import CausalLMLoss
    from genai.training.optimizers import build_optimizer
    from genai.training.precision import prepare_model
    from genai.training.schedules import build_schedule
    from genai.training.trainer import Settings, Trainer

    device = torch.device("cpu")
    prepare_model(model, "amp_bf16")
    keep_freed_memory()
    if compiled:
        compile_blocks(model, device=device)
    rows = TokenizedRows.from_lists(random_rows(ROWS * (steps + 4), model.config.vocab_size, length))
    stream = BatchStream(
        rows, max_seq_len=length, batch_size=ROWS, packing=True, shuffle=True, seed=1, drop_last=False, pad_token_id=0
    )
    duration = Duration(steps, "ba")
    return Trainer(
        model_loss=CausalLMLoss(model, precision="amp_bf16", device=device),
        optimizer=build_optimizer(AdamWConfig(), model, device=device),
        schedule=build_schedule(CosineConfig(), max_duration=duration, batches_per_epoch=stream.batches_in_epoch(0)),
        stream=stream,
        eval_batches=None,
        callbacks=build_callbacks(CallbacksConfig(), run_name="bench", total_batches=steps),
        checkpoints=Checkpoints(str(folder / "checkpoints"), keep=1, context={}),
        metrics=MetricSinks(MetricsLog(folder / "metrics.jsonl"), []),
        settings=Settings(
            max_duration=duration,
            eval_interval=Duration(10**9, "ba"),
            save_interval=Duration(10**9, "ba"),
            total_batches=steps,
            microbatch_size=ROWS,
        ),
    )


def ours(model: Any, steps: int, *, compiled: bool = False) -> dict[str, float]:
    """CPU time between the ends of two steps, so that everything the trainer does in between counts."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = our_trainer(model, steps=steps + 2, folder=Path(folder), compiled=compiled)
        return speed(step_times(trainer, time.process_time), tokens=TOKENS)


def ours_full(steps: int) -> dict[str, float]:
    return ours(load(), steps)


def ours_full_compiled(steps: int) -> dict[str, float]:
    return ours(load(), steps, compiled=True)


def ours_lora(steps: int) -> dict[str, float]:
    from genai.config.training import PeftConfig
    from genai.models.adapters import add_adapter

    return ours(add_adapter(load(), PeftConfig(r=16, lora_alpha=32)), steps)


def trl(steps: int, *, lora: bool, defaults: bool) -> dict[str, Any]:
    try:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        return {"skipped": f"{error.name} is not installed"}
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback

    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.process_time())

    model = load()
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    rows = Dataset.from_list([{"input_ids": row} for row in random_rows(ROWS * (steps + 4))])
    alike = {} if defaults else {"gradient_checkpointing": False, "optim": "adamw_torch_fused", "packing": True}
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=ROWS,
            max_steps=steps + 3,
            max_length=SEQ,
            bf16=True,
            use_cpu=True,
            report_to="none",
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            **alike,
        )
        peft_config = (
            LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
        )
        trainer = SFTTrainer(
            model=model,
            args=config,
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=peft_config,
            callbacks=[Clock()],
        )
        sys.stdout = sys.stderr  # the trainer prints its logs
        trainer.train()
        sys.stdout = sys.__stdout__
    return speed([after - before for before, after in itertools.pairwise(times)], tokens=TOKENS)


def overhead_135m(steps: int) -> dict[str, float]:
    return _overhead(load(), steps)


def overhead_1m(steps: int) -> dict[str, float]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=2048,
    )
    return _overhead(LlamaForCausalLM(config), steps, length=64)


def _overhead(model: Any, steps: int, length: int = SEQ) -> dict[str, float]:
    """The trainer's loop against a bare loop over the same loss object and optimizer, in blocks that take turns."""
    import torch

    from genai.training.step import accumulate_gradients

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = our_trainer(model, steps=2 * steps, folder=Path(folder), length=length)
        batch = trainer.stream.next_batch()
        parameters = [p for p in trainer.model.parameters() if p.requires_grad]

        def bare() -> None:
            accumulate_gradients(trainer.model_loss, batch, microbatch_size=ROWS)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            trainer.optimizer.step()
            trainer.optimizer.zero_grad(set_to_none=True)

        for callback in trainer.callbacks:
            callback.fit_start(batch=0)
        differences, bases = [], []
        for _ in range(steps):
            started = time.process_time()
            bare()
            middle = time.process_time()
            trainer.step()
            ended = time.process_time()
            bases.append(middle - started)
            differences.append((ended - middle) - (middle - started))
        for callback in trainer.callbacks:
            callback.fit_end("done", None)
    extra, base = statistics.median(differences[2:]), statistics.median(bases[2:])
    return {"extra_ms": extra * 1e3, "extra_share": extra / base}


def packing(steps: int) -> dict[str, float]:
    """Useful tokens a CPU-second of packed rows against padded ones, on lengths like those of chats."""
    import numpy

    from genai.data.batches import BatchStream
    from genai.data.tokenized import TokenizedRows
    from genai.training.step import accumulate_gradients

    generator = numpy.random.default_rng(0)
    lengths = numpy.clip(generator.lognormal(4.6, 0.8, 2000), 8, 1024).astype(int)
    rows = TokenizedRows.from_lists([generator.integers(10, 49152, n).tolist() for n in lengths])
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        trainer = our_trainer(load(), steps=1, folder=Path(folder))
        for name, packed in (("packed", True), ("padded", False)):
            stream = BatchStream(
                rows,
                max_seq_len=1024,
                batch_size=2 if packed else 16,
                packing=packed,
                shuffle=True,
                seed=1,
                drop_last=False,
                pad_token_id=0,
            )
            useful = slots = 0
            cpu_s = 0.0
            for _ in range(max(3, steps // 2)):
                batch = stream.next_batch()
                started = time.process_time()
                accumulate_gradients(trainer.model_loss, batch, microbatch_size=ROWS)
                cpu_s += time.process_time() - started
                trainer.optimizer.zero_grad(set_to_none=True)
                useful += batch.num_tokens
                slots += batch.input_ids.size
            found[f"{name}_useful_share"] = useful / slots
            found[f"{name}_tokens_per_cpu_s"] = useful / cpu_s
    found["ratio"] = found["packed_tokens_per_cpu_s"] / found["padded_tokens_per_cpu_s"]
    return found


WORKERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "plain_fp32": plain_fp32,
    "ours_full": ours_full,
    "ours_full_compiled": ours_full_compiled,
    "ours_lora": ours_lora,
    "trl_full": lambda steps: trl(steps, lora=False, defaults=False),
    "trl_full_defaults": lambda steps: trl(steps, lora=False, defaults=True),
    "trl_lora": lambda steps: trl(steps, lora=True, defaults=False),
    "trl_lora_defaults": lambda steps: trl(steps, lora=True, defaults=True),
    "overhead_1m": overhead_1m,
    "overhead_135m": overhead_135m,
    "packing": packing,
}

if __name__ == "__main__":
    main()
