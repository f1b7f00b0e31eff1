"""What a rubric is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Need = Literal["reference", "contexts"]
NEEDS: tuple[Need, ...] = get_args(Need)


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """By what answers are judged."""

    name: str
    """In results."""
    criteria: str
    """In words, for the judge; they speak of QUESTION, ANSWER, REFERENCE and PASSAGES."""
    levels: tuple[str, ...] = ()
    """What scores mean, from the lowest to the highest, spread evenly over the judge's scale."""
    needs: frozenset[Need] = frozenset()
    """What an example must have to be judged."""
    shows: frozenset[Need] = frozenset(NEEDS)
    """What the judge is shown beside question and answer, where an example has it."""
    higher_is_better: bool = True
    """False where a high score is bad, as of toxicity."""

    def text(self, scale: tuple[int, int]) -> str:
        """Criteria and scale, for a prompt.

        Args:
            scale: lowest and highest score.
        """
        low, high = scale
        lines = [self.criteria.strip(), "", f"Give a score from {low} to {high}, a whole number:"]
        named = self._named(scale)
        lines += [f"{score}: {meaning}" for score, meaning in named.items()]
        if named and len(named) <= high - low:
            lines.append("Scores between them lie between what these say.")
        if not named:
            better = "best" if self.higher_is_better else "worst"
            lines.append(f"{high} is the {better} there is.")
        return "\n".join(lines)

    def lacks(self, references: Sequence[str], contexts: Sequence[str]) -> str | None:
        """What an example lacks to be judged, in words; None where it has all that is needed.

        Args:
            references: right answers.
            contexts: passages.
        """
        if "reference" in self.needs and not references:
            return f"rubric '{self.name}' needs a reference, which this row has not"
        if "contexts" in self.needs and not contexts:
            return f"rubric '{self.name}' needs passages, which neither the answer nor the row has"
        return None

    def _named(self, scale: tuple[int, int]) -> dict[int, str]:
        """Score -> what it means; of more levels than there are scores only those that fall on one."""
        low, high = scale
        steps = len(self.levels) - 1
        if steps < 1:
            return {}
        if steps <= high - low:
            return {low + round(i * (high - low) / steps): meaning for i, meaning in enumerate(self.levels)}
        return {low + i: self.levels[round(i * steps / (high - low))] for i in range(high - low + 1)}
