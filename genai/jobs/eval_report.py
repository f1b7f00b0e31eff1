"""Gathers what an evaluation found into its report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genai.config.eval import EvalConfig
from genai.config.loading import Loaded
from genai.evaluation.files import row_of
from genai.evaluation.records import EvalResult, Scored
from genai.jobs.eval_cards import Rows, example_cards, failures, unscored
from genai.jobs.eval_rows import lower_is_better, measure_rows
from genai.jobs.eval_runs import content_of
from genai.report.evaluation import render_evaluation_report
from genai.report.evaluation_contents import CostRow, EvaluationReport, GateRow
from genai.report.numbers import count, duration
from genai.storage.atomic import write_text
from genai.tracking.run import RunDirectory


def write(
    directory: RunDirectory,
    loaded: Loaded[EvalConfig],
    result: EvalResult,
    scored_by_target: Mapping[str, Sequence[Scored]],
    baseline: Sequence[Scored] | None,
) -> None:
    """Write the report of an evaluation.

    Args:
        directory: of the run.
        loaded: the job file.
        result: what was found.
        scored_by_target: every target's examples, in their order; the baseline may be among them.
        baseline: its examples, where there is one; its name is `result.baseline`.
    """
    rows: Rows = {target: [row_of(target, each) for each in scored] for target, scored in scored_by_target.items()}
    if baseline is not None and result.baseline is not None and result.baseline not in rows:
        rows = {result.baseline: [row_of(result.baseline, each) for each in baseline], **rows}
    cards, num_examples = example_cards(
        rows, baseline=result.baseline, lower_is_better=lower_is_better(result.measured)
    )
    report = EvaluationReport(
        run_name=directory.name,
        status=_status(result),
        started_at=directory.status.created_at,
        targets=[name for name in result.targets if name != result.baseline],
        baseline=result.baseline,
        data=", ".join(result.num_examples),
        facts=_facts(result),
        gates=[
            GateRow(gate=each.gate, target=each.target, passed=each.passed, reason=each.reason) for each in result.gates
        ],
        measures=measure_rows(result.measured),
        averages=result.averages,
        costs=[
            CostRow(
                name=name,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                usd=usage.usd,
            )
            for name, usage in result.usage.items()
        ],
        facts_of_data=_facts_of_data(directory, result),
        failures=failures(rows),
        unscored=unscored(rows),
        examples=cards,
        num_examples=num_examples,
        warnings=result.warnings,
        config=loaded.dump(),
        inputs=directory.read_inputs() or {},
        environment=directory.read_environment() or {},
    )
    write_text(directory.report, render_evaluation_report(report))


def _status(result: EvalResult) -> str:
    if not result.gates:
        return "done"
    return "passed" if result.passed else "failed"


def _facts(result: EvalResult) -> dict[str, str]:
    priced = [usage.usd for usage in result.usage.values() if usage.usd is not None]
    tokens = sum(usage.prompt_tokens + usage.completion_tokens for usage in result.usage.values())
    facts = {
        "examples": count(sum(result.num_examples.values())),
        "targets": count(len(result.targets)),
        "gates": f"{sum(gate.passed for gate in result.gates)} of {len(result.gates)} hold" if result.gates else "",
        "tokens": count(tokens),
        "cost": f"${sum(priced):.4g}" if priced else "",
        "time": duration(result.seconds),
    }
    return {name: text for name, text in facts.items() if text}


def _facts_of_data(directory: RunDirectory, result: EvalResult) -> dict[str, str]:
    facts = {}
    for name, number in result.num_examples.items():
        known = content_of(directory, result, name)
        facts[f"data set {name}"] = f"{count(number)} examples{f', {known}' if known else ''}"
    return facts
