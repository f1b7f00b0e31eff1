"""The entry point `genai`: a table of verbs, each loaded only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import cast

import click

from .failures import EXIT_CODES_HELP, run

VERBS = {
    "pretrain": ("pretrain:command", "Train a language model on streams of tokens."),
    "finetune": ("finetune:command", "Go on training a language model on rows of your own."),
    "embed-finetune": ("embed_finetune:command", "Tune an embedding model, measured before and after."),
    "index": ("index:command", "Keep a vector index in step with its source, and search it."),
    "serve": ("serve:command", "Serve models, encoders and indexes by OpenAI's API."),
    "eval": ("eval:command", "Measure quality against data and a baseline, with gates."),
    "data": ("data:command", "Turn raw text into shards, look at data, train tokenizers."),
    "config": ("config:command", "Check, show and explain job files."),
    "models": ("models:command", "List, pull, chat with and export models."),
    "runs": ("runs:command", "List, show, compare and remove runs."),
    "cache": ("cache:command", "See and clear what was downloaded or prepared."),
    "recipes": ("recipes:command", "Ready-made stories and job files to copy."),
    "init": ("init:command", "Write a commented starter project."),
    "doctor": ("doctor:command", "What this machine has: versions, devices, credentials."),
    "plugins": ("plugins:command", "List what installed plugins add."),
}
"""Verb -> (module of this package:command, its line in `genai --help`)."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module_name, _, attribute = VERBS[cmd_name][0].partition(":")
        module = importlib.import_module(f".{module_name}", __package__)
        return cast(click.Command, getattr(module, attribute))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word in VERBS or word.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        from genai.errors import UsageError
        from genai.registry import suggest

        if word.endswith((".yaml", ".yml")):
            raise UsageError("the verb is missing", where=word, fix=f"write the job first: genai finetune {word}")
        near = suggest(word, VERBS)
        hint = f"did you mean '{near}'?" if near else f"verbs: {', '.join(VERBS)}"
        raise UsageError(f"unknown verb '{word}'", fix=hint)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from genai import __version__

        click.echo(f"genai {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    subcommand_metavar="VERB [CONFIG.yaml] [KEY=VALUE]... [FLAGS]",
    epilog="\b\nExamples:\n"
    "  genai init my-project\n"
    "  genai finetune configs/finetune/quickstart.yaml --dry-run\n"
    "  genai finetune configs/finetune/quickstart.yaml optimizer.lr=1e-4\n"
    "  genai VERB --help\n\n" + EXIT_CODES_HELP,
)
@click.option("--json", "as_json", is_flag=True, help="Results and errors as one JSON object on stdout.")
@click.option("--quiet", is_flag=True, help="Only warnings and errors on stderr.")
@click.option("--debug", is_flag=True, help="Everything on stderr, with tracebacks.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print it.")
def command(as_json: bool, quiet: bool, debug: bool) -> None:
    """From your own data to a generative-AI application, by YAML job files."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        arguments: the words after `genai`; by default those of this process.

    Returns:
        the exit code (see genai/errors.py).
    """
    if "_GENAI_COMPLETE" in os.environ:
        command.main(prog_name="genai")
    return run(command, list(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
