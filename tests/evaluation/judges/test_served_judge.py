"""SmolLM2 behind `genai serve` as a judge: far too small to judge well, but its verdicts can be read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from genai_servers import GenaiServer, serving, write_config
from judging import answer, example, opened
from served_gallery import MODEL

from genai.config.eval import JudgeConfig, MetricConfig, SamplingConfig, TargetConfig
from genai.evaluation.judges.judge import Judge
from genai.evaluation.metrics.registry import open_metric
from genai.evaluation.metrics.win_rate import WinRate
from genai.evaluation.records import Score, Unscored
from genai.evaluation.targets.endpoint import EndpointTarget

pytestmark = pytest.mark.integration

ROW = example(contexts=("Bees eat honey and pollen.", "Wax melts at 62 degrees."))
ANSWER = answer("Bees eat honey [1].")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenaiServer]:
    folder = tmp_path_factory.mktemp("judge")
    engine = {"precision": "fp32", "max_num_seqs": 8, "max_model_len": 1536}
    write_config(folder, endpoints={"judge": {"type": "model", "model": MODEL, "engine": engine}})
    with serving(folder, "serve.yaml") as running:
        yield running


def judge_at(url: str) -> Judge:
    sampling = SamplingConfig(max_tokens=96)
    config = JudgeConfig(model="judge", endpoint=url, sampling=sampling, max_attempts=2)
    target = TargetConfig(model="judge", endpoint=url, sampling=sampling)
    return Judge("smol", config, EndpointTarget("smol", target))


@pytest.mark.parametrize("name", ["judge", "context_precision", "citation_correctness"])
def test_verdicts_of_a_real_model_are_read(server: GenaiServer, name: str) -> None:
    async def score() -> Score | Unscored:
        async with opened(judge_at(server.url)) as judges:
            metric = open_metric(MetricConfig(name=name), judges=judges, kind="generation")
            return await metric.score(ROW, answer(ANSWER.text, contexts=ROW.contexts))

    found = asyncio.run(score())
    assert isinstance(found, Score), found
    assert found.value is not None and 0 <= found.value <= 1
    assert found.usage is not None and found.usage.completion_tokens > 0


def test_two_answers_are_compared(server: GenaiServer) -> None:
    async def score() -> Score | Unscored:
        async with opened(judge_at(server.url)) as judges:
            return await WinRate(judges=judges).compare(ROW, ANSWER, answer("I like turtles."))

    found = asyncio.run(score())
    assert isinstance(found, Score) and found.value in (0, 0.5, 1)
