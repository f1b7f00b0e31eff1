"""A Qdrant server or cluster as engine.

A generation is a collection, `genai~<index>~<generation>~<build>`; a generation that is begun anew gets a new one, so
that readers go on with the old one until the ledger names the other. A server has no snapshots that can be searched:
inside of a collection readers see each point as soon as it is written. The ledger makes up for that: a chunk whose text
changed is a new point under a new id, and the ledger knows the texts of both; what is between two syncs can be found
by its new text or by its old one, but never half of it.

With `tenant_shards` every tenant has shards of its own, named by its name; a query asks those alone, and a point whose
tenant changed is removed from all others.

`url: ":memory:"` and folders take the client's local mode: one process, everything compared one by one, for trials.
"""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.index import QdrantConfig
from genai.errors import MissingExtraError
from genai.index.engines.qdrant_filters import (
    DENSE,
    TENANT,
    WORDS,
    filter_json,
    oversampling,
    payload_indexes,
    payload_of,
)
from genai.index.engines.qdrant_server import Server
from genai.index.filters import All, Compare, Filter
from genai.index.interfaces import Hit, Point, SparseVector, Spec, VectorQuery
from genai.log import get_logger
from genai.storage import atomic

if TYPE_CHECKING:
    from qdrant_client import models as api

_UPSERT_POINTS = 256
_SCROLL_POINTS = 5000
_log = get_logger(__name__)


class QdrantEngine:
    """Met by a job file's `engine: {name: qdrant, url: ...}`.

    Raises:
        MissingExtraError: the package is not installed.
    """

    def __init__(self, config: QdrantConfig, folder: Path, *, index: str) -> None:
        if importlib.util.find_spec("qdrant_client") is None:
            raise MissingExtraError("qdrant_client", extra="qdrant", needed_for="engine qdrant")
        self._config = config
        self._server = Server(config)
        self._index = atomic.safe_name(index, kind="index")

    def writer(self, spec: Spec, token: str | None) -> QdrantWriter:
        """Go on with a collection, or begin a new one."""
        if token is None:
            collection = f"{self._prefix}{atomic.safe_name(spec.generation)}~{secrets.token_hex(4)}"
            self._create(collection, spec)
        else:
            collection = self._collection(token)
        self._index_payload(collection, spec)
        return QdrantWriter(self._server, collection, spec, tenant_shards=self._has_tenant_shards(spec))

    def reader(self, spec: Spec, token: str) -> QdrantReader:
        """Search a collection as it is now."""
        shards = self._has_tenant_shards(spec)
        return QdrantReader(self._server, self._collection(token), self._config, tenant_shards=shards)

    def make_live(self, spec: Spec, token: str) -> None:
        """Let the alias `genai_<index>` name the collection, at once, for programs that ask the server themselves."""
        from qdrant_client import models as api

        alias = f"genai_{self._index}"
        create = api.CreateAlias(collection_name=self._collection(token), alias_name=alias)
        operations: list[Any] = [api.CreateAliasOperation(create_alias=create)]
        if any(found.alias_name == alias for found in self._server.ask("get_aliases").aliases):
            operations.insert(0, api.DeleteAliasOperation(delete_alias=api.DeleteAlias(alias_name=alias)))
        self._server.ask("update_collection_aliases", operations)

    def sweep(self, tokens: Mapping[str, str | None]) -> None:
        """Remove all collections of this index but those that are named, also when somebody is searching them."""
        wanted = {token.partition("/")[0] for token in tokens.values() if token is not None}
        for name in [found.name for found in self._server.ask("get_collections").collections]:
            if name.startswith(self._prefix) and name not in wanted:
                _log.info("removing the collection %s", name)
                self._server.ask("delete_collection", name)

    @property
    def _prefix(self) -> str:
        return f"genai~{self._index}~"

    def _collection(self, token: str) -> str:
        name = token.partition("/")[0]
        if not self._server.ask("collection_exists", name):
            raise self._server.gone(f"there is no collection {name}")
        return name

    def _has_tenant_shards(self, spec: Spec) -> bool:
        return self._config.tenant_shards and spec.has_tenants

    def _create(self, collection: str, spec: Spec) -> None:
        from qdrant_client import models as api

        hnsw = api.HnswConfigDiff(
            m=self._config.hnsw.m,
            ef_construct=self._config.hnsw.ef_construct,
            full_scan_threshold=max(10, self._config.exact_below * spec.dimension * 2 // 1024),
        )
        rounded = api.ScalarQuantizationConfig(type=api.ScalarType.INT8, quantile=0.99, always_ram=True)
        dense = api.VectorParams(
            size=spec.dimension,
            distance=api.Distance.COSINE,
            datatype=api.Datatype.FLOAT16,
            quantization_config=api.ScalarQuantization(scalar=rounded),
        )
        self._server.ask(
            "create_collection",
            collection,
            vectors_config={DENSE: dense},
            sparse_vectors_config={WORDS: api.SparseVectorParams(modifier=api.Modifier.IDF)},
            hnsw_config=hnsw,
            shard_number=self._config.shards,
            sharding_method=api.ShardingMethod.CUSTOM if self._has_tenant_shards(spec) else None,
            replication_factor=self._config.replicas,
        )

    def _index_payload(self, collection: str, spec: Spec) -> None:
        if self._server.is_local:  # it has none, and warns
            return
        there = self._server.ask("get_collection", collection).payload_schema
        for key, kind in payload_indexes(spec).items():
            schema = _payload_index(kind)
            if key in there and there[key].data_type != schema.type:
                self._server.ask("delete_payload_index", collection, key, wait=True)
            if key not in there or there[key].data_type != schema.type:
                self._server.ask("create_payload_index", collection, key, field_schema=schema, wait=True)


class QdrantWriter:
    """Every call has reached the server's log when it returns."""

    def __init__(self, server: Server, collection: str, spec: Spec, *, tenant_shards: bool) -> None:
        self._server = server
        self._collection = collection
        self._spec = spec
        self._shards = TenantShards(server, collection) if tenant_shards else None

    def upsert(self, points: Sequence[Point]) -> None:
        """Put points there, in place of those with the same ids."""
        for tenant, some in self._by_shard(points):
            for start in range(0, len(some), _UPSERT_POINTS):
                batch = [self._point(point) for point in some[start : start + _UPSERT_POINTS]]
                self._server.ask("upsert", self._collection, batch, wait=True, shard_key_selector=tenant)

    def _by_shard(self, points: Sequence[Point]) -> Iterator[tuple[str | None, Sequence[Point]]]:
        """The points of each tenant, whose shards are there and which are in no others any more; or all of them."""
        if self._shards is None:
            yield None, points
            return
        groups: dict[str, list[Point]] = {}
        for point in points:
            groups.setdefault(str(point.payload[TENANT]), []).append(point)
        for tenant, some in groups.items():
            others = self._shards.make(tenant)
            if others:
                ids = [point.id for point in some]
                self._server.ask("delete", self._collection, ids, wait=True, shard_key_selector=others)
            yield tenant, some

    def delete(self, ids: Sequence[str]) -> None:
        """Remove points."""
        if ids:
            self._server.ask("delete", self._collection, list(ids), wait=True)

    def ids(self) -> Iterator[str]:
        """Of all points."""
        offset: Any = None
        while True:
            records, offset = self._server.ask(
                "scroll", self._collection, limit=_SCROLL_POINTS, offset=offset, with_payload=False, with_vectors=False
            )
            yield from (str(record.id) for record in records)
            if offset is None:
                return

    def publish(self) -> str:
        """The name of the collection and a word that no publication had before: all that was written is there."""
        return f"{self._collection}/{secrets.token_hex(4)}"

    def close(self) -> None:
        """What was written stays: the server has no way back."""

    def _point(self, point: Point) -> api.PointStruct:
        from qdrant_client import models as api

        vectors: Any = {DENSE: point.dense.tolist(), WORDS: _sparse(point.sparse)}
        return api.PointStruct(id=point.id, vector=vectors, payload=payload_of(point.payload, self._spec))


class QdrantReader:
    """Searches a collection; threads may do so at the same time."""

    def __init__(self, server: Server, collection: str, config: QdrantConfig, *, tenant_shards: bool) -> None:
        self._server = server
        self._collection = collection
        self._ef = config.hnsw.ef
        self._shards = TenantShards(server, collection) if tenant_shards else None

    def search(self, queries: Sequence[VectorQuery]) -> list[list[Hit]]:
        """The best points for each query, all in one request."""
        keys = [self._shard_of(query.filter) for query in queries]
        # A tenant that nothing belongs to has no shards, and a server refuses to be asked for them.
        asked = [place for place, key in enumerate(keys) if key is None or (self._shards and self._shards.has(key))]
        found: list[list[Hit]] = [[] for _ in queries]
        if asked:
            requests = [self._request(queries[place], keys[place]) for place in asked]
            answers = self._server.ask("query_batch_points", self._collection, requests)
            for place, answer in zip(asked, answers, strict=True):
                found[place] = _hits(answer.points)
        return found

    def count(self, filter: Filter | None = None) -> int:
        """How many points pass."""
        answer = self._server.ask("count", self._collection, count_filter=_filter(filter), exact=True)
        return int(answer.count)

    def close(self) -> None:
        """Nothing is held."""

    def _shard_of(self, filter: Filter | None) -> str | None:
        """The tenant whose shards are asked; None for all."""
        return None if self._shards is None else tenant_of(filter)

    def _request(self, query: VectorQuery, shard: str | None) -> api.QueryRequest:
        from qdrant_client import models as api

        is_sparse = isinstance(query.vector, SparseVector)
        vector: Any = _sparse(query.vector) if isinstance(query.vector, SparseVector) else query.vector.tolist()
        params = api.SearchParams(
            hnsw_ef=max(self._ef, query.limit),
            quantization=api.QuantizationSearchParams(rescore=True, oversampling=oversampling(query.limit)),
            # slower than a plain walk along the graph, but it finds what passes wherever that lies
            acorn=None if query.filter is None else api.AcornSearchParams(enable=True, max_selectivity=1.0),
        )
        return api.QueryRequest(
            shard_key=shard,
            query=vector,
            using=WORDS if is_sparse else DENSE,
            limit=query.limit,
            filter=_filter(query.filter),
            params=None if is_sparse or self._server.is_local else params,  # local mode has no graph, and warns
            with_payload=False,
            with_vector=False,
        )


class TenantShards:
    """The tenants that have shards of their own in a collection; looked up, and then remembered."""

    def __init__(self, server: Server, collection: str) -> None:
        self._server = server
        self._collection = collection
        self._known: set[str] = set()

    def has(self, tenant: str) -> bool:
        """Whether a tenant has shards."""
        if tenant not in self._known:
            self._known = self._look_up()
        return tenant in self._known

    def make(self, tenant: str) -> list[str]:
        """See to it that a tenant has shards; returns all others that have."""
        if not self.has(tenant):
            self._server.ask("create_shard_key", self._collection, tenant)
            self._known.add(tenant)
        return sorted(self._known - {tenant})

    def _look_up(self) -> set[str]:
        answer = self._server.ask("list_shard_keys", self._collection)
        return {str(found.key) for found in answer.shard_keys or ()}


def tenant_of(filter: Filter | None) -> str | None:
    """The one tenant that a filter leaves; None where it names none."""
    match filter:
        case Compare(column=column, operator="=", value=value) if column == TENANT:
            return str(value)
        case All():
            return next((tenant for part in filter.filters if (tenant := tenant_of(part)) is not None), None)
    return None


def _hits(points: Sequence[api.ScoredPoint]) -> list[Hit]:
    hits = [Hit(id=str(point.id), score=float(point.score)) for point in points]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def _sparse(vector: SparseVector) -> api.SparseVector:
    from qdrant_client import models as api

    return api.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())


def _filter(filter: Filter | None) -> api.Filter | None:
    from qdrant_client import models as api

    return None if filter is None else api.Filter.model_validate(filter_json(filter))


def _payload_index(kind: str) -> Any:
    from qdrant_client import models as api

    match kind:
        case "integer":
            return api.IntegerIndexParams(type=api.IntegerIndexType.INTEGER, lookup=True, range=True)
        case "float":
            return api.FloatIndexParams(type=api.FloatIndexType.FLOAT)
        case _:
            return api.KeywordIndexParams(type=api.KeywordIndexType.KEYWORD, is_tenant=kind == "tenant" or None)
