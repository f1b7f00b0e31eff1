"""The report of a sync: what it took over, what the index holds, how its texts lie, what could not be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genai.report.contents import DocumentRow, IndexReport
from genai.report.html import Html, element, join
from genai.report.numbers import count, duration
from genai.report.pieces import fact_list, report_page, table
from genai.report.plots import histogram
from genai.report.scatter import scatter


def render_index_report(report: IndexReport) -> str:
    """One HTML page that needs nothing but itself; all text in it is escaped."""
    sections = {"Changes": _changes(report), "Map": _map(report), "Documents": _documents(report)}
    return report_page(report, sections, about=[report.source, report.model])


def _changes(report: IndexReport) -> Html | None:
    parts = [_named("Taken over by this sync", report.changes), _named("In the index now", report.holds)]
    lengths = report.lengths
    if lengths is not None:
        mark = (lengths.max_seq_len, f"max_tokens {lengths.max_seq_len}") if lengths.max_seq_len else None
        parts.append(
            histogram("Chunk lengths", lengths.edges, lengths.counts, x_label="tokens", y_label="chunks", mark=mark)
        )
    found = [part for part in parts if part is not None]
    return element("div", *found, class_="charts") if found else None


def _named(title: str, facts: Mapping[str, str]) -> Html | None:
    listed = fact_list(facts, "facts")
    return element("div", element("h3", title), listed) if listed else None


def _map(report: IndexReport) -> Html | None:
    drawing = scatter("Texts by meaning", report.points)
    if drawing is None:
        return None
    note = element("p", report.points_note, class_="note") if report.points_note else None
    return join([drawing, note])


def _documents(report: IndexReport) -> Html | None:
    parts = [
        _document_table("Could not be read; what was there of them before stays", "why", report.failed),
        _document_table("Slowest to read", "", report.slowest),
    ]
    return join(parts) or None


def _document_table(title: str, reason: str, documents: Sequence[DocumentRow]) -> Html | None:
    if not documents:
        return None
    timed = any(document.time_s is not None for document in documents)
    rows = [
        element(
            "tr",
            element("th", document.name, scope="row"),
            element("td", document.detail),
            element("td", "" if document.time_s is None else duration(document.time_s), class_="number")
            if timed
            else None,
        )
        for document in documents
    ]
    head = element("h3", f"{title} ({count(len(documents))})")
    return join(
        [head, table(["document", reason, *(["time"] if timed else [])], rows, "timed" if timed else "documents")]
    )
