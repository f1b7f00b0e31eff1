"""`genai pretrain CONFIG.yaml`: train a language model on streams of tokens, from scratch or further on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import examples, job_options, nproc_option
from .output import Output
from .training import run_training

if TYPE_CHECKING:
    from genai.jobs.pretrain_result import PretrainResult


@click.command(
    epilog=examples(
        "genai pretrain configs/pretrain/llama-30m.yaml --dry-run",
        "genai pretrain configs/pretrain/llama-30m.yaml --nproc 2",
        "genai pretrain configs/pretrain/llama-30m.yaml optimizer.lr=1e-3 max_duration=2ep",
    )
)
@nproc_option
@job_options
def command(
    config: Path,
    overrides: tuple[str, ...],
    run_name: str | None,
    dry_run: bool,
    allow_code: bool,
    nproc: int | None,
    output: Output,
) -> None:
    """Pretrain a causal language model on shards of tokens, as a job file says.

    The same command again goes on where the run stopped, on any number of ranks. Ctrl-C and SIGTERM save first.
    """
    from genai.config.loading import load
    from genai.config.pretrain import PretrainConfig

    loaded = load(config, PretrainConfig, overrides)
    if dry_run:
        from genai.jobs import pretrain_plan

        plan = pretrain_plan.make_plan(loaded, run_name=run_name, allow_code=allow_code, num_ranks=nproc or 1)
        output.result(plan.text(), plan.to_json())
        return
    from genai.jobs import pretrain
    from genai.jobs.pretrain_result import PretrainResult

    result = run_training(
        "pretrain",
        pretrain.run,
        PretrainResult.from_json,
        loaded,
        nproc=nproc,
        run_name=run_name,
        allow_code=allow_code,
        output=output,
    )
    output.result(_summary(result), result.to_json())


def _summary(result: PretrainResult) -> str:
    lines = [*_held_out(result), ("weights", f"{result.model} ({result.num_parameters / 1e6:,.1f} M parameters)")]
    if result.gguf is not None:
        lines.append(("gguf", result.gguf))
    devices = f" on {result.num_ranks} ranks" if result.num_ranks > 1 else ""
    speed = f"{result.batches:,} steps, {result.tokens:,} tokens, {result.tokens_per_s:,.0f} tokens/s{devices}"
    lines += [
        ("report", result.report),
        ("training", f"{result.train_s / 60:.1f} min of {result.total_s / 60:.1f} ({speed})"),
    ]
    return "\n".join(f"{name:<10} {text}" for name, text in lines)


def _held_out(result: PretrainResult) -> list[tuple[str, str]]:
    if result.eval_loss is None or result.perplexity is None:
        return []
    measured = f"{result.eval_loss:.4f} nats a token over {result.eval_tokens:,} tokens"
    return [("held out", f"{measured}, perplexity {result.perplexity:,.2f}")]
