"""The training loop: batches in, weights moved, state saved, evaluation and callbacks in between.

The loop itself knows nothing of files, configs or models; those come in as objects. The order of events after a step is
what makes a resume exact: metrics are written, then a due checkpoint, then a due evaluation. The checkpoint knows that
the evaluation is due, and a resume from it repeats it, so a kill between the two loses nothing.

On many ranks every rank runs this same loop over its rows of each global batch. Loss, gradient norm, counts and signals
are made the same everywhere before anything is decided from them, so all ranks take every decision alike, without
asking; a callback that decides from something else (a clock, say) would part them. Only rank 0 records metrics.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Protocol

import torch

from genai.config.durations import Duration
from genai.errors import GenaiError, StoppedError
from genai.log import get_logger
from genai.training.callbacks.base import Callback, EvalInfo, StepInfo, StopTraining
from genai.training.evaluate import EvalLoss, evaluate_together
from genai.training.interfaces import CountedBatch, ModelLoss, TrainStream
from genai.training.optimizers import set_learning_rate
from genai.training.parallel.strategy import OneRank, Strategy, clip
from genai.training.schedules import Position
from genai.training.state import TrainState, is_done, is_due

_log = get_logger(__name__)


class CheckpointSink(Protocol):
    """Where the trainer's state is kept; met by `genai.training.checkpoints.Checkpoints`."""

    def save(self, trainer: Trainer) -> str:
        """Write everything that a resume needs, or begin to; returns the checkpoint's name. All ranks call it."""

    def prune(self, *, best: str | None) -> None:
        """Delete what need not be kept, never the newest and never `best`."""

    def finish(self) -> None:
        """Wait until what was begun is written. All ranks call it."""


class MetricSink(Protocol):
    """Where metrics go; the run directory's metrics.jsonl and the configured loggers."""

    def log(self, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Record `metrics` at the position `state`."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the loop itself needs to know."""

    max_duration: Duration
    eval_interval: Duration
    save_interval: Duration
    total_batches: int
    """Optimizer steps that max_duration comes to."""
    microbatch_size: int
    clipping_type: str | None = "norm"
    """`norm`, `value` or None."""
    clipping_threshold: float = 1.0


class Trainer:
    """Trains until `max_duration`, a callback or a signal ends it.

    Args:
        model_loss: forward pass and loss of one rank; its model's parameters with `requires_grad` are trained. None
            with `parallel`, which has its own.
        optimizer: holds exactly those parameters.
        schedule: position -> factor of the peak learning rate.
        stream: training batches of this rank with their own state, of the kind that the loss takes.
        eval_batches: makes a fresh pass over this rank's evaluation rows; None where there are none.
        callbacks: asked at each event.
        checkpoints: where state is saved.
        metrics: where numbers go.
        settings: intervals and limits.
        parallel: the loss, and how the ranks share the work; None for one rank.

    Raises:
        ValueError: neither `model_loss` nor `parallel` is given, or they are not of one loss.
    """

    def __init__(
        self,
        *,
        model_loss: ModelLoss | None = None,
        optimizer: torch.optim.Optimizer,
        schedule: Callable[[Position], float],
        stream: TrainStream,
        eval_batches: Callable[[], Iterable[CountedBatch]] | None,
        callbacks: Sequence[Callback],
        checkpoints: CheckpointSink,
        metrics: MetricSink,
        settings: Settings,
        parallel: Strategy | None = None,
    ) -> None:
        if parallel is None and model_loss is not None:
            parallel = OneRank(model_loss)
        if parallel is None or model_loss not in (None, parallel.model_loss):
            raise ValueError("a trainer takes a loss, or a strategy with its own")
        self.parallel = parallel
        self.ranks = parallel.ranks
        self.model_loss = parallel.model_loss
        self.model = self.model_loss.model
        self.optimizer = optimizer
        self.stream = stream
        self.callbacks = list(callbacks)
        self.settings = settings
        self.state = TrainState()
        self.microbatch_size = settings.microbatch_size
        self.last_loss: float | None = None
        self.last_eval: EvalLoss | None = None
        self._schedule = schedule
        self._eval_batches = eval_batches
        self._checkpoints = checkpoints
        self._metrics = metrics
        self._parameters = [p for p in self.model.parameters() if p.requires_grad]
        self._saved_at: int | None = None
        self._last_checkpoint: str | None = None
        self._stop_signal: int | None = None
        """What this rank was sent; the loop goes by what all ranks know of, see `_asked_to_stop`."""

    def resume_from(self, checkpoint: str, state: TrainState, *, microbatch_size: int | None) -> None:
        """Go on from `checkpoint`, whose tensors and stream position were loaded into this trainer's parts before."""
        self.state = state
        self._last_checkpoint = checkpoint
        self._saved_at = state.batch
        if microbatch_size is not None:
            self.microbatch_size = microbatch_size

    def fit(self) -> TrainState:
        """Train to the end; returns the final position.

        Raises:
            StoppedError: SIGINT or SIGTERM came; the state was saved before.
            GenaiError: a guard stopped the run.
        """
        status, message = "failed", None
        try:
            with self._signals():
                for callback in self.callbacks:
                    callback.fit_start(batch=self.state.batch)
                if self.state.evaluation_due:
                    self._evaluate()
                self._run()
                self._checkpoints.finish()
                status = "done"
        except StopTraining as stop:
            message = stop.reason
            if stop.failed:
                raise GenaiError(stop.reason, fix=self._last_good()) from stop
            _log.info("stopping early: %s", stop.reason)
            status = "done"
            self._finish()
            self._checkpoints.finish()
        except StoppedError as stopped:
            status, message = "stopped", str(stopped)
            raise
        except Exception as error:
            message = str(error) or type(error).__name__
            raise
        finally:
            for callback in self.callbacks:
                callback.fit_end(status, message)
        return self.state

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self.model.train()
        while not is_done(self.state, self.settings.max_duration):
            before = self.state
            self.step()
            if self._due(self.settings.eval_interval, before):
                self.state = replace(self.state, evaluation_due=True)
            if number := self._asked_to_stop():
                self._stop(number)
            if self._due(self.settings.save_interval, before) or is_done(self.state, self.settings.max_duration):
                self._save()
            if self.state.evaluation_due:
                self._evaluate()
        self._finish()

    def _due(self, interval: Duration, before: TrainState) -> bool:
        return is_due(interval, before, self.state, total_batches=self.settings.total_batches)

    def _finish(self) -> None:
        if self._saved_at != self.state.batch:
            self._save()
        if self.last_eval is None:
            self._evaluate()

    def step(self) -> None:
        """One optimizer step: gradient, clipping, guards, update, metrics. `fit` calls it; a probe may call it
        alone.
        """
        started = time.perf_counter()
        batch = self.stream.next_batch()
        learning_rate = set_learning_rate(self.optimizer, self._schedule(self._position()))
        loss = self._gradients(batch)
        grad_norm = clip(self._parameters, self.settings.clipping_type, self.settings.clipping_threshold)
        if self._all_agree(batch, loss, grad_norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        step_s = time.perf_counter() - started
        self.state = self.state.advance(
            tokens=batch.num_tokens,
            trained_tokens=batch.num_trained_tokens,
            samples=batch.num_examples,
            ends_epoch=batch.ends_epoch,
            step_s=step_s,
        )
        self.last_loss = loss
        self.last_eval = None
        self._report_step(batch, loss, grad_norm, learning_rate, step_s)

    def _all_agree(self, batch: CountedBatch, loss: float, grad_norm: float) -> bool:
        step = self.state.batch + 1
        # A list, not a generator: every guard must see every step.
        answers = [c.before_step(loss, grad_norm, batch=step, row_ids=batch.row_ids) for c in self.callbacks]
        return all(answers)

    def _gradients(self, batch: CountedBatch) -> float:
        """The gradient of the global batch; returns its mean loss, the same on every rank."""
        if self.model_loss.device.type == "cuda":
            loss, size = self.parallel.accumulate_what_fits(batch, self.microbatch_size)
            if size != self.microbatch_size:
                _log.warning("out of GPU memory: device_train_microbatch_size is now %d", size)
                self.microbatch_size = size
        else:
            loss = self.parallel.accumulate(batch, self.microbatch_size)
        self.parallel.reduce_gradients(self._parameters)
        return self.ranks.sum([loss])[0] if self.ranks.world_size > 1 else loss

    def _position(self) -> Position:
        in_epoch = self.stream.batches_in_epoch(self.state.epoch)
        return Position(
            batch=self.state.batch,
            epoch=self.state.epoch + self.state.batch_in_epoch / max(1, in_epoch),
            tokens=self.state.tokens,
        )

    def _report_step(
        self, batch: CountedBatch, loss: float, grad_norm: float, learning_rate: float, step_s: float
    ) -> None:
        info = StepInfo(
            batch=self.state.batch,
            epoch=self.state.epoch,
            tokens=self.state.tokens,
            samples=self.state.samples,
            loss=loss,
            grad_norm=grad_norm,
            lr=learning_rate,
            num_tokens=batch.num_tokens,
            num_trained_tokens=batch.num_trained_tokens,
            step_s=step_s,
        )
        metrics = {"loss/train": loss, "grad_norm": grad_norm, "lr": learning_rate}
        self._tell(metrics, lambda callback: callback.step_end(info))

    # --- evaluation and state -----------------------------------------------------------------------------------------

    def measure(self, description: str = "evaluating") -> EvalLoss | None:
        """The held-out loss of the weights as they are now; None where there are no evaluation rows."""
        if self._eval_batches is None:
            return None
        return evaluate_together(
            self.parallel,
            self._eval_batches(),
            should_stop=lambda: self._stop_signal is not None,
            description=description,
        )

    def _evaluate(self) -> None:
        result = self.measure()
        if number := self._asked_to_stop():
            self._stop(number)
        self.state = replace(self.state, evaluation_due=False)
        if result is None:
            return
        self.last_eval = result
        _log.info("batch %d: held-out loss %.4f", self.state.batch, result.loss)
        if _is_better(result.loss, self.state.best_eval_loss):
            self.state = replace(self.state, best_eval_loss=result.loss)
        if self._saved_at == self.state.batch and _is_better(result.loss, self.state.best_checkpoint_loss):
            self.state = replace(self.state, best_checkpoint=self._last_checkpoint, best_checkpoint_loss=result.loss)
        best = self.state.best_eval_loss
        metrics = {"loss/eval": result.loss}
        info = EvalInfo(
            batch=self.state.batch,
            epoch=self.state.epoch,
            tokens=self.state.tokens,
            loss=result.loss,
            best_loss=result.loss if best is None else best,
        )
        self._tell(metrics, lambda callback: callback.eval_end(info))

    def _tell(self, metrics: dict[str, float], hook: Callable[[Callback], Mapping[str, float]]) -> None:
        """Log `metrics` and what the callbacks add to them, also where one of them ends the run."""
        try:
            for callback in self.callbacks:
                metrics.update(hook(callback))
        finally:
            if self.ranks.is_main:
                self._metrics.log(self.state, metrics)

    def _save(self) -> None:
        self._last_checkpoint = self._checkpoints.save(self)
        self._saved_at = self.state.batch
        self._checkpoints.prune(best=self.state.best_checkpoint)

    def _last_good(self) -> str:
        return (
            f"the last checkpoint is {self._last_checkpoint}"
            if self._last_checkpoint
            else "no checkpoint was saved yet"
        )

    # --- signals ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask the loop to save and stop; a second one stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if self._stop_signal is not None:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            self._stop_signal = number
            if self.ranks.world_size == 1:
                _announce(number)

        previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except StopTraining:
            raise
        except Exception:
            if self.ranks.world_size > 1:
                # torchrun sends it as soon as one rank is gone, while this one still has to tell how the run ended.
                previous[signal.SIGTERM] = signal.SIG_IGN
            raise
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _asked_to_stop(self) -> int | None:
        """The signal that this rank or another one was sent, None without one; all ranks must ask together."""
        if self.ranks.world_size == 1:
            return self._stop_signal
        (number,) = self.ranks.max([self._stop_signal or 0])
        if number:
            # Only now: torchrun sends the same signal when a rank has died, and then nothing can be saved.
            _announce(number)
        return number or None

    def _stop(self, number: int) -> None:
        if self._saved_at != self.state.batch:
            self._save()
        self._checkpoints.finish()
        raise StoppedError(
            f"stopped by {signal.Signals(number).name} after batch {self.state.batch}",
            signal_number=number,
            fix="the same command goes on from there",
        )


def _announce(number: int) -> None:
    _log.warning("%s: saving a checkpoint, then stopping", signal.Signals(number).name)


def _is_better(loss: float, best: float | None) -> bool:
    return math.isfinite(loss) and (best is None or loss < best)
