"""Questions of which it is known what should be found, to measure an index with.

Their format is that of `genai.data.retrieval.labelled`; `relevant` names documents by their keys or chunks by their
ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from genai.data.retrieval.labelled import read_labelled
from genai.errors import DataError
from genai.index.ledger import Ledger
from genai.index.requests import FilterLike
from genai.log import get_logger

_NAMES_A_QUERY = 500
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class LabelledQuery:
    """One question and what should be found."""

    text: str
    """The question."""
    relevant: Mapping[str, float]
    """Key of a document or id of a chunk -> grade, above 0."""
    filter: FilterLike | None = None
    """What the metadata must be."""
    tenant: str | None = None
    """Whose documents are searched."""
    source: str = ""
    """`path:line`."""
    names_chunks: bool = False
    """Whether `relevant` holds ids of chunks; see `match`."""

    @property
    def group(self) -> str:
        """Queries of one group can be asked together."""
        return json.dumps([self.filter, self.tenant], sort_keys=True)

    def names(self, found: Iterable[tuple[str, str]]) -> list[str]:
        """A ranking in the words of `relevant`, each once: of a document with several chunks the best one counts.

        Args:
            found: (id of a chunk, key of its document), best first.
        """
        return list(dict.fromkeys(id_ if self.names_chunks else key for id_, key in found))


def read_queries(path: str) -> list[LabelledQuery]:
    """All questions of a file (JSONL, a JSON array, or Parquet; also s3://...).

    Raises:
        ConfigError: rows cannot be used; names each of them, up to some twenty.
        UsageError: the file cannot be read.
    """
    return [
        LabelledQuery(
            text=row.query,
            relevant=row.relevant,
            filter=row.values.get("filter"),
            tenant=row.values.get("tenant"),
            source=row.source,
        )
        for row in read_labelled(path)
    ]


def match(ledger: Ledger, queries: Sequence[LabelledQuery]) -> list[LabelledQuery]:
    """Find out which questions name chunks and which documents, and warn of what the index does not hold.

    Raises:
        DataError: there are no questions, nothing that is relevant is in the index, or a question names documents as
            well as chunks.
    """
    if not queries:
        raise DataError("there are no queries to measure the index with")
    wanted = sorted({name for query in queries for name in query.relevant})
    keys = set(_known(ledger, "documents", "key", wanted))
    chunks = set(_known(ledger, "chunks", "id", [name for name in wanted if name not in keys]))
    unknown = [name for name in wanted if name not in keys and name not in chunks]
    if len(unknown) == len(wanted):
        there = ledger.rows("SELECT key FROM documents WHERE removed = 0 ORDER BY number LIMIT 1")
        fix = f"name documents by their keys, such as '{there[0][0]}'" if there else "fill the index first"
        raise DataError(f"nothing that is relevant is in the index, neither '{wanted[0]}' nor any other", fix=fix)
    if unknown:
        some = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        _log.warning(
            "%d of %d relevant keys are not in the index and count as missed: %s", len(unknown), len(wanted), some
        )
    return [_matched(query, keys, chunks) for query in queries]


def _matched(query: LabelledQuery, keys: set[str], chunks: set[str]) -> LabelledQuery:
    names_chunks = any(name in chunks for name in query.relevant)
    if names_chunks and any(name in keys for name in query.relevant):
        raise DataError("a query names documents as well as chunks", where=query.source, fix="name only one kind")
    return replace(query, names_chunks=names_chunks)


def _known(ledger: Ledger, table: str, column: str, names: Sequence[str]) -> Iterator[str]:
    for begin in range(0, len(names), _NAMES_A_QUERY):
        some = names[begin : begin + _NAMES_A_QUERY]
        marks = ",".join("?" * len(some))
        rows = ledger.rows(f"SELECT {column} FROM {table} WHERE removed = 0 AND {column} IN ({marks})", some)
        yield from (name for (name,) in rows)
