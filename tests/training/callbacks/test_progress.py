from genai.training.callbacks.memory_monitor import MemoryMonitor
from genai.training.callbacks.progress import Progress
from genai.training.callbacks.speed_monitor import SpeedMonitor


def run(bars, step_info, *, total, start=0, steps=3, device_peak_bytes=None):
    speed, memory = SpeedMonitor(), MemoryMonitor(device_peak_bytes=device_peak_bytes)
    callbacks = [speed, memory, Progress(total_batches=total, speed=speed, memory=memory)]
    for callback in callbacks:
        callback.fit_start(batch=start)
    for batch in range(start + 1, start + steps + 1):
        for callback in callbacks:
            callback.step_end(step_info(batch))
    for callback in callbacks:
        callback.fit_end("done", None)
    return bars[-1]


def test_shows_loss_speed_time_left_and_memory(bars, step_info):
    bar = run(bars, step_info, total=7203, device_peak_bytes=lambda: 3 << 29)
    assert (bar.description, bar.total, bar.closed) == ("training", 7203, 1)
    assert bar.updates[0] == (1, {"loss": "2.000", "mem": "1.5GiB"})
    assert bar.updates[-1] == (3, {"loss": "2.000", "tok/s": "2,000", "eta": "1:00:00", "mem": "1.5GiB"})


def test_resident_memory_on_a_cpu(bars, step_info):
    assert run(bars, step_info, total=10).updates[-1][1]["mem"].endswith("GiB")


def test_a_resumed_run_starts_where_it_stopped(bars, step_info):
    bar = run(bars, step_info, total=200, start=100)
    assert [completed for completed, _ in bar.updates] == [100, 101, 102, 103]


def test_without_a_known_length_there_is_no_time_left(bars, step_info):
    bar = run(bars, step_info, total=None)
    assert bar.total is None and "eta" not in bar.updates[-1][1]


def test_closed_once_even_when_training_never_began(bars):
    speed, memory = SpeedMonitor(), MemoryMonitor()
    never = Progress(total_batches=1, speed=speed, memory=memory)
    never.fit_end("failed", "out of luck")
    assert bars == []
    twice = Progress(total_batches=1, speed=speed, memory=memory)
    twice.fit_start(batch=0)
    twice.fit_end("done", None)
    twice.fit_end("done", None)
    assert bars[0].closed == 1
