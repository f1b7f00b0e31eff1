"""A conversion from its plan to its data sets: parts by workers, the rest of the tokens, lineages, indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from genai.data.convert.inputs import Inputs
from genai.data.convert.journal import Journal, only_writer, refuse_other
from genai.data.convert.lineage import bad_documents, make_plan, read_lineage, write_lineage
from genai.data.convert.parts import PartResult, SplitCounts, Work, open_writer, split_url
from genai.data.convert.token_rows import RowCutter
from genai.data.convert.workers import convert_parts
from genai.data.mds import INDEX, ShardInfo, write_index
from genai.errors import GateError, UsageError
from genai.log import get_logger, progress
from genai.storage import open_store

_NUM_SHOWN = 5
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What a conversion made."""

    out: str
    """Folder or bucket."""
    lineages: tuple[Mapping[str, Any], ...]
    """Of each split, in order."""
    was_there: bool = False
    """Everything had been made before."""

    @property
    def splits(self) -> dict[str, Mapping[str, Any]]:
        """URL of each data set -> its lineage."""
        return {split_url(self.out, lineage["split"]): lineage for lineage in self.lineages}


def convert(work: Work, inputs: Inputs, *, num_workers: int, max_bad: float) -> Converted:
    """Convert all inputs, or go on where a conversion of them was cut off.

    Args:
        work: the settings, the reader and the place.
        inputs: what to read.
        num_workers: processes; changes nothing in the output.
        max_bad: how many documents may be unusable; below 1 it is a share of all.

    Raises:
        UsageError: the place holds something else; or a split would be empty.
        GateError: too many documents cannot be used.
        GenaiError: another process converts into the same place.
    """
    plan = make_plan(work.settings, inputs)
    with only_writer(work.out):
        if (found := find_converted(work, plan)) is not None:
            Journal(work.out, plan).remove()
            return found
        journal = Journal(work.out, plan)
        results = _all_parts(work, inputs, journal, num_workers=num_workers, max_bad=max_bad)
        _check_bad(results, max_bad)
        converted = _commit(work, plan, results)
        journal.remove()
    return converted


def find_converted(work: Work, plan: Mapping[str, Any]) -> Converted | None:
    """The output, when this very conversion was finished before.

    Raises:
        UsageError: the place holds another one, finished or not, or something else.
    """
    lineages = [read_lineage(split_url(work.out, split)) for split in work.settings.splits]
    for lineage in (read_lineage(work.out), *lineages):
        if lineage is not None:
            refuse_other(plan, lineage, work.out)
    whole = all(open_store(split_url(work.out, split)).stat(INDEX) is not None for split in work.settings.splits)
    if not whole or any(lineage is None for lineage in lineages):
        Journal(work.out, plan).check()
        return None
    return Converted(out=work.out, lineages=tuple(found for found in lineages if found is not None), was_there=True)


def _all_parts(work: Work, inputs: Inputs, journal: Journal, *, num_workers: int, max_bad: float) -> list[PartResult]:
    done = journal.begin()
    for split in work.settings.splits:
        # A kill between two indexes leaves the first: without it the set is not whole, and shards may be added.
        open_store(split_url(work.out, split)).delete(INDEX)
    todo = [part for part in inputs.parts if part.index not in done]
    if done:
        _log.info("going on: %d of %d parts are done", len(done), len(inputs.parts))
    done_bytes = float(sum(part.size_bytes for part in inputs.parts if part.index in done))
    with progress("converting", inputs.size_bytes / 1e6) as task:

        def advance(num_chars: int) -> None:
            # Characters stand for bytes while a part is at work: good enough for a bar.
            nonlocal done_bytes
            done_bytes = min(done_bytes + num_chars, inputs.size_bytes)
            task.update(done_bytes / 1e6, unit="MB")

        for result in convert_parts(work, todo, num_workers=num_workers, progress=advance):
            journal.record(result)
            done[result.index] = result
            if max_bad >= 1 or max_bad == 0:
                _check_bad([done[index] for index in sorted(done)], max_bad)
    return [done[part.index] for part in inputs.parts]


def _check_bad(results: Sequence[PartResult], max_bad: float) -> None:
    """Tell what was left out, and stop when it is too much.

    Raises:
        GateError: see `convert`.
    """
    num_bad = sum(result.num_bad for result in results)
    if not num_bad:
        return
    num_good = sum(split.counts.documents for result in results for split in result.splits)
    limit = max_bad if max_bad >= 1 or max_bad == 0 else max_bad * (num_bad + num_good)
    examples = bad_documents(results)[:_NUM_SHOWN]
    if num_bad > limit:
        first = examples[0]
        what = f"{num_bad} of {num_bad + num_good} documents cannot be used, the first: {first.reason}"
        raise GateError(what, where=first.source, fix=f"mend them, or raise --max-bad (now {max_bad:g})")


def _commit(work: Work, plan: Mapping[str, Any], results: Sequence[PartResult]) -> Converted:
    """Write what is left of the tokens, then all lineages, then the indexes: from then on there are data sets."""
    _tell_bad(results)
    splits = [_split_shards(work, index, results) for index in range(len(work.settings.splits))]
    for split, (_, counts, dropped) in zip(work.settings.splits, splits, strict=True):
        _check_rows(work, split, counts, dropped)
    lineages = []
    for split, (shards, counts, dropped) in zip(work.settings.splits, splits, strict=True):
        url = split_url(work.out, split)
        lineage = write_lineage(
            url,
            split,
            plan,
            settings=work.settings,
            counts=counts,
            num_shards=len(shards),
            dropped_tokens=dropped,
            results=results,
        )
        lineages.append(lineage)
    for split, (shards, _, _) in zip(work.settings.splits, splits, strict=True):
        write_index(split_url(work.out, split), shards)
    return Converted(out=work.out, lineages=tuple(lineages))


def _split_shards(work: Work, index: int, results: Sequence[PartResult]) -> tuple[list[ShardInfo], SplitCounts, int]:
    """All shards of a split, its counts, and how many tokens fill no row."""
    shards = [shard for result in results for shard in result.splits[index].shards]
    counts = sum((result.splits[index].counts for result in results), SplitCounts())
    tokens = work.settings.tokens
    if tokens is None:
        return shards, counts, 0
    out = split_url(work.out, work.settings.splits[index])
    rest = np.fromiter(chain.from_iterable(result.splits[index].rest for result in results), dtype=tokens.dtype)
    num_rows = len(rest) // tokens.seq_len
    if num_rows:
        with open_writer(out, work.settings, prefix="rest") as writer:
            cutter = RowCutter(tokens.seq_len, tokens.dtype, lambda rows: writer.write_rows("tokens", rows))
            cutter.add(rest)
            cutter.flush()
            shards += writer.finish()
    return shards, counts + SplitCounts(rows=num_rows), len(rest) - num_rows * tokens.seq_len


def _check_rows(work: Work, split: str | None, counts: SplitCounts, dropped_tokens: int) -> None:
    if counts.rows:
        return
    name = "the data set" if split is None else f"the split '{split}'"
    if work.settings.tokens is None:
        raise UsageError(f"{name} would be empty", where=work.out, fix="give it a larger share, or more documents")
    what = f"{name} would be empty: {dropped_tokens} tokens fill no row of {work.settings.tokens.seq_len}"
    raise UsageError(what, where=work.out, fix=f"lower --seq-len, or give it more text (and remove {work.out})")


def _tell_bad(results: Sequence[PartResult]) -> None:
    num_bad = sum(result.num_bad for result in results)
    for row in bad_documents(results)[:_NUM_SHOWN]:
        _log.warning("%s: left out: %s", row.source, row.reason)
    if num_bad > _NUM_SHOWN:
        _log.warning("%d documents were left out; lineage.json names the first of them", num_bad)
