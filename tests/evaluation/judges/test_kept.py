"""Verdicts that were paid for are not asked for again."""

from __future__ import annotations

from pathlib import Path

from judging import answer, example, judge_of, opened, told
from loops import on_a_loop
from openai_upstream import openai_upstream, said

from genai.evaluation.judges.judge import Judge
from genai.evaluation.judges.kept import KeptTarget
from genai.evaluation.metrics.judge import RubricMetric
from genai.evaluation.records import Score, Unscored
from genai.evaluation.store import open_store


@on_a_loop
async def test_a_second_run_asks_nothing_and_costs_nothing(tmp_path: Path) -> None:
    with openai_upstream() as upstream:
        upstream.planned = [said("hm")]
        upstream.answer = lambda body: told(reason="good", score=4)
        values, tokens = [], []
        for _ in range(2):
            judge = judge_of(upstream.url)
            with open_store(tmp_path / "answers.sqlite") as store:
                kept = Judge("gpt", judge.config, KeptTarget(judge.target, store, scope="this run"))
                async with opened(kept) as judges:
                    score = await RubricMetric(judges=judges).score(example(), answer("honey"))
            assert isinstance(score, Score)
            values.append(score.value)
            tokens.append(kept.usage.prompt_tokens)
    assert values == [0.75, 0.75]
    assert tokens == [20, 0]
    assert len(upstream.bodies) == 2


@on_a_loop
async def test_failures_are_asked_for_again(tmp_path: Path) -> None:
    with open_store(tmp_path / "answers.sqlite") as store:
        gone = judge_of("http://127.0.0.1:9")
        async with opened(Judge("gpt", gone.config, KeptTarget(gone.target, store, scope="s"))) as judges:
            assert isinstance(await RubricMetric(judges=judges).score(example(), answer("honey")), Unscored)
        with openai_upstream() as upstream:
            upstream.answer = lambda body: told(reason="good", score=4)
            there = judge_of(upstream.url)
            async with opened(Judge("gpt", there.config, KeptTarget(there.target, store, scope="s"))) as judges:
                assert isinstance(await RubricMetric(judges=judges).score(example(), answer("honey")), Score)
