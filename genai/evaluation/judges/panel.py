"""Several judges of one thing: the mean of what they say, and how far they agree.

All must have said something that can be read, else the example is not scored: a mean over whoever happened to answer
would be another measure from one example to the next.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genai.errors import UsageError
from genai.evaluation.costing import add
from genai.evaluation.judges.judge import Judge, Request, Verdict
from genai.evaluation.records import Score, Unscored, Usage
from genai.metrics.agreement import krippendorff_alpha
from genai.registry import suggest

Ask = Callable[[Judge], Awaitable[Verdict | Unscored]]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far the judges of a panel agree."""

    alpha: float
    """Krippendorff's, on the interval scale: 1 always, 0 as by chance; nan where that cannot be told."""
    judges: tuple[str, ...]
    num: int
    """Examples that all of them scored."""


def chosen(judges: Mapping[str, Judge], names: str | Sequence[str] | None, *, metric: str) -> tuple[Judge, ...]:
    """The judges that a metric names; the only one there is where it names none.

    Args:
        judges: all of the job.
        names: one, several, or None.
        metric: for messages.

    Raises:
        UsageError: there is no such judge, or none is named though there are several.
    """
    if names is None:
        if len(judges) == 1:
            return tuple(judges.values())
        fix = (
            f"set judge: {next(iter(judges))}"
            if judges
            else "describe one: judges: {NAME: {model: ..., endpoint: ...}}"
        )
        raise UsageError(f"metric '{metric}' does not say which judge it asks", fix=fix)
    wanted = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    if not wanted:
        raise UsageError(f"metric '{metric}' names no judge", fix="name at least one, or leave the key out")
    for name in wanted:
        if name not in judges:
            near = suggest(name, judges)
            known = f"the judges are: {', '.join(judges)}" if judges else "the job describes none, under judges:"
            raise UsageError(
                f"metric '{metric}' asks judge '{name}', which there is not",
                fix=(f"did you mean '{near}'?" if near else known),
            )
    return tuple(judges[name] for name in wanted)


async def score_of(judges: Sequence[Judge], ask: Ask) -> Score | Unscored:
    """What the judges say of one example, all at once.

    Args:
        judges: at least one.
        ask: puts the question to one of them.

    Returns:
        The mean as the only part, with the reasons; under `details` each judge's share (`judges`), and what it said.

    Raises:
        GenaiError: a judge's target fails for all questions alike.
    """
    verdicts = await asyncio.gather(*map(ask, judges))
    usage = Usage()
    for verdict in verdicts:
        usage = add(usage, verdict.usage or Usage())
    missing = [verdict.reason for verdict in verdicts if isinstance(verdict, Unscored)]
    if missing:
        return Unscored(reason="; ".join(missing), usage=usage)
    opinions = {
        judge.name: verdict.opinion
        for judge, verdict in zip(judges, verdicts, strict=True)
        if isinstance(verdict, Verdict)
    }
    nothing = next((each.reason for each in opinions.values() if each.value is None), None)
    if nothing is not None:
        return Unscored(reason=nothing, usage=usage)
    values = {name: float(each.value) for name, each in opinions.items() if each.value is not None}
    value = math.fsum(values.values()) / len(values)
    notes = [each.reason if len(opinions) == 1 else f"{name}: {each.reason}" for name, each in opinions.items()]
    details: dict[str, Any] = {"judges": values, "said": {name: dict(each.details) for name, each in opinions.items()}}
    return Score(parts=(value,), value=value, note="\n".join(filter(None, notes)), details=details, usage=usage)


def asker(request_of: Callable[[Judge], Request]) -> Ask:
    """Puts one request to each judge, made for its scale."""

    async def ask(judge: Judge) -> Verdict | Unscored:
        return await judge.ask(request_of(judge))

    return ask


def agreement_of(scores: Sequence[Score | Unscored]) -> Agreement | None:
    """How far the judges agree over many examples; None where there was only one.

    Source: Krippendorff 2004, "Content Analysis", chapter 11.
    """
    shares = [score.details["judges"] for score in scores if isinstance(score, Score) and "judges" in score.details]
    names = tuple(shares[0]) if shares else ()
    if len(names) < 2:
        return None
    ratings = np.array([[share[name] for share in shares] for name in names])
    return Agreement(alpha=krippendorff_alpha(ratings, level="interval"), judges=names, num=len(shares))
