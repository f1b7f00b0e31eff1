"""The curves of a training run, from the records of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from genai.report.html import Html
from genai.report.plots import Line, Point, line_chart, moving_mean

Records = Sequence[Mapping[str, float]]
_SMOOTH_SHARE = 40
"""The smoothed loss is a mean over a fortieth of the run."""


def loss_chart(metrics: Records, *, y_label: str) -> Html | None:
    """The training loss, each step and smoothed, and the held-out one; None where there is none.

    Args:
        metrics: the records.
        y_label: what the loss is a mean over.
    """
    train, evaluation = points(metrics, "loss/train"), points(metrics, "loss/eval")
    window = max(1, len(train) // _SMOOTH_SHARE)
    name = f"training, mean of {window} steps" if window > 1 else "training"
    lines = [
        Line(name="training, each step", points=train, colour=1, style="faint"),
        Line(name=name, points=moving_mean(train, window), colour=1),
        Line(name="evaluation", points=evaluation, colour=2, style="marked"),
    ]
    return line_chart("Loss", lines, x_label="step", y_label=y_label, text=lambda value: f"{value:.4g}")


def run_charts(metrics: Records) -> list[Html | None]:
    """Learning rate, throughput, memory and gradient norm; None for what was not recorded."""
    return [
        metric_chart(metrics, "Learning rate", {"lr": "learning rate"}, y_label="lr"),
        metric_chart(metrics, "Throughput", {"throughput/tokens_per_sec": "tokens"}, y_label="tokens a second"),
        metric_chart(
            metrics,
            "Memory",
            {
                "memory/rss_bytes": "process",
                "memory/peak_rss_bytes": "process, peak",
                "memory/device_peak_bytes": "GPU, peak",
            },
            y_label="GiB",
            unit=1 << 30,
        ),
        metric_chart(metrics, "Gradient norm", {"grad_norm": "before clipping"}, y_label="L2 norm"),
    ]


def metric_chart(
    metrics: Records, title: str, names: Mapping[str, str], *, y_label: str, unit: float = 1
) -> Html | None:
    """Curves of up to four measures over the steps; None where none was recorded.

    Args:
        metrics: the records.
        title: what the chart shows.
        names: key in the records -> name in the legend.
        y_label: name and unit of the y axis.
        unit: what values are divided by.
    """
    lines = [
        Line(name=name, points=[(x, y / unit) for x, y in points(metrics, key)], colour=colour)
        for colour, (key, name) in enumerate(names.items(), start=1)
    ]
    return line_chart(title, lines, x_label="step", y_label=y_label, from_zero=True)


def points(metrics: Iterable[Mapping[str, float]], name: str) -> list[Point]:
    """(step, value) by rising step; a step that was told twice counts as told last."""
    return sorted({record["step"]: record[name] for record in metrics if name in record}.items())
