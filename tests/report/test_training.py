import html
import math
import re
from dataclasses import replace

import pytest

from genai.report import LabelSample, LossRow, TrainingReport, render_training_report


def text_of(markup: str) -> str:
    """What a page says, without its markup."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", markup, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", body))


def headings(markup: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", markup)


def test_everything_is_shown(report: TrainingReport) -> None:
    markup = render_training_report(report)
    assert headings(markup) == ["Result", "Curves", "Answers", "Data", "Labels", "Proofs", "Origin"]
    said = " ".join(text_of(markup).split())
    for words in (
        "faq-lora-3f9c21ab done",
        "2026-11-22 01:48:41 UTC",
        "Held-out loss fell: 3.900 → 2.600 -33.3 %",
        "tuned 2.600 13.5 -33.3 %",
        "Learning rate",
        "tokens a second",
        "2 of 25 tokens are trained",
        "packing passed largest difference 3e-6 4.2 s",
        "key: env:TOKEN",
        "ab" * 32,
    ):
        assert words in said
    assert "<mark>Two words</mark>" in markup


def test_hostile_text_is_shown_and_does_nothing(report: TrainingReport, hostile: str) -> None:
    markup = render_training_report(report)
    assert markup.count("<script") == markup.count("</script>") == 1
    assert "<img" not in markup and "\x1b" not in markup
    assert text_of(markup).count(hostile) >= 8
    assert "<img src=x onerror=alert(2)>" in text_of(markup)


def test_a_sequence_spread_over_tokens_is_taken_out_as_well() -> None:
    tokens = [("a\x1b", True), ("[31m", True), ("b", True), ("\x1b]0;", False), ("title", False), ("\x07c", True)]
    markup = render_training_report(TrainingReport(run_name="faq", labels=[LabelSample(title="1", tokens=tokens)]))
    assert '<pre class="tokens"><mark>ab</mark><mark>c</mark></pre>' in markup
    assert "tokens are trained" not in markup


def test_what_is_empty_is_left_out() -> None:
    markup = render_training_report(TrainingReport(run_name="faq"))
    assert headings(markup) == []
    assert "<figure" not in markup


def test_a_run_that_failed_says_why(report: TrainingReport) -> None:
    markup = render_training_report(replace(report, status="failed", message="the loss is not finite at step 3"))
    assert '<span class="pill bad">failed</span>' in markup
    assert "the loss is not finite at step 3" in text_of(markup)


@pytest.mark.parametrize("after", [4.1, math.nan, math.inf])
def test_a_loss_that_did_not_fall_is_not_praised(report: TrainingReport, after: float) -> None:
    losses = [LossRow(name="base", loss=4.0), LossRow(name="tuned", loss=after)]
    markup = render_training_report(replace(report, losses=losses))
    assert "Held-out loss did not fall:" in markup
    assert '<span class="pill bad">+2.5 %' in markup or '<span class="pill bad">n/a' in markup


def test_losses_without_any_number_can_be_shown(report: TrainingReport) -> None:
    losses = [LossRow(name="base", loss=math.nan), LossRow(name="tuned", loss=math.nan)]
    metrics = [{"step": 1.0, "loss/train": math.nan}]
    markup = render_training_report(replace(report, losses=losses, metrics=metrics))
    assert "Curves" not in headings(markup)


def test_the_loss_is_smoothed_over_a_long_run_only() -> None:
    def legend(num_steps: int) -> list[str]:
        metrics = [{"step": float(step), "loss/train": 3.0} for step in range(num_steps)]
        metrics.append({"step": 5.0, "loss/eval": 3.0})
        markup = render_training_report(TrainingReport(run_name="faq", metrics=metrics))
        return re.findall(r'<span class="key c\d">(.*?)</span>', markup)

    assert legend(60) == ["training", "evaluation"]
    assert legend(400) == ["training, mean of 10 steps", "evaluation"]


def test_a_long_run_gives_no_long_page() -> None:
    names = ("loss/train", "lr", "grad_norm", "throughput/tokens_per_sec", "memory/rss_bytes")
    metrics = [{"step": float(step), **dict.fromkeys(names, math.sin(step) + 2)} for step in range(20_000)]
    assert len(render_training_report(TrainingReport(run_name="faq", metrics=metrics))) < 400_000


def test_a_step_told_twice_counts_as_told_last() -> None:
    metrics = [{"step": 1.0, "loss/eval": 3.0}, {"step": 2.0, "loss/eval": 9.0}, {"step": 2.0, "loss/eval": 2.0}]
    markup = render_training_report(TrainingReport(run_name="faq", metrics=metrics))
    assert re.findall(r"<title>(evaluation.*?)</title>", markup) == ["evaluation, 1: 3", "evaluation, 2: 2"]
