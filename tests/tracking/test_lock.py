import json
import os
import signal
import socket
from pathlib import Path

import pytest

from genai.errors import GenaiError
from genai.tracking.lock import hold, live_holder


def test_the_holder_is_named_while_it_holds_and_forgotten_after(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path, what="run 'a'"):
        holder = live_holder(path)
        assert holder is not None
        assert (holder.host, holder.pid) == (socket.gethostname(), os.getpid())
    assert live_holder(path) is None


def test_a_second_holder_is_told_who_has_it_and_what_to_do(tmp_path: Path, hold_elsewhere) -> None:
    process = hold_elsewhere(tmp_path, "faq")
    with pytest.raises(GenaiError) as caught, hold(tmp_path / "faq" / "lock", what="run 'faq'"):
        pass
    assert f"run 'faq' is held by process {process.pid} on host {socket.gethostname()}" in caught.value.message
    assert caught.value.fix is not None and f"kill {process.pid}" in caught.value.fix


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, hold_elsewhere) -> None:
    process = hold_elsewhere(tmp_path, "faq")
    process.send_signal(signal.SIGKILL)
    process.wait()
    path = tmp_path / "faq" / "lock"
    assert json.loads(path.read_text())["pid"] == process.pid
    assert live_holder(path) is None
    with hold(path, what="run 'faq'"):
        holder = live_holder(path)
        assert holder is not None and holder.pid == os.getpid()


def test_a_forked_worker_does_not_keep_a_dead_parents_lock(tmp_path: Path, hold_elsewhere) -> None:
    process = hold_elsewhere(
        tmp_path, "faq", inside="import os\n    child = os.fork()\n    if child: print(child, flush=True)"
    )
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        os.kill(child, 0)  # the worker lives on
        with hold(tmp_path / "faq" / "lock", what="run 'faq'"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_another_hosts_lock_is_believed_and_the_way_out_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "node-7", "pid": 12, "started_at": "2026-01-02", "command": "genai finetune"}))
    with pytest.raises(GenaiError, match="process 12 on host node-7") as caught, hold(path, what="run 'a'"):
        pass
    assert caught.value.fix is not None and f"rm {path}" in caught.value.fix
    holder = live_holder(path)
    assert holder is not None and holder.host == "node-7"


def test_a_half_written_holder_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text('{"host": "no')
    with hold(path, what="run 'a'"):
        assert live_holder(path) is not None
