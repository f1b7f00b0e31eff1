"""Conditions on measures: `recall@10 > baseline`, `ndcg@10 >= baseline - 0.01`, `faq.token_f1 not significantly worse`.

    condition = measure ((">" | ">=" | "<" | "<=") value | statement)
    measure   = [data set "."] name ["@" K]
    value     = ["+" | "-"] number | "baseline" [("+" | "-") number]
    statement = ("not significantly worse" | "significantly better") ["than baseline"] ["by" number]

A statement is about what is more than chance: `not significantly worse by 0.02` fails where the measure is surely worse
by more than 0.02, and `significantly better by 0.02` holds where it is surely better by more than that.

The text is read by this grammar and by nothing else: it is never run as code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NoReturn, cast, get_args

from genai.config.wording import quotable
from genai.errors import UsageError
from genai.registry import suggest

Sign = Literal[">", ">=", "<", "<="]
Statement = Literal["not significantly worse", "significantly better"]
Operator = Sign | Statement
EXAMPLE = (
    'write a condition like "recall@10 > baseline", "ndcg@10 >= baseline - 0.01", "recall@1 >= 0.6" or '
    '"recall@1 not significantly worse"'
)

_REST_OF_WORD = r"(?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_REST_OF_DATASET = r"(?:[A-Za-z0-9_/-]*[A-Za-z0-9_])?"
_TOKENS = {
    "measure": re.compile(rf"(?:[A-Za-z0-9_]{_REST_OF_DATASET}\.)*[A-Za-z_]{_REST_OF_WORD}(?:@[0-9]+)?(?![\w@./])"),
    "baseline": re.compile(r"baseline(?![\w@.])"),
    "operator": re.compile(r"(?:>=|<=|>|<)(?![<>=])"),
    "statement": re.compile(r"(?:not\s+significantly\s+worse|significantly\s+better)(?![\w@.])"),
    "beginning of a statement": re.compile(r"(?:not|significant|significantly|better|worse)(?![\w@.])"),
    "than baseline": re.compile(r"than\s+baseline(?![\w@.])"),
    "by": re.compile(r"by(?![\w@])"),
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
    """What the measure is compared with; of a comparison with the baseline, how far above the baseline that is; of a
    statement, the difference that is small enough not to matter."""
    from_baseline: bool = False
    """Whether it is a comparison with the baseline; a statement always is."""

    @property
    def dataset(self) -> str | None:
        """What stands before the last dot; None where there is none."""
        return self.metric.rpartition(".")[0] or None

    @property
    def measure(self) -> str:
        """The measure without its data set."""
        return self.metric.rpartition(".")[2]

    @property
    def is_statement(self) -> bool:
        """Whether it is about what is more than chance."""
        return self.operator in get_args(Statement)

    def __str__(self) -> str:
        return f"{self.metric} {self.operator}" + (self._by if self.is_statement else f" {self._bound('baseline')}")

    def judge(
        self,
        value: float,
        *,
        baseline: float | None = None,
        interval: tuple[float, float] | None = None,
        significant: bool = False,
        confidence: float = 0.95,
        higher_is_better: bool = True,
        differs: bool | None = None,
    ) -> Verdict:
        """Hold a value against the condition.

        Args:
            value: of the measure; what is not a number meets no condition.
            baseline: value of the same measure before.
            interval: ends of the interval of value - baseline.
            significant: a comparison with the baseline must also hold at the worse end of the interval: the lower one
                for > and >=, the upper one for < and <=. Other conditions are not touched by it.
            confidence: of the interval.
            higher_is_better: what a statement calls better.
            differs: what a test says of the difference. A statement without a margin goes by it alone, one with a
                margin by the interval too; None: by the interval in both cases.

        Raises:
            UsageError: the condition needs a baseline, or an interval, and there is none.
        """
        if not self.from_baseline:
            return Verdict(passed=self._holds(value, self.number), reason=self._reason(value, self.number))
        if baseline is None:
            raise UsageError(f"the condition '{self}' asks for a baseline, and there is none")
        if self.is_statement:
            return self._judge_statement(value, baseline, interval, confidence, higher_is_better, differs)
        reason = self._reason(
            value, baseline + self.number, baseline=baseline, interval=interval, confidence=confidence
        )
        passed = self._holds(value, baseline + self.number)
        if not (passed and significant):
            return Verdict(passed=passed, reason=reason)
        if interval is None:
            raise UsageError(f"the condition '{self}' asks for an interval of the difference, and there is none")
        end, name = (interval[0], "lower") if self.operator in (">", ">=") else (interval[1], "upper")
        if self._holds(end, self.number):
            return Verdict(passed=True, reason=reason)
        return Verdict(passed=False, reason=f"{reason}, but not at the {name} end of the interval")

    def _judge_statement(
        self,
        value: float,
        baseline: float,
        interval: tuple[float, float] | None,
        confidence: float,
        higher_is_better: bool,
        differs: bool | None,
    ) -> Verdict:
        if interval is None:
            raise UsageError(f"the condition '{self}' asks for an interval of the difference, and there is none")
        towards = 1 if (self.operator == "significantly better") == higher_is_better else -1
        surely = min(towards * end for end in interval) > self.number
        if differs is not None:
            surely = differs and towards * (value - baseline) > 0 if self.number == 0 else differs and surely
        digits = _digits(value, baseline, *interval, self.number)
        compared = f"{self.metric} {value:.{digits}f}, baseline {baseline:.{digits}f}"
        spread = _spread(value - baseline, interval, digits, confidence)
        word = "better" if self.operator == "significantly better" else "worse"
        said = f"{'' if surely else 'not '}significantly {word}{self._by}"
        is_number = not any(map(math.isnan, (value - baseline, *interval)))
        passed = is_number and surely == (self.operator == "significantly better")
        return Verdict(passed=passed, reason=f"{compared} ({spread}): {said if is_number else 'that is no number'}")

    @property
    def _by(self) -> str:
        return f" by {_shortest(self.number)}" if self.number else ""

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
        confidence: float = 0.95,
    ) -> str:
        """The condition in figures, with so many digits that different numbers look different."""
        differences = () if interval is None else (*interval, self.number)
        digits = _digits(value, bound, *(() if baseline is None else (baseline,)), *differences)
        sign = self.operator if self._holds(value, bound) else f"is not {self.operator}"
        compared = f"{self.metric} {value:.{digits}f} {sign} "
        if baseline is None:
            return compared + self._bound("")
        spread = _spread(value - baseline, interval, digits, confidence)
        return f"{compared}{self._bound(f'baseline {baseline:.{digits}f}')} ({spread})"

    def _bound(self, baseline: str) -> str:
        number = _shortest(abs(self.number))
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
    gate = _read_statement(reading, metric) or _read_comparison(reading, metric)
    if known is not None and metric not in known:
        near = suggest(metric, known)
        fix = f"did you mean '{near}'?" if near else f"known: {', '.join(sorted(known))}"
        raise UsageError(f"the condition '{quotable(text)}' names '{quotable(metric)}', which is not measured", fix=fix)
    return gate


def _read_comparison(reading: _Reading, metric: str) -> Gate:
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
    value = reading.finite(number)
    return Gate(
        metric=metric,
        operator=cast(Sign, operator),
        number=-value if sign == "-" else value,
        from_baseline=from_baseline,
    )


def _read_statement(reading: _Reading, metric: str) -> Gate | None:
    """None where what comes next is no statement."""
    if not (reading.sees("statement") or reading.sees("beginning of a statement")):
        return None
    said = reading.take("statement")
    if said is None:
        reading.fail(f"after '{quotable(metric)}' comes 'not significantly worse' or 'significantly better'")
    statement = cast(Statement, " ".join(said.split()))
    reading.take("than baseline")
    by = reading.take("by")
    number = reading.take("number") if by else "0"
    if number is None:
        reading.fail("after 'by' comes a number")
    if not reading.at_end:
        reading.fail(
            "after the margin comes nothing" if by else f"after '{statement}' comes nothing but by and a number"
        )
    return Gate(metric=metric, operator=statement, number=reading.finite(number), from_baseline=True)


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

    def finite(self, number: str) -> float:
        """The value of a number."""
        if not math.isfinite(float(number)):
            raise UsageError(f"'{quotable(self._text)}' is no condition: {number} is too large a number", fix=EXAMPLE)
        return float(number)

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


def _spread(difference: float, interval: tuple[float, float] | None, digits: int, confidence: float) -> str:
    """`+0.054, 95 % +0.031 to +0.078`."""
    if interval is None:
        return f"{difference:+.{digits}f}"
    low, high = interval
    return f"{difference:+.{digits}f}, {100 * confidence:g} % {low:+.{digits}f} to {high:+.{digits}f}"


def _shortest(number: float) -> str:
    return repr(float(number)).removesuffix(".0")


def _digits(*numbers: float) -> int:
    """After the point: so many that numbers which differ are shown as different ones."""
    for digits in range(_FEWEST_DIGITS, _MOST_DIGITS):
        shown = {f"{number:.{digits}f}": number for number in numbers}
        if all(_is_same(number, shown[f"{number:.{digits}f}"]) for number in numbers):
            return digits
    return _MOST_DIGITS


def _is_same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_EQUAL, abs_tol=_EQUAL)
