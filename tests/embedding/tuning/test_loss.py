"""Toy encoders in float32: one pass, pieces and ranks against plain autograd over everything at once."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from genai.config.embed_finetune import SentenceEncoderConfig
from genai.embedding.tuning.interfaces import Embedded, Gather, Ids, PairBatch, TokenTable
from genai.embedding.tuning.loss import EncoderLoss
from genai.embedding.tuning.model import TrainableEncoder
from genai.embedding.tuning.objectives.cosent import cosent
from genai.embedding.tuning.objectives.in_batch import multiple_negatives_ranking
from genai.embedding.tuning.objectives.margin_mse import margin_mse

ROWS = 6
OBJECTIVES = {
    "ranking": partial(multiple_negatives_ranking, symmetric=True),
    "margins": partial(margin_mse, scale=3.0),
    "grades": cosent,
}


class Encoder(nn.Module):
    """A mean of token vectors, a layer with dropout, length 1; remembers what it was asked."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.width = 8
        self.table = nn.Embedding(50, 16)
        self.dropout = nn.Dropout(dropout)
        self.layer = nn.Linear(16, self.width)
        self.calls: list[tuple[int, bool, torch.Tensor]] = []

    def forward(self, sequences: Sequence[Ids]) -> torch.Tensor:
        pooled = torch.stack([self.table(torch.from_numpy(ids).long()).mean(0) for ids in sequences])
        vectors = nn.functional.normalize(self.layer(self.dropout(pooled)), dim=-1)
        self.calls.append((len(sequences), vectors.requires_grad, vectors.detach().clone()))
        return vectors


def make_tokens() -> TokenTable:
    random = np.random.default_rng(0)

    def texts(count: int) -> list[Ids]:
        return [random.integers(0, 50, random.integers(1, 7)).astype(np.int32) for _ in range(count)]

    return TokenTable(queries=texts(9), passages=texts(12))


def make_batch() -> PairBatch:
    """Passage 3 is a negative twice, passage 5 (of row 1) a negative of row 4."""
    return PairBatch(
        pairs=np.array([4, 0, 7, 2, 8, 1]),
        passages=np.array([[0, 3], [5, 1], [2, 3], [7, 6], [8, 5], [9, 10]]),
        labels=np.linspace(0, 3, 12, dtype=np.float32).reshape(6, 2)[:, ::-1].copy(),
        rows_by_rank=(ROWS,),
        num_tokens=1,
        num_examples=ROWS,
    )


def alone(rows: torch.Tensor, rows_by_rank: Sequence[int]) -> torch.Tensor:
    assert len(rows) == sum(rows_by_rank)
    return rows


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def naive(objective: Callable[[Embedded], torch.Tensor], batch: PairBatch) -> tuple[float, dict[str, torch.Tensor]]:
    """Every text of every place encoded with a graph, and one backward pass."""
    model, tokens = Encoder(), make_tokens()
    documents = model([tokens.passages[each] for each in batch.passages.flatten()])
    loss = objective(
        Embedded(
            queries=model([tokens.queries[pair] for pair in batch.pairs]),
            documents=documents.unflatten(0, batch.passages.shape),
            pairs=torch.from_numpy(batch.pairs),
            passages=torch.from_numpy(batch.passages),
            labels=None if batch.labels is None else torch.from_numpy(batch.labels),
        )
    )
    loss.backward()
    return loss.item(), gradients(model)


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """1e-6 of the largest number of each parameter's gradient."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=1e-6 * values.abs().max().item(), msg=name)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
@pytest.mark.parametrize("microbatch_size", [6, 100, 4, 1])
def test_one_pass_and_pieces_against_autograd(objective: Any, microbatch_size: int) -> None:
    batch, model = make_batch(), Encoder()
    expected_loss, expected = naive(objective, batch)
    loss = EncoderLoss(model, make_tokens(), objective, device="cpu")
    assert loss.accumulate(batch, microbatch_size, alone) == pytest.approx(expected_loss, rel=1e-6)
    assert_same(gradients(model), expected)
    # a second time the gradient is added to what is there
    loss.accumulate(batch, microbatch_size, alone)
    assert_same(gradients(model), {name: 2 * values for name, values in expected.items()})


def bert_loss(folder: Path, precision: Any) -> tuple[EncoderLoss, TrainableEncoder]:
    config = SentenceEncoderConfig(pretrained_model_name_or_path=str(folder))
    model = TrainableEncoder.load(folder, config, precision=precision, device="cpu")
    return EncoderLoss(model, make_tokens(), OBJECTIVES["ranking"], device="cpu"), model


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("amp_bf16", 0.05)])
def test_pieces_of_a_real_encoder(bert: Path, precision: str, tolerance: float) -> None:
    """Also that no weight which was rounded without a graph is taken for the pass with one."""
    found = []
    for microbatch_size in (6, 2):
        loss, model = bert_loss(bert, precision)
        value = loss.accumulate(make_batch(), microbatch_size, alone)
        found.append((value, torch.cat([each.flatten() for each in gradients(model).values()])))
    (first_loss, first), (second_loss, second) = found
    assert second_loss == pytest.approx(first_loss, rel=tolerance)
    assert first.shape == second.shape and (first - second).norm() < tolerance * first.norm()


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16"])
def test_a_real_encoder_draws_the_same_dropout_twice(bert: Path, precision: str) -> None:
    loss, model = bert_loss(bert, precision)
    vectors: list[torch.Tensor] = []
    model.train().register_forward_hook(lambda module, given, made: vectors.append(made.detach()))
    loss.accumulate(make_batch(), 4, alone)
    assert [len(each) for each in vectors] == [11, 5, 11, 5]
    assert torch.equal(vectors[0], vectors[2]) and torch.equal(vectors[1], vectors[3])
    model.eval()
    loss.measure(make_batch(), alone)
    assert not torch.allclose(vectors[0][0], vectors[4][0], atol=1e-3)  # there was some


def test_every_text_once_and_only_the_last_pass_keeps_a_graph() -> None:
    model = Encoder()
    loss = EncoderLoss(model, make_tokens(), OBJECTIVES["ranking"], device="cpu")
    loss.accumulate(make_batch(), 6, alone)
    assert [call[:2] for call in model.calls] == [(6 + 10, True)]
    model.calls.clear()
    loss.accumulate(make_batch(), 4, alone)
    # rows 0 to 3 bring 4 queries and 7 passages, the others 2 queries and what is new of theirs
    assert [call[:2] for call in model.calls] == [(11, False), (5, False), (11, True), (5, True)]


@pytest.mark.parametrize("microbatch_size", [1, 4])
def test_both_passes_draw_the_same_dropout(microbatch_size: int) -> None:
    model = Encoder(dropout=0.5)
    loss = EncoderLoss(model, make_tokens(), OBJECTIVES["ranking"], device="cpu")
    loss.accumulate(make_batch(), microbatch_size, alone)
    half = len(model.calls) // 2
    for (_, _, first), (_, with_graph, second) in zip(model.calls[:half], model.calls[half:], strict=True):
        assert with_graph and torch.equal(first, second)
    before = model.calls[0][2]
    model.calls.clear()
    loss.accumulate(make_batch(), microbatch_size, alone)
    assert not torch.equal(before, model.calls[0][2])  # the next step draws another one


def on_ranks(batches: Sequence[PairBatch], work: Callable[[int, Gather], Any]) -> list[Any]:
    """Runs every rank in a thread; a gather waits for all of them."""
    count = len(batches)
    barrier = threading.Barrier(count, timeout=10)
    given: list[torch.Tensor] = [torch.empty(0)] * count

    def gather_of(rank: int) -> Gather:
        def gather(rows: torch.Tensor, rows_by_rank: Sequence[int]) -> torch.Tensor:
            assert len(rows) == rows_by_rank[rank] and not rows.requires_grad
            given[rank] = rows
            barrier.wait()
            everything = torch.cat(given)
            barrier.wait()
            return everything

        return gather

    with ThreadPoolExecutor(count) as pool:
        waiting = [pool.submit(work, rank, gather_of(rank)) for rank in range(count)]
        return [each.result() for each in waiting]


def divided(batch: PairBatch, counts: tuple[int, ...]) -> Iterator[PairBatch]:
    start = 0
    for count in counts:
        rows = slice(start, start + count)
        start += count
        yield replace(
            batch,
            pairs=batch.pairs[rows],
            passages=batch.passages[rows],
            labels=None if batch.labels is None else batch.labels[rows],
            rows_by_rank=counts,
        )


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
@pytest.mark.parametrize(("counts", "microbatch_size"), [((3, 3), 8), ((4, 2), 2), ((1, 0, 5), 3), ((0, 6), 6)])
def test_ranks_add_up_to_one_process(objective: Any, counts: tuple[int, ...], microbatch_size: int) -> None:
    expected_loss, expected = naive(objective, make_batch())
    batches = list(divided(make_batch(), counts))
    models = [Encoder() for _ in counts]

    def work(rank: int, gather: Gather) -> float:
        loss = EncoderLoss(models[rank], make_tokens(), objective, device="cpu")
        return loss.accumulate(batches[rank], microbatch_size, gather)

    parts = on_ranks(batches, work)
    assert sum(parts) == pytest.approx(expected_loss, rel=1e-6)
    assert parts == pytest.approx([expected_loss * count / ROWS for count in counts], rel=1e-6)
    total = {name: torch.zeros_like(values) for name, values in expected.items()}
    for model in models:
        for name, values in gradients(model).items():
            total[name] += values
    assert_same(total, expected)


def test_a_gather_in_the_wrong_order_is_found() -> None:
    batch = next(iter(divided(make_batch(), (3, 3))))
    loss = EncoderLoss(Encoder(), make_tokens(), cosent, device="cpu")
    with pytest.raises(AssertionError, match="stand in 0 places"):
        loss.accumulate(batch, 3, lambda rows, counts: torch.cat([rows, rows]).roll(1, 0))
    with pytest.raises(AssertionError, match="stand in 2 places"):
        loss.accumulate(batch, 3, lambda rows, counts: torch.cat([rows, rows]))


@pytest.mark.parametrize("counts", [(6,), (4, 2), (0, 6)])
def test_measuring(counts: tuple[int, ...]) -> None:
    expected, _ = naive(OBJECTIVES["ranking"], make_batch())
    batches = list(divided(make_batch(), counts))
    models = [Encoder() for _ in counts]

    def work(rank: int, gather: Gather) -> tuple[float, int]:
        loss = EncoderLoss(models[rank], make_tokens(), OBJECTIVES["ranking"], device="cpu")
        return loss.measure(batches[rank], gather)

    found = on_ranks(batches, work)
    assert [count for _, count in found] == list(counts)
    assert sum(total for total, _ in found) / ROWS == pytest.approx(expected, rel=1e-6)
    assert not any(gradients(model) for model in models)


def test_measuring_cuts_large_batches_and_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genai.embedding.tuning.loss._ROWS_WITHOUT_GRAPH", 4)
    model = Encoder()
    loss = EncoderLoss(model, make_tokens(), OBJECTIVES["ranking"], device="cpu")
    expected, _ = naive(OBJECTIVES["ranking"], make_batch())
    assert loss.measure(make_batch(), alone) == (pytest.approx(6 * expected, rel=1e-6), 6)
    assert [call[:2] for call in model.calls] == [(11, False), (5, False)]


def test_without_negatives_and_labels() -> None:
    batch = make_batch()
    batch = replace(batch, passages=batch.passages[:, :1], labels=None)
    expected_loss, expected = naive(OBJECTIVES["ranking"], batch)
    model = Encoder()
    loss = EncoderLoss(model, make_tokens(), OBJECTIVES["ranking"], device="cpu")
    assert loss.accumulate(batch, 4, alone) == pytest.approx(expected_loss, rel=1e-6)
    assert_same(gradients(model), expected)
