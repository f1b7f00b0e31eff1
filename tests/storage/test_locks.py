from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from genai.errors import GenaiError
from genai.storage.locks import exclusive, is_held, lock_file, shared

HOLD = """
import sys, time
from pathlib import Path
from genai.storage import locks
with getattr(locks, sys.argv[1])(Path(sys.argv[2]), timeout_s=5):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("held", "wanted", "granted"),
    [
        ("exclusive", exclusive, False),
        ("exclusive", shared, False),
        ("shared", exclusive, False),
        ("shared", shared, True),
    ],
)
def test_a_lock_holds_between_processes_until_the_holder_is_killed(
    held: str,
    wanted: Callable[..., object],
    granted: bool,
    tmp_path: Path,
    start_python: Callable[..., subprocess.Popen[str]],
) -> None:
    path = tmp_path / "models" / "thing"
    with start_python(HOLD, held, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_held(path)
        if granted:
            with wanted(path, timeout_s=0):  # type: ignore[attr-defined]
                pass
        else:
            with pytest.raises(GenaiError, match="in use by another process"), wanted(path, timeout_s=0.15):  # type: ignore[attr-defined]
                pass
    assert not is_held(path)
    with exclusive(path, timeout_s=0):
        pass


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "thing"
    order = []
    entered = threading.Event()

    def first() -> None:
        with exclusive(path, timeout_s=0):
            entered.set()
            time.sleep(0.15)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait()
    with exclusive(path, timeout_s=5):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "thing")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_was_removed_while_we_waited_is_not_taken_for_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "thing"
    waiting, entered = [], threading.Event()

    def second() -> None:
        entered.set()
        with exclusive(path, timeout_s=5):
            waiting.append(lock_file(path).exists())

    with exclusive(path, timeout_s=0):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait()
        time.sleep(0.05)
        lock_file(path).unlink()
    thread.join()
    assert waiting == [True]
