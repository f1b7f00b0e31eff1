"""What a command prints: its result on stdout, as text or as one JSON object; logs and progress on stderr."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, TextIO

import click

from .failures import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Output:
    """How this command talks."""

    as_json: bool = False
    """The result is one JSON object."""
    quiet: bool = False
    """No log lines below a warning, no progress."""
    debug: bool = False
    """All log lines."""

    def start(self) -> None:
        """Send genai's log lines to stderr and choose how progress is drawn."""
        from genai import log

        handler = _StderrHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s" if self.debug else "%(message)s"))
        log.configure(quiet=self.quiet, debug=self.debug, handler=handler)
        bars = sys.stderr.isatty() and not self.quiet and "CI" not in os.environ
        log.set_progress_factory(RichProgress if bars else log.LineProgress)

    def result(self, human: object, data: Mapping[str, Any]) -> None:
        """Print the result of the command; to be called once.

        Args:
            human: text, or something that rich can render.
            data: the same as plain values; `schema_version` is added. Paths become text, NaN and infinity null.
        """
        if self.as_json:
            import json

            click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **_plain(data)}, ensure_ascii=False))
        elif isinstance(human, str):
            click.echo(human)
        else:
            from rich.console import Console

            Console(file=sys.stdout, highlight=False).print(human)

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        data: Mapping[str, Any],
        *,
        empty: str = "nothing",
    ) -> None:
        """Print rows as the result of the command; see `result`.

        Args:
            columns: names of the columns.
            rows: cells, printed with str(); None is shown as '-', columns of numbers are aligned on the right.
            data: the same as plain values.
            empty: what is said when there are no rows.
        """
        self.result(format_table(columns, rows) if rows else empty, data)


def format_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as aligned plain text under a line of column names."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(columns)]
    numeric = [all(_is_number(row[i]) for row in cells) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        aligned = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join([line([name.upper() for name in columns]), *(line(row) for row in cells)])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.lstrip("+-").rstrip("%").replace(",", "").replace(".", "", 1).isdigit()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is at that moment, so that lines go above a progress bar and not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class RichProgress:
    """One bar of a display on stderr that all bars of the process share; meets `genai.log.ProgressTask`."""

    _display: Progress | None = None
    _open_bars = 0

    def __init__(self, description: str, total: float | None) -> None:
        display = self._shared_display()
        self._task: TaskID | None = display.add_task(printable(description), total=total, fields="")
        RichProgress._open_bars += 1

    def update(self, completed: float, **fields: str) -> None:
        """Move the bar; see `genai.log.ProgressTask`."""
        if self._task is not None and self._display is not None:
            text = "  ".join(f"{name} {value}" for name, value in fields.items())
            self._display.update(self._task, completed=completed, fields=printable(text))

    def close(self) -> None:
        """Leave the bar as it is; the display goes with its last bar."""
        if self._task is None or self._display is None:
            return
        self._display.stop_task(self._task)
        self._task = None
        RichProgress._open_bars -= 1
        if RichProgress._open_bars == 0:
            self._display.stop()
            RichProgress._display = None

    @classmethod
    def _shared_display(cls) -> Progress:
        if cls._display is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                TaskProgressColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            cls._display = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                TaskProgressColumn(),
                TextColumn("{task.fields[fields]}", markup=False),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True, highlight=False),
                refresh_per_second=2,
                redirect_stdout=False,
            )
            cls._display.start()
        return cls._display
