"""Judges held against people: a server that judges by a rule of its own, over real HTTP."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from judging import answer, example, judge_of, opened, sections, told
from loops import on_a_loop
from openai_upstream import openai_upstream, said

from genai.config.eval import CalibrationConfig
from genai.evaluation.judges.calibration import MIN_ROWS, Calibration, calibrate, calibrate_all, is_trusted
from genai.evaluation.judges.human_scores import HumanScore
from genai.evaluation.metrics.judge import RubricMetric
from genai.evaluation.metrics.win_rate import WinRate
from genai.metrics.agreement import cohen_kappa


def people(*scores: float, prompt: Callable[[int], str] = lambda number: f"Question {number}") -> list[HumanScore]:
    """Answers whose text says which score a good judge would give: `quality 4`."""
    return [
        HumanScore(
            example=example(prompt(number), name=str(number)),
            answer=answer(f"quality {score:g} number {number}"),
            score=score,
            source=f"people.jsonl:{number + 1}",
        )
        for number, score in enumerate(scores)
    ]


def quality(text: str) -> int:
    return int(text.split()[1])


def fair(body: Any) -> dict[str, Any]:
    """Sees how good an answer is."""
    return told(reason="seen", score=quality(sections(body)["ANSWER"]))


async def calibrated(
    rows: list[HumanScore],
    judging: Callable[[Any], Any],
    *,
    min_kappa: float = 0.4,
    pairwise: bool = False,
    **config: Any,
) -> Calibration:
    with openai_upstream() as upstream:
        upstream.answer = judging
        judge = judge_of(upstream.url, calibration=CalibrationConfig(path="x", min_kappa=min_kappa), **config)
        async with opened(judge) as judges:
            metric = WinRate(judges=judges) if pairwise else RubricMetric(judges=judges)
            return await calibrate(judge, rows, metric=metric, label="quality")


@on_a_loop
async def test_a_judge_that_sees_what_people_see_passes() -> None:
    found = await calibrated(people(*[1, 2, 3, 4, 5] * 4), fair)
    assert found.passed and found.kappa == pytest.approx(1) and found.alpha == pytest.approx(1)
    assert (found.judge, found.metric, found.num, found.num_unscored) == ("gpt", "quality", 20, 0)
    assert found.confusion == tuple(tuple(4 * (row == column) for column in range(5)) for row in range(5))
    assert found.labels == ("1", "2", "3", "4", "5")
    assert found.threshold is not None and 0.5 < found.threshold < 0.75  # 4 and 5 of 5 are good, 3 is not
    assert found.usage.prompt_tokens == 200
    lines = found.lines()
    assert lines[0].startswith("judge gpt, quality: agrees with people: kappa 1.00 (1.00 to 1.00) on 20 answers")
    assert lines[-1].split() == ["5", "0", "0", "0", "0", "4"]


@on_a_loop
async def test_a_judge_that_rolls_dice_does_not_pass() -> None:
    dice = random.Random(1)
    found = await calibrated(people(*[1, 2, 3, 4, 5] * 8), lambda body: told(reason="dice", score=dice.randint(1, 5)))
    assert not found.passed and found.kappa_low < 0.2 < found.kappa_high + 0.3
    assert "does not agree" in found.lines()[0] and "it agrees too little" in found.reason


@on_a_loop
async def test_kappa_is_quadratic_weighted() -> None:
    def mild(body: Any) -> dict[str, Any]:
        return told(reason="mild", score=min(5, quality(sections(body)["ANSWER"]) + 1))

    scores = [1, 2, 3, 4, 5] * 3
    found = await calibrated(people(*scores), mild)
    expected = cohen_kappa(scores, [min(5, each + 1) for each in scores], weights="quadratic", labels=range(1, 6))
    assert found.kappa == pytest.approx(expected)
    generator = np.random.default_rng(0)
    drawn = [generator.integers(15, size=15) for _ in range(1000)]
    kappas = [
        cohen_kappa(
            [scores[i] for i in rows], [min(5, scores[i] + 1) for i in rows], weights="quadratic", labels=range(1, 6)
        )
        for rows in drawn
    ]
    low, high = np.nanquantile(kappas, [0.025, 0.975])
    assert (found.kappa_low, found.kappa_high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


@on_a_loop
async def test_a_judge_that_always_says_the_same_tells_nothing() -> None:
    found = await calibrated(people(*[1, 5] * 10), lambda body: told(reason="fine", score=4))
    assert not found.passed and found.kappa == pytest.approx(0)
    agreed = await calibrated(people(*[4] * 12), lambda body: told(reason="fine", score=4))
    assert not agreed.passed and math.isnan(agreed.kappa) and "the same score" in agreed.reason


@on_a_loop
async def test_good_and_bad_are_cut_at_the_threshold_that_fits() -> None:
    rows = people(*[1, 2, 3, 4, 5] * 8)
    rows = [HumanScore(example=r.example, answer=r.answer, score=float(r.score >= 3), source=r.source) for r in rows]
    found = await calibrated(rows, fair)
    assert found.passed and found.kappa == pytest.approx(1) and found.labels == ("bad", "good")
    assert found.confusion == ((16, 0), (0, 24))
    assert found.threshold is not None and 0.25 < found.threshold <= 0.5


@on_a_loop
async def test_a_threshold_is_not_praised_for_what_it_was_fitted_to() -> None:
    """Labels by lot: fitted to itself a threshold seems to agree; held against other rows it does not."""
    dice = random.Random(3)
    kappas = []
    for _ in range(4):
        rows = [
            HumanScore(example=r.example, answer=r.answer, score=float(dice.random() < 0.5), source=r.source)
            for r in people(*[1, 2, 3, 4, 5] * 6)
        ]
        kappas.append((await calibrated(rows, fair)).kappa)
    assert np.mean(kappas) < 0.1


@on_a_loop
async def test_few_rows_and_silent_judges_do_not_pass() -> None:
    few = await calibrated(people(*[1, 5] * ((MIN_ROWS - 1) // 2)), fair)
    assert not few.passed and "are too few" in few.reason

    def often_silent(body: Any) -> dict[str, Any]:
        return said("hm") if quality(sections(body)["ANSWER"]) == 3 else fair(body)

    silent = await calibrated(people(*[1, 3, 5] * 10), often_silent, max_attempts=1)
    assert not silent.passed and (silent.num, silent.num_unscored) == (20, 10)
    assert "no verdict on 10 of 30 (judge 'gpt': no verdict in one attempt" in silent.reason
    mute = await calibrated(people(*[1, 5] * 10), lambda body: said("hm"), max_attempts=1)
    assert not mute.passed and mute.num == 0 and math.isnan(mute.kappa) and mute.confusion == ()
    assert len(mute.lines()) == 1


@on_a_loop
async def test_a_long_scale_is_compared_in_steps() -> None:
    found = await calibrated(people(*[0, 25, 50, 75, 100] * 4), fair, scale=(0, 100))
    assert found.passed and len(found.labels) == 11 and found.labels[1] == "10"


@on_a_loop
async def test_pairs_of_answers_to_one_prompt() -> None:
    def better(body: Any) -> dict[str, Any]:
        shown = sections(body)
        a, b = quality(shown["ANSWER A"]), quality(shown["ANSWER B"])
        return told(reason="seen", better="A" if a > b else "B" if b > a else "tie")

    rows = people(*[1, 4, 5] * 6, prompt=lambda number: f"Question {number // 3}")
    found = await calibrated(rows, better, pairwise=True)
    assert found.passed and found.num == 18 and found.kappa == pytest.approx(1)
    assert found.labels == ("second", "neither", "first") and found.confusion == ((9, 0, 0), (0, 0, 0), (0, 0, 9))
    biased = await calibrated(rows, lambda body: told(reason="first", better="A"), pairwise=True)
    assert not biased.passed and biased.kappa == pytest.approx(0)
    unpaired = await calibrated(people(*[1, 4, 5] * 6), better, pairwise=True)
    assert not unpaired.passed and "0 pairs of answers" in unpaired.reason


@on_a_loop
async def test_a_metric_is_trusted_when_all_its_judges_are() -> None:
    with openai_upstream() as good, openai_upstream() as bad:
        good.answer, bad.answer = fair, lambda body: told(reason="fine", score=5)
        calibration = CalibrationConfig(path="x")
        judges = [judge_of(good.url, "a", calibration=calibration), judge_of(bad.url, "b", calibration=calibration)]
        async with opened(*judges, judge_of(good.url, "c")) as by_name:
            metrics = {
                name: RubricMetric(judges=by_name, judge=asked)
                for name, asked in (("one", "a"), ("both", ["a", "b"]), ("unknown", "c"))
            }
            rows = people(*[1, 2, 3, 4, 5] * 3)
            found = await calibrate_all({**metrics, "token_f1": object()}, {"a": rows, "b": rows, "c": []})
    assert [(each.metric, each.judge, each.passed) for each in found] == [
        ("one", "a", True),
        ("both", "a", True),
        ("both", "b", False),
    ]
    trusted = {label: is_trusted(label, metric, found) for label, metric in metrics.items()}
    assert trusted == {"one": True, "both": False, "unknown": False}
    assert is_trusted("token_f1", object(), found)
