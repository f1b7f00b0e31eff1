"""What the commands of `genai index` that work on an index by its name have in common."""

from __future__ import annotations

from pathlib import Path

import click

from .options import Command, common_options


def index_options(function: Command) -> Command:
    """Add `--indexes-dir` and the common options; the command receives `indexes_dir: Path` and `output: Output`."""
    kind = click.Path(file_okay=False, path_type=Path)
    option = click.option(
        "--indexes-dir", type=kind, default="indexes", show_default=True, metavar="DIR", help="Where indexes lie."
    )
    return option(common_options(function))


def allow_code_option(function: Command) -> Command:
    """Add `--allow-code`; the command receives `allow_code: bool`."""
    help_text = "Let the encoder run Python that comes with its model."
    return click.option("--allow-code", is_flag=True, help=help_text)(function)
