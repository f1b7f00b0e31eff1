import pytest

from genai.training.callbacks.speed_monitor import FlopsModel, SpeedMonitor


def test_the_first_step_is_left_out(step_info):
    monitor = SpeedMonitor()
    monitor.fit_start(batch=0)
    assert monitor.step_end(step_info(1, step_s=60.0)) == {}
    assert monitor.step_end(step_info(2)) == pytest.approx(
        {
            "throughput/tokens_per_sec": 2000.0,
            "throughput/device/tokens_per_sec": 2000.0,
            "throughput/samples_per_sec": 16.0,
            "throughput/step_s": 0.5,
        }
    )


def test_means_over_the_window_only(step_info):
    monitor = SpeedMonitor(window=2)
    monitor.fit_start(batch=0)
    for batch, step_s in enumerate([9.0, 9.0, 0.5, 1.5], start=1):
        metrics = monitor.step_end(step_info(batch, step_s=step_s))
    assert metrics["throughput/step_s"] == pytest.approx(1.0)
    assert metrics["throughput/tokens_per_sec"] == pytest.approx(1000.0)


def test_a_resumed_run_does_not_count_rows_from_before(step_info):
    monitor = SpeedMonitor()
    monitor.fit_start(batch=500)
    assert monitor.step_end(step_info(501)) == {}
    assert monitor.step_end(step_info(502))["throughput/samples_per_sec"] == pytest.approx(16.0)


def test_mfu(step_info):
    monitor = SpeedMonitor(flops=FlopsModel(flops_per_token=6e9, peak_flops=1e14))
    monitor.step_end(step_info(1))
    assert monitor.step_end(step_info(2))["throughput/mfu"] == pytest.approx(2000 * 6e9 / 1e14)


def test_a_second_fit_starts_anew(step_info):
    monitor = SpeedMonitor()
    for batch in (1, 2):
        monitor.step_end(step_info(batch))
    assert monitor.tokens_per_s
    monitor.fit_start(batch=2)
    assert monitor.tokens_per_s == 0.0
    assert monitor.step_end(step_info(3)) == {}
