"""The report of a tuned embedding model: did retrieval get better, for which queries, by which data, what followed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from genai.report.contents import (
    DroppedQuery,
    LeakedPair,
    MetricChange,
    MovedQuery,
    PairSample,
    RetrievalReport,
    TrialRow,
)
from genai.report.curves import loss_chart, run_charts
from genai.report.html import Html, element, join
from genai.report.intervals import Interval, interval_chart
from genai.report.numbers import count, duration
from genai.report.pieces import fact_list, proof_table, report_page, table, tone
from genai.report.plots import bar

_HEADLINE = "ndcg@10"


def render_retrieval_report(report: RetrievalReport) -> str:
    """One HTML page that needs nothing but itself; all text in it is escaped."""
    sections = {
        "Result": _result(report),
        "Promotion": _promotion(report),
        "Queries": _queries(report),
        "Curves": _curves(report),
        "Search": _search(report.trials, report.trials_metric),
        "Data": _data(report),
        "Labels": _labels(report.samples),
        "Proofs": proof_table(report.proofs),
    }
    return report_page(report, sections, about=[report.model, report.data], headline=_headline(report.changes))


# --- result -----------------------------------------------------------------------------------------------------------


def _headline(changes: Sequence[MetricChange]) -> Html | None:
    if not changes:
        return None
    change = next((each for each in changes if each.metric == _HEADLINE), changes[0])
    words = "did not clearly change" if not change.is_clear else "rose" if change.difference > 0 else "fell"
    return element(
        "p",
        f"{change.metric} {words}: ",
        element("b", f"{_number(change.before)} → {_number(change.after)}"),
        " ",
        _difference(change),
        class_="headline",
    )


def _difference(change: MetricChange) -> Html:
    """The difference as a coloured word; neutral where the interval does not leave 0 out."""
    colour = tone(change.difference > 0) if change.is_clear else "neutral"
    return element("span", _signed(change.difference), class_=f"pill {colour}")


def _result(report: RetrievalReport) -> Html | None:
    queries = f" over {count(report.num_queries)} held-out queries" if report.num_queries else ""
    note = (
        f"Means{queries}, which search all documents. Lines are 95 % intervals by bootstrap; a difference is clear "
        "where its paired interval leaves 0 out."
    )
    parts = [
        _measured(report.changes, "", note),
        *(
            _measured(changes, f"Vectors cut to {dimension} numbers")
            for dimension, changes in sorted(report.shorter.items(), reverse=True)
        ),
        _measured(report.validation, "Validation queries"),
        _measured(report.forgetting, "General set: what is forgotten"),
    ]
    return join(parts) or None


def _measured(changes: Sequence[MetricChange], title: str, note: str = "") -> Html | None:
    if not changes:
        return None
    head = element("h3", title) if title else None
    charts = [_before_and_after(changes), _differences(changes)] if not title else []
    found = [chart for chart in charts if chart is not None]
    return element(
        "div",
        head,
        element("div", *found, class_="charts") if found else None,
        _table(changes),
        element("p", note, class_="note") if note else None,
        class_="block",
    )


def _before_and_after(changes: Sequence[MetricChange]) -> Html | None:
    rows = [
        (
            change.metric,
            [
                Interval(name="before", value=change.before, low=change.before_low, high=change.before_high, colour=2),
                Interval(name="after", value=change.after, low=change.after_low, high=change.after_high, colour=1),
            ],
        )
        for change in changes
    ]
    return interval_chart("Before and after", rows, text=_number)


def _differences(changes: Sequence[MetricChange]) -> Html | None:
    rows = [
        (change.metric, [Interval(name="difference", value=change.difference, low=change.low, high=change.high)])
        for change in changes
    ]
    return interval_chart("Difference, query by query", rows, text=_signed, rule_at=0)


def _table(changes: Sequence[MetricChange]) -> Html:
    rows = [
        element(
            "tr",
            element("th", change.metric, scope="row"),
            element("td", _number(change.before), class_="number"),
            element("td", _number(change.after), class_="number"),
            element("td", _difference(change), class_="number"),
            element("td", f"{_signed(change.low)} to {_signed(change.high)}", class_="number"),
        )
        for change in changes
    ]
    return table(["", "before", "after", "difference", "95 % interval"], rows, "moved")


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "n/a"


def _signed(value: float) -> str:
    return f"{value:+.3f}" if math.isfinite(value) else "n/a"


# --- what followed, which queries -------------------------------------------------------------------------------------


def _promotion(report: RetrievalReport) -> Html | None:
    parts: list[Html] = []
    if report.promoted is not None:
        word = element(
            "span", "promoted" if report.promoted else "not promoted", class_=f"pill {tone(report.promoted)}"
        )
        parts.append(element("p", word, " ", report.promotion_reason))
    facts = fact_list(report.followed, "facts")
    return join([*parts, facts]) or None


def _queries(report: RetrievalReport) -> Html | None:
    return (
        join(
            [
                _moved(f"Further up ({count(report.num_won)})", report.won) if report.won else None,
                _moved(f"Further down ({count(report.num_lost)})", report.lost) if report.lost else None,
            ]
        )
        or None
    )


def _moved(title: str, queries: Sequence[MovedQuery]) -> Html:
    return element("div", element("h3", title), *(_query(query) for query in queries), class_="block")


def _query(moved: MovedQuery) -> Html:
    columns = [
        _column(f"found first before; answer {_rank(moved.rank_before)}", moved.first_before, "base"),
        _column(f"found first after; answer {_rank(moved.rank_after)}", moved.first_after, "tuned"),
        _column("the answer", moved.expected, "expected"),
    ]
    return element(
        "article",
        element("h4", element("span", moved.query, class_="text"), class_="query"),
        element("div", *columns, class_="columns"),
        class_="card",
    )


def _rank(rank: int | None) -> str:
    return "not found" if rank is None else f"at {rank}"


def _column(title: str, text: str, kind: str) -> Html:
    return element("div", element("h4", title), element("p", text or "(nothing)", class_="text"), class_=kind)


# --- curves, search ---------------------------------------------------------------------------------------------------


def _curves(report: RetrievalReport) -> Html | None:
    charts = [loss_chart(report.metrics, y_label="mean over queries"), *run_charts(report.metrics)]
    found = [chart for chart in charts if chart is not None]
    return element("div", *found, class_="charts") if found else None


def _search(trials: Sequence[TrialRow], metric: str) -> Html | None:
    if not trials:
        return None
    scores = [trial.score for trial in trials if trial.score is not None]
    longest = max([score for score in scores if math.isfinite(score)], default=0.0) or 1.0
    rows = [_trial(trial, longest) for trial in sorted(trials, key=lambda trial: (trial.round, -(trial.score or 0.0)))]
    return table(["round", "settings", metric, "", "length", "time"], rows, "trials")


def _trial(trial: TrialRow, longest: float) -> Html:
    settings = ", ".join(f"{key}={value}" for key, value in trial.settings.items())
    won = element("span", "won", class_="pill good") if trial.has_won else None
    score = trial.score
    drawn = (
        element("td", bar(max(0.0, score) / longest if math.isfinite(score) else 0, 1)) if score is not None else None
    )
    return element(
        "tr",
        element("td", str(trial.round + 1)),
        element("th", settings or trial.name, " ", won, scope="row", title=trial.name),
        drawn or element("td", trial.fault or "failed"),
        element("td", "" if score is None else f"{score:.4f}", class_="number"),
        element("td", trial.length, class_="number"),
        element("td", duration(trial.time_s), class_="number"),
        class_="won" if trial.has_won else None,
    )


# --- data -------------------------------------------------------------------------------------------------------------


def _data(report: RetrievalReport) -> Html | None:
    lists = [
        _named("Pairs and documents", report.data_facts),
        _named("Queries that were made", report.made_facts),
        _named("Hard negatives", report.negative_facts),
    ]
    found = [each for each in lists if each is not None]
    parts = [
        element("div", *found, class_="charts") if found else None,
        _dropped(report.dropped),
        _leaked(report.leaked, report.num_leaked),
    ]
    return join(parts) or None


def _named(title: str, facts: Mapping[str, str]) -> Html | None:
    listed = fact_list(facts, "facts")
    return element("div", element("h3", title), listed) if listed else None


def _dropped(queries: Sequence[DroppedQuery]) -> Html | None:
    if not queries:
        return None
    rows = [
        element("tr", element("th", each.query, scope="row"), element("td", each.reason), element("td", each.passage))
        for each in queries
    ]
    title = element("h3", "Some of the queries that were not kept")
    return element("div", title, table(["query", "why", "made of"], rows, "dropped"), class_="block")


def _leaked(pairs: Sequence[LeakedPair], number: int) -> Html | None:
    if not pairs:
        return None
    rows = [
        element(
            "tr",
            element("th", each.text, scope="row"),
            element("td", element("code", each.train)),
            element("td", element("code", each.held_out)),
            element("td", f"{each.similarity:.2f}", class_="number"),
        )
        for each in pairs
    ]
    title = element("h3", f"Training pairs left out, since held-out ones resemble them ({count(number or len(pairs))})")
    columns = ["begins with", "training", "held out", "alike"]
    return element("div", title, table(columns, rows, "leaked"), class_="block")


# --- labels -----------------------------------------------------------------------------------------------------------


def _labels(samples: Sequence[PairSample]) -> Html | None:
    if not samples:
        return None
    note = element(
        "p",
        "Each query shall come nearer to its positive than to its negatives; scores are of the model before training.",
        class_="note",
    )
    return join([note, *(_sample(sample) for sample in samples)])


def _sample(sample: PairSample) -> Html:
    positive = sample.positive_score
    rows = [_scored("positive", "good", sample.positive, positive)]
    for text, score in sample.negatives:
        is_above = score is not None and positive is not None and score > positive
        rows.append(
            _scored("negative, above" if is_above else "negative", "bad" if is_above else "neutral", text, score)
        )
    return element(
        "article",
        element("h3", element("span", sample.query, class_="text"), " ", element("small", sample.title)),
        table(["", "score", "document"], rows, "scores"),
        class_="card",
    )


def _scored(word: str, colour: str, text: str, score: float | None) -> Html:
    return element(
        "tr",
        element("th", element("span", word, class_=f"pill {colour}"), scope="row"),
        element("td", "" if score is None else f"{score:.3f}", class_="number"),
        element("td", text, class_="text"),
    )
