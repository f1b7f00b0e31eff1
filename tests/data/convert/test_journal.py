from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from genai.data.convert import journal
from genai.data.convert.journal import identity_of, only_writer, refuse_other
from genai.errors import GenaiError, UsageError
from genai.storage import open_store

PLAN = {"format_version": 1, "settings": {"seq_len": 8}, "sources": [{"name": "a", "sha256": "1"}]}


def test_the_identity_is_that_of_what_decides() -> None:
    assert identity_of({**PLAN, "counts": {"rows": 3}}) == identity_of(PLAN)
    assert identity_of({**PLAN, "settings": {"seq_len": 9}}) != identity_of(PLAN)


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ({**PLAN, "settings": {"seq_len": 9}}, "settings: seq_len was 9, now it is 8"),
        ({**PLAN, "sources": []}, "inputs: a is new"),
        ({**PLAN, "sources": [{"name": "a", "sha256": "2"}]}, "inputs: a has changed since"),
        ({**PLAN, "sources": [*PLAN["sources"], {"name": "b"}]}, "other inputs"),  # type: ignore[misc]
        ({**PLAN, "format_version": 0}, "it holds a conversion of other"),
    ],
)
def test_what_differs_is_named(there: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        refuse_other(PLAN, there, "out")


def _holder(**changes: object) -> bytes:
    values = {"token": "t", "host": socket.gethostname(), "pid": os.getpid(), **changes}
    return json.dumps(values).encode()


@pytest.mark.integration
def test_a_marker_keeps_others_out_of_a_bucket(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_SETTLES_IN_S", 0.0)
    monkeypatch.setattr(journal, "_RENEWED_EVERY_S", 0.05)
    store = open_store(s3_bucket)
    with only_writer(s3_bucket):
        first = store.stat(".convert/lock.json")
        with (
            pytest.raises(GenaiError, match=rf"process {os.getpid()} on .* is converting into it"),
            only_writer(s3_bucket),
        ):
            pass
        time.sleep(1.2)
        renewed = store.stat(".convert/lock.json")
        assert first is not None
        assert renewed is not None
        assert renewed.modified > first.modified
    assert store.list() == []


@pytest.mark.integration
def test_a_marker_of_a_dead_process_is_taken_over(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_SETTLES_IN_S", 0.0)
    store = open_store(s3_bucket)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    store.write(".convert/lock.json", _holder(pid=dead.pid))
    with only_writer(s3_bucket):
        pass
    store.write(".convert/lock.json", _holder(host="elsewhere"))
    with pytest.raises(GenaiError, match="on elsewhere is converting"), only_writer(s3_bucket):
        pass
    monkeypatch.setattr(journal, "_GIVEN_UP_AFTER_S", -60.0)
    with only_writer(s3_bucket):
        pass
