"""What in an index job contradicts itself or has no effect, as far as the job file alone tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from genai.config.checks_sections import check_chunking, check_reranker, idle
from genai.config.embedding import EmbeddingConfig, RerankerConfig
from genai.config.findings import Finding, fault, no_effect
from genai.config.index import (
    IndexConfig,
    IndexSourceConfig,
    LanceDbConfig,
    QdrantConfig,
    SyncConfig,
)

DOCUMENT_COLUMNS = ("path", "suffix", "size_bytes", "modified")
"""Metadata that every document has by itself."""
_KINDS = ("table", "documents", "direct")
_OF_DOCUMENTS_ONLY = ("include", "exclude", "limits")
_OF_TORCH_ONLY = ("precision", "pooling", "trust_remote_code")
_WITHOUT_REVISIONS = ("gallery:", "runs:", "registry:", "s3://", "gs://", "az://", ".", "/")


def check_index(config: IndexConfig) -> list[Finding]:
    """Faults that no single field shows, and settings without an effect."""
    return [finding for check in _CHECKS for finding in check(config)]


# --- source -----------------------------------------------------------------------------------------------------------


def _source(config: IndexConfig) -> Iterator[Finding]:
    source = config.source
    kinds = [kind for kind in _KINDS if getattr(source, kind)]
    if not kinds:
        yield fault("source", "source names nothing to index", "write table: ..., documents: ..., or direct: true")
        return
    if len(kinds) > 1:
        message = f"source has both {' and '.join(kinds)}"
        yield fault(f"source.{kinds[1]}", message, "keep one of them; several sources are several indexes")
        return
    yield from {"table": _table, "documents": _documents, "direct": _direct}[kinds[0]](source)
    yield from _columns(source)
    if kinds[0] != "documents":
        yield from idle(source, IndexSourceConfig(), "source", _OF_DOCUMENTS_ONLY, "it belongs to documents")


def _table(source: IndexSourceConfig) -> Iterator[Finding]:
    if source.primary_key is None:
        fix = "name the column that is different in every row and never changes"
        yield fault("source.table", "source.table needs a primary_key", fix)
    if source.text is None:
        yield fault("source.table", "source.table needs text: the column that is embedded", "write text: NAME")


def _documents(source: IndexSourceConfig) -> Iterator[Finding]:
    if source.primary_key is not None:
        yield no_effect("source.primary_key", "a document is known by its path")
    if source.text is not None:
        yield no_effect("source.text", "the whole text of a document is indexed")
    if source.tenant is not None:
        fix = "put the rows into a table with such a column, or make one index for each tenant"
        yield fault("source.tenant", "documents have no columns that could name a tenant", fix)
    known = ", ".join(DOCUMENT_COLUMNS)
    for name in source.metadata:
        if name not in DOCUMENT_COLUMNS:
            yield fault("source.metadata", f"documents have no column '{name}'", f"they have {known} by themselves")
    if source.metadata:
        yield no_effect("source.metadata", f"documents have {known} by themselves")


def _direct(source: IndexSourceConfig) -> Iterator[Finding]:
    if source.metadata and isinstance(source.metadata, list):
        example = f"{{{source.metadata[0]}: keyword}}"
        yield fault("source.metadata", "a direct index has no table to take types from", f"write name: type, {example}")


def _columns(source: IndexSourceConfig) -> Iterator[Finding]:
    texts = [source.text] if isinstance(source.text, str) else source.text
    if texts == []:
        yield fault("source.text", "source.text is an empty list", "name at least one column")
    for key, names in (("source.text", texts or []), ("source.metadata", list(source.metadata))):
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield fault(key, f"{key} names '{name}' twice", "name each column once")
    if source.tenant is not None and source.tenant in source.metadata:
        message = f"source.metadata names '{source.tenant}', which is the tenant"
        yield fault("source.metadata", message, "leave it out: a query names its tenant by itself, not in a filter")
    if "_tenant" in source.metadata:
        yield fault("source.metadata", "the name '_tenant' is taken", "write tenant: _tenant, or rename the column")


# --- chunks and vectors -----------------------------------------------------------------------------------------------


def _chunking(config: IndexConfig) -> Iterator[Finding]:
    longest = config.embedding.max_tokens
    yield from check_chunking(config.chunking, "chunking", longest=longest, longest_key="embedding.max_tokens")


def _embedding(config: IndexConfig) -> Iterator[Finding]:
    embedding = config.embedding
    if embedding.backend == "endpoint" and embedding.base_url is None:
        message = "embedding.backend endpoint needs base_url"
        yield fault("embedding.backend", message, "write base_url: https://api.openai.com/v1, or of your own server")
    if embedding.backend not in ("auto", "endpoint") and embedding.base_url is not None:
        message = f"embedding.base_url is given, but backend is {embedding.backend}"
        yield fault("embedding.base_url", message, "write backend: endpoint, or remove base_url")
    defaults = EmbeddingConfig(model=embedding.model)
    if embedding.base_url is None and embedding.backend != "endpoint":
        yield from idle(embedding, defaults, "embedding", ("api_key", "timeout_s"), "there is no base_url")
    elif embedding.base_url is not None:
        why = "the endpoint decides that"
        yield from idle(embedding, defaults, "embedding", (*_OF_TORCH_ONLY, "revision"), why)
    if embedding.backend == "static":
        yield from idle(embedding, defaults, "embedding", ("precision", "pooling"), "static vectors are averaged")
    if embedding.revision is not None and embedding.model.startswith(_WITHOUT_REVISIONS):
        yield no_effect("embedding.revision", f"{embedding.model} has no revisions")


# --- engine, search, sync ---------------------------------------------------------------------------------------------


def _engine(config: IndexConfig) -> Iterator[Finding]:
    engine = config.engine
    if isinstance(engine, QdrantConfig) and engine.replicas > 1 and not engine.url.startswith("http"):
        yield no_effect("engine.replicas", "a local engine has no other nodes")
    if isinstance(engine, QdrantConfig) and engine.tenant_shards:
        if not engine.url.startswith("http"):
            yield fault(
                "engine.tenant_shards", "a local engine has no shards", "give the url of a server, or remove it"
            )
        elif config.source.tenant is None:
            yield no_effect("engine.tenant_shards", "source.tenant names no column")
    if isinstance(engine, LanceDbConfig) and engine.uri is not None and engine.uri.startswith(("http:", "https:")):
        message = f"engine.uri '{engine.uri}' is neither a folder nor a bucket"
        yield fault("engine.uri", message, "write a folder, or s3://BUCKET/PREFIX")


def _search(config: IndexConfig) -> Iterator[Finding]:
    search = config.search
    if search.mode == "hybrid" and search.candidates < search.k:
        message = f"search.candidates of {search.candidates} is less than search.k of {search.k}"
        yield fault("search.candidates", message, f"write {10 * search.k}")
    if search.reranker is not None:
        yield from _reranker(search.reranker, search.k)


def _reranker(reranker: RerankerConfig, k: int) -> Iterator[Finding]:
    key = "search.reranker"
    yield from check_reranker(reranker, key)
    if reranker.name == "mmr" and reranker.model is not None:
        yield no_effect(f"{key}.model", "mmr compares the vectors that are there")
    if not 0 <= reranker.diversity <= 1:
        yield fault(f"{key}.diversity", f"{key}.diversity must lie between 0 and 1", "write 0.3")
    if reranker.candidates < k:
        message = f"{key}.candidates of {reranker.candidates} is less than search.k of {k}"
        yield fault(f"{key}.candidates", message, f"write {5 * k}")


def _sync(config: IndexConfig) -> Iterator[Finding]:
    source, sync = config.source, config.sync
    if sync.mode == "triggered":
        yield from idle(sync, SyncConfig(), "sync", ("poll_s",), "sync.mode is triggered")
        return
    if source.direct:
        yield fault("sync.mode", "a direct index follows no source", "remove sync.mode")
    table = source.table or ""
    if table.startswith("delta:") and table.rpartition("@")[2].isdigit():
        message = f"{table} is pinned to a version, so there is nothing to follow"
        yield fault("sync.mode", message, "leave @VERSION out, or write mode: triggered")


_CHECKS: tuple[Callable[[IndexConfig], Iterator[Finding]], ...] = (
    _source,
    _chunking,
    _embedding,
    _engine,
    _search,
    _sync,
)
