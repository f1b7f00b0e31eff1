"""A report with everything in it, hostile text included."""

from __future__ import annotations

import math

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

HOSTILE = "<script>alert(1)</script>"


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
