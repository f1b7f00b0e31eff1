"""A report with everything in it, hostile text included."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from genai.report import (
    AnswerPair,
    DocumentRow,
    DroppedQuery,
    IndexReport,
    LabelSample,
    LeakedPair,
    Lengths,
    LossRow,
    MapPoint,
    MetricChange,
    MovedQuery,
    PairSample,
    ProofOutcome,
    RetrievalReport,
    TrainingReport,
    TrialRow,
)
from genai.report.evaluation_contents import (
    AnswerCell,
    ComparisonReport,
    CostRow,
    DifferenceRow,
    EvaluationReport,
    ExampleCard,
    FaultRow,
    GateRow,
    MeasureRow,
    ScoreCell,
    SliceRow,
    Verdict,
)

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium. No longer than a module: while it lives, its event loop keeps others from being run."""
    from browser_pages import launched

    with launched() as opened:
        yield opened


@pytest.fixture
def hostile() -> str:
    """A row of data that would like to be markup."""
    return HOSTILE


@pytest.fixture
def report() -> TrainingReport:
    """Sixty steps of training."""
    metrics: list[dict[str, float]] = [{"step": 0, "loss/eval": 3.9}]
    for step in range(1, 61):
        metrics.append(
            {
                "step": step,
                "loss/train": 2.5 + math.exp(-step / 10) + 0.1 * math.sin(7 * step),
                "lr": 5e-4 * step / 60,
                "grad_norm": 1.0,
                "throughput/tokens_per_sec": 300.0 + step,
                "memory/rss_bytes": 2.0**31,
            }
        )
        if step % 20 == 0:
            metrics.append({"step": step, "loss/eval": 2.9 + 1 / step})
    return TrainingReport(
        run_name="faq-lora-3f9c21ab",
        model="gallery:smollm2-135m-instruct",
        data=f"data/{HOSTILE}.jsonl",
        started_at="2026-11-22T01:48:41+00:00",
        facts={"Steps": "60", "Peak memory": "2.0 GiB"},
        losses=[LossRow(name="base", loss=3.9), LossRow(name=HOSTILE, loss=3.4), LossRow(name="tuned", loss=2.6)],
        metrics=metrics,
        answers=[AnswerPair(prompt=HOSTILE, expected="Yes.", base="<img src=x onerror=alert(2)>", tuned="\x1b[31mYes")],
        data_facts={"Rows": "400"},
        lengths=Lengths(edges=[0, 64, 128, 192], counts=[3, 0, 9], max_seq_len=256),
        labels=[
            LabelSample(
                title=f"{HOSTILE}:12",
                tokens=[("user\n", False), (HOSTILE, False), ("\n", False), ("Two", True), (" words", True)],
                num_tokens=25,
                num_trained_tokens=2,
            )
        ],
        proofs=[
            ProofOutcome(name="packing", status="passed", detail="largest difference 3e-6", time_s=4.2),
            ProofOutcome(name="export", status="skipped", detail=HOSTILE),
        ],
        warnings=[f"a row was cut: {HOSTILE}"],
        config=f"model: {HOSTILE}\nkey: env:TOKEN\n",
        inputs={HOSTILE: {"sha256": "ab" * 32, "parts": [1, HOSTILE], "none": None, "empty": []}},
        environment={"python": "3.11", "gpus": []},
    )


@pytest.fixture
def index_report() -> IndexReport:
    """A sync of an index of fifty texts in three groups."""
    points = [
        MapPoint(
            x=math.cos(number),
            y=math.sin(number) / 9,
            title=f"faq.md:{number}",
            text=HOSTILE if number == 7 else f"text {number} " * 12,
            group=("floors", HOSTILE, "roofs")[number % 3],
        )
        for number in range(50)
    ]
    return IndexReport(
        run_name="faq-2",
        source=f"delta:data/{HOSTILE}@3",
        model="gallery:all-minilm-l6-v2",
        started_at="2026-11-22T01:48:41+00:00",
        facts={"chunks": "50", "embedded": "12"},
        changes={"documents upserted": "12", "documents removed": "1"},
        holds={"chunks": "50", HOSTILE: HOSTILE},
        lengths=Lengths(edges=[0, 200, 400], counts=[41, 9]),
        points=points,
        points_note="Two principal components.",
        slowest=[DocumentRow(name="big.pdf", detail="812 pages", time_s=4.2)],
        failed=[DocumentRow(name=HOSTILE, detail="the file is encrypted")],
        config=f"name: {HOSTILE}\n",
        inputs={"source": {"version": 3}},
    )


def change_row(metric: str, before: float, difference: float, spread: float = 0.02) -> MetricChange:
    """A measure whose difference lies in the middle of its interval."""
    after = before + difference
    return MetricChange(
        metric=metric,
        before=before,
        before_low=before - 0.04,
        before_high=before + 0.04,
        after=after,
        after_low=after - 0.04,
        after_high=after + 0.04,
        difference=difference,
        low=difference - spread,
        high=difference + spread,
    )


@pytest.fixture
def retrieval_report() -> RetrievalReport:
    """Forty steps of tuning, with everything that can be asked for."""
    metrics: list[dict[str, float]] = []
    for step in range(1, 41):
        metrics.append({"step": step, "loss/train": math.exp(-step / 9), "lr": 1e-5 * step})
        if step % 20 == 0:
            metrics.append({"step": step, "loss/eval": 0.4 - step / 200})
    moved = MovedQuery(
        query=HOSTILE,
        expected="A permit.",
        rank_before=None,
        rank_after=1,
        first_before="<img src=x onerror=alert(2)>",
        first_after="A permit.",
    )
    trial = TrialRow(
        name="faq-t00-r0",
        settings={"optimizer.lr": "5e-05", "loss.name": HOSTILE},
        round=0,
        length="20ba",
        score=0.61,
        time_s=20.4,
    )
    return RetrievalReport(
        run_name="faq-1f3c",
        model="gallery:all-minilm-l6-v2",
        data=f"data/{HOSTILE}.jsonl",
        started_at="2026-11-22T01:48:41+00:00",
        facts={"steps": "40"},
        changes=[
            change_row("recall@1", 0.44, 0.066),
            change_row("ndcg@10", 0.612, 0.058),
            change_row("map@100", 0.5, 0.01),
        ],
        num_queries=500,
        shorter={192: [change_row("ndcg@10", 0.58, 0.07)], 96: [change_row("ndcg@10", 0.5, 0.1)]},
        validation=[change_row("ndcg@10", 0.62, 0.05)],
        forgetting=[change_row("ndcg@10", 0.8, -0.05)],
        metrics=metrics,
        trials=[
            trial,
            TrialRow(
                name="t1",
                settings={"seed": "1"},
                round=0,
                length="20ba",
                score=None,
                time_s=1.0,
                fault=f"nan {HOSTILE}",
            ),
            TrialRow(name="t0", settings={"seed": "2"}, round=1, length="40ba", score=0.64, time_s=41.0, has_won=True),
        ],
        trials_metric="ndcg@10",
        won=[moved],
        lost=[MovedQuery(query="q", expected="a", rank_before=1, rank_after=7, first_before="a", first_after="")],
        num_won=61,
        num_lost=1012,
        data_facts={"training pairs": "1,280"},
        made_facts={"made": "800", "kept": "62 %"},
        dropped=[DroppedQuery(query=HOSTILE, passage="Sand is small stones.", reason="its passage is at 14")],
        negative_facts={"a query": "4"},
        leaked=[LeakedPair(train="p.jsonl:3", held_out="p.jsonl:90", similarity=0.934, text=f"What {HOSTILE}")],
        num_leaked=12,
        samples=[
            PairSample(
                title=f"p.jsonl:7 {HOSTILE}",
                query="what is sand",
                positive="Small stones.",
                positive_score=0.61,
                negatives=[("Gravel.", 0.7), (HOSTILE, 0.2), ("Clay.", None)],
            )
        ],
        proofs=[ProofOutcome(name="gradient", status="passed", detail="largest difference 3e-6", time_s=4.2)],
        promoted=False,
        promotion_reason=f"ndcg@10 0.67 is not > 0.7 {HOSTILE}",
        followed={"registry": "faq@3"},
        config=f"model: {HOSTILE}\nkey: env:TOKEN\n",
        inputs={"data": {"pairs": 1280}},
        environment={"python": "3.11"},
    )


def measure_row(target: str, metric: str, value: float, **changes: Any) -> MeasureRow:
    """A measure on the data set faq, in the middle of its interval."""
    values: dict[str, Any] = {
        "target": target,
        "dataset": "faq",
        "metric": metric,
        "value": value,
        "low": value - 0.1,
        "high": value + 0.1,
        "num": 60,
        **changes,
    }
    return MeasureRow(**values)


def difference_row(before: float, after: float, **changes: Any) -> DifferenceRow:
    """A difference that is significant."""
    values: dict[str, Any] = {
        "baseline": before,
        "value": after,
        "difference": after - before,
        "low": after - before - 0.2,
        "high": after - before + 0.2,
        "p_value": 0.0004,
        "significant": True,
        "wins": 28,
        "losses": 7,
        "ties": 24,
        "needed": 11_002,
        **changes,
    }
    return DifferenceRow(**values)


def example_card(number: int, before: float, after: float, text: str = "") -> ExampleCard:
    """An example of the data set faq or sums, with the answers of three targets."""
    verdict: Verdict = "tied" if before == after else "won" if after > before else "lost"
    fails = number == 2
    return ExampleCard(
        dataset="sums" if number >= 6 else "faq",
        id=f"q{number}",
        question=f"Question {number}? {text}",
        expected=[f"right {number}"],
        answers=[
            AnswerCell(target="base", text=f"base says {number}", scores={"token_f1": ScoreCell(value=before)}),
            AnswerCell(
                target="tuned",
                text=None if fails else f"tuned says {number} {text}",
                error=f"HTTP 500 {HOSTILE}" if fails else None,
                scores={}
                if fails
                else {"token_f1": ScoreCell(value=after, note="three words are missing"), "nll": ScoreCell()},
                verdicts={} if fails else {"token_f1": verdict},
                latency_s=0.52,
                usd=0.001,
            ),
            AnswerCell(
                target="other",
                text=f"other says {number}",
                scores={"token_f1": ScoreCell(unscored=f"the judge said nonsense {HOSTILE}")}
                if number == 4
                else {"token_f1": ScoreCell(value=before)},
                verdicts={} if number == 4 else {"token_f1": "tied"},
            ),
        ],
        slices={"topic": ("floors", HOSTILE)[number % 2]},
        synthetic=number == 5,
    )


@pytest.fixture
def evaluation_report() -> EvaluationReport:
    """Two targets beside a baseline, with everything that a report can hold."""
    slices = [
        SliceRow(column="topic", value="roofs", num=9, measured=0.4, low=0.3, high=0.5),
        SliceRow(column="topic", value=HOSTILE, num=20, measured=0.7, low=0.5, high=0.8),
        *(SliceRow(column="year", value=str(year), num=4, measured=0.8, low=0.6, high=0.9) for year in range(13)),
    ]
    measures = [
        measure_row("base", "token_f1", 0.379),
        measure_row("base", "latency_s", 1.57, unit="s", higher_is_better=False),
        measure_row(
            "tuned",
            "token_f1",
            0.741,
            low=0.612,
            high=0.861,
            num=58,
            num_failed=2,
            num_unscored=1,
            notes=[f"only 9 examples {HOSTILE}"],
            slices=slices,
            difference=difference_row(0.379, 0.741, low=0.159, high=0.55),
        ),
        measure_row(
            "tuned",
            "latency_s",
            1.07,
            unit="s",
            higher_is_better=False,
            difference=difference_row(1.57, 1.07, needed=None),
        ),
        measure_row("other", "token_f1", 0.586, difference=difference_row(0.379, 0.586, significant=False)),
        measure_row("other", "helpfulness", 0.7, trusted=False),
        measure_row("tuned", "perplexity", 23.1, dataset="sums", low=20.0, high=27.0, higher_is_better=False),
    ]
    cards = [example_card(1, 0.2, 0.9, HOSTILE), example_card(2, 0.5, 0.0), example_card(4, 0.5, 0.5)]
    return EvaluationReport(
        run_name="faq-eval",
        status="failed",
        targets=["tuned", "other"],
        baseline="base",
        data="faq, sums",
        started_at="2026-11-22T01:48:41+00:00",
        facts={"examples": "900"},
        gates=[
            GateRow(gate="cost_usd <= 1", target="all targets", passed=True, reason="cost_usd 0.020 <= 1"),
            GateRow(
                gate="faq.token_f1 >= 0.9",
                target="tuned",
                passed=False,
                reason=f"faq.token_f1 0.741 is not >= 0.9 {HOSTILE}",
            ),
        ],
        measures=measures,
        averages={"tuned": {"default_average": 0.412}, "other": {}},
        costs=[
            CostRow(name="tuned", prompt_tokens=400, completion_tokens=100, usd=0.02),
            CostRow(name="judge", prompt_tokens=10, completion_tokens=20, usd=None),
        ],
        facts_of_data={"data set faq": "900 examples"},
        failures=[FaultRow(what="tuned", reason=f"HTTP 500 {HOSTILE}", num=12, examples=["faq q2"])],
        unscored=[FaultRow(what="token_f1", reason=f"nonsense {HOSTILE}", num=1, examples=["faq q4"])],
        examples=cards,
        num_examples=900,
        warnings=[f"a row was left out {HOSTILE}"],
        config=f"target: {HOSTILE}\nkey: env:TOKEN\n",
        inputs={"targets": {"tuned": {"reference": "runs:faq"}}},
    )


@pytest.fixture
def comparison_report() -> ComparisonReport:
    """Eight examples of two data sets, one of them lost, three won."""
    scores = [(0.5, 0.5), (0.2, 0.9), (0.5, 0.0), (0.9, 0.1), (0.5, 0.5), (0.3, 0.4), (0.0, 1.0), (0.6, 0.6)]
    cards = [example_card(number, *both, HOSTILE if number == 3 else "") for number, both in enumerate(scores)]
    return ComparisonReport(
        run_name="faq-base and faq-lora",
        first="base",
        second="tuned",
        facts={"examples": "8"},
        measures=[measure_row("tuned", "token_f1", 0.5, difference=difference_row(0.44, 0.5))],
        left_out=[f"sums: only base measured it {HOSTILE}"],
        examples=cards,
        num_examples=8,
    )
