"""Variants take turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any


def take_turns(names: Sequence[str], rounds: int, run: Callable[[str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Run every variant once a round, in turn; medians over the rounds."""
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            print(f"round {number + 1}/{rounds}: {name}", file=sys.stderr, flush=True)
            samples[name].append(run(name))
    return {name: medians(found) for name, found in samples.items()}


def medians(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure; a variant that was left out (`skipped`) stays so."""
    if "skipped" in samples[0]:
        return samples[0]
    return {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}
