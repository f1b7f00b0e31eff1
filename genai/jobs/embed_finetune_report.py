"""Gathers what a tuning run did into its report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from genai.config.embed_finetune import EmbedFinetuneConfig
from genai.config.loading import Loaded
from genai.data.retrieval.records import RetrievalData
from genai.jobs.embed_finetune_data import MADE_FILE
from genai.jobs.embed_finetune_result import EmbedFinetuneResult
from genai.jobs.training_report import outcomes, warnings_of
from genai.report.contents import (
    DroppedQuery,
    LeakedPair,
    PairSample,
    RetrievalReport,
    TrialRow,
)
from genai.report.retrieval import render_retrieval_report
from genai.storage.atomic import write_text
from genai.tracking.metrics import read_metrics
from genai.tracking.run import RunDirectory
from genai.training.proofs.result import ProofResult

if TYPE_CHECKING:
    from genai.jobs.embed_finetune_parts import Parts

_NUM_LEAKED = 20


def write(
    directory: RunDirectory,
    loaded: Loaded[EmbedFinetuneConfig],
    parts: Parts,
    proofs: Sequence[ProofResult],
    samples: Sequence[PairSample],
    result: EmbedFinetuneResult,
) -> None:
    """Write the report of a run.

    Args:
        directory: of the run.
        loaded: the job file.
        parts: what it was made of.
        proofs: what was checked before the first step.
        samples: rows with the scores that they had then.
        result: what became of it.
    """
    _write(
        directory,
        loaded,
        parts.data,
        result,
        proofs=proofs,
        samples=samples,
        metrics=directory,
        inputs=parts.fingerprints,
    )


def write_of_search(
    directory: RunDirectory,
    loaded: Loaded[EmbedFinetuneConfig],
    data: RetrievalData,
    winner: RunDirectory,
    result: EmbedFinetuneResult,
) -> None:
    """Write the report of a run with `search`: its trials, and the training of the one that has won.

    Args:
        directory: of the run.
        loaded: the job file.
        data: what all trials were trained and measured with.
        winner: directory of the trial that has won.
        result: what became of it.
    """
    _write(directory, loaded, data, result, proofs=(), samples=(), metrics=winner, inputs=directory.read_inputs() or {})


def _write(
    directory: RunDirectory,
    loaded: Loaded[EmbedFinetuneConfig],
    data: RetrievalData,
    result: EmbedFinetuneResult,
    *,
    proofs: Sequence[ProofResult],
    samples: Sequence[PairSample],
    metrics: RunDirectory,
    inputs: Mapping[str, Any],
) -> None:
    config, promotion = loaded.config, result.promotion
    report = RetrievalReport(
        run_name=directory.name,
        job="embed-finetune",
        model=config.model.pretrained_model_name_or_path,
        data=str(config.data.pairs or (config.data.corpus.path if config.data.corpus else "")),
        started_at=directory.status.created_at,
        facts=_facts(result),
        changes=result.changes,
        num_queries=result.num_queries,
        shorter=result.shorter,
        validation=result.validation,
        forgetting=result.forgetting,
        metrics=read_metrics(metrics.metrics_path),
        trials=_trials(result),
        trials_metric="" if result.search is None else result.search.metric,
        won=result.won,
        lost=result.lost,
        num_won=result.num_won,
        num_lost=result.num_lost,
        data_facts=_data_facts(result, data),
        made_facts=_made_facts(result),
        dropped=_dropped(directory),
        negative_facts=_negative_facts(result),
        leaked=[
            LeakedPair(train=each.train, held_out=each.held_out, similarity=each.similarity, text=each.text)
            for each in data.near_duplicates[:_NUM_LEAKED]
        ],
        num_leaked=len(data.near_duplicates),
        samples=samples,
        proofs=outcomes(proofs),
        promoted=promotion.promoted,
        promotion_reason=promotion.reason if promotion.promoted is not None else "",
        followed=_followed(result),
        warnings=warnings_of(result.inexact_reasons),
        config=loaded.dump(),
        inputs=inputs,
        environment=directory.read_environment() or {},
    )
    write_text(directory.report, render_retrieval_report(report))


def _facts(result: EmbedFinetuneResult) -> dict[str, str]:
    return {
        "steps": f"{result.batches:,}",
        "tokens": f"{result.tokens:,}",
        "pairs a second": f"{result.pairs_per_s:,.1f}",
        "training": f"{result.train_s / 60:.1f} min",
        "CPU-seconds of training": f"{result.train_cpu_s:,.0f}",
        "resumes": "bit-equal" if result.exact else "not exact",
    }


def _data_facts(result: EmbedFinetuneResult, data: RetrievalData) -> dict[str, str]:
    return {
        "training pairs": f"{result.num_pairs:,}",
        "passages searched": f"{result.num_passages:,}",
        "validation queries": f"{len(data.validation):,}",
        "test queries": f"{result.num_queries:,}",
        "left out, like held-out ones": f"{result.num_near_duplicates:,}",
    }


def _made_facts(result: EmbedFinetuneResult) -> dict[str, str]:
    made = result.made
    if made is None:
        return {}
    return {
        "made by": made.method,
        "passages": f"{made.num_passages:,}",
        "queries made": f"{made.num_made:,}",
        "found again": f"{made.num_round_trip:,}",
        "kept": f"{made.num_judged:,} ({made.yield_share:.0%})",
        "cost": f"{made.usd:.2f} USD",
    }


def _dropped(directory: RunDirectory) -> list[DroppedQuery]:
    path = directory.path / MADE_FILE
    if not path.is_file():
        return []
    values = json.loads(path.read_bytes())["dropped"]
    return [DroppedQuery(query=each["query"], passage=each["text"], reason=each["reason"]) for each in values]


def _negative_facts(result: EmbedFinetuneResult) -> dict[str, str]:
    mined = result.negatives
    if mined is None:
        return {}
    return {
        "negatives a query": f"{mined.num_negatives}",
        "their mean score": f"{mined.mean_score:.3f}",
        "that of positives": f"{mined.mean_positive_score:.3f}",
        "left out as probable answers": f"{mined.share_excluded:.0%}",
        "filled at random": f"{mined.share_missing:.0%}",
        "mined": f"{mined.times} times",
    }


def _trials(result: EmbedFinetuneResult) -> list[TrialRow]:
    if result.search is None:
        return []
    return [
        TrialRow(
            name=trial.run,
            settings={key: str(value) for key, value in trial.settings.items()},
            round=trial.round,
            length=trial.max_duration,
            score=trial.score,
            time_s=trial.seconds,
            fault=trial.fault or "",
            has_won=trial.run == result.search.winner,
        )
        for trial in result.search.trials
    ]


def _followed(result: EmbedFinetuneResult) -> dict[str, str]:
    promotion = result.promotion
    found = {
        "registry": f"{promotion.registered}, {promotion.alias}" if promotion.registered else None,
        "index": promotion.index,
        "int8 ONNX": promotion.onnx,
        **{f"index, {name}": _both(both) for name, both in (promotion.index_metrics or {}).items()},
        **{f"int8 ONNX, {name}": _both(both) for name, both in (promotion.onnx_metrics or {}).items()},
    }
    return {name: text for name, text in found.items() if text is not None}


def _both(values: tuple[float, float]) -> str:
    return f"{values[0]:.3f} -> {values[1]:.3f}"
