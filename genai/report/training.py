"""The report of a training run: did it get better, how did it go, what was it trained on, and can it be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from genai.report.contents import AnswerPair, LabelSample, LossRow, TrainingReport
from genai.report.curves import loss_chart, run_charts
from genai.report.html import Html, element, join
from genai.report.numbers import change, compact
from genai.report.pieces import fact_list, proof_table, report_page, table, tone
from genai.report.plots import bar, histogram


def render_training_report(report: TrainingReport) -> str:
    """One HTML page that needs nothing but itself; all text in it is escaped."""
    sections = {
        "Result": _result(report),
        "Curves": _curves(report.metrics),
        "Answers": join([_answer(number, pair) for number, pair in enumerate(report.answers, start=1)]),
        "Data": _data(report),
        "Labels": _labels(report.labels),
        "Proofs": proof_table(report.proofs),
    }
    return report_page(report, sections, about=[report.model, report.data], headline=_headline(report.losses))


def _headline(losses: Sequence[LossRow]) -> Html | None:
    if len(losses) < 2:
        return None
    before, after = losses[0].loss, losses[-1].loss
    better = after < before
    words = f"Held-out loss {'fell' if better else 'did not fall'}:"
    step = element("b", f"{before:.3f} → {after:.3f}")
    return element(
        "p",
        words,
        " ",
        step,
        " ",
        element("span", change(before, after), class_=f"pill {tone(better)}"),
        class_="headline",
    )


def _result(report: TrainingReport) -> Html | None:
    if not report.losses:
        return None
    first = report.losses[0].loss
    longest = max((row.loss for row in report.losses if math.isfinite(row.loss)), default=1.0)
    rows = [
        element(
            "tr",
            element("th", row.name, scope="row"),
            element("td", bar(row.loss / longest if math.isfinite(row.loss) else 0, 1 + (row is report.losses[-1]))),
            element("td", f"{row.loss:.3f}", class_="number"),
            element("td", compact(math.exp(min(row.loss, 700))), class_="number"),
            element("td", "" if row is report.losses[0] else change(first, row.loss), class_="number"),
        )
        for row in report.losses
    ]
    note = "Mean over the trained tokens of the evaluation rows, in nats a token; lower is better."
    return join([table(["", "", "loss", "perplexity", "change"], rows, "losses"), element("p", note, class_="note")])


# --- curves -----------------------------------------------------------------------------------------------------------


def _curves(metrics: Sequence[Mapping[str, float]]) -> Html | None:
    charts = [loss_chart(metrics, y_label="nats a trained token"), *run_charts(metrics)]
    found = [chart for chart in charts if chart is not None]
    return element("div", *found, class_="charts") if found else None


# --- rows -------------------------------------------------------------------------------------------------------------


def _answer(number: int, pair: AnswerPair) -> Html:
    def column(title: str, text: str, kind: str) -> Html:
        return element("div", element("h4", title), element("p", text or "(nothing)", class_="text"), class_=kind)

    columns = [
        column("before", pair.base, "base"),
        column("after", pair.tuned, "tuned"),
        column("expected", pair.expected, "expected"),
    ]
    return element(
        "article",
        element("h3", f"{number}. ", element("span", pair.prompt, class_="text")),
        element("div", *columns, class_="columns"),
        class_="card",
    )


def _data(report: TrainingReport) -> Html | None:
    lengths = report.lengths
    chart = lengths and histogram(
        "Row lengths",
        lengths.edges,
        lengths.counts,
        x_label="tokens",
        y_label="rows",
        mark=(lengths.max_seq_len, f"max_seq_len {lengths.max_seq_len}") if lengths.max_seq_len else None,
    )
    facts = fact_list(report.data_facts, "facts") if report.data_facts else None
    return element("div", facts, chart or None, class_="charts") if facts or chart else None


def _labels(samples: Sequence[LabelSample]) -> Html | None:
    if not samples:
        return None
    note = element(
        "p",
        "The loss is taken on ",
        element("mark", "marked text"),
        " only; the rest is read, not learned.",
        class_="note",
    )
    return join([note, *(_label_sample(sample) for sample in samples)])


def _label_sample(sample: LabelSample) -> Html:
    counted = sample.num_tokens is not None and sample.num_trained_tokens is not None
    caption = f"{sample.num_trained_tokens} of {sample.num_tokens} tokens are trained" if counted else None
    # Neighbours are joined first: an escape sequence may be spread over several tokens.
    stretches = [
        ("".join(text for text, _ in group), trained) for trained, group in groupby(sample.tokens, itemgetter(1))
    ]
    pieces = [element("mark", text) if trained else text for text, trained in stretches]
    return element(
        "article",
        element("h3", element("code", sample.title), " ", caption and element("small", caption)),
        element("pre", *pieces, class_="tokens"),
        class_="card",
    )
