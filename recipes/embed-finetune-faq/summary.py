"""Prints what all runs of the story brought, side by side, and the mean over those that differ in their seed alone.

python summary.py runs faq docstrings-1 docstrings-2 docstrings-3 cloze generator
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

METRICS = ("recall@1", "recall@10", "ndcg@10")


def main(runs: Path, names: Sequence[str]) -> None:
    """Print a line for each run and measure, and one for each mean over several."""
    files = {name: runs / name / "result.json" for name in names}
    results = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}
    print(f"{'run':<16}{'queries':>8}  {'measure':<10}{'before':>8}{'after':>8}  {'difference, 95 %':<28}{'CPU-s':>6}")
    for story, group in groupby(names, key=lambda name: name.rstrip("0123456789").rstrip("-")):
        members = [results[name] for name in group if name in results]
        for result in members:
            for metric, change in changes_of(result).items():
                figures = f"{change['before']:>8.3f}{change['after']:>8.3f}  {difference(change):<28}"
                print(
                    f"{result['run']:<16}{result['num_queries']:>8}  {metric:<10}{figures}{result['train_cpu_s']:>6.0f}"
                )
        if len(members) > 1:
            print_means(story, members)


def print_means(story: str, results: Sequence[Mapping[str, Any]]) -> None:
    """The means over runs, and whether every single one of their intervals leaves 0 out."""
    for metric in changes_of(results[0]):
        changes = [changes_of(result)[metric] for result in results]
        mean = sum(change["difference"] for change in changes) / len(changes)
        clear = sum(change["low"] > 0 for change in changes)
        print(f"{story}, mean of {len(changes)}: {metric} {mean:+.3f}, above 0 in {clear} of {len(changes)} intervals")


def changes_of(result: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Measure -> its figures before and after."""
    return {change["metric"]: change for change in result["changes"] if change["metric"] in METRICS}


def difference(change: Mapping[str, float]) -> str:
    """A difference with its interval."""
    return f"{change['difference']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
