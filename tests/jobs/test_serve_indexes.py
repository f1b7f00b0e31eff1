"""An index as a worker of the server has it: asked, changed, replaced, gone; from several processes, and killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_toy import build_toy, no_reranker, rows, serve_toy
from toy_index import WordEncoder

from genai.config.embedding import EmbeddingConfig, RerankerConfig
from genai.config.index import ExactConfig, IndexSourceConfig, QdrantEdgeConfig, SearchConfig
from genai.errors import ConfigError, UsageError
from genai.index.interfaces import Vectors
from genai.index.ledger import Ledger
from genai.jobs import serve_indexes
from genai.jobs.serve_indexes import EngineEncoder, ServedIndex, index_card
from genai.serving.interfaces import IndexAnswer, IndexQuery, UnavailableError

TEXTS = {"screed": "how thick is the screed", "roof": "a flat roof", "walls": "brick walls carry the roof"}


@pytest.fixture(params=[ExactConfig(), QdrantEdgeConfig()], ids=["exact", "qdrant_edge"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    build_toy(tmp_path, TEXTS, engine=request.param)
    return tmp_path


@pytest.fixture
def toy(folder: Path) -> Iterator[ServedIndex]:
    index = serve_toy(folder)
    yield index
    index.close()


def ask(index: ServedIndex, text: str = "roof", **how: Any) -> IndexAnswer:
    return asyncio.run(index.query(IndexQuery(text=text, **how)))


def keys(answer: IndexAnswer) -> list[str]:
    return [result.key for result in answer.results]


def all_keys(index: ServedIndex) -> set[str]:
    return set(keys(ask(index, "roof", k=100)))


# --- asking -----------------------------------------------------------------------------------------------------------


def test_a_text_a_vector_and_its_bytes_find_the_same(toy: ServedIndex) -> None:
    vector = WordEncoder(EmbeddingConfig(model="words")).embed_queries(["roof"])[0]
    by_text = ask(toy)
    by_vector = asyncio.run(toy.query(IndexQuery(vector=vector.tolist())))
    by_bytes = asyncio.run(toy.query(IndexQuery(vector=vector.tobytes())))
    assert keys(by_text)[0] == "roof"
    assert keys(by_text) == keys(by_vector) == keys(by_bytes)
    assert by_text.generation == "g1"


def test_a_vector_needs_no_encoder_and_words_neither(folder: Path) -> None:
    def refuse(_: EmbeddingConfig) -> Any:
        raise AssertionError("no encoder is needed")

    index = serve_toy(folder, encoder_of=refuse)
    assert len(asyncio.run(index.query(IndexQuery(vector=[0.1] * 32))).results) == 3
    assert set(keys(ask(index, "roof", mode="bm25"))) == {"roof", "walls"}
    index.close()


def test_no_torch_in_a_worker(folder: Path) -> None:
    code = (
        "import asyncio, sys; from genai.jobs.serve_indexes import ServedIndex; "
        "from genai.serving.interfaces import IndexQuery; "
        "index = ServedIndex('toy', index='toy', indexes_dir=sys.argv[1], encoder_of=None, reranker_of=None); "
        "print(len(asyncio.run(index.query(IndexQuery(vector=[0.1] * 32))).results)); index.close(); "
        "print(sorted({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["3", "[]"], done.stderr


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (IndexQuery(text="x", filter="topik = 1"), "did you mean 'topic'"),
        (IndexQuery(text="x", filter={"year": "soon"}), "year"),
        (IndexQuery(text="x", columns=("yaer",)), "did you mean 'year'"),
        (IndexQuery(vector=[1.0, 2.0]), "does not fit an index of 32 numbers"),
        (IndexQuery(vector=[1e300] * 32), "not finite"),
        (IndexQuery(vector=b"abc"), "no float32"),
        (IndexQuery(text=" "), "empty"),
        (IndexQuery(text="x", k=0), "cannot have 0 results"),
        (IndexQuery(vector=[0.1] * 32, mode="bm25"), "needs the text"),
        (IndexQuery(text="x", tenant="me"), "no tenants"),
        (IndexQuery(text="x", rerank=True), "no reranker"),
    ],
)
def test_what_the_asker_can_mend_is_said(toy: ServedIndex, query: IndexQuery, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asyncio.run(toy.query(query))


def test_an_encoder_that_does_not_answer_fails_texts_only(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(WordEncoder):
        def embed_queries(self, texts: Sequence[str]) -> Vectors:
            raise UnavailableError("the encoder is loading")

    index = serve_toy(folder, encoder_of=Broken)
    with pytest.raises(UnavailableError, match="is loading"):
        ask(index)
    assert len(asyncio.run(index.query(IndexQuery(vector=[0.1] * 32))).results) == 3
    index.close()


def test_an_encoder_of_other_vectors_is_not_asked(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = serve_toy(folder, encoder_of=lambda config: WordEncoder(EmbeddingConfig(model="others")))
    with pytest.raises(UnavailableError, match="cannot be asked at the moment"):
        ask(index)
    assert "the encoder has changed" in caplog.text
    index.close()


def test_the_reranker_comes_from_outside(tmp_path: Path) -> None:
    class Shortest:
        def score(self, query: str, texts: Sequence[str]) -> list[float]:
            return [1 / len(text) for text in texts]

    search = SearchConfig(reranker=RerankerConfig(name="cross_encoder", model="some"))
    build_toy(tmp_path, TEXTS, search=search)
    index = serve_toy(tmp_path, reranker_of=lambda config: Shortest())
    assert keys(ask(index, "walls")) == ["roof", "screed", "walls"]
    assert keys(ask(index, "walls", rerank=False))[0] == "walls"
    index.close()


def test_texts_are_cut_here_and_embedded_elsewhere() -> None:
    local, asked = WordEncoder(EmbeddingConfig(model="words")), []

    def embed(texts: list[str], role: str) -> list[bytes]:
        asked.append((len(texts), role))
        return [vector.tobytes() for vector in local.embed_queries(texts)]

    encoder = EngineEncoder(local, embed)
    texts = [f"text {number}" for number in range(150)]
    assert np.array_equal(encoder.embed_documents(texts), local.embed_queries(texts))
    assert encoder.embed_queries([]).shape == (0, 32)
    assert asked == [(64, "document"), (64, "document"), (22, "document")]
    assert (encoder.fingerprint, encoder.max_tokens) == (local.fingerprint, local.max_tokens)
    assert encoder.token_offsets("a b") == [(0, 1), (2, 3)]


def test_what_an_index_needs_is_told_beforehand(folder: Path) -> None:
    card = index_card("toy", folder)
    assert (card.fingerprint, card.dimension, card.is_direct, card.num_chunks) == ("words-32", 32, True, 3)
    assert card.embedding.model == "words"
    with pytest.raises(UsageError, match="did you mean 'toy'"):
        index_card("tyo", folder)


# --- changing ---------------------------------------------------------------------------------------------------------


def test_rows_are_found_right_after_the_answer_by_every_worker(folder: Path, toy: ServedIndex) -> None:
    other = serve_toy(folder)
    ask(other)
    change = asyncio.run(toy.upsert(rows(0, 10)))
    assert (change.documents, change.chunks, change.embedded) == (10, 10, 10)
    assert change.generation == ask(other).generation
    for index in (toy, other):
        assert keys(ask(index, "row7", k=1)) == ["new-7"]
    gone = asyncio.run(toy.delete(["new-7", "roof", "nobody"]))
    assert (gone.documents, gone.chunks) == (2, 2)
    for index in (toy, other):
        assert all_keys(index) == {"screed", "walls", *(f"new-{number}" for number in range(10))} - {"new-7"}
    again = asyncio.run(toy.upsert(rows(0, 2)))
    assert (again.documents, again.embedded) == (0, 0)
    other.close()


def test_all_rows_are_checked_before_any_is_written(toy: ServedIndex) -> None:
    bad = [*rows(0, 3), {"text": "no key"}, {"id": "x", "text": "x", "year": "soon"}, {"id": "y", "text": {}}]
    with pytest.raises(ConfigError) as caught:
        asyncio.run(toy.upsert(bad))
    assert [problem.where for problem in caught.value.problems] == ["rows[3]", "rows[4]", "rows[5]"]
    assert all_keys(toy) == set(TEXTS)


def test_rows_that_nobody_could_find_are_refused(tmp_path: Path) -> None:
    build_toy(tmp_path, {}, source=IndexSourceConfig(direct=True, tenant="who"))
    index = serve_toy(tmp_path)
    with pytest.raises(ConfigError, match=r"rows\[1\]: 'who' does not say whom"):
        asyncio.run(index.upsert([{"id": 1, "text": "a", "who": "me"}, {"id": 2, "text": "b"}]))
    asyncio.run(index.upsert([{"id": 1, "text": "a", "who": "me"}]))
    assert keys(ask(index, "a", tenant="me")) == ["1"]
    assert keys(ask(index, "a", tenant="you")) == []
    index.close()


def test_an_encoder_that_fails_half_way_changes_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    class FailsLater(WordEncoder):
        def embed_documents(self, texts: Sequence[str]) -> Vectors:
            if self.num_documents:
                raise UnavailableError("gone")
            return super().embed_documents(texts[:8])

    local = WordEncoder(EmbeddingConfig(model="words"))
    asked: list[int] = []

    def embed(texts: list[str], role: str) -> list[bytes]:
        asked.append(len(texts))
        if len(asked) == 2:
            raise UnavailableError("the engine is gone")
        return [vector.tobytes() for vector in local.embed_queries(texts)]

    index = serve_toy(folder, encoder_of=lambda _: EngineEncoder(local, embed))
    with pytest.raises(UnavailableError, match="is gone"):
        asyncio.run(index.upsert(rows(0, 100)))
    assert asked == [64, 36]
    with Ledger.open(folder / "toy", read_only=True) as ledger:
        assert ledger.num_documents() == 3
    index.close()


def test_who_vanishes_leaves_a_change_whole(toy: ServedIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    real = serve_indexes._documents

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(10)
        return real(*arguments)

    monkeypatch.setattr(serve_indexes, "_documents", slow)

    async def vanish() -> None:
        first = asyncio.create_task(toy.upsert(rows(0, 3)))
        second = asyncio.create_task(toy.upsert(rows(3, 3)))
        await asyncio.to_thread(begun.wait, 10)
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        go_on.set()
        await toy.delete([])  # waits for its turn

    asyncio.run(vanish())
    assert all_keys(toy) == {*TEXTS, "new-0", "new-1", "new-2"}  # the first had begun, the second had not


def test_only_so_many_changes_wait(toy: ServedIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_indexes, "_MAX_EDITS", 2)

    async def many() -> list[Any]:
        changes = (toy.upsert(rows(number, 1)) for number in range(4))
        return await asyncio.gather(*changes, return_exceptions=True)

    told = asyncio.run(many())
    assert [isinstance(each, UnavailableError) for each in told] == [False, False, True, True]
    assert asyncio.run(toy.upsert(rows(9, 1))).documents == 1


def test_a_change_waits_for_another_process_and_then_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = serve_toy(folder, edit_wait_s=0.3)
    with Ledger.open(folder / "toy") as ledger, ledger.alone():
        with pytest.raises(UnavailableError, match="was being changed by another process") as caught:
            asyncio.run(index.upsert(rows(0, 1)))
        assert caught.value.retry_after_s == 5
        assert all_keys(index) == set(TEXTS)
    assert asyncio.run(index.upsert(rows(0, 1))).documents == 1
    index.close()


def test_an_index_that_follows_a_source_is_not_writable(tmp_path: Path) -> None:
    folder = build_toy(tmp_path, TEXTS)
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    text = text.replace("direct: true", "direct: false").replace("table: null", "table: rows.jsonl")
    text = text.replace("primary_key: null", "primary_key: id").replace("text: null", "text: text")
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"follows rows\.jsonl"):
        serve_toy(tmp_path)
    index = serve_toy(tmp_path, writable=False)
    assert keys(ask(index))[0] == "roof"
    index.close()


# --- gone, broken, replaced -------------------------------------------------------------------------------------------


def test_a_missing_or_broken_index_is_told_at_once(folder: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'toy'"):
        ServedIndex("x", index="tyo", indexes_dir=folder, encoder_of=WordEncoder, reranker_of=no_reranker)
    (folder / "toy" / "index.db").write_bytes(b"rubbish" * 1000)
    with pytest.raises(Exception, match=r"damaged|no ledger"):
        serve_toy(folder)


def test_an_index_that_goes_away_is_unavailable_until_it_is_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serve_indexes, "_LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(serve_indexes, "_OPEN_AGAIN_S", 0.0)
    engine = QdrantEdgeConfig() if (folder / "toy" / "engine").is_dir() else ExactConfig()
    index = serve_toy(folder)
    ask(index)
    shutil.rmtree(folder / "toy")
    for change in (lambda: ask(index), lambda: asyncio.run(index.upsert(rows(0, 1)))):
        with pytest.raises(UnavailableError, match="cannot be opened at the moment"):
            change()
    build_toy(folder, {"new": "another roof"}, engine=engine)
    assert keys(ask(index)) == ["new"]
    index.close()


def test_a_new_job_file_counts_and_a_new_encoder_alone_does_not(toy: ServedIndex, folder: Path) -> None:
    file = folder / "toy" / "config.yaml"
    text = file.read_text(encoding="utf-8")
    before = toy._opened
    assert len(ask(toy).results) == 3
    time.sleep(0.25)
    file.write_text(text.replace("model: words", "model: other"), encoding="utf-8")
    assert len(ask(toy).results) == 3
    assert toy._opened is before
    time.sleep(0.25)
    file.write_text(text.replace("k: 10", "k: 1"), encoding="utf-8")
    assert len(ask(toy).results) == 1


def test_queries_go_on_from_many_threads_while_rows_come(toy: ServedIndex) -> None:
    async def busy() -> list[set[int]]:
        change = asyncio.create_task(_puts(toy))
        counts = []
        while not change.done():
            answers = await asyncio.gather(*(toy.query(IndexQuery(text="roof", k=100)) for _ in range(8)))
            counts.append({len(answer.results) for answer in answers})
        await change
        return counts

    counts = asyncio.run(busy())
    # Of those that are asked at once, some may find the state before; who asks after them finds none that is older.
    assert all(max(first) <= min(second) for first, second in itertools.pairwise(counts))
    assert set().union(*counts) <= {3, 8, 13, 18, 23, 28}


async def _puts(index: ServedIndex) -> None:
    for number in range(5):
        await index.upsert(rows(5 * number, 5))


# --- processes --------------------------------------------------------------------------------------------------------


class Child:
    """Another process that puts rows into the index."""

    def __init__(self, folder: Path, first: int, count: int, kill_at: int = 0) -> None:
        command = [sys.executable, "-m", "served_toy", *map(str, (folder, first, count, kill_at))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        places = [str(Path(__file__).parents[1] / "plugins"), str(Path(__file__).parents[2])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        self.process = subprocess.Popen(command, text=True, env=environment, **pipes)  # type: ignore[call-overload]
        assert self.process.stdout.readline() == "ready\n", self.process.communicate()[1]

    def go(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str, str]:
        try:
            out, err = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
        return self.process.returncode, out, err


@pytest.mark.integration
def test_two_processes_change_an_index_one_after_the_other(folder: Path) -> None:
    children = [Child(folder, 100 * number, 30) for number in range(2)]
    for child in children:
        child.go()
    ended = [child.end() for child in children]
    assert [code for code, _, _ in ended] == [0, 0], ended
    index = serve_toy(folder)
    assert len(all_keys(index)) == 63
    index.close()


@pytest.mark.integration
@pytest.mark.slow
def test_a_change_that_is_killed_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    moment = 0
    while True:
        moment += 1
        folder = tmp_path / str(moment)
        build_toy(folder, TEXTS, engine=QdrantEdgeConfig())
        child = Child(folder, 0, 30, moment)
        child.go()
        code, out, err = child.end()
        index = serve_toy(folder)
        found = all_keys(index)
        assert len(found - set(TEXTS)) in (0, 30), (moment, found)
        asyncio.run(index.upsert([{"id": "later", "text": "later"}]))
        later = all_keys(index)
        assert len(later - {*TEXTS, "later"}) in (0, 30), (moment, later)
        assert len(later) >= len(found) + 1
        assert asyncio.run(index.upsert(rows(0, 30))).generation
        assert len(all_keys(index)) == 34
        index.close()
        if code == 0:
            break
        assert code == -signal.SIGKILL, err
    assert moment > 6, out
