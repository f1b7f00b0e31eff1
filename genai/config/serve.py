"""The schema of `genai serve`: what a job file may say, with its defaults.

Every class is a frozen keyword-only dataclass; the text under a field is its documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator

from genai.config.embedding import EmbeddingConfig
from genai.config.fields import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, SizeText

# --- the server -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ListenConfig:
    """Where the server is reached."""

    host: str = "127.0.0.1"
    """Address to listen on; other machines reach it at 0.0.0.0 only, which wants keys (see apps)."""
    port: NonNegativeInt = 8080
    """0 takes a free one, which is printed."""
    workers: PositiveInt = 1
    """Processes that answer HTTP, all in front of the same engine."""
    allowed_hosts: list[str] = field(default_factory=list)
    """Names that requests may call the server by (Host header), beside localhost and the address it listens on;
    "*" for any, "*.example.com" for all below one."""
    allowed_origins: list[str] = field(default_factory=list)
    """Web pages that may ask from a browser, e.g. https://app.example.com; "*" for any. None by default."""


@dataclass(frozen=True, kw_only=True)
class AdminConfig:
    """The port for the operator: status, reload, adapters. There is none without this section."""

    token: str
    """env:NAME or file:PATH: what requests must carry as bearer token."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: NonNegativeInt = 8081
    """0 takes a free one, which is printed."""


@dataclass(frozen=True, kw_only=True)
class AppConfig:
    """Somebody who may ask."""

    key: str
    """env:NAME or file:PATH: the bearer key."""
    routes: list[str] | None = None
    """Endpoints and adapters that it may ask; all by default."""


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """What a request may cost; beyond it the answer is an error that says so."""

    max_body: SizeText = "10mb"
    """Of a request."""
    max_concurrent_requests: PositiveInt = 512
    """Under way at once, a worker process; more are answered with 429."""
    max_connections: PositiveInt = 4096
    """Open at once, a worker process; more are closed."""
    max_prompts: PositiveInt = 256
    """In one request (completions), or texts (embeddings, rerank, upsert)."""
    max_n: PositiveInt = 16
    """Answers to one prompt."""
    max_stop_texts: PositiveInt = 16
    """Of one request."""
    max_logprobs: PositiveInt = 20
    """Likeliest tokens told for each token."""
    max_schema: SizeText = "64kb"
    """Of a JSON schema or grammar."""
    max_schema_depth: PositiveInt = 32
    """How deep a JSON schema is nested."""
    grammar_timeout_s: PositiveFloat = 5.0
    """To make sense of a schema or grammar."""
    header_timeout_s: PositiveFloat = 10.0
    """From a connection's beginning (or its last answer's end, if more has come) to the end of a request's headers."""
    body_timeout_s: PositiveFloat = 60.0
    """From the headers to the end of the body."""
    idle_timeout_s: PositiveFloat = 75.0
    """A connection without a request is closed."""
    request_timeout_s: PositiveFloat = 600.0
    """From a request's arrival to the last byte of its answer."""
    slow_client_timeout_s: PositiveFloat = 30.0
    """A client that reads nothing for so long while there is something to read is left."""
    drain_timeout_s: NonNegativeFloat = 60.0
    """After SIGTERM: what is under way may end within."""


@dataclass(frozen=True, kw_only=True)
class AccessLogConfig:
    """One JSON object a line for each request."""

    path: str | None = None
    """A file (opened again on SIGHUP); by default stderr; "off" for none."""


# --- engines ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LocalEngineConfig:
    """Our own engine: torch, many answers at a time."""

    name: Literal["local"] = "local"
    """Which engine."""
    precision: Literal["auto", "bf16", "fp32", "int8"] = "auto"
    """bf16; fp32; int8: weights in 8 bits, which is quicker for a few answers at a time; auto: bf16 where the processor
    has it, else fp32."""
    max_model_len: PositiveInt | None = None
    """Tokens of prompt and answer together; by default the model's context."""
    max_num_seqs: PositiveInt = 32
    """Answers under way at once; more wait."""
    max_num_batched_tokens: PositiveInt = 512
    """Tokens a step: longer prompts are read in pieces, between which the others go on."""
    block_size: PositiveInt = 16
    """Tokens a block of the cache."""
    kv_cache: SizeText | None = None
    """Memory for keys and values; by default for max_num_seqs answers of 1024 tokens, or one of max_model_len."""
    prefix_caching: bool = True
    """Prompts that begin alike are read once."""
    max_waiting: PositiveInt = 1024
    """Requests that may wait; more are answered with 429."""
    max_adapters: PositiveInt = 8
    """LoRA adapters at once."""
    max_lora_rank: PositiveInt = 64
    """Of an adapter."""
    compile: bool = False
    """torch.compile of what stands between the products (CPU: needs a C++ compiler); it pays on few processors."""


TextEngineConfig = LocalEngineConfig
"""Engines for text; more are to come, told apart by name."""


# --- endpoints --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LoadedConfig:
    """What every model has."""

    load: Literal["start", "lazy"] = "start"
    """start: before the server is ready; lazy: with its first request."""
    unload_after_s: PositiveFloat | None = None
    """Without a request for so long its memory is given back; the next request loads it again."""


@dataclass(frozen=True, kw_only=True)
class BatchedConfig(LoadedConfig):
    """What models have that read texts of several requests together."""

    max_batch_tokens: PositiveInt = 8192
    """Texts of several requests are read together up to so many tokens."""
    max_waiting: PositiveInt = 1024
    """Requests that may wait; more are answered with 429."""


@dataclass(frozen=True, kw_only=True)
class ModelEndpointConfig(LoadedConfig):
    """A language model: /v1/chat/completions, /v1/completions."""

    type: Literal["model"] = "model"
    """Which kind of endpoint."""
    model: str
    """A model reference: gallery:NAME, hf:ORG/NAME, a folder, a .gguf file, s3://..., runs:RUN, registry:NAME@ALIAS."""
    adapters: dict[str, str] = field(default_factory=dict)
    """Name that requests give -> LoRA adapter: runs:RUN or a folder."""
    revision: str | None = None
    """Branch, tag or commit on the Hugging Face hub."""
    trust_remote_code: bool = False
    """Run Python that comes with the model. Leave it off unless you have read that code."""
    chat_template: str | None = None
    """Jinja text or a .jinja file in place of the model's own."""
    engine: TextEngineConfig = field(default_factory=LocalEngineConfig)
    """What runs it."""


@dataclass(frozen=True, kw_only=True)
class EncoderEndpointConfig(BatchedConfig):
    """An embedding model: /v1/embeddings."""

    type: Literal["encoder"] = "encoder"
    """Which kind of endpoint."""
    embedding: EmbeddingConfig
    """The encoder, as `genai index` has it."""
    default_role: Literal["document", "query"] = "document"
    """Which of the encoder's prompts is put before a text when the request names none (input_type)."""


@dataclass(frozen=True, kw_only=True)
class RerankerEndpointConfig(BatchedConfig):
    """A model that scores query and text together: /v1/rerank."""

    type: Literal["reranker"] = "reranker"
    """Which kind of endpoint."""
    model: str
    """A model reference to a cross-encoder."""


@dataclass(frozen=True, kw_only=True)
class IndexEndpointConfig:
    """A vector index: /v1/indexes/NAME/query, upsert and delete."""

    type: Literal["index"] = "index"
    """Which kind of endpoint."""
    index: str
    """Its name, as `genai index` knows it."""
    encoder: str | None = None
    """Endpoint that embeds texts for it, which must be the very encoder that it was built with; by default an endpoint
    that has the same, or else one is opened for it."""
    writable: bool = False
    """Whether upsert and delete are answered (a direct index only)."""


EndpointConfig = Annotated[
    ModelEndpointConfig | EncoderEndpointConfig | RerankerEndpointConfig | IndexEndpointConfig, Discriminator("type")
]


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What the server may take."""

    limit: SizeText | None = None
    """Of all its processes together; by default what the machine or its container has free."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """What `genai serve` serves, and to whom."""

    variables: dict[str, Any] = field(default_factory=dict)
    """Values to refer to elsewhere as ${variables.NAME}."""
    endpoints: dict[str, EndpointConfig]
    """Name that requests give as `model` (or in the path, for an index) -> what answers."""
    listen: ListenConfig = field(default_factory=ListenConfig)
    """Where the server is reached."""
    apps: dict[str, AppConfig] = field(default_factory=dict)
    """Who may ask. Without apps anybody on this machine may, and no other address than a loopback is listened on."""
    admin: AdminConfig | None = None
    """The operator's port."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    """What a request may cost."""
    access_log: AccessLogConfig = field(default_factory=AccessLogConfig)
    """Who asked what, when, and how it ended; never keys or texts."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """What the server may take."""
    num_threads: PositiveInt | None = None
    """Of torch in the engine; by default the physical cores."""
    runs_dir: str = "runs"
    """Where runs lie that references name."""
    indexes_dir: str = "indexes"
    """Where indexes lie."""
