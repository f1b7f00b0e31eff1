"""`genai index CONFIG.yaml` keeps a vector index in step with its source; `genai index query NAME` asks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from .index_manage import drop, list_all, rebuild, rollback, stats, swap, verify, versions
from .index_options import allow_code_option, index_options
from .index_text import evaluation_text, results_text, summary
from .options import JobGroup, examples, job_options
from .output import Output

_FILES = "Files of JSON lines; - reads them from stdin."
_FILTER = (
    "e.g. topic=floors, 'year >= 2020', 'tag in a,b', 'exists(draft)', with and, or, not; repeated: all must pass."
)


@click.group(
    cls=JobGroup,
    epilog=examples(
        "genai index configs/index/faq.yaml",
        "genai index configs/index/faq.yaml sync.mode=continuous",
        "genai index query faq 'what does a building permit cost' --filter category=bygglov",
        "genai index query faq --evaluate queries.jsonl",
        "genai index swap faq --embedding hf:BAAI/bge-small-en-v1.5 --evaluate queries.jsonl",
    ),
    subcommand_metavar="CONFIG.yaml [KEY=VALUE]... | COMMAND NAME [ARGS]...",
)
def command() -> None:
    """Keep a vector index in step with a table or a folder, and search it.

    With a job file the index is built; the same again takes over exactly what changed. The commands work on an index by
    its NAME. The flags of the job: genai index CONFIG.yaml --help.
    """


@command.command("run", hidden=True)
@click.option("--allow-mass-delete", is_flag=True, help="Go on although many documents are gone from the source.")
@job_options
def run(
    config: Path,
    overrides: tuple[str, ...],
    run_name: str | None,
    dry_run: bool,
    allow_code: bool,
    allow_mass_delete: bool,
    output: Output,
) -> None:
    """Build an index as a job file says, or take over what changed since."""
    from genai.config.index import IndexConfig
    from genai.config.loading import load

    loaded = load(config, IndexConfig, overrides)
    if dry_run:
        from genai.jobs import index_plan

        plan = index_plan.make_plan(loaded, run_name=run_name, allow_code=allow_code)
        output.result(plan.text(), plan.to_json())
        return
    from genai.jobs import index

    result = index.run(loaded, run_name=run_name, allow_code=allow_code, allow_mass_delete=allow_mass_delete)
    output.result(summary(result), result.to_json())


@command.command(
    short_help="Search an index, or measure how well it finds things.",
    epilog=examples(
        "genai index query faq 'what does a building permit cost'",
        "genai index query faq 'what does a building permit cost' --mode hybrid --k 3 --json",
        "genai index query notes 'invoices of May' --tenant acme --columns path,modified",
        "genai index query faq --evaluate queries.jsonl --tune",
    ),
)
@click.argument("name")
@click.argument("words", nargs=-1, metavar="[WORDS]...")
@click.option("--k", type=click.IntRange(min=1), metavar="N", help="How many results (default: search.k).")
@click.option("--mode", type=click.Choice(["dense", "bm25", "hybrid"]), help="By vectors, by words, or both.")
@click.option("--filter", "filters", multiple=True, metavar="EXPR", help=_FILTER)
@click.option("--tenant", metavar="WHO", help="Only what belongs to WHO; an index with tenants wants one.")
@click.option("--columns", metavar="A,B", help="Metadata to give back (default: all).")
@click.option("--threshold", type=float, metavar="X", help="Leave out results with a lower score.")
@click.option("--rerank/--no-rerank", "rerank", default=None, help="Put the best into a better order, or do not.")
@click.option(
    "--evaluate",
    "queries",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Measure instead: JSON lines of {query, relevant: [KEY, ...]}.",
)
@click.option("--tune", is_flag=True, help="evaluate: also choose how hybrid fuses, on half of the queries.")
@allow_code_option
@index_options
def query(
    name: str,
    words: tuple[str, ...],
    k: int | None,
    mode: Literal["dense", "bm25", "hybrid"] | None,
    filters: tuple[str, ...],
    tenant: str | None,
    columns: str | None,
    threshold: float | None,
    rerank: bool | None,
    queries: Path | None,
    tune: bool,
    allow_code: bool,
    indexes_dir: Path,
    output: Output,
) -> None:
    """Search the index NAME for WORDS, or measure how well it finds what a file of queries asks for."""
    from genai.jobs import index_query

    request = index_query.QueryRequest(
        name=name,
        indexes_dir=indexes_dir,
        k=k,
        mode=mode,
        filters=filters,
        tenant=tenant,
        columns=tuple(columns.split(",")) if columns is not None else None,
        threshold=threshold,
        rerank=rerank,
        allow_code=allow_code,
    )
    if queries is None:
        _refuse_to_tune(tune)
        found = index_query.run(request, " ".join(words))
        output.result(results_text(found), found.to_json())
        return
    _refuse_words(words)
    measured = index_query.evaluate(request, queries, tune=tune)
    output.result(evaluation_text(measured), measured.to_json())


def _rows(function: Callable[..., Any]) -> Callable[..., Any]:
    kind = click.Path(allow_dash=True, path_type=Path)
    return click.argument("files", nargs=-1, required=True, type=kind, metavar="FILE...")(function)


@command.command(
    short_help="Put rows into a direct index.",
    epilog=examples("genai index upsert notes rows.jsonl", "cat rows.jsonl | genai index upsert notes -"),
)
@click.argument("name")
@_rows
@allow_code_option
@index_options
def upsert(name: str, files: tuple[Path, ...], allow_code: bool, indexes_dir: Path, output: Output) -> None:
    """Put rows into the direct index NAME, in place of those with the same keys.

    FILE holds one JSON object a line, with the columns that the job file names (by default id and text); - is stdin.
    """
    from genai.jobs import index_edit

    done = index_edit.upsert(name, files, indexes_dir=indexes_dir, allow_code=allow_code)
    output.result(summary(done), done.to_json())


@command.command(
    short_help="Take rows out of a direct index.",
    epilog=examples("genai index delete notes 17 18", "genai index delete notes --from gone.txt"),
)
@click.argument("name")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option(
    "--from",
    "file",
    type=click.Path(allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Keys, one a line; - is stdin.",
)
@allow_code_option
@index_options
def delete(
    name: str, keys: tuple[str, ...], file: Path | None, allow_code: bool, indexes_dir: Path, output: Output
) -> None:
    """Remove the documents KEY... from the direct index NAME."""
    from genai.jobs import index_edit

    done = index_edit.delete(name, keys, file, indexes_dir=indexes_dir, allow_code=allow_code)
    output.result(summary(done), done.to_json())


for each in (list_all, stats, versions, verify, rebuild, swap, rollback, drop):
    command.add_command(each)


def _refuse_to_tune(tune: bool) -> None:
    from genai.errors import UsageError

    if tune:
        raise UsageError("--tune needs --evaluate FILE", fix="name queries with what they should find")


def _refuse_words(words: tuple[str, ...]) -> None:
    from genai.errors import UsageError

    if words:
        raise UsageError("with --evaluate the queries come from the file", fix="leave the words out")
