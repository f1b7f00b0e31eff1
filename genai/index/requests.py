"""What a query asks for, made of what it says and what the index says, and checked before anything is searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from genai.config.embedding import RerankerConfig
from genai.config.index import ColumnType, IndexConfig
from genai.errors import UsageError
from genai.index.filters import All, Compare, Filter, parse_filter
from genai.index.interfaces import Vectors
from genai.index.ledger_records import Generation
from genai.registry import suggest

Mode = Literal["dense", "bm25", "hybrid"]
MODES: tuple[Mode, ...] = get_args(Mode)
TENANT_COLUMN = "_tenant"
FilterLike = str | Sequence[str] | Mapping[str, Any]
"""What `parse_filter` takes."""
MAX_K = 10_000
"""More results are no search but an export."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """One question, as text, as a vector or as both."""

    text: str | None = None
    """Needed by words and by rerankers that read."""
    vector: Vectors | None = None
    """(dim,), of this index's encoder; by default it is made from the text."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """How a batch of queries is answered."""

    k: int
    """Results a query."""
    mode: Mode
    """dense, bm25 or hybrid."""
    dense_weight: float
    """What the vectors count; the words have the rest: 1 in mode dense, 0 in mode bm25."""
    rrf_k: int
    """hybrid: see `SearchConfig`."""
    num_candidates: int
    """How many results the search has to give, before reranking."""
    depth: int
    """How many results each kind of search has to find, before fusion."""
    filter: Filter | None
    """With the tenant in it."""
    tenant: str | None
    """None where the index has none."""
    columns: frozenset[str] | None
    """Metadata to return; None for all."""
    score_threshold: float | None
    """Of the mode's own score, before reranking."""
    reranker: RerankerConfig | None
    """None: results stay in the order of the search."""

    @property
    def searches_vectors(self) -> bool:
        """Whether chunks are found by their vectors."""
        return self.dense_weight > 0

    @property
    def searches_words(self) -> bool:
        """Whether chunks are found by their words."""
        return self.dense_weight < 1

    @property
    def diversifies(self) -> bool:
        """Whether results are chosen by maximal marginal relevance, which compares vectors."""
        return self.reranker is not None and self.reranker.name == "mmr"

    @property
    def rereads(self) -> bool:
        """Whether a model reads the texts of the results."""
        return self.reranker is not None and not self.diversifies


def make_request(
    config: IndexConfig,
    generation: Generation,
    *,
    k: int | None = None,
    mode: Mode | None = None,
    filter: FilterLike | None = None,
    tenant: str | None = None,
    columns: Sequence[str] | None = None,
    score_threshold: float | None = None,
    rerank: bool | None = None,
) -> Request:
    """Fill in what a query leaves open and check the rest.

    Args:
        config: of the index.
        generation: that answers; it knows the columns, and whether there are tenants.
        k, mode, filter, tenant, columns, score_threshold, rerank: see `Index.search`.

    Raises:
        UsageError: something cannot be asked of this index.
    """
    usual, known = config.search, generation.columns
    mode = mode or usual.mode
    if mode not in MODES:
        raise UsageError(f"no way to search is called '{mode}'", fix=f"known: {', '.join(MODES)}")
    k = usual.k if k is None else k
    if not 1 <= k <= MAX_K:
        raise UsageError(f"a query cannot have {k} results", fix=f"k is between 1 and {MAX_K}")
    if rerank and usual.reranker is None:
        raise UsageError("the index has no reranker", where=config.name, fix="set search.reranker in its config")
    if score_threshold is None and mode == usual.mode:
        score_threshold = usual.score_threshold  # a cosine says nothing of a BM25 score
    reranker = usual.reranker if rerank is None or rerank else None
    num_candidates = k if reranker is None else max(k, reranker.candidates)
    return Request(
        k=k,
        mode=mode,
        dense_weight={"dense": 1.0, "bm25": 0.0}.get(mode, usual.dense_weight),
        rrf_k=usual.rrf_k,
        num_candidates=num_candidates,
        depth=max(num_candidates, usual.candidates) if mode == "hybrid" else num_candidates,
        filter=_with_tenant(config, generation, tenant, parse_filter(filter, known) if filter else None),
        tenant=tenant,
        columns=None if columns is None else frozenset(check_columns(columns, known)),
        score_threshold=score_threshold,
        reranker=reranker,
    )


def check_columns(columns: Sequence[str], known: Mapping[str, ColumnType]) -> Sequence[str]:
    """The columns themselves.

    Raises:
        UsageError: the index lacks one of them; the nearest one is suggested.
    """
    for column in columns:
        if column not in known:
            near = suggest(column, known)
            there = f"it has {', '.join(known)}" if known else "it has none"
            raise UsageError(f"the index has no column '{column}'", fix=f"did you mean '{near}'?" if near else there)
    return columns


def check_queries(queries: Sequence[str | Vectors | Query], request: Request, *, dimension: int) -> list[Query]:
    """Queries in their long form.

    Args:
        queries: texts, vectors, or both.
        request: what is done with them.
        dimension: of the index's vectors.

    Raises:
        UsageError: one is empty, lacks what the request needs, or does not fit the index.
    """
    if isinstance(queries, str):
        raise TypeError("a batch of queries is a list of texts, not one text")
    checked: list[Query] = []
    for number, asked in enumerate(queries, 1):
        where = f"query {number}" if len(queries) > 1 else None
        query = _in_long_form(asked)
        if (query.text is None and query.vector is None) or (query.text is not None and not query.text.strip()):
            raise UsageError("the query is empty", where=where)
        if query.text is None and (request.searches_words or request.rereads):
            what = f"mode {request.mode}" if request.searches_words else "the reranker"
            raise UsageError(f"{what} needs the text of a query, not only its vector", where=where)
        if query.vector is not None and (query.vector.shape != (dimension,) or not np.isfinite(query.vector).all()):
            message = f"a query of shape {query.vector.shape} does not fit an index of {dimension} numbers a vector"
            if query.vector.shape == (dimension,):
                message = "the query's vector holds numbers that are not finite"
            raise UsageError(message, where=where)
        checked.append(query)
    return checked


def _in_long_form(query: str | Vectors | Query) -> Query:
    if isinstance(query, Query):
        return query
    return Query(text=query) if isinstance(query, str) else Query(vector=np.asarray(query, dtype=np.float32))


def _with_tenant(
    config: IndexConfig, generation: Generation, tenant: str | None, wanted: Filter | None
) -> Filter | None:
    if not generation.has_tenants:
        if tenant is not None:
            fix = "leave the tenant out, or set source.tenant in its config"
            raise UsageError("the index has no tenants", where=config.name, fix=fix)
        return wanted
    if not tenant:
        column = f" (a value of its column '{config.source.tenant}')" if config.source.tenant else ""
        message = "the index belongs to several tenants, and the query names none"
        raise UsageError(message, where=config.name, fix=f"name one: --tenant{column}")
    own = Compare(column=TENANT_COLUMN, operator="=", value=tenant)
    return own if wanted is None else All(filters=(own, wanted))
