"""Examples with all answers side by side, and controls that show the ones that are looked for.

The cards are plain HTML; `examples.js` only hides and orders them. Without it all of them show, and no controls.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from genai.report.evaluation_contents import AnswerCell, ExampleCard, ScoreCell, Verdict
from genai.report.html import Html, element, join
from genai.report.numbers import compact, count, duration

PART = "examples"
"""Of a page that has a browser; see `genai.report.html.page`."""
_CHARACTERS = 4000
"""Of a text; what is longer is cut."""
_MOST_SLICES = 200
_TONES: Mapping[Verdict | None, str] = {"won": "good", "lost": "bad", "tied": "neutral", None: "neutral"}


def example_browser(
    cards: Sequence[ExampleCard],
    *,
    baseline: str | None,
    num_examples: int,
    lower_is_better: Collection[str] = (),
) -> Html | None:
    """The examples, with controls; None when there are none.

    Args:
        cards: what is shown, in the order of the data.
        baseline: the target that the others are compared with.
        num_examples: how many there are; a note says so when not all are shown.
        lower_is_better: metrics of which small values are good.
    """
    if not cards:
        return None
    note = None
    if num_examples > len(cards):
        words = f"{count(len(cards))} of {count(num_examples)} examples: faults and differences first."
        note = element("p", f"{words} All of them are in examples.jsonl.", class_="note")
    shown = [_card(card, baseline, lower_is_better) for card in cards]
    return join([note, _controls(cards, baseline), element("div", *shown, class_="examples")])


# --- controls ---------------------------------------------------------------------------------------------------------


def _controls(cards: Sequence[ExampleCard], baseline: str | None) -> Html:
    answers = [answer for card in cards for answer in card.answers]
    targets = list(dict.fromkeys(answer.target for answer in answers if answer.target != baseline))
    metrics = list(dict.fromkeys(label for answer in answers for label in answer.scores))
    slices = list(dict.fromkeys(each for card in cards for each in _slices(card)))[:_MOST_SLICES]
    verdicts = {"": "all", "failed": "without an answer", "unscored": "not scored"}
    orders = {"": "as in the data", "worst": "worst first", "best": "best first"}
    if baseline is not None:
        verdicts = {"": "all", "won": "won", "lost": "lost", "tied": "tied", **verdicts}
        orders |= {"loss": "largest losses first", "gain": "largest gains first"}
    return element(
        "div",
        _choice("dataset", "data set", {"": "all", **{name: name for name in _datasets(cards)}}, at_least=3),
        _choice("target", "target", {name: name for name in targets}, at_least=2),
        _choice("metric", "metric", {name: name for name in metrics}, at_least=1),
        _choice("verdict", "examples", verdicts),
        _choice("slice", "slice", {"": "all", **{each: each for each in slices}}, at_least=2),
        _choice("order", "order", orders),
        element("label", "text", element("input", type="search", name="text", autocomplete="off")),
        element("output", role="status"),
        class_="controls",
        hidden=True,
    )


def _choice(name: str, title: str, options: Mapping[str, str], at_least: int = 1) -> Html | None:
    """A labelled choice; None where there is nothing to choose."""
    if len(options) < at_least:
        return None
    listed = [element("option", words, value=value) for value, words in options.items()]
    return element("label", title, element("select", *listed, name=name, autocomplete="off"))


def _datasets(cards: Sequence[ExampleCard]) -> list[str]:
    return list(dict.fromkeys(card.dataset for card in cards))


def _slices(card: ExampleCard) -> list[str]:
    return [f"{column} = {value}" for column, value in card.slices.items()]


# --- cards ------------------------------------------------------------------------------------------------------------


def _card(card: ExampleCard, baseline: str | None, lower_is_better: Collection[str]) -> Html:
    columns = [_answer(answer, is_baseline=answer.target == baseline) for answer in card.answers]
    expected = [element("p", _cut(text), class_="text") for text in card.expected]
    if expected:
        columns.append(element("div", element("h4", "expected"), *expected, class_="expected"))
    marks = [element("span", each, class_="pill neutral") for each in _slices(card)]
    marks += [element("span", "synthetic", class_="pill neutral")] if card.synthetic else []
    return element(
        "article",
        element("h3", f"{card.dataset} {card.id} ", *marks, class_="title"),
        element("p", _cut(card.question), class_="text question"),
        element("div", *columns, class_="columns"),
        class_="card example",
        data_dataset=card.dataset,
        data_slices=_json(_slices(card)),
        data_answers=_json(_facts(card, baseline, lower_is_better)),
    )


def _answer(answer: AnswerCell, *, is_baseline: bool) -> Html:
    took = [
        *([duration(answer.latency_s)] if answer.latency_s is not None else []),
        *([f"${answer.usd:.2g}"] if answer.usd is not None else []),
    ]
    title = f"{answer.target} (baseline)" if is_baseline else answer.target
    return element(
        "div",
        element("h4", title),
        element("p", _score_pills(answer), class_="scores") if answer.scores else None,
        _said(answer),
        *(_note(label, score) for label, score in answer.scores.items()),
        element("small", ", ".join(took)) if took else None,
        class_="base" if is_baseline else "tuned",
    )


def _said(answer: AnswerCell) -> Html:
    if answer.text is None:
        return element("p", f"no answer: {_cut(answer.error or 'unknown')}", class_="text message")
    return element("p", _cut(answer.text) or "(nothing)", class_="text")


def _score_pills(answer: AnswerCell) -> Html:
    pills = []
    for label, score in answer.scores.items():
        verdict = answer.verdicts.get(label)
        if score.value is None and verdict is None:
            continue
        words = [label, *([compact(score.value)] if score.value is not None else []), *([verdict] if verdict else [])]
        pills += [element("span", " ".join(words), class_=f"pill {_TONES[verdict]}"), " "]
    return join(pills)


def _note(label: str, score: ScoreCell) -> Html | None:
    if score.unscored is not None:
        return element("small", f"{label}: not scored, {_cut(score.unscored)}", class_="line message")
    return element("small", f"{label}: {_cut(score.note)}", class_="line text") if score.note else None


def _cut(text: str) -> str:
    more = len(text) - _CHARACTERS
    return text if more <= 0 else f"{text[:_CHARACTERS]} ... ({count(more)} more characters)"


def _facts(card: ExampleCard, baseline: str | None, lower_is_better: Collection[str]) -> dict[str, object]:
    """What the script filters and orders by: target -> metric -> verdict, value and gain, the higher the better."""
    values = {answer.target: _values(answer, lower_is_better) for answer in card.answers}
    before = values.get(baseline, {}) if baseline is not None else {}
    return {
        answer.target: {
            "failed": answer.text is None,
            "unscored": [label for label, score in answer.scores.items() if score.unscored is not None],
            "verdicts": dict(answer.verdicts),
            "values": values[answer.target],
            "gains": {
                label: value - before[label] for label, value in values[answer.target].items() if label in before
            },
        }
        for answer in card.answers
        if answer.target != baseline
    }


def _values(answer: AnswerCell, lower_is_better: Collection[str]) -> dict[str, float]:
    found = {label: score.value for label, score in answer.scores.items() if score.value is not None}
    return {label: -value if label in lower_is_better else value for label, value in found.items()}


def _json(value: object) -> str:
    return json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=False)


def _finite(value: object) -> object:
    """Numbers that JSON has no word for are left out."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items() if not _is_odd(each)}
    return value


def _is_odd(value: object) -> bool:
    return isinstance(value, float) and (value != value or value in (float("inf"), float("-inf")))
