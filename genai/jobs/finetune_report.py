"""Gathers what a fine-tuning run did into its report.html."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genai.config.finetune import FinetuneConfig
from genai.config.loading import Loaded
from genai.jobs.finetune_parts import Parts
from genai.jobs.result import FinetuneResult
from genai.jobs.training_report import outcomes, warnings_of
from genai.report.contents import AnswerPair, LabelSample, Lengths, LossRow, TrainingReport
from genai.report.training import render_training_report
from genai.storage.atomic import write_text
from genai.tracking.metrics import read_metrics
from genai.tracking.run import RunDirectory
from genai.training.proofs.result import ProofResult

_BINS = 30


def write(
    directory: RunDirectory,
    loaded: Loaded[FinetuneConfig],
    parts: Parts,
    proofs: Sequence[ProofResult],
    result: FinetuneResult,
) -> None:
    """Write the run's report."""
    report = TrainingReport(
        run_name=directory.name,
        model=parts.resolved.reference,
        data=str(loaded.config.train_loader.dataset.path or loaded.config.train_loader.dataset.hf_name),
        started_at=directory.status.created_at,
        facts=_facts(result),
        losses=_losses(result),
        metrics=read_metrics(directory.metrics_path),
        answers=[AnswerPair(prompt=a.prompt, expected=a.expected, base=a.base, tuned=a.tuned) for a in result.answers],
        data_facts=_data_facts(parts),
        lengths=_lengths(parts),
        labels=[sample for proof in proofs for sample in _samples(proof)],
        proofs=outcomes(proofs),
        warnings=warnings_of(result.inexact_reasons),
        config=loaded.dump(),
        inputs=parts.fingerprints,
        environment=directory.read_environment() or {},
    )
    write_text(directory.report, render_training_report(report))


def _facts(result: FinetuneResult) -> dict[str, str]:
    return {
        "steps": f"{result.batches:,}",
        "tokens": f"{result.tokens:,}",
        "trained tokens": f"{result.trained_tokens:,}",
        "tokens a second": f"{result.tokens_per_s:,.0f}",
        "training": f"{result.train_s / 60:.1f} min",
        "resumes": "bit-equal" if result.exact else "not exact",
    }


def _losses(result: FinetuneResult) -> list[LossRow]:
    losses = result.losses
    shots = f"base with {losses.num_shots} examples in its prompt"
    named = [("base", losses.before), (shots, losses.before_with_shots), ("tuned", losses.after)]
    return [LossRow(name=name, loss=loss) for name, loss in named if loss is not None]


def _data_facts(parts: Parts) -> dict[str, str]:
    tokens = parts.train_tokens
    trained = int(tokens.trained_counts.sum())
    facts = {
        "training rows": f"{len(tokens):,}",
        "tokens": f"{tokens.num_tokens:,}",
        "trained tokens": f"{trained:,} ({trained / tokens.num_tokens:.0%})",
        "longer than max_seq_len": f"{int(tokens.truncated.sum()):,}",
    }
    if parts.eval_tokens is not None:
        facts["evaluation rows"] = f"{len(parts.eval_tokens):,}"
    return facts


def _lengths(parts: Parts) -> Lengths:
    counts, edges = np.histogram(parts.train_tokens.lengths, bins=_BINS)
    return Lengths(edges=edges.tolist(), counts=counts.tolist(), max_seq_len=parts.config.max_seq_len)


def _samples(proof: ProofResult) -> list[LabelSample]:
    return [
        LabelSample(
            title=example.source,
            tokens=[(piece.text, piece.trained) for piece in example.pieces],
            num_tokens=sum(piece.num_tokens for piece in example.pieces),
            num_trained_tokens=sum(piece.num_tokens for piece in example.pieces if piece.trained),
        )
        for example in proof.examples
    ]
