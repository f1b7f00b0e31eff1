"""`genai index ls, stats, versions, verify, rebuild, swap, rollback, drop`: what looks after an index."""

from __future__ import annotations

from pathlib import Path

import click

from .index_options import allow_code_option, index_options
from .index_text import (
    checked_text,
    comparison_text,
    dropped_text,
    index_rows,
    stats_text,
    summary,
    versions_text,
)
from .options import examples
from .output import Output


@click.command("ls", epilog=examples("genai index ls", "genai index ls --json"))
@index_options
def list_all(indexes_dir: Path, output: Output) -> None:
    """List all indexes."""
    from genai.jobs import index_manage

    found = index_manage.list_all(indexes_dir)
    columns = ["index", "documents", "chunks", "source", "encoder", "synced"]
    data = {"indexes_dir": indexes_dir, "indexes": [each.to_json() for each in found]}
    output.table(columns, index_rows(found), data, empty=f"no indexes in {indexes_dir}")


@click.command(
    short_help="Show what an index holds.", epilog=examples("genai index stats faq", "genai index stats faq --json")
)
@click.argument("name")
@index_options
def stats(name: str, indexes_dir: Path, output: Output) -> None:
    """Show what the index NAME holds, where it comes from, and what could not be read."""
    from genai.jobs import index_manage

    found = index_manage.stats(name, indexes_dir=indexes_dir)
    output.result(stats_text(found), found.to_json())


@click.command(
    short_help="List generations and syncs.",
    epilog=examples("genai index versions faq", "genai index versions faq --json"),
)
@click.argument("name")
@click.option("-n", "limit", type=click.IntRange(min=1), default=10, show_default=True, metavar="N", help="Last syncs.")
@index_options
def versions(name: str, limit: int, indexes_dir: Path, output: Output) -> None:
    """List the generations of the index NAME, one an encoder, and its last syncs with what they were made from."""
    from genai.jobs import index_manage

    found = index_manage.versions(name, limit, indexes_dir=indexes_dir)
    output.result(versions_text(found), found.to_json())


@click.command(
    short_help="Hold the engine against the ledger.",
    epilog=examples("genai index verify faq", "genai index verify faq --deep"),
)
@click.argument("name")
@click.option("--deep", is_flag=True, help="Also embed a sample again and compare.")
@allow_code_option
@index_options
def verify(name: str, deep: bool, allow_code: bool, indexes_dir: Path, output: Output) -> None:
    """Hold the engine of the index NAME against its ledger; exit code 3 when they differ."""
    from genai.jobs import index_manage

    found = index_manage.verify(name, deep=deep, indexes_dir=indexes_dir, allow_code=allow_code)
    output.result(checked_text(found), found.to_json())
    if not found.ok:
        click.get_current_context().exit(3)


@click.command(short_help="Make the engine anew from the ledger.", epilog=examples("genai index rebuild faq"))
@click.argument("name")
@index_options
def rebuild(name: str, indexes_dir: Path, output: Output) -> None:
    """Make the engine of the index NAME anew from its ledger; nothing is embedded again."""
    from genai.jobs import index_manage

    done = index_manage.rebuild(name, indexes_dir=indexes_dir)
    output.result(summary(done), done.to_json())


@click.command(
    short_help="Put another encoder in.",
    epilog=examples(
        "genai index swap faq --embedding hf:BAAI/bge-small-en-v1.5 --evaluate queries.jsonl",
        "genai index swap faq --embedding runs:faq-encoder --without-evaluation embedding.dimension=256",
    ),
)
@click.argument("name")
@click.argument("overrides", nargs=-1, metavar="[embedding.KEY=VALUE]...")
@click.option("--embedding", "model", required=True, metavar="REF", help="The new model.")
@click.option(
    "--evaluate",
    "queries",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON lines of {query, relevant: [KEY, ...]} that both are measured on.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.02,
    show_default=True,
    metavar="X",
    help="How much worse the new one may be, at the lower end of the interval.",
)
@click.option("--without-evaluation", is_flag=True, help="Swap without measuring.")
@click.option("--drop-if-worse", is_flag=True, help="Remove the new generation when it is not good enough.")
@allow_code_option
@index_options
def swap(
    name: str,
    overrides: tuple[str, ...],
    model: str,
    queries: Path | None,
    tolerance: float,
    without_evaluation: bool,
    drop_if_worse: bool,
    allow_code: bool,
    indexes_dir: Path,
    output: Output,
) -> None:
    """Build the index NAME with another encoder beside the present one, and let it answer when it is good enough.

    Queries go on meanwhile. Both are measured on the same queries, and the swap happens when the new one is not worse
    (exit code 3 otherwise); `genai index rollback` takes it back.
    """
    from genai.jobs import index_swap

    request = index_swap.SwapRequest(
        name=name,
        indexes_dir=indexes_dir,
        model=model,
        overrides=overrides,
        queries=queries,
        tolerance=tolerance,
        without_evaluation=without_evaluation,
        drop_if_worse=drop_if_worse,
        allow_code=allow_code,
    )
    done = index_swap.run(request)
    output.result(comparison_text(done), done.to_json())


@click.command(short_help="Take a swap back.", epilog=examples("genai index rollback faq"))
@click.argument("name")
@allow_code_option
@index_options
def rollback(name: str, allow_code: bool, indexes_dir: Path, output: Output) -> None:
    """Let the generation before the last swap answer again, brought up to date first."""
    from genai.jobs import index_swap

    done = index_swap.rollback(name, indexes_dir=indexes_dir, allow_code=allow_code)
    output.result(summary(done), done.to_json())


@click.command(short_help="Remove an index.", epilog=examples("genai index drop faq --dry-run", "genai index drop faq"))
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Say what would go, remove nothing.")
@index_options
def drop(name: str, dry_run: bool, indexes_dir: Path, output: Output) -> None:
    """Remove the index NAME with all that is in it."""
    from genai.jobs import index_manage

    gone = index_manage.drop(name, dry_run=dry_run, indexes_dir=indexes_dir)
    output.result(dropped_text(gone), gone.to_json())
