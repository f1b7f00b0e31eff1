"""`genai finetune CONFIG.yaml`: go on training a language model on rows of your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import examples, job_options, nproc_option
from .output import Output, format_table
from .training import run_training

if TYPE_CHECKING:
    from genai.jobs.result import FinetuneResult


@click.command(
    epilog=examples(
        "genai finetune configs/finetune/faq-lora.yaml",
        "genai finetune configs/finetune/faq-lora.yaml optimizer.lr=1e-4 max_duration=3ep",
        "genai finetune configs/finetune/faq-lora.yaml --dry-run",
        "genai finetune configs/finetune/faq-lora.yaml --nproc 4",
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
    """Fine-tune a causal language model as a job file says.

    The same command again goes on where the run stopped. Ctrl-C and SIGTERM save first.
    """
    from genai.config.finetune import FinetuneConfig
    from genai.config.loading import load

    loaded = load(config, FinetuneConfig, overrides)
    if dry_run:
        from genai.jobs import finetune_plan

        plan = finetune_plan.make_plan(loaded, run_name=run_name, allow_code=allow_code)
        output.result(plan.text(), plan.to_json())
        return
    from genai.jobs import finetune
    from genai.jobs.result import FinetuneResult

    result = run_training(
        "finetune",
        finetune.run,
        FinetuneResult.from_json,
        loaded,
        nproc=nproc,
        run_name=run_name,
        allow_code=allow_code,
        output=output,
    )
    output.result(_summary(result), result.to_json())


def _summary(result: FinetuneResult) -> str:
    parts = [_losses(result), *_answers(result), _places(result)]
    return "\n\n".join(part for part in parts if part)


def _losses(result: FinetuneResult) -> str:
    losses = result.losses
    if losses.after is None:
        return ""
    rows: list[list[object]] = [["base", _number(losses.before), None]]
    if losses.before_with_shots is not None:
        change = losses.before_with_shots / losses.before - 1 if losses.before else None
        rows.append(
            [f"base, {losses.num_shots} examples in its prompt", _number(losses.before_with_shots), _percent(change)]
        )
    rows.append(["tuned", _number(losses.after), _percent(losses.change)])
    head = f"Held-out loss of {losses.num_rows} rows ({losses.num_tokens:,} answer tokens), nats a token:"
    return f"{head}\n{format_table(['model', 'loss', 'change'], rows)}"


def _answers(result: FinetuneResult) -> list[str]:
    from .failures import printable

    return [
        "\n".join(
            [
                f"Q         {printable(answer.prompt)}",
                f"expected  {printable(answer.expected)}",
                f"base      {printable(answer.base)}",
                f"tuned     {printable(answer.tuned)}",
            ]
        )
        for answer in result.answers
    ]


def _places(result: FinetuneResult) -> str:
    lines = [("weights", result.model), ("adapter", result.adapter), ("gguf", result.gguf), ("report", result.report)]
    speed = f"{result.batches} steps, {result.tokens:,} tokens, {result.tokens_per_s:,.0f} tokens/s"
    lines.append(("training", f"{result.train_s / 60:.1f} min of {result.total_s / 60:.1f} ({speed})"))
    lines.append(("try it", f"genai models chat runs:{result.run}"))
    return "\n".join(f"{name:<9} {text}" for name, text in lines if text is not None)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:+.1%}"
