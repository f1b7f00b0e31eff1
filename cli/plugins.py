"""`genai plugins`: what installed packages add to genai by entry points."""

from __future__ import annotations

import importlib.metadata

import click

from .options import common_options, examples
from .output import Output


@click.group("plugins", epilog=examples("genai plugins ls"))
def command() -> None:
    """Plugins are packages with entry points of a group that starts with `genai.`, e.g. `genai.callbacks`."""


@command.command("ls", epilog=examples("genai plugins ls --json"))
@common_options
def list_plugins(output: Output) -> None:
    """List the plugins that are installed; none of them is loaded."""
    found = sorted(
        (point.group, point.name, point.value, point.dist.name if point.dist else None)
        for group in importlib.metadata.entry_points().groups
        if group.startswith("genai.")
        for point in importlib.metadata.entry_points(group=group)
    )
    columns = ("group", "name", "object", "package")
    data = {"plugins": [dict(zip(columns, row, strict=True)) for row in found]}
    output.table(columns, found, data, empty="no plugins are installed")
