"""Which state queries are answered from, while syncs and swaps publish others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_index import ToyIndex, WordEncoder, document, make_config

from genai.config.embedding import EmbeddingConfig
from genai.errors import DataError, GenaiError, UsageError
from genai.index.ledger import Ledger
from genai.index.snapshots import RETRY_S, QueryEncoder, Snapshots
from genai.index.swap import swap

GOOD = EmbeddingConfig(model="good")


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[ToyIndex]:
    index = ToyIndex(make_config(tmp_path))
    index.put(document("a", "roof"), document("b", "floor"))
    yield index
    index.close()


@pytest.fixture
def ledger(toy: ToyIndex) -> Iterator[Ledger]:
    with Ledger.open(toy.folder, read_only=True) as ledger:
        yield ledger


def put_in(toy: ToyIndex, embedding: EmbeddingConfig) -> None:
    swap(toy.ledger, toy.engine(), toy.config, embedding, encoder_of=toy.encoder_of, queries=None, wait_s=5)


def token_of(snapshots: Snapshots) -> str | None:
    with snapshots.newest() as snapshot:
        return snapshot.generation.token


def test_the_same_state_is_opened_once(toy: ToyIndex, ledger: Ledger) -> None:
    snapshots = Snapshots(ledger, toy.engine(), toy.encoder_of)
    with snapshots.newest() as first, snapshots.newest() as second:
        assert first is second
    toy.put(document("c", "wall"))
    with snapshots.newest() as third:
        assert third is not first
        assert third.encoder is first.encoder  # the model is not loaded again
    snapshots.close()


def test_an_old_state_is_closed_by_its_last_user(toy: ToyIndex, ledger: Ledger) -> None:
    snapshots = Snapshots(ledger, toy.engine(), toy.encoder_of)
    closed: list[str] = []
    with snapshots.newest() as first:
        close = first.reader.close
        first.reader.close = lambda: (closed.append("first"), close())  # type: ignore[method-assign,assignment,return-value]
        toy.put(document("c", "wall"))
        with snapshots.newest():
            assert closed == []
            assert first.reader.count() == 2
    assert closed == ["first"]
    snapshots.close()


def test_states_that_nobody_uses_are_swept(toy: ToyIndex, ledger: Ledger) -> None:
    snapshots = Snapshots(ledger, toy.engine(), toy.encoder_of)
    for number in range(4):
        token_of(snapshots)
        toy.put(document("c", f"wall {number}"))
    token_of(snapshots)
    toy.put(document("c", "wall"))
    folders = [path for path in toy.ledger.engine_folder.rglob("*") if path.is_dir() and any(path.glob("*.npy"))]
    assert len(folders) <= 2  # the newest, and the one that is open
    snapshots.close()


def test_a_state_that_is_removed_while_it_is_opened_is_followed_by_the_newer_one(
    toy: ToyIndex, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = toy.engine()
    reader, tried = engine.reader, list[str]()

    def late(spec: Any, token: str) -> Any:
        tried.append(token)
        if len(tried) == 1:
            toy.put(document("c", "wall"))  # publishes, and sweeps the state that is being opened
        return reader(spec, token)

    monkeypatch.setattr(engine, "reader", late)
    snapshots = Snapshots(ledger, engine, toy.encoder_of)
    with snapshots.newest() as snapshot:
        assert snapshot.reader.count() == 3
    assert len(tried) == 2
    snapshots.close()


def test_damage_is_told_at_the_first_opening_and_outlived_later(
    toy: ToyIndex, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = toy.engine()
    snapshots = Snapshots(ledger, engine, toy.encoder_of)
    token = token_of(snapshots)

    def damaged(spec: Any, token: str) -> Any:
        raise DataError("the state is damaged")

    reader = engine.reader
    monkeypatch.setattr(engine, "reader", damaged)
    with pytest.raises(DataError, match="damaged"):
        token_of(Snapshots(ledger, engine, toy.encoder_of))
    toy.put(document("c", "wall"))
    assert [token_of(snapshots) for _ in range(3)] == [token] * 3
    assert caplog.text.count("queries go on with an older state of the index: the state is damaged") == 1
    monkeypatch.setattr(engine, "reader", reader)
    assert token_of(snapshots) == token  # it is tried again only after a pause
    later = time.monotonic() + RETRY_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert token_of(snapshots) != token
    snapshots.close()


def test_nothing_published_is_no_state(tmp_path: Path) -> None:
    empty = ToyIndex(make_config(tmp_path))
    with Ledger.open(empty.folder, read_only=True) as ledger:
        snapshots = Snapshots(ledger, empty.engine(), empty.encoder_of)
        for _ in range(2):  # the second time nothing has changed in the ledger
            with pytest.raises(UsageError, match="nothing to search yet"):
                token_of(snapshots)
        empty.put(document("a", "roof"))
        assert token_of(snapshots)
        snapshots.close()
    empty.close()


def test_a_pinned_generation_stays(toy: ToyIndex, ledger: Ledger) -> None:
    snapshots = Snapshots(ledger, toy.engine(), toy.encoder_of, pinned="g1")
    put_in(toy, GOOD)
    with snapshots.newest() as snapshot:
        assert snapshot.generation.fingerprint == "words-32"
    snapshots.close()


def test_queries_do_not_wait_for_a_new_encoder_to_load(toy: ToyIndex) -> None:
    loaded = threading.Event()

    def encoder_of(config: EmbeddingConfig) -> Any:
        if config.model == "good":
            assert loaded.wait(10)
        return toy.encoder_of(config)

    with toy.open(encoder_of=encoder_of) as index:
        index.search(["roof"])
        put_in(toy, GOOD)
        for _ in range(5):
            assert index.search(["floor"], k=1)[0][0].key == "b"
        assert index.generation().fingerprint == "words-32"
        loaded.set()
        deadline = time.monotonic() + 60
        while index.generation().fingerprint != "good-32":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert index.search(["floor"], k=1)[0][0].key == "b"


def test_when_a_new_encoder_does_not_load_the_old_one_goes_on(toy: ToyIndex, caplog: pytest.LogCaptureFixture) -> None:
    def encoder_of(config: EmbeddingConfig) -> Any:
        if config.model == "good":
            raise GenaiError("the new model is not on this machine")
        return toy.encoder_of(config)

    with toy.open(encoder_of=encoder_of) as index:
        index.search(["roof"])
        put_in(toy, GOOD)
        assert index.search(["floor"], k=1)[0][0].key == "b"
        index._snapshots._successor.join()  # type: ignore[union-attr]
        assert index.search(["floor"], k=1)[0][0].key == "b"
    assert "queries go on with the generation before: the new model is not on this machine" in caplog.text


class CountingEncoder(WordEncoder):
    """Notes how many threads are in it at once."""

    inside = 0
    most = 0

    def embed_queries(self, texts: Any) -> Any:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.01)
        self.inside -= 1
        return super().embed_queries(texts)


@pytest.mark.parametrize("is_remote", [False, True])
def test_models_take_turns_and_endpoints_do_not(toy: ToyIndex, is_remote: bool) -> None:
    live = toy.ledger.live()
    assert live is not None
    base_url = "http://127.0.0.1:1" if is_remote else None
    generation = replace(live, embedding={**live.embedding, "base_url": base_url})
    opened = []

    def encoder_of(config: EmbeddingConfig) -> Any:
        opened.append(CountingEncoder(config))
        return opened[-1]

    encoder = QueryEncoder(generation, encoder_of)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(encoder.embed, [["roof"]] * 12))
    assert len(opened) == 1
    assert (opened[0].most > 1) == is_remote
