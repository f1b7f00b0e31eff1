"""`genai embed-finetune CONFIG.yaml`: tune an embedding model or a reranker, and prove that retrieval got better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .failures import printable
from .options import examples, job_options, nproc_option
from .output import Output, format_table
from .training import run_training

if TYPE_CHECKING:
    from genai.jobs.embed_finetune_result import (
        EmbedFinetuneResult,
        MadeCounts,
        MetricChange,
        MinedNegatives,
        Promotion,
        SearchResult,
    )

_GATE_NOT_MET = 3


@click.command(
    epilog=examples(
        "genai embed-finetune configs/embed-finetune/faq.yaml",
        "genai embed-finetune configs/embed-finetune/faq.yaml optimizer.lr=5e-5 hard_negatives.num_negatives=2",
        "genai embed-finetune configs/embed-finetune/faq.yaml --dry-run",
        "genai embed-finetune configs/embed-finetune/faq.yaml --nproc 2",
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
    """Tune an embedding model or a reranker as a job file says, and measure it before and after.

    The same command again goes on where the run stopped. Ctrl-C and SIGTERM save first. Where then.promote_if is not
    met, the model is kept, nothing of what should follow is done, and the exit code is 3.
    """
    from genai.config.embed_finetune import EmbedFinetuneConfig
    from genai.config.loading import load

    loaded = load(config, EmbedFinetuneConfig, overrides)
    if dry_run:
        from genai.jobs import embed_finetune_plan

        plan = embed_finetune_plan.make_plan(loaded, run_name=run_name, allow_code=allow_code)
        output.result(plan.text(), plan.to_json())
        return
    from genai.jobs import embed_finetune
    from genai.jobs.embed_finetune_result import EmbedFinetuneResult

    result = run_training(
        "embed_finetune",
        embed_finetune.run,
        EmbedFinetuneResult.from_json,
        loaded,
        nproc=nproc,
        run_name=run_name,
        allow_code=allow_code,
        output=output,
    )
    output.result(_summary(result), result.to_json())
    if output.as_json and result.promotion.promoted is False:
        raise click.exceptions.Exit(_GATE_NOT_MET)  # one JSON object is enough: it says why
    embed_finetune.check_promotion(result)


# --- what is shown ----------------------------------------------------------------------------------------------------


def _summary(result: EmbedFinetuneResult) -> str:
    lines = [*_data(result), *_followed(result.promotion), *_places(result)]
    parts = [_measures(result), *_shorter(result.shorter), _forgetting(result), _search(result.search), _aligned(lines)]
    return "\n\n".join(part for part in parts if part)


def _measures(result: EmbedFinetuneResult) -> str:
    if not result.changes:
        return ""
    head = f"{result.num_queries:,} held-out queries over {result.num_passages:,} documents:"
    moved = f"{result.num_won:,} queries find their answer further up, {result.num_lost:,} further down"
    return f"{head}\n{_table(result.changes)}\n{moved}; * where the 95 % interval leaves 0 out"


def _shorter(shorter: Mapping[int, Sequence[MetricChange]]) -> Iterator[str]:
    for dimension, changes in sorted(shorter.items(), reverse=True):
        yield f"Vectors cut to {dimension} numbers, before and after:\n{_table(changes)}"


def _forgetting(result: EmbedFinetuneResult) -> str:
    return f"General set, to see what is forgotten:\n{_table(result.forgetting)}" if result.forgetting else ""


def _table(changes: Sequence[MetricChange]) -> str:
    rows: list[list[object]] = [
        [
            change.metric,
            f"{change.before:.3f}",
            f"{change.after:.3f}",
            f"{change.difference:+.3f}",
            f"{change.low:+.3f} to {change.high:+.3f}{' *' if _is_clear(change) else ''}",
        ]
        for change in changes
    ]
    return format_table(["metric", "before", "after", "difference", "95 % interval"], rows)


def _is_clear(change: MetricChange) -> bool:
    """Whether the interval of the difference leaves 0 out."""
    return change.low > 0 or change.high < 0


def _search(search: SearchResult | None) -> str:
    if search is None:
        return ""
    rows: list[list[object]] = [
        [
            trial.run,
            ", ".join(f"{key}={value}" for key, value in trial.settings.items()),
            trial.max_duration,
            None if trial.score is None else f"{trial.score:.4f}",
            f"{trial.seconds:.0f}",
        ]
        for trial in search.trials
    ]
    ended = "the budget ended the search" if search.out_of_time else "all rounds were run"
    table = format_table(["trial", "settings", "length", search.metric, "seconds"], rows)
    failed = [f"{trial.run} failed: {printable(trial.fault)}" for trial in search.trials if trial.fault is not None]
    head = f"{len(search.trials)} trials, compared by the validation queries; {ended}:"
    return "\n".join([head, table, *failed, f"{search.winner} has won; its job file: {search.config}"])


def _data(result: EmbedFinetuneResult) -> Iterator[tuple[str, str]]:
    removed = f", {result.num_near_duplicates:,} that resemble held-out ones left out"
    yield "pairs", f"{result.num_pairs:,}{removed if result.num_near_duplicates else ''}"
    if result.made is not None:
        yield "queries", _made(result.made)
    if result.negatives is not None:
        yield "negatives", _mined(result.negatives)


def _made(made: MadeCounts) -> str:
    words = f"{made.num_made:,} made of {made.num_passages:,} passages by {made.method}"
    kept = f"{made.num_round_trip:,} find their passage"
    kept += f", {made.num_judged:,} kept by the judge" if made.num_judged != made.num_round_trip else ""
    cost = f", {made.usd:.2f} USD" if made.usd else ""
    return f"{words}: {kept} ({made.yield_share:.0%}{cost})"


def _mined(mined: MinedNegatives) -> str:
    scores = f"score {mined.mean_score:.3f} beside {mined.mean_positive_score:.3f} of the positives"
    times = f", mined {mined.times} times" if mined.times > 1 else ""
    missing = f", {mined.share_missing:.0%} of the places filled at random" if mined.share_missing else ""
    return f"{mined.num_negatives} a query, {scores}; {mined.share_excluded:.0%} left out as answers{missing}{times}"


def _followed(promotion: Promotion) -> Iterator[tuple[str, str]]:
    if promotion.promoted is not None:
        yield "promoted", f"{'yes' if promotion.promoted else 'no'}: {promotion.reason}"
    if promotion.registered is not None:
        alias = f", which {promotion.alias} now names" if promotion.alias else ""
        yield "registry", f"{promotion.registered}{alias}"
    if promotion.index is not None:
        yield "index", f"{promotion.index} answers with it{_pairs(promotion.index_metrics)}"
    if promotion.onnx is not None:
        yield "onnx", f"{promotion.onnx}{_pairs(promotion.onnx_metrics)}"


def _pairs(metrics: Mapping[str, tuple[float, float]] | None) -> str:
    if not metrics:
        return ""
    return f" ({', '.join(f'{name} {before:.3f} -> {after:.3f}' for name, (before, after) in metrics.items())})"


def _places(result: EmbedFinetuneResult) -> Iterator[tuple[str, str]]:
    yield "model", result.model
    if result.adapter is not None:
        yield "adapter", result.adapter
    yield "report", result.report
    speed = f"{result.batches:,} steps, {result.pairs_per_s:,.1f} pairs/s, {result.train_cpu_s:,.0f} CPU-seconds"
    # A run that went on was trained by processes before this one.
    whole = f" of {result.total_s / 60:.1f}" if result.total_s > result.train_s else ""
    yield "training", f"{result.train_s / 60:.1f} min{whole} ({speed})"
    yield "use it", _usage(result)


def _usage(result: EmbedFinetuneResult) -> str:
    """What to write into the job file of an index."""
    registered, alias = result.promotion.registered, result.promotion.alias
    name = registered.partition("@")[0] if registered else None
    reference = f"registry:{name}@{alias}" if name and alias else f"runs:{result.run}"
    if result.kind == "cross_encoder":
        return f"search: {{reranker: {{name: cross_encoder, model: {reference}}}}} in the job file of an index"
    return f"embedding: {{model: {reference}}} in the job file of an index"


def _aligned(lines: Sequence[tuple[str, Any]]) -> str:
    return "\n".join(f"{name:<9} {printable(text)}" for name, text in lines)
