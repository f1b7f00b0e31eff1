"""Rows of examples.jsonl as cards of a report: all answers to an example side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from genai.evaluation.files import ExampleRow
from genai.evaluation.records import Score, Unscored
from genai.report.evaluation_contents import AnswerCell, ExampleCard, FaultRow, ScoreCell, Verdict

MAX_CARDS = 1000
"""A page with more of them is slow to open; the others stay in examples.jsonl."""
_EQUAL = 1e-12
_SHOWN = 5
"""Examples that a fault names."""

Rows = Mapping[str, Sequence[ExampleRow]]
"""Target -> its rows."""


def example_cards(
    rows: Rows, *, baseline: str | None, lower_is_better: Collection[str] = (), limit: int = MAX_CARDS
) -> tuple[list[ExampleCard], int]:
    """The examples as cards, and how many there are.

    Args:
        rows: target -> its rows, the baseline's among them.
        baseline: which target the others are compared with.
        lower_is_better: metrics of which small values are good.
        limit: of cards; faults and differences come first, what is shown stays in the order of the data.
    """
    order = sorted(rows, key=lambda target: target != baseline)
    by_key: dict[tuple[str, str], dict[str, ExampleRow]] = {}
    for target in order:
        for row in rows[target]:
            by_key.setdefault(row.key, {})[target] = row
    cards = [_card(each, baseline, lower_is_better) for each in by_key.values()]
    if len(cards) <= limit:
        return cards, len(cards)
    ranked = sorted(range(len(cards)), key=lambda number: (_rank(cards[number]), number))
    return [cards[number] for number in sorted(ranked[:limit])], len(cards)


def verdict_of(value: float | None, before: float | None, *, lower_is_better: bool) -> Verdict | None:
    """How a score stands beside the baseline's; None where one of them is missing."""
    if value is None or before is None or value != value or before != before:
        return None
    if abs(value - before) <= _EQUAL * max(1.0, abs(value), abs(before)):
        return "tied"
    return "won" if (value > before) != lower_is_better else "lost"


def failures(rows: Rows) -> list[FaultRow]:
    """Examples without an answer, by target and reason; the most frequent first."""
    return _faults((target, row.error, row) for target, each in rows.items() for row in each if row.error is not None)


def unscored(rows: Rows) -> list[FaultRow]:
    """Answers without a score, by metric and reason; the most frequent first."""
    return _faults(
        (label, score.reason, row)
        for each in rows.values()
        for row in each
        for label, score in row.scores.items()
        if isinstance(score, Unscored)
    )


def _faults(found: Iterable[tuple[str, str, ExampleRow]]) -> list[FaultRow]:
    grouped: dict[tuple[str, str], list[ExampleRow]] = {}
    for what, reason, row in found:
        grouped.setdefault((what, reason), []).append(row)
    faults = [
        FaultRow(
            what=what,
            reason=reason,
            num=len(each),
            examples=list(dict.fromkeys(f"{row.dataset} {row.id}" for row in each))[:_SHOWN],
        )
        for (what, reason), each in grouped.items()
    ]
    return sorted(faults, key=lambda fault: -fault.num)


def _card(rows: Mapping[str, ExampleRow], baseline: str | None, lower_is_better: Collection[str]) -> ExampleCard:
    first = next(iter(rows.values()))
    before = rows.get(baseline) if baseline is not None else None
    return ExampleCard(
        dataset=first.dataset,
        id=first.id,
        question=first.question,
        expected=first.references,
        answers=[_cell(row, None if row is before else before, lower_is_better) for row in rows.values()],
        slices=first.slices,
        synthetic=first.synthetic,
    )


def _cell(row: ExampleRow, before: ExampleRow | None, lower_is_better: Collection[str]) -> AnswerCell:
    verdicts: dict[str, Verdict] = {}
    for label in row.scores:
        verdict = verdict_of(
            _value(row, label),
            None if before is None else _value(before, label),
            lower_is_better=label in lower_is_better,
        )
        if verdict is not None:
            verdicts[label] = verdict
    return AnswerCell(
        target=row.target,
        text=row.answer,
        error=row.error,
        scores={label: _score_cell(score) for label, score in row.scores.items()},
        verdicts=verdicts,
        latency_s=row.outcome.usage.latency_s,
        usd=row.outcome.usage.usd,
    )


def _value(row: ExampleRow, label: str) -> float | None:
    score = row.scores.get(label)
    return score.value if isinstance(score, Score) else None


def _score_cell(score: Score | Unscored) -> ScoreCell:
    if isinstance(score, Unscored):
        return ScoreCell(unscored=score.reason)
    return ScoreCell(value=score.value, note=score.note)


def _rank(card: ExampleCard) -> int:
    """0 for faults, 1 for differences from the baseline, 2 for what is as it was."""
    if any(answer.text is None for answer in card.answers):
        return 0
    if any(score.unscored is not None for answer in card.answers for score in answer.scores.values()):
        return 0
    return 1 if any(verdict != "tied" for answer in card.answers for verdict in answer.verdicts.values()) else 2
