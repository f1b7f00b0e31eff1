"""Metrics and parameters for an MLflow server, sent in batches by a thread: a slow or absent server costs nothing."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.errors import MissingExtraError
from genai.log import get_logger
from genai.storage.atomic import write_json

if TYPE_CHECKING:
    from mlflow.entities import Metric

logger = get_logger(__name__)

# Limits of one request (Source: MLflow REST API, runs/log-batch).
_BATCH_METRICS = 1000
_BATCH_PARAMS = 100
_PARAM_CHARACTERS = 6000
_KEY_CHARACTERS = 250
_NOT_IN_KEYS = re.compile(r"[^\w\-. :/]")

_MAX_WAITING = 100_000
"""Points kept for a server that is away; beyond that the oldest are dropped."""
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Set where unset. MLflow's own 7 retries of 120 s would keep a finished job waiting for minutes."""
_FINAL = {"done": "FINISHED", "stopped": "KILLED", "interrupted": "KILLED"}


@dataclass(frozen=True)
class _Point:
    name: str
    value: float
    time_ms: int
    step: int


class MLflowLogger:
    """Sends what was logged every `flush_every_s` seconds; a resumed job goes on in the same MLflow run.

    Args:
        run_directory: the run's folder; mlflow.json in it remembers the MLflow run.
        tracking_uri: server, database or folder; by default $MLFLOW_TRACKING_URI, else mlflow.db (SQLite)
            beside the runs.
        experiment_name: experiment that the run belongs to, made where absent.
        flush_every_s: seconds between two batches.
        finish_within_s: how long `finish` waits for the last batch.

    Raises:
        MissingExtraError: the package mlflow is not installed.
    """

    def __init__(
        self,
        run_directory: Path,
        *,
        tracking_uri: str | None = None,
        experiment_name: str = "genai",
        flush_every_s: float = 5.0,
        finish_within_s: float = 30.0,
    ) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow.tracking import MlflowClient
        except ModuleNotFoundError as error:
            raise MissingExtraError("mlflow", extra="mlflow", needed_for="loggers.mlflow") from error
        local = f"sqlite:///{run_directory.absolute().parent / 'mlflow.db'}"
        self._uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or local
        self._make_client = MlflowClient
        self._memory = run_directory / "mlflow.json"
        self._artifacts = (
            (run_directory.absolute().parent / "mlflow-artifacts").as_uri() if self._uri == local else None
        )
        self._experiment_name = experiment_name
        self._flush_every_s = flush_every_s
        self._finish_within_s = finish_within_s
        self._waiting: deque[_Point] = deque()
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="genai-mlflow", daemon=True)
        self._client: Any = None
        self._run_id: str | None = None
        self._sent: dict[str, int] = {}
        self._dropped = 0
        self._is_away = False

    def start(self, run_name: str, params: Mapping[str, str], *, resume_step: int = 0) -> None:
        """Let the thread open the run; nothing is sent by the caller's thread."""
        self._run_name, self._params, self._resume_step = run_name, dict(params), resume_step
        self._thread.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Queue `metrics` for the next batch."""
        moment = int(time.time() * 1000)
        points = [_Point(name, float(value), moment, step) for name, value in metrics.items()]
        with self._guard:
            self._waiting.extend(points)
            while len(self._waiting) > _MAX_WAITING:
                self._waiting.popleft()
                self._dropped += 1

    def finish(self, status: str) -> None:
        """Send what is left, at most for `finish_within_s` seconds."""
        self._final = _FINAL.get(status, "FAILED")
        self._closing.set()
        self._thread.join(self._finish_within_s)
        left = len(self._waiting) + self._dropped
        if left:
            logger.warning("mlflow: %d values did not reach %s; metrics.jsonl has them all", left, self._uri)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        from mlflow.exceptions import MlflowException

        while True:
            closing = self._closing.wait(self._flush_every_s)
            try:
                self._send()
                if closing:
                    self._client.set_terminated(self._run_id, self._final)
                self._is_away = False
            except (MlflowException, OSError) as error:
                if not self._is_away:
                    logger.warning("mlflow: %s does not answer, training goes on: %s", self._uri, _first_line(error))
                self._is_away = True
            if closing:
                return

    def _send(self) -> None:
        if self._run_id is None:
            self._open_run()
        while batch := self._take():
            try:
                self._client.log_batch(self._run_id, metrics=[_metric(point) for point in batch if self._is_new(point)])
            except BaseException:
                with self._guard:
                    self._waiting.extendleft(reversed(batch))
                raise
            for point in batch:
                self._sent[point.name] = max(point.step, self._sent.get(point.name, -1))
            self._remember()

    def _take(self) -> list[_Point]:
        with self._guard:
            return [self._waiting.popleft() for _ in range(min(_BATCH_METRICS, len(self._waiting)))]

    def _is_new(self, point: _Point) -> bool:
        """MLflow cannot take a value back, so what a killed process had already sent is not sent twice."""
        return point.step > self._sent.get(point.name, -1)

    def _open_run(self) -> None:
        self._client = self._client or self._make_client(self._uri)
        known = self._recall()
        if known is not None and self._resume_step:
            self._client.update_run(known["run_id"], status="RUNNING")
            self._sent = known["sent"]
            self._run_id = known["run_id"]
            return
        run = self._client.create_run(self._experiment_id(), run_name=self._run_name)
        self._log_params(run.info.run_id)
        self._run_id = run.info.run_id
        self._remember()

    def _experiment_id(self) -> str:
        experiment = self._client.get_experiment_by_name(self._experiment_name)
        if experiment is not None:
            return str(experiment.experiment_id)
        return str(self._client.create_experiment(self._experiment_name, artifact_location=self._artifacts))

    def _log_params(self, run_id: str) -> None:
        from mlflow.entities import Param

        params = [
            Param(_NOT_IN_KEYS.sub("_", key)[:_KEY_CHARACTERS], value[:_PARAM_CHARACTERS])
            for key, value in self._params.items()
        ]
        for start in range(0, len(params), _BATCH_PARAMS):
            self._client.log_batch(run_id, params=params[start : start + _BATCH_PARAMS])

    def _remember(self) -> None:
        write_json(self._memory, {"tracking_uri": self._uri, "run_id": self._run_id, "sent": self._sent})

    def _recall(self) -> dict[str, Any] | None:
        """The MLflow run of an earlier process of this run, if it was on the same server."""
        try:
            known: dict[str, Any] = json.loads(self._memory.read_bytes())
        except FileNotFoundError:
            return None
        return known if known["tracking_uri"] == self._uri else None


def _metric(point: _Point) -> Metric:
    from mlflow.entities import Metric

    return Metric(_NOT_IN_KEYS.sub("_", point.name)[:_KEY_CHARACTERS], point.value, point.time_ms, point.step)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
