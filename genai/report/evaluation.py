"""The report of an evaluation: do the gates hold, how good is each target, where is it worst, answer by answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from genai.report.evaluation_contents import CostRow, EvaluationReport, FaultRow, GateRow, MeasureRow
from genai.report.examples import PART, example_browser
from genai.report.html import Html, element, join
from genai.report.measures import (
    datasets_of,
    difference_pill,
    difference_section,
    figure,
    note_list,
    slice_tables,
    value_charts,
    value_table,
)
from genai.report.numbers import count
from genai.report.pieces import fact_list, report_page, table, tone


def render_evaluation_report(report: EvaluationReport) -> str:
    """One HTML page that needs nothing but itself; all text in it is escaped."""
    sections = {
        "Gates": gate_table(report.gates),
        "Result": _result(report),
        "Differences": difference_section(
            report.measures, baseline=report.baseline or "baseline", columns=_columns(report)
        ),
        "Slices": slice_tables(report.measures, baseline=report.baseline),
        "Failures": _failures(report),
        "Data": fact_list(report.facts_of_data, "facts"),
        "Cost": _costs(report.costs),
        "Examples": example_browser(
            report.examples,
            baseline=report.baseline,
            num_examples=report.num_examples,
            lower_is_better=[measure.metric for measure in report.measures if not measure.higher_is_better],
        ),
    }
    about = [", ".join(report.targets), f"beside {report.baseline}" if report.baseline else "", report.data]
    return report_page(report, sections, about=about, headline=_headline(report), parts=[PART])


def gate_table(gates: Sequence[GateRow]) -> Html | None:
    """The conditions with their figures, those that do not hold first; None when there are none."""
    if not gates:
        return None
    several = len({gate.target for gate in gates}) > 1
    rows = [
        element(
            "tr",
            element("td", _held(gate)),
            element("th", element("code", gate.gate), scope="row"),
            element("td", gate.target) if several else None,
            element("td", gate.reason),
        )
        for gate in sorted(gates, key=lambda gate: gate.passed)
    ]
    return table(["", "gate", *(["target"] if several else []), "in figures"], rows, "gates")


def _held(gate: GateRow) -> Html:
    return element("span", "holds" if gate.passed else "does not hold", class_=f"pill {tone(gate.passed)}")


# --- headline ---------------------------------------------------------------------------------------------------------


def _headline(report: EvaluationReport) -> Html | None:
    if report.gates:
        return _gate_headline(report.gates)
    compared = [measure for measure in report.measures if measure.difference is not None]
    if compared:
        return difference_headline(compared)
    shown = [f"{each.dataset}.{each.metric} {figure(each.value, each.unit)}" for each in report.measures[:3]]
    return element("p", element("b", ", ".join(shown)), class_="headline") if shown else None


def _gate_headline(gates: Sequence[GateRow]) -> Html:
    broken = [gate for gate in gates if not gate.passed]
    if not broken:
        words = "The gate holds" if len(gates) == 1 else f"All {count(len(gates))} gates hold"
        return element("p", element("span", words, class_="pill good"), class_="headline")
    verb = "does" if len(broken) == 1 else "do"
    words = f"{count(len(broken))} of {count(len(gates))} gates {verb} not hold"
    pill = element("span", words, class_="pill bad")
    return element("p", pill, " ", broken[0].reason, class_="headline")


def difference_headline(compared: Sequence[MeasureRow]) -> Html:
    """What changed, of the first metric that clearly did, else of the first one."""
    clear = [each for each in compared if each.difference is not None and each.difference.significant]
    measure = (clear or compared)[0]
    found = measure.difference
    assert found is not None, "only measures that were compared come in"
    words = "did not clearly change" if not clear else "rose" if found.difference > 0 else "fell"
    return element(
        "p",
        f"{measure.dataset}.{measure.metric} {words}: ",
        element("b", f"{figure(found.baseline, measure.unit)} → {figure(found.value, measure.unit)}"),
        " ",
        difference_pill(measure, found),
        class_="headline",
    )


# --- result -----------------------------------------------------------------------------------------------------------


def _result(report: EvaluationReport) -> Html | None:
    columns = _columns(report)
    blocks = [
        _dataset(dataset, [each for each in report.measures if each.dataset == dataset], columns, report.baseline)
        for dataset in datasets_of(report.measures)
    ]
    return join([*blocks, _averages(report.averages)]) or None


def _columns(report: EvaluationReport) -> list[str]:
    """Targets, and the baseline before them where it was measured by itself."""
    measured = dict.fromkeys(measure.target for measure in report.measures)
    return sorted(measured, key=lambda name: name != report.baseline)


def _dataset(dataset: str, measures: Sequence[MeasureRow], columns: Sequence[str], baseline: str | None) -> Html:
    charts = value_charts(measures, columns)
    measured = {measure.target for measure in measures}
    return element(
        "div",
        element("h3", dataset),
        element("div", *charts, class_="charts"),
        value_table(measures, [name for name in columns if name in measured], baseline),
        note_list(measures),
        class_="block",
    )


def _averages(averages: Mapping[str, Mapping[str, float]]) -> Html | None:
    if not averages:
        return None
    names = list(dict.fromkeys(name for each in averages.values() for name in each))
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            *(element("td", figure(each.get(name, math.nan)), class_="number") for each in averages.values()),
        )
        for name in names
    ]
    return element("div", element("h3", "Averages"), table(["", *averages], rows, "values"), class_="block")


# --- faults, cost -----------------------------------------------------------------------------------------------------


def _failures(report: EvaluationReport) -> Html | None:
    parts = [_faults("No answer", "target", report.failures), _faults("Not scored", "metric", report.unscored)]
    return join(parts) or None


def _faults(title: str, what: str, faults: Sequence[FaultRow]) -> Html | None:
    if not faults:
        return None
    rows = [
        element(
            "tr",
            element("th", fault.what, scope="row"),
            element("td", fault.reason),
            element("td", count(fault.num)),
            element("td", ", ".join(fault.examples)),
        )
        for fault in faults
    ]
    total = count(sum(fault.num for fault in faults))
    head = element("h3", f"{title} ({total})")
    return element("div", head, table([what, "why", "examples", "such as"], rows, "faults"), class_="block")


def _costs(costs: Sequence[CostRow]) -> Html | None:
    if not costs:
        return None
    rows = [
        element(
            "tr",
            element("th", cost.name, scope="row"),
            element("td", count(cost.prompt_tokens), class_="number"),
            element("td", count(cost.completion_tokens), class_="number"),
            element("td", "no price" if cost.usd is None else f"${cost.usd:.4g}", class_="number"),
        )
        for cost in costs
    ]
    note = element("p", "Of this run: answers that an earlier one kept cost nothing.", class_="note")
    return join([table(["", "tokens in", "tokens out", "cost"], rows, "costs"), note])
