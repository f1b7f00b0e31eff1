"""What `verify` finds wrong with an index."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from memory_source import FollowingIndex

from genai.config.index import EngineConfig, ExactConfig, QdrantEdgeConfig
from genai.index.ledger import LEDGER
from genai.index.sync import rebuild
from genai.index.verifying import Verification, verify


@pytest.fixture(params=[ExactConfig(), QdrantEdgeConfig()], ids=["exact", "qdrant_edge"])
def index(tmp_path: Path, request: pytest.FixtureRequest) -> FollowingIndex:
    config: EngineConfig = request.param
    index = FollowingIndex(tmp_path, engine=config)
    for number in range(12):
        index.source.put(f"k{number:02}", f"text of row {number} with more words")
    index.sync()
    return index


def look(index: FollowingIndex, *, deep: bool = False) -> Verification:
    return verify(index.ledger, index.engine(), encoder=index.encoder if deep else None)


def break_ledger(index: FollowingIndex, sql: str) -> None:
    connection = sqlite3.connect(index.folder / LEDGER)
    connection.execute(sql)
    connection.commit()
    connection.close()


def test_a_sound_index_has_no_problems(index: FollowingIndex) -> None:
    found = look(index, deep=True)
    assert found.is_sound and found.problems == ()
    assert found.num_chunks == found.num_points == found.num_searched == found.num_embedded == 24
    assert look(index).num_embedded == 0


def test_points_that_lack_and_points_too_many_are_counted(index: FollowingIndex) -> None:
    live = index.ledger.live()
    assert live is not None
    writer = index.engine().writer(live.spec("rows"), live.token)
    writer.delete([chunk.id for chunk in index.ledger.chunks_of("k03")])
    token = writer.publish()
    writer.close()
    break_ledger(index, f"UPDATE generations SET token = '{token}', points = 22")
    break_ledger(index, "UPDATE chunks SET removed = 1 WHERE text = 'text of row 7'")
    found = look(index)
    assert not found.is_sound and found.num_points == 22
    said = "\n".join(found.problems)
    assert "2 chunks of the ledger are not in the engine" in said
    assert "1 points of the engine are not in the ledger" in said
    assert "are not found by their own vectors" in said
    index.encoder.texts.clear()
    rebuild(index.ledger, index.encoder, index.engine(), index.config)
    assert look(index).is_sound and index.encoder.texts == []


def test_other_vectors_in_the_engine_are_found(index: FollowingIndex) -> None:
    break_ledger(index, "UPDATE embeddings SET vector = (SELECT vector FROM embeddings LIMIT 1)")
    assert any("not found by their own vectors" in problem for problem in look(index).problems)
    assert any("gives other vectors for" in problem for problem in look(index, deep=True).problems)


def test_texts_that_were_changed_by_hand_are_found(index: FollowingIndex) -> None:
    break_ledger(index, "UPDATE chunks SET text = 'other' WHERE text = 'text of row 7'")
    assert any("1 chunks have another text" in problem for problem in look(index).problems)


def test_lost_vectors_are_found_and_made_anew(index: FollowingIndex) -> None:
    break_ledger(index, "DELETE FROM embeddings WHERE number <= 3")
    assert any("3 texts have no vector of generation 'g1'" in problem for problem in look(index).problems)
    index.encoder.texts.clear()
    rebuild(index.ledger, index.encoder, index.engine(), index.config)
    assert look(index).is_sound and len(index.encoder.texts) == 3


def test_files_of_the_engine_that_are_gone_are_a_problem(index: FollowingIndex) -> None:
    shutil.rmtree(index.folder / "engine")
    found = look(index)
    assert len(found.problems) == 1 and "the engine cannot read the published state" in found.problems[0]
    index.sync()
    assert look(index).is_sound


def test_another_encoder_is_no_comparison(index: FollowingIndex) -> None:
    index.encoder.name = "other"
    assert any("not the one of generation 'g1'" in problem for problem in look(index, deep=True).problems)


def test_an_index_that_was_never_filled_says_so(tmp_path: Path) -> None:
    index = FollowingIndex(tmp_path)
    assert look(index).problems == ("nothing was published yet: no generation is live",)


def test_a_damaged_file_is_found(index: FollowingIndex) -> None:
    index.close()
    path = index.folder / LEDGER
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)
    from genai.errors import DataError
    from genai.index.ledger import Ledger

    ledger = Ledger.open(index.folder)
    try:
        found = verify(ledger, index.engine())
        assert not found.is_sound
    except DataError as error:
        assert "damaged" in str(error)
    finally:
        ledger.close()
