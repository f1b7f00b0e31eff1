"""Figures, slices and comparisons of examples whose scores are made up; figures themselves are tested in metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from genai.config.eval import StatisticsConfig
from genai.evaluation.interfaces import Floats
from genai.evaluation.measuring import correct, measure
from genai.evaluation.records import (
    Answer,
    Chat,
    Comparison,
    Example,
    Failure,
    Measured,
    Outcome,
    Score,
    Scored,
    Unscored,
)
from genai.metrics.aggregates import Aggregate, auc, mean, ratio
from genai.metrics.resampling import bootstrap, paired_bootstrap_of
from genai.metrics.sample_size import examples_needed
from genai.metrics.significance import paired_permutation

STATISTICS = StatisticsConfig(num_resamples=2000)


class Given:
    """A metric whose scores are there already."""

    name = "given"
    looks_at = "any"

    def __init__(self, aggregate: Aggregate = mean, *, higher_is_better: bool = True, unit: str = "") -> None:
        self._aggregate, self.higher_is_better, self.unit = aggregate, higher_is_better, unit

    async def score(self, example: Example, outcome: Outcome) -> Score | Unscored:
        raise AssertionError("measuring scores nothing")

    def aggregate(self, parts_NP: Floats, weights_RN: Floats) -> Floats:
        return self._aggregate(parts_NP, weights_RN)


def one(value: float) -> Score:
    return Score(parts=(value,), value=value)


def scored(
    scores: Sequence[Score | Unscored | Failure | float],
    *,
    slices: Callable[[int], dict[str, str]] = lambda row: {},
    cluster: Callable[[int], str | None] = lambda row: None,
    synthetic: bool = False,
) -> list[Scored]:
    """Examples 0, 1, ... of data set faq with one metric, f1."""
    rows = []
    for row, score in enumerate(scores):
        example = Example(
            id=str(row),
            dataset="faq",
            kind="generation",
            question=Chat(prompt="?"),
            slices=slices(row),
            cluster=cluster(row),
            synthetic=synthetic,
        )
        if isinstance(score, Failure):
            rows.append(Scored(example=example, outcome=score))
            continue
        said = one(score) if isinstance(score, float) else score
        rows.append(Scored(example=example, outcome=Answer(text="!"), scores={"f1": said}))
    return rows


def measured(
    rows: Sequence[Scored], metric: Given | None = None, *, baseline: Sequence[Scored] | None = None
) -> Measured:
    [only] = measure("ours", rows, {"f1": metric or Given()}, baseline=baseline, statistics=STATISTICS, seed=3)
    return only


def uniform(seed: int, num: int = 80) -> list[float]:
    return np.random.default_rng(seed).random(num).tolist()


def parts_of(values: Sequence[float]) -> Floats:
    return np.array(values)[:, None]


# --- figures ----------------------------------------------------------------------------------------------------------


def test_a_figure_with_its_interval() -> None:
    values = uniform(0)
    found = measured(scored(values))
    expected = bootstrap(parts_of(values), mean, num_resamples=2000, seed=3)
    assert (found.value, found.low, found.high) == (pytest.approx(np.mean(values)), expected.low, expected.high)
    assert (found.name, found.target, found.dataset, found.metric) == ("faq.f1", "ours", "faq", "f1")
    assert (found.num, found.num_clusters, found.num_failed, found.num_unscored) == (80, 80, 0, 0)
    assert found.comparison is None
    assert found.trusted
    assert not found.synthetic
    assert found.notes == ()


def test_what_failed_or_could_not_be_scored_is_counted_and_left_out() -> None:
    rows = scored(
        [1.0, Failure(reason="HTTP 500"), 0.5, Unscored(reason="nonsense"), Failure(reason="no answer in 1 s")]
    )
    found = measured(rows)
    assert found.value == 0.75
    assert (found.num, found.num_failed, found.num_unscored) == (2, 2, 1)


def test_a_score_of_a_failure_does_not_count() -> None:
    rows = scored([1.0, 1.0])
    rows[1] = Scored(example=rows[1].example, outcome=Failure(reason="HTTP 500"), scores={"f1": one(0.0)})
    assert measured(rows).value == 1


def test_where_nothing_was_scored_nothing_can_be_told() -> None:
    found = measured(scored([Failure(reason="HTTP 500")] * 3), baseline=scored(uniform(0, 3)))
    assert np.isnan([found.value, found.low, found.high]).all()
    assert (found.num, found.num_failed, found.num_unscored) == (0, 3, 0)
    assert found.notes == ("no example was scored",)
    assert found.comparison is None
    assert measure("ours", [], {"f1": Given()}, statistics=STATISTICS) == []


def test_rows_of_one_cluster_are_drawn_together() -> None:
    values = np.repeat(uniform(0, 30), 5).tolist()
    found = measured(scored(values, cluster=lambda row: f"document {row // 5}"))
    assert found.num_clusters == 30
    alone = measured(scored(values))
    assert found.high - found.low > 1.8 * (alone.high - alone.low)


def test_figures_that_are_no_mean_and_say_nothing_of_one_example() -> None:
    parts = np.column_stack([uniform(1), uniform(2)])
    rows = scored([Score(parts=tuple(each)) for each in parts])
    found = measured(rows, Given(ratio, higher_is_better=False, unit="bits"), baseline=rows)
    assert found.value == pytest.approx(parts[:, 0].sum() / parts[:, 1].sum())
    assert found.low < found.value < found.high
    assert (found.unit, found.higher_is_better) == ("bits", False)
    assert found.comparison is not None
    assert (found.comparison.wins, found.comparison.losses, found.comparison.ties) == (0, 0, 0)


def test_several_metrics_keep_their_order_and_their_rows() -> None:
    first, second = uniform(0, 40), uniform(1, 40)
    rows = [
        Scored(
            example=each.example,
            outcome=each.outcome,
            scores={"a": one(first[row]), "b": one(second[row]) if row % 2 else Unscored(reason="odd")},
        )
        for row, each in enumerate(scored(first))
    ]
    found = measure("ours", rows, {"b": Given(), "a": Given()}, statistics=STATISTICS, seed=1)
    assert [each.metric for each in found] == ["b", "a"]
    assert [each.num for each in found] == [20, 40]
    assert found[0].value == pytest.approx(np.mean(second[1::2]))
    alone = bootstrap(parts_of(second[1::2]), mean, num_resamples=2000, seed=1)
    assert (found[0].low, found[0].high) == (alone.low, alone.high)


def test_made_up_questions_and_doubtful_judges_are_told() -> None:
    rows = scored(uniform(0), synthetic=True)
    [found] = measure("ours", rows, {"f1": Given()}, statistics=STATISTICS, untrusted={"f1": "not calibrated"})
    assert found.synthetic
    assert not found.trusted
    assert found.notes == ("not calibrated",)


# --- what a reader should beware of -----------------------------------------------------------------------------------


def test_few_examples_are_told() -> None:
    assert measured(scored(uniform(0, 12))).notes == ("only 12 examples: the interval is rough, and rather too narrow",)
    [note] = measured(scored(uniform(0, 60), cluster=lambda row: str(row % 4))).notes
    assert note.startswith("only 4 independent groups of examples")


def test_an_interval_without_width_is_told() -> None:
    found = measured(scored([1.0] * 40))
    assert (found.low, found.high) == (1, 1)
    assert found.notes == ("all examples score the same, so the interval has no width; that does not make it sure",)


def test_a_figure_that_cannot_be_told_is_told() -> None:
    found = measured(scored([Score(parts=(1.0, score)) for score in uniform(0, 30)]), Given(auc))
    assert math.isnan(found.value)
    assert found.notes == ("it cannot be told from the examples that were scored",)


def test_resamples_without_a_positive_are_left_out() -> None:
    rows = [Score(parts=(float(row < 2), score)) for row, score in enumerate(uniform(0, 30))]
    found = measured(scored(rows), Given(auc))
    assert 0 <= found.low <= found.value <= found.high <= 1


# --- slices -----------------------------------------------------------------------------------------------------------


def test_slices_come_worst_first_and_tiny_ones_last() -> None:
    values = [0.2 + 0.01 * (row % 3) if row % 2 else 0.8 for row in range(40)] + [0.0]
    rows = scored(
        values, slices=lambda row: {"topic": "rare" if row == 40 else "floors" if row % 2 else "walls", "lang": "en"}
    )
    found = measured(rows)
    assert [(each.column, each.value, each.num) for each in found.slices] == [
        ("topic", "floors", 20),
        ("lang", "en", 41),
        ("topic", "walls", 20),
        ("topic", "rare", 1),
    ]
    worst = found.slices[0]
    assert worst.measured == pytest.approx(np.mean(values[1:40:2]))
    assert worst.low < worst.measured < worst.high
    found = measured(rows, Given(higher_is_better=False))
    assert [each.value for each in found.slices] == ["walls", "en", "floors", "rare"]


def test_a_slice_has_its_own_interval() -> None:
    generator = np.random.default_rng(0)
    values = [*generator.normal(0.5, 0.2, 300), *generator.normal(0.2, 0.05, 300)]
    found = measured(scored(values, slices=lambda row: {"half": "first" if row < 300 else "second"}))
    for each, of_slice in zip(found.slices, (values[300:], values[:300]), strict=True):
        expected = bootstrap(parts_of(of_slice), mean)
        width = expected.high - expected.low
        assert (each.low, each.high) == pytest.approx((expected.low, expected.high), abs=0.15 * width)


# --- comparisons ------------------------------------------------------------------------------------------------------


def compared(ours: Measured) -> Comparison:
    assert ours.comparison is not None
    return ours.comparison


def test_a_comparison_is_that_of_the_pairs() -> None:
    base = uniform(0)
    ours = (np.array(base) + np.random.default_rng(1).normal(0.05, 0.1, 80)).tolist()
    found = compared(measured(scored(ours), baseline=scored(base)))
    difference = paired_bootstrap_of(parts_of(base), parts_of(ours), mean, num_resamples=2000, seed=3)
    assert (found.value, found.baseline) == (pytest.approx(np.mean(ours)), pytest.approx(np.mean(base)))
    assert found.difference == pytest.approx(found.value - found.baseline)
    assert (found.low, found.high) == pytest.approx((difference.low, difference.high), abs=1e-12)
    p_value = paired_permutation(parts_of(base), parts_of(ours), mean, num_resamples=2000, seed=3)
    assert found.p_value == p_value == found.p_adjusted
    assert found.significant
    assert p_value == pytest.approx(stats.ttest_rel(ours, base).pvalue, abs=0.01)
    wins = int((np.array(ours) > base).sum())
    assert (found.num, found.wins, found.losses, found.ties) == (80, wins, 80 - wins, 0)
    needed = examples_needed(np.array(ours) - base)
    assert needed is not None
    assert found.needed == pytest.approx(needed, rel=0.1)


def test_pairs_are_found_by_id_and_only_those_that_both_have() -> None:
    base = scored([0.1, 0.2, Failure(reason="x"), 0.4, 0.5])
    ours = scored([Unscored(reason="x"), 0.3, 1.0, 0.4, 0.4, 0.9])
    found = measured(ours, baseline=base[::-1])
    assert found.num == 5
    comparison = compared(found)
    assert (comparison.num, comparison.wins, comparison.losses, comparison.ties) == (3, 1, 1, 1)
    assert comparison.value == pytest.approx((0.3 + 0.4 + 0.4) / 3)
    assert comparison.baseline == pytest.approx((0.2 + 0.4 + 0.5) / 3)


def test_less_is_a_win_where_less_is_better() -> None:
    found = compared(measured(scored([1.0, 2.0]), Given(higher_is_better=False), baseline=scored([2.0, 1.5])))
    assert (found.wins, found.losses) == (1, 1)
    assert found.difference == pytest.approx(-0.25)


def test_the_same_answers_do_not_differ() -> None:
    found = compared(measured(scored(uniform(0)), baseline=scored(uniform(0))))
    assert (found.difference, found.low, found.high, found.p_value, found.ties) == (0, 0, 0, 1, 80)
    assert not found.significant
    assert found.needed is None


def test_clusters_count_as_one_in_a_comparison() -> None:
    def document(row: int) -> str:
        return f"document {row // 16}"

    better = [value + 0.1 for value in uniform(0)]
    alone = compared(measured(scored(better), baseline=scored(uniform(0))))
    together = compared(measured(scored(better, cluster=document), baseline=scored(uniform(0), cluster=document)))
    assert alone.significant
    assert together.p_value == pytest.approx(2 / 2**5)
    assert not together.significant


def test_too_few_examples_are_told_with_how_many_it_takes() -> None:
    base, ours = uniform(0), uniform(1)
    found = measured(scored(ours), baseline=scored(base))
    needed = compared(found).needed
    assert needed is not None
    assert 3000 < needed < 5000  # 2 * 1/12 * (1.96 + 0.84)^2 / 0.02^2 = 3,271 of independent uniform scores
    [note] = found.notes
    assert note.startswith("80 examples show a difference of 0.02 with a chance of 7 %; for 80 % it takes about")
    assert note.endswith(str(needed))


def test_points_are_told_of_shares_only() -> None:
    base, ours = scored([100 * value for value in uniform(0)]), scored([100 * value for value in uniform(1)])
    assert compared(measured(ours, baseline=base)).needed is None
    seconds = measured(scored(uniform(0)), Given(unit="s"), baseline=scored(uniform(1)))
    assert compared(seconds).needed is None


def test_a_difference_that_cannot_be_told_is_not_significant() -> None:
    rows = scored([Score(parts=(1.0, score)) for score in uniform(0, 30)])
    others = scored([Score(parts=(1.0, score)) for score in uniform(1, 30)])
    found = compared(measured(rows, Given(auc), baseline=others))
    assert np.isnan([found.p_value, found.difference, found.low]).all()
    assert not found.significant
    assert found.needed is None


# --- the whole job ----------------------------------------------------------------------------------------------------


def test_many_comparisons_are_corrected_together() -> None:
    base = uniform(0)
    rows = [
        measured(scored((np.array(base) + shift).tolist()), baseline=scored(base))
        for shift in (np.random.default_rng(1).normal(0.02, 0.08, 80), np.random.default_rng(2).normal(0, 0.1, 80))
    ]
    rows.insert(1, measured(scored(base)))
    found = correct(rows, STATISTICS)
    alone = [compared(rows[0]).p_value, compared(rows[2]).p_value]
    assert [compared(found[0]).p_adjusted, compared(found[2]).p_adjusted] == pytest.approx(
        [2 * alone[0], max(alone[1], 2 * alone[0])]
    )
    assert found[1] == rows[1]
    [only] = correct(rows[:1], STATISTICS)
    assert only == rows[0]


@pytest.mark.parametrize(("correction", "significant"), [("none", True), ("holm", False)])
def test_a_correction_may_take_significance_away(correction: str, significant: bool) -> None:
    zeros = scored([0.0] * 6)
    rows = [measured(scored([1.0] * 6), baseline=zeros), measured(scored([0.0] * 6), baseline=zeros)]
    assert compared(rows[0]).p_value == pytest.approx(2 / 2**6)
    found = correct(rows, StatisticsConfig(correction=correction))  # type: ignore[arg-type]
    assert compared(found[0]).significant == significant


# --- what it promises -------------------------------------------------------------------------------------------------


def rows_of(values: dict[str, np.ndarray], documents: np.ndarray) -> list[Scored]:
    return [
        Scored(
            example=Example(
                id=str(row), dataset="faq", kind="generation", question=Chat(prompt="?"), cluster=str(document)
            ),
            outcome=Answer(text="!"),
            scores={label: one(float(each[row])) for label, each in values.items()},
        )
        for row, document in enumerate(documents)
    ]


@pytest.mark.slow
def test_jobs_that_compare_the_same_with_the_same_seldom_find_anything() -> None:
    generator = np.random.default_rng(0)
    alarms = first_metric = 0
    for trial in range(2000):
        documents = np.repeat(np.arange(25), generator.integers(1, 4, 25))

        def scores(documents: np.ndarray = documents) -> dict[str, np.ndarray]:
            """Of one system, which is better at some documents."""
            liking = generator.normal(0, 0.2, 25)[documents]
            return {label: liking + generator.normal(0, 0.2, len(documents)) for label in ("f1", "bleu", "rouge")}

        metrics = dict.fromkeys(("f1", "bleu", "rouge"), Given())
        statistics = StatisticsConfig(num_resamples=499)
        found = measure(
            "ours",
            rows_of(scores(), documents),
            metrics,
            baseline=rows_of(scores(), documents),
            statistics=statistics,
            seed=trial,
        )
        first_metric += compared(found[0]).significant
        alarms += any(compared(each).significant for each in correct(found, statistics))
    assert 0.04 <= first_metric / 2000 <= 0.06
    assert 0.02 <= alarms / 2000 <= 0.06  # less than 0.05, as three metrics of the same answers rise and fall together


@pytest.mark.slow
def test_a_difference_is_seen_with_as_many_examples_as_were_said_to_be_needed() -> None:
    generator = np.random.default_rng(1)

    def trial(num: int, better_by: float, seed: int, num_resamples: int = 999) -> Comparison:
        hardness = generator.uniform(0.2, 0.7, num)
        base, ours = (hardness + generator.uniform(-0.1, 0.1, num) for _ in range(2))
        [found] = measure(
            "ours",
            rows_of({"f1": ours + better_by}, np.arange(num)),
            {"f1": Given()},
            baseline=rows_of({"f1": base}, np.arange(num)),
            statistics=StatisticsConfig(num_resamples=num_resamples),
            seed=seed,
        )
        return compared(found)

    needed = trial(5000, 0.0, 0, num_resamples=10_000).needed
    assert needed is not None
    assert needed == pytest.approx(133, abs=6)  # 2 * 0.2^2 / 12 * (1.96 + 0.84)^2 / 0.02^2 + 1.92
    seen = sum(trial(needed, 0.02, seed).significant for seed in range(2000))
    assert 0.77 <= seen / 2000 <= 0.83
