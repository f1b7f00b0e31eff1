"""Stop when the evaluation loss no longer falls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genai.log import get_logger
from genai.training.callbacks.base import Callback, EvalInfo, StopTraining

_log = get_logger(__name__)


class EarlyStopping(Callback):
    """Ends training, in good order, after `patience` evaluations in a row without an improvement.

    Args:
        patience: evaluations without an improvement that are borne.
        min_delta: how much lower than the best loss, in nats, counts as an improvement.
    """

    def __init__(self, *, patience: int, min_delta: float = 0.0) -> None:
        self._patience = patience
        self._min_delta = min_delta
        self._best: float | None = None
        self._waited = 0
        self._stopped = False

    def fit_start(self, *, batch: int) -> None:
        """A run that was killed between its early stop and its end stops again.

        Raises:
            StopTraining: patience was at its end when the state was saved.
        """
        self._stopped = False
        if self._waited >= self._patience:
            self._stop(batch)

    def eval_end(self, info: EvalInfo) -> Mapping[str, float]:
        """Compare with the best so far; a loss that is not finite is no improvement.

        Raises:
            StopTraining: patience is at its end.
        """
        if self._stopped:
            return {}
        # The comparison is False for NaN, which is what is meant.
        if info.loss < (float("inf") if self._best is None else self._best - self._min_delta):
            self._best, self._waited = info.loss, 0
            return {}
        self._waited += 1
        if self._waited >= self._patience:
            self._stop(info.batch)
        _log.info("early stopping: no improvement in %d of %d evaluations", self._waited, self._patience)
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Best loss and evaluations waited."""
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up where `state_dict` was."""
        self._best, self._waited = state["best"], state["waited"]

    def _stop(self, batch: int) -> None:
        # Once is enough: the evaluation that ends the run must not stop it a second time.
        self._stopped = True
        best = "no evaluation loss was finite" if self._best is None else f"the best loss is {self._best:.4f}"
        raise StopTraining(
            f"early stopping at batch {batch}: no improvement in {self._waited} evaluations; {best}", failed=False
        )
