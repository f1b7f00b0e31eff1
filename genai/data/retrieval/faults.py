"""Faults of reading, told under the key of the job file that the user wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from genai.data.faults import DataConfigError, data_fault
from genai.data.readers import Record
from genai.registry import suggest


@contextmanager
def told_at(key: str) -> Iterator[None]:
    """Give a fault of the reference that is read inside the key at which the job file names it."""
    try:
        yield
    except DataConfigError as error:
        if not error.key.startswith("dataset."):
            raise
        raise DataConfigError(error.problems, key=key) from error


def check_column(name: str, records: Sequence[Record], *, key: str) -> None:
    """Refuse a column that none of the first records has.

    Raises:
        DataConfigError: names it, with the nearest column that exists.
    """
    known = list(dict.fromkeys(column for record in records for column in record.values))
    if name not in known:
        near = suggest(name, known)
        fix = f"did you mean '{near}'?" if near else f"the columns are: {', '.join(known)}"
        raise data_fault(f"there is no column '{name}'", key=key, where=records[0].source, fix=fix)


def guess_columns(wanted: Mapping[str, Sequence[str]], known: Sequence[str]) -> dict[str, str]:
    """Which of the known columns might be meant by each of the wanted ones.

    Args:
        wanted: column -> other names that it often has.
        known: columns that there are.
    """
    lowered = {column.lower(): column for column in known}
    guessed: dict[str, str] = {}
    for name, others in wanted.items():
        exact = next((lowered[word] for word in (name, *others) if word in lowered), None)
        found = exact or suggest(name, known)
        if found is not None and found not in guessed.values():
            guessed[name] = found
    return guessed
