"""What a sync takes over, what it passes over, what it embeds, and what it refuses."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from memory_source import FollowingIndex, MemorySource

from genai.config.embedding import EmbeddingConfig
from genai.config.index import BM25Config, ChunkingConfig, IndexSourceConfig, QdrantEdgeConfig, SyncConfig
from genai.errors import DataError, GenaiError, StoppedError, UsageError
from genai.index.interfaces import Document
from genai.index.ledger_writing import batch
from genai.index.stopping import Stop
from genai.index.sync import delete, is_up_to_date, rebuild, upsert
from genai.index.taking import MassDeleteError


@pytest.fixture(params=[True, False], ids=["feed", "snapshots"])
def index(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[FollowingIndex]:
    index = FollowingIndex(tmp_path, MemorySource(feeds=request.param))
    for number in range(12):
        index.source.put(f"k{number:02}", f"text of row {number} with some more words", metadata={"topic": "walls"})
    yield index
    index.close()


def test_the_first_sync_takes_everything(index: FollowingIndex) -> None:
    report = index.sync()
    assert index.texts() == index.wanted()
    assert report.changed and report.number == 1 and report.kind == "sync"
    assert (report.documents_upserted, report.num_documents, report.num_chunks) == (12, 12, 24)
    # "with some more words" is a chunk of every row.
    assert (report.chunks_new, report.embeddings_new, report.embeddings_reused) == (24, 13, 11)
    assert len(index.encoder.texts) == len(set(index.encoder.texts)) == 13
    assert report.generation is not None and report.generation.state == "live"
    assert report.to_state == {"version": 12} and report.from_state is None
    assert report.slowest and report.failures == ()


def test_nothing_is_done_when_nothing_changed(index: FollowingIndex) -> None:
    index.sync()
    index.encoder.texts.clear()
    index.source.loaded.clear()
    assert is_up_to_date(index.ledger, index.source, index.encoder, index.config)
    report = index.sync()
    assert not report.changed and report.number is None and report.num_documents == 12
    assert index.encoder.texts == [] and index.source.loaded == []
    assert len(index.ledger.syncs()) == 1


def test_only_what_changed_is_read_and_embedded(index: FollowingIndex) -> None:
    index.sync()
    index.encoder.texts.clear()
    index.source.loaded.clear()
    index.source.put("k03", "text of row 3 with other words at the end", metadata={"topic": "walls"})
    index.source.put("new", "a new one")
    index.source.remove("k05")
    report = index.sync()
    assert index.texts() == index.wanted()
    assert sorted(index.source.loaded) == ["k03", "new"]
    assert sorted(index.encoder.texts) == ["a new one", "the end", "with other words at"]
    assert (report.documents_upserted, report.documents_deleted) == (2, 1)
    assert (report.chunks_new, report.chunks_removed, report.embeddings_new) == (3, 3, 3)


def test_a_row_that_was_rewritten_unchanged_costs_a_look(index: FollowingIndex) -> None:
    index.sync()
    index.encoder.texts.clear()
    document = index.source.rows["k03"]
    index.source.put("k03", document.text, metadata=document.metadata)
    report = index.sync()
    assert not report.changed and report.documents_unchanged >= 1
    assert index.encoder.texts == []
    assert index.ledger.source_note().state == {"version": 13}
    assert is_up_to_date(index.ledger, index.source, index.encoder, index.config)


def test_metadata_alone_changes_payloads_and_embeds_nothing(index: FollowingIndex) -> None:
    from genai.index.filters import Compare

    index.sync()
    index.encoder.texts.clear()
    ids = [chunk.id for chunk in index.ledger.chunks_of("k03")]
    index.source.put("k03", index.source.rows["k03"].text, metadata={"topic": "roofs"})
    report = index.sync()
    assert report.changed and report.documents_upserted == 1 and report.chunks_new == report.chunks_removed == 0
    assert index.encoder.texts == []
    assert [chunk.id for chunk in index.ledger.chunks_of("k03")] == ids
    live = index.ledger.live()
    assert live is not None and live.token is not None
    reader = index.engine().reader(live.spec("rows"), live.token)
    assert reader.count(Compare(column="topic", operator="=", value="roofs")) == 2
    reader.close()


def test_a_text_that_comes_back_is_not_embedded_again(index: FollowingIndex) -> None:
    index.sync()
    before = index.source.rows["k03"].text
    index.source.put("k03", "something else")
    index.sync()
    index.encoder.texts.clear()
    index.source.put("k03", before)
    report = index.sync()
    assert index.texts() == index.wanted()
    assert index.encoder.texts == [] and report.embeddings_reused == 2


def test_tombstones_stay_for_one_sync_more_and_then_go_with_their_vectors(index: FollowingIndex) -> None:
    index.sync()
    [_, gone] = index.ledger.chunks_of("k03")
    first = index.ledger.chunks_of("k03")[0]
    index.source.remove("k03")
    index.sync()
    assert index.ledger.chunks([first.id])[first.id].removed  # readers of the state before still find its text
    assert index.ledger.vectors([first.id], index.encoder.fingerprint).any()
    for text in ("x", "y"):
        index.source.put("other", text)
        index.sync()
    assert index.ledger.chunks([first.id, gone.id]) == {}
    assert index.ledger.rows("SELECT count(*) FROM documents WHERE key = 'k03'") == [(0,)]
    [(vectors,)] = index.ledger.rows("SELECT count(*) FROM embeddings")
    assert vectors == len({text for texts in index.wanted().values() for text in texts}) + 1  # and that of "x"
    assert index.texts() == index.wanted()


def test_a_document_that_cannot_be_read_is_reported_and_its_old_version_stays(
    index: FollowingIndex, caplog: pytest.LogCaptureFixture
) -> None:
    index.sync()
    before = index.texts()
    index.source.broken.add("k03")
    index.source.put("k03", "unreadable")
    with caplog.at_level(logging.WARNING, "genai"):
        report = index.sync()
    assert report.documents_failed == 1 and [failure.key for failure in report.failures] == ["k03"]
    assert "cannot be read" in report.failures[0].reason and "k03" in caplog.text
    assert index.texts() == before
    index.source.loaded.clear()
    index.source.put("k04", "something else")
    assert index.sync().documents_failed == 0  # it is not read again before it changes
    assert "k03" not in index.source.loaded
    index.source.broken.clear()
    index.source.put("k03", "readable again")
    assert index.sync().failures == ()
    assert index.texts() == index.wanted()


def test_a_failed_document_that_goes_is_forgotten(index: FollowingIndex) -> None:
    index.source.broken.add("bad")
    index.source.put("bad", "x")
    assert len(index.sync().failures) == 1
    index.source.remove("bad")
    assert index.sync().failures == ()


def test_a_mass_delete_is_refused_before_anything_goes(index: FollowingIndex) -> None:
    index.sync()
    before, state = index.texts(), index.ledger.source_note().state
    for number in range(4):
        index.source.remove(f"k{number:02}")
    with pytest.raises(MassDeleteError, match=r"4 of 12 documents would vanish.*--allow-mass-delete"):
        index.sync()
    assert index.texts() == before and index.ledger.source_note().state == state
    assert index.sync(allow_mass_delete=True).documents_deleted == 4
    assert index.texts() == index.wanted()


def test_a_delete_within_the_limit_passes(index: FollowingIndex) -> None:
    index.sync()
    for number in range(3):
        index.source.remove(f"k{number:02}")
    assert index.sync().documents_deleted == 3
    index.change_config(sync=SyncConfig(max_delete_share=1.0))
    for key in list(index.source.rows):
        index.source.remove(key)
    index.sync()
    assert index.texts() == {}


def test_a_source_that_cannot_be_read_changes_nothing(index: FollowingIndex) -> None:
    index.sync()
    before = index.texts()
    index.source.fault = DataError("no connection")
    with pytest.raises(DataError, match="no connection"):
        index.sync()
    index.source.fault = None
    assert index.texts() == before and not index.sync().changed


def test_another_chunking_cuts_all_again_and_embeds_what_is_new(index: FollowingIndex) -> None:
    index.sync()
    index.encoder.texts.clear()
    index.change_config(chunking=ChunkingConfig(name="tokens", max_tokens=8))
    report = index.sync()
    assert report.documents_upserted == 12 and report.num_chunks == 12
    assert len(index.encoder.texts) == 12
    assert not index.sync().changed


def test_other_words_make_the_points_anew_without_embedding(index: FollowingIndex) -> None:
    index.sync()
    before = index.ledger.live()
    index.encoder.texts.clear()
    index.source.loaded.clear()
    index.change_config(bm25=BM25Config(k1=0.5))
    report = index.sync()
    assert report.changed and report.generation is not None and before is not None
    assert report.generation.name != before.name and len(index.ledger.generations()) == 1
    assert index.encoder.texts == [] and index.source.loaded == []
    assert index.texts() == index.wanted()
    assert not index.sync().changed


def test_what_only_queries_need_changes_nothing(index: FollowingIndex) -> None:
    index.change_config(engine=QdrantEdgeConfig())
    index.sync()
    index.change_config(engine=QdrantEdgeConfig(exact_below=7))
    assert not index.sync().changed


def test_another_engine_is_filled_from_the_ledger(index: FollowingIndex) -> None:
    index.sync()
    index.encoder.texts.clear()
    index.change_config(engine=QdrantEdgeConfig())
    assert index.sync().changed
    assert index.encoder.texts == [] and index.texts() == index.wanted()


def test_another_encoder_is_refused_while_there_are_chunks(index: FollowingIndex) -> None:
    index.sync()
    index.encoder.name = "other"
    index.change_config(embedding=EmbeddingConfig(model="other"))
    with pytest.raises(UsageError, match=r"another encoder \(hashes, not other\).*genai index swap rows"):
        index.sync()


def test_another_encoder_is_taken_while_there_are_none(tmp_path: Path) -> None:
    index = FollowingIndex(tmp_path)
    assert index.sync().changed and index.texts() == {}
    index.encoder.name = "other"
    index.change_config(embedding=EmbeddingConfig(model="other"))
    index.source.put("k", "text")
    report = index.sync()
    assert report.generation is not None and report.generation.fingerprint == "other-fingerprint"
    assert index.texts() == index.wanted() and len(index.ledger.generations()) == 1


def test_a_source_at_another_place_is_compared_as_a_whole(index: FollowingIndex) -> None:
    index.sync()
    index.encoder.texts.clear()
    moved = MemorySource()
    moved.uri = "memory:moved"
    for key, row in index.source.rows.items():
        moved.put(key, row.text, metadata=row.metadata)
    moved.remove("k00")
    index.source = moved
    report = index.sync()
    assert report.documents_deleted == 1 and index.encoder.texts == []
    assert index.texts() == index.wanted()


def test_a_document_with_many_chunks_is_there_as_a_whole(tmp_path: Path) -> None:
    index = FollowingIndex(tmp_path)
    index.source.put("long", " ".join(f"w{number}" for number in range(200)))
    report = index.sync()
    assert report.chunks_new == 50 and max(index.encoder.batches) == 8
    assert index.texts() == index.wanted()


def test_batches_are_sorted_by_length(tmp_path: Path) -> None:
    index = FollowingIndex(tmp_path, sync=SyncConfig(batch_size=4))
    index.source.put("k", "aaaaaaaaaaaa b cc dddddddd eeeeeeee f gggg hhhh i j k l mmmmmmmmmmmmm nnn o p")
    index.sync()
    assert [len(text) for text in index.encoder.texts] == sorted(len(text) for text in index.encoder.texts)


def test_empty_texts_are_documents_without_chunks(tmp_path: Path) -> None:
    index = FollowingIndex(tmp_path)
    index.source.put("empty", "  \n ")
    assert index.sync().num_documents == 1
    assert index.texts() == {"empty": []} and not index.sync().changed


def test_an_encoder_that_gives_nonsense_is_refused(index: FollowingIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setattr(index.encoder, "_vectors", lambda texts: np.full((len(texts), 16), np.nan, np.float32))
    with pytest.raises(DataError, match="not finite"):
        index.sync()
    monkeypatch.setattr(index.encoder, "_vectors", lambda texts: np.zeros((1, 3), np.float32))
    with pytest.raises(DataError, match=r"shape \(1, 3\)"):
        index.sync()


def test_an_encoder_that_fails_loses_no_batch(index: FollowingIndex) -> None:
    index.encoder.fault = GenaiError("the endpoint is down")
    with pytest.raises(GenaiError, match="down"):
        index.sync()
    assert index.ledger.live() is None
    index.encoder.fault = None
    index.sync()
    assert index.texts() == index.wanted()


def test_a_signal_ends_it_between_two_batches(index: FollowingIndex) -> None:
    stop = Stop()
    ask = index.encoder.embed_documents
    index.encoder.embed_documents = lambda texts: (stop.ask(2), ask(texts))[1]  # type: ignore[method-assign]
    with pytest.raises(StoppedError) as stopped:
        index.sync(stop=stop)
    assert stopped.value.exit_code == 130 and len(index.encoder.batches) == 1
    index.encoder.embed_documents = ask  # type: ignore[method-assign]
    index.sync()
    assert index.texts() == index.wanted()
    assert len(index.encoder.texts) == 13  # nothing twice
    assert [record.outcome for record in index.ledger.syncs()] == ["done", "cut off"]


def test_files_of_the_engine_that_are_gone_are_made_anew(
    index: FollowingIndex, caplog: pytest.LogCaptureFixture
) -> None:
    import shutil

    index.sync()
    index.encoder.texts.clear()
    shutil.rmtree(index.folder / "engine")
    with caplog.at_level(logging.INFO, "genai"):
        report = index.sync()
    assert report.changed and "made anew from the ledger" in caplog.text
    assert index.encoder.texts == [] and index.texts() == index.wanted()


def test_rebuild_embeds_nothing_and_tidies_up(index: FollowingIndex) -> None:
    index.sync()
    index.encoder.texts.clear()
    with batch(index.ledger) as changes:
        changes.add_embeddings(index.encoder.fingerprint, [(b"of a text that is nowhere", bytes(32))])
    report = rebuild(index.ledger, index.encoder, index.engine(), index.config)
    assert report.changed and report.kind == "rebuild" and index.encoder.texts == []
    assert index.ledger.stats().embeddings[index.encoder.fingerprint] == 13
    assert index.texts() == index.wanted() and not index.sync().changed


def test_the_lineage_leads_from_the_source_to_the_generation(index: FollowingIndex) -> None:
    index.sync()
    index.source.put("k03", "something else")
    index.sync()
    second, first = index.ledger.syncs()
    assert (first.from_state, first.to_state) == (None, {"version": 12})
    assert (second.from_state, second.to_state) == ({"version": 12}, {"version": 13})
    assert second.source == "memory:rows" and second.outcome == "done" and second.seconds > 0
    assert second.generation == "g1" and second.fingerprint == index.encoder.fingerprint
    assert (first.embeddings_new, first.embeddings_reused, first.tokens) == (13, 11, 52)
    assert index.ledger.syncs(1) == [second]


def test_rows_without_a_tenant_are_left_out_where_there_are_tenants(tmp_path: Path) -> None:
    index = FollowingIndex(tmp_path)
    index.change_config(source=replace(index.config.source, tenant="owner"))
    index.source.put("a", "of somebody", tenant="ada")
    index.source.put("b", "of nobody")
    report = index.sync()
    assert [failure.key for failure in report.failures] == ["b"] and "'owner' is empty" in report.failures[0].reason
    assert report.generation is not None and report.generation.has_tenants
    assert index.ledger.chunks_of("a")[0].tenant == "ada"


def test_bm25_lengths_follow_an_index_that_outgrew_them(tmp_path: Path) -> None:
    index = FollowingIndex(tmp_path)
    index.source.put("first", "one")
    index.sync()
    for number in range(20):
        index.source.put(f"k{number}", "four words are here")
    report = index.sync()
    assert report.generation is not None and report.generation.average_length == pytest.approx(81 / 21)
    assert index.texts() == index.wanted()
    assert len(index.encoder.texts) == 2


@pytest.fixture
def direct(tmp_path: Path) -> FollowingIndex:
    index = FollowingIndex(tmp_path)
    index.change_config(source=IndexSourceConfig(direct=True, metadata={"topic": "keyword"}))
    return index


def test_a_direct_index_takes_rows_by_hand(tmp_path: Path, direct: FollowingIndex) -> None:
    parts = (direct.encoder, direct.engine(), direct.config)
    rows = [Document(key="a", text="one two"), Document(key="b", text="three"), Document(key="b", text="four")]
    report = upsert(direct.ledger, rows, *parts)
    assert report.kind == "upsert" and report.documents_upserted == 2
    assert direct.texts() == {"a": ["one two"], "b": ["four"]}
    assert not upsert(direct.ledger, rows[2:], *parts).changed
    report = delete(direct.ledger, ["a", "a", "unknown"], *parts)
    assert report.documents_deleted == 1 and direct.texts() == {"b": ["four"]}
    assert not delete(direct.ledger, ["a"], *parts).changed
    assert [record.kind for record in direct.ledger.syncs()] == ["delete", "upsert"]


def test_an_index_with_a_source_takes_no_rows_by_hand(index: FollowingIndex) -> None:
    parts = (index.encoder, index.engine(), index.config)
    with pytest.raises(UsageError, match="follows memory:rows"):
        upsert(index.ledger, [Document(key="a", text="one")], *parts)
    with pytest.raises(UsageError, match="follows memory:rows"):
        delete(index.ledger, ["k00"], *parts)


def test_nothing_heavy_is_imported_to_find_that_nothing_changed(tmp_path: Path) -> None:
    code = (
        "import sys\nimport genai.index.sync, genai.index.ledger, genai.index.sources, genai.index.stopping\n"
        "print([name for name in ('torch', 'numpy', 'pyarrow', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
