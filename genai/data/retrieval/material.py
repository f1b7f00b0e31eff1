"""Everything that a job reads before anything is held back: passages, and pairs that name them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from genai.config.embed_finetune import RetrievalDataConfig
from genai.data.chunking.tokens import Offsets
from genai.data.messages import Unusable
from genai.data.retrieval.corpus import read_corpus
from genai.data.retrieval.pairs import Kind, PairRow, PairRows, read_pairs
from genai.data.retrieval.passages import PassageSet, text_key
from genai.data.retrieval.records import Pair, Passage
from genai.data.rows import BadRow
from genai.data.tables import SCHEME, OpenTable, Table
from genai.log import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Material:
    """Passages and pairs, as they were read."""

    passages: tuple[Passage, ...]
    """The whole corpus, each text once, in the order of the files; then what only the pairs name."""
    pairs: tuple[Pair, ...]
    """In the order of the files."""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other names -> keys of passages: documents that are cut into several, and texts that stand there twice."""
    bad: tuple[BadRow, ...] = ()
    """Rows and files that cannot be used, and why."""
    num_rows: int = 0
    """All rows and files that were read, the bad ones among them."""
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Delta tables that were read: reference -> URI and version."""
    columns: tuple[str, ...] = ()
    """Of the pairs, as their file calls them."""
    kind: Kind | Literal["corpus"] = "corpus"
    """What the pairs are; corpus: there are none."""


def read_material(
    config: RetrievalDataConfig, *, open_table: OpenTable | None = None, token_offsets: Offsets | None = None
) -> Material:
    """Read `data.corpus` and `data.pairs`, and find the passage of each pair.

    A pair names its passage by `id`, where the corpus has that document, else by its text; where a corpus is given and
    does not hold the text, it is added. A document that is cut into several passages is one of them only together with
    a text that stands in it.

    Args:
        config: `data`.
        open_table: opens what `delta:` names.
        token_offsets: start and end of every token of a text; only needed where documents are cut.

    Raises:
        DataConfigError: a reference or column leads nowhere; `key` names the key at fault.
        ValueError: documents are to be cut, and there is no `token_offsets`.
    """
    opened: dict[str, Any] = {}
    passages = PassageSet()
    bad: list[BadRow] = []
    num_rows = 0
    table_opener = None if open_table is None else _noting(open_table, opened)
    if config.corpus is not None:
        num_rows, bad = read_corpus(config.corpus, passages, open_table=table_opener, token_offsets=token_offsets)
    if config.pairs is None:
        return Material(
            passages=passages.passages,
            pairs=(),
            names=passages.names,
            bad=tuple(bad),
            num_rows=num_rows,
            tables=opened,
        )
    read = read_pairs(config, open_table=table_opener)
    pairs, unplaced = _place(read, passages, has_corpus=config.corpus is not None)
    return Material(
        passages=passages.passages,
        pairs=tuple(pairs),
        names=passages.names,
        bad=(*bad, *read.bad, *unplaced),
        num_rows=num_rows + len(read.rows) + len(read.bad),
        tables=opened,
        columns=read.columns,
        kind=read.kind,
    )


def _noting(open_table: OpenTable, opened: dict[str, Any]) -> OpenTable:
    """`open_table`, which writes down what it opened."""

    def open_and_note(uri: str, version: int | None) -> Table:
        table = open_table(uri, version)
        opened[f"{SCHEME}{uri}" if version is None else f"{SCHEME}{uri}@{version}"] = {
            "uri": table.uri,
            "version": table.version,
        }
        return table

    return open_and_note


def _place(read: PairRows, passages: PassageSet, *, has_corpus: bool) -> tuple[list[Pair], list[BadRow]]:
    """Find the passage of each row's texts; what is missing is added."""
    before = len(passages)
    bad: list[BadRow] = []
    placed: list[tuple[PairRow, str]] = []
    texts = {(row.id, row.positive) for row in read.rows if row.id is not None and row.positive is not None}
    num_texts = Counter(name for name, _ in texts)
    in_corpus = {row.id: keys for row in read.rows if row.id is not None and (keys := passages.named(row.id))}
    # All positives come before any negative, so that a text which is both has the document that its positive says.
    for row in read.rows:
        try:
            placed.append((row, _positive(row, passages, in_corpus, 0 if row.id is None else num_texts[row.id])))
        except Unusable as error:
            bad.append(BadRow(source=row.source, reason=str(error)))
    pairs = [
        Pair(
            query=row.query,
            positive=key,
            negatives=tuple(dict.fromkeys(_negative(text, row, passages) for text in row.negatives)),
            score=row.score,
            group=row.group,
            source=row.source,
        )
        for row, key in placed
    ]
    if has_corpus and len(passages) > before:
        added = passages.passages[before:]
        what = "%d texts of the pairs are not in the corpus and were added to it, the first from %s"
        _log.warning(what, len(added), added[0].source)
    return pairs, bad


def _positive(row: PairRow, passages: PassageSet, in_corpus: Mapping[str, tuple[str, ...]], num_texts: int) -> str:
    """The key of the passage that answers a row.

    Args:
        row: what the pair says.
        passages: where the text is added if nothing says it.
        in_corpus: id of a document of the corpus -> its passages.
        num_texts: how many texts the pairs have for this row's id.
    """
    if row.id is None:
        assert row.positive is not None
        key = text_key(row.positive)
        return passages.add(Passage(key=key, text=row.positive, document=key, source=row.source)).key
    if row.id in in_corpus:
        keys = in_corpus[row.id]
        return keys[0] if len(keys) == 1 else _part(row, keys, passages)
    if row.positive is None:
        known = passages.named(row.id)
        if len(known) != 1:
            message = f"there is no document '{row.id}'" if not known else f"'{row.id}' has {len(known)} texts"
            raise Unusable(f"{message}, and no text in 'positive'")
        return known[0]
    # What one name has several texts of is a document of several passages.
    key = row.id if num_texts == 1 else f"{row.id}#{text_key(row.positive)}"
    return passages.add(Passage(key=key, text=row.positive, document=row.id, source=row.source)).key


def _part(row: PairRow, keys: tuple[str, ...], passages: PassageSet) -> str:
    """Which passage of a document a row means."""
    if row.positive is None:
        message = f"'{row.id}' is cut into {len(keys)} passages: say which by its text in 'positive'"
        raise Unusable(message)
    found = next((key for key in keys if row.positive in passages[key].text), None)
    if found is None:
        raise Unusable(f"none of the {len(keys)} passages of '{row.id}' holds the text of 'positive'")
    return found


def _negative(text: str, row: PairRow, passages: PassageSet) -> str:
    key = text_key(text)
    return passages.add(Passage(key=key, text=text, document=key, source=row.source)).key
