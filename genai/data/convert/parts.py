"""One part of the input as shards. The same part gives the same bytes, in whatever process it is converted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genai.data.convert.pieces import Part
from genai.data.convert.reading import Document, Reader
from genai.data.convert.settings import TRAIN, ConvertSettings
from genai.data.convert.token_rows import DocumentTokenizer, RowCutter
from genai.data.mds import MDSWriter, ShardInfo
from genai.data.rows import BadRow
from genai.data.split import hash_position
from genai.storage import join

HASHES = ("sha1",)
"""Kept for every shard; mosaicml-streaming knows it too."""
MAX_BAD_KEPT = 20
"""Bad documents that a part names; all are counted."""
_BATCH_CHARS = 1 << 20
_BATCH_DOCUMENTS = 1000
Report = Callable[[int], None]
"""Told how many characters were converted since the last call; may raise to stop."""


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """What went into one split."""

    documents: int = 0
    """How many documents, empty ones left out."""
    text_bytes: int = 0
    """Their length in UTF-8."""
    tokens: int = 0
    """Their tokens, with an end-of-text token each."""
    rows: int = 0
    """Samples written."""

    def __add__(self, other: SplitCounts) -> SplitCounts:
        mine, theirs = asdict(self), asdict(other)
        return SplitCounts(**{key: value + theirs[key] for key, value in mine.items()})


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """One split of one part."""

    counts: SplitCounts
    """What went in."""
    shards: tuple[ShardInfo, ...] = ()
    """What was written."""
    rest: tuple[int, ...] = ()
    """The last tokens, fewer than a row."""


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """What came of a part."""

    index: int
    """Which part."""
    splits: tuple[SplitResult, ...]
    """In the order of `ConvertSettings.splits`."""
    num_empty: int = 0
    """Documents without any text."""
    num_bad: int = 0
    """Documents that cannot be used."""
    bad: tuple[BadRow, ...] = field(default=())
    """The first of them."""

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        splits = [
            {
                "counts": asdict(split.counts),
                "shards": [shard.to_json() for shard in split.shards],
                "rest": list(split.rest),
            }
            for split in self.splits
        ]
        bad = [asdict(row) for row in self.bad]
        return {
            "index": self.index,
            "splits": splits,
            "num_empty": self.num_empty,
            "num_bad": self.num_bad,
            "bad": bad,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> PartResult:
        """The reverse of `to_json`."""
        splits = tuple(
            SplitResult(
                counts=SplitCounts(**split["counts"]),
                shards=tuple(ShardInfo.from_json(shard, where) for shard in split["shards"]),
                rest=tuple(split["rest"]),
            )
            for split in value["splits"]
        )
        bad = tuple(BadRow(**row) for row in value["bad"])
        return cls(index=value["index"], splits=splits, num_empty=value["num_empty"], num_bad=value["num_bad"], bad=bad)


@dataclass(frozen=True, kw_only=True)
class Work:
    """All that a process needs to convert parts."""

    reader: Reader
    """Reads them, and knows the settings."""
    out: str
    """Where the data sets go."""
    tokenizer_json: str | None
    """The content of a tokenizer.json, for `tokens`."""

    @property
    def settings(self) -> ConvertSettings:
        """What is made."""
        return self.reader.settings

    def convert(self, part: Part, report: Report) -> PartResult:
        """Write the shards of a part."""
        sinks = [_Sink(self, index, prefix=f"part-{part.index:05d}") for index in range(len(self.settings.splits))]
        tokenizer = None
        if self.settings.tokens is not None:
            assert self.tokenizer_json is not None
            tokenizer = DocumentTokenizer(self.tokenizer_json, self.settings.tokens)
        bad: list[BadRow] = []
        num_bad = num_empty = 0
        for batch in _batches(item for piece in part.pieces for item in self.reader.documents(piece)):
            documents, unusable, empty = _sorted_out(batch)
            num_empty += empty
            num_bad += len(unusable)
            bad.extend(unusable[: MAX_BAD_KEPT - len(bad)])
            encoded = tokenizer.encode([document.text for document in documents]) if tokenizer else None
            for number, document in enumerate(documents):
                sink = sinks[split_of(document.text, self.settings)]
                sink.add(document, encoded[number] if encoded is not None else None)
            report(sum(len(document.text) for document in documents))
        splits = tuple(sink.finish() for sink in sinks)
        return PartResult(index=part.index, splits=splits, num_empty=num_empty, num_bad=num_bad, bad=tuple(bad))


def split_of(text: str, settings: ConvertSettings) -> int:
    """Index of the split that a document goes to: a pure function of its text and the seed."""
    if not settings.shares:
        return 0
    position = hash_position(settings.seed, text)
    names = settings.splits
    upper = 0.0
    for name, share in settings.shares.items():
        upper += share
        if position < upper:
            return names.index(name)
    return names.index(TRAIN)


def split_url(out: str, split: str | None) -> str:
    """The folder of a split."""
    return out if split is None else join(out, split)


class _Sink:
    """One split of a part: counts, and writes what it is given."""

    def __init__(self, work: Work, split: int, *, prefix: str) -> None:
        self._settings = work.settings
        self._out = split_url(work.out, work.settings.splits[split])
        self._prefix = prefix
        self._writer: MDSWriter | None = None
        self._counts = SplitCounts()
        self._rows = 0
        tokens = work.settings.tokens
        self._cutter = RowCutter(tokens.seq_len, tokens.dtype, self._write_rows) if tokens else None

    def add(self, document: Document, ids_N: NDArray[np.unsignedinteger] | None) -> None:
        num_tokens = 0
        if self._cutter is not None:
            assert ids_N is not None
            self._cutter.add(ids_N)
            num_tokens = len(ids_N)
        else:
            assert document.sample is not None
            self._open().write(document.sample)
            self._rows += 1
        text_bytes = len(document.text.encode())
        self._counts += SplitCounts(documents=1, text_bytes=text_bytes, tokens=num_tokens)

    def finish(self) -> SplitResult:
        rest = self._cutter.flush().tolist() if self._cutter else []
        shards = tuple(self._writer.finish()) if self._writer else ()
        return SplitResult(counts=self._counts + SplitCounts(rows=self._rows), shards=shards, rest=tuple(rest))

    def _write_rows(self, rows_NS: NDArray[np.unsignedinteger]) -> None:
        self._open().write_rows("tokens", rows_NS)
        self._rows += len(rows_NS)

    def _open(self) -> MDSWriter:
        if self._writer is None:
            self._writer = open_writer(self._out, self._settings, prefix=self._prefix)
        return self._writer


def open_writer(out: str, settings: ConvertSettings, *, prefix: str) -> MDSWriter:
    """A writer of shards that leaves the index to somebody else."""
    return MDSWriter(
        out,
        settings.mds_columns,
        compression=settings.compression,
        hashes=HASHES,
        size_limit_bytes=settings.shard_bytes,
        prefix=prefix,
        index=False,
    )


def _batches(documents: Iterator[Document | BadRow]) -> Iterator[list[Document | BadRow]]:
    """Documents in groups of about a million characters, which is what a tokenizer likes."""
    batch: list[Document | BadRow] = []
    num_chars = 0
    for document in documents:
        batch.append(document)
        num_chars += len(document.text) if isinstance(document, Document) else 0
        if num_chars >= _BATCH_CHARS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _sorted_out(batch: Sequence[Document | BadRow]) -> tuple[list[Document], list[BadRow], int]:
    """The documents that can be used, those that cannot, and how many are empty."""
    documents, bad, num_empty = [], [], 0
    for item in batch:
        if isinstance(item, BadRow):
            bad.append(item)
        elif not item.text.strip():
            num_empty += 1
        elif is_unicode(item.text):
            documents.append(item)
        else:
            bad.append(BadRow(source=item.source, reason="holds half of a surrogate pair, which is no character"))
    return documents, bad, num_empty


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON may hold half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
