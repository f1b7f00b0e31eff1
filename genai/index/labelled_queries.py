"""Questions of which it is known what should be found, to measure an index with.

One JSON object a line:

    {"query": "how thick is the screed", "relevant": ["faq-17"]}
    {"query": "who pays", "relevant": {"faq-3": 2, "faq-9": 1}, "filter": "topic=money", "tenant": "acme"}

`relevant` names documents by their keys or chunks by their ids, one or several; a mapping gives each a grade.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from genai.data.rows import BadRow
from genai.data.sources import read_records
from genai.errors import ConfigError, DataError, Problem
from genai.index.ledger import Ledger
from genai.index.requests import FilterLike
from genai.log import get_logger
from genai.registry import suggest

_FIELDS = ("query", "relevant", "filter", "tenant")
_MAX_SHOWN = 20
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
    queries: list[LabelledQuery] = []
    problems: list[Problem] = []
    for record in read_records(path):
        if isinstance(record, BadRow):
            problems.append(Problem(message=record.reason, where=record.source))
        elif found := list(_faults(record.values)):
            problems.extend(Problem(message=message, where=record.source, fix=fix) for message, fix in found)
        else:
            queries.append(_query(record.values, record.source))
    if problems:
        left = len(problems) - _MAX_SHOWN
        more = [Problem(message=f"and {left} more", where=path)] if left > 0 else []
        raise ConfigError([*problems[:_MAX_SHOWN], *more])
    return queries


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


def _faults(values: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """What is wrong with a row, and the way out."""
    for name in values:
        if name not in _FIELDS and (near := suggest(name, [field for field in _FIELDS if field not in values])):
            yield f"unknown field '{name}'", f"did you mean '{near}'?"
    query = values.get("query")
    if not isinstance(query, str) or not query.strip():
        yield "there is no text in 'query'", None
    relevant = values.get("relevant")
    if isinstance(relevant, Mapping):
        graded = {
            name: grade for name, grade in relevant.items() if grade is not None
        }  # Parquet has all keys everywhere
        if not all(_is_number(grade) for grade in graded.values()):
            yield "a grade in 'relevant' is no number", 'e.g. {"faq-3": 2, "faq-9": 1}'
        elif not any(grade > 0 for grade in graded.values()):
            yield "nothing in 'relevant' has a grade above 0", "leave out queries without an answer"
    elif not (names := _as_list(relevant)) or not all(_is_name(name) for name in names):
        yield "'relevant' names nothing that should be found", 'e.g. "relevant": ["faq-17"]'
    if not isinstance(values.get("filter"), str | Mapping | list | None):
        yield "'filter' is no filter", 'e.g. "topic=floors"'
    if not isinstance(values.get("tenant"), str | None):
        yield "'tenant' is no text", None


def _query(values: Mapping[str, Any], source: str) -> LabelledQuery:
    relevant = values["relevant"]
    if isinstance(relevant, Mapping):
        grades = {str(name): float(grade) for name, grade in relevant.items() if grade is not None and grade > 0}
    else:
        grades = {str(name): 1.0 for name in _as_list(relevant)}
    return LabelledQuery(
        text=values["query"],
        relevant=grades,
        filter=values.get("filter"),
        tenant=values.get("tenant"),
        source=source,
    )


def _as_list(relevant: Any) -> list[Any]:
    if isinstance(relevant, list):
        return relevant
    return [] if relevant is None else [relevant]


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and str(value) != ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
