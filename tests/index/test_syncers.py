"""Several processes at one index: one changes it, the others are refused or go on reading."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import sync_child
from memory_source import FollowingIndex

from genai.errors import GenaiError
from genai.index.ledger import Ledger
from genai.index.search import Index
from genai.index.stopping import Stop


def test_a_second_syncer_is_refused_with_who_holds_it(tmp_path: Path) -> None:
    index = FollowingIndex(tmp_path)
    index.source.put("k", "text")
    command = [sys.executable, "-m", "sync_child", str(tmp_path), "exact", "1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(sync_child.__file__).parent)}
    with index.ledger.alone():
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1 and done.stdout == "ready\n"
    line = done.stderr.splitlines()[-1]
    assert f"index 'rows' is held by process {os.getpid()} on host {socket.gethostname()} since" in line
    assert f"kill {os.getpid()}" in line and "go on querying" in line and "--run-name" not in line
    assert index.sync().changed  # and afterwards it is free again


def test_a_reader_sees_whole_states_only(tmp_path: Path) -> None:
    """While a sync is under way, a reader finds the texts of exactly the rows of before; then exactly those of now."""
    index = FollowingIndex(tmp_path)
    for number in range(30):
        index.source.put(f"k{number:02}", f"first text of row {number}")
    index.sync()
    before = index.texts()
    reader = Ledger.open(index.folder, read_only=True)
    embed, looks = index.encoder.embed_documents, []

    def look() -> dict[str, list[str]]:
        live = reader.live()
        assert live is not None and live.token is not None
        engine = index.engine()
        opened = engine.reader(live.spec("rows"), live.token)
        [hits] = opened.search([_query(index)])
        opened.close()
        chunks = reader.chunks([hit.id for hit in hits])
        assert len(chunks) == len(hits)  # every one of them has its text, also those that are going
        found: dict[str, list[str]] = {}
        for chunk in sorted(chunks.values(), key=lambda chunk: (chunk.key, chunk.ordinal)):
            found.setdefault(chunk.key, []).append(chunk.text)
        return found

    def embed_and_look(texts: list[str]) -> object:
        looks.append(look())
        return embed(texts)

    index.encoder.embed_documents = embed_and_look  # type: ignore[method-assign, assignment]
    for number in range(0, 30, 2):
        index.source.put(f"k{number:02}", f"second text {number} of the row")
    for number in range(1, 10, 2):
        index.source.remove(f"k{number:02}")
    index.sync()
    assert len(looks) >= 2 and all(found == before for found in looks)
    assert reader.changed() and look() == index.wanted() != before
    reader.close()


def _query(index: FollowingIndex) -> object:
    from genai.index.interfaces import VectorQuery

    return VectorQuery(vector=index.encoder.embed_queries(["anything"])[0], limit=1000)


def test_a_sync_that_is_stopped_lets_go_of_the_index(tmp_path: Path) -> None:
    index = FollowingIndex(tmp_path)
    index.source.put("k", "text")
    stop = Stop()
    stop.ask()
    with pytest.raises(GenaiError, match="stopped"):
        index.sync(stop=stop)
    assert index.sync().changed


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "qdrant_edge"])
def test_queries_go_on_in_another_process_and_see_one_version_at_a_time(tmp_path: Path, engine: str) -> None:
    index = sync_child.open_index(tmp_path, engine, 0)
    index.sync()
    wanted = [whole(sync_child.open_index(tmp_path, engine, version).wanted()) for version in range(4)]
    environment = {**os.environ, "PYTHONPATH": str(Path(sync_child.__file__).parent)}
    seen: list[int] = []
    searching = Index.open(index.folder, index.config, encoder_of=index.encoder_of, engine=index.engine())
    query = index.encoder.embed_queries(["anything"])
    for version in range(1, 4):
        command = [sys.executable, "-m", "sync_child", str(tmp_path), engine, str(version)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            while child.poll() is None:
                [results] = searching.search(list(query), k=2000)
                found = {(result.key, result.start, result.text) for result in results}
                seen.append(wanted.index(found))  # or it is no version's
            assert child.stdout is not None and child.stdout.read() == "ready\ndone\n"
    [results] = searching.search(list(query), k=2000)
    assert {(result.key, result.start, result.text) for result in results} == wanted[3]
    searching.close()
    assert seen == sorted(seen) and {0, 1, 2} <= set(seen)


def whole(texts: dict[str, list[str]]) -> set[tuple[str, int, str]]:
    """Chunks with the places that they have in texts whose words are parted by one space."""
    found = set()
    for key, chunks in texts.items():
        start = 0
        for text in chunks:
            found.add((key, start, text))
            start += len(text) + 1
    return found
