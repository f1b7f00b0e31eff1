"""Answers of a small index, against brute force; real ledger and real engine."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from toy_index import ToyIndex, document, make_config

from genai.config.embedding import EmbeddingConfig, RerankerConfig
from genai.config.index import ChunkingConfig, ExactConfig, IndexSourceConfig, QdrantEdgeConfig
from genai.errors import DataError, UsageError
from genai.index.filters import Compare
from genai.index.fusion import reciprocal_rank_fusion
from genai.index.interfaces import VectorQuery
from genai.index.requests import Query
from genai.index.search import Index, Result
from genai.index.words import Analyzer, document_vector, query_vector

TEXTS = {
    "screed": "how thick should the screed on a floor be",
    "tiles": "tiles on a wet floor need a sealed screed",
    "roof": "a flat roof needs two layers of felt",
    "permit": "a building permit is needed for a new roof",
    "paint": "paint the walls twice and let them dry",
    "walls": "walls of brick carry the roof",
}
TOPICS = {"screed": "floors", "tiles": "floors", "roof": "roofs", "permit": "law", "paint": "walls", "walls": "walls"}


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[ToyIndex]:
    yield from fill(ToyIndex(make_config(tmp_path)))


@pytest.fixture(params=[ExactConfig(), QdrantEdgeConfig()], ids=["exact", "qdrant_edge"])
def any_toy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ToyIndex]:
    yield from fill(ToyIndex(make_config(tmp_path, engine=request.param)))


def fill(index: ToyIndex) -> Iterator[ToyIndex]:
    index.put(*(document(key, text, topic=TOPICS[key], year=2000 + i) for i, (key, text) in enumerate(TEXTS.items())))
    yield index
    index.close()


def keys(results: Sequence[Result]) -> list[str]:
    return [result.key for result in results]


def test_dense_answers_are_those_of_brute_force(any_toy: ToyIndex) -> None:
    query = "screed floor"
    names = list(TEXTS)
    cosines = (
        any_toy.encoder.embed_documents([TEXTS[name] for name in names]) @ any_toy.encoder.embed_queries([query])[0]
    )
    with any_toy.open() as index:
        [results] = index.search([query], k=4)
    order = np.argsort(-cosines)[:4]
    assert keys(results) == [names[place] for place in order]
    assert [result.score for result in results] == pytest.approx(cosines[order], abs=2e-3)
    assert [result.rank for result in results] == [1, 2, 3, 4]


def test_answers_by_words_are_those_of_the_formula(any_toy: ToyIndex) -> None:
    analyzer, query = Analyzer(), "a roof on the walls"
    terms = {key: analyzer.terms(text) for key, text in TEXTS.items()}
    average = sum(map(len, terms.values())) / len(terms)
    held = {}
    for key, words in terms.items():
        vector = document_vector(words, average, k1=1.2, b=0.75)
        held[key] = dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
    asked = query_vector(analyzer.terms(query))
    scores = dict.fromkeys(TEXTS, 0.0)
    for term, count in zip(asked.indices.tolist(), asked.values.tolist(), strict=True):
        num_with = sum(term in values for values in held.values())
        for key, values in held.items():
            scores[key] += count * np.log(1 + (6 - num_with + 0.5) / (num_with + 0.5)) * values.get(term, 0.0)
    with any_toy.open() as index:
        [results] = index.search([query], mode="bm25", k=10)
    expected = sorted((key for key in scores if scores[key] > 0), key=lambda key: -scores[key])
    assert keys(results) == expected
    assert [result.score for result in results] == pytest.approx([scores[key] for key in expected], rel=1e-3)
    assert any_toy.encoder.num_queries == 0  # words alone load no encoder


def test_hybrid_is_the_fusion_of_both(any_toy: ToyIndex) -> None:
    query = "sealed roof felt"
    with any_toy.open(dense_weight=0.7, rrf_k=20) as index:
        [dense], [words] = index.search([query], k=6), index.search([query], k=6, mode="bm25")
        [hybrid] = index.search([query], k=6, mode="hybrid")
    fused = reciprocal_rank_fusion([[r.id for r in dense], [r.id for r in words]], [0.7, 0.3], rrf_k=20)
    assert [(result.id, result.score) for result in hybrid] == [(id_, pytest.approx(score)) for id_, score in fused]


@pytest.mark.parametrize(("weight", "mode"), [(1.0, "dense"), (0.0, "bm25")])
def test_hybrid_with_one_weight_is_that_kind_alone(toy: ToyIndex, weight: float, mode: str) -> None:
    with toy.open(dense_weight=weight) as index:
        [alone], [hybrid] = index.search(["roof walls"], mode=mode), index.search(["roof walls"], mode="hybrid")
    assert keys(alone) == keys(hybrid)


def test_a_batch_is_answered_as_single_queries_are(toy: ToyIndex) -> None:
    queries = [*TEXTS.values(), "roof", "paint floor"]
    with toy.open() as index:
        for mode in ("dense", "bm25", "hybrid"):
            together = index.search(queries, mode=mode, k=3)
            for query, results in zip(queries, together, strict=True):
                [alone] = index.search([query], mode=mode, k=3)
                assert keys(results) == keys(alone)
                assert [each.score for each in results] == pytest.approx([each.score for each in alone], abs=1e-6)
        assert index.search([]) == []


def test_results_say_where_they_come_from(tmp_path: Path) -> None:
    toy = ToyIndex(make_config(tmp_path, chunking=ChunkingConfig(name="tokens", max_tokens=4)))
    text = "one two three four five six seven eight"
    toy.put(document("a", text, topic="x", year=2020))
    with toy.open() as index:
        [results] = index.search(["five six"], k=1)
    [result] = results
    assert (result.key, result.source) == ("a", "toy/a")
    assert text[result.start : result.end] == result.text == "five six seven eight"
    assert result.metadata == {"topic": "x", "year": 2020}
    assert (result.page, result.heading) == (None, None)
    toy.close()


def test_only_the_columns_that_were_asked_for_come_back(toy: ToyIndex) -> None:
    with toy.open() as index:
        assert index.search(["roof"], columns=["year"], k=1)[0][0].metadata.keys() == {"year"}
        assert index.search(["roof"], columns=[], k=1)[0][0].metadata == {}


def test_filters_leave_out_what_does_not_pass(any_toy: ToyIndex) -> None:
    with any_toy.open() as index:
        for mode in ("dense", "bm25", "hybrid"):
            [results] = index.search(["a roof on the floor"], mode=mode, filter="topic=floors or year>=2005")
            assert set(keys(results)) <= {"screed", "tiles", "walls"}
            assert results
        assert index.search(["roof"], filter="topic=gardens") == [[]]


def test_thresholds_are_of_the_modes_own_score(toy: ToyIndex) -> None:
    with toy.open() as index:
        [every] = index.search(["screed floor"])
        limit = (every[1].score + every[2].score) / 2
        assert keys(index.search(["screed floor"], score_threshold=limit)[0]) == keys(every[:2])
        assert index.search(["screed floor"], mode="bm25", score_threshold=1000) == [[]]
    with toy.open(score_threshold=limit) as index:
        assert keys(index.search(["screed floor"])[0]) == keys(every[:2])


def test_vectors_can_be_asked_instead_of_texts(toy: ToyIndex) -> None:
    with toy.open() as index:
        [vector] = index.embed(["flat roof"])
        by_text, by_vector, by_both = index.search(["flat roof", vector, Query(text="flat roof", vector=vector)])
        assert keys(by_text) == keys(by_vector) == keys(by_both)
        asked = toy.encoder.num_queries
        index.search([Query(text="flat roof", vector=vector)], mode="hybrid")
        assert toy.encoder.num_queries == asked


class LongestFirst:
    """Likes long texts; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        self.asked.append((query, len(texts)))
        return [float(len(text)) for text in texts]


def test_a_reranker_has_the_last_word_on_the_candidates(toy: ToyIndex) -> None:
    model = LongestFirst()
    with toy.open(model=model, reranker=RerankerConfig(model="m", candidates=4)) as index:
        [plain] = index.search(["roof"], k=4, rerank=False)
        assert model.asked == []
        [results] = index.search(["roof"], k=2)
    assert model.asked == [("roof", 4)]
    expected = sorted(plain, key=lambda result: -len(result.text))[:2]
    assert keys(results) == keys(expected)
    assert [result.score for result in results] == [len(result.text) for result in expected]


def test_diversity_passes_over_what_says_the_same(tmp_path: Path) -> None:
    toy = ToyIndex(make_config(tmp_path))
    toy.put(
        document("a", "roof felt layers"), document("b", "felt roof layers"), document("c", "roof permit from the town")
    )
    with toy.open(reranker=RerankerConfig(name="mmr", candidates=3, diversity=0.5)) as index:
        [plain] = index.search(["roof felt"], k=2, rerank=False)
        assert set(keys(plain)) == {"a", "b"}
        for mode in ("dense", "hybrid", "bm25"):
            [diverse] = index.search(["roof felt"], k=2, mode=mode)
            assert "c" in keys(diverse)
        [by_vector] = index.search([index.embed(["roof felt"])[0]], k=2, mode="dense")
        assert "c" in keys(by_vector)
        assert index.search(["roof"], filter="topic=none") == [[]]
    toy.close()


def test_tenants_see_only_what_is_theirs(tmp_path: Path) -> None:
    source = IndexSourceConfig(direct=True, metadata={"topic": "keyword"}, tenant="owner")
    toy = ToyIndex(make_config(tmp_path, source=source))
    for key, text in TEXTS.items():
        toy.put(*(document(f"{owner}-{key}", text, tenant=owner, topic=TOPICS[key]) for owner in ("acme", "bolt")))
    with toy.open() as index:
        for mode in ("dense", "bm25", "hybrid"):
            for narrowed in (None, "topic=walls or not topic=walls"):
                [results] = index.search(["roof walls"], mode=mode, tenant="acme", filter=narrowed, k=20)
                assert results
                assert all(key.startswith("acme-") for key in keys(results))
        assert index.search(["roof"], tenant="nobody") == [[]]
        with pytest.raises(UsageError, match="names none"):
            index.search(["roof"])
    toy.close()


def test_what_was_given_to_another_tenant_is_hidden_even_before_it_is_published(tmp_path: Path) -> None:
    source = IndexSourceConfig(direct=True, tenant="owner")
    toy = ToyIndex(make_config(tmp_path, source=source))
    toy.put(document("a", "the roof", tenant="acme"), document("b", "the roof too", tenant="acme"))
    with toy.open() as index:
        assert len(index.search(["roof"], tenant="acme")[0]) == 2
        with toy.ledger.transaction() as connection:  # committed, and the engine does not know yet
            connection.execute("UPDATE documents SET tenant = 'bolt' WHERE key = 'a'")
        assert keys(index.search(["roof"], tenant="acme")[0]) == ["b"]
    toy.close()


def test_a_sync_is_seen_by_the_next_query(any_toy: ToyIndex) -> None:
    with any_toy.open() as index:
        assert "new" not in keys(index.search(["gutter"], mode="bm25")[0])
        any_toy.put(document("new", "a gutter along the roof"))
        assert keys(index.search(["gutter"], mode="bm25")[0]) == ["new"]
        any_toy.remove("new")
        assert index.search(["gutter"], mode="bm25") == [[]]


def test_an_open_index_finds_its_texts_after_many_syncs(toy: ToyIndex) -> None:
    with toy.open() as index:
        index.search(["roof"])
        for number in range(5):
            toy.put(document("roof", f"roof number {number}"), document("extra", f"text {number}"))
            [results] = index.search(["roof number"], k=10)
            assert {result.text for result in results if result.key == "roof"} == {f"roof number {number}"}
            assert len(results) == 7


def test_texts_that_the_ledger_dropped_make_it_look_again(toy: ToyIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    with toy.open() as index:
        index.search(["roof"])
        monkeypatch.setattr(index.ledger, "changed", lambda: False)  # as if it had looked a moment ago
        for number in range(4):
            toy.put(document("roof", f"another roof {number}"))
        [results] = index.search(["roof felt layers"], k=10)
        assert "another roof 3" in {result.text for result in results}


def test_a_state_that_vanished_is_replaced_by_the_newer_one(toy: ToyIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    with toy.open() as index:
        index.search(["roof"])
        with index._snapshots.newest() as snapshot:
            old = snapshot.reader
        monkeypatch.setattr(index.ledger, "changed", lambda: False)
        toy.put(document("new", "a gutter along the roof"))
        monkeypatch.setattr(old, "search", _vanished)
        assert "new" in keys(index.search(["gutter roof"], k=10)[0])


def _vanished(queries: Sequence[VectorQuery]) -> None:
    raise DataError("the state is gone")


def test_damage_is_told_when_there_is_nothing_newer(toy: ToyIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    with toy.open() as index:
        index.search(["roof"])
        with index._snapshots.newest() as snapshot:
            monkeypatch.setattr(snapshot.reader, "search", _vanished)
        with pytest.raises(DataError, match="the state is gone"):
            index.search(["roof"])


def test_an_index_that_holds_nothing_says_so(tmp_path: Path) -> None:
    toy = ToyIndex(make_config(tmp_path))
    with toy.open() as index, pytest.raises(UsageError, match="nothing to search yet"):
        index.search(["roof"])
    toy.close()


def test_an_index_that_is_not_there_is_an_error_with_a_suggestion(toy: ToyIndex) -> None:
    with pytest.raises(UsageError, match="did you mean 'toy'"):
        Index.open(toy.folder.with_name("tay"), toy.config, encoder_of=toy.encoder_of, engine=toy.engine())


def test_an_encoder_that_changed_under_the_index_is_refused(toy: ToyIndex) -> None:
    def another(config: EmbeddingConfig) -> object:
        return toy.encoder_of(EmbeddingConfig(model="other"))

    with toy.open(encoder_of=another) as index:
        with pytest.raises(DataError, match="the encoder has changed since the index was built"):
            index.search(["roof"])
        assert keys(index.search(["felt"], mode="bm25")[0]) == ["roof"]


def test_threads_ask_while_syncs_go_on(any_toy: ToyIndex) -> None:
    stop = threading.Event()

    def ask(mode: str) -> int:
        count = 0
        while not stop.is_set():
            [results] = index.search(["flat roof felt"], mode=mode, k=3, filter="topic=roofs")
            assert keys(results) == ["roof"], results
            count += 1
        return count

    with any_toy.open() as index, ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, mode) for mode in ("dense", "bm25", "hybrid") * 2]
        try:
            for number in range(4):
                any_toy.put(document(f"new-{number}", f"text number {number}", topic="other"))
        finally:
            stop.set()
        assert all(each.result() > 0 for each in asked)


def test_the_filter_that_reaches_the_engine_holds_the_tenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = ToyIndex(make_config(tmp_path, source=IndexSourceConfig(direct=True, tenant="owner")))
    toy.put(document("a", "the roof", tenant="acme"))
    seen: list[object] = []
    with toy.open() as index:
        with index._snapshots.newest() as snapshot:
            search = snapshot.reader.search
        monkeypatch.setattr(
            snapshot.reader,
            "search",
            lambda queries: (seen.extend(query.filter for query in queries), search(queries))[1],
        )
        index.search(["roof"], mode="hybrid", tenant="acme")
    assert seen == [Compare(column="_tenant", operator="=", value="acme")] * 2
    toy.close()


def test_one_process_syncs_while_another_asks(toy: ToyIndex) -> None:
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1] / "plugins")!r})
from toy_index import ToyIndex, document, make_config
toy = ToyIndex(make_config(Path({str(toy.folder.parent)!r})))
for number in range(20):
    toy.put(document("new", f"gutter number{{number}}"), document(f"more-{{number}}", "text"))
    print(number, flush=True)
"""
    command = [sys.executable, "-c", code]
    with toy.open() as index, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as syncing:
        assert syncing.stdout is not None
        for line in syncing.stdout:  # what it has told is what the next query finds, at least
            [results] = index.search(["gutter"], mode="bm25", k=5)
            [found] = [result.text for result in results if result.key == "new"]
            assert int(found.removeprefix("gutter number")) >= int(line)
            assert keys(index.search(["flat roof felt"], k=1)[0]) == ["roof"]
    assert syncing.returncode == 0
