"""A sync that is killed, wherever it is: afterwards a sync makes the index equal to its source, and one batch of
embeddings at most was paid for twice.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import sync_child
from memory_source import CountingEncoder, FollowingIndex, MemorySource, four_words

from genai.config.index import BM25Config, ExactConfig, SyncConfig
from genai.index.interfaces import Engine, Spec, Writer
from genai.index.ledger import Ledger

BATCH = 4


class Killer:
    """Kills this process at the n-th of the moments that a sync passes through; 0 only counts them."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.count = 0

    def passes(self) -> None:
        self.count += 1
        if self.count == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, index: FollowingIndex, monkeypatch: pytest.MonkeyPatch) -> None:
        """Moments before and after every embedding, commit, write, publication and sweep."""
        transaction, embed, engine = Ledger.transaction, index.encoder.embed_documents, index.engine

        @contextmanager
        def watched(ledger: Ledger) -> Any:
            self.passes()
            with transaction(ledger) as connection:
                yield connection
                self.passes()
            self.passes()

        def around(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any) -> Any:
                self.passes()
                result = function(*arguments)
                self.passes()
                return result

            return call

        class WatchedEngine:
            def __init__(self, inner: Engine) -> None:
                self.reader = inner.reader
                self.sweep = around(inner.sweep)
                self._inner = inner

            def writer(self, spec: Spec, token: str | None) -> Writer:
                writer = self._inner.writer(spec, token)
                for name in ("upsert", "delete", "publish", "close"):
                    monkeypatch.setattr(writer, name, around(getattr(writer, name)))
                return writer

        monkeypatch.setattr(Ledger, "transaction", watched)
        monkeypatch.setattr(index.encoder, "embed_documents", around(embed))
        monkeypatch.setattr(index, "engine", lambda: cast(Engine, WatchedEngine(engine())))


def in_a_fork(work: Callable[[], int]) -> tuple[bool, int]:
    """Whether a process that does this was killed, and what it returned when it was not.

    A fork takes milliseconds, so that every moment of a sync can be tried.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(work()).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True, 0
    assert os.WEXITSTATUS(status) == 0
    return False, int(said)


def fill(source: MemorySource) -> None:
    for number in range(9):
        source.put(f"k{number}", f"row {number} has a text and these are more words", metadata={"topic": "walls"})
    source.put("long", " ".join(f"w{number}" for number in range(40)))


def change(source: MemorySource) -> None:
    source.put("k1", "row 1 has another text and other words too", metadata={"topic": "roofs"})
    source.put("k2", source.rows["k2"].text, metadata={"topic": "roofs"})
    source.put("k3", "short")
    source.put("long", " ".join(f"v{number}" for number in range(36)))
    source.put("new", "a new row that says what no other says")
    source.remove("k4")
    source.remove("k5")


def distinct_texts(source: MemorySource) -> set[str]:
    return {text for row in source.rows.values() for text in four_words(row.text)}


@pytest.mark.parametrize("feeds", [True, False], ids=["feed", "snapshots"])
@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "every"])
def test_kills_at_moments_of_a_first_and_a_second_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feeds: bool, stride: int
) -> None:
    def build(name: str) -> FollowingIndex:
        index = FollowingIndex(
            tmp_path / name, MemorySource(feeds=feeds), engine=ExactConfig(), sync=SyncConfig(batch_size=BATCH)
        )
        index.encoder = CountingEncoder(log=tmp_path / name / "texts")
        return index

    def killed_at(name: str, at: int, *, second: bool) -> tuple[bool, int]:
        """Sync in a process that is killed at a moment; how many moments there were when it was not."""

        def work() -> int:
            index = build(name)
            fill(index.source)
            if second:
                change(index.source)
            killer = Killer(at)
            with monkeypatch.context() as patched:
                killer.watch(index, patched)
                index.sync()
            return killer.count

        return in_a_fork(work)

    def check(name: str, *, second: bool) -> None:
        """Sync to the end: nothing lacks, and little was embedded twice."""
        index = build(name)
        fill(index.source)
        texts = distinct_texts(index.source)
        if second:
            change(index.source)
            texts |= distinct_texts(index.source)
        index.sync()
        assert index.texts() == index.wanted()
        assert not index.sync().changed
        asked = [json.loads(line) for line in (tmp_path / name / "texts").read_text().splitlines()]
        assert set(asked) == texts
        assert len(asked) - len(texts) <= BATCH
        index.close()

    assert not killed_at("filled", 0, second=False)[0]
    for second in (False, True):
        if second:
            shutil.copytree(tmp_path / "filled", tmp_path / "count")
        _, moments = killed_at("count", 0, second=second)
        assert moments > 30
        for at in range(1, moments + 1, stride):
            name = f"{second}-{at}"
            if second:
                shutil.copytree(tmp_path / "filled", tmp_path / name)
            killed, _ = killed_at(name, at, second=second)
            assert killed
            check(name, second=second)
        shutil.rmtree(tmp_path / "count")


def test_kills_while_points_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(name: str, **values: Any) -> FollowingIndex:
        index = FollowingIndex(tmp_path / name, **values)
        index.encoder = CountingEncoder(log=tmp_path / name / "texts")
        fill(index.source)
        return index

    def remade_at(name: str, at: int) -> tuple[bool, int]:
        def work() -> int:
            index = build(name, bm25=BM25Config(k1=0.5))
            killer = Killer(at)
            with monkeypatch.context() as patched:
                killer.watch(index, patched)
                index.sync()
            return killer.count

        return in_a_fork(work)

    def filled(name: str) -> None:
        index = build(name)
        index.sync()
        index.close()

    filled("count")
    _, moments = remade_at("count", 0)
    assert moments > 10
    for at in range(1, moments + 1, 3):
        filled(str(at))
        assert remade_at(str(at), at)[0]
        index = build(str(at), bm25=BM25Config(k1=0.5))
        index.sync()
        assert index.texts() == index.wanted() and len(index.ledger.generations()) == 1
        assert not index.sync().changed
        asked = (tmp_path / str(at) / "texts").read_text().splitlines()
        assert len(asked) == len(set(asked))  # nothing was embedded for it
        index.close()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "qdrant_edge"])
def test_kills_at_random_times(tmp_path: Path, engine: str) -> None:
    chosen = random.Random(engine)
    kills = 0
    for version in range(12):
        command = [sys.executable, "-m", "sync_child", str(tmp_path), engine, str(version)]
        environment = {**os.environ, "PYTHONPATH": str(Path(sync_child.__file__).parent)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            assert child.stdout is not None and child.stdout.readline() == "ready\n"
            time.sleep(chosen.uniform(0.0, 0.5))
            child.kill()
            kills += "done" not in child.stdout.read()
        if version % 3 == 2:  # sometimes several kills come in a row
            index = sync_child.open_index(tmp_path, engine, version)
            index.sync(allow_mass_delete=True)
            assert index.texts() == index.wanted()
            index.close()
    assert kills >= 6
    asked = [json.loads(line) for line in (tmp_path / "texts").read_text().splitlines()]
    index = sync_child.open_index(tmp_path, engine, 11)
    purged = len(set(asked)) - index.ledger.stats().embeddings[index.encoder.fingerprint]
    # What was embedded twice was either in the batch of a kill, or had gone for good in between.
    assert len(asked) - len(set(asked)) <= kills * sync_child.BATCH + purged
