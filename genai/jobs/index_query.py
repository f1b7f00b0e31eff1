"""`genai index query`: asks an index, or measures how well it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from genai.errors import UsageError
from genai.jobs.index_parts import open_index

if TYPE_CHECKING:
    from genai.index.evaluation import Evaluation
    from genai.index.requests import Mode
    from genai.index.search import Index, Result


@dataclass(frozen=True, kw_only=True)
class QueryRequest:
    """How the command line asks; what is None is as the index's config has it."""

    name: str
    """Of the index."""
    indexes_dir: Path
    """Where indexes lie."""
    k: int | None = None
    """Results."""
    mode: Literal["dense", "bm25", "hybrid"] | None = None
    """By vectors, by words, or both."""
    filters: tuple[str, ...] = ()
    """All of them must pass."""
    tenant: str | None = None
    """Whose chunks."""
    columns: tuple[str, ...] | None = None
    """Metadata to give back."""
    threshold: float | None = None
    """Lowest score."""
    rerank: bool | None = None
    """Whether the reranker puts the results in order."""
    allow_code: bool = False
    """Whether the encoder may bring its own Python."""

    def open(self) -> Index:
        """The index that is asked."""
        return open_index(self.name, self.indexes_dir, allow_code=self.allow_code, rerank=self.rerank)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The answer to one query."""

    index: str
    query: str
    mode: str
    generation: str
    results: tuple[Result, ...]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


def run(request: QueryRequest, text: str) -> Found:
    """Ask one question.

    Raises:
        UsageError: there is no such index, or it cannot be asked this.
    """
    if not text.strip():
        raise UsageError("the query is empty", fix=f"write what to look for: genai index query {request.name} 'WORDS'")
    with request.open() as index:
        (results,) = index.search(
            [text],
            k=request.k,
            mode=request.mode,
            filter=request.filters or None,
            tenant=request.tenant,
            columns=request.columns,
            score_threshold=request.threshold,
            rerank=request.rerank,
        )
        return Found(
            index=request.name,
            query=text,
            mode=request.mode or index.config.search.mode,
            generation=index.generation().name,
            results=tuple(results),
        )


@dataclass(frozen=True, kw_only=True)
class MeasuredMode:
    """How well one way to search finds what it should."""

    name: str
    """dense, bm25 or hybrid; "+ reranker" where one had the last word."""
    metrics: Mapping[str, float]
    """Mean over the queries."""
    intervals: Mapping[str, tuple[float, float]]
    """Where that mean would lie for other queries of the kind, with 95 % confidence."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How well an index finds what it should."""

    index: str
    generation: str
    queries: str
    """The file."""
    num_queries: int
    modes: tuple[MeasuredMode, ...]
    tuning: Mapping[str, Any] | None
    """What `--tune` tried and chose."""

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


def evaluate(request: QueryRequest, queries: Path, *, tune: bool = False) -> Measured:
    """Ask all questions of a file, in every mode or in the one that is asked for, and measure what is found.

    Args:
        request: which index, mode, and whether to rerank; filters and tenants stand in the file.
        queries: see `genai.index.labelled_queries`.
        tune: also find the best way to fuse in mode hybrid.

    Raises:
        UsageError: there is no such index, the file cannot be read, or a setting has no place here.
    """
    from genai.index import evaluation, tuning
    from genai.index.labelled_queries import read_queries
    from genai.index.requests import MODES

    _refuse_idle(request)
    labelled = read_queries(str(queries))
    with request.open() as index:
        modes: Sequence[Mode] = [request.mode] if request.mode else MODES
        measured = evaluation.evaluate(index, labelled, modes=modes, rerank=bool(request.rerank))
        return Measured(
            index=request.name,
            generation=index.generation().name,
            queries=str(queries),
            num_queries=len(labelled),
            modes=tuple(_measured(each) for each in measured),
            tuning=asdict(tuning.tune_fusion(index, labelled)) if tune else None,
        )


def _refuse_idle(request: QueryRequest) -> None:
    given: dict[str, object] = {"--filter": request.filters, "--tenant": request.tenant, "--columns": request.columns}
    given |= {"--k": request.k, "--threshold": request.threshold}
    if names := [name for name, value in given.items() if value not in (None, ())]:
        fix = "filter and tenant of a query stand in the file, beside it"
        raise UsageError(f"{names[0]} has no effect with --evaluate", fix=fix)


def _measured(evaluation: Evaluation) -> MeasuredMode:
    return MeasuredMode(
        name=f"{evaluation.mode} + reranker" if evaluation.reranked else evaluation.mode,
        metrics=evaluation.means,
        intervals={name: (interval.low, interval.high) for name, interval in evaluation.intervals.items()},
    )
