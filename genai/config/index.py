"""The schema of `genai index`: what a job file may say, with its defaults.

Every class is a frozen keyword-only dataclass; the text under a field is its documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator

from genai.config.embedding import EmbeddingConfig, RerankerConfig
from genai.config.fields import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Share, SizeText

ColumnType = Literal["keyword", "integer", "float", "boolean", "datetime"]
"""What a metadata column holds; a keyword column may hold a list of them."""

# --- source -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DocumentLimitsConfig:
    """What parsing one file may cost; beyond it the file is reported and left out."""

    time_s: PositiveFloat = 60.0
    """Seconds."""
    memory: SizeText = "1gb"
    """Of the process that parses."""
    file_size: SizeText = "100mb"
    """Of a file."""


@dataclass(frozen=True, kw_only=True)
class IndexSourceConfig:
    """What the index is kept in step with: a table, a folder of documents, or nothing (rows come by the API)."""

    table: str | None = None
    """delta:URI, delta:URI@VERSION, or Parquet, JSONL or CSV: a path, a pattern, s3://..."""
    documents: str | None = None
    """A folder, pattern or bucket of PDF, HTML, Markdown, DOCX and text files."""
    direct: bool = False
    """Rows come only by `genai index upsert` and the serving API."""
    primary_key: str | None = None
    """Column of a table that names a row for ever; of documents it is their path."""
    text: str | list[str] | None = None
    """Column that is embedded; several are joined by an empty line, those that are null left out."""
    metadata: list[str] | dict[str, ColumnType] = field(default_factory=list)
    """Columns to filter by and to return: names, whose types are then taken from the table, or name: type. Documents
    have path, suffix, size_bytes and modified by themselves."""
    tenant: str | None = None
    """Column that says whom a row belongs to; every query must then name a tenant."""
    include: list[str] = field(default_factory=list)
    """Patterns of documents to take, e.g. "**/*.pdf"; by default every known ending."""
    exclude: list[str] = field(default_factory=list)
    """Patterns of documents to leave out."""
    limits: DocumentLimitsConfig = field(default_factory=DocumentLimitsConfig)
    """Of parsing one document."""


# --- chunks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ChunkingConfig:
    """How a text is cut; every chunk is a slice of it."""

    name: Literal["recursive", "tokens", "sentence", "heading", "none"] = "recursive"
    """recursive: at the largest boundary that fits (heading, paragraph, line, sentence, word); tokens: windows of
    max_tokens; sentence: whole sentences up to max_tokens; heading: one section each, cut recursively where too long;
    none: the whole text."""
    max_tokens: PositiveInt = 256
    """Tokens of the encoder a chunk, at most."""
    overlap_tokens: NonNegativeInt = 0
    """Tokens that a chunk repeats of the one before it."""


# --- engines ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ExactConfig:
    """Compares a query with every vector: no build, exact, for up to some ten thousand chunks."""

    name: Literal["exact"] = "exact"
    """Which engine."""


@dataclass(frozen=True, kw_only=True)
class HnswConfig:
    """The graph that is searched (Malkov and Yashunin 2018)."""

    m: PositiveInt = 16
    """Edges a node."""
    ef_construct: PositiveInt = 100
    """Candidates while it is built."""
    ef: PositiveInt = 128
    """Candidates while it is searched: more finds more and takes longer."""


@dataclass(frozen=True, kw_only=True)
class QdrantEdgeConfig:
    """Qdrant's engine inside of this process, files on this machine."""

    name: Literal["qdrant_edge"] = "qdrant_edge"
    """Which engine."""
    hnsw: HnswConfig = field(default_factory=HnswConfig)
    """The graph."""
    exact_below: NonNegativeInt = 20_000
    """A filter that leaves fewer chunks is answered by comparing with all of them."""


@dataclass(frozen=True, kw_only=True)
class QdrantConfig:
    """A Qdrant server or cluster."""

    name: Literal["qdrant"] = "qdrant"
    """Which engine."""
    url: str
    """Of the server, e.g. http://localhost:6333; ":memory:" or a path take the client's local mode."""
    api_key: str | None = None
    """env:NAME or file:PATH."""
    hnsw: HnswConfig = field(default_factory=HnswConfig)
    """The graph."""
    exact_below: NonNegativeInt = 20_000
    """A filter that leaves fewer chunks is answered by comparing with all of them."""
    shards: PositiveInt = 1
    """Shards of the collection; with tenant_shards of each tenant."""
    tenant_shards: bool = False
    """Keep each tenant of source.tenant in shards of its own (a cluster; some hundred tenants at most): a query then
    asks that tenant's only."""
    replicas: PositiveInt = 1
    """Copies of each shard."""
    timeout_s: PositiveFloat = 30.0
    """How long a request may take."""


@dataclass(frozen=True, kw_only=True)
class LanceDbConfig:
    """LanceDB: tables on this machine's disk or in a bucket."""

    name: Literal["lancedb"] = "lancedb"
    """Which engine."""
    uri: str | None = None
    """Folder or s3://BUCKET/PREFIX; by default in the index's own folder."""
    exact_below: NonNegativeInt = 3000
    """With fewer chunks, or a filter that leaves fewer, a query is compared with all of them."""


EngineConfig = Annotated[ExactConfig | QdrantEdgeConfig | QdrantConfig | LanceDbConfig, Discriminator("name")]

# --- search, sync -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How queries are answered unless they say otherwise."""

    mode: Literal["dense", "bm25", "hybrid"] = "dense"
    """dense: by vectors; bm25: by words; hybrid: both, fused by reciprocal ranks (Cormack et al. 2009)."""
    k: PositiveInt = 10
    """Results a query."""
    dense_weight: Share = 0.7
    """hybrid: weight of the dense ranks; the words have the rest. `genai index query --tune` finds the best."""
    rrf_k: PositiveInt = 2
    """hybrid: a result at rank r counts weight / (rrf_k + r): a small one lets the first ranks decide."""
    candidates: PositiveInt = 100
    """hybrid: how many results of each kind are fused."""
    reranker: RerankerConfig | None = None
    """Puts the best candidates into a better order."""
    score_threshold: float | None = None
    """Results below it are left out: of a cosine in mode dense, else of the mode's own score."""


@dataclass(frozen=True, kw_only=True)
class BM25Config:
    """How words are counted (Robertson and Zaragoza 2009)."""

    k1: NonNegativeFloat = 1.2
    """How much repetition counts."""
    b: Share = 0.75
    """How much long chunks are discounted."""
    language: str = "none"
    """Snowball stemmer for the words, e.g. english, swedish; none takes them as they are, in small letters."""


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """When the index is brought up to its source."""

    mode: Literal["triggered", "continuous"] = "triggered"
    """triggered: once, by this command; continuous: it stays and follows."""
    poll_s: PositiveFloat = 1.0
    """continuous: pause between looks at the source; it grows to a minute while the source cannot be reached."""
    max_delete_share: Share = 0.3
    """A sync that would remove a larger share of the documents stops, unless --allow-mass-delete is given."""
    batch_size: PositiveInt = 256
    """Chunks that are embedded and committed at once; a kill costs at most one such batch."""


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """One index: a source, how it is cut and embedded, and the engine that searches."""

    variables: dict[str, Any] = field(default_factory=dict)
    """Values to refer to elsewhere as ${variables.NAME}."""
    name: str
    """Name of the index; a folder of that name lies below indexes_dir."""
    indexes_dir: str = "indexes"
    """Where indexes lie."""
    runs_dir: str = "runs"
    """Where run directories go; each sync that changes something is a run, in continuous mode all of a process."""
    run_name: str | None = None
    """Name of the run directory; by default the index's name and the number of the sync."""
    source: IndexSourceConfig
    """What is indexed."""
    chunking: ChunkingConfig = field(default_factory=ChunkingConfig)
    """How texts are cut."""
    embedding: EmbeddingConfig
    """How chunks become vectors."""
    bm25: BM25Config = field(default_factory=BM25Config)
    """How chunks become words."""
    engine: EngineConfig = field(default_factory=QdrantEdgeConfig)
    """What stores and searches the vectors."""
    search: SearchConfig = field(default_factory=SearchConfig)
    """How queries are answered."""
    sync: SyncConfig = field(default_factory=SyncConfig)
    """How the source is followed."""
    num_threads: PositiveInt | None = None
    """CPU threads for embedding; by default as many as the cgroup allows."""
