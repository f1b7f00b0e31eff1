"""The command line of `genai embed-finetune`; what it does is tested in tests/jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from genai.jobs.embed_finetune_result import (
    EmbedFinetuneResult,
    MadeCounts,
    MetricChange,
    MinedNegatives,
    MovedQuery,
    Promotion,
    SearchResult,
    TrialResult,
)


def change(metric: str, before: float, difference: float, low: float, high: float) -> MetricChange:
    after = before + difference
    ends = {"before_low": before - 0.05, "before_high": before + 0.05, "after_low": after - 0.05}
    return MetricChange(
        metric=metric,
        before=before,
        after=after,
        after_high=after + 0.05,
        difference=difference,
        low=low,
        high=high,
        **ends,
    )


CHANGES = (change("recall@10", 0.794, 0.054, 0.031, 0.078), change("ndcg@10", 0.612, 0.008, -0.004, 0.02))
RESULT = EmbedFinetuneResult(
    run="faq",
    path="runs/faq",
    kind="sentence_encoder",
    model="runs/faq/model",
    adapter=None,
    report="runs/faq/report.html",
    num_pairs=1280,
    num_passages=1500,
    num_queries=500,
    num_near_duplicates=0,
    changes=CHANGES,
    validation=(),
    forgetting=(),
    shorter={},
    won=(MovedQuery(query="q", expected="a", rank_before=None, rank_after=1, first_before="x", first_after="a"),),
    lost=(),
    num_won=61,
    num_lost=1012,
    made=None,
    negatives=None,
    promotion=Promotion(promoted=None, reason=""),
    search=None,
    loss_first=1.0,
    loss_last=0.5,
    batches=40,
    epochs=1.0,
    tokens=150_000,
    train_s=60.0,
    train_cpu_s=98.0,
    total_s=150.0,
    pairs_per_s=21.33,
    exact=True,
    inexact_reasons=(),
)
PROMOTED = Promotion(
    promoted=True,
    reason="recall@10 0.848 > baseline 0.794 (+0.054, 95 % +0.031 to +0.078)",
    registered="faq@3",
    alias="production",
    index="faq",
    index_metrics={"recall@10": (0.79, 0.85)},
    onnx="runs/faq/onnx/model.onnx",
    onnx_metrics={"ndcg@10": (0.67, 0.668)},
)
JOB = """\
model: {name: sentence_encoder, pretrained_model_name_or_path: "gallery:all-minilm-l6-v2"}
data: {pairs: pairs.jsonl}
"""


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("job.yaml")
    path.write_text(JOB)
    return path


@pytest.fixture
def ended_with(
    genai: Callable[..., Any], job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[EmbedFinetuneResult], Any]:
    """Run the command with a job that hands that back."""

    def run(result: EmbedFinetuneResult, *flags: str) -> Any:
        monkeypatch.setattr("genai.jobs.embed_finetune.run", lambda *_, **__: result)
        return genai("embed-finetune", job_file, *flags)

    return run


def test_a_result_as_text(genai: Callable[..., Any], job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(loaded: Any, **options: Any) -> EmbedFinetuneResult:
        seen.update(options, lr=loaded.config.optimizer.lr)
        return RESULT

    monkeypatch.setattr("genai.jobs.embed_finetune.run", run)
    ended = genai("embed-finetune", job_file, "optimizer.lr=3e-5", "--run-name", "r", "--allow-code")
    assert ended.code == 0, ended.err
    assert seen == {"run_name": "r", "allow_code": True, "lr": 3e-5}
    assert ended.out.splitlines() == [
        "500 held-out queries over 1,500 documents:",
        "METRIC     BEFORE  AFTER  DIFFERENCE  95 % INTERVAL",
        "recall@10   0.794  0.848      +0.054  +0.031 to +0.078 *",
        "ndcg@10     0.612  0.620      +0.008  -0.004 to +0.020",
        "61 queries find their answer further up, 1,012 further down; * where the 95 % interval leaves 0 out",
        "",
        "pairs     1,280",
        "model     runs/faq/model",
        "report    runs/faq/report.html",
        "training  1.0 min of 2.5 (40 steps, 21.3 pairs/s, 98 CPU-seconds)",
        "use it    embedding: {model: runs:faq} in the job file of an index",
    ]


def test_a_result_as_json(ended_with: Callable[..., Any]) -> None:
    values = ended_with(replace(RESULT, shorter={64: CHANGES}), "--json").json
    assert values.pop("schema_version") == 1
    assert EmbedFinetuneResult.from_json(values) == replace(RESULT, shorter={64: CHANGES})


def test_everything_that_may_be_told(ended_with: Callable[..., Any]) -> None:
    trial = TrialResult(
        run="faq-t00-r0",
        settings={"optimizer.lr": 1e-5, "loss.name": "cosent"},
        round=0,
        max_duration="20ba",
        score=0.61,
        cpu_s=30.0,
        seconds=20.4,
    )
    failed = replace(trial, run="faq-t01-r0", score=None, fault="the loss is \x1b[31mnot finite")
    ended = ended_with(
        replace(
            RESULT,
            num_near_duplicates=12,
            adapter="runs/faq/adapter",
            forgetting=(change("recall@10", 0.9, -0.02, -0.03, -0.01),),
            shorter={96: CHANGES[:1], 192: CHANGES[:1]},
            made=MadeCounts(
                method="gpt",
                num_passages=400,
                num_made=800,
                num_round_trip=600,
                num_judged=500,
                yield_share=0.625,
                usd=1.234,
            ),
            negatives=MinedNegatives(
                num_negatives=4,
                mean_score=0.51,
                mean_positive_score=0.73,
                share_excluded=0.08,
                share_missing=0.02,
                times=3,
            ),
            promotion=PROMOTED,
            search=SearchResult(
                metric="ndcg@10",
                trials=(trial, failed),
                winner="faq-t00-r0",
                config="runs/faq/search/a.yaml",
                out_of_time=True,
            ),
        )
    )
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out
    lines = ended.out.splitlines()
    at = lines.index("Vectors cut to 192 numbers, before and after:")
    assert lines.index("Vectors cut to 96 numbers, before and after:") > at
    for line in (
        "recall@10   0.900  0.880      -0.020  -0.030 to -0.010 *",
        "2 trials, compared by the validation queries; the budget ended the search:",
        "faq-t00-r0  optimizer.lr=1e-05, loss.name=cosent  20ba     0.6100       20",
        "faq-t01-r0  optimizer.lr=1e-05, loss.name=cosent  20ba          -       20",
        "faq-t01-r0 failed: the loss is [31mnot finite",
        "faq-t00-r0 has won; its job file: runs/faq/search/a.yaml",
        "pairs     1,280, 12 that resemble held-out ones left out",
        "queries   800 made of 400 passages by gpt: 600 find their passage, 500 kept by the judge (62%, 1.23 USD)",
        "negatives 4 a query, score 0.510 beside 0.730 of the positives; 8% left out as answers, "
        "2% of the places filled at random, mined 3 times",
        "promoted  yes: recall@10 0.848 > baseline 0.794 (+0.054, 95 % +0.031 to +0.078)",
        "registry  faq@3, which production now names",
        "index     faq answers with it (recall@10 0.790 -> 0.850)",
        "onnx      runs/faq/onnx/model.onnx (ndcg@10 0.670 -> 0.668)",
        "adapter   runs/faq/adapter",
        "use it    embedding: {model: registry:faq@production} in the job file of an index",
    ):
        assert line in lines, line


def test_a_reranker_is_used_otherwise(ended_with: Callable[..., Any]) -> None:
    last = ended_with(replace(RESULT, kind="cross_encoder")).out.splitlines()[-1]
    assert last == "use it    search: {reranker: {name: cross_encoder, model: runs:faq}} in the job file of an index"


def test_a_promotion_that_was_not_earned_ends_with_3(ended_with: Callable[..., Any]) -> None:
    result = replace(RESULT, promotion=Promotion(promoted=False, reason="recall@10 0.60 is not > baseline 0.61"))
    ended = ended_with(result)
    assert ended.code == 3
    assert "promoted  no: recall@10 0.60 is not > baseline 0.61" in ended.out
    assert ended.err.splitlines()[-1].startswith("error: not promoted: recall@10 0.60 is not > baseline 0.61")
    as_json = ended_with(result, "--json")
    assert as_json.code == 3
    assert as_json.json["promotion"]["promoted"] is False, "one object, which can be parsed"


def test_ranks_are_launched(genai: Callable[..., Any], job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def launch(job: str, config: Path, overrides: tuple[str, ...], **options: Any) -> dict[str, Any]:
        seen.update(options, job=job, config=config, overrides=overrides)
        return dict(json.loads(json.dumps(RESULT.to_json())))

    monkeypatch.setattr("genai.launch.local.launch_local", launch)
    ended = genai("embed-finetune", job_file, "seed=4", "--nproc", "2", "--quiet")
    assert ended.code == 0, ended.err
    assert (seen["job"], seen["nproc"], seen["overrides"], seen["flags"]) == (
        "embed_finetune",
        2,
        ("seed=4",),
        ["--quiet"],
    )


def test_a_plan_starts_nothing(genai: Callable[..., Any], job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def make_plan(loaded: Any, **options: Any) -> Any:
        seen.update(options)
        return SimpleNamespace(text=lambda: "the plan", to_json=lambda: {"steps": 3})

    monkeypatch.setattr("genai.jobs.embed_finetune_plan", SimpleNamespace(make_plan=make_plan), raising=False)
    assert genai("embed-finetune", job_file, "--dry-run", "--run-name", "r").out == "the plan\n"
    assert seen == {"run_name": "r", "allow_code": False}
    assert genai("embed-finetune", job_file, "--dry-run", "--json").json == {"schema_version": 1, "steps": 3}


def test_a_wrong_job_file_is_told_before_anything_is_started(genai: Callable[..., Any], job_file: Path) -> None:
    ended = genai("embed-finetune", job_file, "los.name=cosent", "--nproc", "2")
    assert ended.code == 2 and "did you mean 'loss'?" in ended.err
    contradiction = genai("embed-finetune", job_file, "loss.name=listwise")
    assert contradiction.code == 2
    assert "the loss listwise is not for a sentence_encoder" in contradiction.err


@pytest.mark.parametrize("words", [["config", "validate"], ["config", "show"]])
def test_helpers_know_the_job(genai: Callable[..., Any], job_file: Path, words: list[str]) -> None:
    assert genai(*words, job_file, "--job", "embed-finetune").code == 0
    assert genai(*words, job_file).code == 0


def test_its_keys_are_explained(genai: Callable[..., Any]) -> None:
    assert "relative margin" in genai("config", "explain", "embed-finetune.hard_negatives.exclude_above").out
    assert genai("config", "schema", "embed-finetune").json["title"] == "genai embed-finetune"
