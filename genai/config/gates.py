"""Conditions on measures: `recall@10 > baseline`, `ndcg@10 >= baseline - 0.01`, `faq.token_f1 >= 0.30`.

    condition = measure (">" | ">=" | "<" | "<=") value
    measure   = [data set "."] name ["@" K]
    value     = ["+" | "-"] number | "baseline" [("+" | "-") number]

The text is read by this grammar and by nothing else: it is never run as code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NoReturn, cast

from genai.config.wording import quotable
from genai.errors import UsageError
from genai.registry import suggest

Operator = Literal[">", ">=", "<", "<="]
EXAMPLE = 'write a condition like "recall@10 > baseline", "ndcg@10 >= baseline - 0.01" or "recall@1 >= 0.6"'

_REST_OF_WORD = r"(?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_TOKENS = {
    "measure": re.compile(rf"(?:[A-Za-z0-9_]{_REST_OF_WORD}\.)*[A-Za-z_]{_REST_OF_WORD}(?:@[0-9]+)?(?![\w@.])"),
    "baseline": re.compile(r"baseline(?![\w@.])"),
    "operator": re.compile(r"(?:>=|<=|>|<)(?![<>=])"),
    "sign": re.compile(r"[+-]"),
    "number": re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.%])", re.ASCII),
}
_MEANT = {"=>": ">=", "=<": "<=", "≥": ">=", "≤": "<=", "==": ">=", "=": ">="}
_EQUAL = 1e-12
"""Numbers that differ by less, or by a smaller share of themselves, are one: 0.1 + 0.2 is 0.3 here."""
_FEWEST_DIGITS, _MOST_DIGITS = 3, 6


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a condition is met."""

    passed: bool
    reason: str
    """In figures: `recall@10 0.848 > baseline 0.794 (+0.054, 95 % +0.031 to +0.078)`."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A condition on a measure; `parse_gate` makes it of a text, and `str` gives the text back."""

    metric: str
    """The measure, with its data set where it has one: `recall@10`, `faq.token_f1`."""
    operator: Operator
    number: float
    """What the measure is compared with; of a comparison with the baseline, how far above the baseline that is."""
    from_baseline: bool = False
    """Whether it is a comparison with the baseline."""

    @property
    def dataset(self) -> str | None:
        """What stands before the last dot; None where there is none."""
        return self.metric.rpartition(".")[0] or None

    @property
    def measure(self) -> str:
        """The measure without its data set."""
        return self.metric.rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self._bound('baseline')}"

    def judge(
        self,
        value: float,
        *,
        baseline: float | None = None,
        interval: tuple[float, float] | None = None,
        significant: bool = False,
    ) -> Verdict:
        """Hold a value against the condition.

        Args:
            value: of the measure; what is not a number meets no condition.
            baseline: value of the same measure before.
            interval: ends of the 95 % interval of value - baseline.
            significant: a comparison with the baseline must also hold at the worse end of the interval: the lower one
                for > and >=, the upper one for < and <=. A comparison with a number is not touched by it.

        Raises:
            UsageError: the condition needs a baseline, or an interval, and there is none.
        """
        if not self.from_baseline:
            return Verdict(passed=self._holds(value, self.number), reason=self._reason(value, self.number))
        if baseline is None:
            raise UsageError(f"the condition '{self}' asks for a baseline, and there is none")
        reason = self._reason(value, baseline + self.number, baseline=baseline, interval=interval)
        passed = self._holds(value, baseline + self.number)
        if not (passed and significant):
            return Verdict(passed=passed, reason=reason)
        if interval is None:
            raise UsageError(f"the condition '{self}' asks for an interval of the difference, and there is none")
        end, name = (interval[0], "lower") if self.operator in (">", ">=") else (interval[1], "upper")
        if self._holds(end, self.number):
            return Verdict(passed=True, reason=reason)
        return Verdict(passed=False, reason=f"{reason}, but not at the {name} end of the interval")

    def _holds(self, value: float, bound: float) -> bool:
        if _is_same(value, bound):
            return self.operator in (">=", "<=")
        return value > bound if self.operator in (">", ">=") else value < bound

    def _reason(
        self,
        value: float,
        bound: float,
        *,
        baseline: float | None = None,
        interval: tuple[float, float] | None = None,
    ) -> str:
        """The condition in figures, with so many digits that different numbers look different."""
        differences = () if interval is None else (*interval, self.number)
        digits = _digits(value, bound, *(() if baseline is None else (baseline,)), *differences)
        sign = self.operator if self._holds(value, bound) else f"is not {self.operator}"
        compared = f"{self.metric} {value:.{digits}f} {sign} "
        if baseline is None:
            return compared + self._bound("")
        spread = "" if interval is None else f", 95 % {interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}"
        return f"{compared}{self._bound(f'baseline {baseline:.{digits}f}')} ({value - baseline:+.{digits}f}{spread})"

    def _bound(self, baseline: str) -> str:
        number = repr(float(abs(self.number))).removesuffix(".0")
        if not self.from_baseline:
            return f"-{number}" if self.number < 0 else number
        return f"{baseline} {'+' if self.number > 0 else '-'} {number}" if self.number else baseline


def parse_gate(text: str, *, known: Collection[str] | None = None) -> Gate:
    """Read a condition.

    Args:
        text: for example `recall@10 > baseline`; blanks between its parts are free.
        known: the measures that there are, with their data sets; None: any.

    Raises:
        UsageError: it is none; says what is wrong at which character, and gives an example.
    """
    reading = _Reading(text)
    metric = None if reading.sees("baseline") else reading.take("measure")
    if metric is None:
        reading.fail("it begins with a measure such as recall@10")
    operator = reading.take("operator")
    if operator is None:
        reading.fail(f"after '{quotable(metric)}' comes one of > >= < <=")
    from_baseline = reading.take("baseline") is not None
    sign = reading.take("sign")
    number = reading.take("number") if sign or not from_baseline else "0"
    if number is None:
        reading.fail(f"after '{sign or operator}' comes a number{'' if sign else ' or baseline'}")
    if not reading.at_end:
        more = " but + or - and a number" if from_baseline and not sign else ""
        reading.fail(f"after the value comes nothing{more}")
    if not math.isfinite(float(number)):
        raise UsageError(f"'{quotable(text)}' is no condition: {number} is too large a number", fix=EXAMPLE)
    if known is not None and metric not in known:
        near = suggest(metric, known)
        fix = f"did you mean '{near}'?" if near else f"known: {', '.join(sorted(known))}"
        raise UsageError(f"the condition '{quotable(text)}' names '{quotable(metric)}', which is not measured", fix=fix)
    value = -float(number) if sign == "-" else float(number)
    return Gate(metric=metric, operator=cast(Operator, operator), number=value, from_baseline=from_baseline)


class _Reading:
    """A text that is read from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._rest = text.lstrip()

    @property
    def at_end(self) -> bool:
        return not self._rest

    def sees(self, kind: str) -> bool:
        """Whether this kind of token comes next."""
        return _TOKENS[kind].match(self._rest) is not None

    def take(self, kind: str) -> str | None:
        """The token that comes next if it is of this kind, which is then behind us."""
        match = _TOKENS[kind].match(self._rest)
        if match is None:
            return None
        self._rest = self._rest[match.end() :].lstrip()
        return match[0]

    def fail(self, expected: str) -> NoReturn:
        """Refuse the text: here something else was expected."""
        said = f"'{quotable(self._text)}' is no condition: {expected}"
        if self.at_end:
            raise UsageError(f"{said}, and there it ends", fix=EXAMPLE)
        word = self._rest.split()[0]
        meant = next((right for wrong, right in _MEANT.items() if word.startswith(wrong)), None)
        raise UsageError(
            f"{said}, not '{quotable(word)}' (character {len(self._text) - len(self._rest) + 1})",
            fix=f"write {meant}" if meant else EXAMPLE,
        )


def _digits(*numbers: float) -> int:
    """After the point: so many that numbers which differ are shown as different ones."""
    for digits in range(_FEWEST_DIGITS, _MOST_DIGITS):
        shown = {f"{number:.{digits}f}": number for number in numbers}
        if all(_is_same(number, shown[f"{number:.{digits}f}"]) for number in numbers):
            return digits
    return _MOST_DIGITS


def _is_same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_EQUAL, abs_tol=_EQUAL)
