"""Encoders and rerankers across requests: merged, fair, each request its own rows, faults only where they belong."""

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from genai.errors import DataError
from genai.inference.batching import EncoderWorker, RerankerWorker, Role
from genai.models.generation import EmbedRequest, EmbedResult, RerankRequest, RerankResult

DEADLINE_S = 20


class FakeEncoder:
    """A text's vector counts its letters; "bad" cannot be read, and a gate can hold the model up."""

    dimension = 4
    max_length = 50

    def __init__(self, *, normalize: bool = False) -> None:
        self.normalize = normalize
        self.calls: list[list[list[int]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def tokens(self, texts: Sequence[str], role: Role, *, truncate: bool = True) -> list[list[int]]:
        if "untokenizable" in texts:
            raise ValueError("no tokens")
        all_ids = [[ord(letter) for letter in ("?" if role == "query" else "") + text] for text in texts]
        return [ids[: self.max_length] for ids in all_ids] if truncate else all_ids

    def embed_tokens(self, sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self.calls.append([list(ids) for ids in sequences])
        self.entered.set()
        assert self.gate.wait(DEADLINE_S)
        if any(bytes(ids) == b"bad" for ids in sequences):
            raise DataError("the encoder gave infinite numbers")
        if any(bytes(ids) == b"bug" for ids in sequences):
            raise RuntimeError("secret inner detail")
        return np.array([_vector(ids) for ids in sequences], dtype=np.float32).reshape(-1, 4)


class FakeReranker:
    def __init__(self) -> None:
        self.calls: list[int] = []

    def tokens(self, query: str, texts: Sequence[str]) -> list[str]:
        return [query + text for text in texts]

    def score_tokens(self, pairs: Sequence[str]) -> list[float]:
        self.calls.append(len(pairs))
        if "bad" in "".join(pairs):
            raise RuntimeError
        return [len(pair) / 100 for pair in pairs]


class Results:
    """Where results arrive."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self._results: dict[str, Any] = {}
        self._changed = threading.Condition()

    def __call__(self, result: Any) -> None:
        with self._changed:
            assert result.id not in self._results
            self.order.append(result.id)
            self._results[result.id] = result
            self._changed.notify_all()

    def wait(self, request_id: str) -> Any:
        with self._changed:
            assert self._changed.wait_for(lambda: request_id in self._results, DEADLINE_S)
            return self._results[request_id]

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._results


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def worker(encoder: FakeEncoder, results: Results) -> Iterator[EncoderWorker]:
    made = EncoderWorker("e", encoder, max_batch_tokens=20, max_waiting=4, emit=results)
    yield made
    encoder.gate.set()
    made.close()


def test_every_text_has_its_vector_and_tokens_are_counted(worker: EncoderWorker, results: Results) -> None:
    worker.submit(_embed("a", ["one", "", "three"], role="query"))
    result: EmbedResult = results.wait("a")
    assert [np.frombuffer(vector, "<f4").tolist() for vector in result.vectors] == [
        _vector(b"?one"),
        _vector(b"?"),
        _vector(b"?three"),
    ]
    assert result.num_tokens == 4 + 1 + 6
    assert result.fault is None


def test_requests_that_came_meanwhile_are_read_together(
    worker: EncoderWorker, encoder: FakeEncoder, results: Results
) -> None:
    _hold(worker, encoder)
    for name in "abc":
        worker.submit(_embed(name, [name * 4]))
    encoder.gate.set()
    for name in "abc":
        assert np.frombuffer(results.wait(name).vectors[0], "<f4").tolist() == _vector(name.encode() * 4)
    assert len(encoder.calls) == 2
    assert len(encoder.calls[1]) == 3


def test_a_batch_keeps_to_its_tokens_and_a_longer_text_goes_alone(
    worker: EncoderWorker, encoder: FakeEncoder, results: Results
) -> None:
    texts = ["x" * length for length in (8, 8, 8, 50, 3)]
    worker.submit(_embed("a", texts))
    vectors = results.wait("a").vectors
    assert [np.frombuffer(vector, "<f4")[0] for vector in vectors] == [8, 8, 8, 50, 3]
    assert [[len(ids) for ids in call] for call in encoder.calls] == [[8, 8], [8], [50], [3]]


def test_a_big_request_holds_up_nobody(worker: EncoderWorker, encoder: FakeEncoder, results: Results) -> None:
    _hold(worker, encoder)
    worker.submit(_embed("big", ["0123456789"] * 40, client="greedy"))
    worker.submit(_embed("small", ["0123456789"], client="modest"))
    encoder.gate.set()
    results.wait("big")
    assert results.order.index("small") < results.order.index("big")
    assert worker.stats().texts == 42
    assert worker.stats().batches == 22  # of two texts each, beside the one that was held up


def test_dimensions_cut_and_scale_again(results: Results) -> None:
    worker = EncoderWorker("e", FakeEncoder(normalize=True), max_batch_tokens=20, max_waiting=4, emit=results)
    worker.submit(_embed("a", ["abc", ""], dimensions=2))
    first, empty = (np.frombuffer(vector, "<f4") for vector in results.wait("a").vectors)
    whole = np.array(_vector(b"abc")[:2])
    np.testing.assert_allclose(first, whole / np.linalg.norm(whole), rtol=1e-6)
    assert empty.tolist() == [0, 0]
    worker.close()


@pytest.mark.parametrize(
    ("changes", "param"),
    [({"texts": []}, "input"), ({"dimensions": 5}, "dimensions"), ({"dimensions": 0}, "dimensions")],
)
def test_what_cannot_be_carried_out_is_refused(
    worker: EncoderWorker, results: Results, changes: dict[str, Any], param: str
) -> None:
    worker.submit(_embed("a", **{"texts": ["x"], **changes}))
    fault = results.wait("a").fault
    assert fault is not None
    assert (fault.code, fault.param) == ("invalid", param)


def test_a_text_that_is_too_long_is_cut_only_where_that_was_asked_for(worker: EncoderWorker, results: Results) -> None:
    texts = ["short", "x" * 60]
    worker.submit(_embed("cut", texts))
    worker.submit(_embed("whole", texts, truncate=False))
    assert np.frombuffer(results.wait("cut").vectors[1], "<f4")[0] == 50
    fault = results.wait("whole").fault
    assert (fault.code, fault.param) == ("too_long", "input[1]")
    assert "at most 50 tokens, and input[1] has 60" in fault.message
    assert worker.stats().crashes == 0
    worker.submit(_embed("fits", ["x" * 50], truncate=False))
    assert results.wait("fits").fault is None


def test_more_than_may_wait_are_refused(worker: EncoderWorker, encoder: FakeEncoder, results: Results) -> None:
    _hold(worker, encoder)
    for name in "abcd":
        worker.submit(_embed(name, ["x"]))
    assert results.wait("d").fault.code == "overloaded"
    encoder.gate.set()
    assert results.wait("c").fault is None


@pytest.mark.parametrize(
    ("text", "message"), [("bad", "infinite numbers"), ("bug", "the server's log"), ("untokenizable", "log")]
)
def test_a_failing_text_fails_its_request_alone(
    worker: EncoderWorker, encoder: FakeEncoder, results: Results, text: str, message: str
) -> None:
    _hold(worker, encoder)
    worker.submit(_embed("a", ["good"]))
    worker.submit(_embed("b", ["fine", text]))
    worker.submit(_embed("c", ["well"]))
    encoder.gate.set()
    fault = results.wait("b").fault
    assert fault.code == "failed"
    assert message in fault.message
    assert "secret" not in fault.message
    for name in "ac":
        assert len(results.wait(name).vectors) == 1
    worker.submit(_embed("d", ["next"]))
    assert results.wait("d").fault is None
    assert worker.stats().crashes == 1


def test_who_gave_up_is_not_read(worker: EncoderWorker, encoder: FakeEncoder, results: Results) -> None:
    _hold(worker, encoder)
    worker.submit(_embed("a", ["gone"]))
    worker.submit(_embed("b", ["here"]))
    worker.abort("a")
    worker.abort("held")
    worker.abort("nobody")
    encoder.gate.set()
    results.wait("b")
    assert "a" not in results
    assert "held" not in results
    assert [bytes(ids) for call in encoder.calls for ids in call] == [b"hold", b"here"]
    assert worker.num_open == 0


def test_time_that_is_over(worker: EncoderWorker, encoder: FakeEncoder, results: Results) -> None:
    _hold(worker, encoder)
    worker.submit(_embed("a", ["late"], timeout_s=0.01))
    worker.submit(_embed("b", ["here"], timeout_s=60))
    time.sleep(0.02)
    encoder.gate.set()
    assert results.wait("a").fault.code == "timeout"
    assert results.wait("b").fault is None


def test_drain_waits_and_refuses(worker: EncoderWorker, encoder: FakeEncoder, results: Results) -> None:
    _hold(worker, encoder)
    assert not worker.drain(0.01)
    worker.submit(_embed("a", ["late"]))
    assert results.wait("a").fault.code == "not_loaded"
    encoder.gate.set()
    assert worker.drain(DEADLINE_S)
    assert results.wait("held").fault is None


def test_close_answers_what_is_open(encoder: FakeEncoder, results: Results) -> None:
    worker = EncoderWorker("e", encoder, max_batch_tokens=20, max_waiting=9, emit=results)
    _hold(worker, encoder)
    worker.submit(_embed("a", ["waits"]))
    closing = threading.Thread(target=worker.close)
    closing.start()
    encoder.gate.set()
    closing.join(DEADLINE_S)
    assert results.wait("a").fault.code == "not_loaded"
    worker.submit(_embed("b", ["late"]))
    assert results.wait("b").fault.code == "not_loaded"
    worker.close()


def test_an_idle_worker_costs_nothing(worker: EncoderWorker, results: Results) -> None:
    worker.submit(_embed("a", ["x"]))
    results.wait("a")
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.05


def test_many_threads_at_once(encoder: FakeEncoder, results: Results) -> None:
    worker = EncoderWorker("e", encoder, max_batch_tokens=64, max_waiting=1000, emit=results)
    names = [f"{thread}-{number}" for thread, number in itertools.product(range(4), range(25))]

    def ask(mine: Sequence[str]) -> None:
        for name in mine:
            worker.submit(_embed(name, [name] * 3, client=name[0]))

    threads = [threading.Thread(target=ask, args=(names[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    for name in names:
        vectors = results.wait(name).vectors
        assert [np.frombuffer(vector, "<f4").tolist() for vector in vectors] == [_vector(name.encode())] * 3
    assert worker.stats().texts == 300
    worker.close()


def test_rerankers_score_pairs_of_several_queries(results: Results) -> None:
    reranker = FakeReranker()
    worker = RerankerWorker("r", reranker, max_batch_tokens=100, max_waiting=4, emit=results)
    worker.submit(RerankRequest(id="a", model="r", query="q", texts=["1", "22", "333"]))
    result: RerankResult = results.wait("a")
    assert result.scores == [0.02, 0.03, 0.04]
    assert result.num_tokens == 9
    worker.submit(RerankRequest(id="b", model="r", query="q", texts=[]))
    assert results.wait("b").fault.param == "documents"
    worker.submit(RerankRequest(id="c", model="r", query="q", texts=["bad"]))
    assert results.wait("c").fault.code == "failed"
    worker.close()


@pytest.mark.integration
def test_a_real_encoder_and_reranker_give_what_they_give_alone(tmp_path: Path, results: Results) -> None:
    from genai.config.embedding import EmbeddingConfig
    from genai.embedding.cross_encoder import CrossEncoder
    from genai.embedding.encoder import TextEncoder
    from genai.embedding.opening import open_encoder
    from tests.embedding.conftest import TEXTS, make_bert

    config = EmbeddingConfig(model=str(make_bert(tmp_path / "bert")), precision="fp32", query_prompt="query: ")
    encoder = open_encoder(config, num_threads=1)
    assert isinstance(encoder, TextEncoder)
    worker = EncoderWorker("e", encoder, max_batch_tokens=64, max_waiting=99, emit=results)
    for number, text in enumerate(TEXTS):
        worker.submit(_embed(f"d{number}", [text, text[:7]]))
        worker.submit(_embed(f"q{number}", [text], role="query"))
    for number, text in enumerate(TEXTS):
        found = [np.frombuffer(vector, "<f4") for vector in results.wait(f"d{number}").vectors]
        np.testing.assert_allclose(found, encoder.embed_documents([text, text[:7]]), atol=1e-5)
        found = [np.frombuffer(vector, "<f4") for vector in results.wait(f"q{number}").vectors]
        np.testing.assert_allclose(found, encoder.embed_queries([text]), atol=1e-5)
    worker.close()

    reranker = CrossEncoder(make_bert(tmp_path / "cross", classifier=True, num_labels=1), num_threads=1)
    scorer = RerankerWorker("r", reranker, max_batch_tokens=64, max_waiting=99, emit=results)
    for number, text in enumerate(TEXTS):
        scorer.submit(RerankRequest(id=f"r{number}", model="r", query=text, texts=TEXTS))
    for number, text in enumerate(TEXTS):
        np.testing.assert_allclose(results.wait(f"r{number}").scores, reranker.score(text, TEXTS), atol=0.02)
    scorer.close()


def _embed(request_id: str, texts: list[str], **changes: Any) -> EmbedRequest:
    return EmbedRequest(id=request_id, model="e", texts=texts, **changes)


def _hold(worker: EncoderWorker, encoder: FakeEncoder) -> None:
    """Keep the model busy with one text until the gate is opened."""
    encoder.gate.clear()
    encoder.entered.clear()
    worker.submit(_embed("held", ["hold"], client="held"))
    assert encoder.entered.wait(DEADLINE_S)


def _vector(ids: Sequence[int]) -> list[float]:
    return [len(ids), sum(ids) / 64, 2.0 * len(ids), 1.0 if ids else 0.0]
