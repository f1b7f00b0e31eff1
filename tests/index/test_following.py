"""Continuous mode: follows, waits for a source that is away, and ends cleanly."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from memory_source import FollowingIndex

from genai.config.index import IndexSourceConfig, SyncConfig
from genai.errors import CredentialsError, DataError, GenaiError, StoppedError, UsageError
from genai.index.dropping import drop
from genai.index.following import run_continuous
from genai.index.sources import open_source
from genai.index.stopping import Stop, stop_on_signals
from genai.index.sync import Parts, SyncReport, rebuild, sync_once
from genai.index.taking import MassDeleteError


def parts_of(index: FollowingIndex, stop: Stop | None = None) -> Parts:
    return Parts(
        ledger=index.ledger,
        encoder=index.encoder,
        engine=index.engine(),
        config=index.config,
        source=index.source,
        encoder_of=index.encoder_of,
        stop=stop or Stop(),
    )


class Clock:
    """Takes the place of waiting: runs what is to happen at a moment, and asks for the end after the last.

    Args:
        stop: is asked at the end.
        events: seconds -> what happens then.
        end_s: when the end is.
    """

    def __init__(self, stop: Stop, events: dict[float, Callable[[], object]], end_s: float) -> None:
        self._stop = stop
        self._events = dict(sorted(events.items()))
        self._end_s = end_s
        self.now_s = 0.0
        self.pauses: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        self.pauses.append(seconds)
        for at_s in [at_s for at_s in self._events if at_s <= self.now_s]:
            self._events.pop(at_s)()
        if self.now_s >= self._end_s:
            self._stop.ask()
        return self._stop.asked


@pytest.fixture
def index(tmp_path: Path) -> FollowingIndex:
    index = FollowingIndex(tmp_path, sync=SyncConfig(poll_s=1.0))
    for number in range(10):
        index.source.put(f"k{number}", f"text {number}")
    return index


def noting(reports: list[SyncReport]) -> Callable[..., SyncReport]:
    """`sync_once`, which keeps the reports of syncs that changed something."""

    def once(parts: Parts, **values: bool) -> SyncReport:
        report = sync_once(parts, **values)
        reports.extend([report] if report.changed else [])
        return report

    return once


def follow(
    index: FollowingIndex, events: dict[float, Callable[[], object]], end_s: float
) -> tuple[Clock, list[SyncReport]]:
    stop = Stop()
    clock, reports = Clock(stop, events, end_s), list[SyncReport]()
    with pytest.raises(StoppedError) as stopped:
        run_continuous(parts_of(index, stop), once=noting(reports), wait=clock.wait)
    assert stopped.value.exit_code == 143
    return clock, reports


def test_it_takes_over_what_changes(index: FollowingIndex, caplog: pytest.LogCaptureFixture) -> None:
    events = {5.0: lambda: index.source.put("k1", "new"), 8.0: lambda: index.source.remove("k2")}
    with caplog.at_level(logging.INFO, "genai"):
        clock, reports = follow(index, events, 20)
    assert [report.number for report in reports] == [1, 2, 3]
    assert set(clock.pauses) == {1.0}
    assert "sync 3: 0 documents in, 1 out" in caplog.text
    assert index.texts() == index.wanted()


def test_it_survives_an_hour_without_its_source(index: FollowingIndex, caplog: pytest.LogCaptureFixture) -> None:
    def go_away() -> None:
        index.source.fault = DataError("the bucket does not answer")

    def come_back() -> None:
        index.source.fault = None
        index.source.put("k1", "what happened meanwhile")

    with caplog.at_level(logging.INFO, "genai"):
        clock, reports = follow(index, {10.0: go_away, 3610.0: come_back}, 3700)
    away = [pause for pause in clock.pauses if pause > 1.0]
    assert away[:6] == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0] and max(away) == 60.0
    assert 60 <= len(away) <= 70  # it did not hammer at it
    assert "does not answer; next try in 60 s" in caplog.text and "all is well again, after" in caplog.text
    assert len(reports) == 2 and index.texts() == index.wanted()


def test_a_source_that_looks_empty_meanwhile_empties_nothing(index: FollowingIndex) -> None:
    rows = dict(index.source.rows)

    def lose() -> None:
        for key in rows:
            index.source.remove(key)

    stop = Stop()
    clock = Clock(stop, {5.0: lose}, 100)
    with pytest.raises(MassDeleteError, match="10 of 10"):
        run_continuous(parts_of(index, stop), wait=clock.wait)
    assert len(index.texts()) == 10


def test_an_encoder_that_is_away_is_waited_for_too(index: FollowingIndex) -> None:
    def go_away() -> None:
        index.encoder.fault = GenaiError("the endpoint is down")
        index.source.put("k1", "new text")

    def come_back() -> None:
        index.encoder.fault = None

    _, reports = follow(index, {5.0: go_away, 300.0: come_back}, 400)
    assert len(reports) == 2 and index.texts() == index.wanted()


@pytest.mark.parametrize("fault", [UsageError("no such table"), CredentialsError("refused")])
def test_a_wrong_config_ends_it_at_once_and_only_at_first(index: FollowingIndex, fault: GenaiError) -> None:
    index.source.fault = fault
    with pytest.raises(type(fault)):
        run_continuous(parts_of(index), wait=lambda _: True)
    index.source.fault = None

    def go_away() -> None:
        index.source.fault = fault

    def come_back() -> None:
        index.source.fault = None

    follow(index, {5.0: go_away, 100.0: come_back}, 200)
    assert index.texts() == index.wanted()


def test_a_source_that_is_away_at_the_start_is_waited_for(index: FollowingIndex) -> None:
    index.source.fault = DataError("no connection")

    def come_back() -> None:
        index.source.fault = None

    _, reports = follow(index, {100.0: come_back}, 200)
    assert len(reports) == 1 and index.texts() == index.wanted()


def test_a_fault_of_ours_is_not_hidden(index: FollowingIndex) -> None:
    index.source.fault = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        run_continuous(parts_of(index), wait=lambda _: False)


def test_a_second_follower_is_refused_while_others_may_change_the_index(index: FollowingIndex) -> None:
    index.sync()
    done: list[str] = []

    def try_it() -> None:
        other = FollowingIndex(index.folder.parent, index.source)
        with pytest.raises(GenaiError, match=r"continuous mode of index 'rows' is held by process") as error:
            run_continuous(parts_of(other))
        with pytest.raises(GenaiError, match="is held by process"):
            drop(other.ledger, other.engine())
        rebuild(other.ledger, other.encoder, other.engine(), other.config, source=other.source)
        done.append(str(error.value))
        other.close()

    _, reports = follow(index, {3.0: try_it, 4.0: lambda: index.source.put("k1", "new")}, 8)
    assert len(done) == 1 and len(reports) == 1
    assert index.texts() == index.wanted()


def test_it_waits_for_another_process_that_changes_the_index(
    index: FollowingIndex, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:

        def lock() -> None:
            stack.enter_context(index.ledger.alone())
            index.source.put("k1", "new")

        with caplog.at_level(logging.INFO, "genai"):
            _, reports = follow(index, {3.0: lock, 60.0: stack.close}, 120)
    assert "index 'rows' is held by process" in caplog.text
    assert len(reports) == 2 and index.texts() == index.wanted()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it(index: FollowingIndex, number: signal.Signals, code: int) -> None:
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), number))
    with stop_on_signals() as stop:
        timer.start()
        with pytest.raises(StoppedError) as stopped:
            run_continuous(parts_of(index, stop))
    timer.join()
    assert stopped.value.exit_code == code
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert index.texts() == index.wanted()


def test_a_second_signal_ends_the_process() -> None:
    code = (
        "import os, signal\nfrom genai.index.stopping import stop_on_signals\n"
        "with stop_on_signals() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    print(stop.asked, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    print('still here', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n" and done.returncode == -signal.SIGTERM


def test_in_another_thread_signals_are_left_alone() -> None:
    seen: list[bool] = []

    def work() -> None:
        with stop_on_signals() as stop:
            seen.append(stop.asked)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False] and signal.getsignal(signal.SIGTERM) == before


@pytest.mark.integration
@pytest.mark.slow
def test_a_table_in_a_bucket_whose_server_goes_away_and_comes_back(
    tmp_path: Path, s3_environment: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server that comes back has lost everything, and gets a table of the same rows and one more."""
    deltalake, pyarrow = pytest.importorskip("deltalake"), pytest.importorskip("pyarrow")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    options = {"AWS_ALLOW_HTTP": "true", "aws_conditional_put": "etag"}

    def append(*keys: str) -> None:
        rows = pyarrow.Table.from_pylist([{"id": key, "text": f"text of {key}"} for key in keys])
        deltalake.write_deltalake("s3://rows/table", rows, mode="append", storage_options=options)

    index = FollowingIndex(tmp_path, sync=SyncConfig(poll_s=0.1))
    index.change_config(source=IndexSourceConfig(table="delta:s3://rows/table", primary_key="id", text="text"))
    index.source = open_source(index.config.source)  # type: ignore[assignment]
    stop, reports, ended = Stop(), list[SyncReport](), list[BaseException]()

    def work() -> None:
        try:
            run_continuous(parts_of(index, stop), once=noting(reports))
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    with caplog.at_level(logging.INFO, "genai"):
        try:
            with bucket_server(port):
                append("k0", "k1", "k2", "k3")
                thread.start()
                wait_until(lambda: len(reports) == 1, thread)
            wait_until(lambda: caplog.text.count("next try in") >= 3, thread)
            with bucket_server(port):
                wait_until(lambda: "there is no" in caplog.text, thread)  # the bucket is empty, the index is not
                append("k0", "k1", "k2", "k3", "k4")
                wait_until(lambda: len(reports) == 2, thread)
                append("k5")
                committed = time.monotonic()
                wait_until(lambda: len(reports) == 3, thread)
                assert time.monotonic() - committed < 30.0
                stop.ask()
                thread.join()
        finally:
            stop.ask()
    assert "all is well again" in caplog.text
    assert [type(error) for error in ended] == [StoppedError]
    assert [report.documents_deleted for report in reports] == [0, 0, 0]
    assert sorted(index.texts()) == ["k0", "k1", "k2", "k3", "k4", "k5"]


@contextmanager
def bucket_server(port: int) -> Iterator[None]:
    """A server with an empty bucket `rows`."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60.0
    try:
        while True:
            try:
                request = urllib.request.Request(f"http://127.0.0.1:{port}/rows", method="PUT")
                opener.open(request, timeout=10).close()
                break
            except OSError:
                assert time.monotonic() < deadline and server.poll() is None
                time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()


def wait_until(condition: Callable[[], bool], thread: threading.Thread) -> None:
    deadline = time.monotonic() + 90.0
    while not condition():
        assert thread.is_alive() and time.monotonic() < deadline
        time.sleep(0.05)
