"""Metrics of answers that rest on passages, against a server that checks by a rule of its own, over real HTTP."""

from __future__ import annotations

import re

import pytest
from judging import answer, example, judge_of, opened, sections, told
from loops import on_a_loop
from openai_upstream import openai_upstream

from genai.config.eval import MetricConfig
from genai.evaluation.interfaces import Metric
from genai.evaluation.metrics.rag_context_precision import average_precision
from genai.evaluation.metrics.registry import open_metric
from genai.evaluation.records import Answer, Example, Outcome, Query, Ranking, Score, Unscored

BEES = ("Bees eat honey.", "Bees fly far.", "Wax melts.")


def checker(body):
    """A sentence is supported when a passage holds it, word by word."""
    shown = sections(body)
    passages = {name: text for name, text in shown.items() if name.startswith("PASSAGE")}
    form = body["response_format"]["json_schema"]["schema"]["required"][0].partition("_")[0]
    if form == "claims":
        source = shown.get("ANSWER") or shown["REFERENCE"]
        sentences = [each for each in re.findall(r"[^.]+\.", source) if "?" not in each]
        return told(
            claims=[
                {"claim": each.strip(), "supported": any(each.strip() in text for text in passages.values())}
                for each in sentences
            ]
        )
    if form == "passage":
        flags = [shown["REFERENCE"].strip(".").lower() in text.lower() for text in passages.values()]
        return told(**{f"passage_{i}": flag for i, flag in enumerate(flags, 1)})
    cited = re.findall(r"(\d+)\. (PASSAGE \d+): (.*)", shown["CITATIONS"])
    return told(**{f"citation_{i}": text in passages[name] for i, name, text in cited})


async def scored(name: str, row: Example, outcome: Outcome) -> Score | Unscored:
    with openai_upstream() as upstream:
        upstream.answer = checker
        async with opened(judge_of(upstream.url)) as judges:
            metric: Metric = open_metric(MetricConfig(name=name), judges=judges, kind=row.kind)
            return await metric.score(row, outcome)


@on_a_loop
async def test_groundedness_is_the_share_of_supported_claims() -> None:
    score = await scored("groundedness", example(), answer("Bees eat honey. Bees eat wax.", contexts=BEES))
    assert isinstance(score, Score) and score.value == 0.5
    assert score.note == "1 of 2 claims supported, not: Bees eat wax."
    assert score.details["said"]["gpt"]["claims"][0] == {"claim": "Bees eat honey.", "supported": True}


@on_a_loop
async def test_groundedness_rests_on_the_passages_of_the_answer_before_those_of_the_row() -> None:
    row = example(contexts=("Bees eat wax.",))
    own = await scored("groundedness", row, answer("Bees eat wax.", contexts=BEES))
    of_row = await scored("groundedness", row, answer("Bees eat wax."))
    assert isinstance(own, Score) and isinstance(of_row, Score)
    assert (own.value, of_row.value) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (answer("Bees eat honey."), "passages"),
        (answer("  ", contexts=BEES), "no answer"),
        (answer("Who knows?", contexts=BEES), "the answer claims nothing"),
    ],
)
@on_a_loop
async def test_groundedness_of_nothing_is_no_score(outcome: Answer, reason: str) -> None:
    score = await scored("groundedness", example(), outcome)
    assert isinstance(score, Unscored) and reason in score.reason


@on_a_loop
async def test_context_recall_is_the_share_of_the_references_claims() -> None:
    row = example(reference="Bees eat honey. Bees sleep.")
    score = await scored("context_recall", row, answer("whatever", contexts=BEES))
    assert isinstance(score, Score) and score.value == 0.5
    assert isinstance(await scored("context_recall", example(reference=None), answer("x", contexts=BEES)), Unscored)
    assert isinstance(await scored("context_recall", row, answer("x")), Unscored)


@on_a_loop
async def test_context_precision_of_answers_and_rankings() -> None:
    row = example(reference="Wax melts")
    last = await scored("context_precision", row, answer("x", contexts=BEES))
    assert isinstance(last, Score) and last.value == pytest.approx(1 / 3)
    query = Example(
        id="q", dataset="faq", kind="retrieval", question=Query(text="does wax melt", k=3), references=("Wax melts",)
    )
    first = await scored("context_precision", query, Ranking(keys=("c", "a"), texts=(BEES[2], BEES[0])))
    assert isinstance(first, Score) and (first.value, first.note) == (1.0, "1 of 2 passages useful")
    nothing = await scored("context_precision", query, Ranking(keys=()))
    assert isinstance(nothing, Score) and nothing.value == 0
    assert isinstance(await scored("context_precision", query, Ranking(keys=("a",))), Unscored)  # texts are not told


def test_average_precision_by_hand() -> None:
    assert average_precision([True, False, True]) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([False, False]) == average_precision([]) == 0


@on_a_loop
async def test_citations_are_right_when_their_passage_says_so() -> None:
    text = "Bees eat honey. [1] Bees fly far [1]. Wax melts [3][9]. Nothing is cited here."
    score = await scored("citation_correctness", example(), answer(text, contexts=BEES))
    assert (
        isinstance(score, Score) and score.value == 0.5
    )  # 1 right, 2 in the wrong passage, 3 right, 4 no such passage
    assert score.note == "2 of 4 citations right, of passages that there are not: 1"


@on_a_loop
async def test_citations_of_nothing() -> None:
    invented = await scored("citation_correctness", example(), answer("Bees eat honey [7].", contexts=BEES))
    assert isinstance(invented, Score) and (invented.value, invented.usage and invented.usage.prompt_tokens) == (0.0, 0)
    assert isinstance(await scored("citation_correctness", example(), answer("Honey.", contexts=BEES)), Unscored)
    assert isinstance(await scored("citation_correctness", example(), answer("Honey [1].")), Unscored)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("groundedness", {"claims": [{"claim": "x"}]}),
        ("groundedness", {"claims": "all of them"}),
        ("groundedness", {"claims": [{"claim": " ", "supported": True}]}),
        ("context_precision", {"passage_1": True}),
        ("citation_correctness", {"citation_1": "yes"}),
    ],
)
@on_a_loop
async def test_half_a_verdict_is_no_score(name: str, verdict: dict[str, object]) -> None:
    with openai_upstream() as upstream:
        upstream.answer = lambda body: told(**verdict)
        async with opened(judge_of(upstream.url, max_attempts=2)) as judges:
            metric = open_metric(MetricConfig(name=name), judges=judges, kind="generation")
            score = await metric.score(example(), answer("Bees eat honey [1].", contexts=BEES))
    assert isinstance(score, Unscored) and len(upstream.bodies) == 2


@on_a_loop
async def test_answer_relevance_needs_no_reference() -> None:
    with openai_upstream() as upstream:
        upstream.answer = lambda body: told(reason="on the point", score=5)
        async with opened(judge_of(upstream.url)) as judges:
            metric = open_metric(MetricConfig(name="answer_relevance"), judges=judges, kind="generation")
            score = await metric.score(example(reference=None), answer("honey"))
    assert isinstance(score, Score) and score.value == 1


@pytest.mark.parametrize(
    "name", ["groundedness", "context_recall", "context_precision", "citation_correctness", "answer_relevance"]
)
def test_every_metric_has_a_version(name: str) -> None:
    metrics = [
        open_metric(
            MetricConfig(name=name), judges={"gpt": judge_of("http://127.0.0.1:9", scale=scale)}, kind="generation"
        )
        for scale in ((1, 5), (1, 5), (0, 3))
    ]
    versions = [metric.fingerprint for metric in metrics]  # type: ignore[attr-defined]
    assert versions[0] == versions[1] != versions[2]
