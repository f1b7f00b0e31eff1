"""Further homes for a run's metrics, one a file, imported when a job names them."""

from genai.tracking.loggers.base import LOGGERS, MetricLogger, flatten

__all__ = ["LOGGERS", "MetricLogger", "flatten"]
