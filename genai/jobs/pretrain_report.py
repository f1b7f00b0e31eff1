"""Gathers what a pretraining run did into its report.html."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from genai.config.loading import Loaded
from genai.config.pretrain import PretrainConfig
from genai.jobs.pretrain_parts import Parts
from genai.jobs.pretrain_result import PretrainResult
from genai.jobs.training_report import outcomes, warnings_of
from genai.report.contents import LossRow, TrainingReport
from genai.report.training import render_training_report
from genai.storage.atomic import write_text
from genai.tracking.metrics import Record, read_metrics
from genai.tracking.run import RunDirectory
from genai.training.proofs.result import ProofResult


def write(
    directory: RunDirectory,
    loaded: Loaded[PretrainConfig],
    parts: Parts,
    proofs: Sequence[ProofResult],
    result: PretrainResult,
) -> None:
    """Write the run's report."""
    metrics = read_metrics(directory.metrics_path)
    report = TrainingReport(
        run_name=directory.name,
        job="pretrain",
        model=f"{parts.architecture.name}, {result.num_parameters / 1e6:,.1f} M parameters",
        data=parts.inputs.train.described,
        started_at=directory.status.created_at,
        facts=_facts(result),
        losses=list(_losses(parts, metrics, result)),
        metrics=metrics,
        data_facts=_data_facts(parts),
        proofs=outcomes(proofs),
        warnings=warnings_of(result.inexact_reasons),
        config=loaded.dump(),
        inputs=parts.fingerprints,
        environment=directory.read_environment() or {},
    )
    write_text(directory.report, render_training_report(report))


def _facts(result: PretrainResult) -> dict[str, str]:
    facts = {
        "steps": f"{result.batches:,}",
        "tokens": f"{result.tokens:,}",
        "tokens a second": f"{result.tokens_per_s:,.0f}",
        "devices": f"{result.num_ranks}",
        "training": f"{result.train_s / 60:.1f} min",
        "resumes": "bit-equal" if result.exact else "not exact",
    }
    if result.perplexity is not None:
        facts = {"held-out perplexity": f"{result.perplexity:,.2f}", **facts}
    return facts


def _losses(parts: Parts, metrics: Sequence[Record], result: PretrainResult) -> Iterator[LossRow]:
    if result.eval_loss is None:
        return
    yield LossRow(name="all tokens alike", loss=math.log(parts.architecture.vocab_size))
    first = next((record for record in metrics if "loss/eval" in record), None)
    if first is not None and first["step"] < result.batches:
        yield LossRow(name=f"after {int(first['step']):,} steps", loss=first["loss/eval"])
    yield LossRow(name=f"after {result.batches:,} steps", loss=result.eval_loss)


def _data_facts(parts: Parts) -> dict[str, str]:
    train, evaluation = parts.inputs.train, parts.inputs.evaluation
    facts = {
        "streams": train.described,
        "rows an epoch": f"{train.num_samples:,} of {parts.config.max_seq_len:,} tokens",
        "shards": f"{train.num_shards:,}, {train.size_bytes / 2**20:,.1f} MiB",
    }
    if evaluation is not None:
        facts["held out"] = f"{evaluation.num_samples:,} rows of {evaluation.described}"
    return facts
