"""What `genai data` prints: plans, what was written, what a look at data found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .failures import printable
from .output import format_table
from .units import format_size

if TYPE_CHECKING:
    from genai.jobs.data_convert import ConvertPlan
    from genai.jobs.data_inspect import Inspected

_SHOWN_CHARACTERS = 400
_BAR_WIDTH = 40


def plan_text(plan: ConvertPlan) -> str:
    """What a conversion would do."""
    settings, inputs = plan.work.settings, plan.inputs
    kinds = sorted({found.kind for found in inputs.inputs})
    facts: dict[str, object] = {
        "reads": f"{len(inputs.inputs):,} inputs ({', '.join(kinds)}), {format_size(inputs.size_bytes)}",
        "work": f"{len(inputs.parts)} parts, {plan.request.num_workers} processes",
        "columns": ", ".join(f"{name}: {encoding}" for name, encoding in settings.mds_columns.items()),
    }
    if settings.tokens is not None:
        tokens = settings.tokens
        facts["tokenizer"] = f"{tokens.tokenizer}, {tokens.vocab_size:,} ids, {tokens.end_of_text} ends a document"
        facts["makes"] = f"about {plan.estimated_tokens:,} tokens in rows of {tokens.seq_len:,}"
    if settings.shares:
        facts["splits"] = ", ".join(f"{name} {share:g}" for name, share in settings.shares.items())
    facts["writes"] = f"{plan.request.out} ({'is there already, nothing to do' if plan.finished else 'new'})"
    tables = [f"{found.name}, version {found.version}" for found in inputs.inputs if found.version is not None]
    facts |= {"pinned": "; ".join(tables)} if tables else {}
    return "\n".join(f"{name:<10} {value}" for name, value in facts.items())


def split_line(url: str, lineage: Mapping[str, Any]) -> str:
    """What was written into one split, on one line."""
    counts = lineage["counts"]
    parts = [f"{counts['rows']:,} rows", f"{counts['documents']:,} documents", f"{counts['shards']} shards"]
    if counts["tokens"]:
        parts.insert(1, f"{counts['tokens']:,} tokens")
        parts.append(f"{counts['text_bytes'] / counts['tokens']:.2f} bytes a token")
        parts.append(f"{counts['dropped_tokens']:,} tokens at the end dropped")
    return f"{url}: {', '.join(parts)}"


def inspected_text(found: Inspected) -> str:
    """What was found in one data set."""
    lines = [f"{found.name}: {_what(found)}"]
    if found.tokens is not None:
        counts = found.tokens
        documents = "" if counts.documents is None else f", {counts.documents:,} documents end"
        lines.append(
            f"tokens      {counts.tokens:,} in rows of {counts.seq_len:,}{documents}; "
            f"{counts.different_tokens:,} different ones"
        )
        lines.append(f"frequent    {', '.join(f'{text!r} {count:,}' for text, count in found.frequent)}")
    if found.repeated_rows is not None:
        lines.append(f"repeated    {found.repeated_rows.exact:,} of {found.repeated_rows.compared:,} rows")
    if found.duplicates is not None:
        lines.append(_duplicates_line(found))
    if found.left_out:
        lines.append(f"left out    {found.left_out:,} documents that cannot be used")
    if found.lineage is not None:
        names = [source["name"] for source in found.lineage["sources"]]
        lines.append(f"made from   {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}")
    if found.lengths is not None:
        lines += ["", *_length_lines(found)]
    for number, sample in enumerate(found.samples, 1):
        lines += ["", f"[{number}] {printable(sample)[:_SHOWN_CHARACTERS]}"]
    return "\n".join(lines)


def _what(found: Inspected) -> str:
    held = "files" if found.kind == "files" else "shards"
    columns = f" ({', '.join(f'{name}: {encoding}' for name, encoding in found.columns.items())})"
    rows = "documents" if found.kind == "files" else "rows"
    size = format_size(found.size_bytes)
    return f"{found.num_samples:,} {rows} in {found.num_shards:,} {held}, {size}{columns if found.columns else ''}"


def _duplicates_line(found: Inspected) -> str:
    same = found.duplicates
    assert same is not None
    text = f"duplicates  {same.exact:,} of {same.compared:,} documents exactly"
    if same.near is not None:
        text += f"; {same.near:,} of {same.near_compared:,} nearly (largest group {same.largest:,})"
    return text


def _length_lines(found: Inspected) -> list[str]:
    lengths = found.lengths
    assert lengths is not None
    quantiles = [lengths.quantiles[share] for share in ("0", "0.05", "0.5", "0.95", "1")]
    columns = ["documents", "mean", "shortest", "5 %", "median", "95 %", "longest"]
    row: list[object] = [f"{lengths.count:,}", *(f"{value:,.0f}" for value in (lengths.mean, *quantiles))]
    most = max(count for _, count in lengths.histogram)
    bars = [
        f"{f'< {bound:,}':>12}  {count:>10,}  {'#' * round(_BAR_WIDTH * count / most)}".rstrip()
        for bound, count in lengths.histogram
    ]
    return [f"length of a document in {lengths.unit}:", format_table(columns, [row]), *bars]
