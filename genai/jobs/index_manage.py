"""`genai index ls, stats, versions, verify, rebuild, drop`: looks after indexes that are there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from genai.config.index import IndexConfig
from genai.config.loading import load
from genai.errors import DataError
from genai.index.ledger import Ledger, list_indexes
from genai.jobs.index_parts import CONFIG, encoder_opener, open_index_engine, open_ledger, read_config
from genai.jobs.index_result import (
    Checked,
    Dropped,
    IndexResult,
    IndexRow,
    IndexStats,
    IndexVersions,
    failure_row,
    generation_row,
    position_of,
    result_of,
)
from genai.log import get_logger
from genai.tracking.lock import live_holder

_LATEST = 100
"""Syncs that are looked at for one that was carried through."""
_BLOCK_BYTES = 512
"""Of `st_blocks`, whatever the file system's own blocks are."""
_log = get_logger(__name__)


def list_all(indexes_dir: Path) -> list[IndexRow]:
    """All indexes below a folder, by name; one whose ledger cannot be read is named in the log."""
    rows = []
    for name in list_indexes(indexes_dir):
        try:
            with open_ledger(name, indexes_dir) as ledger:
                rows.append(_row(ledger))
        except DataError as error:
            _log.warning("%s", error)
    return rows


def stats(name: str, *, indexes_dir: Path) -> IndexStats:
    """What an index holds.

    Raises:
        UsageError: there is no such index.
    """
    with open_ledger(name, indexes_dir) as ledger:
        counted, live = ledger.stats(), ledger.live()
        path = ledger.folder / CONFIG
        engine = load(path, IndexConfig).config.engine.name if path.is_file() else "?"
        holder = _holder(ledger.folder)
        return IndexStats(
            index=name,
            path=str(ledger.folder),
            documents=counted.documents,
            chunks=counted.chunks,
            tombstones=counted.tombstones,
            tokens=counted.tokens,
            embeddings=counted.embeddings,
            sequence=counted.sequence,
            source=counted.source,
            position=position_of(counted.source_state),
            columns=live.columns if live else {},
            has_tenants=live.has_tenants if live else False,
            engine=engine,
            generation=generation_row(live) if live else None,
            ledger_bytes=counted.ledger_bytes,
            engine_bytes=_size_bytes(ledger.engine_folder),
            holder=holder,
            failures=[failure_row(failure) for failure in ledger.failures()],
        )


def versions(name: str, limit: int, *, indexes_dir: Path) -> IndexVersions:
    """The generations and the last syncs of an index.

    Args:
        name: of the index.
        limit: how many syncs.
        indexes_dir: where indexes lie.

    Raises:
        UsageError: there is no such index.
    """
    with open_ledger(name, indexes_dir) as ledger, ledger.reading():
        return IndexVersions(
            index=name,
            generations=[generation_row(generation) for generation in ledger.generations()],
            syncs=[
                {
                    **asdict(sync),
                    "from_state": position_of(sync.from_state),
                    "to_state": position_of(sync.to_state),
                }
                for sync in ledger.syncs(limit)
            ],
        )


def verify(name: str, *, deep: bool, indexes_dir: Path, allow_code: bool = False) -> Checked:
    """Hold the engine of an index against its ledger.

    Args:
        name: of the index.
        deep: also embed a sample again.
        indexes_dir: where indexes lie.
        allow_code: whether the encoder may bring its own Python.

    Raises:
        UsageError: there is no such index.
        GenaiError: another process changes it.
    """
    from genai.index import verifying

    with open_ledger(name, indexes_dir, read_only=False) as ledger:
        config = read_config(ledger)
        encoder = encoder_opener(config, allow_code=allow_code)(config.embedding) if deep else None
        found = verifying.verify(ledger, open_index_engine(config, ledger), encoder=encoder)
        live = ledger.live()
        return Checked(
            index=name,
            generation=live.name if live else None,
            ok=found.is_sound,
            problems=found.problems,
            num_chunks=found.num_chunks,
            num_points=found.num_points,
            num_searched=found.num_searched,
            num_embedded=found.num_embedded,
        )


def rebuild(name: str, *, indexes_dir: Path, allow_code: bool = False) -> IndexResult:
    """Make the points of an index anew from its ledger.

    Raises:
        UsageError: there is no such index.
        GenaiError: another process changes it.
    """
    from genai.index import sync

    with open_ledger(name, indexes_dir, read_only=False) as ledger:
        config = read_config(ledger)
        encoder_of = encoder_opener(config, allow_code=allow_code)
        engine = open_index_engine(config, ledger)
        report = sync.rebuild(ledger, encoder_of(config.embedding), engine, config, encoder_of=encoder_of)
        return result_of(ledger, "rebuild", report)


def drop(name: str, *, dry_run: bool, indexes_dir: Path) -> Dropped:
    """Remove an index, and what its engine holds elsewhere.

    Raises:
        UsageError: there is no such index.
        GenaiError: another process is changing it, or its engine cannot be reached.
    """
    from genai.index import dropping

    with open_ledger(name, indexes_dir, read_only=False) as ledger:
        gone = Dropped(index=name, path=str(ledger.folder), size_bytes=_size_bytes(ledger.folder), dry_run=dry_run)
        if not dry_run:
            dropping.drop(ledger, open_index_engine(read_config(ledger), ledger))
        return gone


def _row(ledger: Ledger) -> IndexRow:
    live, done = ledger.live(), [sync for sync in ledger.syncs(_LATEST) if sync.outcome == "done"]
    return IndexRow(
        index=ledger.name,
        documents=ledger.num_documents(),
        chunks=ledger.num_chunks(),
        source=ledger.source_note().uri,
        model=live.embedding_config.model if live else None,
        synced_at=done[0].started_at if done else None,
    )


def _holder(folder: Path) -> str | None:
    """Who changes the index now, or follows its source."""
    for name in ("sync.lock", "follow.lock"):
        holder = live_holder(folder / name) if (folder / name).is_file() else None
        if holder is not None:
            return f"process {holder.pid} on {holder.host} since {holder.started_at} ({holder.command})"
    return None


def _size_bytes(folder: Path) -> int:
    """On the disk: holes in files count for nothing, and files that states share count once."""
    found = (path.lstat() for path in folder.rglob("*") if path.is_file())
    return sum({(stat.st_dev, stat.st_ino): stat.st_blocks * _BLOCK_BYTES for stat in found}.values())
