"""The proofs of a tuning job before step 1: the disk, what is learnt shown for the eye, the gradient, the export."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genai.errors import Problem
from genai.jobs.training_proofs import disk_needs
from genai.log import get_logger
from genai.report.contents import PairSample
from genai.storage.atomic import cache_dir
from genai.tracking.run import RunDirectory
from genai.training.proofs.disk import prove_disk
from genai.training.proofs.probe import undisturbed
from genai.training.proofs.result import ProofResult, refuted
from genai.training.proofs.runner import Proof, run_proofs

if TYPE_CHECKING:
    from genai.embedding.tuning.interfaces import PairBatch
    from genai.jobs.embed_finetune_parts import Parts

GRADIENT_TOLERANCE = 1e-3
"""Largest norm of the difference of two gradients, as a share of their norm, that is put down to rounding."""
VECTOR_TOLERANCE = 0.02
"""Largest distance of a vector of the exported model from that of the one in training, which may round to bfloat16."""
_SHOWN = 3
_BATCHES_SEEN = 8
_ROWS_COMPARED = 6
_TEXTS_COMPARED = 8
_log = get_logger(__name__)


def prove(parts: Parts, directory: RunDirectory) -> tuple[tuple[ProofResult, ...], tuple[PairSample, ...]]:
    """Carry out the proofs that the job file asks for.

    Returns:
        how each ended, and rows with the scores of the model as it is.

    Raises:
        GateError: one is refuted; the job must not start.
    """
    config = parts.config
    needs = disk_needs(config, parts.model, directory.path)
    proofs = [Proof(name="disk", prove=lambda: prove_disk(needs), remember=False)]
    samples: list[PairSample] = []
    if config.proofs.labels:
        proofs.append(Proof(name="labels", prove=lambda: _prove_labels(parts, samples), remember=False))
    if config.proofs.gradient:
        proofs.append(Proof(name="gradient", prove=lambda: _prove_gradient(parts), remember=False))
    if config.proofs.export:
        proofs.append(Proof(name="export", prove=lambda: _prove_export(parts, directory), remember=False))
    results = run_proofs(proofs, key="embed-finetune", cache_dir=cache_dir())
    return results, tuple(samples)


# --- what is learnt ---------------------------------------------------------------------------------------------------


def _prove_labels(parts: Parts, samples: list[PairSample]) -> ProofResult:
    """Show some rows with the scores of the model as it is, and the batch whose negatives outscore its positives most.

    Args:
        parts: of the run.
        samples: takes the rows that are shown.

    Raises:
        GateError: a query is its own document everywhere, so that there is nothing to learn.
    """
    started = time.perf_counter()
    batches = list(parts.first_batches(_BATCHES_SEEN))
    scored = list(zip(batches, parts.base_scores(batches), strict=True))
    same = [parts.queries[pair] == parts.passages[row[0]] for batch, _ in scored for pair, row in _rows(batch)]
    if same and all(same):
        message = "every query is, letter by letter, the document that answers it: there is nothing to learn"
        fix = "look at data.columns: query and positive name the same text"
        raise refuted([Problem(message=message, where="data.columns", fix=fix)])
    samples += [_sample(parts, *row) for row in _hardest(scored)]
    for sample in samples:
        _log.info("%s", _shown(sample))
    return ProofResult(
        name="labels",
        seconds=time.perf_counter() - started,
        details=(_summary(scored),),
        numbers={"share_outscored": _outscored(scored)},
    )


def _rows(batch: PairBatch) -> list[tuple[int, list[int]]]:
    return [(int(pair), row.tolist()) for pair, row in zip(batch.pairs, batch.passages, strict=True)]


def _outscored(scored: list[tuple[PairBatch, np.ndarray]]) -> float:
    """Share of the rows in which a negative scores above the positive."""
    rows = np.concatenate([scores for _, scores in scored])
    return float((rows[:, 1:] > rows[:, :1]).any(axis=1).mean()) if rows.shape[1] > 1 else 0.0


def _summary(scored: list[tuple[PairBatch, np.ndarray]]) -> str:
    rows = np.concatenate([scores for _, scores in scored])
    text = f"{len(rows)} rows looked at: positives score {rows[:, 0].mean():.3f} in the mean"
    if rows.shape[1] == 1:
        return f"{text}; negatives are the other documents of the batch"
    worst = max(range(len(scored)), key=lambda place: _outscored([scored[place]]))
    share = _outscored([scored[worst]])
    return (
        f"{text}, negatives {rows[:, 1:].mean():.3f}; in {_outscored(scored):.0%} of the rows a negative outscores the "
        f"positive, most in batch {worst + 1} ({share:.0%})"
    )


def _hardest(scored: list[tuple[PairBatch, np.ndarray]]) -> list[tuple[int, list[int], list[float]]]:
    """Rows of the batch whose negatives outscore its positives most, the worst first."""
    batch, scores = max(scored, key=lambda each: _outscored([each]))
    lead = scores[:, 1:].max(axis=1, initial=-np.inf) - scores[:, 0] if scores.shape[1] > 1 else -scores[:, 0]
    order = np.argsort(-lead, kind="stable")[:_SHOWN]
    return [(int(batch.pairs[row]), batch.passages[row].tolist(), scores[row].tolist()) for row in order]


def _sample(parts: Parts, pair: int, row: list[int], scores: list[float]) -> PairSample:
    rows = list(zip(row, scores, strict=True))
    return PairSample(
        title=parts.data.train[pair].source or f"pair {pair + 1}",
        query=parts.queries[pair],
        positive=parts.passages[row[0]],
        positive_score=scores[0],
        negatives=[(parts.passages[place], score) for place, score in rows[1:]],
    )


def _shown(sample: PairSample) -> str:
    """What is learnt, for the eye."""
    rows = [("positive", sample.positive, sample.positive_score)]
    rows += [("negative", text, score) for text, score in sample.negatives]
    lines = [f"{sample.title} is learnt:", f"query            {_short(sample.query)}"]
    return "\n  ".join([*lines, *(f"{name} {score:+.3f}  {_short(text)}" for name, text, score in rows)])


def _short(text: str, limit: int = 110) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


# --- the gradient -----------------------------------------------------------------------------------------------------


def _prove_gradient(parts: Parts) -> ProofResult:
    """Compare the gradient of a few rows at once with that of two at a time, in float32.

    Raises:
        GateError: the two differ, or there is no gradient at all.
    """
    started = time.perf_counter()
    batch = parts.first_rows(_ROWS_COMPARED)
    count = len(batch.pairs)
    with undisturbed(parts.model), _in_float32(parts.model):
        parts.loss.accumulate(batch, count, alone)
        gradients = [p.grad for p in parts.model.parameters() if p.grad is not None]
        norm = _norm(gradients)
        # The second gradient is added to the first one's negative.
        for gradient in gradients:
            gradient.neg_()
        parts.loss.accumulate(batch, 2, alone)
        difference = _norm(gradients) / norm if norm else math.nan
    if not (math.isfinite(norm) and norm > 0):
        message = f"the gradient of {count} rows has the norm {norm:g}: nothing would be learnt"
        fix = "look at the loss and at what is trained (model.peft_config)"
        raise refuted([Problem(message=message, where="proofs.gradient", fix=fix)])
    # Written so that NaN is a failure.
    if not difference <= GRADIENT_TOLERANCE:
        message = f"the gradient depends on how a batch is cut: it differs by {difference:.2g} of its norm"
        fix = "set device_train_microbatch_size to global_train_batch_size, so that nothing is cut"
        raise refuted([Problem(message=message, where="proofs.gradient", fix=fix)])
    return ProofResult(
        name="gradient",
        seconds=time.perf_counter() - started,
        details=(
            f"{count} rows at once and 2 at a time give the same gradient within {difference:.1e} of its norm, in "
            "float32",
        ),
        numbers={"relative_difference": difference, "gradient_norm": norm},
    )


@contextmanager
def _in_float32(model: Any) -> Iterator[None]:
    """No product is rounded within the block."""
    precision, model.precision = model.precision, "fp32"
    try:
        yield
    finally:
        model.precision = precision


def alone(rows: torch.Tensor, rows_by_rank: object) -> torch.Tensor:
    """What all ranks have, where there is one."""
    return rows.detach()


def _norm(gradients: list[torch.Tensor]) -> float:
    return math.sqrt(sum(float(torch.linalg.vector_norm(gradient)) ** 2 for gradient in gradients))


# --- the export -------------------------------------------------------------------------------------------------------


def _prove_export(parts: Parts, directory: RunDirectory) -> ProofResult:
    """Write the model, open it as whoever uses it will, and compare what both say.

    Raises:
        GateError: they differ.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=".proof-", dir=directory.path) as scratch:
        folder = Path(scratch) / "model"
        parts.save(folder, adapter=Path(scratch) / "adapter")
        difference = parts.distance_to(folder, _TEXTS_COMPARED)
    if not difference <= VECTOR_TOLERANCE:
        message = f"the model that is written says something else than the one in training: {difference:.2g} apart"
        raise refuted(
            [Problem(message=message, where="proofs.export", fix="this is a fault of genai: please report it")]
        )
    return ProofResult(
        name="export",
        seconds=time.perf_counter() - started,
        details=(f"written, opened again, and within {difference:.1e} of the model in training",),
        numbers={"distance": difference},
    )
