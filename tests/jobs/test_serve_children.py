"""Processes below a server: they fall and come back, say why they cannot work, and leave nothing behind."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from loops import on_a_loop

from genai.errors import ConfigError, CredentialsError, DataError, GenaiError, Problem, UsageError
from genai.jobs import serve_children
from genai.jobs.serve_children import Child, EngineChild, WorkerChild, failure
from genai.jobs.serve_folder import ServerFolder

CHILD = """
import json, os, sys, time
folder = sys.argv[1]
starts = os.path.join(folder, "starts")
with open(starts, "a") as file:
    file.write("x")
number = os.path.getsize(starts)
def say(message):
    print(message if isinstance(message, str) else json.dumps(message), flush=True)
"""
UNTIL_CLOSED = "\nsys.stdin.read()\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerFolder]:
    monkeypatch.setattr(serve_children, "_FIRST_PAUSE_S", 0.01)
    before = psutil.Process().children()  # servers that other tests share
    with ServerFolder(tmp_path) as made:
        yield made
    left = [child for child in psutil.Process().children() if child not in before]
    assert not left, "left behind"


def script(child: Child, code: str) -> None:
    """Let the child run other code than a module of ours."""
    python, _, _, path, *words = child._command
    child._command = [python, "-c", CHILD + code, path, *words]


def child_of(folder: ServerFolder, code: str) -> Child:
    child = Child("the child", "serve_worker", [], folder)
    script(child, code)
    return child


def num_starts(folder: ServerFolder) -> int:
    path = folder.path / "starts"
    return path.stat().st_size if path.exists() else 0


async def until(check: Callable[[], Any]) -> None:
    while not check():
        await asyncio.sleep(0.01)


@on_a_loop
async def test_a_child_ends_when_its_input_is_closed(folder: ServerFolder) -> None:
    child = child_of(folder, UNTIL_CLOSED)
    await child.start()
    assert child.pid is not None
    watching = asyncio.create_task(child.watch())
    await until(lambda: num_starts(folder) == 1)
    await child.stop(10)
    assert not psutil.pid_exists(child.pid)
    await asyncio.sleep(0.05)
    assert not watching.done()
    assert child.num_restarts == 0
    watching.cancel()


@on_a_loop
async def test_a_child_that_does_not_end_is_killed(folder: ServerFolder) -> None:
    child = child_of(folder, "time.sleep(600)")
    await child.start()
    started = time.monotonic()
    await child.stop(0.2)
    assert time.monotonic() - started < 5


@on_a_loop
async def test_a_child_that_falls_is_started_again(folder: ServerFolder) -> None:
    child = child_of(folder, "if number < 3: os.abort()" + UNTIL_CLOSED)
    await child.start()
    watching = asyncio.create_task(child.watch())
    await until(lambda: num_starts(folder) == 3)
    assert child.num_restarts == 2
    watching.cancel()
    await child.stop(10)


@on_a_loop
async def test_the_pauses_grow_until_it_is_given_up(folder: ServerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_children, "_FIRST_PAUSE_S", 0.05)
    child = child_of(folder, "sys.exit(3)")
    started = time.monotonic()
    await child.start()
    with pytest.raises(GenaiError, match="the child fell 5 times within a minute, last ended with exit code 3"):
        await child.watch()
    assert time.monotonic() - started > 0.05 * (1 + 2 + 4 + 8)
    assert num_starts(folder) == 5
    await child.stop(1)


@on_a_loop
async def test_old_falls_are_forgiven(folder: ServerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_children, "_FALLS_WITHIN_S", 0.0)
    child = child_of(folder, "if number < 8: sys.exit(3)" + UNTIL_CLOSED)
    await child.start()
    watching = asyncio.create_task(child.watch())
    await until(lambda: num_starts(folder) == 8)
    watching.cancel()
    await child.stop(10)


@pytest.mark.parametrize(
    "error",
    [
        DataError("damaged", where="model.safetensors", fix="fetch it again"),
        UsageError("taken"),
        CredentialsError("no key"),
        ConfigError([Problem(message="one", where="a:1:2", fix="x"), Problem(message="two")]),
        GenaiError("some other"),
    ],
)
@on_a_loop
async def test_a_child_that_says_that_it_cannot_work_ends_the_server_with_its_words(
    folder: ServerFolder, error: GenaiError
) -> None:
    child = child_of(folder, f"say({failure(error)!r}); sys.exit(1)")
    await child.start()
    with pytest.raises(type(error)) as caught:
        await child.watch()
    assert type(caught.value) is type(error)
    assert [problem.line() for problem in caught.value.problems] == [problem.line() for problem in error.problems]
    assert caught.value.exit_code == error.exit_code
    assert num_starts(folder) == 1
    await child.stop(1)


@on_a_loop
async def test_what_it_could_do_once_is_tried_again(folder: ServerFolder) -> None:
    said = failure(UsageError("it does not fit into memory"))
    child = child_of(folder, f"if number == 1: os.abort()\nif number < 4: say({said!r}); sys.exit(2)" + UNTIL_CLOSED)
    await child.start()
    watching = asyncio.create_task(child.watch())
    await until(lambda: num_starts(folder) == 4)
    await asyncio.sleep(0.05)
    assert not watching.done()
    watching.cancel()
    await child.stop(10)


@on_a_loop
async def test_what_it_says_at_last_is_told_when_it_is_given_up(folder: ServerFolder) -> None:
    said = failure(UsageError("it does not fit into memory"))
    child = child_of(folder, f"if number == 1: os.abort()\nsay({said!r}); sys.exit(2)")
    await child.start()
    with pytest.raises(UsageError, match="does not fit"):
        await child.watch()
    assert num_starts(folder) == 5
    await child.stop(1)


@on_a_loop
async def test_what_libraries_print_does_no_harm(folder: ServerFolder) -> None:
    code = "say('hello'); say('[1]'); say('x' * 200_000); say('\\udcff'.encode('utf-8', 'replace').decode())"
    with socket.socket() as public:
        child = WorkerChild(folder, [], 0, public)
        script(child, f"{code}; say({{'ready': True}})" + UNTIL_CLOSED)
        await child.start()
        await child.until_ready()
        await child.stop(10)


@on_a_loop
async def test_gauges_of_a_child_that_fell_are_not_counted_any_more(folder: ServerFolder) -> None:
    code = "\nfor kind in ('gauge_livesum', 'counter'):\n"
    code += "    open(f'{folder}/metrics/{kind}_{os.getpid()}.db', 'w').close()\n"
    child = child_of(folder, f"{code}if number < 2: os.abort()" + UNTIL_CLOSED)
    await child.start()
    first = child.pid
    watching = asyncio.create_task(child.watch())
    await until(lambda: num_starts(folder) == 2)
    await until(lambda: (folder.metrics / f"gauge_livesum_{child.pid}.db").exists())
    assert not (folder.metrics / f"gauge_livesum_{first}.db").exists()
    assert (folder.metrics / f"counter_{first}.db").exists()
    watching.cancel()
    await child.stop(10)


ECHO = """
say({"ready": True})
for line in sys.stdin:
    if json.loads(line)["do"] == "reload":
        if number == 1 and os.path.exists(folder + "/fall"):
            os.abort()
        say({"reloaded": "no such index" if os.path.exists(folder + "/wrong") else None})
"""


@on_a_loop
async def test_workers_tell_how_a_reload_went(folder: ServerFolder) -> None:
    with socket.socket() as public:
        worker = WorkerChild(folder, [], 0, public)
        script(worker, ECHO)
        await worker.start()
        await worker.until_ready()
        worker.reopen_log()
        assert await worker.reload() is None
        (folder.path / "wrong").touch()
        assert await worker.reload() == "no such index"
        await worker.stop(10)


@on_a_loop
async def test_a_worker_that_falls_in_a_reload_comes_back_with_the_new_file(folder: ServerFolder) -> None:
    (folder.path / "fall").touch()
    with socket.socket() as public:
        worker = WorkerChild(folder, [], 0, public)
        script(worker, ECHO)
        await worker.start()
        watching = asyncio.create_task(worker.watch())
        await worker.until_ready()
        assert await worker.reload() is None
        assert worker.num_restarts == 1
        watching.cancel()
        await worker.stop(10)


@on_a_loop
async def test_orders_before_the_start_are_passed_over(folder: ServerFolder) -> None:
    with socket.socket() as public:
        worker = WorkerChild(folder, [], 0, public)
        await worker.order(do="reopen_log")
        assert worker.pid is None


@on_a_loop
async def test_what_was_added_is_brought_back_after_a_fall_of_the_engine(folder: ServerFolder) -> None:
    brought = asyncio.Event()

    async def bring_back() -> None:
        brought.set()

    engine = EngineChild(folder, ["--quiet"], on_start=bring_back)
    script(engine, "if number < 2: os.abort()" + UNTIL_CLOSED)
    await engine.start()
    watching = asyncio.create_task(engine.watch())
    await brought.wait()
    watching.cancel()
    await engine.stop(10)


@on_a_loop
async def test_signals_are_named(folder: ServerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr(serve_children._log, "error", lambda text, *values: messages.append(text % values))
    child = child_of(folder, "if number < 2: os.kill(os.getpid(), 9)" + UNTIL_CLOSED)
    await child.start()
    watching = asyncio.create_task(child.watch())
    await until(lambda: num_starts(folder) == 2)
    watching.cancel()
    await child.stop(10)
    assert messages == ["the child was ended by SIGKILL (out of memory?); it is started again"]


def test_children_have_no_more_rights_than_needed(folder: ServerFolder) -> None:
    with socket.socket() as public:
        assert WorkerChild(folder, [], 0, public)._pass_fds == (public.fileno(),)
    assert EngineChild(folder, [], on_start=_nothing)._pass_fds == ()
    with ServerFolder() as own:
        assert own.path.stat().st_mode & 0o077 == 0
    assert not own.path.exists()


async def _nothing() -> None:
    pass
