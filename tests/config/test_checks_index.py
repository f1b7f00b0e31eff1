from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from genai.config.checks_index import check_index
from genai.config.index import ExactConfig, IndexConfig, QdrantConfig, QdrantEdgeConfig
from genai.config.loading import load
from genai.config.tree import dotted
from genai.errors import ConfigError

Write = Callable[..., Path]
MINIMAL = """\
name: faq
source: {table: "delta:data/faq", primary_key: id, text: answer}
embedding: {model: "gallery:all-minilm-l6-v2"}
"""
DOCUMENTS = "source={documents: docs}"
DIRECT = "source={direct: true}"
ENDPOINT = "embedding={model: text-embedding-3-small, base_url: http://127.0.0.1:1/v1}"


def findings(write: Write, *overrides: str) -> list[tuple[str, str, str | None]]:
    """The checks' findings for the minimal job with overrides, past the loader (which raises on the first faults)."""
    try:
        loaded = load(write(MINIMAL), IndexConfig, overrides)
    except ConfigError as error:
        return [(problem.where or "", problem.message, problem.fix) for problem in error.problems]
    return [(dotted(each.key), each.message, each.fix) for each in check_index(loaded.config)]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["source.metadata=[topic, year]", "source.tenant=customer", "source.text=[title, body]"],
        ["source.metadata={topic: keyword, year: integer}"],
        [DOCUMENTS, "source.include=['**/*.pdf']", "source.limits.time_s=5"],
        [DIRECT, "source.metadata={topic: keyword}"],
        [ENDPOINT, "embedding.api_key=env:KEY", "embedding.timeout_s=5"],
        [ENDPOINT, "embedding.backend=endpoint"],
        ["chunking={name: sentence, max_tokens: 64, overlap_tokens: 16}", "embedding.max_tokens=64"],
        ["chunking.name=none"],
        ["engine={name: qdrant, url: http://127.0.0.1:6333, replicas: 2}"],
        ["engine={name: lancedb, uri: s3://bucket/index}"],
        ["search={mode: hybrid, reranker: {model: cross, candidates: 20}}"],
        ["search={reranker: {name: mmr, diversity: 0.5}}"],
        ["search={reranker: {name: endpoint, model: m, base_url: http://127.0.0.1:1, api_key: env:KEY}}"],
        ["sync={mode: continuous, poll_s: 0.5}"],
        ["source.table=delta:data/faq@3"],
    ],
)
def test_sound_jobs_have_none(write: Write, overrides: list[str]) -> None:
    assert findings(write, *overrides) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["source={}"], "source names nothing to index"),
        (["source.documents=docs"], "source has both table and documents"),
        (["source.primary_key=null"], "source.table needs a primary_key"),
        (["source.text=null"], "source.table needs text"),
        (["source.text=[]"], "source.text is an empty list"),
        (["source.text=[a, b, a]"], "source.text names 'a' twice"),
        (["source.metadata=[a, a]"], "source.metadata names 'a' twice"),
        (["source.metadata=[_tenant]"], "the name '_tenant' is taken"),
        (["source.metadata=[who]", "source.tenant=who"], "source.metadata names 'who', which is the tenant"),
        ([DOCUMENTS, "source.tenant=who"], "documents have no columns that could name a tenant"),
        ([DOCUMENTS, "source.metadata=[author]"], "documents have no column 'author'"),
        ([DIRECT, "source.metadata=[topic]"], "a direct index has no table to take types from"),
        (["chunking.overlap_tokens=256"], "chunking.overlap_tokens of 256 is not less than max_tokens of 256"),
        (["embedding.max_tokens=100"], "chunking.max_tokens of 256 is more than embedding.max_tokens of 100"),
        (["embedding.backend=endpoint"], "embedding.backend endpoint needs base_url"),
        ([ENDPOINT, "embedding.backend=torch"], "embedding.base_url is given, but backend is torch"),
        (["engine={name: lancedb, uri: https://x}"], "engine.uri 'https://x' is neither a folder nor a bucket"),
        (["search={mode: hybrid, candidates: 5}"], "search.candidates of 5 is less than search.k of 10"),
        (["search.reranker={}"], "a reranker by cross_encoder needs a model"),
        (["search.reranker={name: endpoint, model: m}"], "a reranker by endpoint needs base_url"),
        (["search.reranker={name: mmr, diversity: 1.5}"], "search.reranker.diversity must lie between 0 and 1"),
        (["search.reranker={name: mmr, candidates: 5}"], "search.reranker.candidates of 5 is less than search.k of 10"),
        ([DIRECT, "sync.mode=continuous"], "a direct index follows no source"),
        (["source.table=delta:x@7", "sync.mode=continuous"], "delta:x@7 is pinned to a version"),
    ],
)
def test_what_contradicts_itself(write: Write, overrides: list[str], message: str) -> None:
    found = findings(write, *overrides)
    assert [text.startswith(message) for _, text, _ in found][:1] == [True], found
    assert all(fix for _, _, fix in found)


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["source.include=['*.pdf']"], ["source.include"]),
        ([DOCUMENTS, "source.primary_key=id", "source.text=t"], ["source.primary_key", "source.text"]),
        ([DOCUMENTS, "source.metadata=[path]"], ["source.metadata"]),
        (
            ["chunking={name: none, max_tokens: 64, overlap_tokens: 2}"],
            ["chunking.max_tokens", "chunking.overlap_tokens"],
        ),
        (["embedding.api_key=env:KEY"], ["embedding.api_key"]),
        ([ENDPOINT, "embedding.pooling=cls", "embedding.revision=v1"], ["embedding.pooling", "embedding.revision"]),
        (["embedding.backend=static", "embedding.precision=fp32"], ["embedding.precision"]),
        (["embedding.revision=main"], ["embedding.revision"]),
        (["engine={name: qdrant, url: ':memory:', replicas: 2}"], ["engine.replicas"]),
        (["engine={name: qdrant, url: 'http://127.0.0.1:6333', tenant_shards: true}"], ["engine.tenant_shards"]),
        (
            ["search={reranker: {name: mmr, model: m, base_url: x}}"],
            ["search.reranker.base_url", "search.reranker.model"],
        ),
        (["sync.poll_s=5"], ["sync.poll_s"]),
    ],
)
def test_what_has_no_effect(write: Write, overrides: list[str], keys: list[str]) -> None:
    found = findings(write, *overrides)
    assert [key for key, *_ in found] == keys
    assert all("has no effect" in message for _, message, _ in found)


def test_the_engine_is_qdrant_edge_unless_it_is_named(write: Write) -> None:
    assert isinstance(load(write(MINIMAL), IndexConfig).config.engine, QdrantEdgeConfig)
    assert isinstance(load(write(MINIMAL), IndexConfig, ["engine.name=exact"]).config.engine, ExactConfig)
    given = load(write(MINIMAL), IndexConfig, ["engine={name: qdrant, url: http://127.0.0.1:6333}"]).config.engine
    assert isinstance(given, QdrantConfig) and given.hnsw.ef == 128
