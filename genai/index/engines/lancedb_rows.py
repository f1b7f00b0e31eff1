"""Points as rows of a LanceDB table, and their words read back from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genai.config.index import ColumnType
from genai.index.engines.columns import Column, filter_mask, make_column
from genai.index.engines.lancedb_filters import TENANT, column_name
from genai.index.engines.postings import Postings, make_postings
from genai.index.filters import Filter, held_values
from genai.index.interfaces import Hit, Point, SparseVector, Spec

if TYPE_CHECKING:
    import pyarrow
    from lancedb.table import Table


class Words:
    """The words of all points, with what filters ask for."""

    def __init__(self, *, ids: list[str], postings: Postings, columns: Mapping[str, Column]) -> None:
        self._ids = ids
        self._postings = postings
        self._columns = columns

    def search(self, vector: SparseVector, limit: int, filter: Filter | None) -> list[Hit]:
        """The best points for a query."""
        scores = self._postings.scores(vector, len(self._ids))
        found = scores > 0
        if filter is not None:
            found &= filter_mask(filter, self._columns, len(self._ids))
        rows = np.flatnonzero(found)
        order = rows[np.lexsort((rows, -scores[rows]))[:limit]]  # rows are in the order of the ids
        return [Hit(id=self._ids[row], score=float(scores[row])) for row in order]


def read_words(table: Table, spec: Spec) -> Words:
    """Read the words and the metadata of all points of a version into memory."""
    columns = {column_name(column): (column, kind) for column, kind in _all_columns(spec).items()}
    there = [name for name in columns if name in table.schema.names]
    rows = table.search().select(["id", "terms", "weights", *there]).limit(None).to_arrow().sort_by("id")
    vectors = zip(_lists(rows["terms"], np.uint32), _lists(rows["weights"], np.float32), strict=True)
    return Words(
        ids=rows["id"].to_pylist(),
        postings=make_postings([SparseVector(indices=terms, values=weights) for terms, weights in vectors]),
        columns={
            columns[name][0]: make_column(columns[name][1], name, [{name: v} for v in rows[name].to_pylist()])
            for name in there
        },
    )


def _all_columns(spec: Spec) -> dict[str, ColumnType]:
    return {**spec.columns, **({TENANT: "keyword"} if spec.has_tenants else {})}


def make_schema(spec: Spec) -> pyarrow.Schema:
    """The columns of a generation's table."""
    import pyarrow as pa

    types = {
        "keyword": pa.list_(pa.string()),
        "integer": pa.int64(),
        "float": pa.float64(),
        "boolean": pa.bool_(),
        "datetime": pa.float64(),
    }
    return pa.schema(
        [
            ("id", pa.string()),
            ("dense", pa.list_(pa.float32(), spec.dimension)),
            ("terms", pa.list_(pa.uint32())),
            ("weights", pa.list_(pa.float32())),
            *((column_name(column), types[kind]) for column, kind in _all_columns(spec).items()),
        ]
    )


def make_rows(points: Sequence[Point], spec: Spec) -> pyarrow.Table:
    """The points as they are stored."""
    import pyarrow as pa

    schema = make_schema(spec)
    dense = np.concatenate([np.asarray(point.dense, dtype=np.float32) for point in points])
    data: dict[str, Any] = {
        "id": [point.id for point in points],
        "dense": pa.FixedSizeListArray.from_arrays(pa.array(dense), spec.dimension),
        "terms": pa.array([point.sparse.indices for point in points], pa.list_(pa.uint32())),
        "weights": pa.array([point.sparse.values for point in points], pa.list_(pa.float32())),
    }
    for column, kind in _all_columns(spec).items():
        held = [held_values(point.payload, column) for point in points]
        values = [(list(items) if kind == "keyword" else items[0]) if items else None for items in held]
        data[column_name(column)] = pa.array(values, schema.field(column_name(column)).type)
    return pa.table(data, schema=schema)


def add_columns(table: Table, schema: pyarrow.Schema) -> None:
    """Bring a table's columns up to those that are declared now; what has another type is emptied."""
    wanted = {field.name: field.type for field in schema}
    there = {field.name: field.type for field in table.schema}
    doomed = [name for name, kind in there.items() if wanted.get(name) != kind]
    if doomed:
        table.drop_columns(doomed)
    added = [field for field in schema if field.name not in there or field.name in doomed]
    if added:
        import pyarrow as pa

        table.add_columns(pa.schema(added))


def _lists(column: pyarrow.ChunkedArray, dtype: Any) -> list[Any]:
    return [np.asarray(items, dtype=dtype) for items in column.to_pylist()]
