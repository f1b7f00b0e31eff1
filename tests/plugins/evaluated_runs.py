"""Finished evaluations, made without asking anybody: answers are given, all else is measured as a job would."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from genai.config.eval import MetricConfig, StatisticsConfig
from genai.evaluation.files import EXAMPLES_FILE, RESULT_FILE, write_examples, write_result
from genai.evaluation.gating import judge_gates
from genai.evaluation.interfaces import Metric
from genai.evaluation.measuring import correct, measure
from genai.evaluation.metrics.registry import open_metric
from genai.evaluation.records import Answer, Chat, EvalResult, Example, Failure, Outcome, Score, Scored, Unscored, Usage
from genai.tracking.run import RunDirectory

HOSTILE = "<script>alert(1)</script>"
STATISTICS = StatisticsConfig(num_resamples=500)
METRICS = ("exact_match", "token_f1", "latency_s")
TOPICS = ("floors", "roofs", HOSTILE)


def question(number: int) -> Example:
    """An example with a topic; one of them would like to be markup."""
    return Example(
        id=f"q{number}",
        dataset="faq",
        kind="generation",
        question=Chat(messages=({"role": "user", "content": f"Question {number} {HOSTILE if number == 3 else ''}"},)),
        references=(f"the right answer {number}",),
        slices={"topic": TOPICS[number % 3]},
        cluster=f"document {number // 2}",
        synthetic=number == 5,
    )


def answered(number: int, *, is_right: bool, name: str = "faq") -> Scored:
    """An example with an answer, scored by the real metrics; the answer to question 7 never came."""
    example = replace(question(number), dataset=name)
    usage = Usage(prompt_tokens=20, completion_tokens=5, usd=0.001, latency_s=0.5 + 0.01 * number)
    outcome: Outcome = Answer(text=f"the right answer {number}" if is_right else f"no {HOSTILE} idea", usage=usage)
    if number == 7:
        outcome = Failure(reason=f"HTTP 500: {HOSTILE}", usage=Usage())
        return Scored(example=example, outcome=outcome)
    scores: dict[str, Score | Unscored] = {
        label: asyncio.run(metric.score(example, outcome)) for label, metric in opened().items()
    }
    if number == 9:
        scores["token_f1"] = Unscored(reason=f"the judge said nonsense {HOSTILE}")
    return Scored(example=example, outcome=outcome, scores=scores)


@cache
def opened() -> dict[str, Metric]:
    """The metrics that these evaluations measure."""
    return {name: open_metric(MetricConfig(name=name), judges={}, kind="generation") for name in METRICS}


def answers(rights: Sequence[bool], name: str = "faq") -> list[Scored]:
    """One example for each entry, answered right or wrong."""
    return [answered(number, is_right=is_right, name=name) for number, is_right in enumerate(rights)]


def result_of(
    run: RunDirectory,
    scored: Mapping[str, Sequence[Scored]],
    *,
    baseline: str | None = None,
    gates: Sequence[str] = (),
    fingerprints: Mapping[str, str] | None = None,
) -> EvalResult:
    """What a job makes of answers."""
    targets = [name for name in scored if name != baseline]
    datasets = list(dict.fromkeys(each.example.dataset for all_scored in scored.values() for each in all_scored))
    measured = [
        one
        for dataset in datasets
        for name in [*([] if baseline is None else [baseline]), *targets]
        for one in measure(
            name,
            _of(scored[name], dataset),
            opened(),
            baseline=None if baseline in (None, name) else _of(scored[baseline], dataset),
            statistics=STATISTICS,
            seed=17,
        )
    ]
    found = correct(measured, STATISTICS)
    return EvalResult(
        run=run.name,
        path=str(run.path),
        targets=tuple(targets),
        baseline=baseline,
        measured=tuple(found),
        gates=tuple(judge_gates(gates, found, {"cost_usd": 0.02}, targets=targets, statistics=STATISTICS)),
        usage={name: Usage(prompt_tokens=400, completion_tokens=100, usd=0.02) for name in scored},
        num_examples={dataset: len(_of(next(iter(scored.values())), dataset)) for dataset in datasets},
        fingerprints={
            **dict.fromkeys(datasets, "sha256:rows"),
            **dict.fromkeys(scored, "unknown"),
            **(fingerprints or {}),
        },
        warnings=(f"two rows were left out {HOSTILE}",),
        seconds=12.5,
    )


def _of(scored: Sequence[Scored], dataset: str) -> list[Scored]:
    return [each for each in scored if each.example.dataset == dataset]


def write_run(
    runs_dir: Path,
    name: str,
    scored: Mapping[str, Sequence[Scored]],
    *,
    baseline: str | None = None,
    gates: Sequence[str] = (),
    fingerprints: Mapping[str, str] | None = None,
    targets: Mapping[str, Mapping[str, str]] | None = None,
) -> EvalResult:
    """A run directory as a finished evaluation leaves it; `targets` is what inputs.json notes of them."""
    run = RunDirectory.open(runs_dir, name)
    run.write_config(f"target: m\nmetrics: [{', '.join(METRICS)}]\nstatistics: {{num_resamples: 500}}\n")
    run.write_inputs({"targets": dict(targets or {})})
    result = result_of(run, scored, baseline=baseline, gates=gates, fingerprints=fingerprints)
    write_examples(run.path / EXAMPLES_FILE, scored)
    write_result(run.path / RESULT_FILE, result)
    run.set_status("done")
    return result
