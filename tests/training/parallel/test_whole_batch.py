"""A loss over whole batches: many ranks train what one process trains, and wrong ways of sharing it are told apart.

Float32; a gradient is the same when its largest difference is below 1e-6 of its largest entry.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import whole_batch_jobs as jobs
from rank_jobs import run_ranks

from genai.errors import StoppedError
from genai.training.callbacks.base import Callback, StepInfo
from genai.training.parallel.ranks import Ranks
from genai.training.parallel.whole_batch import gather_rows, share_whole_batches

TOLERANCE = 1e-6
NAMES = (
    *("right", "in_pieces", "own_rows_only", "averaged", "in_another_order"),
    *("evaluation", "train", "out_of_memory", "nothing_fits"),
)
many = pytest.mark.integration


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process does."""
    folder = tmp_path_factory.mktemp("alone")
    return {name: getattr(jobs, name)(folder, Ranks()) for name in ("right", "evaluation", "train")}


@pytest.fixture(scope="module", params=[2, 3])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ranks do, in one go, since most of the time goes into starting them."""
    return run_ranks(request.param, tmp_path_factory.mktemp("ranks"), *NAMES, script=jobs.__file__)


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[float]:
    """Of the loss and of the gradient, relative; the largest of all batches."""
    worst = [0.0, 0.0]
    assert len(found["losses"]) == len(expected["losses"]) == 3
    for index, (loss, wanted) in enumerate(zip(found["losses"], expected["losses"], strict=True)):
        apart = difference(found["gradients"][index], expected["gradients"][index])
        worst = [max(worst[0], abs(loss - wanted) / max(wanted, 1e-3)), max(worst[1], apart)]
    return worst


def difference(ours: list[float], theirs: list[float]) -> float:
    """The largest of two gradients, relative to the largest entry."""
    found, expected = torch.tensor(ours), torch.tensor(theirs)
    # A single row is told from nothing: its loss and its gradient are zero.
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-3))


def test_one_rank_has_the_gradient_of_plain_autograd(alone: Any) -> None:
    loss = jobs.ToyLoss(jobs.make_model())
    stream = jobs.ToyStream()
    expected: dict[str, Any] = {"losses": [], "gradients": []}
    for _ in range(3):
        mean = jobs.info_nce(*loss.vectors(stream.next_batch().pairs)).mean()
        gradient = torch.autograd.grad(mean, list(loss.model.parameters()))
        expected["losses"].append(float(mean.detach()))
        expected["gradients"].append([value for part in gradient for value in part.flatten().tolist()])
    assert max(differences(alone["right"], expected)) < TOLERANCE
    assert max(differences(jobs.in_pieces(Path(), Ranks()), expected)) < TOLERANCE


@many
@pytest.mark.parametrize("name", ["right", "in_pieces"])
def test_many_ranks_have_the_gradient_of_one(shared: Any, alone: Any, name: str) -> None:
    assert max(differences(shared[name], alone["right"])) < TOLERANCE


@many
@pytest.mark.parametrize("name", ["own_rows_only", "averaged", "in_another_order"])
def test_a_wrong_way_to_share_is_told_apart(shared: Any, alone: Any, name: str) -> None:
    loss, gradient = differences(shared[name], alone["right"])
    assert gradient > 0.1
    # The other two leave the loss as it is.
    assert loss > 0.01 if name == "own_rows_only" else loss < TOLERANCE


@many
def test_many_ranks_measure_what_one_measures(shared: Any, alone: Any) -> None:
    assert shared["evaluation"] == pytest.approx(alone["evaluation"], rel=TOLERANCE)
    assert alone["evaluation"]["rows"] == jobs.NUM_PAIRS
    assert alone["evaluation"]["training"] is True


@many
def test_many_ranks_train_what_one_trains(shared: Any, alone: Any) -> None:
    expected = alone["train"]
    assert [len(expected[name]) for name in ("loss/train", "loss/eval")] == [9, 3]
    for name in ("loss/train", "grad_norm", "loss/eval"):
        found = {int(batch): value for batch, value in shared["train"][name].items()}
        wanted = {int(batch): value for batch, value in expected[name].items()}
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-6), name
    assert shared["train"]["samples"] == expected["samples"] == 3 * jobs.NUM_PAIRS
    assert shared["train"]["tokens"] == expected["tokens"]


@many
def test_when_one_rank_runs_out_of_memory_all_begin_again(shared: Any) -> None:
    wanted = shared["out_of_memory"]
    assert len(wanted["found"]) == 3
    for found in wanted["found"]:
        assert set(found["sizes"]) == {1}
        assert found["loss"] == pytest.approx(wanted["loss"], rel=TOLERANCE)
        assert difference(found["gradient"], wanted["gradient"]) < TOLERANCE


@many
def test_when_nothing_fits_all_ranks_say_so(shared: Any) -> None:
    assert set(shared["nothing_fits"]) == {1}


def test_memory_that_is_too_small_halves_the_microbatch() -> None:
    def fail(moment: int, size: int) -> None:
        if moment == 2 and size > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    loss = jobs.ToyLoss(jobs.make_model(), fail)
    mean, size = share_whole_batches(loss, Ranks()).accumulate_what_fits(jobs.ToyStream().next_batch(), 4)
    assert (size, loss.sizes) == (1, [4, 2, 1, 1, 1, 1, 1])
    expected = jobs.gradients_of(Ranks())
    found = [value for p in loss.model.parameters() for value in p.grad.flatten().tolist()]
    assert mean == pytest.approx(expected["losses"][0], rel=TOLERANCE)
    assert difference(found, expected["gradients"][0]) < TOLERANCE


def test_no_gradient_goes_through_what_is_gathered() -> None:
    rows = torch.ones((2, 3), requires_grad=True)
    given: list[torch.Tensor] = []

    class Keeps(jobs.ToyLoss):
        def measure(self, batch: Any, gather: Any) -> tuple[float, int]:
            given.append(gather(rows, (2,)))
            return 1.0, 1

    share_whole_batches(Keeps(jobs.make_model()), Ranks()).measure(jobs.make_batch([0, 1], rank=0, world_size=1))
    assert torch.equal(given[0], rows)
    assert not given[0].requires_grad


def test_a_rank_must_have_as_many_batches_as_the_others() -> None:
    with pytest.raises(ValueError, match="rank 0 has fewer batches"):
        share_whole_batches(jobs.ToyLoss(jobs.make_model()), Ranks()).measure(None)


@pytest.mark.parametrize("counts", [(2, 4), (3,), (3, 4, 5)])
def test_rows_that_are_not_those_of_the_batch_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rank 0 has 3 rows"):
        gather_rows(torch.ones(3, 2), counts, Ranks(world_size=2))


# --- with the trainer -------------------------------------------------------------------------------------------------


class StopsAt(Callback):
    """Does something once at the end of a batch."""

    def __init__(self, batch: int, action: Callable[[], object]) -> None:
        self._batch, self._action = batch, action

    def step_end(self, info: StepInfo) -> Mapping[str, float]:
        if info.batch == self._batch:
            self._action()
        return {}


def test_training_lowers_both_losses(alone: Any) -> None:
    train, held_out = alone["train"]["loss/train"], alone["train"]["loss/eval"]
    assert train["7"] + train["8"] < train["1"] + train["2"]
    assert held_out["9"] < held_out["4"]


@pytest.mark.parametrize("stop_at", [2, 4, 7])
def test_a_stopped_run_goes_on_bit_equal(tmp_path: Path, stop_at: int) -> None:
    whole, _, told = jobs.make_trainer(tmp_path / "whole", Ranks(), dropout=0.3, microbatch_size=8)
    whole.fit()
    stop = StopsAt(stop_at, lambda: os.kill(os.getpid(), signal.SIGTERM))
    first, _, before = jobs.make_trainer(tmp_path / "halves", Ranks(), dropout=0.3, microbatch_size=8, callbacks=[stop])
    with pytest.raises(StoppedError):
        first.fit()
    second, checkpoints, after = jobs.make_trainer(tmp_path / "halves", Ranks(), dropout=0.3, microbatch_size=8)
    name = checkpoints.newest_good()
    assert name == f"ba{stop_at:08d}"
    checkpoints.restore(second, checkpoints.read_state(name))
    state = second.fit()
    assert replace(state, train_time_s=0) == replace(whole.state, train_time_s=0)
    for ours, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for values in ("loss/train", "loss/eval"):
        assert {**before.values(values), **after.values(values)} == told.values(values)


def test_a_trainer_takes_a_loss_or_a_strategy(tmp_path: Path) -> None:
    trainer, _, _ = jobs.make_trainer(tmp_path, Ranks())
    parts = {
        "optimizer": trainer.optimizer,
        "schedule": lambda position: 1.0,
        "stream": trainer.stream,
        "eval_batches": None,
        "callbacks": [],
        "checkpoints": None,
        "metrics": None,
        "settings": trainer.settings,
    }
    other: Any = jobs.ToyLoss(jobs.make_model())
    for given in ({}, {"model_loss": other, "parallel": trainer.parallel}):
        with pytest.raises(ValueError, match="a loss, or a strategy"):
            type(trainer)(**parts, **given)
