"""metrics.jsonl: one JSON object a line, `{"step": 10, "epoch": 0, "tokens": 5120, "time_s": 3.2, "loss/train": 2.31}`.

Numbers that JSON cannot say are written as the strings "NaN", "Infinity" and "-Infinity".
Source: the ProtoJSON format, protobuf.dev.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from genai.log import get_logger
from genai.storage.atomic import write_bytes

logger = get_logger(__name__)

_TAIL_BYTES = 1 << 18

Record = dict[str, float]
"""One line: the position (`step`, and what else was passed as such) and the values logged there."""


class MetricsLog:
    """Appends records to a file; each is one unbuffered write, so that a killed process loses at most a torn last line.

    Args:
        path: the file, made where absent; a torn last line is cut off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = _open_for_append(path)

    def log(self, step: int, values: Mapping[str, float], **position: float) -> None:
        """Append one record.

        Args:
            step: optimizer steps done.
            values: name to value, e.g. {"loss/train": 2.31}.
            position: further coordinates, e.g. epoch=0, tokens=5120, time_s=3.2.
        """
        record = {"step": step, **position, **{name: float(value) for name, value in values.items()}}
        line = json.dumps(plain(record), allow_nan=False) + "\n"
        os.write(self._descriptor, line.encode())

    def truncate_after(self, step: int) -> None:
        """Remove the records of later steps than `step`, so that a resumed run does not tell them twice."""
        lines = self._path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if (record := _parse(line)) is not None and record["step"] <= step]
        if len(kept) == len(lines):
            return
        self.close()
        write_bytes(self._path, b"".join(kept))
        self._descriptor = _open_for_append(self._path)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def read_metrics(path: Path) -> list[Record]:
    """The records of the file `path` in order; empty when there is no file.

    A torn last line, left by a killed process, is passed over; any other line that cannot be read is, with a warning.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    records = []
    for number, line in enumerate(lines, start=1):
        record = _parse(line)
        if record is not None:
            records.append(record)
        elif line.endswith(b"\n"):
            logger.warning("%s:%d: passed over, it is no metrics record", path, number)
    return records


def series(records: Iterable[Record], name: str, *, over: str = "step") -> list[tuple[float, float]]:
    """The points (`over`, value) of the metric `name`, in order; a point told twice counts as told last."""
    return list(
        {record[over]: (record[over], record[name]) for record in records if name in record and over in record}.values()
    )


def last_values(path: Path) -> Record:
    """The last value of `step` and of every metric that was logged lately; reads only the end of the file."""
    if not path.exists():
        return {}
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        records = [record for line in file if (record := _parse(line)) is not None]
    return {name: value for record in records for name, value in record.items()}


def plain(value: Any) -> Any:
    """`value` with mappings as dict, sequences as list, and numbers that JSON has no word for as strings."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _open_for_append(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    end = os.fstat(descriptor).st_size
    if end and os.pread(descriptor, 1, end - 1) != b"\n":
        os.ftruncate(descriptor, path.read_bytes().rfind(b"\n") + 1)
    return descriptor


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
        return {str(key): float(value) for key, value in record.items()} if "step" in record else None
    except (ValueError, TypeError, AttributeError):
        return None
