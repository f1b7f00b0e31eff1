"""The model before and after: on held-out queries over the whole corpus, on a general set, with vectors cut short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genai.config.embed_finetune import CrossEncoderConfig, EmbedFinetuneConfig
from genai.config.embedding import EmbeddingConfig, RerankerConfig
from genai.data.retrieval.records import HeldOutQuery, Passage
from genai.embedding.opening import open_encoder, open_reranker
from genai.embedding.tuning.measuring import (
    Embeddings,
    Measured,
    changes,
    examples,
    from_pairs,
    measure,
    measure_reranker,
)
from genai.jobs.embed_finetune_base import base_vectors
from genai.jobs.passage_neighbours import passage_neighbours
from genai.jobs.text_vectors import KeptVectors
from genai.report.contents import MetricChange, MovedQuery
from genai.storage.atomic import cache_dir
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.jobs.embed_finetune_parts import Parts


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became better, and what worse."""

    test: tuple[MetricChange, ...]
    validation: tuple[MetricChange, ...]
    forgetting: tuple[MetricChange, ...]
    shorter: Mapping[int, tuple[MetricChange, ...]]
    won: tuple[MovedQuery, ...]
    lost: tuple[MovedQuery, ...]
    num_won: int
    num_lost: int


def compare(parts: Parts, directory: RunDirectory) -> Outcome:
    """Measure the model that was loaded and the one that was written, both as whoever uses them opens them.

    Args:
        parts: of the run.
        directory: holds the model.
    """
    data = parts.data
    groups = [data.test, data.validation] if data.validation else [data.test]
    (before, after), *rest = _measure(parts, directory, data.passages, groups)
    shown = examples(before, after, data.passages, data.test, count=parts.config.evaluation.num_examples)
    return Outcome(
        test=changes(before, after),
        validation=changes(*rest[0]) if rest else (),
        forgetting=_forgetting(parts, directory),
        shorter=_shorter(parts, directory),
        won=shown.won,
        lost=shown.lost,
        num_won=shown.num_won,
        num_lost=shown.num_lost,
    )


def _metrics(config: EmbedFinetuneConfig) -> list[str]:
    """What is measured, the measure that `search` goes by among it."""
    wanted = [*config.evaluation.metrics, *([config.search.metric] if config.search else [])]
    return list(dict.fromkeys(wanted))


def _tuned_vectors(parts: Parts, directory: RunDirectory) -> KeptVectors:
    """Vectors by the encoder that was written."""
    config = parts.config
    encoder = open_encoder(EmbeddingConfig(model=str(directory.model)), num_threads=config.num_threads)
    return KeptVectors(encoder, cache_dir() / "vectors")


def _measure(
    parts: Parts, directory: RunDirectory, passages: Sequence[Passage], groups: Sequence[Sequence[HeldOutQuery]]
) -> list[tuple[Measured, Measured]]:
    """Before and after, for each group of queries."""
    config = parts.config
    first = _searched(config, base_vectors(config), passages, groups)
    if not isinstance(config.model, CrossEncoderConfig):
        return list(zip(first, _searched(config, _tuned_vectors(parts, directory), passages, groups), strict=True))
    # An encoder that got a new head is no reranker before: there is the order of the first stage.
    before = first
    if parts.base_reranker is not None:
        before = _reranked(config, config.model, parts.base_reranker, first, passages, groups)
    after = _reranked(config, config.model, str(directory.model), first, passages, groups)
    return list(zip(before, after, strict=True))


def _searched(
    config: EmbedFinetuneConfig,
    vectors: KeptVectors,
    passages: Sequence[Passage],
    groups: Sequence[Sequence[HeldOutQuery]],
    *,
    dimension: int | None = None,
) -> list[Measured]:
    """What an encoder finds; the corpus is embedded once."""
    corpus = vectors.embed_documents([passage.text for passage in passages])
    return [
        measure(
            vectors,
            passages,
            queries,
            metrics=_metrics(config),
            neighbours_of=passage_neighbours(),
            dimension=dimension,
            vectors=Embeddings(passages=corpus, queries=vectors.embed_queries([query.query for query in queries])),
        )
        for queries in groups
    ]


def _reranked(
    config: EmbedFinetuneConfig,
    model: CrossEncoderConfig,
    reference: str,
    first: Sequence[Measured],
    passages: Sequence[Passage],
    groups: Sequence[Sequence[HeldOutQuery]],
) -> list[Measured]:
    """What a reranker makes of the first stage's results."""
    scorer = open_reranker(RerankerConfig(model=reference), runs_dir=config.runs_dir, num_threads=config.num_threads)
    return [
        measure_reranker(scorer, found, passages, queries, candidates=model.candidates, metrics=_metrics(config))
        for found, queries in zip(first, groups, strict=True)
    ]


def _forgetting(parts: Parts, directory: RunDirectory) -> tuple[MetricChange, ...]:
    """On pairs of other subjects: their positives are the corpus."""
    if not parts.inputs.general:
        return ()
    passages, queries = from_pairs(parts.inputs.general)
    [(before, after)] = _measure(parts, directory, passages, [queries])
    return changes(before, after)


def _shorter(parts: Parts, directory: RunDirectory) -> dict[int, tuple[MetricChange, ...]]:
    """The test queries again with vectors cut to each dimension of `matryoshka`."""
    config, data, found = parts.config, parts.data, {}
    for dimension in () if config.matryoshka is None else config.matryoshka.dimensions:
        if dimension >= parts.model.width:
            continue
        [before], [after] = (
            _searched(config, vectors, data.passages, [data.test], dimension=dimension)
            for vectors in (base_vectors(config), _tuned_vectors(parts, directory))
        )
        found[dimension] = changes(before, after)
    return found
