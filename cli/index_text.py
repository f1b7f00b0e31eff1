"""What the commands of `genai index` print for people."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .failures import printable
from .output import format_table
from .units import format_size

if TYPE_CHECKING:
    from genai.jobs.index_query import Found, Measured
    from genai.jobs.index_result import Checked, Dropped, IndexResult, IndexRow, IndexStats, IndexVersions
    from genai.jobs.index_swap import Swapped

_LINES_OF_A_TEXT = 3
_SHOWN_FAILURES = 3


def summary(result: IndexResult) -> str:
    """What was done to an index, and what it holds now."""
    done = result.account
    lines = [("index", f"{result.index}: {result.documents:,} documents, {result.chunks:,} chunks")]
    if result.did == "nothing":
        lines[0] = ("index", f"{lines[0][1]}; up to date")
    elif done:
        gone = f"{done['documents_deleted']:,} removed, {done['documents_failed']:,} could not be read"
        lines.append(("documents", f"{done['documents_upserted']:,} taken over, {gone}"))
        lines.append(("chunks", f"{done['chunks_new']:,} new, {done['chunks_removed']:,} removed"))
        lines.append(("embedded", _embedded(done)))
    if result.source is not None:
        lines.append(("source", f"{result.source}{_position(result.position)}"))
    if result.generation is not None:
        lines.append(("encoder", f"{result.embedding} ({result.generation})"))
    lines += [("failed", f"{row['key']}: {row['reason']}") for row in result.failures[:_SHOWN_FAILURES]]
    if result.num_failures > _SHOWN_FAILURES:
        lines.append(("", f"and {result.num_failures - _SHOWN_FAILURES:,} more: genai index stats {result.index}"))
    if result.report is not None:
        lines.append(("report", result.report))
    if result.did in ("sync", "upsert") and result.chunks:
        lines.append(("try it", f"genai index query {result.index} 'WORDS'"))
    return _aligned(lines)


def results_text(found: Found) -> str:
    """Results with rank, score, place and the beginning of their text."""
    if not found.results:
        return "nothing found"
    return "\n\n".join(_result(each) for each in found.results)


def _result(result: Any) -> str:
    place = [f"{result.source}:{result.start}-{result.end}"]
    place += [f"p. {result.page}"] if result.page is not None else []
    place += [result.heading] if result.heading else []
    metadata = [f"{name}={_value(value)}" for name, value in result.metadata.items()]
    lines = [f"{result.rank:>2}  {result.score:.4f}  {_spaced(place)}", *_clipped(result.text)]
    return "\n".join([*lines, *([f"    {_spaced(metadata)}"] if metadata else [])])


def _spaced(parts: Sequence[str]) -> str:
    return "  ".join(printable(part) for part in parts)


def _clipped(text: str) -> list[str]:
    """The first lines of a text, as wide as the terminal."""
    width = max(40, shutil.get_terminal_size((100, 24)).columns)
    return textwrap.wrap(
        printable(text),
        width=width,
        initial_indent="    ",
        subsequent_indent="    ",
        max_lines=_LINES_OF_A_TEXT,
        placeholder=" ...",
    )


def evaluation_text(measured: Measured) -> str:
    """Metrics, one row a way to search; under them the intervals of the last metric, and what was tuned."""
    names = list(measured.modes[0].metrics)
    rows: list[list[object]] = [[row.name, *(f"{row.metrics[name]:.4f}" for name in names)] for row in measured.modes]
    intervals = [
        f"{row.name} {row.intervals[names[-1]][0]:.3f} to {row.intervals[names[-1]][1]:.3f}" for row in measured.modes
    ]
    lines = [
        f"{measured.num_queries:,} queries on {measured.index} ({measured.generation}):",
        format_table(["mode", *names], rows),
        f"95 % intervals of {names[-1]}: {', '.join(intervals)}",
    ]
    return "\n".join([*lines, *(_tuning(measured.tuning) if measured.tuning is not None else [])])


def _tuning(tuning: Mapping[str, Any]) -> list[str]:
    """The best weight for each rrf_k, and the best of all."""
    best, metric = tuning["best"], tuning["metric"]
    by_rrf_k: dict[int, Mapping[str, Any]] = {}
    for trial in tuning["tried"]:
        before = by_rrf_k.get(trial["rrf_k"])
        if before is None or trial["train"] > before["train"]:
            by_rrf_k[trial["rrf_k"]] = trial
    rows: list[list[object]] = [
        [trial["rrf_k"], f"{trial['dense_weight']:g}", f"{trial['train']:.4f}", f"{trial['test']:.4f}"]
        for trial in by_rrf_k.values()
    ]
    columns = ["rrf_k", "best weight", f"{metric} of {tuning['num_train']}", f"of the other {tuning['num_test']}"]
    settings = f"search.rrf_k={best['rrf_k']} search.dense_weight={best['dense_weight']:g}"
    return ["", format_table(columns, rows), f"best: {settings}, {metric} {best['test']:.4f} on those that had no say"]


def index_rows(found: Sequence[IndexRow]) -> list[list[object]]:
    """Cells of the list of indexes."""
    return [
        [row.index, f"{row.documents:,}", f"{row.chunks:,}", row.source, row.model, _moment(row.synced_at)]
        for row in found
    ]


def stats_text(stats: IndexStats) -> str:
    """Everything about one index."""
    generation = stats.generation
    lines = [
        ("index", f"{stats.index} in {stats.path}"),
        ("documents", f"{stats.documents:,}"),
        ("chunks", f"{stats.chunks:,} ({stats.tombstones:,} gone ones are kept for readers of older states)"),
        ("tokens", f"{stats.tokens:,}"),
        ("source", f"{stats.source or 'none: rows come by genai index upsert'}{_position(stats.position)}"),
        ("columns", ", ".join(f"{name}: {kind}" for name, kind in stats.columns.items()) or "none"),
        ("tenants", "yes, a query must name one" if stats.has_tenants else "no"),
        ("engine", f"{stats.engine}, {format_size(stats.engine_bytes)}"),
        ("ledger", format_size(stats.ledger_bytes)),
    ]
    if generation is not None:
        lines.append(("encoder", f"{generation['model']}, {generation['dimension']} numbers ({generation['name']})"))
    if stats.holder is not None:
        lines.append(("busy", stats.holder))
    lines += [("failed", f"{row['key']}: {row['reason']}") for row in stats.failures]
    return _aligned(lines)


def versions_text(versions: IndexVersions) -> str:
    """Generations and syncs as two tables."""
    generations: list[list[object]] = [
        [row["name"], row["state"], row["model"], row["dimension"], row["applied"], _moment(row["created_at"])]
        for row in versions.generations
    ]
    syncs: list[list[object]] = [
        [
            row["number"],
            row["kind"],
            row["outcome"],
            _moment(row["started_at"]),
            _version(row["to_state"]),
            f"{row['documents_upserted']:,}",
            f"{row['documents_deleted']:,}",
            f"{row['embeddings_new']:,}",
            f"{row['seconds']:.1f}",
        ]
        for row in versions.syncs
    ]
    columns = ["sync", "did", "outcome", "began", "version", "taken", "removed", "embedded", "seconds"]
    parts = [
        format_table(["generation", "state", "model", "dim", "sequence", "made"], generations) if generations else "",
        format_table(columns, syncs) if syncs else "",
    ]
    return "\n\n".join(part for part in parts if part) or "nothing was synced yet"


def checked_text(checked: Checked) -> str:
    """What a comparison of engine and ledger found."""
    words = f"{checked.index}: {checked.num_chunks:,} chunks, {checked.num_searched} searched"
    words += f", {checked.num_embedded} embedded again" if checked.num_embedded else ""
    if checked.ok:
        return f"{words}; all is well"
    fix = f"genai index rebuild {checked.index}"
    return "\n".join([f"{words}; they differ ({fix})", *(f"  {line}" for line in checked.problems)])


def comparison_text(swapped: Swapped) -> str:
    """Both encoders on the same queries, and what became of it."""
    lines = []
    if swapped.comparisons:
        rows: list[list[object]] = [
            [row["metric"], f"{row['before']:.4f}", f"{row['after']:.4f}", *_interval(row["difference"])]
            for row in swapped.comparisons
        ]
        lines.append(f"{swapped.num_queries:,} queries, mode {swapped.mode}:")
        lines.append(format_table(["metric", "before", "after", "difference", "95 % interval"], rows))
    after = printable(swapped.after)
    lines.append(
        f"{swapped.index} now answers with {after} ({swapped.generation}), before: {printable(swapped.before)}"
    )
    lines.append(f"write embedding.model: {after} into its job file")
    lines.append(f"back again: genai index rollback {swapped.index}")
    return "\n".join(lines)


def _interval(difference: Mapping[str, Any]) -> list[object]:
    return [f"{difference['mean']:+.4f}", f"{difference['low']:+.4f} to {difference['high']:+.4f}"]


def dropped_text(dropped: Dropped) -> str:
    """An index that is gone."""
    verb = "would remove" if dropped.dry_run else "removed"
    return f"{verb} {dropped.path}, {format_size(dropped.size_bytes)}"


def _embedded(done: Mapping[str, Any]) -> str:
    words = f"{done['embeddings_new']:,} new, {done['embeddings_reused']:,} reused"
    speed = f", {done['tokens'] / done['embed_s']:,.0f} tokens/s" if done["tokens"] and done["embed_s"] else ""
    return f"{words} ({done['tokens']:,} tokens in {done['embed_s']:.1f} s{speed}; {done['seconds']:.1f} s in all)"


def _position(position: Mapping[str, Any]) -> str:
    return f", version {position['version']}" if "version" in position else ""


def _version(state: Mapping[str, Any]) -> object:
    return state.get("version")


def _moment(text: str | None) -> str | None:
    return None if text is None else text[:19].replace("T", " ")


def _value(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _aligned(lines: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<9} {printable(text)}" for name, text in lines)
