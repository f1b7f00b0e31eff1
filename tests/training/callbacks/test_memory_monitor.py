import mmap

from genai.training.callbacks.memory_monitor import MemoryMonitor, peak_resident_bytes, resident_bytes


def test_sees_memory_come_and_keeps_the_peak():
    before = resident_bytes()
    # New pages, whatever the allocator keeps from tests before this one.
    block = mmap.mmap(-1, 64 << 20)
    block.write(b"x" * len(block))
    during = resident_bytes()
    assert during - before > 0.9 * len(block)
    peak = during - (1 << 20)  # the kernel counts the peak in batches of pages
    assert peak_resident_bytes() >= peak
    block.close()
    assert peak_resident_bytes() >= peak


def test_reads_at_the_first_step_and_then_seldom(step_info):
    readings = []
    monitor = MemoryMonitor(device_peak_bytes=lambda: readings.append(1) or 123, every=10)
    monitor.fit_start(batch=7)
    logged = [batch for batch in range(8, 40) if monitor.step_end(step_info(batch))]
    assert logged == [8, 18, 28, 38]
    assert len(readings) == 4


def test_metrics(step_info):
    cpu, gpu = MemoryMonitor(), MemoryMonitor(device_peak_bytes=lambda: 5 << 30, every=1)
    assert cpu.step_end(step_info(1)).keys() == {"memory/rss_bytes", "memory/peak_rss_bytes"}
    for batch in (1, 2):
        assert gpu.step_end(step_info(batch))["memory/device_peak_bytes"] == 5 << 30
    assert cpu.rss_bytes > 1 << 20 and cpu.device_bytes is None and gpu.device_bytes == 5 << 30
