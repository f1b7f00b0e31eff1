"""`genai runs`: what was run, how it went, how two runs differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .failures import printable
from .options import common_options, examples
from .output import Output, format_table
from .units import format_ago, format_size, parse_age

if TYPE_CHECKING:
    from genai.tracking.catalog import RunSummary
    from genai.tracking.lineage import Node
    from genai.tracking.run import RunDirectory

_FOLLOW_EVERY_S = 0.5
_SHOWN_CHARACTERS = 60


def _runs_dir_option(function: Callable[..., Any]) -> Callable[..., Any]:
    help_text = "Where run directories lie."
    kind = click.Path(file_okay=False, path_type=Path)
    return click.option("--runs-dir", type=kind, default="runs", show_default=True, help=help_text)(function)


@click.group("runs", epilog=examples("genai runs ls", "genai runs show faq", "genai runs diff faq-1 faq-2"))
def command() -> None:
    """Runs that jobs left behind. RUN is a name, or a beginning that only one name has."""


@command.command("ls", epilog=examples("genai runs ls", "genai runs ls --json"))
@_runs_dir_option
@common_options
def list_all(runs_dir: Path, output: Output) -> None:
    """List all runs, the oldest first."""
    from genai.tracking.catalog import list_runs

    summaries = list_runs(runs_dir)
    rows = [
        (
            summary.name,
            summary.status,
            summary.step,
            summary.metrics.get("loss/train"),
            summary.metrics.get("loss/eval"),
            _begun(summary),
            format_size(summary.size_bytes),
        )
        for summary in summaries
    ]
    columns = ["run", "status", "step", "train loss", "eval loss", "started", "size"]
    output.table(columns, rows, {"runs_dir": runs_dir, "runs": summaries}, empty=f"no runs in {runs_dir}")


@command.command("show", epilog=examples("genai runs show faq", "genai runs show faq --json"))
@click.argument("run")
@_runs_dir_option
@common_options
def show(run: str, runs_dir: Path, output: Output) -> None:
    """Show how a run stands, what it was given and what came out."""
    from genai.tracking.catalog import find_run, summarise

    found = find_run(runs_dir, run)
    summary = summarise(found)
    data = {
        **vars(summary),
        "config": found.read_config(),
        "overrides": found.read_overrides(),
        "inputs": found.read_inputs(),
        "environment": found.read_environment(),
        "result": found.read_result(),
    }
    output.result("\n".join(_description(found, summary)), data)


@command.command("diff", epilog=examples("genai runs diff faq-1 faq-2"))
@click.argument("first")
@click.argument("second")
@_runs_dir_option
@common_options
def diff(first: str, second: str, runs_dir: Path, output: Output) -> None:
    """Compare two runs key by key: config, overrides, environment, inputs, result."""
    from genai.tracking.catalog import diff_runs, find_run

    one, other = find_run(runs_dir, first), find_run(runs_dir, second)
    differences = diff_runs(one, other)
    rows = [(item.section, item.key, _short(item.first), _short(item.second)) for item in differences]
    data = {"first": one.name, "second": other.name, "differences": differences}
    table = format_table(["where", "key", "first", "second"], rows) if rows else "no difference"
    output.result(f"first   {one.name}\nsecond  {other.name}\n\n{table}", data)


@command.command(
    "lineage",
    epilog=examples("genai runs lineage registry:faq@production", "genai runs lineage faq-lora --json"),
)
@click.argument("reference", metavar="RUN|registry:NAME[@ALIAS_OR_VERSION]")
@_runs_dir_option
@common_options
def lineage(reference: str, runs_dir: Path, output: Output) -> None:
    """Show where a model or a run came from: alias, evaluation, version, runs, models, data."""
    from genai.tracking.lineage import trace

    found = trace(reference, runs_dir=runs_dir)
    output.result("\n".join(_tree(found)), {"lineage": found})


@command.command("logs", epilog=examples("genai runs logs faq", "genai runs logs faq --follow"))
@click.argument("run")
@click.option("-n", "--lines", "num_lines", type=click.IntRange(min=1), default=50, show_default=True, help="How many.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@_runs_dir_option
@common_options
def logs(run: str, num_lines: int, follow: bool, runs_dir: Path, output: Output) -> None:
    """Print the last lines of what a run said."""
    from genai.errors import UsageError
    from genai.tracking.catalog import find_run

    found = find_run(runs_dir, run)
    if follow and output.as_json:
        raise UsageError("--follow prints lines as they come, --json one object at the end", fix="leave one out")
    if not found.log_path.exists():
        raise UsageError(f"run '{found.name}' has said nothing yet", where=str(found.log_path))
    with found.log_path.open(encoding="utf-8", errors="replace") as file:
        lines = [_harmless(line) for line in file.readlines()[-num_lines:]]
        output.result("\n".join(lines), {"name": found.name, "lines": lines})
        if follow:
            for line in _lines_to_come(file, lambda: found.status.status == "running"):
                click.echo(_harmless(line))


@command.command("rm", epilog=examples("genai runs rm faq-1 faq-2", "genai runs rm faq-1 --dry-run"))
@click.argument("runs", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Say what would go, remove nothing.")
@_runs_dir_option
@common_options
def remove(runs: tuple[str, ...], dry_run: bool, runs_dir: Path, output: Output) -> None:
    """Remove runs with all that is in them: checkpoints, models, reports. Names must be whole."""
    from genai.errors import UsageError
    from genai.tracking.catalog import find_run, refuse_if_live, remove_run, size_bytes
    from genai.tracking.registry import refuse_if_named

    found = [find_run(runs_dir, run) for run in runs]
    for run, directory in zip(runs, found, strict=True):
        if run != directory.name:
            raise UsageError(f"'{run}' is only a part of a name", fix=f"genai runs rm {directory.name}")
        refuse_if_live(directory)
        refuse_if_named(runs_dir, run)
    sizes = {directory.name: size_bytes(directory.path) if dry_run else remove_run(directory) for directory in found}
    verb = "would remove" if dry_run else "removed"
    lines = [f"{verb} {name}, {format_size(size)}" for name, size in sizes.items()]
    removed = [{"name": name, "size_bytes": size} for name, size in sizes.items()]
    output.result("\n".join(lines), {"runs_dir": runs_dir, "dry_run": dry_run, "removed": removed})


@command.command("gc", epilog=examples("genai runs gc --dry-run", "genai runs gc --failed-older-than 7d"))
@click.option(
    "--failed-older-than",
    "failed_age_s",
    metavar="AGE",
    callback=parse_age,
    help="Also remove runs that failed or died longer ago than this, e.g. 7d.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, remove nothing.")
@_runs_dir_option
@common_options
def collect(failed_age_s: float | None, dry_run: bool, runs_dir: Path, output: Output) -> None:
    """Remove what killed processes left, and finished runs' checkpoints but the newest and the best."""
    from genai.tracking.garbage import collect_garbage

    garbage = collect_garbage(runs_dir, failed_older_than_s=failed_age_s, dry_run=dry_run)
    freed_bytes = sum(item.size_bytes for item in garbage)
    rows = [(str(item.path.relative_to(runs_dir)), format_size(item.size_bytes), item.reason) for item in garbage]
    lines = [format_table(["what", "size", "why"], rows)] if rows else []
    lines.append(f"{'would free' if dry_run else 'freed'} {format_size(freed_bytes)} in {runs_dir}")
    data = {"runs_dir": runs_dir, "dry_run": dry_run, "size_bytes": freed_bytes, "removed": garbage}
    output.result("\n".join(lines), data)


def _begun(summary: RunSummary) -> str | None:
    return format_ago(datetime.fromisoformat(summary.created_at).timestamp()) if summary.created_at else None


def _description(run: RunDirectory, summary: RunSummary) -> Iterator[str]:
    begun, status = _begun(summary), summary.status + (f": {summary.message}" if summary.message else "")
    facts = {
        "run": summary.name,
        "status": status,
        "started": f"{summary.created_at} ({begun})" if begun else None,
        "step": summary.step,
        **summary.metrics,
        "size": format_size(summary.size_bytes),
        "folder": run.path,
        "report": run.report if run.report.exists() else None,
    }
    yield from _aligned({name: value for name, value in facts.items() if value is not None})
    for title, values in (("result", run.read_result()), ("inputs", run.read_inputs())):
        if values:
            yield from ("", title, *_aligned(_leaves(values), indent="  "))
    config = run.read_config()
    if config:
        yield from ("", "config", *(f"  {_harmless(line)}" for line in config.splitlines()))


def _tree(node: Node, first: str = "", rest: str = "") -> Iterator[str]:
    """A line for what it is, one for what is known of it, and under it what it came from."""
    words = f"{node.kind} {node.name}" if node.kind in ("run", "evaluation", "gone", "data", "model") else node.name
    yield f"{first}{printable(words)}"
    facts = ", ".join(f"{name} {_short(text)}" for name, text in node.facts.items())
    if facts:
        yield f"{rest}{'│' if node.parents else ' '}    {printable(facts)}"
    for number, parent in enumerate(node.parents, start=1):
        is_last = number == len(node.parents)
        yield from _tree(parent, f"{rest}{'└─ ' if is_last else '├─ '}", f"{rest}{'   ' if is_last else '│  '}")


def _leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key; lists, and the config that stands above, are left out."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and key != "config":
            found |= _leaves(value, f"{prefix}{key}.")
        elif not isinstance(value, Mapping | list) and value is not None:
            found[prefix + key] = value
    return found


def _aligned(values: Mapping[str, Any], indent: str = "") -> list[str]:
    width = max(map(len, values), default=0)
    return [f"{indent}{printable(name):{width}}  {printable(_text(value))}" for name, value in values.items()]


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _harmless(line: str) -> str:
    return "".join(char for char in line if char.isprintable() or char == "\t")


def _lines_to_come(file: Any, is_running: Callable[[], bool]) -> Iterator[str]:
    """Lines as they are written, until the run has ended and all is read."""
    while True:
        was_running = is_running()
        yield from file
        if not was_running:
            return
        time.sleep(_FOLLOW_EVERY_S)
