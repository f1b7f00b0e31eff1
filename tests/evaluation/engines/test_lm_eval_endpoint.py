"""lm-eval through `/v1/completions` of `genai serve` finds what it finds in this process, document by document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from genai_servers import GenaiServer, serving
from lm_eval_tasks import TASKS, write_tasks

from genai.config.eval import LmEvalConfig, TargetConfig
from genai.errors import CredentialsError, GenaiError
from genai.evaluation.engines.lm_eval import LmEvalResult, run_lm_eval
from genai.evaluation.records import Likelihoods

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.filterwarnings("ignore")]

MODEL = "gallery:smollm2-135m-instruct"
KEY = "key-of-the-evaluation-1"
LOGLIKELIHOOD_TOLERANCE = 2e-3
"""Of a whole text, in nats: both are fp32, but add up in another order."""
CONTEXT = 24
"""Tokens, so that the longest text is read in several windows."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenaiServer]:
    folder = tmp_path_factory.mktemp("server")
    config = {
        "listen": {"port": 0},
        "num_threads": 1,
        "apps": {"eval": {"key": "env:EVAL_KEY"}},
        "endpoints": {"chat": {"type": "model", "model": MODEL, "engine": {"precision": "fp32"}}},
    }
    (folder / "serve.yaml").write_text(json.dumps(config))
    with serving(folder, "serve.yaml", env={"EVAL_KEY": KEY}) as running:
        yield running


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> LmEvalConfig:
    folder = write_tasks(tmp_path_factory.mktemp("lm_eval") / "tasks")
    return LmEvalConfig(tasks=list(TASKS), include_path=str(folder), batch_size=4)


@pytest.fixture(scope="module")
def here(config: LmEvalConfig) -> LmEvalResult:
    return run_lm_eval(config, TargetConfig(model=MODEL, precision="fp32", max_model_len=CONTEXT), name="here")


def through(server: GenaiServer, **values: Any) -> TargetConfig:
    return TargetConfig(
        endpoint=server.url, **{"model": "chat", "api_key": "env:EVAL_KEY", "max_attempts": 1, **values}
    )


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVAL_KEY", KEY)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.parametrize("tokenizer", [None, MODEL])
def test_scores_are_the_same(
    server: GenaiServer, config: LmEvalConfig, here: LmEvalResult, tokenizer: str | None
) -> None:
    asked = LmEvalConfig(**{**vars(config), "tokenizer": tokenizer})
    # Two more, one for an answer and one for what stands before a window.
    there = run_lm_eval(asked, through(server, max_model_len=CONTEXT + 2), name="there")
    for ours, theirs in zip(there.tasks, here.tasks, strict=True):
        assert ours.sha256 == theirs.sha256
        assert ours.reported == pytest.approx(theirs.reported, rel=1e-4), ours.name
        for one, other in zip(ours.scored, theirs.scored, strict=True):
            assert type(one.outcome) is type(other.outcome)
            if isinstance(one.outcome, Likelihoods) and isinstance(other.outcome, Likelihoods):
                found = [each.logprob for each in one.outcome.each]
                assert found == pytest.approx(
                    [each.logprob for each in other.outcome.each], abs=LOGLIKELIHOOD_TOLERANCE
                )
                assert [each.is_greedy for each in one.outcome.each] == [each.is_greedy for each in other.outcome.each]
            else:
                assert one.outcome == other.outcome


def test_a_key_that_is_refused(server: GenaiServer, config: LmEvalConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVAL_KEY", "key-of-nobody-at-all")
    with pytest.raises(CredentialsError, match="refuses the key"):
        run_lm_eval(config, through(server), name="there")


def test_a_model_that_the_endpoint_does_not_have(server: GenaiServer, config: LmEvalConfig) -> None:
    with pytest.raises(GenaiError, match=r"lm-eval failed|cannot be asked"):
        run_lm_eval(config, through(server, model="chatt", max_model_len=64), name="there")


def test_an_endpoint_that_is_not_there(config: LmEvalConfig) -> None:
    target = TargetConfig(endpoint="http://127.0.0.1:9", model="chat", max_attempts=1)
    with pytest.raises(GenaiError, match="cannot be asked for its models"):
        run_lm_eval(config, target, name="there")
