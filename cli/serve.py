"""`genai serve CONFIG.yaml` (or a model reference): one OpenAI-compatible server for models, encoders and indexes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import JOB_FILE_SUFFIXES, common_options, examples, split_job_words
from .output import Output

if TYPE_CHECKING:
    from genai.config.loading import Loaded
    from genai.config.serve import ServeConfig
    from genai.jobs.serve import ServeResult


@click.command(
    epilog=examples(
        "genai serve configs/serve/quickstart.yaml",
        "genai serve configs/serve/quickstart.yaml listen.port=9000 --dry-run",
        "genai serve runs:quickstart",
        "genai serve gallery:smollm2-135m-instruct listen.port=0",
    )
)
@click.argument("words", nargs=-1, metavar="CONFIG.yaml|MODEL [KEY=VALUE]...")
@click.option("--dry-run", is_flag=True, help="Check everything, print what would be loaded and what it takes.")
@click.option("--allow-code", is_flag=True, help="Let models bring their own Python.")
@common_options
def command(words: tuple[str, ...], dry_run: bool, allow_code: bool, output: Output) -> None:
    """Serve what a job file names, or one model, in the words of OpenAI's API.

    It says when it is ready. SIGHUP takes over the job file as it is then; SIGTERM and Ctrl-C let what is under way
    end, a second one stops at once.
    """
    loaded = _load(words)
    if dry_run:
        from genai.jobs import serve_plan

        plan = serve_plan.make_plan(loaded, allow_code=allow_code)
        output.result(plan.text(), plan.to_json())
        return
    from genai.jobs import serve

    has_file = bool(words) and words[0].endswith(JOB_FILE_SUFFIXES)
    flags = tuple(flag for flag, is_set in (("--quiet", output.quiet), ("--debug", output.debug)) if is_set)
    result = serve.run(loaded, allow_code=allow_code, reload=(lambda: _load(words)) if has_file else None, flags=flags)
    output.result(_summary(result), result.to_json())


def _load(words: tuple[str, ...]) -> Loaded[ServeConfig]:
    """The job file with its overrides, or one made for a single model."""
    from genai.config.loading import load
    from genai.config.serve import ServeConfig

    if words and not words[0].endswith(JOB_FILE_SUFFIXES) and "=" not in words[0]:
        from genai.jobs.serve_model import for_model

        return for_model(words[0], words[1:])
    config, overrides = split_job_words(words)
    return load(Path(config), ServeConfig, overrides)


def _summary(result: ServeResult) -> str:
    restarts = f", {result.num_restarts} processes were started again" if result.num_restarts else ""
    return f"{result.url} answered for {result.uptime_s:.0f} s{restarts}"
