import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genai.errors import DataError, GenaiError
from genai.evaluation import store as module
from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Failure,
    Likelihood,
    Likelihoods,
    Outcome,
    Query,
    Question,
    Ranking,
    Usage,
    WholeText,
)
from genai.evaluation.store import key_of, open_store, scope_of

QUESTION = Chat(prompt="How thick is the screed?")
USAGE = Usage(prompt_tokens=3, completion_tokens=5, usd=0.25, latency_s=1.5, ttft_s=0.5)
OUTCOMES: list[Outcome] = [
    Answer(
        text="Ü \ud800",
        tool_calls=({"name": "f", "arguments": "{}"},),
        contexts=("a", "b"),
        finish_reason="stop",
        usage=USAGE,
    ),
    Answer(text=""),
    Likelihoods(each=(Likelihood(logprob=-1.25, num_tokens=2, is_greedy=True),), usage=USAGE),
    Likelihoods(each=(Likelihood(logprob=float("-inf"), num_tokens=1, is_greedy=False),)),
    Ranking(keys=("a", "b"), texts=("x",), usage=USAGE),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "answers.sqlite"


def test_every_kind_of_outcome_comes_back_as_it_was_but_cached(file: Path) -> None:
    with open_store(file) as store:
        for number, outcome in enumerate(OUTCOMES):
            store.put(str(number), QUESTION, outcome)
    with open_store(file) as store:
        found = store.get([*map(str, range(len(OUTCOMES))), "unknown"])
    assert len(found) == len(OUTCOMES)
    for number, outcome in enumerate(OUTCOMES):
        kept = found[str(number)]
        assert not isinstance(kept, Failure) and kept.cached
        assert repr(kept) == repr(outcome).replace("cached=False", "cached=True")


def test_a_failure_is_not_kept_and_what_is_there_stays(file: Path) -> None:
    with open_store(file) as store:
        store.put("a", QUESTION, Failure(reason="HTTP 500"))
        assert store.get(["a"]) == {}
        store.put("a", QUESTION, Answer(text="first"))
        store.put("a", QUESTION, Answer(text="second"))
        assert store.get(["a"]) == {"a": Answer(text="first", cached=True)}


def test_more_keys_than_sqlite_takes_at_once(file: Path) -> None:
    keys = [f"k{number}" for number in range(1234)]
    with open_store(file) as store:
        written = [store.submit(key, QUESTION, Answer(text=key)) for key in keys]
        for each in written:
            each.result()
        found = store.get(keys)
    assert len(found) == 1234
    assert all(outcome == Answer(text=key, cached=True) for key, outcome in found.items())


def test_from_many_threads(file: Path) -> None:
    with open_store(file) as store:

        def put_and_get(number: int) -> bool:
            store.put(str(number), QUESTION, Answer(text=str(number)))
            return str(number) in store.get([str(number)])

        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(put_and_get, range(200)))


def test_two_stores_share_a_file(file: Path) -> None:
    with open_store(file) as first, open_store(file) as second:
        first.put("a", QUESTION, Answer(text="x"))
        assert "a" in second.get(["a"])
        second.put("b", QUESTION, Answer(text="y"))
        assert "b" in first.get(["b"])


def test_anybody_can_read_it(file: Path) -> None:
    with open_store(file) as store:
        store.put("a", QUESTION, Answer(text="60 mm"))
    with sqlite3.connect(file) as connection:
        [(question, outcome)] = connection.execute(
            "SELECT question ->> 'prompt', outcome ->> 'text' FROM answers"
        ).fetchall()
    connection.close()
    assert (question, outcome) == ("How thick is the screed?", "60 mm")


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
def test_another_file(file: Path, content: bytes | None) -> None:
    file.parent.mkdir()
    if content is None:
        connection = sqlite3.connect(file)
        connection.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, other TEXT)")
        connection.close()
    else:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"the file of answers is damaged, or another file.*the questions are asked ag"):
        open_store(file).__enter__()


def test_an_outcome_of_another_form(file: Path) -> None:
    with open_store(file) as store:
        store.put("a", QUESTION, Answer(text="x"))
        with sqlite3.connect(file) as connection:
            connection.execute('UPDATE answers SET outcome = \'{"kind": "song", "usage": {}}\'')
        connection.close()
        with pytest.raises(DataError, match="holds something else: an outcome of kind 'song'"):
            store.get(["a"])


def test_what_cannot_be_written_is_told_where_it_is_waited_for(file: Path) -> None:
    with open_store(file) as store:
        with sqlite3.connect(file) as connection:
            connection.execute("DROP TABLE answers")
        connection.close()
        with pytest.raises(GenaiError, match="no such table"):
            store.put("a", QUESTION, Answer(text="x"))


def test_waiting_answers_are_written_before_the_file_is_closed(file: Path) -> None:
    with open_store(file) as store:
        for number in range(50):
            store.submit(str(number), QUESTION, Answer(text="x")).cancel()
    with open_store(file) as store:
        assert len(store.get([str(number) for number in range(50)])) == 50
    assert not [thread for thread in threading.enumerate() if thread.name == "answers"]


def test_a_locked_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_S", 0.05)
    with open_store(file) as store:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(GenaiError, match="another process kept writing"):
            store.put("a", QUESTION, Answer(text="x"))
        other.close()
        store.put("a", QUESTION, Answer(text="x"))


# --- keys -------------------------------------------------------------------------------------------------------------

QUESTIONS: list[Question] = [
    Chat(prompt="a"),
    Chat(messages=({"role": "user", "content": "a"},)),
    Chat(prompt="a", max_tokens=5),
    Chat(prompt="a", stop=()),
    Chat(prompt="a", tools=({"name": "f"},)),
    Chat(prompt="a", json_schema={"properties": {"a": 1, "b": 2}}),
    Chat(prompt="a", json_schema={"properties": {"b": 2, "a": 1}}),
    Continuations(pairs=(("a", "b"),)),
    Continuations(pairs=(("", "ab"),)),
    WholeText(text="a"),
    WholeText(text="a", context=5),
    WholeText(text="a", stride=5),
    Query(text="a", k=1),
    Query(text="a", k=2),
]


def test_every_question_has_a_key_of_its_own() -> None:
    keys = {key_of(fingerprint, question) for fingerprint in ("x", "y") for question in QUESTIONS}
    assert len(keys) == 2 * len(QUESTIONS)


def test_scopes() -> None:
    scopes = [scope_of("run", {"a": 1}), scope_of("run", {"a": 2}), scope_of("other", {"a": 1})]
    assert len(set(scopes)) == 3
    assert scope_of("run", {"a": 1}) == scopes[0]


# --- kills ------------------------------------------------------------------------------------------------------------

_WRITER = """
import sys
from concurrent.futures import Future
from pathlib import Path
from genai.evaluation.records import Answer, Chat
from genai.evaluation.store import open_store
with open_store(Path(sys.argv[1])) as store:
    for number in range(10**6):
        key = f"{sys.argv[2]}-{number}"
        done = store.submit(key, Chat(prompt=key), Answer(text="x" * 200))
        if number % 7 == 0:  # so that some are written together
            done.result()
            print(number, flush=True)
"""


@pytest.mark.integration
def test_a_kill_loses_nothing_that_was_done(file: Path) -> None:
    for name in "abc":
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(file), name], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(40)]
        os.kill(writer.pid, signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.stdout.close()
        writer.wait()
        with open_store(file) as store:
            kept = store.get([f"{name}-{number}" for number in range(told[-1] + 1)])
        assert len(kept) == told[-1] + 1
