"""`genai config`: check, show and explain job files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import common_options, examples, existing_config, split_job_words
from .output import Output

if TYPE_CHECKING:
    from genai.config.loading import Loaded

_JOB_HELP = "Which job the file is for; by default its folder configs/JOB/, else its keys, tell."


@click.group(
    short_help="Check, show and explain job files.",
    epilog=examples(
        "genai config validate configs/finetune/quickstart.yaml optimizer.lr=1e-4",
        "genai config explain finetune.optimizer.lr",
    ),
)
def command() -> None:
    """Check, show and explain job files, without starting anything."""


@command.command(
    short_help="Check a job file.",
    epilog=examples(
        "genai config validate configs/finetune/quickstart.yaml",
        "genai config validate my.yaml --job finetune max_duration=3ep",
    ),
)
@click.argument("words", nargs=-1, metavar="CONFIG.yaml [KEY=VALUE]...")
@click.option("--job", metavar="JOB", help=_JOB_HELP)
@common_options
def validate(words: tuple[str, ...], job: str | None, output: Output) -> None:
    """Check a job file: every key, every value, and whether they go together.

    All faults are listed, each with its place and the way out. Models and data are not looked at; that does --dry-run
    of the job.
    """
    job, loaded = _load(words, job)
    text = f"{loaded.path}: a valid {job} job"
    output.result(text, {"path": str(loaded.path), "job": job, "overrides": list(loaded.overrides), "valid": True})


@command.command(
    short_help="Print the whole config.",
    epilog=examples("genai config show configs/finetune/quickstart.yaml --origins"),
)
@click.argument("words", nargs=-1, metavar="CONFIG.yaml [KEY=VALUE]...")
@click.option("--job", metavar="JOB", help=_JOB_HELP)
@click.option("--origins", "with_origins", is_flag=True, help="Say of each value where it came from.")
@common_options
def show(words: tuple[str, ...], job: str | None, with_origins: bool, output: Output) -> None:
    """Print the whole config of a job file: bases merged, references resolved, defaults filled in.

    Secrets stay the references (env:NAME, file:PATH) that they are in the file.
    """
    from genai.config import show as rendering

    job, loaded = _load(words, job)
    data: dict[str, Any] = {"job": job, "config": rendering.resolved_values(loaded)}
    if with_origins:
        data["origins"] = rendering.origins(loaded)
    output.result(rendering.show(loaded, with_origins=with_origins), data)


@command.command(
    short_help="Print the JSON schema.", epilog=examples("genai config schema finetune > finetune.schema.json")
)
@click.argument("job")
@common_options
def schema(job: str, output: Output) -> None:
    """Print the JSON schema of a job's files, for completion and checking in an editor.

    In an editor with YAML support, start the file with: # yaml-language-server: $schema=finetune.schema.json
    """
    import json

    from genai.config.export_schema import json_schema

    found = json_schema(job)
    output.result(json.dumps(found, indent=2, ensure_ascii=False), {"job": job, "schema": found})


@command.command(
    short_help="Say what a key means.",
    epilog=examples(
        "genai config explain finetune",
        "genai config explain finetune.optimizer.lr",
        "genai config explain scheduler",
    ),
)
@click.argument("key", metavar="[JOB][.KEY]")
@click.argument("rest", required=False, metavar="[KEY]")
@common_options
def explain(key: str, rest: str | None, output: Output) -> None:
    """Say what a key of a job file does, what it may be and what it is by default; without KEY, list all keys."""
    from dataclasses import asdict

    from genai.config import explain as explaining

    job, inner = explaining.split_job(key if rest is None else f"{key}.{rest}")
    infos = [asdict(info) for info in explaining.key_infos(job, inner)]
    output.result(explaining.explain(job, inner), {"job": job, "keys": infos})


@command.command(
    "from-llmfoundry",
    short_help="Write a file of llm-foundry's as ours.",
    epilog=examples(
        "genai config from-llmfoundry mpt-125m.yaml",
        "genai config from-llmfoundry mpt-125m.yaml -o configs/pretrain/mpt-125m.yaml",
    ),
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("-o", "--output-file", "target", metavar="OUT", type=click.Path(path_type=Path), help="Where to.")
@click.option("--job", metavar="JOB", help="pretrain or finetune; by default its loader tells.")
@common_options
def from_llmfoundry(file: Path, target: Path | None, job: str | None, output: Output) -> None:
    """Write a training file of llm-foundry's as a job file of ours.

    Keys that are translated, have no effect or are not supported stay as comments, each with the reason. Such files are
    also taken by `genai pretrain` and `genai finetune` as they are.
    """
    from genai.config.foundry_convert import convert_foundry

    converted = convert_foundry(existing_config(str(file)), job)
    answered = {name: converted.keys(does) for name, does in _ANSWERS.items()}
    data = {"job": converted.job, "path": str(target) if target else None, "yaml": converted.text, **answered}
    if target is None:
        output.result(converted.text.rstrip("\n"), data)
        return
    from genai.errors import UsageError
    from genai.storage.atomic import write_text

    if target.exists():
        raise UsageError("the file exists already", where=str(target), fix="choose another name, or remove it")
    write_text(target, converted.text)
    counts = ", ".join(f"{len(keys)} {name.replace('_', ' ')}" for name, keys in answered.items())
    output.result(f"{target}: a {converted.job} job ({counts})", data)


_ANSWERS = {"translated": "translated", "without_effect": "no effect", "not_supported": "refused"}
"""Name of a list in the result -> the answer of its keys."""


def _load(words: tuple[str, ...], job: str | None) -> tuple[str, Loaded[Any]]:
    from genai.config.inherit import read_with_bases
    from genai.config.loading import load
    from genai.config.schemas import guess_job, schema_of

    path, overrides = split_job_words(words)
    if job is None:
        tree, _ = read_with_bases(Path(path))
        job = guess_job(Path(path), tree)
    return job, load(path, schema_of(job), overrides)
