"""Hold back documents with all their queries, so that nothing of what is measured has been trained on.

Pairs that share a document, a query or a group are one component (over any number of steps), and a component goes to
test, validation or training as a whole: by a hash of (seed, its smallest name), where the names are those of its groups
or else of its documents. So it depends neither on the order of the rows nor on other components; only a new pair that
joins two components, or brings one a smaller name, can move old pairs.

The corpus is never split: held-out queries search all of it. What they are answered by stays out of training
altogether. It is no training positive, and no negative either, since that would teach the model to push the test's
documents away; this goes for all passages of such a document, and for passages that resemble one of them.

Labelled queries that are given take the place of the test's. Then it is the user who has split: their documents may
also be trained on, and only training queries that resemble a labelled one are removed.

Where people wrote pairs, made ones are for training alone; a made pair of a held-out document is left out. Without any
written pair, the made ones are held back as others are, and carry their provenance.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from genai.config.embed_finetune import RetrievalDataConfig, RetrievalSplitConfig
from genai.data.disjoint_sets import DisjointSets
from genai.data.faults import data_fault
from genai.data.retrieval.grades import is_answer, middle_grade, query_key
from genai.data.retrieval.material import Material
from genai.data.retrieval.near_copies import most_alike
from genai.data.retrieval.passages import text_key
from genai.data.retrieval.records import HeldOutQuery, NearDuplicate, Pair, Passage, RetrievalData
from genai.data.split import hash_position
from genai.errors import DataError
from genai.log import get_logger

Side = Literal["train", "validation", "test"]
_LARGE = 0.5
_SHOWN_CHARS = 120
_log = get_logger(__name__)


def split_material(
    material: Material,
    config: RetrievalDataConfig,
    *,
    made: Sequence[Pair] = (),
    queries: Sequence[HeldOutQuery] | None = None,
) -> RetrievalData:
    """Divide pairs into training pairs, validation and test queries, and remove what leaks.

    Args:
        material: what was read.
        config: `data`.
        made: pairs that were made from the corpus.
        queries: labelled queries that are the test; they name passages by key, document or text.

    Raises:
        DataConfigError: validation and test together take everything.
        DataError: a pair names no passage, or nothing that the labelled queries name is in the corpus.
    """
    split = config.split
    if split.validation + (0 if queries is not None else split.test) >= 1:
        message = "validation and test together take all documents"
        raise data_fault(message, key="data.split", fix="let their sum be below 1, e.g. 0.1 and 0.2")
    passages = {passage.key: passage for passage in material.passages}
    pairs = [*material.pairs, *made]
    _check_passages(pairs, passages)
    sides = _sides(pairs, passages, split, has_queries=queries is not None)
    middle = middle_grade(pairs)
    measured = material.pairs or made
    held_out = {
        side: _held_out([pair for pair, its in zip(pairs, sides, strict=True) if its == side], measured, middle)
        for side in ("validation", "test")
    }
    test = held_out["test"] if queries is None else _matched(queries, material, passages)
    asked = {query_key(query.query) for query in test} if queries is not None else set()
    validation = tuple(query for query in held_out["validation"] if query_key(query.query) not in asked)
    train = [pair for pair, side in zip(pairs, sides, strict=True) if side == "train"]
    by_split = [*validation, *(test if queries is None else ())]
    kept_back = _KeptBack.of(by_split, material.passages, split.near_duplicates)
    left, near = _without_near_copies(train, (*validation, *test), passages, kept_back, split.near_duplicates)
    data = RetrievalData(
        passages=material.passages,
        train=tuple(_without_held_out_negatives(pair, kept_back.keys) for pair in left),
        validation=validation,
        test=test,
        near_duplicates=tuple(near),
        num_bad_rows=len(material.bad),
        tables=material.tables,
        kept_back=frozenset(kept_back.keys),
    )
    return replace(data, fingerprint=fingerprint(data))


def fingerprint(data: RetrievalData) -> str:
    """sha256 of the passages, the training pairs and the held-out queries."""
    digest = hashlib.sha256()

    def add(*values: object) -> None:
        digest.update(json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")

    for passage in data.passages:
        add(passage.key, passage.text, passage.document)
    for pair in data.train:
        add(pair.query, pair.positive, pair.negatives, pair.score, pair.positive_text)
    for side, queries in (("validation", data.validation), ("test", data.test)):
        for query in queries:
            add(side, query.query, sorted(query.relevant.items()))
    add(sorted(data.kept_back))
    return digest.hexdigest()


def _check_passages(pairs: Iterable[Pair], passages: Mapping[str, Passage]) -> None:
    for pair in pairs:
        if pair.positive not in passages:
            raise DataError(f"the pair names a passage '{pair.positive}' that there is not", where=pair.source or None)


# --- sides ------------------------------------------------------------------------------------------------------------


def _sides(
    pairs: Sequence[Pair], passages: Mapping[str, Passage], split: RetrievalSplitConfig, *, has_queries: bool
) -> list[Side]:
    """Where each pair goes."""
    sets = DisjointSets(len(pairs))
    first: dict[tuple[str, str], int] = {}
    for index, pair in enumerate(pairs):
        ties = [("document", passages[pair.positive].document), ("query", query_key(pair.query))]
        for tie in [*ties, ("group", pair.group)] if pair.group is not None else ties:
            sets.join(index, first.setdefault(tie, index))
    roots = [sets.root(index) for index in range(len(pairs))]
    names: dict[int, tuple[int, str]] = {}
    for root, pair in zip(roots, pairs, strict=True):
        document = passages[pair.positive].document
        name = (1, f"document:{document}") if pair.group is None else (0, f"group:{pair.group}")
        names[root] = min(name, names.get(root, name))
    _warn_of_one_component(roots)
    test = 0.0 if has_queries else split.test
    side_of: dict[int, Side] = {}
    for root, smallest in names.items():
        position = hash_position(split.seed, smallest[1])
        side_of[root] = "test" if position < test else "validation" if position < test + split.validation else "train"
    return [side_of[root] for root in roots]


def _warn_of_one_component(roots: Sequence[int]) -> None:
    largest = max(Counter(roots).values(), default=0)
    if len(roots) > 1 and largest > _LARGE * len(roots):
        what = "data.split: %d of %d pairs hang together by documents, queries or groups and stay on one side"
        _log.warning(what, largest, len(roots))


def _held_out(pairs: Sequence[Pair], measured: Sequence[Pair], middle: float) -> tuple[HeldOutQuery, ...]:
    """One query for each that some of the pairs answer, in their order.

    Args:
        pairs: of one side.
        measured: of which pairs the queries may be.
        middle: see `is_answer`.
    """
    allowed = {id(pair) for pair in measured}
    asked: dict[str, Pair] = {}
    relevant: dict[str, dict[str, float]] = {}
    for pair in pairs:
        if id(pair) in allowed and is_answer(pair, middle):
            key = query_key(pair.query)
            asked.setdefault(key, pair)
            grades = relevant.setdefault(key, {})
            grades[pair.positive] = max(1.0 if pair.score is None else pair.score, grades.get(pair.positive, 0.0))
    return tuple(
        HeldOutQuery(query=pair.query, relevant=relevant[key], source=pair.source, provenance=pair.provenance)
        for key, pair in asked.items()
    )


def _matched(
    queries: Sequence[HeldOutQuery], material: Material, passages: Mapping[str, Passage]
) -> tuple[HeldOutQuery, ...]:
    """Labelled queries with the keys of passages in place of what they name; what there is not counts as missed."""
    matched: list[HeldOutQuery] = []
    unknown: list[str] = []
    num_names = num_cut = 0
    for query in queries:
        relevant: dict[str, float] = {}
        for name, grade in query.relevant.items():
            by_text = text_key(name)
            keys = (name,) if name in passages else material.names.get(name) or material.names.get(by_text)
            keys = keys or ((by_text,) if by_text in passages else ())
            num_names += 1
            num_cut += len(keys) > 1
            if not keys:
                unknown.append(name)
            for key in keys or (name,):
                relevant[key] = max(grade, relevant.get(key, 0.0))
        matched.append(replace(query, relevant=relevant))
    if num_names and len(unknown) == num_names:
        fix = f"name passages by their keys, such as '{material.passages[0].key}'" if material.passages else None
        message = f"nothing that is relevant is in the corpus, neither '{unknown[0]}' nor any other"
        raise DataError(message, where="evaluation.queries", fix=fix)
    if unknown:
        some = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        what = "evaluation.queries: %d of %d relevant keys are not in the corpus and count as missed: %s"
        _log.warning(what, len(unknown), num_names, some)
    if num_cut:
        what = "evaluation.queries: %d relevant documents are cut into passages, each of which counts as an answer"
        _log.warning(what, num_cut)
    return tuple(matched)


# --- what would leak --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _KeptBack:
    """Passages that training leaves alone."""

    keys: frozenset[str]
    """All of them."""
    alike: Mapping[str, tuple[Passage, float]]
    """Those of no held-out document -> which passage of one they resemble, and how much."""

    @classmethod
    def of(cls, queries: Iterable[HeldOutQuery], passages: Sequence[Passage], at_least: float) -> _KeptBack:
        answers = {key for query in queries for key in query.relevant}
        documents = {passage.document for passage in passages if passage.key in answers}
        held = [passage for passage in passages if passage.document in documents]
        others = [passage for passage in passages if passage.document not in documents]
        found = most_alike([passage.text for passage in others], [passage.text for passage in held], at_least=at_least)
        alike = {others[index].key: (held[other], similarity) for index, (other, similarity) in found.items()}
        return cls(keys=frozenset([*(passage.key for passage in held), *alike]), alike=alike)


def _without_near_copies(
    train: Sequence[Pair],
    held_out: Sequence[HeldOutQuery],
    passages: Mapping[str, Passage],
    kept_back: _KeptBack,
    at_least: float,
) -> tuple[list[Pair], list[NearDuplicate]]:
    """The training pairs of which neither the query nor the passage resembles a held-out one, and the others."""
    queries = most_alike([pair.query for pair in train], [query.query for query in held_out], at_least=at_least)
    left: list[Pair] = []
    near: list[NearDuplicate] = []
    for index, pair in enumerate(train):
        found: list[tuple[float, str, str]] = []
        if index in queries:
            other, similarity = queries[index]
            found.append((similarity, held_out[other].source, pair.query))
        if pair.positive in kept_back.alike:
            passage, similarity = kept_back.alike[pair.positive]
            found.append((similarity, passage.source, passages[pair.positive].text))
        if found:
            similarity, source, text = max(found, key=lambda each: each[0])
            shown = text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
            near.append(NearDuplicate(train=pair.source, held_out=source, similarity=similarity, text=shown))
        else:
            left.append(pair)
    return left, near


def _without_held_out_negatives(pair: Pair, kept_back: frozenset[str]) -> Pair:
    negatives = tuple(key for key in pair.negatives if key not in kept_back)
    return pair if len(negatives) == len(pair.negatives) else replace(pair, negatives=negatives)
