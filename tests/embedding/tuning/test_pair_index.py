"""Pairs as positions."""

from __future__ import annotations

from dataclasses import replace

from genai.data.retrieval.records import HeldOutQuery, Pair, Passage, RetrievalData
from genai.embedding.tuning.pair_index import index_pairs

PASSAGES = tuple(Passage(key=key, text=f"Text {key}.", document=key) for key in "abcdef")


def data(*train: Pair, **changes: object) -> RetrievalData:
    validation = (HeldOutQuery(query="held", relevant={"e": 1.0, "f": 3.0}),)
    plain = RetrievalData(passages=PASSAGES, train=train, validation=validation, test=())
    return replace(plain, kept_back=frozenset({"e", "f"}), **changes)  # type: ignore[arg-type]


def test_positions() -> None:
    index = index_pairs(
        data(
            Pair(query="One?", positive="b", negatives=("c", "a", "d")),
            Pair(query="one? ", positive="a", negatives=("d",)),
            Pair(query="two?", positive="c"),
        )
    )
    assert index.queries == ("One?", "one? ", "two?", "held")
    assert index.texts == tuple(passage.text for passage in PASSAGES)
    assert index.passages.tolist() == index.positives.tolist() == [1, 0, 2, 5]
    assert index.query_ids.tolist() == [0, 0, 1, 2]
    assert index.answers == ((1, 0), (0, 1), (2,))  # of the same query, its own first
    assert index.row_answers[3] == (5, 4)
    assert index.given.tolist() == [[2, 3], [3, -1], [-1, -1], [-1, -1]]  # "a" answers this query, too
    assert index.scores is None
    assert index.trained.tolist() == [0, 1, 2]
    assert index.validation.tolist() == [3]
    assert index.may_be_negative.tolist() == [True] * 4 + [False] * 2


def test_grades() -> None:
    pairs = [Pair(query="q", positive="a", score=4.0), Pair(query="q", positive="b", score=1.0)]
    plain = index_pairs(data(*pairs))
    assert plain.trained.tolist() == [0]  # "b" is no answer, and would be taught as one
    assert plain.scores is None
    assert plain.answers == ((0,), (1, 0))
    graded = index_pairs(data(*pairs), graded=True)
    assert graded.trained.tolist() == [0, 1]
    assert graded.scores is not None
    assert graded.scores.tolist() == [4.0, 1.0, 3.0]
    assert graded.fingerprint != plain.fingerprint


def test_texts_that_are_only_trained_on() -> None:
    pairs = [
        Pair(query="q", positive="a", positive_text="The rest."),
        Pair(query="r", positive="b", positive_text="Text b."),
        Pair(query="s", positive="c", positive_text="The rest."),
    ]
    index = index_pairs(data(*pairs))
    assert index.texts[6:] == ("The rest.",)
    assert index.positives.tolist() == [6, 1, 6, 5]
    assert index.passages.tolist() == [0, 1, 2, 5]
    assert index.answers == ((0,), (1,), (2,))
    assert len(index.may_be_negative) == 6


def test_the_fingerprint_is_that_of_the_data() -> None:
    one, two = data(Pair(query="q", positive="a")), data(Pair(query="q", positive="b"))
    assert index_pairs(one).fingerprint == index_pairs(one).fingerprint != index_pairs(two).fingerprint
    assert index_pairs(replace(one, fingerprint="x")).fingerprint != index_pairs(one).fingerprint
