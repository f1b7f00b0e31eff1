"""How many samples of each stream make an epoch.

The rules are those of `Stream.apply_weights` in streaming/base/stream.py, mosaicml-streaming 0.13.0:

- relative: all streams have a `proportion`. They share `epoch_size` samples, or as many as there are, accordingly.
- absolute: `repeat` times its samples, `choose` samples, or, with neither, each sample once. No `epoch_size`.
- nothing given but `epoch_size`: in proportion to the streams' samples.

Shares are rounded down; what is left over goes to the largest remainders (there: to streams drawn at random).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from genai.data.token_streams.specs import StreamSpec
from genai.errors import UsageError


def choose_samples(specs: Sequence[StreamSpec], num_samples: Sequence[int], epoch_size: int | None) -> list[int]:
    """Samples of each stream in an epoch.

    Args:
        specs: the streams.
        num_samples: how many samples each has.
        epoch_size: samples of an epoch, where streams are weighted relative to each other or not at all.

    Raises:
        UsageError: the weights contradict each other, are negative, or ask for samples of an empty stream.
    """
    relative = _check(specs, epoch_size)
    if relative or epoch_size is not None:
        weights = [
            Fraction(str(spec.proportion)) if spec.proportion is not None else Fraction(count)
            for spec, count in zip(specs, num_samples, strict=True)
        ]
        chosen = _share(epoch_size or sum(num_samples), weights)
    else:
        chosen = [_absolute(spec, count) for spec, count in zip(specs, num_samples, strict=True)]
    for spec, count, wanted in zip(specs, num_samples, chosen, strict=True):
        if wanted and not count:
            raise UsageError(f"stream {spec.name!r} is empty, but {wanted} of its samples are asked for")
    if not sum(chosen):
        raise UsageError("an epoch of these streams has no sample", fix="look at train_loader.dataset.streams")
    return chosen


def _check(specs: Sequence[StreamSpec], epoch_size: int | None) -> bool:
    """Whether the streams are weighted relative to each other."""
    if not specs:
        raise UsageError("there is no stream", fix="name one below train_loader.dataset.streams")
    for spec in specs:
        given = {"proportion": spec.proportion, "repeat": spec.repeat, "choose": spec.choose}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise UsageError(f"stream {spec.name!r} has both {' and '.join(named)}", fix="give one of them")
        if named and not 0 <= (given[named[0]] or 0) < float("inf"):
            raise UsageError(f"stream {spec.name!r} has a {named[0]} of {given[named[0]]}", fix="give 0 or more")
    relative = [spec.proportion is not None for spec in specs]
    if any(relative) != all(relative):
        without = next(spec.name for spec in specs if spec.proportion is None)
        raise UsageError(f"stream {without!r} has no proportion, but others do", fix="give all of them one, or none")
    absolute = any(spec.repeat is not None or spec.choose is not None for spec in specs)
    if absolute and epoch_size is not None:
        raise UsageError("epoch_size cannot be met where streams have repeat or choose", fix="use proportion")
    if epoch_size is not None and epoch_size <= 0:
        raise UsageError(f"an epoch_size of {epoch_size} has no sample", fix="give 1 or more")
    return all(relative)


def _absolute(spec: StreamSpec, num_samples: int) -> int:
    if spec.repeat is not None:
        return int(spec.repeat * num_samples)
    return num_samples if spec.choose is None else spec.choose


def _share(total: int, weights: Sequence[Fraction]) -> list[int]:
    """`total` in whole parts in proportion to `weights`."""
    whole = sum(weights)
    if not whole:
        raise UsageError("the proportions of all streams are 0")
    exact = [total * weight / whole for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(shares)), key=lambda index: (shares[index] - exact[index], index))
    for index in by_remainder[: total - sum(shares)]:
        shares[index] += 1
    return shares
