from __future__ import annotations

import asyncio
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from metric_examples import answered, metric_of, value_of

from genai.config.eval import DatasetKind, MetricConfig
from genai.errors import UsageError
from genai.evaluation.interfaces import OutcomeKind
from genai.evaluation.metrics import registry
from genai.evaluation.metrics.registry import KINDS, defaults_for, describe, kinds_of, open_metric, settings_of
from genai.evaluation.records import Answer, Chat, Example, Score


class Length:
    """Characters of an answer.

    This line is no part of the list.
    """

    name = "length"
    kinds: tuple[DatasetKind, ...] = ("generation",)
    looks_at: OutcomeKind = "answer"
    higher_is_better = False
    unit = ""

    def __init__(self, *, factor: float, parts: Sequence[str] = (), kind: DatasetKind) -> None:
        self.settings = (factor, list(parts), kind)


class Anything:
    """Takes whatever it is given."""

    def __init__(self, **settings: object) -> None:
        self.settings = settings


@pytest.fixture
def _plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two entry points, as an installed package would declare them."""
    points = importlib.metadata.EntryPoints(
        [
            importlib.metadata.EntryPoint(name, f"{__name__}:{attribute}", "genai.metrics")
            for name, attribute in (("length", "Length"), ("anything", "Anything"))
        ]
    )
    monkeypatch.setattr(registry.METRICS, "_entry_points", lambda: points)
    yield


def test_all_metrics_are_there_and_say_what_they_are() -> None:
    described = {each.name: each for each in describe()}
    assert {"token_f1", "recall@K", "bleu", "judge", "perplexity", "cost_usd"} <= described.keys()
    assert list(described) == sorted(described)
    for name, what, kinds, higher in described.values():
        assert 10 < len(what) < 120, name
        assert set(kinds) <= set(KINDS) and kinds, name
        assert isinstance(higher, bool)
    assert described["perplexity"].higher is False
    assert described["recall@K"].kinds == ("retrieval",)


def test_a_metric_is_called_as_it_was_asked_for() -> None:
    for name in registry.METRICS.names():
        kind = kinds_of(name.replace("@K", "@5"))[0]
        needed = {"positive": "a"} if name == "auc" else {}
        asks_a_model = {"judge", "model"} & set(settings_of(name.replace("@K", "@5")))
        if not asks_a_model:
            assert metric_of(name.replace("@K", "@5"), kind, **needed).name == name.replace("@K", "@5")


@pytest.mark.parametrize("kind", get_args(DatasetKind))
def test_every_kind_of_data_has_metrics_that_can_be_measured_on_it(kind: DatasetKind) -> None:
    configs = defaults_for(kind)
    assert configs
    assert all(open_metric(config, judges={}, kind=kind).name == config.name for config in configs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("token_f2", r"unknown metric 'token_f2' \(did you mean 'token_f1'\?\)"),
        ("recall", r"looks at the first K documents \(write it with K: recall@10\)"),
        ("recall@", r"write it with K: recall@10"),
        ("ndcg@0", r"write it with K: ndcg@10"),
        ("mrr@ten", r"write it with K: mrr@10"),
        ("recal@10", r"unknown metric 'recal@10' \(did you mean 'recall@K'\?\)"),
        ("token_f1@3", r"unknown metric 'token_f1@3' \(did you mean 'token_f1'\?\)"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        metric_of(name, "retrieval")
    with pytest.raises(UsageError, match=message):
        kinds_of(name)


def test_a_metric_is_not_measured_on_data_of_another_kind() -> None:
    with pytest.raises(
        UsageError, match="metric 'token_f1' cannot be measured on data of kind text, only of generat"
    ) as e:
        metric_of("token_f1", "text")
    assert "bits_per_byte" in str(e.value)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("token_f1", {"stride": 3}, r"metric 'token_f1' has no setting 'stride' \(it knows ignore_case, ignore_punct"),
        ("token_f1", {"kwargs": {"ignore_cases": True}}, r"no setting 'ignore_cases' \(did you mean 'ignore_case'\?\)"),
        ("cost_usd", {"pattern": "x"}, r"metric 'cost_usd' has no setting 'pattern' \(it has none\)"),
        ("rouge1", {"label": "r", "fields": ["a"]}, r"metric 'rouge1 \(label r\)' has no setting 'fields'"),
        ("token_f1", {"kwargs": {"kind": "text"}}, "has no setting 'kind'"),
        ("recall@10", {"kwargs": {"depth": 3}}, "has no setting 'depth'"),
        ("token_f1", {"ignore_case": True, "kwargs": {"ignore_case": False}}, "has 'ignore_case' twice"),
        ("chrf", {"kwargs": {"word_order": "two"}}, r"cannot take kwargs.word_order = 'two': .*integer"),
        ("chrf", {"kwargs": {"word_order": 9}}, r"cannot take kwargs.word_order = 9: .*less than or equal to 4"),
        ("bleu", {"kwargs": {"tokenize": "intl"}}, r"cannot take kwargs.tokenize = 'intl': .*'13a'"),
        ("json_valid", {"kwargs": {"fenced": []}}, "cannot take kwargs.fenced"),
        ("exact_match", {"pattern": "("}, r"'\(' is no regular expression: missing \)"),
        ("exact_match", {"pattern": "x" * 3000}, "3000 characters is too long"),
    ],
)
def test_settings_that_a_metric_does_not_know_are_refused(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        metric_of(name, "retrieval" if "@" in name else "generation", **settings)


def test_settings_reach_the_metric() -> None:
    assert value_of(metric_of("exact_match", ignore_case=True), answered("Paris"), "PARIS") == 1
    assert value_of(metric_of("exact_match", ignore_case=False), answered("Paris"), "PARIS") == 0
    assert settings_of("perplexity") == ("context", "stride")
    assert settings_of("recall@10") == ()


@pytest.mark.usefixtures("_plugins")
def test_plugins_are_metrics_like_others() -> None:
    described = {each.name: each for each in describe()}
    assert described["length"][1:] == ("Characters of an answer.", ("generation",), False)
    assert described["anything"].kinds == KINDS
    metric = metric_of("length", kwargs={"factor": 2, "parts": ["a"]})
    assert metric.settings == (2.0, ["a"], "generation")  # type: ignore[attr-defined]
    assert metric_of("anything", ignore_case=True).settings == {"ignore_case": True}  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="metric 'length' needs 'factor'"):
        metric_of("length")
    with pytest.raises(UsageError, match=r"cannot take kwargs.factor = 'x'"):
        metric_of("length", kwargs={"factor": "x"})


def test_nothing_heavy_is_imported_for_the_list() -> None:
    code = (
        "import sys; from genai.evaluation.metrics.registry import describe; describe(); "
        "print(sorted({'torch', 'transformers', 'aiohttp', 'regex', 'jsonschema', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_metric_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/eval.md").read_text(encoding="utf-8")
    shown = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    imports = "from genai.evaluation.records import Score\nfrom genai.metrics.aggregates import mean\n\n\n"
    (tmp_path / "shown_in_docs.py").write_text(imports + shown[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    point = importlib.metadata.EntryPoint("politeness", "shown_in_docs:Politeness", "genai.metrics")
    monkeypatch.setattr(registry.METRICS, "_entry_points", lambda: importlib.metadata.EntryPoints([point]))
    metric = open_metric(MetricConfig(name="politeness", kwargs={"words": ["bitte"]}), judges={}, kind="generation")
    example = Example(id="1", dataset="faq", kind="generation", question=Chat(prompt="Well?"))
    found = [asyncio.run(metric.score(example, Answer(text=said))) for said in ("Bitte sehr.", "Thank you.")]
    assert [score.value for score in found if isinstance(score, Score)] == [1.0, 0.0]
    parts = np.array([score.parts for score in found if isinstance(score, Score)])
    assert metric.aggregate(parts, np.array([[1.0, 1.0], [3.0, 1.0]])).tolist() == [0.5, 0.75]
