"""The ledger: what is there, what it says about itself, and what becomes of files that are no ledger."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from memory_source import FollowingIndex

from genai.errors import DataError, GenaiError, UsageError
from genai.index.ledger import LEDGER, Ledger, list_indexes
from genai.index.ledger_records import StoredChunk
from genai.index.ledger_writing import batch


@pytest.fixture
def index(tmp_path: Path) -> FollowingIndex:
    index = FollowingIndex(tmp_path)
    index.source.put("a", "one two three four five", metadata={"topic": "walls"})
    index.source.put("b", "six seven", metadata={"topic": "roofs"})
    return index


def test_a_new_ledger_is_empty(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "faq", create=True) as ledger:
        stats = ledger.stats()
        assert (stats.documents, stats.chunks, stats.tombstones, stats.sequence) == (0, 0, 0, 0)
        assert ledger.live() is None and ledger.generations() == [] and ledger.syncs() == []
        assert ledger.sample(10) == [] and ledger.chunks([]) == {}


def test_an_index_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "questions", create=True).close()
    (tmp_path / "notes").mkdir()
    with pytest.raises(UsageError, match=r"no index 'question' .*did you mean 'questions'"):
        Ledger.open(tmp_path / "question")
    assert list_indexes(tmp_path) == ["questions"]
    assert list_indexes(tmp_path / "nowhere") == []
    with pytest.raises(UsageError, match="none yet"):
        Ledger.open(tmp_path / "nowhere" / "faq")


@pytest.mark.parametrize("name", ["..", ".hidden", "a b"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="index name"):
        Ledger.open(tmp_path / name, create=True)


def test_a_newer_ledger_asks_for_an_upgrade(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "faq", create=True).close()
    connection = sqlite3.connect(tmp_path / "faq" / LEDGER)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DataError, match=r"newer genai .*version 99.*pip install -U"):
        Ledger.open(tmp_path / "faq")


def test_another_database_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "faq").mkdir()
    connection = sqlite3.connect(tmp_path / "faq" / LEDGER)
    connection.execute("CREATE TABLE other (x)")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(DataError, match="no ledger"):
        Ledger.open(tmp_path / "faq")


def test_rubbish_is_said_to_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "faq").mkdir()
    (tmp_path / "faq" / LEDGER).write_bytes(b"no database at all" * 500)
    with pytest.raises(DataError, match="damaged"):
        Ledger.open(tmp_path / "faq")


def test_chunks_come_with_their_documents(index: FollowingIndex) -> None:
    index.sync()
    first, second = index.ledger.chunks_of("a")
    assert (first.text, first.start, first.end, first.ordinal, first.tokens) == ("one two three four", 0, 18, 0, 4)
    assert (second.text, second.start, second.end, second.ordinal) == ("five", 19, 23, 1)
    assert first.source == "memory/a" and first.metadata == {"topic": "walls"} and first.page is None
    assert index.ledger.chunks([second.id, "unknown"]) == {second.id: second}
    assert isinstance(second, StoredChunk) and not second.removed
    assert index.ledger.chunks_of("nobody") == []
    assert sorted(index.ledger.lengths()) == [1, 2, 4]


def test_vectors_come_in_the_order_asked_for(index: FollowingIndex) -> None:
    index.sync()
    chunks = [*index.ledger.chunks_of("a"), *index.ledger.chunks_of("b")]
    ids = [chunks[2].id, "unknown", chunks[0].id]
    vectors = index.ledger.vectors(ids, index.encoder.fingerprint)
    wanted = index.encoder.embed_queries([chunks[2].text, chunks[0].text])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[[0, 2]], wanted, atol=1e-3)
    assert not vectors[1].any()
    assert index.ledger.vectors(ids, "another").shape == (3, 0)


def test_a_sample_is_spread_over_all_and_always_the_same(index: FollowingIndex) -> None:
    for number in range(50):
        index.source.put(f"k{number}", f"text number {number}")
    index.sync()
    sample = index.ledger.sample(10)
    assert 5 <= len(sample) <= 10 and sample == index.ledger.sample(10)
    assert len({chunk.key for chunk in sample}) == len(sample)
    assert len(index.ledger.sample(1000)) == index.ledger.num_chunks()


def test_a_change_by_another_process_is_told_once(index: FollowingIndex) -> None:
    with Ledger.open(index.folder, read_only=True) as reader:
        assert not reader.changed()
        index.sync()
        assert reader.changed() and not reader.changed()
        live = reader.live()
        assert live is not None and live.points == 3
        with pytest.raises(GenaiError, match="cannot be opened"), batch(reader) as changes:
            changes.forget_failure("x")


def test_what_is_read_within_a_block_is_of_one_moment(index: FollowingIndex) -> None:
    index.sync()
    with Ledger.open(index.folder, read_only=True) as reader, reader.reading():
        before = reader.num_documents()
        index.source.put("c", "more")
        index.sync()
        assert reader.num_documents() == before


def test_stats_count_everything(index: FollowingIndex) -> None:
    index.sync()
    index.source.remove("a")
    index.source.broken.add("b")
    index.source.put("b", "changed")
    index.source.put("c", "six seven")
    index.sync(allow_mass_delete=True)
    stats = index.ledger.stats()
    assert (stats.documents, stats.chunks, stats.tombstones, stats.failures) == (2, 2, 2, 1)
    assert stats.tokens == 4 and stats.embeddings == {index.encoder.fingerprint: 3}
    assert stats.source == "memory:rows" and stats.source_state == {"version": 5}
    assert stats.ledger_bytes > 0 and stats.live == index.ledger.live()


def test_an_unknown_generation_is_named_with_the_known_ones(index: FollowingIndex) -> None:
    index.sync()
    assert index.ledger.generation("g1").state == "live"
    with pytest.raises(UsageError, match=r"no generation 'g7' \(known: g1\)"):
        index.ledger.generation("g7")


def test_a_transaction_that_fails_leaves_nothing(index: FollowingIndex) -> None:
    with pytest.raises(ZeroDivisionError), batch(index.ledger) as changes:
        changes.fail("x", version="1", settings="", reason="why")
        _ = 1 / 0
    assert index.ledger.failures() == []


_FILLS = """
import resource, sys
from pathlib import Path
from genai.errors import GenaiError
from genai.index.ledger import Ledger
from genai.index.ledger_writing import batch
ledger = Ledger.open(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
try:
    with batch(ledger) as changes:
        changes.add_embeddings("model", ((bytes([n % 256, n // 256]), bytes(768)) for n in range(5000)))
except GenaiError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(ledger.stats().embeddings)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs limits on files")
def test_a_full_disk_is_one_line_and_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "faq", create=True).close()
    command = [sys.executable, "-c", _FILLS, str(tmp_path / "faq")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    message, embeddings = done.stdout.splitlines()
    assert "cannot write" in message and "bytes free" in message and "make room" in message
    assert embeddings == "{}"
