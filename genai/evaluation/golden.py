"""What a data set was when it was measured with: a hash, so that a golden set cannot change unseen.

One file has the sha256 of its bytes, as `sha256sum` prints it. Several files have that of their hashes in the order of
their names. Tables, data sets of the hub and held-back rows of a run have that of their rows, in whatever order these
come and wherever they lie: the sum of the rows' own hashes, modulo 2^256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from genai.data.faults import data_fault
from genai.data.readers import SourceFile
from genai.tracking.fingerprints import file_fingerprint

_BITS = 256


def hash_of_files(files: Sequence[SourceFile]) -> str:
    """sha256, in hex, of one or more files.

    Args:
        files: at least one, in the order of their names.
    """
    hashes = [file_fingerprint(file.path) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def hash_of_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """A hash, in hex, of rows in any order."""
    total = sum(int(hash_of_row(row), 16) for row in rows)
    return f"{total % (1 << _BITS):0{_BITS // 4}x}"


def hash_of_row(row: Mapping[str, Any]) -> str:
    """sha256, in hex, of what a row holds; the order of its columns makes no difference."""
    content = json.dumps(row, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def check_hash(found: str, wanted: str | None, *, path: str) -> None:
    """Refuse a golden set that is not what the job file says.

    Args:
        found: what the data has.
        wanted: `sha256` of the job file, its beginning of 8 characters or more; None: anything.
        path: the data.

    Raises:
        DataConfigError: they differ.
    """
    if wanted is None or (len(wanted) >= 8 and found.startswith(wanted.lower())):
        return
    raise data_fault(
        f"this is not what the job file says: its sha256 is {found}, wanted is {wanted}",
        key="dataset.sha256",
        where=path,
        fix="bring the old file back; or, if the change is meant, write the new sha256: results of before and after "
        "cannot be compared",
    )
