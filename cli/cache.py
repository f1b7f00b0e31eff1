"""`genai cache`: what was downloaded or prepared and can be had again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import common_options, examples
from .output import Output, format_table
from .units import format_ago, format_size, parse_age, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genai.storage.cache import CacheEntry


@click.group("cache", epilog=examples("genai cache ls", "genai cache gc --older-than 30d --dry-run"))
def command() -> None:
    """Models, data, tokenised rows and proofs that can be had again: in $GENAI_CACHE, else ~/.cache/genai."""


@command.command("ls", epilog=examples("genai cache ls", "genai cache ls --json"))
@common_options
def list_entries(output: Output) -> None:
    """List what lies in the cache, the least recently used first."""
    from genai.storage.atomic import cache_dir
    from genai.storage.cache import list_cache

    root = cache_dir()
    entries = list_cache(root)
    total_bytes = sum(entry.size_bytes for entry in entries)
    text = f"{_table(entries)}\n{format_size(total_bytes)} in {root}" if entries else f"nothing in {root}"
    output.result(text, {"path": root, "size_bytes": total_bytes, "entries": entries})


@command.command(
    "gc",
    epilog=examples("genai cache gc --older-than 30d", "genai cache gc --max-size 20GB --dry-run", "genai cache gc"),
)
@click.option(
    "--older-than",
    metavar="AGE",
    callback=parse_age,
    help="Remove what was last used longer ago than this, e.g. 30d, 12h.",
)
@click.option(
    "--max-size",
    metavar="SIZE",
    callback=parse_size,
    help="Remove the least recently used until this much remains, e.g. 20GB.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, remove nothing.")
@common_options
def collect_entries(older_than: float | None, max_size: int | None, dry_run: bool, output: Output) -> None:
    """Remove what is not needed; what a live process uses stays. Without options only what was left half written."""
    from genai.storage.atomic import cache_dir
    from genai.storage.cache import collect

    root = cache_dir()
    done = collect(root, older_than_s=older_than, max_bytes=max_size, dry_run=dry_run)
    freed_bytes = sum(entry.size_bytes for entry in done.removed)
    verb = "would remove" if dry_run else "removed"
    lines = [_table(done.removed)] if done.removed else []
    lines += [f"{verb} {path}, which a dead process left half written" for path in done.leftovers]
    lines += [f"kept {entry.kind}/{entry.name}: a live process uses it" for entry in done.in_use]
    entries = "1 entry" if len(done.removed) == 1 else f"{len(done.removed)} entries"
    lines += [f"{verb} {entries}, {format_size(freed_bytes)}, from {root}"]
    output.result("\n".join(lines), {"path": root, "dry_run": dry_run, "size_bytes": freed_bytes, **vars(done)})


def _table(entries: Sequence[CacheEntry]) -> str:
    rows = [
        (
            entry.kind,
            entry.name,
            format_size(entry.size_bytes),
            format_ago(entry.last_used),
            "in use" if entry.in_use else "",
        )
        for entry in entries
    ]
    return format_table(["kind", "name", "size", "last used", ""], rows)
