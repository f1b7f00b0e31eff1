"""`genai index --dry-run`: what a sync would take over and what it would cost, without writing anything.

The source is looked through, a few documents are read and cut, and a few chunks are embedded to time the encoder.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.index import IndexConfig
from genai.config.loading import Loaded
from genai.errors import DataError
from genai.index.ledger import LEDGER, Ledger
from genai.index.shape import columns_of
from genai.index.sources import open_source
from genai.jobs.index_parts import encoder_opener, folder_of
from genai.jobs.index_result import position_of
from genai.jobs.problems import at, named_keys
from genai.jobs.training_plan import size_text, table, time_text, write_lines
from genai.log import get_logger, progress
from genai.storage.atomic import free_bytes

if TYPE_CHECKING:
    from genai.index.interfaces import Change, Changes, Encoder

_SAMPLE = 64
"""Documents that are read and cut."""
_PROBE = 32
"""Chunks that are embedded to time the encoder; as many before, which are not counted."""
_LOOKED_UP = 256
_BYTES_A_NUMBER = 2 + 4
"""Of a vector: float16 in the ledger, float32 in the engine."""
_BYTES_A_CHUNK = 700
"""Of a chunk beside its text and its vector: words, links of the graph, rows of the ledger; as measured."""
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class IndexPlan:
    """What a sync would come to."""

    index: str
    path: str
    status: str
    """new, or what is there."""
    source: str
    position: Mapping[str, Any]
    """Where the source stands."""
    columns: Mapping[str, str]
    """Metadata column -> type."""
    new: int
    """Documents that are not in the index."""
    changed: int
    """Documents whose version is another one; those that turn out to say the same are passed over."""
    unchanged: int
    """Documents that are passed over."""
    gone: int
    """Documents that would be removed."""
    sampled: int
    """Documents that were read to tell what follows."""
    unreadable: Sequence[str]
    """Of the sampled ones, why they cannot be read."""
    chunks: int
    """That the new and changed documents would give."""
    tokens: int
    """In these."""
    embedding: str
    fingerprint: str
    dimension: int
    engine: str
    texts_per_s: float | None
    """Of the encoder, as timed; None where there was nothing to embed."""
    predicted_s: float | None
    """For embedding; building the engine comes on top."""
    disk_bytes: int
    """That ledger and engine would take for the new chunks."""
    free_disk_bytes: int
    writes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)

    def text(self) -> str:
        """As the terminal shows it."""
        version = f", version {self.position['version']}" if "version" in self.position else ""
        counts = f"{self.new:,} new, {self.changed:,} changed, {self.unchanged:,} unchanged, {self.gone:,} gone"
        lines = [
            ("index", f"{self.index}: {self.status}; nothing was written"),
            ("source", f"{self.source}{version}"),
            ("columns", ", ".join(f"{name}: {kind}" for name, kind in self.columns.items()) or "none"),
            ("documents", counts),
            ("chunks", f"about {self.chunks:,} to embed, {self.tokens:,} tokens (from {self.sampled:,} documents)"),
            ("encoder", f"{self.embedding}, {self.dimension} numbers a vector"),
            ("engine", self.engine),
        ]
        if self.predicted_s is not None and self.texts_per_s is not None:
            lines.append(("time", f"{time_text(self.predicted_s)} of embedding at {self.texts_per_s:,.0f} chunks/s"))
        lines.append(("disk", f"about {size_text(self.disk_bytes)}, {size_text(self.free_disk_bytes)} free"))
        lines += [("unreadable", reason) for reason in self.unreadable]
        return table([*lines, *write_lines(self.writes)])


def make_plan(loaded: Loaded[IndexConfig], *, run_name: str | None = None, allow_code: bool = False) -> IndexPlan:
    """Look at everything that a sync would look at.

    Args:
        loaded: the job file.
        run_name: name of the run directory; by default the index's and the number of the sync.
        allow_code: the command line lets a model bring its own Python.

    Raises:
        GenaiError: what the sync would fail with.
    """
    config = loaded.config
    with named_keys(loaded):
        with at(loaded, "name"):
            folder = folder_of(config.name, config.indexes_dir)
        source = open_source(config.source)
        encoder = encoder_opener(config, allow_code=allow_code)(config.embedding)
        ledger = Ledger.open(folder, read_only=True) if (folder / LEDGER).is_file() else None
        try:
            note = ledger.source_note().state if ledger else None
            looked = _look(source.changes(note), ledger) if source is not None else _Looked()
            sample = _cut(looked.to_read, config, encoder)
            speed = _texts_per_s(encoder, sample.texts)
            number = len(ledger.syncs()) + 1 if ledger else 1
            scale = (looked.new + looked.changed) / max(sample.num_documents, 1)
            chunks = round(scale * len(sample.texts))
            return IndexPlan(
                index=config.name,
                path=str(folder),
                status=f"{ledger.num_documents():,} documents are there" if ledger else "new",
                source=source.uri if source is not None else "none: rows come by genai index upsert",
                position=position_of(looked.state),
                columns=dict(columns_of(config.source, source)),
                new=looked.new,
                changed=looked.changed,
                unchanged=looked.unchanged,
                gone=looked.gone,
                sampled=sample.num_documents,
                unreadable=sample.unreadable,
                chunks=chunks,
                tokens=round(scale * sample.tokens),
                embedding=config.embedding.model,
                fingerprint=encoder.fingerprint,
                dimension=encoder.dimension,
                engine=config.engine.name,
                texts_per_s=speed,
                predicted_s=chunks / speed if speed else None,
                disk_bytes=round(
                    chunks * (encoder.dimension * _BYTES_A_NUMBER + _BYTES_A_CHUNK) + scale * sample.text_bytes
                ),
                free_disk_bytes=free_bytes(folder),
                writes=(str(folder), str(Path(config.runs_dir) / (run_name or f"{config.name}-{number}"))),
            )
        finally:
            if ledger is not None:
                ledger.close()


@dataclass(kw_only=True)
class _Looked:
    """What the source says, held against the ledger."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    gone: int = 0
    state: Mapping[str, Any] | None = None
    to_read: Sequence[Change] = ()
    """Some of the new and changed ones."""


def _look(changes: Changes, ledger: Ledger | None) -> _Looked:
    from genai.index.ledger_writing import known_documents

    looked, to_read, seen = _Looked(state=changes.state), list[Any](), 0
    with progress("looking", changes.total) as task:
        done = 0
        while some := list(islice(changes.rows, _LOOKED_UP)):
            known = known_documents(ledger, [change.key for change in some]) if ledger else {}
            for change in some:
                before = known.get(change.key)
                if change.kind == "delete":
                    looked.gone += before is not None
                    continue
                seen += before is not None
                if before is not None and before.version == change.version:
                    looked.unchanged += 1
                    continue
                looked.changed += before is not None
                looked.new += before is None
                if len(to_read) < _SAMPLE:
                    to_read.append(change)
            done += len(some)
            task.update(done)
    if changes.complete and ledger is not None:
        looked.gone = ledger.num_documents() - seen
    looked.to_read = to_read
    return looked


@dataclass(kw_only=True)
class _Sample:
    """A few documents, read and cut."""

    num_documents: int = 0
    texts: Sequence[str] = ()
    """Of their chunks."""
    tokens: int = 0
    text_bytes: int = 0
    unreadable: Sequence[str] = ()


def _cut(changes: Sequence[Change], config: IndexConfig, encoder: Encoder) -> _Sample:
    from genai.index.cutting import content_hash, cut_document

    sample, texts, unreadable = _Sample(num_documents=len(changes)), list[str](), list[str]()
    for change in changes:
        assert change.load is not None
        try:
            document = change.load()
            cut = cut_document(
                document,
                digest=content_hash(document),
                version=change.version,
                settings="",
                chunking=config.chunking,
                tokens=encoder,
            )
        except DataError as error:
            unreadable.append(f"{change.key}: {error}")
            continue
        texts += [chunk.text for chunk in cut.chunks]
        sample.tokens += sum(chunk.tokens for chunk in cut.chunks)
        sample.text_bytes += sum(len(chunk.text.encode()) for chunk in cut.chunks)
    sample.texts, sample.unreadable = texts, unreadable
    return sample


def _texts_per_s(encoder: Encoder, texts: Sequence[str]) -> float | None:
    """Chunks a second, over a few that stand for all."""
    if not texts:
        return None
    stride = max(1, len(texts) // _PROBE)
    probe = texts[::stride][:_PROBE]
    _log.info("timing the encoder on %d chunks", len(probe))
    encoder.embed_documents(probe)
    started = time.perf_counter()
    encoder.embed_documents(probe)
    return len(probe) / (time.perf_counter() - started)
