"""What the verbs share on their command lines: flags, the config with its overrides, examples in the help."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .output import Output

Command = Callable[..., Any]
JOB_FILE_SUFFIXES = (".yaml", ".yml")


def examples(*lines: str) -> str:
    """The epilogue of a command's help: one example a line, kept as written."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def common_options(function: Command) -> Command:
    """Add `--json --quiet --debug`; the command receives them as one argument `output: Output`, ready to use."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
    @click.option("--quiet", is_flag=True, help="Only warnings and errors on stderr.")
    @click.option("--debug", is_flag=True, help="Everything on stderr, with tracebacks.")
    @click.pass_context
    @functools.wraps(function)
    def wrapper(context: click.Context, /, *args: Any, as_json: bool, quiet: bool, debug: bool, **values: Any) -> Any:
        root = context.find_root().params
        output = Output(
            as_json=as_json or root.get("as_json", False),
            quiet=quiet or root.get("quiet", False),
            debug=debug or root.get("debug", False),
        )
        output.start()
        return function(*args, output=output, **values)

    return wrapper


def job_options(function: Command) -> Command:
    """Make a command a job: `CONFIG.yaml [KEY=VALUE]...` and the flags that say how to run it.

    The command receives `config: Path`, `overrides: tuple[str, ...]`, `run_name: str | None`, `dry_run: bool`,
    `allow_code: bool` and `output: Output`.
    """

    @click.argument("words", nargs=-1, metavar="CONFIG.yaml [KEY=VALUE]...")
    @click.option("--run-name", metavar="NAME", help="Name of the run directory.")
    @click.option("--dry-run", is_flag=True, help="Check everything, print the plan, write nothing.")
    @click.option("--allow-code", is_flag=True, help="Let the job file run Python of your own.")
    @common_options
    @functools.wraps(function)
    def wrapper(*args: Any, words: tuple[str, ...], **values: Any) -> Any:
        config, overrides = split_job_words(words)
        return function(*args, config=config, overrides=overrides, **values)

    return wrapper


def nproc_option(function: Command) -> Command:
    """Add `--nproc N` to a job; the command receives `nproc: int | None`."""
    help_text = "Train on N ranks of this machine, one a GPU; started with torchrun."
    return click.option("--nproc", type=click.IntRange(min=1), metavar="N", help=help_text)(function)


def launch_flags(output: Output, *, allow_code: bool) -> list[str]:
    """The flags of this command line that the ranks of a job are started with."""
    flags = {"--allow-code": allow_code, "--quiet": output.quiet, "--debug": output.debug}
    return [flag for flag, is_set in flags.items() if is_set]


def split_job_words(words: tuple[str, ...]) -> tuple[Path, tuple[str, ...]]:
    """Tell the job file from its overrides.

    Args:
        words: what stands on the command line between the verb and the flags.

    Raises:
        UsageError: no job file, one that does not exist, an override before it or without '='.
    """
    from genai.errors import UsageError

    if not words:
        raise UsageError("a job file is missing", fix="name a .yaml; ready-made ones: genai recipes ls")
    first, *rest = words
    if "=" in first and not Path(first).exists():
        job_file = next((word for word in rest if word.endswith(JOB_FILE_SUFFIXES)), "CONFIG.yaml")
        raise UsageError(f"override '{first}' stands before the job file", fix=f"write: {job_file} {first}")
    config = existing_config(first)
    for word in rest:
        _check_override(word)
    return config, tuple(rest)


def existing_config(text: str) -> Path:
    """The path of a job file that can be read.

    Raises:
        UsageError: there is no such file; near names in that folder are suggested.
    """
    from genai.errors import UsageError

    path = Path(text)
    if path.is_dir():
        raise UsageError("this is a folder, a job file is needed", where=text, fix=_names_in(path))
    if not path.exists():
        raise UsageError("no such file", where=text, fix=_near(path))
    if path.suffix not in JOB_FILE_SUFFIXES:
        raise UsageError("a job file ends in .yaml or .yml", where=text)
    return path


def _check_override(word: str) -> None:
    from genai.errors import UsageError

    key, equals, _ = word.partition("=")
    if equals and key:
        return
    if word.endswith(JOB_FILE_SUFFIXES):
        raise UsageError("one job file at a time", where=word, fix="a job file can inherit with `base: other.yaml`")
    if equals:
        raise UsageError(f"override '{word}' has no key", fix="write KEY=VALUE without blanks around '='")
    raise UsageError(f"'{word}' is no override", fix=f"write {word}=VALUE, without blanks around '='")


def _near(path: Path) -> str:
    from genai.registry import suggest

    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist"
    files = [file.name for file in path.parent.iterdir() if file.suffix in JOB_FILE_SUFFIXES]
    near = suggest(path.name, files) or suggest(f"{path.name}.yaml", files)
    return f"did you mean '{path.parent / near}'?" if near else _names_in(path.parent)


def _names_in(folder: Path) -> str:
    names = sorted(file.name for file in folder.iterdir() if file.suffix in JOB_FILE_SUFFIXES)
    return f"in that folder: {', '.join(names[:8])}" if names else "ready-made ones: genai recipes ls"


class JobGroup(click.Group):
    """A verb that is a job and has helpers beside it: `genai index CONFIG.yaml ...` and `genai index query NAME ...`.

    The job is a hidden command called `run`; it is taken when a job file or an override comes before any helper's name.
    """

    ignore_unknown_options = True

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        for word in args:
            if word in self.commands:
                break
            if word.endswith(JOB_FILE_SUFFIXES) or ("=" in word and not word.startswith("-")):
                return "run", self.commands["run"], args
        return super().resolve_command(ctx, args)
