from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from genai.serving.exchange import Notes
from genai.serving.metrics import EngineMetrics, Histogram, Metrics

NOTES = Notes(model="faq", prompt_tokens=10, completion_tokens=4, finish_reasons=["stop", "length"], first_token_s=0.03)


async def one_request(metrics: Metrics, *, status: int = 200) -> str:
    metrics.http_begins()
    metrics.inter_token("faq", 0.012)
    metrics.http_ends("POST", "/v1/completions", status, "app", NOTES, 0.4)
    return (await metrics.render()).decode()


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_a_request_adds() -> None:
    found = samples(asyncio.run(one_request(Metrics())))
    model = "model_name=faq"
    assert found["vllm:prompt_tokens_total", model] == 10
    assert found["vllm:generation_tokens_total", model] == 4
    assert found["vllm:request_success_total", "finished_reason=stop", model] == 1
    assert found["vllm:request_success_total", "finished_reason=length", model] == 1
    assert found["vllm:request_success_total", "finished_reason=abort", model] == 0
    assert found["vllm:time_to_first_token_seconds_count", model] == 1
    assert found["vllm:time_to_first_token_seconds_bucket", "le=0.02", model] == 0
    assert found["vllm:time_to_first_token_seconds_bucket", "le=0.04", model] == 1
    assert found["vllm:time_to_first_token_seconds_bucket", "le=+Inf", model] == 1
    assert found["vllm:time_to_first_token_seconds_sum", model] == 0.03
    assert found["vllm:inter_token_latency_seconds_bucket", "le=0.025", model] == 1
    assert found["vllm:e2e_request_latency_seconds_bucket", "le=0.5", model] == 1
    assert found["vllm:request_prompt_tokens_bucket", "le=10.0", model] == 1
    assert found["vllm:request_generation_tokens_bucket", "le=2.0", model] == 0
    labels = ("app=app", "method=POST", "path=/v1/completions", "status=200")
    assert found["genai_http_requests_total", *labels] == 1
    assert found["genai_http_in_flight",] == 0


def test_methods_that_are_made_up_are_one() -> None:
    async def ask() -> str:
        metrics = Metrics()
        for method in ("PROPFIND", "MKCOL", "GET"):
            metrics.http_ends(method, "(unknown)", 404, "", Notes(), 0.1)
        return (await metrics.render()).decode()

    found = samples(asyncio.run(ask()))
    of = [key for key in found if key[0] == "genai_http_requests_total"]
    assert {key[2] for key in of} == {"method=other", "method=GET"}


def test_the_text_is_made_once_a_second() -> None:
    async def ask() -> tuple[bytes, bytes]:
        metrics = Metrics()
        first = await metrics.render()
        metrics.http_ends("GET", "/x", 200, "", Notes(), 0.1)
        return first, await metrics.render()

    first, second = asyncio.run(ask())
    assert first is second


def test_buckets_hold_their_upper_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.sum) == ([2, 2, 1], 8.0)


def test_an_engine_tells_vllms_numbers() -> None:
    metrics = EngineMetrics()
    metrics.update("faq", running=3, waiting=2, crashes=0, kv_usage=0.5, prefix_queries=100, prefix_hits=40, other=1)
    metrics.update("encoder", running=1, waiting=0, crashes=2)
    metrics.queued("faq", 0.2)
    found = samples(asyncio.run(metrics.render()).decode())
    assert found["vllm:num_requests_running", "model_name=faq"] == 3
    assert found["vllm:num_requests_waiting", "model_name=faq"] == 2
    assert found["vllm:kv_cache_usage_perc", "model_name=faq"] == 0.5
    assert found["vllm:prefix_cache_queries_total", "model_name=faq"] == 100
    assert found["vllm:prefix_cache_hits_total", "model_name=faq"] == 40
    assert found["vllm:num_preemptions_total", "model_name=faq"] == 0
    assert found["vllm:request_queue_time_seconds_count", "model_name=faq"] == 1
    assert found["genai_engine_crashes_total", "model_name=encoder"] == 2
    assert ("vllm:kv_cache_usage_perc", "model_name=encoder") not in found


def test_counting_is_cheap() -> None:
    metrics = Metrics()

    def cpu_us(work: int) -> float:
        started = time.thread_time()
        for _ in range(work):
            metrics.inter_token("faq", 0.02)
        return (time.thread_time() - started) / work * 1e6

    assert min(cpu_us(2000) for _ in range(10)) < 1.5


WORKER = """
import asyncio, os, sys, time
from genai.serving.exchange import Notes
from genai.serving.metrics import EngineMetrics, Metrics

async def work():
    metrics = Metrics()
    for _ in range(int(sys.argv[1])):
        metrics.http_begins()
        metrics.http_ends("POST", "/x", 200, "", Notes(model="faq", prompt_tokens=1, first_token_s=0.1), 0.1)
    metrics.http_begins()
    await asyncio.sleep(0.6)
    print("counted", flush=True)
    sys.stdin.readline()

EngineMetrics().update("faq", running=1, waiting=0, crashes=0, kv_usage=0.25)
asyncio.run(work())
"""
READER = """
import asyncio
from genai.serving.metrics import Metrics
print(asyncio.run(Metrics().render()).decode())
"""
FORGETTER = "import sys; from genai.serving.metrics import forget_process; forget_process(int(sys.argv[1]))"


@pytest.mark.integration
def test_processes_are_summed_up_and_the_dead_forgotten(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def read() -> dict[tuple[str, ...], float]:
        done = subprocess.run([sys.executable, "-c", READER], env=environment, capture_output=True, text=True)
        assert not done.stderr
        return samples(done.stdout)

    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, number], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for number in ("3", "4")
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None and worker.stdout.readline() == b"counted\n"
        found = read()
        assert found["vllm:prompt_tokens_total", "model_name=faq"] == 7
        assert found["vllm:time_to_first_token_seconds_count", "model_name=faq"] == 7
        assert found["vllm:time_to_first_token_seconds_bucket", "le=0.1", "model_name=faq"] == 7
        assert found["genai_http_in_flight",] == 2
        workers[0].communicate(b"\n")
        subprocess.run([sys.executable, "-c", FORGETTER, str(workers[0].pid)], env=environment, check=True)
        found = read()
        assert found["vllm:prompt_tokens_total", "model_name=faq"] == 7
        assert found["genai_http_in_flight",] == 1
        assert found["vllm:num_requests_running", "model_name=faq"] == 1
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.communicate(b"\n")
