"""The memory of processes over time, and whether it grows."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import psutil


@dataclass(frozen=True)
class Sample:
    """What there was at one moment."""

    time_s: float
    """Since the load began."""
    pss: Mapping[str, int]
    """Process -> its share of the memory in bytes; what several have together is divided among them."""
    num_descriptors: int
    """Open files and connections of all processes."""

    @property
    def total(self) -> int:
        """Of all processes, in bytes."""
        return sum(self.pss.values())


def sample(processes: Mapping[str, psutil.Process], time_s: float) -> Sample:
    """Look at processes; one that ends meanwhile is left out."""
    pss, num_descriptors = {}, 0
    for name, process in processes.items():
        with contextlib.suppress(psutil.Error):
            pss[name] = process.memory_full_info().pss
            num_descriptors += process.num_fds()
    return Sample(time_s, pss, num_descriptors)


@dataclass(frozen=True)
class Growth:
    """How much more memory there was at the end of a time than at its beginning."""

    from_s: float
    to_s: float
    level_bytes: float
    """In the mean."""
    slope_bytes_per_min: float
    """Of a straight line (least squares)."""
    share: float
    """What the line rises by from beginning to end, as a share of the level."""
    by_process: Mapping[str, float] = field(default_factory=dict)
    """Bytes a minute of each process that was there all the time."""


def growth(samples: Sequence[Sample], *, warm_up_s: float, window_s: float) -> Growth | None:
    """Over the last `window_s` seconds, but not before `warm_up_s`; None where there is too little to go by."""
    end = samples[-1].time_s if samples else 0.0
    kept = [one for one in samples if one.time_s >= max(warm_up_s, end - window_s)]
    if len(kept) < 10:
        return None
    times = [one.time_s for one in kept]
    level = sum(one.total for one in kept) / len(kept)
    slope = _slope(times, [one.total for one in kept])
    names = [name for name in kept[0].pss if all(name in one.pss for one in kept)]
    return Growth(
        from_s=times[0],
        to_s=times[-1],
        level_bytes=level,
        slope_bytes_per_min=slope * 60,
        share=slope * (times[-1] - times[0]) / level,
        by_process={name: 60 * _slope(times, [one.pss[name] for one in kept]) for name in names},
    )


def _slope(times: Sequence[float], values: Sequence[int]) -> float:
    assert all(earlier < later for earlier, later in pairwise(times))
    mean_time, mean = sum(times) / len(times), sum(values) / len(values)
    above = sum((time - mean_time) * (value - mean) for time, value in zip(times, values, strict=True))
    return above / sum((time - mean_time) ** 2 for time in times)
