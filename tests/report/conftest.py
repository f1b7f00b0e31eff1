"""A report with everything in it, hostile text included."""

from __future__ import annotations

import math

import pytest

from genai.report import (
    AnswerPair,
    DocumentRow,
    IndexReport,
    LabelSample,
    Lengths,
    LossRow,
    MapPoint,
    ProofOutcome,
    TrainingReport,
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
