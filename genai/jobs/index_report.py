"""Gathers what a sync did into its run's report.html."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from genai.config.index import IndexConfig
from genai.config.loading import Loaded
from genai.index.ledger import Ledger
from genai.index.ledger_records import StoredChunk
from genai.index.projection import MAX_POINTS, project
from genai.index.sync import SyncReport
from genai.jobs.index_result import IndexResult
from genai.report.contents import DocumentRow, IndexReport, Lengths, MapPoint
from genai.report.index import render_index_report
from genai.report.numbers import duration
from genai.storage.atomic import write_text
from genai.tracking.run import RunDirectory

_BINS = 30
_TEXT_CHARACTERS = 160
_NUM_GROUPS = 3
"""The page has four colours: one is for the rest."""
_NUM_FAILED = 100
_OTHERS = "others"


def write(
    directory: RunDirectory, loaded: Loaded[IndexConfig], ledger: Ledger, done: SyncReport, result: IndexResult
) -> None:
    """Write the report of a sync.

    Args:
        directory: of the run.
        loaded: the job file.
        ledger: of the index, after the sync.
        done: what the sync did.
        result: the same for the command line.
    """
    chunks = ledger.sample(MAX_POINTS)
    failures = ledger.failures()[:_NUM_FAILED]
    report = IndexReport(
        run_name=directory.name,
        source=result.source or "rows by the API",
        model=f"{result.embedding} ({result.generation})",
        started_at=directory.status.created_at,
        facts=_facts(done),
        changes=_changes(result),
        holds={"documents": f"{result.documents:,}", "chunks": f"{result.chunks:,}", **_versions(result)},
        lengths=_lengths(ledger, loaded.config),
        points=_points(ledger, chunks, result.fingerprint),
        points_note=f"Two principal components of the embeddings of {len(chunks):,} of {result.chunks:,} chunks.",
        slowest=[DocumentRow(name=slow.key, detail="", time_s=slow.seconds) for slow in done.slowest],
        failed=[DocumentRow(name=failure.key, detail=failure.reason) for failure in failures],
        config=loaded.dump(),
        inputs=directory.read_inputs() or {},
        environment=directory.read_environment() or {},
    )
    write_text(directory.report, render_index_report(report))


def _facts(done: SyncReport) -> dict[str, str]:
    return {
        "chunks": f"{done.num_chunks:,}",
        "embedded": f"{done.embeddings_new:,}",
        "reused": f"{done.embeddings_reused:,}",
        "tokens a second": f"{done.tokens / done.embed_s:,.0f}" if done.tokens and done.embed_s else "-",
        "reading": duration(done.load_s),
        "embedding": duration(done.embed_s),
        "engine": duration(done.apply_s),
        "time": duration(done.seconds),
    }


def _changes(result: IndexResult) -> dict[str, str]:
    names = {
        "documents taken over": "documents_upserted",
        "documents removed": "documents_deleted",
        "documents that could not be read": "documents_failed",
        "new chunks": "chunks_new",
        "chunks removed": "chunks_removed",
        "tokens embedded": "tokens",
    }
    return {words: f"{result.account[name]:,}" for words, name in names.items()}


def _versions(result: IndexResult) -> dict[str, str]:
    version = result.position.get("version")
    return {"version of the source": str(version)} if version is not None else {}


def _lengths(ledger: Ledger, config: IndexConfig) -> Lengths | None:
    lengths = ledger.lengths()
    if not lengths:
        return None
    counts, edges = np.histogram(lengths, bins=min(_BINS, max(lengths) + 1))
    limit = config.chunking.max_tokens if config.chunking.name != "none" else None
    return Lengths(edges=edges.tolist(), counts=counts.tolist(), max_seq_len=limit)


def _points(ledger: Ledger, chunks: Sequence[StoredChunk], fingerprint: str | None) -> list[MapPoint]:
    if fingerprint is None or not chunks:
        return []
    places = project(ledger.vectors([chunk.id for chunk in chunks], fingerprint))
    points = [
        MapPoint(x=float(x), y=float(y), title=chunk.source, text=_beginning(chunk.text), group=group)
        for chunk, (x, y), group in zip(chunks, places, _groups(chunks), strict=True)
    ]
    return sorted(points, key=lambda point: point.group == _OTHERS)  # colours go by the order of the groups


def _groups(chunks: Sequence[StoredChunk]) -> list[str]:
    """The most frequent values of the first column that tells some chunks from others; else all are one group."""
    for name in dict.fromkeys(name for chunk in chunks for name in chunk.metadata):
        values = [_word(chunk.metadata.get(name)) for chunk in chunks]
        counted = Counter(value for value in values if value)
        if 1 < len(counted) <= len(chunks) / 2:
            common = [value for value, _ in counted.most_common(_NUM_GROUPS)]
            return [value if value in common else _OTHERS for value in values]
    return [""] * len(chunks)


def _word(value: object) -> str:
    """A value as the name of a group; numbers and lists make none."""
    return value if isinstance(value, str) else ""


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_CHARACTERS else f"{line[:_TEXT_CHARACTERS]}..."
