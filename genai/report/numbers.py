"""Numbers as people read them, and round numbers for an axis."""

from __future__ import annotations

import math

_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def compact(value: float, digits: int = 3) -> str:
    """`value` with a few significant digits and an SI suffix: 1234567 -> "1.23M", 0.00012 -> "1.2e-4"."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    for unit, suffix in _SI:
        if abs(value) >= unit:
            return f"{_significant(value / unit, digits)}{suffix}"
    if value == 0 or abs(value) >= 1e-3:
        return _significant(value, digits)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def count(value: float) -> str:
    """A whole number with thin separators: 12345 -> "12,345"."""
    return f"{round(value):,}"


def duration(seconds: float) -> str:
    """Seconds as "0.42 s", "17 s", "3 min 20 s" or "2 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def change(before: float, after: float) -> str:
    """The relative change in percent, with its sign: "-26.3 %"; "n/a" where there is none to tell."""
    if not before or not math.isfinite(before) or not math.isfinite(after):
        return "n/a"
    percent = 100 * (after / before - 1)
    return f"{percent:+.1f} %"


def ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) from at most `low` to at least `high`."""
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12 - math.floor(math.log10(step))) for index in range(first, last + 1)]


def _significant(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e" in text else text
