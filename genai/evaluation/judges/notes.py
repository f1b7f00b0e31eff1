"""What should be said beside a figure that judges gave."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from genai.evaluation.judges.pairwise import turned_share
from genai.evaluation.judges.panel import agreement_of
from genai.evaluation.records import Score, Unscored

_SHOWN_REASONS = 3
_MAX_REASON = 200


def notes_of(scores: Sequence[Score | Unscored]) -> tuple[str, ...]:
    """How far several judges agree, how often a verdict turned with the order, why there were no verdicts.

    Args:
        scores: of one metric on one data set, of one target.
    """
    notes: list[str] = []
    if agreement := agreement_of(scores):
        alpha = "cannot be told" if math.isnan(agreement.alpha) else f"{agreement.alpha:.2f}"
        notes.append(f"judges {', '.join(agreement.judges)}: Krippendorff's alpha {alpha} on {agreement.num} examples")
    if turned := turned_share(scores):
        share, num = turned
        notes.append(f"{share:.0%} of {num} verdicts turned with the order of the answers")
    reasons = Counter(score.reason for score in scores if isinstance(score, Unscored))
    notes += [f"not scored, {count}x: {reason[:_MAX_REASON]}" for reason, count in reasons.most_common(_SHOWN_REASONS)]
    return tuple(notes)
