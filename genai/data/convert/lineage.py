"""`lineage.json` beside each index.json: from what, and how, a data set was made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from genai.data.convert.inputs import Inputs
from genai.data.convert.journal import identity_of
from genai.data.convert.parts import PartResult, SplitCounts
from genai.data.convert.settings import ConvertSettings
from genai.data.rows import BadRow
from genai.errors import DataError
from genai.storage import join, open_store

LINEAGE = "lineage.json"
FORMAT_VERSION = 1
_MAX_BAD_NAMED = 100


def make_plan(settings: ConvertSettings, inputs: Inputs) -> dict[str, Any]:
    """All that decides the bytes of the output, as plain values."""
    sources = [found.identity() for found in inputs.inputs]
    return {"format_version": FORMAT_VERSION, "settings": settings.to_json(), "sources": sources}


def bad_documents(results: Sequence[PartResult]) -> list[BadRow]:
    """The first bad documents, in the order of the inputs."""
    return [row for result in results for row in result.bad][:_MAX_BAD_NAMED]


def write_lineage(
    out: str,
    split: str | None,
    plan: Mapping[str, Any],
    *,
    settings: ConvertSettings,
    counts: SplitCounts,
    num_shards: int,
    dropped_tokens: int,
    results: Sequence[PartResult],
) -> dict[str, Any]:
    """Write the lineage of one split, and return it.

    Args:
        out: the folder of the split.
        split: its name.
        plan: as `make_plan` gave it.
        settings: what was made.
        counts: of this split.
        num_shards: of this split.
        dropped_tokens: tokens at the end that fill no row.
        results: all parts, for what was left out of them.
    """
    tokens = settings.tokens
    lineage = {
        **plan,
        "id": identity_of(plan),
        "split": split,
        "tokenizer": None
        if tokens is None
        else {
            "reference": tokens.tokenizer,
            "fingerprint": tokens.tokenizer_fingerprint,
            "vocab_size": tokens.vocab_size,
            "end_of_text": tokens.end_of_text,
            "end_of_text_id": tokens.end_of_text_id,
        },
        "counts": {**asdict(counts), "shards": num_shards, "dropped_tokens": dropped_tokens},
        "left_out": {
            "empty": sum(result.num_empty for result in results),
            "bad": sum(result.num_bad for result in results),
            "examples": [asdict(row) for row in bad_documents(results)],
        },
    }
    text = json.dumps(lineage, indent=1, sort_keys=True, ensure_ascii=False)
    open_store(out).write(LINEAGE, text.encode())
    return lineage


def read_lineage(url: str) -> dict[str, Any] | None:
    """The lineage of the data set at `url`; None when it was not made by a conversion.

    Raises:
        DataError: there is one that cannot be read.
    """
    store = open_store(url)
    if store.stat(LINEAGE) is None:
        return None
    try:
        lineage = json.loads(store.read(LINEAGE))
        version = lineage["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError("this is no lineage of a data set", where=join(url, LINEAGE)) from error
    if version != FORMAT_VERSION:
        raise DataError(f"the lineage has version {version}, only {FORMAT_VERSION} is known", where=join(url, LINEAGE))
    assert isinstance(lineage, dict)
    return lineage
