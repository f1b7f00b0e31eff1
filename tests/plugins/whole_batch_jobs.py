"""A toy loss over whole batches, and trainings with it on many ranks; see rank_jobs for how those are started.

    python whole_batch_jobs.py FOLDER NAME...    one rank; its place comes from the environment

The loss is InfoNCE (arXiv:1807.03748) over a small network: every query against the documents of all rows. Eleven pairs
in batches of five, so that ranks have unequally many rows, and of the last batch only the first rank has one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rank_jobs import Recorder, main
from torch import nn
from torch.nn.functional import cross_entropy, normalize

NUM_PAIRS, BATCH_SIZE, WIDTH = 11, 5, 6
SCALE = 10.0


@dataclass(frozen=True, kw_only=True)
class ToyBatch:
    """Rows of one rank."""

    pairs: tuple[int, ...]
    rows_by_rank: tuple[int, ...]
    rank: int
    num_tokens: int
    num_examples: int
    epoch: int = 0
    ends_epoch: bool = False

    @property
    def num_trained_tokens(self) -> int:
        return self.num_examples

    @property
    def row_ids(self) -> tuple[tuple[int, ...], ...]:
        return tuple((pair,) for pair in self.pairs)


def make_batch(pairs: Sequence[int], *, rank: int, world_size: int, **values: Any) -> ToyBatch:
    """The rows of `rank`: the first ranks have one more where they cannot be divided evenly."""
    counts = tuple(len(pairs) // world_size + (place < len(pairs) % world_size) for place in range(world_size))
    first = sum(counts[:rank])
    own = tuple(pairs[first : first + counts[rank]])
    return ToyBatch(
        pairs=own, rows_by_rank=counts, rank=rank, num_tokens=7 * len(pairs), num_examples=len(pairs), **values
    )


class ToyStream:
    """Meets `TrainStream`: another order each epoch."""

    def __init__(self, *, rank: int = 0, world_size: int = 1) -> None:
        self._place = {"rank": rank, "world_size": world_size}
        self.epoch = 0
        self.batch_in_epoch = 0

    def batches_in_epoch(self, epoch: int) -> int:
        return -(-NUM_PAIRS // BATCH_SIZE)

    def next_batch(self) -> ToyBatch:
        order = torch.randperm(NUM_PAIRS, generator=torch.Generator().manual_seed(self.epoch)).tolist()
        first = self.batch_in_epoch * BATCH_SIZE
        self.batch_in_epoch += 1
        ends = self.batch_in_epoch == self.batches_in_epoch(self.epoch)
        batch = make_batch(order[first : first + BATCH_SIZE], epoch=self.epoch, ends_epoch=ends, **self._place)
        if ends:
            self.epoch, self.batch_in_epoch = self.epoch + 1, 0
        return batch

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "batch_in_epoch": self.batch_in_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self.batch_in_epoch = state["epoch"], state["batch_in_epoch"]


def eval_batches(*, rank: int = 0, world_size: int = 1) -> Iterator[ToyBatch]:
    """All pairs in their order."""
    for first in range(0, NUM_PAIRS, BATCH_SIZE):
        pairs = range(NUM_PAIRS)[first : first + BATCH_SIZE]
        yield make_batch(pairs, rank=rank, world_size=world_size)


def make_model(dropout: float = 0.0) -> nn.Module:
    """The same on every rank."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 8))


def info_nce(queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """The loss of each row, (B,)."""
    return cross_entropy(SCALE * queries @ documents.T, torch.arange(len(queries)), reduction="none")


class ToyLoss:
    """Meets `BatchLoss`.

    Args:
        model: of `make_model`.
        at: called with the microbatch size before the first gather (0), between the two (1), and when half of the
            gradient is made (2).
    """

    def __init__(self, model: nn.Module, at: Callable[[int, int], None] = lambda moment, size: None) -> None:
        self.model = model
        self.device = torch.device("cpu")
        self.sizes: list[int] = []
        self._at = at
        generator = torch.Generator().manual_seed(2)
        self._texts = torch.randn((2, NUM_PAIRS, WIDTH), generator=generator)

    def vectors(self, pairs: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries and documents, each (rows, 8), of length 1."""
        both = normalize(self.model(self._texts[:, list(pairs)]), dim=-1)
        return both[0], both[1]

    def accumulate(self, batch: ToyBatch, microbatch_size: int, gather: Any) -> float:
        self._at(0, microbatch_size)
        with torch.no_grad(), torch.random.fork_rng():
            parts = [self.vectors(piece) for piece in _pieces(batch.pairs, microbatch_size)]
        queries = gather(_together(parts, 0), batch.rows_by_rank).requires_grad_()
        self._at(1, microbatch_size)
        documents = gather(_together(parts, 1), batch.rows_by_rank).requires_grad_()
        losses = info_nce(queries, documents)
        gradients = torch.autograd.grad(losses.sum() / batch.num_examples, [queries, documents])
        own = self._own(batch, len(queries))
        of_pieces = [gradient[own].split(microbatch_size) for gradient in gradients]
        for pairs, *gradient in zip(_pieces(batch.pairs, microbatch_size), *of_pieces, strict=False):
            self.sizes.append(len(pairs))
            torch.autograd.backward(self.vectors(pairs), gradient)
            self._at(2, microbatch_size)
        return float(losses[own].sum().detach()) / batch.num_examples

    def measure(self, batch: ToyBatch, gather: Any) -> tuple[float, int]:
        assert not self.model.training
        queries, documents = (gather(each, batch.rows_by_rank) for each in self.vectors(batch.pairs))
        losses = info_nce(queries, documents)
        assert not losses.requires_grad
        return float(losses[self._own(batch, len(queries))].sum()), len(batch.pairs)

    def _own(self, batch: ToyBatch, num_gathered: int) -> slice:
        # A gather that is wrong gives own rows only.
        first = sum(batch.rows_by_rank[: batch.rank]) if num_gathered == batch.num_examples else 0
        return slice(first, first + len(batch.pairs))


def _pieces(pairs: Sequence[int], size: int) -> list[Sequence[int]]:
    return [pairs[first : first + size] for first in range(0, len(pairs), size)] or [()]


def _together(parts: Sequence[tuple[torch.Tensor, torch.Tensor]], which: int) -> torch.Tensor:
    return torch.cat([part[which] for part in parts])


def make_trainer(
    folder: Path, ranks: Any, *, dropout: float = 0.0, microbatch_size: int = 2, callbacks: Sequence[Any] = ()
) -> tuple[Any, Any, Recorder]:
    """A trainer of nine batches over three epochs, its checkpoints, and what it logs."""
    from genai.config.durations import Duration
    from genai.config.training import AdamWConfig, CosineConfig
    from genai.training.checkpoints import Checkpoints
    from genai.training.optimizers import build_optimizer
    from genai.training.parallel.whole_batch import share_whole_batches
    from genai.training.random_state import seed_rank
    from genai.training.schedules import build_schedule
    from genai.training.trainer import Settings, Trainer

    place = {"rank": ranks.rank, "world_size": ranks.world_size}
    torch.manual_seed(3)
    model = make_model(dropout)
    duration = Duration.parse("3ep")
    checkpoints = Checkpoints(str(folder), keep=9, context={}, ranks=ranks)
    recorder = Recorder()
    trainer = Trainer(
        optimizer=build_optimizer(AdamWConfig(lr=1e-2), model),
        schedule=build_schedule(CosineConfig(t_warmup="2ba"), max_duration=duration, batches_per_epoch=3),
        stream=ToyStream(**place),
        eval_batches=lambda: eval_batches(**place),
        callbacks=callbacks,
        checkpoints=checkpoints,
        metrics=recorder,
        settings=Settings(
            max_duration=duration,
            eval_interval=Duration.parse("4ba"),
            save_interval=Duration.parse("4ba"),
            total_batches=9,
            microbatch_size=microbatch_size,
        ),
        parallel=share_whole_batches(ToyLoss(model), ranks),
    )
    seed_rank(3, ranks.rank)
    return trainer, checkpoints, recorder


# --- what a process of a rank can be told to do -----------------------------------------------------------------------


def gradients_of(ranks: Any, make: Any = None, *, microbatch_size: int = 8, scale: float = 1.0) -> dict[str, Any]:
    """Loss and gradient of each batch of an epoch.

    Args:
        make: the strategy; None for the right one.
        scale: multiplies the gradients once they are summed.
    """
    from genai.training.parallel.whole_batch import WholeBatches

    strategy = (make or WholeBatches)(ToyLoss(make_model()), ranks)
    parameters = list(strategy.model_loss.model.parameters())
    stream = ToyStream(rank=ranks.rank, world_size=ranks.world_size)
    losses, gradients = [], []
    for _ in range(stream.batches_in_epoch(0)):
        losses.append(ranks.sum([strategy.accumulate(stream.next_batch(), microbatch_size)])[0])
        strategy.reduce_gradients(parameters)
        gradients.append([scale * value for p in parameters for value in p.grad.flatten().tolist()])
        strategy.model_loss.model.zero_grad()
    return {"losses": losses, "gradients": gradients}


def right(folder: Path, ranks: Any) -> Any:
    return gradients_of(ranks)


def in_pieces(folder: Path, ranks: Any) -> Any:
    return gradients_of(ranks, microbatch_size=1)


def own_rows_only(folder: Path, ranks: Any) -> Any:
    """Wrong: a rank sees no other rank's rows."""
    from genai.training.parallel.whole_batch import WholeBatches

    class OwnRowsOnly(WholeBatches):
        def _gather(self, rows: torch.Tensor, rows_by_rank: Sequence[int]) -> torch.Tensor:
            return rows.detach()

    return gradients_of(ranks, OwnRowsOnly)


def averaged(folder: Path, ranks: Any) -> Any:
    """Wrong: the mean over ranks, as torch's DDP takes it."""
    return gradients_of(ranks, scale=1 / ranks.world_size)


def in_another_order(folder: Path, ranks: Any) -> Any:
    """Wrong: a rank takes the rows of others for its own."""
    from genai.training.parallel.whole_batch import WholeBatches

    class Reversed(WholeBatches):
        def _gather(self, rows: torch.Tensor, rows_by_rank: Sequence[int]) -> torch.Tensor:
            return super()._gather(rows, rows_by_rank).flip(0)

    return gradients_of(ranks, Reversed)


def evaluation(folder: Path, ranks: Any) -> Any:
    trainer, _, _ = make_trainer(folder / "evaluation", ranks)
    result = trainer.measure()
    return {"loss": result.loss, "rows": result.num_tokens, "training": trainer.model.training}


def train(folder: Path, ranks: Any) -> Any:
    trainer, _, recorder = make_trainer(folder / f"train_{ranks.world_size}", ranks)
    state = trainer.fit()
    names = ("loss/train", "grad_norm", "loss/eval")
    return {**{name: recorder.values(name) for name in names}, "samples": state.samples, "tokens": state.tokens}


def out_of_memory(folder: Path, ranks: Any) -> Any:
    """The last rank runs out of memory with more than one row, at each of three moments."""
    from genai.training.parallel.whole_batch import WholeBatches

    found = []
    for failing in range(3):

        def fail(moment: int, size: int, failing: int = failing) -> None:
            if ranks.rank == ranks.world_size - 1 and moment == failing and size > 1:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")

        strategy = WholeBatches(ToyLoss(make_model(0.5), fail), ranks)
        parameters = list(strategy.model_loss.model.parameters())
        torch.manual_seed(ranks.rank)
        batch = ToyStream(rank=ranks.rank, world_size=ranks.world_size).next_batch()
        loss, size = strategy.accumulate_what_fits(batch, 4)
        strategy.reduce_gradients(parameters)
        sizes = [int(each) for each in ranks.gather(torch.tensor([size]))]
        gradient = [value for p in parameters for value in p.grad.flatten().tolist()]
        found.append({"loss": ranks.sum([loss])[0], "sizes": sizes, "gradient": gradient})
    strategy = WholeBatches(ToyLoss(make_model(0.5)), ranks)
    torch.manual_seed(ranks.rank)
    loss = strategy.accumulate(batch, 1)
    strategy.reduce_gradients(list(strategy.model_loss.model.parameters()))
    gradient = [value for p in strategy.model_loss.model.parameters() for value in p.grad.flatten().tolist()]
    return {"found": found, "loss": ranks.sum([loss])[0], "gradient": gradient}


def nothing_fits(folder: Path, ranks: Any) -> Any:
    """One rank cannot do with one row either."""
    from genai.errors import GenaiError
    from genai.training.parallel.whole_batch import WholeBatches

    def fail(moment: int, size: int) -> None:
        if ranks.rank == 1 and moment == 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    batch = ToyStream(rank=ranks.rank, world_size=ranks.world_size).next_batch()
    try:
        WholeBatches(ToyLoss(make_model(), fail), ranks).accumulate_what_fits(batch, 2)
        ended = 0
    except GenaiError as error:
        ended = int("one row" in error.message and "model.max_tokens" in str(error.fix))
    return [int(each) for each in ranks.gather(torch.tensor([ended]))]


if __name__ == "__main__":
    from genai.jobs.worker import end

    main(Path(sys.argv[1]), sys.argv[2:], globals())
    end(0)
