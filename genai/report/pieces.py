"""What all reports are put together from: the page with its head and sections, facts, tables, origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genai.report.contents import ProofOutcome, Report
from genai.report.html import Child, Html, element, join, page
from genai.report.numbers import duration

_STATUS_WORDS = {"done": "good", "passed": "good", "failed": "bad", "died": "bad"}


def report_page(
    report: Report,
    sections: Mapping[str, Html | None],
    *,
    about: Sequence[str] = (),
    headline: Html | None = None,
    parts: Sequence[str] = (),
) -> str:
    """One HTML page that needs nothing but itself; all text in it is escaped.

    Args:
        report: what every report says: of which run, how it ended, figures, warnings, origin.
        sections: title -> content; what is empty is left out. The origin comes last by itself.
        about: what stands under the title, before the moment the run began.
        headline: what was achieved, in one line.
        parts: what the page has beside the common style and script; see `genai.report.html.page`.
    """
    shown = {title: content for title, content in {**sections, "Origin": _origin(report)}.items() if content}
    contents = element("nav", *(element("a", title, href=f"#{title.lower()}") for title in shown))
    return page(
        f"{report.run_name} · genai {report.job}",
        element("header", *_head(report, about, headline), contents),
        element("main", _warnings(report.warnings), *(_section(title, content) for title, content in shown.items())),
        parts=parts,
    )


def fact_list(facts: Mapping[str, str], class_: str) -> Html | None:
    """Names with their values; None when there are none."""
    if not facts:
        return None
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in facts.items()),
        class_=class_,
    )


def table(columns: Sequence[str], rows: Sequence[Html], class_: str) -> Html:
    """Rows (`tr` elements) under the names of their columns."""
    head = element("tr", *(element("th", name, scope="col") for name in columns))
    whole = element("table", element("thead", head), element("tbody", *rows), class_=class_)
    return element("div", whole, class_="scroll")


def pill(status: str) -> Html:
    """A status as a coloured word."""
    return element("span", status, class_=f"pill {_STATUS_WORDS.get(status, 'neutral')}")


def proof_table(proofs: Sequence[ProofOutcome]) -> Html | None:
    """The checks before the first step; None when there were none."""
    if not proofs:
        return None
    rows = [
        element(
            "tr",
            element("th", proof.name, scope="row"),
            element("td", pill(proof.status)),
            element("td", proof.detail),
            element("td", "" if proof.time_s is None else duration(proof.time_s), class_="number"),
        )
        for proof in proofs
    ]
    return table(["proof", "", "", "time"], rows, "proofs")


def tone(better: bool) -> str:
    """The class of what is good or bad."""
    return "good" if better else "bad"


def _section(title: str, content: Html) -> Html:
    return element("section", element("h2", title), content, id=title.lower())


def _head(report: Report, about: Sequence[str], headline: Html | None) -> list[Child]:
    words = [*about, report.started_at.replace("T", " ").replace("+00:00", " UTC")]
    return [
        element("p", f"genai {report.job}", class_="eyebrow"),
        element("h1", report.run_name, " ", pill(report.status)),
        element("p", *_between([element("span", text) for text in words if text], " · "), class_="about"),
        element("p", report.message, class_="message") if report.message else None,
        headline,
        fact_list(report.facts, "tiles"),
    ]


def _warnings(warnings: Sequence[str]) -> Html | None:
    if not warnings:
        return None
    return element("ul", *(element("li", warning) for warning in warnings), class_="warnings", aria_label="warnings")


def _origin(report: Report) -> Html | None:
    parts = [
        _folded("Config, as written", element("pre", report.config)) if report.config else None,
        _folded("Inputs and their fingerprints", _tree(report.inputs)) if report.inputs else None,
        _folded("Environment", _tree(report.environment)) if report.environment else None,
    ]
    return join(parts) or None


def _folded(title: str, content: Html) -> Html:
    return element("details", element("summary", title), content)


def _tree(values: Mapping[str, Any]) -> Html:
    pairs: list[Html] = []
    for key, value in values.items():
        pairs += [element("dt", str(key)), element("dd", _leaf(value))]
    return element("dl", *pairs, class_="tree")


def _leaf(value: Any) -> Html:
    if isinstance(value, Mapping) and value:
        return _tree(value)
    if isinstance(value, list | tuple) and value:
        return element("span", *_between([_leaf(item) for item in value], ", "))
    if value is None or value in ((), [], {}):
        return element("span", "none", class_="note")
    return element("code", str(value))


def _between(children: Sequence[Html], separator: str) -> Sequence[Child]:
    return [piece for child in children for piece in (separator, child)][1:]
