"""Rankings that are known beforehand, against trec_eval, against sums by hand, and the real model on the FAQ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_search import TableEmbedder, plain_neighbours

from genai.data.retrieval.records import HeldOutQuery, Passage
from genai.embedding.tuning.measuring import (
    Embeddings,
    changes,
    embed,
    embed_passages,
    examples,
    from_pairs,
    measure,
    measure_reranker,
)
from genai.errors import DataError, UsageError
from genai.metrics.statistics import bootstrap_interval, paired_bootstrap

TREC_EVAL = json.loads((Path(__file__).parents[2] / "metrics" / "trec_eval.json").read_text())
NAMES = {"recall": "recall", "precision": "P", "ndcg": "ndcg_cut", "hit_rate": "success"}


def corpus(*keys: str) -> tuple[Passage, ...]:
    return tuple(Passage(key=key, text=f"text of {key}", document=key) for key in keys)


def one_hot(passages: Sequence[Passage]) -> dict[str, Any]:
    return {passage.text: row for passage, row in zip(passages, np.eye(len(passages)), strict=True)}


def ranked_as(passages: Sequence[Passage], rankings: dict[str, str]) -> TableEmbedder:
    """Finds the passages of each query in the order of the letters of its ranking."""
    vectors = {
        query: [1.0 + len(order) - order.index(passage.key) for passage in passages]
        for query, order in rankings.items()
    }
    return TableEmbedder(one_hot(passages), vectors)


def ask(query: str, *relevant: str) -> HeldOutQuery:
    return HeldOutQuery(query=query, relevant=dict.fromkeys(relevant, 1.0))


PASSAGES = corpus("a", "b", "c", "d")
QUERIES = [ask("one", "a"), ask("two", "b", "c"), ask("three", "d")]
BEFORE = ranked_as(PASSAGES, {"one": "badc", "two": "dcba", "three": "abcd"})
AFTER = ranked_as(PASSAGES, {"one": "abcd", "two": "dabc", "three": "dabc"})


def measured(embedder: Any, **changes: Any) -> Any:
    settings: dict[str, Any] = {"metrics": ["recall@1", "mrr@10"], "neighbours_of": plain_neighbours, **changes}
    return measure(embedder, PASSAGES, QUERIES, **settings)


def test_values_of_every_query_are_those_of_trec_eval() -> None:
    passages = corpus(*sorted(TREC_EVAL[0]["ranked"]))
    queries = [HeldOutQuery(query=str(row), relevant=query["grades"]) for row, query in enumerate(TREC_EVAL)]
    vectors = {
        str(row): [30.0 - query["ranked"].index(passage.key) for passage in passages]
        for row, query in enumerate(TREC_EVAL)
    }
    found = measure(
        TableEmbedder(one_hot(passages), vectors),
        passages,
        queries,
        metrics=[f"{name}@{k}" for name in NAMES for k in (1, 5, 10, 20)] + ["mrr@30"],
        neighbours_of=plain_neighbours,
        depth=5,
    )
    for row, query in enumerate(TREC_EVAL):
        assert [key for key, _ in found.ranking(row)] == query["ranked"]
        for name, theirs in NAMES.items():
            for k in (1, 5, 10, 20):
                assert found.values[f"{name}@{k}"][row] == pytest.approx(query["values"][f"{theirs}_{k}"], abs=1e-9)
        assert found.values["mrr@30"][row] == pytest.approx(query["values"]["recip_rank"], abs=1e-9)
        assert 1 / found.ranks[row] == pytest.approx(query["values"]["recip_rank"], abs=1e-9)


def test_rankings_scores_ranks_and_means() -> None:
    found = measured(BEFORE, depth=3, metrics=["recall@1", "recall@2"])
    assert found.found.tolist() == [[1, 0, 3], [3, 2, 1], [0, 1, 2]]
    assert [key for key, _ in found.ranking(0)] == ["b", "a", "d"]
    length = np.sqrt(5**2 + 4**2 + 3**2 + 2**2)
    assert [score for _, score in found.ranking(0)] == pytest.approx([5 / length, 4 / length, 3 / length], abs=1e-6)
    assert found.ranks.tolist() == [2, 2, 0]
    assert found.means == {"recall@1": 0.0, "recall@2": pytest.approx((1 + 0.5 + 0) / 3)}


def test_a_measure_that_looks_deeper_is_served() -> None:
    assert measured(BEFORE, depth=1, metrics=["recall@1", "recall@3"]).found.shape == (3, 3)
    deep = measured(BEFORE, depth=1, metrics=["recall@9"])
    assert deep.found.shape == (3, 9)
    assert deep.found[0].tolist() == [1, 0, 3, 2, -1, -1, -1, -1, -1]
    assert len(deep.ranking(0)) == 4
    assert deep.means == {"recall@9": 1.0}


def test_vectors_are_cut_and_scaled_again() -> None:
    passages = corpus("long", "short")
    documents = {"text of long": [0.6, 0.0, 0.8], "text of short": [0.5, 0.1, 0.0]}
    embedder = TableEmbedder(documents, {"q": [0.6, 0.0, -0.8]})

    def first(dimension: int | None) -> list[tuple[str, float]]:
        settings: dict[str, Any] = {"metrics": ["recall@1"], "neighbours_of": plain_neighbours}
        return measure(embedder, passages, [ask("q", "long")], dimension=dimension, **settings).ranking(0)

    short = 0.5 / np.sqrt(0.26)
    assert first(None) == [("short", pytest.approx(0.6 * short)), ("long", pytest.approx(0.6 * 0.6 - 0.8 * 0.8))]
    assert first(2) == [("long", pytest.approx(1.0)), ("short", pytest.approx(short))]
    with pytest.raises(UsageError, match="cannot be cut to 4 numbers: the model gives 3"):
        first(4)


def test_vectors_that_are_there_are_taken() -> None:
    vectors = embed(BEFORE, PASSAGES, QUERIES)
    assert isinstance(vectors, Embeddings)
    again = measured(TableEmbedder({}, {}), vectors=vectors)
    assert again.found.tolist() == measured(BEFORE).found.tolist()
    with pytest.raises(ValueError, match="other passages or queries"):
        measured(BEFORE, vectors=Embeddings(passages=vectors.passages[:-1], queries=vectors.queries))


def test_texts_are_embedded_in_portions_and_come_back_in_order() -> None:
    texts = [f"{number} " + "x" * (number * 37 % 100) for number in range(700)]
    table = {text: [1.0, float(row)] for row, text in enumerate(texts)}
    embedder = TableEmbedder(table, {})
    checked: list[int] = []
    vectors = embed_passages(embedder, texts, check=lambda: checked.append(1))
    assert np.allclose(vectors[:, 1] / vectors[:, 0], np.arange(700), rtol=1e-4)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert embedder.portions == [256, 256, 188]
    assert len(checked) == 3


def test_it_can_be_ended_between_portions() -> None:
    class Enough(Exception):
        pass

    def stop() -> None:
        raise Enough

    with pytest.raises(Enough):
        measured(BEFORE, check=stop)
    with pytest.raises(Enough):
        measured(BEFORE, vectors=embed(BEFORE, PASSAGES, QUERIES), check=stop)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([], "there is no query to measure with"),
        ([ask("q", "a", "z")], "the query 'q' names the passage 'z', which is not in the corpus"),
        (
            [HeldOutQuery(query="q", relevant={"a": 0.0}, source="faq.jsonl:3")],
            "faq.jsonl:3: nothing answers the query 'q'",
        ),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is_embedded(queries: Any, message: str) -> None:
    embedder = TableEmbedder({}, {})
    with pytest.raises(DataError) as error:
        measure(embedder, PASSAGES, queries, metrics=["recall@1"], neighbours_of=plain_neighbours)
    assert message in str(error.value)
    with pytest.raises(UsageError, match="'recal@1' is no measure"):
        measure(embedder, PASSAGES, QUERIES, metrics=["recal@1"], neighbours_of=plain_neighbours)
    assert embedder.portions == []


def test_infinite_numbers_are_refused() -> None:
    broken = TableEmbedder({**one_hot(PASSAGES), "text of c": [np.nan] * 4}, {})
    with pytest.raises(DataError, match="infinite numbers for 1 of 4 texts"):
        measured(broken)


# --- rerankers --------------------------------------------------------------------------------------------------------


class Wishes:
    """Scores texts by what the test wants; remembers what it was shown."""

    def __init__(self, **scores: float) -> None:
        self._scores = {f"text of {key}": score for key, score in scores.items()}
        self.shown: list[tuple[str, list[str]]] = []

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        self.shown.append((query, [text.removeprefix("text of ") for text in texts]))
        return [self._scores.get(text, 0.0) for text in texts]


def test_a_reranker_reorders_what_it_is_shown() -> None:
    first_stage = measured(BEFORE)
    scorer = Wishes(a=0.9, c=0.8)
    found = measure_reranker(scorer, first_stage, PASSAGES, QUERIES, candidates=3, metrics=["recall@1", "recall@3"])
    assert scorer.shown == [("one", ["b", "a", "d"]), ("two", ["d", "c", "b"]), ("three", ["a", "b", "c"])]
    # of equal scores the order of the first stage stays; "d" was not shown for the third query
    assert [[key for key, _ in found.ranking(row)] for row in range(3)] == [list("abd"), list("cdb"), list("acb")]
    assert found.ranking(0)[0][1] == pytest.approx(0.9)
    assert found.values["recall@1"].tolist() == [1, 0.5, 0]
    assert found.values["recall@3"].tolist() == [1, 1, 0]
    assert found.ranks.tolist() == [1, 1, 0]
    assert first_stage.found.shape == (3, 100)  # untouched


def test_of_many_equal_scores_the_order_of_the_first_stage_stays() -> None:
    passages, queries = from_pairs([("q", f"text {number}") for number in range(60)])
    vectors = np.random.default_rng(0).standard_normal((60, 8))
    embedder = TableEmbedder(
        {passage.text: row for passage, row in zip(passages, vectors, strict=True)}, {"q": vectors[7]}
    )
    first = measure(embedder, passages, queries, metrics=["recall@1"], neighbours_of=plain_neighbours)
    thirds = Wishes()
    thirds.score = lambda query, texts: [int(text.split()[1]) % 3 for text in texts]  # type: ignore[method-assign]
    found = measure_reranker(thirds, first, passages, queries, candidates=40, metrics=["recall@1"])
    order = [int(place) for place in first.found[0, :40]]
    assert found.found[0].tolist() == sorted(order, key=lambda place: -(place % 3))


def test_a_reranker_is_shown_no_passages_that_are_not_there() -> None:
    scorer = Wishes()
    found = measure_reranker(scorer, measured(BEFORE), PASSAGES, QUERIES, metrics=["recall@1"])
    assert [len(texts) for _, texts in scorer.shown] == [4, 4, 4]
    assert found.found.shape == (3, 50)
    assert found.found[0].tolist() == [1, 0, 3, 2] + [-1] * 46


def test_a_reranker_that_gives_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="no finite number for each of 4 texts to 'one'"):
        measure_reranker(Wishes(b=float("nan")), measured(BEFORE), PASSAGES, QUERIES, metrics=["recall@1"])


# --- before and after -------------------------------------------------------------------------------------------------


def test_changes_hold_means_and_paired_intervals() -> None:
    before, after = measured(BEFORE), measured(AFTER)
    recall, reciprocal = changes(before, after)
    assert (recall.metric, reciprocal.metric) == ("recall@1", "mrr@10")
    assert (recall.before, recall.after, recall.difference) == pytest.approx((0, 2 / 3, 2 / 3))
    assert reciprocal.before == pytest.approx((1 / 2 + 1 / 2 + 1 / 4) / 3)
    assert reciprocal.after == pytest.approx((1 + 1 / 3 + 1) / 3)
    paired = paired_bootstrap(before.values["mrr@10"], after.values["mrr@10"])
    assert (reciprocal.difference, reciprocal.low, reciprocal.high) == (paired.mean, paired.low, paired.high)
    first, second = bootstrap_interval(before.values["mrr@10"]), bootstrap_interval(after.values["mrr@10"])
    assert (reciprocal.before_low, reciprocal.before_high) == (first.low, first.high)
    assert (reciprocal.after_low, reciprocal.after_high) == (second.low, second.high)
    assert changes(before, after) == (recall, reciprocal)


def test_changes_of_different_things_are_refused() -> None:
    with pytest.raises(ValueError, match="measured were"):
        changes(measured(BEFORE), measured(AFTER, metrics=["recall@1"]))


def test_examples_are_the_largest_moves_of_the_first_answer() -> None:
    moved = examples(measured(BEFORE), measured(AFTER), PASSAGES, QUERIES, count=5)
    assert (moved.num_won, moved.num_lost) == (2, 1)
    assert [(example.query, example.rank_before, example.rank_after) for example in moved.won] == [
        ("three", 4, 1),
        ("one", 2, 1),
    ]
    assert moved.won[0].expected == moved.won[0].first_after == "text of d"
    assert moved.won[0].first_before == "text of a"
    [lost] = moved.lost
    assert (lost.query, lost.rank_before, lost.rank_after) == ("two", 2, 3)
    assert lost.expected == "text of c"  # of the two answers the one that stood best before
    fewer = examples(measured(BEFORE), measured(AFTER), PASSAGES, QUERIES, count=1)
    assert ([example.query for example in fewer.won], fewer.num_won) == (["three"], 2)


def test_of_several_answers_the_one_is_shown_that_stands_where_it_is_better() -> None:
    before = measured(ranked_as(PASSAGES, {"one": "abcd", "two": "dbca", "three": "dabc"}))
    after = measured(ranked_as(PASSAGES, {"one": "abcd", "two": "cdab", "three": "dabc"}))
    [won] = examples(before, after, PASSAGES, QUERIES, count=5).won
    assert (won.query, won.rank_before, won.rank_after, won.expected) == ("two", 2, 1, "text of c")
    [lost] = examples(after, before, PASSAGES, QUERIES, count=5).lost
    assert (lost.query, lost.rank_before, lost.rank_after, lost.expected) == ("two", 1, 2, "text of c")


def test_an_answer_that_was_not_found_has_no_rank() -> None:
    moved = examples(
        measured(BEFORE, depth=1, metrics=["recall@1"]),
        measured(AFTER, depth=1, metrics=["recall@1"]),
        PASSAGES,
        QUERIES,
        count=5,
    )
    assert {example.query: (example.rank_before, example.rank_after) for example in moved.won} == {
        "one": (None, 1),
        "three": (None, 1),
    }
    assert moved.lost == ()


def test_pairs_become_a_corpus_of_their_answers() -> None:
    passages, queries = from_pairs([("q1", "yes"), ("q2", "no"), ("q1", "no"), ("q3", "yes")])
    assert [passage.text for passage in passages] == ["yes", "no"]
    texts = {passage.key: passage.text for passage in passages}
    assert [(query.query, [texts[key] for key in query.relevant]) for query in queries] == [
        ("q1", ["yes", "no"]),
        ("q2", ["no"]),
        ("q3", ["yes"]),
    ]


@pytest.mark.integration
@pytest.mark.slow
def test_minilm_finds_answers_as_well_as_the_notes_say(faq: list[dict[str, str]]) -> None:
    from genai.config.embedding import EmbeddingConfig
    from genai.embedding.opening import open_encoder

    passages, queries = from_pairs([(row["q"], row["a"]) for row in faq])
    found = measure(
        open_encoder(EmbeddingConfig(model="gallery:all-minilm-l6-v2", backend="torch")),
        passages,
        queries,
        metrics=["ndcg@10", "recall@1", "recall@100"],
        neighbours_of=plain_neighbours,
    )
    assert found.means["ndcg@10"] == pytest.approx(0.716, abs=0.005)
    # 0.557 counts one answer a row; six questions stand there twice
    assert found.means["recall@1"] == pytest.approx(0.557, abs=0.01)
    assert found.means["recall@100"] == pytest.approx(0.972, abs=0.005)
