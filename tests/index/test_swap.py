"""A new encoder beside the old one: built, compared, swapped and rolled back, while others sync and query."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_index import ToyIndex, document, make_config

from genai.config.embedding import EmbeddingConfig
from genai.config.index import EngineConfig, LanceDbConfig, QdrantEdgeConfig, SearchConfig
from genai.errors import GateError, GenaiError, UsageError
from genai.index.labelled_queries import LabelledQuery
from genai.index.swap import SwapReport, rollback, swap

WORDS = [f"w{number}" for number in range(200)]
GOOD = EmbeddingConfig(model="good")
BAD = EmbeddingConfig(model="noisy-6")


def make_texts() -> list[str]:
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, size=8)) for _ in range(60)]


TEXTS = make_texts()
QUERIES = [
    LabelledQuery(text=" ".join(text.split()[:7]), relevant={f"d{place}": 1.0}) for place, text in enumerate(TEXTS)
]


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[ToyIndex]:
    index = ToyIndex(make_config(tmp_path))
    index.put(*(document(f"d{place}", text) for place, text in enumerate(TEXTS)))
    yield index
    index.close()


def change(toy: ToyIndex, embedding: EmbeddingConfig, **values: Any) -> SwapReport:
    values.setdefault("queries", QUERIES)
    return swap(
        toy.ledger, toy.engine(), toy.config, embedding, encoder_of=toy.encoder_of, **{"wait_s": 10.0, **values}
    )


def states(toy: ToyIndex) -> dict[str, str]:
    return {each.fingerprint.split("-")[0]: each.state for each in toy.ledger.generations()}


def best(toy: ToyIndex, text: str) -> str:
    with toy.open() as index:
        return index.search([text])[0][0].key


def test_an_equal_encoder_takes_over(toy: ToyIndex) -> None:
    report = change(toy, GOOD)
    report.check()
    assert report.passed
    assert not report.dropped
    assert report.num_embedded == 60
    assert (report.mode, report.num_queries) == ("dense", 60)
    assert [one.metric for one in report.comparisons] == ["recall@10", "ndcg@10"]
    assert all(one.before > 0.8 and one.after > 0.8 for one in report.comparisons)
    live = toy.ledger.live()
    assert live is not None
    assert live.fingerprint == report.after.fingerprint == "good-32"
    assert states(toy) == {"words": "retired", "good": "live"}
    assert best(toy, TEXTS[7]) == "d7"


@pytest.mark.parametrize("engine", [QdrantEdgeConfig(), LanceDbConfig()], ids=["qdrant_edge", "lancedb"])
def test_every_engine_can_swap_and_roll_back(tmp_path: Path, engine: EngineConfig) -> None:
    toy = ToyIndex(make_config(tmp_path, engine=engine))
    toy.put(*(document(f"d{place}", text) for place, text in enumerate(TEXTS[:20])))
    with toy.open() as index:
        for fingerprint, act in (
            ("words-32", lambda: None),
            ("good-32", lambda: change(toy, GOOD, queries=QUERIES[:20])),
            ("words-32", lambda: rollback(toy.ledger, toy.engine(), toy.config, encoder_of=toy.encoder_of)),
        ):
            act()
            deadline = time.monotonic() + 60
            while index.generation().fingerprint != fingerprint:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for mode in ("dense", "bm25", "hybrid"):
                found = index.search(TEXTS[:20], k=1, mode=mode)
                assert [results[0].key for results in found] == [f"d{place}" for place in range(20)]
    toy.close()


def test_a_worse_encoder_is_stopped_by_the_gate_and_kept(toy: ToyIndex) -> None:
    report = change(toy, BAD)
    assert not report.passed
    with pytest.raises(GateError, match=r"ndcg@10 1\.000 -> 0\.\d+, difference at least -0.*kept as 'g2'") as error:
        report.check()
    assert error.value.exit_code == 3
    assert states(toy) == {"words": "live", "noisy": "ready"}
    assert best(toy, TEXTS[7]) == "d7"


def test_a_worse_encoder_can_be_dropped(toy: ToyIndex) -> None:
    report = change(toy, BAD, drop_if_worse=True)
    with pytest.raises(GateError, match="it was dropped"):
        report.check()
    assert states(toy) == {"words": "live"}
    assert toy.ledger.stats().embeddings.get("noisy-6-32", 0) == 0
    assert best(toy, TEXTS[7]) == "d7"


def test_a_kept_one_takes_over_later_without_being_embedded_again(toy: ToyIndex) -> None:
    change(toy, BAD)
    before = toy.encoder_of(BAD).num_documents
    report = change(toy, BAD, tolerance=1.0)
    assert report.passed
    assert report.num_embedded == 0
    assert toy.encoder_of(BAD).num_documents == before
    assert states(toy) == {"words": "retired", "noisy": "live"}


def test_the_gate_looks_at_the_lower_end_of_the_interval(toy: ToyIndex) -> None:
    report = change(toy, BAD, tolerance=1.0)
    [recall, _] = report.comparisons
    assert recall.difference.low < recall.difference.mean < recall.difference.high
    assert recall.difference.mean == pytest.approx(recall.after - recall.before)


def test_without_queries_nothing_is_compared(toy: ToyIndex) -> None:
    report = change(toy, GOOD, queries=None)
    assert (report.comparisons, report.mode, report.num_queries) == ((), None, 0)
    assert states(toy)["good"] == "live"


def test_hybrid_is_compared_as_hybrid_and_words_as_vectors(tmp_path: Path) -> None:
    for mode, compared in (("hybrid", "hybrid"), ("bm25", "dense")):
        toy = ToyIndex(make_config(tmp_path / mode, search=SearchConfig(mode=mode)))  # type: ignore[arg-type]
        toy.put(*(document(f"d{place}", text) for place, text in enumerate(TEXTS[:20])))
        assert change(toy, GOOD, queries=QUERIES[:20], tolerance=1.0).mode == compared
        toy.close()


def test_a_rollback_brings_back_the_old_one_with_what_was_synced_since(toy: ToyIndex) -> None:
    change(toy, GOOD)
    toy.config = make_config(toy.folder.parent, embedding=GOOD)
    toy.put(document("late", "gutter gutter gutter"))
    toy.remove("d3")
    before = toy.encoder_of(EmbeddingConfig(model="words")).num_documents
    live = rollback(toy.ledger, toy.engine(), toy.config, encoder_of=toy.encoder_of, wait_s=10)
    assert live.fingerprint == "words-32"
    assert states(toy) == {"words": "live", "good": "retired"}
    assert toy.encoder_of(EmbeddingConfig(model="words")).num_documents == before + 1
    assert best(toy, "gutter") == "late"
    with toy.open() as index:
        assert "d3" not in {result.key for result in index.search([TEXTS[3]], k=60)[0]}
    back = rollback(toy.ledger, toy.engine(), toy.config, encoder_of=toy.encoder_of, wait_s=10)
    assert back.fingerprint == "good-32"


def test_there_may_be_nothing_to_roll_back_to_or_to_swap(toy: ToyIndex, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no earlier generation"):
        rollback(toy.ledger, toy.engine(), toy.config, encoder_of=toy.encoder_of)
    with pytest.raises(UsageError, match="words: index 'toy' is embedded by this already"):
        change(toy, EmbeddingConfig(model="words"))
    empty = ToyIndex(make_config(tmp_path / "empty"))
    with pytest.raises(UsageError, match="no embeddings to swap yet"):
        change(empty, GOOD)
    empty.close()


def test_a_swap_waits_for_a_sync_and_gives_up_in_the_end(toy: ToyIndex) -> None:
    with toy.ledger.alone(), pytest.raises(GenaiError, match="is held by"):
        change(toy, GOOD, wait_s=0.1)
    assert states(toy) == {"words": "live"}


def test_syncs_go_on_while_chunks_are_embedded(toy: ToyIndex) -> None:
    encoder = toy.encoder_of(GOOD)
    embed = encoder.embed_documents
    late: list[bool] = []

    def slowly(texts: Any) -> Any:
        if not late:
            late.append(True)
            toy.put(document("late", "gutter gutter gutter"))  # nobody holds the index
        return embed(texts)

    encoder.embed_documents = slowly  # type: ignore[method-assign]
    change(toy, GOOD, queries=None)
    assert late
    assert best(toy, "gutter") == "late"


def test_a_swap_that_was_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    from genai.config.index import SyncConfig

    toy = ToyIndex(make_config(tmp_path, sync=SyncConfig(batch_size=10)))
    toy.put(*(document(f"d{place}", text) for place, text in enumerate(TEXTS)))
    encoder = toy.encoder_of(GOOD)
    embed = encoder.embed_documents

    def fail_late(texts: Any) -> Any:
        if encoder.num_documents >= 30:
            raise GenaiError("the endpoint is down")
        return embed(texts)

    encoder.embed_documents = fail_late  # type: ignore[method-assign]
    with pytest.raises(GenaiError, match="the endpoint is down"):
        change(toy, GOOD)
    assert states(toy) == {"words": "live", "good": "building"}
    encoder.embed_documents = embed  # type: ignore[method-assign]
    report = change(toy, GOOD)
    assert report.num_embedded == 30
    assert encoder.num_documents == 60
    assert states(toy) == {"words": "retired", "good": "live"}
    toy.close()


def test_readers_never_see_half_of_a_swap(toy: ToyIndex) -> None:
    """Vectors of one encoder mean nothing to the other, so that a mixture would find the wrong documents."""
    stop = threading.Event()

    def ask(start: int) -> int:
        count = 0
        while not stop.is_set():
            place = (start + count) % 60
            assert index.search([TEXTS[place]], k=1)[0][0].key == f"d{place}"
            count += 1
        return count

    with toy.open() as index, ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask, start) for start in (0, 20, 40)]
        try:
            change(toy, GOOD)
            time.sleep(0.3)
            rollback(toy.ledger, toy.engine(), toy.config, encoder_of=toy.encoder_of, wait_s=10)
            time.sleep(0.3)
        finally:
            stop.set()
        assert all(each.result() > 10 for each in asking)
        assert index.generation().fingerprint == "words-32"


def test_a_generation_that_is_not_live_can_be_asked(toy: ToyIndex) -> None:
    change(toy, BAD)
    with toy.open(generation="g2") as index:
        assert index.generation().fingerprint == "noisy-6-32"
        assert index.search([TEXTS[5]], k=1)
    with toy.open(generation="g7") as index, pytest.raises(UsageError, match="no generation 'g7'"):
        index.search(["x"])


def test_syncs_feed_both_generations(toy: ToyIndex) -> None:
    change(toy, BAD)
    toy.put(document("late", "gutter gutter gutter"))
    sequence = toy.ledger.sequence()
    assert {each.applied for each in toy.ledger.generations()} == {sequence}
    with toy.open(generation="g2") as index:
        assert "late" in {result.key for result in index.search(["gutter"], mode="bm25")[0]}
