import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from genai.data.retrieval.records import Passage
from genai.embedding.tuning.synthetic.drafts import Draft
from genai.embedding.tuning.synthetic.round_trip import round_trip


def draft(query: str, passage: Passage) -> Draft:
    return Draft(query=query, passage=passage, style="question", provenance={"method": "generator"})


def test_a_query_must_find_its_own_passage(corpus: list[Passage], embedder: Any, neighbours_of: Any) -> None:
    bees, loans = corpus[:2]
    drafts = [draft("when do bees collect nectar", bees), draft("when do bees collect nectar", loans)]
    kept, lost = round_trip(drafts, corpus, k=1, embedder=embedder, neighbours_of=neighbours_of)
    assert [each.passage.key for each in kept] == ["bees"]
    assert kept[0].provenance == {"method": "generator", "round_trip_rank": "1"}
    assert [(each.passage, each.reason) for each in lost] == [("loans", "not found among the first 1")]


def test_the_rank_counts_from_one(corpus: list[Passage], embedder: Any, neighbours_of: Any) -> None:
    drafts = [draft(corpus[0].text, each) for each in corpus]
    kept, lost = round_trip(drafts, corpus, k=3, embedder=embedder, neighbours_of=neighbours_of)
    assert sorted(each.provenance["round_trip_rank"] for each in kept) == ["1", "2", "3"]
    assert kept[0].provenance["round_trip_rank"] == "1"
    assert len(lost) == 2


def test_vectors_that_are_known_are_not_made_again(corpus: list[Passage], embedder: Any, neighbours_of: Any) -> None:
    vectors = embedder.embed_queries([each.text for each in corpus])
    round_trip([draft("bees", corpus[0])], corpus, k=1, embedder=embedder, neighbours_of=neighbours_of, vectors=vectors)
    assert embedder.documents == 0


def test_places_that_are_empty(corpus: list[Passage], embedder: Any) -> None:
    class Nobody:
        def nearest(self, queries: Any, k: int) -> Any:
            return np.full((len(queries), k), -1), np.zeros((len(queries), k))

    kept, lost = round_trip([draft("x", corpus[-1])], corpus, k=3, embedder=embedder, neighbours_of=lambda _: Nobody())
    assert (len(kept), len(lost)) == (0, 1)


def test_a_small_corpus_is_said(
    corpus: list[Passage], embedder: Any, neighbours_of: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("genai")
    logger.addHandler(caplog.handler)
    try:
        kept, _ = round_trip([draft("x", corpus[0])], corpus, k=10, embedder=embedder, neighbours_of=neighbours_of)
    finally:
        logger.removeHandler(caplog.handler)
    assert len(kept) == 1
    assert "round_trip_k 10 is as large as the corpus (5)" in caplog.text


def test_nothing_to_do(corpus: list[Passage], embedder: Any, neighbours_of: Any) -> None:
    assert round_trip([], corpus, k=3, embedder=embedder, neighbours_of=neighbours_of) == ([], [])
    assert embedder.documents == 0
