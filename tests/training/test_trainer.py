"""The loop: what a resume continues is what an uninterrupted run does, guards are heard, signals save first."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genai.config.durations import Duration
from genai.config.training import AdamWConfig, CosineConfig
from genai.data.batches import BatchStream, eval_batches
from genai.data.tokenized import TokenizedRows
from genai.errors import DataError, GenaiError, StoppedError
from genai.training.callbacks.base import Callback, EvalInfo, StepInfo, StopTraining
from genai.training.checkpoints import Checkpoints
from genai.training.evaluate import EvalLoss
from genai.training.forward import CausalLMLoss
from genai.training.optimizers import build_optimizer
from genai.training.schedules import build_schedule
from genai.training.state import TrainState
from genai.training.trainer import Settings, Trainer

pytestmark = pytest.mark.integration
VOCABULARY = 64


class Recorder:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        self.lines.append((state.batch, dict(metrics)))

    def values(self, name: str) -> dict[int, float]:
        return {batch: metrics[name] for batch, metrics in self.lines if name in metrics}


class StopsAt(Callback):
    """Does something once at the end of a batch."""

    def __init__(self, batch: int, action: Callable[[], object]) -> None:
        self._batch, self._action = batch, action

    def step_end(self, info: StepInfo) -> Mapping[str, float]:
        if info.batch == self._batch:
            self._action()
        return {}


def rows(count: int = 40) -> TokenizedRows:
    generator = np.random.default_rng(0)
    lengths = generator.integers(4, 20, count)
    return TokenizedRows.from_lists([generator.integers(1, VOCABULARY, n).tolist() for n in lengths])


def make_model() -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_dropout=0.0,
    )
    return LlamaForCausalLM(config)


def make_trainer(
    folder: Path, callbacks: list[Callback] | None = None, **settings: Any
) -> tuple[Trainer, Checkpoints, Recorder]:
    model = make_model()
    data = rows()
    stream = BatchStream(
        data,
        max_seq_len=32,
        batch_size=3,
        packing=True,
        shuffle=True,
        seed=5,
        drop_last=False,
        pad_token_id=0,
        pool_size=8,
    )
    duration = Duration.parse("3ep")
    checkpoints = Checkpoints(str(folder / "checkpoints"), keep=2, context={"note": "test"})
    recorder = Recorder()
    values = Settings(
        max_duration=duration,
        eval_interval=Duration.parse("4ba"),
        save_interval=Duration.parse("3ba"),
        total_batches=sum(stream.batches_in_epoch(epoch) for epoch in range(3)),
        microbatch_size=2,
    )
    trainer = Trainer(
        model_loss=CausalLMLoss(model, precision="fp32", device="cpu"),
        optimizer=build_optimizer(AdamWConfig(lr=1e-3), model),
        schedule=build_schedule(
            CosineConfig(t_warmup="2ba"), max_duration=duration, batches_per_epoch=stream.batches_in_epoch(0)
        ),
        stream=stream,
        eval_batches=lambda: eval_batches(data, max_seq_len=32, batch_size=8, pad_token_id=0),
        callbacks=callbacks or [],
        checkpoints=checkpoints,
        metrics=recorder,
        settings=replace(values, **settings),
    )
    return trainer, checkpoints, recorder


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def assert_equal(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_training_lowers_the_loss_and_ends_at_the_last_epoch(tmp_path: Path) -> None:
    trainer, checkpoints, recorder = make_trainer(tmp_path)
    state = trainer.fit()
    assert state.epoch == 3
    assert state.batch == trainer.settings.total_batches
    assert state.samples == 3 * 40
    losses = recorder.values("loss/train")
    assert losses[state.batch] < losses[1]
    assert checkpoints.names()[-1] == f"ba{state.batch:08d}"
    assert trainer.last_eval is not None


@pytest.mark.parametrize("stop_at", [1, 3, 5, 8])
def test_a_stopped_run_goes_on_bit_equal(tmp_path: Path, stop_at: int) -> None:
    whole, _, told = make_trainer(tmp_path / "whole")
    whole.fit()
    first, _, before = make_trainer(
        tmp_path / "halves", [StopsAt(stop_at, lambda: os.kill(os.getpid(), signal.SIGTERM))]
    )
    with pytest.raises(StoppedError) as stopped:
        first.fit()
    assert stopped.value.exit_code == 143
    second, checkpoints, after = make_trainer(tmp_path / "halves")
    name = checkpoints.newest_good()
    assert name == f"ba{stop_at:08d}"
    checkpoints.restore(second, checkpoints.read_state(name))
    state = second.fit()
    assert_equal(weights(whole), weights(second))
    assert replace(state, train_time_s=0) == replace(whole.state, train_time_s=0)
    joined = {**before.values("loss/train"), **after.values("loss/train")}
    assert joined == told.values("loss/train")
    assert {**before.values("loss/eval"), **after.values("loss/eval")} == told.values("loss/eval")


def test_the_microbatch_size_does_not_change_the_step(tmp_path: Path) -> None:
    results = []
    for size in (1, 3):
        trainer, _, _ = make_trainer(tmp_path / str(size), microbatch_size=size, max_duration=Duration.parse("2ba"))
        trainer.fit()
        results.append(weights(trainer))
    for name, tensor in results[0].items():
        torch.testing.assert_close(tensor, results[1][name], rtol=1e-4, atol=1e-6)


def test_ctrl_c_saves_and_a_second_one_is_not_needed(tmp_path: Path) -> None:
    trainer, checkpoints, _ = make_trainer(tmp_path, [StopsAt(2, lambda: os.kill(os.getpid(), signal.SIGINT))])
    with pytest.raises(StoppedError) as stopped:
        trainer.fit()
    assert stopped.value.exit_code == 130
    assert checkpoints.names() == ["ba00000002"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_guard_that_says_no_skips_the_step(tmp_path: Path) -> None:
    class Refuses(Callback):
        def before_step(self, loss: float, grad_norm: float, *, batch: int, row_ids: Any) -> bool:
            assert row_ids
            return batch != 1

    trainer, _, _ = make_trainer(tmp_path, [Refuses()], max_duration=Duration.parse("1ba"))
    before = weights(trainer)
    trainer.fit()
    assert_equal(before, weights(trainer))
    assert trainer.state.batch == 1


def test_a_failed_guard_ends_the_job_and_names_the_last_checkpoint(tmp_path: Path) -> None:
    def fail() -> None:
        raise StopTraining("the loss is not finite", failed=True)

    trainer, checkpoints, _ = make_trainer(tmp_path, [StopsAt(4, fail)])
    with pytest.raises(GenaiError, match="not finite") as error:
        trainer.fit()
    assert error.value.fix == "the last checkpoint is ba00000003"
    assert checkpoints.names() == ["ba00000003"]


def test_stopping_early_is_a_normal_end_with_a_checkpoint(tmp_path: Path) -> None:
    class StopsAtSecondEvaluation(Callback):
        seen = 0
        ended = ""

        def eval_end(self, info: EvalInfo) -> Mapping[str, float]:
            self.seen += 1
            if self.seen == 2:
                raise StopTraining("no better", failed=False)
            return {}

        def fit_end(self, status: str, message: str | None) -> None:
            self.ended = status

    callback = StopsAtSecondEvaluation()
    trainer, checkpoints, _ = make_trainer(tmp_path, [callback])
    state = trainer.fit()
    assert (state.batch, callback.ended) == (8, "done")
    assert checkpoints.names()[-1] == "ba00000008"


def test_old_checkpoints_go_and_the_best_stays(tmp_path: Path) -> None:
    trainer, checkpoints, _ = make_trainer(
        tmp_path, eval_interval=Duration.parse("1ba"), save_interval=Duration.parse("1ba")
    )
    trainer.fit()
    names = checkpoints.names()
    assert len(names) <= 3
    assert trainer.state.best_checkpoint in names


def test_a_damaged_checkpoint_is_passed_over_loudly(tmp_path: Path, log_lines: list[str]) -> None:
    trainer, checkpoints, _ = make_trainer(tmp_path)
    trainer.fit()
    newest = checkpoints.names()[-1]
    path = tmp_path / "checkpoints" / newest / "weights.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert checkpoints.newest_good() == checkpoints.names()[-2]
    assert any(line.startswith("ERROR") and newest in line for line in log_lines)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    trainer, checkpoints, _ = make_trainer(tmp_path)
    trainer.fit()
    other, _, _ = make_trainer(tmp_path)
    other.model.model.layers[0].mlp.up_proj.weight.requires_grad_(False)
    with pytest.raises(DataError, match="do not fit the model"):
        checkpoints.restore(other, checkpoints.read_state(checkpoints.names()[-1]))


def test_the_best_of_the_evaluated_checkpoints_stays_where_the_intervals_differ(tmp_path: Path) -> None:
    # Evaluated at every batch, saved at every third: the last losses are lower, but nothing was saved with them.
    trainer, checkpoints, recorder = make_trainer(
        tmp_path,
        eval_interval=Duration.parse("1ba"),
        save_interval=Duration.parse("3ba"),
        max_duration=Duration.parse("8ba"),
    )
    trainer.fit()
    told = recorder.values("loss/eval")
    saved = {batch: told[batch] for batch in (3, 6, 8)}
    assert trainer.state.best_checkpoint == f"ba{min(saved, key=lambda batch: saved[batch]):08d}"
    assert trainer.state.best_checkpoint_loss == min(saved.values())
    assert trainer.state.best_eval_loss == min(told.values())
    assert trainer.state.best_checkpoint in checkpoints.names()


def test_what_a_callback_adds_is_told_even_when_it_ends_the_run(tmp_path: Path) -> None:
    class Stops(Callback):
        def eval_end(self, info: EvalInfo) -> Mapping[str, float]:
            raise StopTraining("enough", failed=False)

    trainer, _, recorder = make_trainer(tmp_path, [Stops()])
    trainer.fit()
    assert list(recorder.values("loss/eval")) == [4]


def test_a_loss_that_is_not_finite_is_never_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([float("nan"), 2.0, float("nan"), 1.0])
    trainer, _, _ = make_trainer(tmp_path, eval_interval=Duration.parse("1ba"), max_duration=Duration.parse("4ba"))
    monkeypatch.setattr(trainer, "measure", lambda: EvalLoss(loss=next(losses), num_tokens=1))
    trainer.fit()
    assert trainer.state.best_eval_loss == 1.0
