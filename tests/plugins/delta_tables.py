"""Delta tables with features that `deltalake` reads but does not write: deletion vectors, mapped columns.

Written by hand after Delta's protocol (PROTOCOL.md: "Deletion Vectors", "Column Mapping", appendix "Deletion Vector
Format") and the format of 32-bit roaring bitmaps (RoaringFormatSpec).
"""

from __future__ import annotations

import base64
import json
import struct
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

_MAGIC = 1681511377
_NO_RUNS = 12346
_MOST_OF_AN_ARRAY = 4096
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_PYTHONS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~".decode()
_WRITER_FEATURES = ("appendOnly", "invariants", "changeDataFeed", "deletionVectors")


def commit(table: str | Path, actions: Sequence[Mapping[str, Any]]) -> int:
    """Write the next version by hand; gives its number."""
    log = Path(table) / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    version = 1 + max((int(path.stem) for path in log.glob("*.json")), default=-1)
    info = {"commitInfo": {"timestamp": 1_700_000_000_000 + version, "operation": "WRITE", "operationParameters": {}}}
    lines = [json.dumps(action) for action in (info, *actions)]
    (log / f"{version:020}.json").write_text("\n".join(lines) + "\n")
    return version


def delete_by_vector(table: str | Path, rows: Mapping[int, Sequence[int]], *, inline: bool = False) -> int:
    """Delete rows as Spark and Databricks do where a table allows it: without touching its data files.

    Args:
        table: a folder.
        rows: number of the file, by path -> numbers of the rows in it that are gone, all of them since the beginning.
        inline: put the vectors into the log in place of a file.
    """
    adds = _adds(table)
    features = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"]}
    actions: list[dict[str, Any]] = [{"protocol": {**features, "writerFeatures": list(_WRITER_FEATURES)}}]
    paths = sorted(adds)
    for number, positions in rows.items():
        add = adds[paths[number]]
        kept = {key: add[key] for key in ("path", "partitionValues", "size", "deletionVector") if key in add}
        actions.append({"remove": {**kept, "deletionTimestamp": 1_700_000_000_000, "dataChange": True}})
        vector = _inline(positions) if inline else _in_a_file(Path(table), positions)
        actions.append({"add": {**add, "deletionVector": vector, "dataChange": True}})
    return commit(table, actions)


def replace_file(table: str | Path, rows: pa.Table) -> int:
    """Put rows in place of the file that has a deletion vector, as an UPDATE without the feed does."""
    [old] = [add for add in _adds(table).values() if "deletionVector" in add]
    kept = {key: old[key] for key in ("path", "partitionValues", "size", "deletionVector")}
    removed = {**kept, "deletionTimestamp": 1_700_000_000_000, "dataChange": True}
    return commit(table, [{"remove": removed}, {"add": _write_file(Path(table), rows)}])


def write_mapped(table: str | Path, rows: pa.Table, *, mode: str = "name") -> None:
    """A table whose columns have other names in its files, as after a rename.

    Args:
        table: a folder, which must be empty.
        rows: what it holds.
        mode: `name` or `id`.
    """
    fields = [_mapped(field, number) for number, field in enumerate(rows.schema, 1)]
    physical = [field["metadata"]["delta.columnMapping.physicalName"] for field in fields]
    configuration = {"delta.columnMapping.mode": mode, "delta.columnMapping.maxColumnId": str(len(fields))}
    commit(
        table,
        [
            {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}},
            {"metaData": _metadata(fields, configuration)},
            {"add": _write_file(Path(table), rows.rename_columns(physical))},
        ],
    )


def append_mapped(table: str | Path, rows: pa.Table) -> int:
    """Add rows to a table of `write_mapped`; their columns have the physical names `c1`, `c2`, ..."""
    names = [f"c{number}" for number in range(1, rows.num_columns + 1)]
    return commit(table, [{"add": _write_file(Path(table), rows.rename_columns(names))}])


def rename_mapped(table: str | Path, old: str, new: str) -> int:
    """Rename a column of a table of `write_mapped`, which changes nothing but its log."""
    metadata = _last(table, "metaData")
    schema = json.loads(metadata["schemaString"])
    for field in schema["fields"]:
        field["name"] = new if field["name"] == old else field["name"]
    return commit(table, [{"metaData": {**metadata, "schemaString": json.dumps(schema)}}])


def _mapped(field: pa.Field, number: int) -> dict[str, Any]:
    names = {pa.int64(): "long", pa.string(): "string", pa.float64(): "double"}
    mapping = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"c{number}"}
    return {"name": field.name, "type": names[field.type], "nullable": True, "metadata": mapping}


def _metadata(fields: Sequence[Mapping[str, Any]], configuration: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": [],
        "configuration": dict(configuration),
        "createdTime": 1_700_000_000_000,
    }


def _write_file(table: Path, rows: pa.Table) -> dict[str, Any]:
    fields = [field.with_metadata({"PARQUET:field_id": str(number)}) for number, field in enumerate(rows.schema, 1)]
    path = table / f"part-{uuid.uuid4()}.parquet"
    table.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows.cast(pa.schema(fields)), path)
    stats = json.dumps({"numRecords": rows.num_rows})
    size = path.stat().st_size
    told = {"modificationTime": 1_700_000_000_000, "dataChange": True, "stats": stats}
    return {"path": path.name, "partitionValues": {}, "size": size, **told}


# --- the log ----------------------------------------------------------------------------------------------------------


def _actions(table: str | Path) -> list[dict[str, Any]]:
    files = sorted((Path(table) / "_delta_log").glob("*.json"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines() if line.strip()]


def _adds(table: str | Path) -> dict[str, dict[str, Any]]:
    """Path -> its last `add`, of the files that are part of the newest version."""
    adds: dict[str, dict[str, Any]] = {}
    for action in _actions(table):
        if "add" in action:
            adds[unquote(action["add"]["path"])] = action["add"]
        elif "remove" in action:
            adds.pop(unquote(action["remove"]["path"]), None)
    return adds


def _last(table: str | Path, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = [action[kind] for action in _actions(table) if kind in action][-1]
    return found


# --- deletion vectors -------------------------------------------------------------------------------------------------


def _in_a_file(table: Path, positions: Sequence[int]) -> dict[str, Any]:
    name, bitmap = uuid.uuid4(), _bitmap(positions)
    content = struct.pack(">BI", 1, len(bitmap)) + bitmap + struct.pack(">I", zlib.crc32(bitmap))
    (table / f"deletion_vector_{name}.bin").write_bytes(content)
    told = {"offset": 1, "sizeInBytes": len(bitmap), "cardinality": len(set(positions))}
    return {"storageType": "u", "pathOrInlineDv": _z85(name.bytes), **told}


def _inline(positions: Sequence[int]) -> dict[str, Any]:
    bitmap = _bitmap(positions)
    padded = bitmap + bytes(-len(bitmap) % 4)
    told = {"sizeInBytes": len(bitmap), "cardinality": len(set(positions))}
    return {"storageType": "i", "pathOrInlineDv": _z85(padded), **told}


def _bitmap(positions: Sequence[int]) -> bytes:
    """A 64-bit roaring bitmap of numbers below 2**32, in arrays of their lower 16 bits."""
    containers: dict[int, list[int]] = {}
    for position in sorted(set(positions)):
        containers.setdefault(position >> 16, []).append(position & 0xFFFF)
    assert all(len(values) <= _MOST_OF_AN_ARRAY for values in containers.values())
    head = struct.pack("<II", _NO_RUNS, len(containers))
    head += b"".join(struct.pack("<HH", key, len(values) - 1) for key, values in containers.items())
    offset = len(head) + 4 * len(containers)
    offsets, content = b"", b""
    for values in containers.values():
        offsets += struct.pack("<I", offset + len(content))
        content += struct.pack(f"<{len(values)}H", *values)
    return struct.pack("<IQI", _MAGIC, 1, 0) + head + offsets + content


def _z85(data: bytes) -> str:
    """Z85 (ZeroMQ RFC 32) is Python's base85 in another alphabet."""
    return base64.b85encode(data).decode().translate(str.maketrans(_PYTHONS, _Z85))
