from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from genai.config.checks_eval import ASK_A_JUDGE, check_eval, judges_of, metrics_of
from genai.config.eval import EvalConfig
from genai.config.loading import load
from genai.config.tree import dotted
from genai.errors import ConfigError
from genai.evaluation.metrics.registry import METRICS

Write = Callable[..., Path]
MINIMAL = """\
target: gallery:tiny
datasets: [{name: faq, path: faq.jsonl}]
"""
JUDGE = "judges={gpt: {model: gpt-4o, endpoint: 'https://api.openai.com/v1', api_key: env:KEY}}"
CALIBRATED = "judges={gpt: {model: m, calibration: {path: people.jsonl}}}"
BASELINE = "baseline=runs:before"


def findings(write: Write, *overrides: str) -> list[tuple[str, str, str | None]]:
    """The checks' findings for the minimal job with overrides, past the loader (which raises on the first faults)."""
    try:
        loaded = load(write(MINIMAL), EvalConfig, overrides)
    except ConfigError as error:
        return [(problem.where or "", problem.message, problem.fix) for problem in error.problems]
    return [(dotted(each.key), each.message, each.fix) for each in check_eval(loaded.config)]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["target={endpoint: 'http://127.0.0.1:8080', model: chat, api_key: env:KEY, stream: true}"],
        ["target=null", "targets={a: gallery:x, b: {endpoint: 'http://127.0.0.1:1', model: m}}"],
        ["target={file: logged.jsonl}"],
        ["target={index: faq, mode: hybrid, filter: topic = floors}", "datasets.0.kind=retrieval"],
        ["datasets=[]", "lm_eval={tasks: [arc_easy]}"],
        ["datasets=[]", "icl_tasks=tasks.yaml", "eval_gauntlet=gauntlet.yaml"],
        ["datasets.0.columns={prompt: q, reference: a}", "datasets.0.few_shot={num: 3}", "datasets.0.sha256=0123abcd"],
        ["datasets.0={name: hub, path: hf:org/set, split: validation}"],
        ["metrics=[token_f1, {name: token_f1, label: f1, ignore_case: true}]", "gates=[faq.f1 >= 0.3]"],
        [BASELINE, "gates=['faq.token_f1 not significantly worse', 'cost_usd <= 1']", "junit=out.xml"],
        [JUDGE, "metrics=[{name: judge, rubric: helpfulness, judge: gpt}]"],
        [JUDGE, BASELINE, "metrics=[win_rate, {name: judge, pairwise: true, judge: [gpt]}]"],
        [CALIBRATED, "metrics=[{name: judge}]", "gates=['faq.judge >= 0.7']"],
        ["contamination={training: runs:tuned, action: fail}"],
    ],
)
def test_sound_jobs_have_none(write: Write, overrides: list[str]) -> None:
    assert findings(write, *overrides) == []


@pytest.mark.parametrize(
    ("overrides", "message", "fix"),
    [
        (["datasets=[]"], "there is nothing to measure with: datasets is missing", "write datasets"),
        (["datasets.0.name=a b"], "'a b' cannot be the name of a data set", "take letters"),
        (["datasets.0.name=faq.en"], "'faq.en' cannot be the name of a data set", "take letters"),
        (["datasets.0.name=baseline"], "'baseline' cannot be the name of a data set", "take letters"),
        (["datasets=[{name: a, path: x}, {name: a, path: y}]"], "two data sets are called 'a'", "give each"),
        (["datasets.0.columns={promt: q}"], "no data set has a column 'promt'", "did you mean 'prompt'?"),
        (["datasets.0.kind=text", "datasets.0.few_shot={num: 2}"], "a data set of kind text has no solved", "remove"),
        (["datasets.0.sha256=xyz"], "datasets.0.sha256 is no hash", "write the hash that --dry-run prints"),
        (
            ["datasets.0.path='delta:faq'", "datasets.0.sha256=0123abcd"],
            "the table has a sha256, but no version",
            "write delta:faq@VERSION",
        ),
        (["datasets.0.slices=[a, a]"], "datasets.0.slices names 'a' twice", "name each column once"),
        (["datasets.0.kind=retrieval"], "kind retrieval is for an index, and target is none", "write target: {index"),
        (["target={index: faq}"], "kind generation is not for an index, which target is", "write kind: retrieval"),
        (["target={file: a.jsonl}", "datasets.0.kind=text"], "kind text asks how likely texts are", "name a model"),
        (["contamination={training: a.jsonl, threshold: 0}"], "a threshold of 0 would call every", "write 0.5"),
        (["lm_eval={tasks: []}"], "lm_eval.tasks is empty", "name at least one"),
        (["target={index: faq}", "datasets=[]", "lm_eval={tasks: [a]}"], "lm_eval asks how likely", "name a model"),
        (["eval_gauntlet=g.yaml"], "eval_gauntlet averages over icl_tasks", "write icl_tasks"),
        (["metrics=[{name: bleu, label: a.b}]"], "'a.b' cannot be what a metric is called", "take letters"),
        (["metrics=[{name: bleu, datasets: [fqa]}]"], "there is no data set 'fqa'", "did you mean 'faq'?"),
        (["metrics=[bleu, {name: bleu, kwargs: {x: 1}}]"], "'bleu' is measured twice on faq: metrics.0", "give one"),
        (["metrics=[judge]"], "judge needs to know which judge is asked", "write judges: {NAME"),
        ([JUDGE, "metrics=[{name: judge, judge: gtp}]"], "there is no judge 'gtp'", "did you mean 'gpt'?"),
        ([JUDGE, "metrics=[win_rate]"], "answers can only be compared side by side", "write baseline"),
        (
            ["judges={a: {model: m}, b: {model: n}}", "metrics=[groundedness]"],
            "groundedness needs to know which judge is asked",
            "write judge: a",
        ),
        (["judges={a: {model: m, scale: [5, 1]}}"], "judges.a.scale goes from 5 to 1", "write worst and best"),
        (
            ["judges={a: {model: m, calibration: {path: p, min_kappa: 2}}}"],
            "kappa lies between -1 and 1",
            "write 0.4",
        ),
        (["judges={a: {model: m, endpoint: 'api.openai.com'}}"], "'api.openai.com' is no URL", "it begins with"),
        (["gates=['faq.token_f1 => 3']"], "'faq.token_f1 => 3' is no condition", "write >="),
        (["gates=['faq.f1 >= baseline']"], "the condition 'faq.f1 >= baseline' compares with a", "write baseline"),
        (["gates=['faq.f1 not significantly worse']"], "the condition 'faq.f1 not significantly", "write baseline"),
        (
            [JUDGE, "metrics=[{name: judge, label: right, judge: gpt}]", "gates=['faq.right >= 0.5']"],
            "the condition 'faq.right >= 0.5' rests on the judge 'gpt'",
            "write judges.gpt.calibration.path",
        ),
        (["statistics.confidence=1.0"], "statistics.confidence must lie between 0 and 1", "write 0.95"),
        (["statistics.num_resamples=20"], "20 resamples say nothing of a 95% interval", "write 100 or more"),
    ],
)
def test_faults(write: Write, overrides: list[str], message: str, fix: str) -> None:
    found = findings(write, *overrides)
    assert found, "nothing was found"
    matching = [each for each in found if each[1].startswith(message)]
    assert matching, found
    assert (matching[0][2] or "").startswith(fix), found


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["datasets.0.split=train"], "datasets.0.split"),
        (["datasets.0.kind=text", "datasets.0.max_tokens=3"], "datasets.0.max_tokens"),
        (["datasets.0.kind=schema", "datasets.0.prompt=x"], "datasets.0.prompt"),
        ([JUDGE], "judges.gpt"),
        (["judges={a: {model: m, api_key: env:K}}", "metrics=[judge]"], "judges.a.api_key"),
        (["gates=['faq.f1 >= 0.30', 'faq.f1 >= 0.3']"], "gates.1"),
        (["max_usd=3"], "max_usd"),
        (["junit=x.xml"], "junit"),
        (["contamination={training: runs:a, columns: {text: x}}"], "contamination.columns"),
        (["datasets=[]", "lm_eval={tasks: [a]}", "metrics=[bleu]"], "metrics"),
    ],
)
def test_settings_without_an_effect(write: Write, overrides: list[str], key: str) -> None:
    found = findings(write, *overrides)
    assert [(where, message.partition(":")[0]) for where, message, _ in found] == [(key, f"{key} has no effect")]


def test_metrics_that_ask_a_judge_are_those_whose_constructor_wants_judges() -> None:
    asking = [name for name in METRICS.names() if "judges" in inspect.signature(METRICS.get(name)).parameters]
    assert sorted(ASK_A_JUDGE) == sorted(asking)


def test_the_only_judge_is_asked_where_none_is_named(write: Write) -> None:
    overrides = [JUDGE, "metrics=[bleu, judge, {name: toxicity, judge: [gpt]}]"]
    config = load(write(MINIMAL), EvalConfig, overrides).config
    assert [judges_of(metric, config) for metric in metrics_of(config)] == [[], ["gpt"], ["gpt"]]
