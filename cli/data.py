"""`genai data`: convert, inspect, and train tokenizers on raw text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from .data_text import inspected_text, plan_text, split_line
from .options import common_options, examples
from .output import Output
from .units import format_size, parse_size

_FORMATS = ["auto", "chat", "prompt_response", "alpaca", "sharegpt", "text"]


@click.group(
    "data",
    epilog=examples(
        "genai data tokenizer docs/ --vocab-size 16384 --out tokenizer",
        "genai data convert docs/ --tokenizer tokenizer --seq-len 1024 --out s3://bucket/docs --split validation=0.01",
        "genai data inspect s3://bucket/docs",
    ),
)
def command() -> None:
    """Turn raw text into shards, look at data, train tokenizers.

    A SOURCE is a file, folder or pattern of JSONL, Parquet, CSV, HTML, Markdown or plain text, here or on s3://, gs://
    or az://; hf:DATASET; delta:URI or delta:URI@VERSION.
    """


def _source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The words that say how sources are read."""
    decorators = [
        click.argument("sources", nargs=-1, required=True, metavar="SOURCE..."),
        click.option("--text", metavar="COLUMN", help="The column that holds the text (default: text)."),
        click.option("--hf-split", default="train", show_default=True, metavar="SPLIT", help="Split of hf: data sets."),
        click.option("--hf-config", metavar="NAME", help="Configuration of hf: data sets."),
    ]
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


@command.command(
    epilog=examples(
        "genai data convert docs/ --tokenizer tokenizer --seq-len 1024 --out s3://bucket/docs --split validation=0.01",
        "genai data convert 'web/*.jsonl.gz' --text body --tokenizer hf:Qwen/Qwen3-0.6B --seq-len 2048 --out web",
        "genai data convert chats.jsonl --to rows --out shards/chats --compression zstd",
        "genai data convert delta:s3://lake/articles@12 --tokenizer tokenizer --seq-len 2048 --out s3://bucket/articles",
    )
)
@_source_options
@click.option("--out", required=True, metavar="URL", help="Folder or bucket that gets the shards.")
@click.option("--to", "target", type=click.Choice(["tokens", "rows"]), default="tokens", show_default=True)
@click.option("--tokenizer", metavar="REF", help="tokens: gallery:NAME, hf:ORG/NAME, a folder, runs:RUN.")
@click.option("--seq-len", type=click.IntRange(min=2), metavar="N", help="tokens: how many a row.")
@click.option("--end-of-text", metavar="TOKEN", help="tokens: put after each document (default: the tokenizer's own).")
@click.option("--split", "splits", multiple=True, metavar="NAME=SHARE", help="Hold back a share, e.g. validation=0.01.")
@click.option("--seed", type=int, default=17, show_default=True, metavar="N", help="Decides which documents those are.")
@click.option("--format", "kind", type=click.Choice(_FORMATS), default="auto", show_default=True, help="rows: of what.")
@click.option("--column", "columns", multiple=True, metavar="EXPECTED=NAME", help="rows: e.g. prompt=question.")
@click.option("--compression", metavar="NAME", help="zstd, zstd:LEVEL, gz or bz2 (default: none).")
@click.option("--shard-size", callback=parse_size, default="64MiB", show_default=True, metavar="SIZE", help="At most.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes (default: one a CPU).")
@click.option(
    "--max-bad",
    type=click.FloatRange(min=0),
    default=0.01,
    show_default=True,
    metavar="X",
    help="Documents that may be unusable: below 1 a share, else a number.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan, write nothing.")
@common_options
def convert(
    sources: tuple[str, ...],
    text: str | None,
    hf_split: str,
    hf_config: str | None,
    out: str,
    target: Literal["tokens", "rows"],
    tokenizer: str | None,
    seq_len: int | None,
    end_of_text: str | None,
    splits: tuple[str, ...],
    seed: int,
    kind: Literal["auto", "chat", "prompt_response", "alpaca", "sharegpt", "text"],
    columns: tuple[str, ...],
    compression: str | None,
    shard_size: int,
    workers: int | None,
    max_bad: float,
    dry_run: bool,
    output: Output,
) -> None:
    """Make MDS shards of SOURCEs: rows of tokens to pretrain on, or rows to fine-tune on.

    The same command again goes on where it was stopped; the shards depend on nothing but the sources and the options.
    """
    from genai.jobs import data_convert

    request = data_convert.ConvertRequest(
        sources=sources,
        out=out,
        target=target,
        tokenizer=tokenizer,
        seq_len=seq_len,
        end_of_text=end_of_text,
        splits=splits,
        text=text,
        format=kind,
        columns=columns,
        seed=seed,
        compression=compression,
        shard_bytes=shard_size,
        workers=workers,
        max_bad=max_bad,
        hub_split=hf_split,
        hub_config=hf_config,
    )
    if dry_run:
        plan = data_convert.make_plan(request)
        output.result(plan_text(plan), {"plan": plan.to_json()})
        return
    done = data_convert.run(request)
    lines = [f"{out} was converted before, nothing to do"] if done.was_there else []
    lines += [split_line(url, lineage) for url, lineage in done.splits.items()]
    left_out = done.lineages[0]["left_out"]
    if left_out["bad"] or left_out["empty"]:
        lines.append(f"left out: {left_out['bad']:,} that cannot be used, {left_out['empty']:,} empty")
    output.result("\n".join(lines), {"out": out, "was_there": done.was_there, "splits": done.splits})


@command.command(
    epilog=examples(
        "genai data inspect s3://bucket/docs",
        "genai data inspect shards/train --samples 10 --json",
        "genai data inspect 'raw/*.jsonl' --tokenizer gallery:smollm2-135m-instruct",
    )
)
@click.argument("references", nargs=-1, required=True, metavar="URL|FILES...")
@click.option("--tokenizer", metavar="REF", help="To count and decode with (default: the one that made the shards).")
@click.option("--text", metavar="COLUMN", help="files: the column that holds the text.")
@click.option("--samples", type=click.IntRange(min=0), default=3, show_default=True, metavar="N", help="Show so many.")
@click.option(
    "--near-duplicates",
    "near_among",
    type=click.IntRange(min=0),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Look for them among the first N documents; 0 does not.",
)
@common_options
def inspect(
    references: tuple[str, ...],
    tokenizer: str | None,
    text: str | None,
    samples: int,
    near_among: int,
    output: Output,
) -> None:
    """Look at shards, or at files before they are converted: samples, lengths, tokens, duplicates."""
    from genai.jobs import data_inspect

    request = data_inspect.InspectRequest(
        references=references, tokenizer=tokenizer, samples=samples, near_among=near_among, text=text
    )
    found = data_inspect.run(request)
    output.result("\n\n".join(inspected_text(item) for item in found), {"data": found})


@command.command(
    "tokenizer",
    epilog=examples(
        "genai data tokenizer docs/ --vocab-size 16384 --out tokenizer",
        "genai data tokenizer 'web/*.jsonl.gz' --text body --vocab-size 32768 --max-size 2GB --out tokenizer",
    ),
)
@_source_options
@click.option("--vocab-size", type=int, required=True, metavar="N", help="Tokens at most.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder that is made.")
@click.option("--max-size", callback=parse_size, metavar="SIZE", help="Learn from about so much text, e.g. 2GB.")
@common_options
def train_tokenizer(
    sources: tuple[str, ...],
    text: str | None,
    hf_split: str,
    hf_config: str | None,
    vocab_size: int,
    out: Path,
    max_size: int | None,
    output: Output,
) -> None:
    """Train a byte-level BPE tokenizer on SOURCEs and write it as a folder that transformers loads."""
    from genai.jobs import data_tokenizer

    request = data_tokenizer.TokenizerRequest(
        sources=sources,
        out=out,
        vocab_size=vocab_size,
        text=text,
        max_bytes=max_size,
        hub_split=hf_split,
        hub_config=hf_config,
    )
    done = data_tokenizer.run(request)
    read = f"{done.documents:,} documents, {format_size(done.text_bytes)}"
    lines = [
        f"wrote {done.path}: {done.vocab_size:,} tokens, from {read}",
        f"{done.bytes_per_token:.2f} bytes a token on {format_size(done.sample_bytes)} of them",
    ]
    output.result("\n".join(lines), vars(done))
