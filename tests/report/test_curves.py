from genai.report.curves import loss_chart, metric_chart, points, run_charts


def test_a_step_that_was_told_twice_counts_as_told_last() -> None:
    records = [{"step": 2.0, "lr": 1.0}, {"step": 1.0, "lr": 5.0}, {"step": 2.0, "lr": 3.0}, {"step": 3.0}]
    assert points(records, "lr") == [(1.0, 5.0), (2.0, 3.0)]


def test_the_loss_is_smoothed_over_a_fortieth_of_the_run() -> None:
    records = [{"step": float(step), "loss/train": 1.0 / (1 + step)} for step in range(80)]
    chart = loss_chart([*records, {"step": 79.0, "loss/eval": 0.5}], y_label="mean over queries") or ""
    assert "training, mean of 2 steps" in chart
    assert "evaluation, 79: 0.5" in chart
    assert "mean over queries" in chart
    assert "mean of" not in (loss_chart(records[:39], y_label="x") or "")


def test_what_was_not_recorded_is_not_drawn() -> None:
    assert loss_chart([], y_label="x") is None
    assert run_charts([{"step": 1.0}]) == [None] * 4
    drawn = [chart is not None for chart in run_charts([{"step": 1.0, "lr": 1.0, "memory/rss_bytes": 2.0**30}])]
    assert drawn == [True, False, True, False]
    assert metric_chart([{"step": 1.0, "a": 2.0}], "A", {"b": "b"}, y_label="y") is None
