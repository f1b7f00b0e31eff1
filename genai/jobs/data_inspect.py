"""`genai data inspect`: a look at shards, or at files before they are converted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from genai.data.convert.inputs import HubOptions, Inputs, find_inputs
from genai.data.convert.lineage import read_lineage
from genai.data.convert.reading import Document, Reader, fit_to_records
from genai.data.convert.settings import ConvertSettings
from genai.data.inspection import Duplicates, Lengths, TokenCounts, as_row, compare, look_at_tokens
from genai.data.mds import INDEX, ShardInfo, read_index, read_samples
from genai.data.rows import Row
from genai.errors import GenaiError, UsageError
from genai.log import get_logger
from genai.models.tokenizers import FastTokenizer, load_fast_tokenizer
from genai.storage import is_remote, join, open_store
from genai.storage.local import path_of
from genai.tables.delta import open_delta

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PART_BYTES = 1 << 26
_TOKENS = "tokens"
_NUM_SHOWN = 3
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class InspectRequest:
    """What the command line asks for."""

    references: tuple[str, ...]
    """Folders of shards, or sources as `convert` takes them."""
    tokenizer: str | None = None
    """To decode and to count with; None takes the one of the lineage."""
    samples: int = 3
    """How many samples are shown."""
    near_among: int = 10_000
    """Among how many documents near duplicates are looked for; 0 does not look."""
    text: str | None = None
    """The column with the text."""


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What was found in one data set, or in all files together."""

    name: str
    """URL of the data set, or the references."""
    kind: str
    """`tokens`, `rows` or `files`."""
    columns: Mapping[str, str]
    """Column -> encoding, of shards."""
    size_bytes: int
    """Of the shards or files as they are stored."""
    num_shards: int
    """Or files."""
    num_samples: int
    """Rows or documents."""
    tokens: TokenCounts | None
    """Of token rows."""
    lengths: Lengths | None
    """Of documents."""
    duplicates: Duplicates | None
    """Among documents."""
    repeated_rows: Duplicates | None
    """Among token rows."""
    frequent: tuple[tuple[str, int], ...]
    """The most frequent tokens, as text where a tokenizer is known, and how often they occur."""
    samples: tuple[str, ...]
    """The first ones."""
    left_out: int
    """Documents of files that cannot be used."""
    lineage: Mapping[str, Any] | None
    """Where shards come from."""


def run(request: InspectRequest) -> list[Inspected]:
    """Look at every data set behind the references, or at all of them as files.

    Raises:
        UsageError: a reference leads nowhere.
        DataError: a data set is damaged.
    """
    sets = [url for reference in request.references for url in _data_sets(reference)]
    if sets:
        return [_look_at_set(url, request) for url in sets]
    return [_look_at_files(request)]


def _data_sets(reference: str) -> list[str]:
    """The folders with an index.json: the reference itself, or the splits below it."""
    if reference.startswith(("hf:", "delta:", "gallery:")) or (
        not is_remote(reference) and not path_of(reference).is_dir()
    ):
        return []
    store = open_store(reference)
    if store.stat(INDEX) is not None:
        return [reference]
    keys = [info.key for info in store.list() if info.key.count("/") == 1 and info.key.endswith(f"/{INDEX}")]
    return [join(reference, key.partition("/")[0]) for key in sorted(keys)]


# --- shards -----------------------------------------------------------------------------------------------------------


def _look_at_set(url: str, request: InspectRequest) -> Inspected:
    shards = read_index(url)
    lineage = read_lineage(url)
    if not shards:
        raise UsageError("the data set holds no shard", where=url)
    columns = dict(zip(shards[0].column_names, shards[0].column_encodings, strict=True))
    look = _look_at_token_set if _TOKENS in columns else _look_at_row_set
    found = look(url, shards, lineage, request)
    return replace(found, columns=columns, lineage=lineage)


def _look_at_token_set(
    url: str, shards: list[ShardInfo], lineage: Mapping[str, Any] | None, request: InspectRequest
) -> Inspected:
    tokenizer = _tokenizer(lineage, request)
    known = (lineage or {}).get("tokenizer") or {}
    end_id = known.get("end_of_text_id", tokenizer.end_of_text_id if tokenizer else None)
    found = look_at_tokens(url, end_of_text_id=end_id, max_documents=max(request.near_among, request.samples))
    decoder = _Decoder(tokenizer)
    texts = decoder.texts(found.first_documents)
    duplicates = None
    if tokenizer is not None:
        _, duplicates = compare((Row(text=text) for text in texts), near_among=request.near_among)
    return Inspected(
        name=url,
        kind="tokens",
        columns={},
        size_bytes=sum(shard.stored.size_bytes for shard in shards),
        num_shards=len(shards),
        num_samples=found.counts.rows,
        tokens=found.counts,
        lengths=found.documents,
        duplicates=duplicates,
        repeated_rows=found.repeated_rows,
        frequent=tuple((decoder.text([token]), count) for token, count in found.counts.frequent),
        samples=tuple(texts[: request.samples]) or _first_rows(url, decoder, request.samples),
        left_out=0,
        lineage=None,
    )


def _first_rows(url: str, decoder: _Decoder, most: int) -> tuple[str, ...]:
    """The first rows, where documents cannot be told apart."""
    return tuple(decoder.text(sample[_TOKENS].tolist()) for sample in islice(read_samples(url), most))


class _Decoder:
    """Token ids to text; to the ids themselves where no tokenizer is known."""

    def __init__(self, tokenizer: FastTokenizer | None) -> None:
        self._tokenizer: Tokenizer | None = None
        if tokenizer is not None:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_str(tokenizer.json)

    def text(self, ids: list[int]) -> str:
        if self._tokenizer is None:
            return " ".join(map(str, ids))
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def texts(self, documents: Any) -> list[str]:
        if self._tokenizer is None:
            return [self.text(ids.tolist()) for ids in documents]
        lists = [ids.tolist() for ids in documents]
        return [str(text) for text in self._tokenizer.decode_batch(lists, skip_special_tokens=False)]


def _tokenizer(lineage: Mapping[str, Any] | None, request: InspectRequest) -> FastTokenizer | None:
    """The tokenizer that was named, or the one of the lineage, where it is still the same."""
    if request.tokenizer is not None:
        return load_fast_tokenizer(request.tokenizer)
    known = (lineage or {}).get("tokenizer")
    if known is None:
        _log.warning("no tokenizer is known for these tokens: name one with --tokenizer to see text")
        return None
    try:
        tokenizer = load_fast_tokenizer(known["reference"], end_of_text=known["end_of_text"])
    except GenaiError as error:
        _log.warning("the tokenizer of the lineage cannot be used: %s", error)
        return None
    if tokenizer.fingerprint != known["fingerprint"]:
        _log.warning("%s is no longer the tokenizer that made these tokens", known["reference"])
        return None
    return tokenizer


def _look_at_row_set(
    url: str, shards: list[ShardInfo], lineage: Mapping[str, Any] | None, request: InspectRequest
) -> Inspected:
    lengths, duplicates = compare(map(as_row, read_samples(url)), near_among=request.near_among)
    return Inspected(
        name=url,
        kind="rows",
        columns={},
        size_bytes=sum(shard.stored.size_bytes for shard in shards),
        num_shards=len(shards),
        num_samples=sum(shard.samples for shard in shards),
        tokens=None,
        lengths=lengths,
        duplicates=duplicates,
        repeated_rows=None,
        frequent=(),
        samples=tuple(_said(as_row(sample)) for sample in islice(read_samples(url), request.samples)),
        left_out=0,
        lineage=None,
    )


def _said(row: Row) -> str:
    if row.text is not None:
        return row.text
    return "\n".join(f"{message.role}: {message.content}" for message in row.messages)


# --- files ------------------------------------------------------------------------------------------------------------


def _look_at_files(request: InspectRequest) -> Inspected:
    hub_options = HubOptions()
    inputs = find_inputs(request.references, part_bytes=_PART_BYTES, hub_options=hub_options, open_table=open_delta)
    settings = ConvertSettings(target="rows")
    reader = Reader(inputs=inputs.inputs, settings=settings, hub_options=hub_options, open_table=open_delta)
    reader = replace(reader, settings=fit_to_records(reader, inputs, text_column=request.text))
    documents = _Documents(reader, inputs)
    first = list(islice(documents, request.samples))
    count = _token_lengths(request.tokenizer) if request.tokenizer is not None else None
    lengths, duplicates = compare(documents, near_among=request.near_among, token_lengths=count)
    return Inspected(
        name=", ".join(request.references),
        kind="files",
        columns={},
        size_bytes=inputs.size_bytes,
        num_shards=len(inputs.inputs),
        num_samples=duplicates.compared,
        tokens=None,
        lengths=lengths,
        duplicates=duplicates,
        repeated_rows=None,
        frequent=(),
        samples=tuple(_said(row) for row in first),
        left_out=documents.left_out,
        lineage=None,
    )


class _Documents:
    """The documents of files as rows; may be read again."""

    def __init__(self, reader: Reader, inputs: Inputs) -> None:
        self._reader = reader
        self._inputs = inputs
        self.left_out = 0

    def __iter__(self) -> Iterator[Row]:
        self.left_out = 0
        for document in (
            item for part in self._inputs.parts for piece in part.pieces for item in self._reader.documents(piece)
        ):
            if isinstance(document, Document):
                yield as_row(dict(document.sample or {}))
            else:
                if self.left_out < _NUM_SHOWN:
                    _log.warning("%s: cannot be used: %s", document.source, document.reason)
                self.left_out += 1


def _token_lengths(reference: str) -> Callable[[list[str]], list[int]]:
    """Counts the tokens of texts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(load_fast_tokenizer(reference).json)
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    return lambda texts: [len(item.ids) for item in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
