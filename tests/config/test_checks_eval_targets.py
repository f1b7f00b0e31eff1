from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from genai.config.checks_eval_targets import all_targets, check_targets, kind_of
from genai.config.eval import EvalConfig, TargetConfig
from genai.config.loading import load
from genai.config.tree import dotted
from genai.errors import ConfigError

Write = Callable[..., Path]
MINIMAL = "datasets: [{name: faq, path: faq.jsonl}]\n"
URL = "endpoint: 'http://127.0.0.1:8080'"


def faults(write: Write, *overrides: str) -> list[tuple[str, str | None]]:
    with pytest.raises(ConfigError) as refused:
        load(write(MINIMAL), EvalConfig, overrides)
    return [(problem.message, problem.fix) for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("overrides", "message", "fix"),
    [
        ([], "there is nothing to measure: target is missing", "write target"),
        (["target=a", "targets={b: c}"], "there are both target and targets", "put all"),
        (["targets={baseline: a}"], "the name 'baseline' means what targets are compared with", "write it as"),
        (["targets={'a b': c}"], "'a b' cannot be the name of a target", "take letters"),
        (["target=' '"], "target is empty", "write a model reference"),
        (["target='http://127.0.0.1:8080'"], "target is a URL, which needs the name of a model", "write target: {end"),
        (["target={}"], "target names nothing to ask", "write model, endpoint, index or file"),
        ([f"target={{{URL}, index: faq}}"], "target names endpoint and index", "keep one of them"),
        (["target={model: m, file: f}"], "target names model and file", "keep one of them"),
        ([f"target={{{URL}}}"], "target.endpoint needs a model", "write the name"),
        (["target={endpoint: 'localhost:8080', model: m}"], "'localhost:8080' is no URL", "it begins with http"),
        (["target={model: m, filter: a = b}"], "target.filter is for an index", "remove it"),
        (["target={model: m, sampling: {temperature: 1, top_p: 0}}"], "a top_p of 0 leaves no token", "write 1.0"),
        (["target=a", "baseline={}"], "baseline names nothing to ask", "write model"),
    ],
)
def test_faults(write: Write, overrides: list[str], message: str, fix: str) -> None:
    found = faults(write, *overrides)
    assert any(each.startswith(message) and (way or "").startswith(fix) for each, way in found), found


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("{model: m, stream: true}", "target.stream"),
        ("{model: m, mode: bm25}", "target.mode"),
        (f"{{{URL}, model: m, precision: bf16}}", "target.precision"),
        (f"{{{URL}, model: m, api: completions, system: x}}", "target.system"),
        ("{file: f, system: x}", "target.system"),
        ("{model: m, sampling: {top_p: 0.9}}", "target.sampling.top_p"),
    ],
)
def test_settings_without_an_effect(write: Write, target: str, key: str) -> None:
    config = load(write(MINIMAL), EvalConfig, [f"target={target}"]).config
    assert [(dotted(each.key), each.is_warning) for each in check_targets(config)] == [(key, True)]


@pytest.mark.parametrize(
    "target",
    [
        "{model: m, api: completions, timeout_s: 5, price: {usd_per_million_output_tokens: 1}, batch_size: 4}",
        f"{{{URL}, model: m, extra_body: {{top_k: 5}}, reuse_answers: true, concurrency: 4}}",
        "{file: answers.jsonl}",
    ],
)
def test_settings_that_each_kind_has(write: Write, target: str) -> None:
    assert list(check_targets(load(write(MINIMAL), EvalConfig, [f"target={target}"]).config)) == []


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("gallery:x", "model"),
        (TargetConfig(model="m"), "model"),
        (TargetConfig(endpoint="http://x", model="m"), "endpoint"),
        (TargetConfig(index="faq"), "index"),
        (TargetConfig(file="a.jsonl"), "file"),
        (TargetConfig(), None),
        (TargetConfig(index="faq", model="m"), None),
        (TargetConfig(index="faq", file="a.jsonl"), None),
    ],
)
def test_what_is_asked(target: TargetConfig | str, kind: str | None) -> None:
    assert kind_of(target) == kind


def test_every_target_has_its_place_in_the_file() -> None:
    one = EvalConfig(target="a", baseline="b")
    assert all_targets(one) == {"target": "a", "baseline": "b"}
    assert list(all_targets(EvalConfig(targets={"x": "a", "y": "b"}))) == ["targets.x", "targets.y"]
