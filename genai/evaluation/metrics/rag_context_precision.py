"""context_precision: whether the passages that help stand first among those that were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genai.evaluation.interfaces import OutcomeKind
from genai.evaluation.judges.judge import Request
from genai.evaluation.judges.judged_metric import JudgedMetric
from genai.evaluation.judges.prompting import (
    conversation_of,
    flags_form,
    flags_schema,
    found_passages,
    passage_sections,
    reference_sections,
)
from genai.evaluation.judges.verdicts import Opinion, Unreadable, read_flags
from genai.evaluation.records import Example, Outcome, Unscored

_TASK = """You judge search results, strictly and impartially.

Say of each PASSAGE whether it is useful to answer the QUESTION: true when it holds something that the answer (see the \
REFERENCE, where one is given) needs, false when it merely speaks of the same subject."""


class ContextPrecision(JudgedMetric):
    """Average precision of the passages, each useful or not by a judge: 1 when all useful ones stand before the others,
    0 when none is useful.

    AP = sum over useful ranks r of (useful among the first r) / r, divided by the number of useful passages

    Source: Es et al. 2023, "RAGAS" (context precision); Manning, Raghavan and Schütze 2008, section 8.4.

    Args:
        judges: all of the job, by name.
        judge: those that this metric asks; by default the only one.
    """

    name = "context_precision"
    what = "whether useful passages stand first among those found (average precision), by a judge"
    kinds = ("generation", "retrieval")
    looks_at: OutcomeKind = "any"

    def request(self, example: Example, outcome: Outcome, scale: tuple[int, int]) -> Request | Opinion | Unscored:
        """See `JudgedMetric`."""
        contexts = found_passages(example, outcome)
        if contexts is None:
            return Unscored(reason="no passages came with the answer, and the row has none")
        if not contexts:
            return Opinion(value=0.0, reason="nothing was found")
        names = [f"passage_{number}" for number in range(1, len(contexts) + 1)]
        sections = [*passage_sections(contexts), *reference_sections(example)]
        return Request(
            messages=conversation_of(example, sections, task=_TASK, form=flags_form(names)),
            json_schema=flags_schema(names),
            read=lambda said: _read(said, names),
        )


def average_precision(useful: Sequence[bool]) -> float:
    """Of a ranking, best first; 0 where nothing is useful."""
    found, total = 0, 0.0
    for rank, is_useful in enumerate(useful, 1):
        if is_useful:
            found += 1
            total += found / rank
    return total / found if found else 0.0


def _read(said: Mapping[str, Any], names: Sequence[str]) -> Opinion | Unreadable:
    useful = read_flags(said, names)
    if isinstance(useful, Unreadable):
        return useful
    return Opinion(
        value=average_precision(useful),
        reason=f"{sum(useful)} of {len(names)} passages useful",
        details={"useful": useful},
    )
