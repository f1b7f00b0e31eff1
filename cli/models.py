"""`genai models`: list, pull, show, chat with, export and promote models."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .eval_text import promotion_text
from .options import common_options, examples
from .output import Output, format_table

if TYPE_CHECKING:
    from genai.models.chat import Chat
    from genai.models.describe import Description

_HELP = "/reset forgets the conversation, /quit ends; Ctrl-C stops an answer."
_runs_dir = click.option("--runs-dir", default="runs", show_default=True, metavar="DIR", help="Where runs lie.")
_adapter = click.option("--adapter", metavar="REF", help="An adapter to merge in: a folder or runs:RUN.")
_alias = click.option("--alias", default="production", show_default=True, metavar="ALIAS", help="Which alias.")
_revision = click.option("--revision", metavar="REV", help="Branch, tag or commit on the hub.")


@click.group(
    epilog=examples(
        "genai models ls",
        "genai models pull smollm2-135m-instruct",
        "genai models chat gallery:smollm2-135m-instruct",
        "genai models export runs:faq-lora --format gguf --out faq.gguf --dtype q8_0",
        "genai models promote faq --require-eval faq-eval",
    )
)
def command() -> None:
    """List, pull, chat with, export and promote models.

    A REF is gallery:NAME, hf:ORG/NAME, a folder, a .gguf file, s3://..., runs:RUN[/CHECKPOINT] or
    registry:NAME[@ALIAS_OR_VERSION].
    """


@command.command("ls", epilog=examples("genai models ls", "genai models ls --json"))
@_runs_dir
@common_options
def list_models(runs_dir: str, output: Output) -> None:
    """List the models known by name, where each can be had from, and those that runs registered."""
    from genai.models.gallery import GALLERY
    from genai.models.pull import known_sources, model_folder, read_provenance
    from genai.models.registered import list_registered

    rows: list[list[object]] = []
    data: list[dict[str, Any]] = []
    notes = []
    for entry in GALLERY.values():
        here = read_provenance(model_folder(entry.name))
        note = entry.package.note if entry.package else None
        sources = known_sources(entry)
        rows.append(
            [
                entry.name,
                _count(entry.parameters),
                f"{entry.context_length:,}",
                entry.licence,
                entry.task,
                "yes" if here else "no",
                ", ".join(sources),
            ]
        )
        data.append(
            {
                "name": entry.name,
                "parameters": entry.parameters,
                "context_length": entry.context_length,
                "licence": entry.licence,
                "task": entry.task,
                "sources": sources,
                "gated": entry.hub.gated,
                "note": note,
                "here": here.source if here else None,
            }
        )
        if note and entry.package:
            notes.append(f"{entry.name} from the package {entry.package.package}: {note}.")
    columns = ["name", "parameters", "context", "licence", "task", "here", "sources"]
    lines = [format_table(columns, rows), "", *notes]
    registered = list_registered(runs_dir)
    if registered:
        named = [
            [
                each.version.reference,
                ", ".join(each.aliases),
                each.version.kind,
                each.version.run,
                each.version.created_at,
            ]
            for each in registered
        ]
        lines += ["", format_table(["registered", "aliases", "kind", "run", "at"], named)]
    versions = [{**asdict(each.version), "aliases": each.aliases} for each in registered]
    output.result("\n".join(lines), {"models": data, "registered": versions})


@command.command(epilog=examples("genai models pull smollm2-135m-instruct", "genai models pull hf:Qwen/Qwen3-0.6B"))
@click.argument("ref")
@_revision
@common_options
def pull(ref: str, revision: str | None, output: Output) -> None:
    """Bring the model REF (a name of the gallery, or any reference) here and verify its checksums."""
    from genai.models import pull as pulling
    from genai.models.gallery import GALLERY
    from genai.models.references import resolve_model

    name = ref.removeprefix("gallery:")
    in_gallery = name in GALLERY
    path = pulling.pull(name, verify=True) if in_gallery else resolve_model(ref, revision=revision).path
    here = pulling.read_provenance(path)
    lines = [f"{ref} is at {path}", *([f"from {here.source}"] if here else [])]
    if here and here.note:
        lines.append(f"note: {here.note}")
    output.result(
        "\n".join(lines),
        {"ref": ref, "path": path, "source": here.source if here else None, "note": here.note if here else None},
    )


@command.command(epilog=examples("genai models show smollm2-135m-instruct", "genai models show runs:faq-lora --json"))
@click.argument("ref")
@_runs_dir
@common_options
def show(ref: str, runs_dir: str, output: Output) -> None:
    """Show size, architecture, context, licence, sources and files of REF."""
    from genai.models.describe import describe

    description = describe(ref, runs_dir=runs_dir)
    output.result(_description_text(description), {"model": description})


@command.command(
    epilog=examples(
        "genai models chat gallery:smollm2-135m-instruct",
        "genai models chat runs:faq-lora --message 'When does the site office open?'",
        "genai models chat ./my-model --temperature 0.7 --system 'Answer in one sentence.'",
    )
)
@click.argument("ref")
@click.option("--message", "-m", metavar="TEXT", help="Ask this, print the answer, end.")
@click.option("--system", metavar="TEXT", help="The system message.")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    metavar="N",
    help="Longest answer, in tokens.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="X",
    help="0: the likeliest word; above: the share of luck.",
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    metavar="X",
    help="Draw among the likeliest tokens of this probability.",
)
@click.option("--seed", type=int, default=17, show_default=True, metavar="N", help="Same seed, same answer.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to run."
)
@_adapter
@_revision
@_runs_dir
@common_options
def chat(
    ref: str,
    message: str | None,
    system: str | None,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    device: str,
    adapter: str | None,
    revision: str | None,
    runs_dir: str,
    output: Output,
) -> None:
    """Talk to the model REF; its answers come word by word.

    Reads one question a line from stdin when that is no terminal. /reset forgets the conversation, /quit ends.
    """
    from genai.models.chat import ChatOptions, open_chat

    options = ChatOptions(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    talk = open_chat(
        ref,
        adapter=adapter,
        system=system,
        options=options,
        device=device,
        runs_dir=runs_dir,
        revision=revision,
    )
    if message is not None:
        answers = [_answer(talk, message, shown=not output.as_json)]
    elif sys.stdin.isatty():
        click.echo(_HELP, err=True)
        answers = _converse(talk, _typed_lines(), shown=True)
    else:
        answers = _converse(talk, (line.rstrip("\n") for line in sys.stdin), shown=not output.as_json)
    if output.as_json:
        output.result("", {"model": ref, "answers": answers})


@command.command(
    epilog=examples(
        "genai models export runs:faq-lora --format gguf --out faq.gguf --dtype q8_0",
        "genai models export gallery:smollm2-135m-instruct --format hf --out smollm2",
        "genai models export runs:docs-30m/ba00000600 --format hf --out docs-30m-600",
    )
)
@click.argument("ref")
@click.option("--format", "kind", type=click.Choice(["hf", "gguf"]), required=True, help="A folder, or one file.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="PATH", help="What is written.")
@click.option("--dtype", metavar="DTYPE", help="gguf: f32, f16 (default), bf16, q8_0; hf: float32, bfloat16, float16.")
@click.option("--force", is_flag=True, help="Replace PATH when it is there.")
@_adapter
@_revision
@_runs_dir
@common_options
def export(
    ref: str,
    kind: str,
    out: Path,
    dtype: str | None,
    force: bool,
    adapter: str | None,
    revision: str | None,
    runs_dir: str,
    output: Output,
) -> None:
    """Write the model REF as a folder for transformers or as a GGUF file for llama.cpp and Ollama."""
    from genai.errors import UsageError

    if out.exists() and not force:
        raise UsageError(f"{out} already exists", fix="choose another --out or give --force")
    from genai.jobs.checkpoint_export import export_checkpoint, names_pretraining_checkpoint

    if adapter is None and names_pretraining_checkpoint(ref, runs_dir):
        path = export_checkpoint(ref, out, kind=kind, dtype=dtype, runs_dir=runs_dir)
    else:
        from genai.models.conversion import export_model

        path = export_model(ref, out, kind=kind, dtype=dtype, adapter=adapter, runs_dir=runs_dir, revision=revision)
    size_bytes = sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))
    output.result(f"wrote {path} ({size_bytes / 1e6:,.1f} MB)", {"ref": ref, "path": path, "size_bytes": size_bytes})


@command.command(
    short_help="Let an alias name a version that an evaluation has found good.",
    epilog=examples(
        "genai models promote faq --require-eval faq-eval",
        "genai models promote faq@3 --alias staging --require-eval faq-eval/runs:faq-lora",
        "genai models promote faq@2 --alias production",
    ),
)
@click.argument("name", metavar="NAME[@VERSION]")
@_alias
@click.option(
    "--require-eval",
    metavar="RUN[/TARGET]",
    help="Only when this run of genai eval measured that model and all its gates hold; else exit code 3.",
)
@_runs_dir
@common_options
def promote(name: str, alias: str, require_eval: str | None, runs_dir: str, output: Output) -> None:
    """Let an alias name a version of NAME from now on.

    Without a version the one that the evaluation measured is meant; the model of a run that was not registered yet
    becomes the next version. Nothing changes unless all gates hold.
    """
    from genai.jobs import models_promote

    done = models_promote.promote(name, alias=alias, require_eval=require_eval, runs_dir=runs_dir)
    output.result(promotion_text(done), done.to_json())


@command.command(
    short_help="Let an alias name what it named before.",
    epilog=examples("genai models rollback faq", "genai models rollback faq --alias staging"),
)
@click.argument("name")
@_alias
@_runs_dir
@common_options
def rollback(name: str, alias: str, runs_dir: str, output: Output) -> None:
    """Let an alias of NAME name again what it did before it was last set."""
    from genai.jobs import models_promote

    done = models_promote.rollback(name, alias=alias, runs_dir=runs_dir)
    output.result(promotion_text(done), done.to_json())


def _converse(talk: Chat, lines: Iterator[str], *, shown: bool) -> list[str]:
    """Answer line by line until /quit or the end; what the model refuses is said, and the talk goes on."""
    from genai.errors import DataError

    answers = []
    for line in lines:
        word = line.strip()
        if word == "/quit":
            break
        if word == "/reset":
            talk.reset()
        elif word:
            try:
                answers.append(_answer(talk, word, shown=shown))
            except DataError as error:
                click.echo(f"error: {error}", err=True)
    return answers


def _answer(talk: Chat, text: str, *, shown: bool) -> str:
    """One answer, printed as it comes; Ctrl-C ends it in a terminal, and only it."""
    pieces = []
    try:
        for piece in talk.say(text):
            pieces.append(piece)
            if shown:
                click.echo(piece, nl=False)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    if shown:
        click.echo()
    return "".join(pieces)


def _typed_lines() -> Iterator[str]:
    """What the user types, with the line editing of the terminal, until Ctrl-D."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (input() uses it from here on)
    while True:
        try:
            yield input("> ")
        except EOFError:
            click.echo()
            return


def _description_text(about: Description) -> str:
    size = _count(about.parameters) if about.parameters is not None else None
    context = f"{about.context_length:,} tokens" if about.context_length else None
    facts = {
        "model": about.reference,
        "architecture": about.architecture,
        "parameters": f"{size} ({about.parameters:,})" if size else None,
        "context": context,
        "licence": about.licence,
        "dtype": about.dtype,
        "sources": ", ".join(about.sources) or None,
        "came from": about.source,
        "note": about.note,
        "path": about.path or "not here yet (genai models pull)",
    }
    lines = [f"{name:<13} {value}" for name, value in facts.items() if value is not None]
    if about.files:
        rows = [[name, f"{file['size_bytes']:,}", file["sha256"]] for name, file in about.files.items()]
        lines += ["", format_table(["file", "bytes", "sha256"], rows)]
    return "\n".join(lines)


def _count(parameters: int) -> str:
    """A number of weights as people say it: 135M, 1.7B."""
    if parameters >= 999_500_000:
        return f"{parameters / 1e9:.1f}B"
    return f"{parameters / 1e6:.0f}M"
