"""Averages over tasks of in-context learning, as llm-foundry's evaluation gauntlet makes them.

    benchmark   accuracy of LABEL/N-shot (over categories of a task their plain mean), less what guessing reaches,
                divided by 1 less that
    category    mean over its benchmarks, weighted by 1, their examples, or the logarithm of these
    average     plain mean over its categories

A category of which a benchmark was not measured has no value; so has an average of which no category has one.

Source: mosaicml/llm-foundry, llmfoundry/callbacks/eval_gauntlet_callback.py. There such an average is 0.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from genai.config.eval import GauntletBenchmarkConfig, GauntletConfig
from genai.errors import Problem
from genai.evaluation.icl.metrics import ACCURACY
from genai.evaluation.records import Measured
from genai.registry import suggest

DEFAULT_AVERAGE = "default_average"
"""Of all categories, where the job file names no averages."""


def averages(config: GauntletConfig, measured: Sequence[Measured]) -> dict[str, float]:
    """Each category and each average with its value, categories first.

    Args:
        config: what belongs to what.
        measured: of one target; only accuracies of tasks are looked at.
    """
    accuracies = [each for each in measured if each.metric == ACCURACY]
    scores: dict[str, float] = {}
    for category in config.categories:
        found = [_benchmark(config, benchmark, accuracies) for benchmark in category.benchmarks]
        weighted = [each for each in found if each is not None]
        if weighted and len(weighted) == len(found):
            total = sum(weight for _, weight in weighted)
            scores[category.name] = sum(score * weight for score, weight in weighted) / total
    return scores | _means(config, scores)


def problems_of(config: GauntletConfig, labels: Collection[str]) -> list[Problem]:
    """What is wrong with a gauntlet, found before anything is measured.

    Args:
        config: the gauntlet.
        labels: of the tasks of this job: `copa/0-shot`, or `mmlu/5-shot/anatomy` of a category.
    """
    problems = []
    if config.rescale_accuracy and not config.subtract_random_baseline:
        problems.append(
            Problem(
                message="rescale_accuracy needs subtract_random_baseline",
                where="eval_gauntlet.rescale_accuracy",
                fix="set it to false, or subtract_random_baseline to true",
            )
        )
    names = [category.name for category in config.categories]
    for average, members in config.averages.items():
        where = f"eval_gauntlet.averages.{average}"
        if average in names:
            problems.append(Problem(message=f"'{average}' is a category and an average", where=where, fix="rename it"))
        problems += [_unknown(member, names, where) for member in members if member not in names]
    for category in config.categories:
        for benchmark in category.benchmarks:
            where = f"eval_gauntlet.categories.{category.name}.{benchmark.name}"
            if config.rescale_accuracy and benchmark.random_baseline >= 1:
                problems.append(Problem(message="nothing is better than a random_baseline of 1", where=where))
            if not any(_belongs(label, _label(benchmark)) for label in labels):
                near = suggest(_label(benchmark), labels)
                problems.append(
                    Problem(
                        message=f"no task of icl_tasks makes {_label(benchmark)}",
                        where=where,
                        fix=f"did you mean '{near}'?" if near else "add the task, or its number to num_fewshot",
                    )
                )
    return problems


def _unknown(member: str, names: Sequence[str], where: str) -> Problem:
    near = suggest(member, names)
    fix = f"did you mean '{near}'?" if near else f"categories: {', '.join(names)}"
    return Problem(message=f"there is no category '{member}'", where=where, fix=fix)


def _label(benchmark: GauntletBenchmarkConfig) -> str:
    return f"{benchmark.name}/{benchmark.num_fewshot}-shot"


def _belongs(dataset: str, label: str) -> bool:
    """Whether a data set is that task, or one category of it."""
    return dataset == label or dataset.startswith(f"{label}/")


def _benchmark(
    config: GauntletConfig, benchmark: GauntletBenchmarkConfig, accuracies: Sequence[Measured]
) -> tuple[float, float] | None:
    """Score and weight; None where it was not measured."""
    label = _label(benchmark)
    parts = [each for each in accuracies if _belongs(each.dataset, label)]
    parts = [each for each in parts if not math.isnan(each.value)]
    if not parts:
        return None
    score = sum(each.value for each in parts) / len(parts)
    if config.subtract_random_baseline:
        score -= benchmark.random_baseline
        if config.rescale_accuracy:
            score /= 1 - benchmark.random_baseline
    num = sum(each.num + each.num_failed + each.num_unscored for each in parts)
    weights = {"EQUAL": 1.0, "SAMPLE_SZ": float(num), "LOG_SAMPLE_SZ": max(math.log2(max(num, 1)), 1.0)}
    return score, weights[config.weighting]


def _means(config: GauntletConfig, scores: dict[str, float]) -> dict[str, float]:
    wanted = config.averages or {DEFAULT_AVERAGE: [category.name for category in config.categories]}
    means = {}
    for name, members in wanted.items():
        found = [scores[member] for member in members if member in scores]
        if found:
            means[name] = sum(found) / len(found)
    return means
