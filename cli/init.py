"""`genai init`: write a small project that trains as it is, to be changed piece by piece."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from .options import common_options, examples
from .output import Output
from .recipes import copy_files, walk

RENAMED = {"gitignore": ".gitignore", "ci.yml": ".github/workflows/genai.yml"}
"""Files that would act on this repository if they lay in it under the name they get in the project."""

JOB_FILE = "configs/finetune/support.yaml"


@click.command("init", epilog=examples("genai init", "genai init my-project"))
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@common_options
def command(folder: Path, output: Output) -> None:
    """Write a commented starter project into DIR (by default here); nothing is overwritten."""
    contents = [(RENAMED.get(path, path), file) for path, file in walk(files(__package__) / "starter")]
    written = copy_files(contents, folder)
    steps = [f"genai finetune {JOB_FILE} --dry-run", f"genai finetune {JOB_FILE}"]
    if folder != Path():
        steps.insert(0, f"cd {folder}")
    lines = [f"wrote {path}" for path in written] + ["", "next:", *(f"  {step}" for step in steps)]
    output.result("\n".join(lines), {"folder": folder, "files": written, "next": steps})
