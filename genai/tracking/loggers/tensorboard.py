"""Scalars in TensorBoard's event files, written by the `tensorboard` package itself, without torch or TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.errors import MissingExtraError
from genai.log import get_logger

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary


logger = get_logger(__name__)


class TensorboardLogger:
    """Appends one event file a process to `log_dir`.

    Args:
        run_directory: the run's folder.
        log_dir: where event files go, by default tensorboard/ in the run's folder.

    Raises:
        MissingExtraError: the package tensorboard is not installed.
    """

    def __init__(self, run_directory: Path, *, log_dir: str | None = None) -> None:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ModuleNotFoundError as error:
            raise MissingExtraError("tensorboard", extra="tensorboard", needed_for="loggers.tensorboard") from error
        self._folder = Path(log_dir) if log_dir else run_directory / "tensorboard"
        self._make_writer = EventFileWriter
        self._writer: Any = None
        self._failed = False

    def start(self, run_name: str, params: Mapping[str, str], *, resume_step: int = 0) -> None:
        """Begin an event file; of an earlier process's events, those after `resume_step` are hidden by TensorBoard."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._writer = self._make_writer(str(self._folder), flush_secs=10)
        if resume_step:
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=time.time(), step=resume_step + 1, session_log=start))
        table = "\n".join(["| key | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in params.items())])
        self._write(resume_step, text_pb("config", table))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one event with all of `metrics`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(step, Summary(value=values))

    def finish(self, status: str) -> None:
        """Close the event file; TensorBoard has no word for `status`."""
        with self._or_without():
            self._writer.close()

    def _write(self, step: int, summary: Summary) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if not self._failed:
            with self._or_without():
                self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))

    @contextmanager
    def _or_without(self) -> Iterator[None]:
        """A full disk ends the logging, not the job."""
        try:
            yield
        except OSError as error:
            self._failed = True
            logger.warning("tensorboard: cannot write to %s, training goes on without: %s", self._folder, error)
