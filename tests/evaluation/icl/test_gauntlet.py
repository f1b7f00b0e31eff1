"""Averages of the gauntlet, against figures that llm-foundry's own callback gave for the same accuracies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from genai.config.eval import GauntletBenchmarkConfig, GauntletCategoryConfig, GauntletConfig
from genai.evaluation.icl.gauntlet import averages, problems_of
from genai.evaluation.records import Measured

ACCURACIES = {
    "copa/0-shot": (0.7, 100),
    "arc/3-shot/a": (0.4, 300),
    "arc/3-shot/b": (0.6, 10),
    "jeop/3-shot": (0.2, 40),
    "hella/0-shot": (0.5, 1000),
}
LABELS = list(ACCURACIES)
MEASURED = [
    Measured(target="base", dataset=label, metric="accuracy", value=value, low=0, high=1, num=num, num_clusters=num)
    for label, (value, num) in ACCURACIES.items()
]


def benchmark(name: str, num_fewshot: int = 0, random_baseline: float = 0.0) -> GauntletBenchmarkConfig:
    return GauntletBenchmarkConfig(name=name, num_fewshot=num_fewshot, random_baseline=random_baseline)


KNOWING = GauntletCategoryConfig(name="know", benchmarks=[benchmark("arc", 3, 0.25), benchmark("jeop", 3)])
SENSE = GauntletCategoryConfig(name="sense", benchmarks=[benchmark("copa", 0, 0.5), benchmark("hella", 0, 0.25)])
GONE = GauntletCategoryConfig(name="gone", benchmarks=[benchmark("copa", 0, 0.5), benchmark("nowhere")])


def gauntlet(**values: Any) -> GauntletConfig:
    return GauntletConfig(**{"categories": [KNOWING, SENSE, GONE], **values})


@pytest.mark.parametrize(
    ("values", "know", "sense"),
    [
        ({"weighting": "EQUAL"}, 0.26666666666666666, 0.3666666666666666),
        ({"weighting": "EQUAL", "rescale_accuracy": False}, 0.225, 0.225),
        (
            {"weighting": "EQUAL", "rescale_accuracy": False, "subtract_random_baseline": False},
            0.35,
            0.6,
        ),
        ({"weighting": "SAMPLE_SZ"}, 0.3180952380952381, 0.33939393939393936),
        ({"weighting": "LOG_SAMPLE_SZ"}, 0.2811500951348328, 0.36),
    ],
)
def test_figures_are_those_of_llm_foundry(values: dict[str, Any], know: float, sense: float) -> None:
    found = averages(gauntlet(**values), MEASURED)
    assert found == pytest.approx({"know": know, "sense": sense, "default_average": (know + sense) / 2}, abs=1e-12)


def test_averages_by_name() -> None:
    found = averages(gauntlet(averages={"core": ["know", "sense"], "one": ["know"], "none": ["gone"]}), MEASURED)
    assert list(found) == ["know", "sense", "core", "one"]
    assert found["one"] == found["know"]
    assert found["core"] == pytest.approx((found["know"] + found["sense"]) / 2)


def test_examples_without_a_score_belong_to_the_size_of_a_task() -> None:
    config = gauntlet(weighting="SAMPLE_SZ")
    failing = [replace(each, num=each.num - 5, num_failed=2, num_unscored=3) for each in MEASURED]
    assert averages(config, failing) == averages(config, MEASURED)


def test_other_metrics_are_not_looked_at() -> None:
    other = [replace(each, metric="acc_norm", value=0.0) for each in MEASURED]
    assert averages(gauntlet(), [*MEASURED, *other]) == averages(gauntlet(), MEASURED)
    assert averages(gauntlet(), other) == {}


class TestProblems:
    def test_none(self) -> None:
        assert problems_of(gauntlet(categories=[KNOWING, SENSE]), LABELS) == []

    def test_a_benchmark_that_nothing_measures(self) -> None:
        category = GauntletCategoryConfig(name="x", benchmarks=[benchmark("hela")])
        (problem,) = problems_of(gauntlet(categories=[category]), LABELS)
        assert problem.message == "no task of icl_tasks makes hela/0-shot"
        assert problem.fix == "did you mean 'hella/0-shot'?"

    def test_settings_that_contradict_each_other(self) -> None:
        certain = GauntletCategoryConfig(name="know", benchmarks=[benchmark("copa", 0, 1.0)])
        config = gauntlet(
            categories=[certain], subtract_random_baseline=False, averages={"know": ["know"], "all": ["kno"]}
        )
        said = [problem.message for problem in problems_of(config, LABELS)]
        assert said == [
            "rescale_accuracy needs subtract_random_baseline",
            "'know' is a category and an average",
            "there is no category 'kno'",
            "nothing is better than a random_baseline of 1",
        ]
