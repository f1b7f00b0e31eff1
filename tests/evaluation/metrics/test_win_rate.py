"""Answers side by side, against a server that compares by a rule of its own, over real HTTP."""

from __future__ import annotations

import pytest
from judging import answer, example, judge_of, opened, sections, told
from loops import on_a_loop
from openai_upstream import openai_upstream, said

from genai.config.eval import MetricConfig
from genai.errors import UsageError
from genai.evaluation.judges.notes import notes_of
from genai.evaluation.metrics.registry import open_metric
from genai.evaluation.metrics.win_rate import WinRate
from genai.evaluation.records import Failure, Score, Unscored


def longer(body):
    """The longer answer is better."""
    shown = sections(body)
    a, b = len(shown["ANSWER A"]), len(shown["ANSWER B"])
    return told(reason="longer", better="A" if a > b else "B" if b > a else "tie")


@on_a_loop
async def test_wins_losses_and_ties_in_both_orders() -> None:
    with openai_upstream() as upstream:
        upstream.answer = longer
        async with opened(judge_of(upstream.url)) as judges:
            metric = open_metric(MetricConfig(name="win_rate"), judges=judges, kind="generation")
            assert isinstance(metric, WinRate)
            scores = [
                await metric.compare(example(), answer("honey and more"), answer("honey")),
                await metric.compare(example(), answer("honey"), answer("honey and more")),
                await metric.compare(example(), answer("honey"), answer("syrup")),
            ]
    assert [score.value for score in scores if isinstance(score, Score)] == [1.0, 0.0, 0.5]
    assert len(upstream.bodies) == 6
    first, second = (sections(body) for body in upstream.bodies[:2])
    assert {first["ANSWER A"], second["ANSWER A"]} == {"honey and more", "honey"}
    assert isinstance(scores[0], Score) and scores[0].usage is not None and scores[0].usage.prompt_tokens == 20
    assert notes_of(scores) == ("0% of 3 verdicts turned with the order of the answers",)


@on_a_loop
async def test_a_verdict_that_turns_with_the_order_counts_half_and_is_told() -> None:
    with openai_upstream() as upstream:
        upstream.answer = lambda body: told(reason="the first one", better="A")
        async with opened(judge_of(upstream.url)) as judges:
            metric = WinRate(judges=judges)
            score = await metric.compare(example(), answer("honey"), answer("wax"))
    assert isinstance(score, Score) and score.value == 0.5
    assert score.details["said"]["gpt"] == {"turned": True, "favours": "what stands first"}
    assert notes_of([score]) == ("100% of 1 verdicts turned with the order of the answers",)


@on_a_loop
async def test_a_tie_in_one_order_is_no_win_and_no_turn() -> None:
    with openai_upstream() as upstream:
        upstream.answer = lambda body: told(reason="x", better="A" if sections(body)["ANSWER A"] == "honey" else "tie")
        async with opened(judge_of(upstream.url)) as judges:
            score = await WinRate(judges=judges).compare(example(), answer("honey"), answer("wax"))
    assert isinstance(score, Score) and score.value == 0.5
    assert score.details["said"]["gpt"] == {"turned": False}


@on_a_loop
async def test_the_same_answer_twice_costs_nothing() -> None:
    with openai_upstream() as upstream:
        async with opened(judge_of(upstream.url)) as judges:
            score = await WinRate(judges=judges).compare(example(), answer("honey"), answer("honey"))
    assert isinstance(score, Score) and (score.value, score.usage) == (0.5, None)
    assert upstream.bodies == [] and notes_of([score]) == ()


@on_a_loop
async def test_half_a_verdict_is_none() -> None:
    with openai_upstream() as upstream:
        upstream.answer = lambda body: (
            told(reason="x", better="A") if sections(body)["ANSWER A"] == "honey" else said("who knows")
        )
        async with opened(judge_of(upstream.url, max_attempts=1)) as judges:
            metric = WinRate(judges=judges)
            score = await metric.compare(example(), answer("honey"), answer("wax"))
            failed = await metric.compare(example(), answer("honey"), Failure(reason="gone"))
            alone = await metric.score(example(), answer("honey"))
    assert isinstance(score, Unscored) and "no verdict in one attempt" in score.reason
    assert score.usage is not None and score.usage.prompt_tokens == 20
    assert isinstance(failed, Unscored) and isinstance(alone, Unscored)
    assert len(upstream.bodies) == 2


def test_a_rubric_of_what_is_bad_cannot_tell_which_is_better() -> None:
    with pytest.raises(UsageError, match="says what is bad"):
        WinRate(judges={"gpt": judge_of("http://127.0.0.1:9")}, rubric="toxicity")
