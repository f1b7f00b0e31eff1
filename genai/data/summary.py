"""What the data is like, in numbers, for the eyes of the user and for the thresholds of `data.checks`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from genai.data.near_duplicates import near_duplicate_groups
from genai.data.rows import Row, RowSet

if TYPE_CHECKING:
    from genai.data.tokenized import TokenizedRows

MAX_ROWS_COMPARED = 100_000
"""With more rows than this, near duplicates between training and evaluation are not looked for."""
_BINS = 20
_PERCENTILES = (5, 25, 50, 75, 95, 99)


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Evaluation rows that training has seen."""

    num_rows: int
    """Evaluation rows."""
    leaked: tuple[int, ...] = ()
    """Indices of those that stand among the training rows, word for word."""
    near: tuple[int, ...] | None = ()
    """Indices of further ones that have a near duplicate there; None where that was not looked for."""


@dataclass(frozen=True, kw_only=True)
class RowsSummary:
    """Rows of one side, before they are tokens."""

    num_rows: int
    """Rows that can be used."""
    num_bad: int
    """Rows that cannot."""
    duplicates: tuple[int, ...] = ()
    """Indices of rows that are an exact copy of an earlier one."""


@dataclass(frozen=True, kw_only=True)
class TokensSummary:
    """Rows of one side as tokens."""

    num_examples: int
    """Examples; more than rows when the chat template rewrites earlier turns."""
    num_tokens: int
    """Tokens of all of them."""
    num_trained_tokens: int
    """Tokens that carry a loss."""
    num_truncated: int
    """Examples that were longer than max_seq_len, the dropped ones among them."""
    num_dropped: int
    """Examples that were left out for that."""
    num_answers_cut: int
    """Examples that lost trained tokens."""
    num_untrained: int
    """Examples in which nothing is trained."""
    num_bad: int
    """Rows that the chat template refused."""
    min_length: int
    """Tokens of the shortest example."""
    max_length: int
    """Tokens of the longest."""
    percentiles: dict[int, int]
    """Per cent to length in tokens."""
    histogram_edges: tuple[int, ...]
    """Limits of the bins in tokens; one more than there are counts."""
    histogram_counts: tuple[int, ...]
    """Examples a bin."""

    @property
    def trained_share(self) -> float:
        """Share of the tokens that carry a loss."""
        return self.num_trained_tokens / max(1, self.num_tokens)

    @property
    def mean_length(self) -> float:
        """Tokens an example."""
        return self.num_tokens / max(1, self.num_examples)


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """Everything that is known of the data before step 1."""

    train: RowsSummary
    """Training rows."""
    evaluation: RowsSummary | None = None
    """Evaluation rows, where there are some."""
    overlap: Overlap | None = None
    """What of the evaluation rows training has seen."""
    train_tokens: TokensSummary | None = None
    """Training rows as tokens."""
    evaluation_tokens: TokensSummary | None = None
    """Evaluation rows as tokens."""

    def to_json(self) -> dict[str, Any]:
        """All numbers, as JSON can hold them; indices of rows become counts."""
        values = _counted(asdict(self))
        for side in ("train_tokens", "evaluation_tokens"):
            tokens = getattr(self, side)
            if tokens is not None:
                values[side] |= {"trained_share": tokens.trained_share, "mean_length": tokens.mean_length}
        return values

    def lines(self) -> list[str]:
        """A few lines for the terminal."""
        lines = _side("train", self.train, self.train_tokens)
        if self.evaluation is not None:
            lines += _side("eval", self.evaluation, self.evaluation_tokens)
        if self.overlap is not None and self.overlap.near:
            lines.append(
                f"{len(self.overlap.near)} of {self.overlap.num_rows} evaluation rows have a near duplicate among the "
                "training rows (data.split.group_by: near_duplicates keeps them together)"
            )
        return lines


def summarise_rows(train: RowSet, evaluation: RowSet | None = None) -> DataSummary:
    """What is known before the rows are tokens; needs neither torch nor transformers."""
    return DataSummary(
        train=_rows_summary(train),
        evaluation=None if evaluation is None else _rows_summary(evaluation),
        overlap=None if evaluation is None else find_overlap(train.rows, evaluation.rows),
    )


def find_overlap(train: Sequence[Row], evaluation: Sequence[Row]) -> Overlap:
    """Evaluation rows whose words stand among the training rows, exactly or nearly."""
    seen = {row.content for row in train}
    leaked = tuple(index for index, row in enumerate(evaluation) if row.content in seen)
    if len(train) + len(evaluation) > MAX_ROWS_COMPARED:
        return Overlap(num_rows=len(evaluation), leaked=leaked, near=None)
    groups = near_duplicate_groups([*train, *evaluation])
    known = set(groups[: len(train)])
    near = tuple(i for i, group in enumerate(groups[len(train) :]) if group in known and i not in set(leaked))
    return Overlap(num_rows=len(evaluation), leaked=leaked, near=near)


def summarise_tokens(tokenized: TokenizedRows) -> TokensSummary:
    """Lengths, truncation and trained share of tokenised rows."""
    import numpy as np

    lengths = tokenized.lengths
    longest = int(lengths.max()) if len(lengths) else 1
    edges = np.unique(np.linspace(0, longest, min(_BINS, longest) + 1).round().astype(int))
    counts, _ = np.histogram(lengths, bins=edges)
    # "lower" gives a length that occurs, not one between two.
    percentiles = np.percentile(lengths, _PERCENTILES, method="lower") if len(lengths) else np.zeros(len(_PERCENTILES))
    return TokensSummary(
        num_examples=len(tokenized),
        num_tokens=tokenized.num_tokens,
        num_trained_tokens=int(tokenized.trained_counts.sum()),
        num_truncated=int(tokenized.truncated.sum()) + tokenized.num_dropped,
        num_dropped=tokenized.num_dropped,
        num_answers_cut=int(tokenized.answer_cut.sum()),
        num_untrained=int((tokenized.trained_counts == 0).sum()),
        num_bad=len(tokenized.bad),
        min_length=int(lengths.min()) if len(lengths) else 0,
        max_length=int(lengths.max()) if len(lengths) else 0,
        percentiles={per_cent: int(value) for per_cent, value in zip(_PERCENTILES, percentiles, strict=True)},
        histogram_edges=tuple(edges.tolist()),
        histogram_counts=tuple(counts.tolist()),
    )


def _rows_summary(rows: RowSet) -> RowsSummary:
    first: dict[str, int] = {}
    duplicates = [index for index, row in enumerate(rows.rows) if first.setdefault(row.key, index) != index]
    return RowsSummary(num_rows=len(rows), num_bad=len(rows.bad), duplicates=tuple(duplicates))


def _counted(values: dict[str, Any]) -> dict[str, Any]:
    """Replace the tuples of indices by `num_...`."""
    counted: dict[str, Any] = {}
    for key, value in values.items():
        if key in ("duplicates", "leaked", "near"):
            counted[f"num_{key}"] = None if value is None else len(value)
        else:
            counted[key] = _counted(value) if isinstance(value, dict) and key != "percentiles" else value
    return counted


def _side(name: str, rows: RowsSummary, tokens: TokensSummary | None) -> list[str]:
    faults = [f"{count} {what}" for count, what in ((len(rows.duplicates), "copies"), (rows.num_bad, "bad")) if count]
    lines = [f"{name}: {rows.num_rows} rows" + (f" ({', '.join(faults)})" if faults else "")]
    if tokens is not None:
        spread = " / ".join(str(tokens.percentiles[per_cent]) for per_cent in (5, 50, 95))
        lines[0] += f", {tokens.num_tokens} tokens, {tokens.trained_share:.0%} of them trained"
        lines.append(
            f"{name}: {spread} tokens a row (5 / 50 / 95 %), longest {tokens.max_length}, "
            f"{tokens.num_truncated} too long, {tokens.num_answers_cut} answers cut off"
        )
    return lines
