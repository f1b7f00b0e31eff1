"""What an evaluation takes at most, and whether that is allowed."""

from __future__ import annotations

from collections.abc import Mapping

from genai.config.eval import EvalConfig
from genai.errors import UsageError
from genai.evaluation.costing import Estimate, estimate, estimate_verdicts
from genai.evaluation.judges.judged_metric import JudgedMetric
from genai.evaluation.metrics.win_rate import WinRate
from genai.jobs.eval_inputs import EvalInputs


def estimates_of(inputs: EvalInputs) -> dict[str, Estimate]:
    """What asking every target and judge takes at most."""
    questions = [example.question for example in inputs.examples]
    found = {party.name: estimate(questions, party.config) for party in inputs.parties}
    for suite in inputs.suites:
        for metric in suite.metrics.values():
            if not isinstance(metric, JudgedMetric | WinRate):
                continue
            longest = max((party.config.sampling.max_tokens for party in inputs.targets), default=0)
            sides = 2 if isinstance(metric, WinRate) else 1
            for judge in metric.judges:
                asked = estimate_verdicts(
                    suite.examples,
                    judge.config,
                    max_answer_tokens=longest,
                    num_answers=sides,
                    num_orders=sides,
                )
                times = len(inputs.targets) if sides == 2 else len(inputs.parties)
                for _ in range(times):
                    found[judge.name] = found.get(judge.name, Estimate()) + asked
    return found


def check_budget(estimates: Mapping[str, Estimate], config: EvalConfig) -> None:
    """Refuse a job that would cost more than the job file allows.

    Raises:
        UsageError: it would.
    """
    priced = [each.usd for each in estimates.values() if each.usd is not None]
    if config.max_usd is not None and sum(priced) > config.max_usd:
        raise UsageError(
            f"it may cost ${sum(priced):.4f}, and max_usd is {config.max_usd:g}",
            where="max_usd",
            fix="raise max_usd, ask less (limit of a data set), or allow shorter answers (sampling.max_tokens)",
        )
