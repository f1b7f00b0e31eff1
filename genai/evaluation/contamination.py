"""Examples that a model saw in training: of how many of their n-grams of words does the training data hold copies?

Words are letters and digits in small letters, so that neither case nor punctuation hides a copy; an n-gram is so many
of them in a row within one text of a row. An example is its question (of a conversation the last message that is the
user's) and its right answers; the share of its distinct n-grams that stand somewhere in the training data is its
containment (Broder 1997, "On the resemblance and containment of documents"). n-grams of more than a tenth of the
examples are the words of a template or of solved examples, and do not count. An example without an n-gram (all its
texts are shorter, or written without spaces between words) cannot be judged, and is counted.

Source of the method: Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C (there 8 to 13 words).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genai.config.eval import ContaminationConfig
from genai.data.columns import check_columns
from genai.data.near_duplicates import normalise
from genai.data.readers import Record
from genai.data.retrieval.faults import told_at
from genai.data.sources import read_records
from genai.data.tables import OpenTable
from genai.errors import DataError, GateError
from genai.evaluation.records import Chat, Continuations, Example, Query
from genai.evaluation.run_rows import RUNS, read_run_rows
from genai.log import get_logger, progress

_COMMON_SHARE, _COMMON_ROWS = 0.1, 3
_BLOCK_WORDS = 1 << 18
_UNKNOWN = -1
"""A word that no example has; an n-gram with it is none of theirs, and it keeps texts apart."""
_NUM_SHOWN = 3
_log = get_logger(__name__)
_Ids = NDArray[np.int64]
_Hashes = NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """An example of which something stands in the training data."""

    dataset: str
    id: str
    share: float
    """Of its n-grams, above 0."""
    num_ngrams: int
    """How many it has."""
    source: str
    """The row of the training data that holds most of them: `path:line`."""


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """What of the examples stands in the training data."""

    training: str
    ngram: int
    threshold: float
    overlaps: tuple[Overlap, ...]
    """The largest share first."""
    num_examples: int
    num_unjudged: int
    """Examples without an n-gram."""
    num_training_rows: int

    @property
    def contaminated(self) -> tuple[Overlap, ...]:
        """Those whose share reaches the threshold."""
        return tuple(each for each in self.overlaps if each.share >= self.threshold)

    def summary(self) -> str:
        """In one sentence."""
        judged = self.num_examples - self.num_unjudged
        unjudged = f"; {self.num_unjudged} are too short to tell" if self.num_unjudged else ""
        return (
            f"{len(self.contaminated)} of {judged} examples have {self.threshold:.0%} or more of their "
            f"{self.ngram}-grams in the {self.num_training_rows:,} rows of {self.training}{unjudged}"
        )

    def to_json(self) -> dict[str, Any]:
        """For result.json."""
        return {**asdict(self), "num_contaminated": len(self.contaminated)}


def find_contamination(
    examples: Sequence[Example],
    config: ContaminationConfig,
    *,
    runs_dir: str | Path = "runs",
    open_table: OpenTable | None = None,
) -> Contamination:
    """Look for examples in the training data, which are read once from beginning to end.

    Args:
        examples: of any data sets.
        config: `contamination`.
        runs_dir: where the runs lie that `runs:RUN` means.
        open_table: opens what `delta:` names.

    Raises:
        DataConfigError: the training data cannot be read; `key` begins with `contamination.`.
        UsageError: there is no such run.
    """
    held = _HeldGrams.of([_texts_of(example) for example in examples], config.ngram)
    num_rows = 0
    block = _Block(held)
    with progress("looking for the examples in the training data") as task:
        for num_rows, (source, texts) in enumerate(_training(config, runs_dir, open_table), 1):
            block.add(source, texts)
            if num_rows % 1000 == 0:
                task.update(num_rows)
    block.look_up()
    return Contamination(
        training=config.training,
        ngram=config.ngram,
        threshold=config.threshold,
        overlaps=tuple(_overlaps(examples, held, block.source_of)),
        num_examples=len(examples),
        num_unjudged=sum(1 for grams in held.grams_of if not len(grams)),
        num_training_rows=num_rows,
    )


def act_on(examples: Sequence[Example], found: Contamination, config: ContaminationConfig) -> list[Example]:
    """Tell what was found, and do with contaminated examples what the job file says.

    Returns:
        the examples to measure with.

    Raises:
        GateError: `action` is fail, and there are such examples.
        DataError: `action` is exclude, and of some data set nothing is left.
    """
    contaminated = found.contaminated
    if not contaminated:
        _log.info("%s", found.summary())
        return list(examples)
    some = ", ".join(
        f"{each.dataset} {each.id} ({each.share:.0%} in {each.source})" for each in contaminated[:_NUM_SHOWN]
    )
    if config.action == "fail":
        fix = "measure with rows that were not trained on, or write contamination.action: exclude"
        raise GateError(f"{found.summary()}: {some}", where="contamination", fix=fix)
    _log.warning("%s: %s", found.summary(), some)
    if config.action == "report":
        return list(examples)
    names = {(each.dataset, each.id) for each in contaminated}
    kept = [each for each in examples if (each.dataset, each.id) not in names]
    emptied = {each.dataset for each in examples} - {each.dataset for each in kept}
    if emptied:
        fix = "measure with rows that were not trained on"
        raise DataError(f"all examples of {', '.join(sorted(emptied))} were trained on", where="contamination", fix=fix)
    return kept


# --- texts ------------------------------------------------------------------------------------------------------------


def _texts_of(example: Example) -> list[str]:
    """What would be known to a model that saw the example."""
    question = example.question
    if isinstance(question, Continuations):
        return ["".join(question.pairs[example.gold or 0])]
    if isinstance(question, Query):
        return [question.text]
    if isinstance(question, Chat):
        asked = [message for message in question.messages if message["role"] == "user"][-1:]
        return [question.prompt or "", *(str(message.get("content", "")) for message in asked), *example.references]
    return [question.text]


def _training(
    config: ContaminationConfig, runs_dir: str | Path, open_table: OpenTable | None
) -> Iterator[tuple[str, list[str]]]:
    """Each row of the training data: where it stands, and its texts."""
    if config.training.startswith(RUNS):
        for row in read_run_rows(config.training, runs_dir=runs_dir, open_table=open_table).train:
            yield row.source, [row.text or "", *(message.content for message in row.messages)]
        return
    with told_at("contamination.training"):
        records = read_records(config.training, open_table=open_table)
        is_first = True
        for record in records:
            if not isinstance(record, Record):
                continue
            if is_first and config.columns:
                with told_at("contamination.columns"):
                    check_columns([record], config.columns)
            is_first = False
            wanted = config.columns.values() or record.values
            yield record.source, [text for name in wanted for text in _texts_in(record.values.get(name))]


def _texts_in(value: Any) -> Iterator[str]:
    """All texts of a cell, however deep they stand."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | Mapping):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(each)


# --- n-grams ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _HeldGrams:
    """The n-grams of the examples."""

    ngram: int
    words: Mapping[str, int]
    """Every word of the examples -> its number."""
    all: _Hashes
    """Sorted, each once."""
    grams_of: Sequence[_Hashes]
    """Those of each example that count."""

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]], ngram: int) -> _HeldGrams:
        split = [[normalise(text).split() for text in each] for each in texts]
        words: dict[str, int] = {}
        for each in split:
            for text in each:
                for word in text:
                    words.setdefault(word, len(words))
        found = [np.unique(_hashes(_ids(each, words), ngram)[0]) for each in split]
        every, counts = np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *found]), return_counts=True)
        held = every[counts <= max(_COMMON_ROWS, _COMMON_SHARE * len(texts))]
        kept = [grams[_is_in(held, grams)] for grams in found]
        return cls(ngram=ngram, words=words, all=held, grams_of=kept)


class _Block:
    """Training rows that are looked up together; what is found is kept."""

    def __init__(self, held: _HeldGrams) -> None:
        self.source_of: dict[int, str] = {}
        """n-gram of the examples -> the first row that holds it."""
        self._held = held
        self._ids: list[int] = []
        self._rows: list[tuple[int, str]] = []

    def add(self, source: str, texts: Iterable[str]) -> None:
        """Take a row; now and then all that were taken are looked up."""
        self._rows.append((len(self._ids), source))
        words = self._held.words
        for text in texts:
            self._ids += [words.get(word, _UNKNOWN) for word in normalise(text).split()]
            self._ids.append(_UNKNOWN)
        if len(self._ids) >= _BLOCK_WORDS:
            self.look_up()

    def look_up(self) -> None:
        """Find the n-grams of the examples among the rows that were taken, and let go of these."""
        hashes, places = _hashes(np.array(self._ids, dtype=np.int64), self._held.ngram)
        found = _is_in(self._held.all, hashes)
        starts = [start for start, _ in self._rows]
        rows = np.searchsorted(starts, places[found], side="right") - 1
        for gram, row in zip(hashes[found].tolist(), rows.tolist(), strict=True):
            self.source_of.setdefault(gram, self._rows[row][1])
        self._ids, self._rows = [], []


def _ids(texts: Sequence[Sequence[str]], words: Mapping[str, int]) -> _Ids:
    """The words of some texts by number, the texts kept apart."""
    return np.array(
        [number for text in texts for number in (*(words[word] for word in text), _UNKNOWN)], dtype=np.int64
    )


def _hashes(ids: _Ids, ngram: int) -> tuple[_Hashes, _Ids]:
    """Hashes of all n-grams of known words, and where each begins. They have 64 bits: with 10^9 training words and 10^6
    n-grams of examples a single false copy is expected once in 20,000 jobs.
    """
    num = len(ids) - ngram + 1
    if num <= 0:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    values = (ids + 1).astype(np.uint64)
    hashes = np.zeros(num, dtype=np.uint64)
    for offset in range(ngram):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + values[offset : offset + num]
    gaps = np.concatenate([[0], np.cumsum(ids == _UNKNOWN)])
    places = np.flatnonzero(gaps[ngram:] == gaps[:-ngram])
    return hashes[places], places


def _is_in(values: _Hashes, wanted: _Hashes) -> NDArray[np.bool_]:
    """For each of `wanted` whether it is among the sorted `values`."""
    if not len(values):
        return np.zeros(len(wanted), dtype=np.bool_)
    found: NDArray[np.bool_] = values[np.minimum(np.searchsorted(values, wanted), len(values) - 1)] == wanted
    return found


def _overlaps(examples: Sequence[Example], held: _HeldGrams, source_of: Mapping[int, str]) -> list[Overlap]:
    overlaps: list[Overlap] = []
    for example, grams in zip(examples, held.grams_of, strict=True):
        sources = Counter(source_of[gram] for gram in grams.tolist() if gram in source_of)
        if sources:
            overlaps.append(
                Overlap(
                    dataset=example.dataset,
                    id=example.id,
                    share=sources.total() / len(grams),
                    num_ngrams=len(grams),
                    source=sources.most_common(1)[0][0],
                )
            )
    return sorted(overlaps, key=lambda each: (-each.share, each.dataset, each.id))
