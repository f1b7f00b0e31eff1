"""Generations: begun, filled beside the live one, fed by every sync, swapped, rolled back, dropped."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path

import pytest
from memory_source import CountingEncoder, FollowingIndex, assert_whole

from genai.config.embedding import EmbeddingConfig
from genai.errors import GenaiError, UsageError
from genai.index import generations
from genai.index.applying import Applier
from genai.index.encoding import count_missing, embed_missing
from genai.index.ledger_records import Generation
from genai.index.shape import shape_of
from genai.index.sync import rebuild

OTHER = EmbeddingConfig(model="other")


@pytest.fixture
def index(tmp_path: Path) -> FollowingIndex:
    index = FollowingIndex(tmp_path)
    for number in range(12):
        index.source.put(f"k{number:02}", f"text of row {number} with more words")
    index.sync()
    return index


def applier(index: FollowingIndex) -> Applier:
    return Applier(
        ledger=index.ledger,
        engine=index.engine(),
        config=index.config,
        shape=shape_of(index.config, index.source.columns),
        encoder_of=lambda generation: index.encoder_of(generation.embedding_config),
    )


def begin(index: FollowingIndex) -> Generation:
    encoder = index.encoder_of(OTHER)
    return generations.begin_generation(
        index.ledger,
        embedding=asdict(OTHER),
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
        shape=shape_of(index.config, index.source.columns),
    )


def fill(index: FollowingIndex) -> Generation:
    return applier(index).bring_up(begin(index), state="ready")


def test_a_second_generation_is_filled_beside_the_live_one(index: FollowingIndex) -> None:
    other = index.encoder_of(OTHER)
    building = begin(index)
    assert (building.name, building.state, building.token) == ("g2", "building", None)
    assert building.embedding_config == OTHER
    num_texts = count_missing(index.ledger, other.fingerprint)
    assert num_texts == len(index.encoder.texts)
    ready = fill(index)
    assert ready.name == "g2" and ready.state == "ready" and ready.points == index.ledger.num_chunks()
    assert len(other.texts) == num_texts and count_missing(index.ledger, other.fingerprint) == 0
    live = index.ledger.live()
    assert live is not None and live.name == "g1"
    assert index.texts() == index.wanted()


def test_what_was_embedded_for_it_before_a_kill_is_not_again(index: FollowingIndex) -> None:
    other = index.encoder_of(OTHER)
    begin(index)
    other_texts, stopped = other.texts, []

    def stop(count: int) -> None:
        stopped.append(count)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_missing(index.ledger, other, batch_size=8, progress=stop)
    assert len(other_texts) == 8
    assert fill(index).name == "g2"
    assert len(other_texts) == len(set(other_texts)) == len(index.encoder.texts)


def test_syncs_feed_both(index: FollowingIndex) -> None:
    fill(index)
    other = index.encoder_of(OTHER)
    other.texts.clear()
    index.source.put("k03", "a new text for both")
    index.source.remove("k04")
    index.sync()
    assert sorted(other.texts) == ["a new text for", "both"]
    assert index.texts() == index.wanted()
    ready = index.ledger.generation("g2")
    assert ready.applied == index.ledger.sequence() and ready.points == index.ledger.num_chunks()


def test_a_fed_generation_whose_encoder_is_gone_falls_behind_alone(
    index: FollowingIndex, caplog: pytest.LogCaptureFixture
) -> None:
    fill(index)
    index.encoder_of(OTHER).fault = GenaiError("its endpoint is down")
    index.source.put("k03", "a new text for both")
    with caplog.at_level(logging.WARNING, "genai"):
        assert index.sync().changed
    assert "'g2' of index 'rows' falls behind: its endpoint is down" in caplog.text
    assert index.texts() == index.wanted()
    with pytest.raises(UsageError, match="not whole yet"):
        generations.make_live(index.ledger, "g2")


def test_a_swap_is_one_transaction_and_a_rollback_another(index: FollowingIndex) -> None:
    fill(index)
    with pytest.raises(UsageError, match="no earlier generation"):
        generations.previous(index.ledger)
    live = generations.make_live(index.ledger, "g2")
    assert live.state == "live" and index.ledger.live() == live
    assert_whole(index.ledger, index.engine(), index.encoder_of(OTHER))
    assert generations.previous(index.ledger).name == "g1"
    back = generations.make_live(index.ledger, "g1")
    assert index.ledger.live() == back and generations.previous(index.ledger).name == "g2"
    assert index.texts() == index.wanted()


def test_a_retired_generation_catches_up_before_it_answers_again(index: FollowingIndex) -> None:
    """Also when the tombstones of what went meanwhile are gone."""
    fill(index)
    generations.make_live(index.ledger, "g2")
    old, index.encoder = index.encoder, index.encoder_of(OTHER)
    index.others["hashes"] = old
    old.texts.clear()
    index.change_config(embedding=OTHER)
    for text in ("one", "two", "three", "four"):
        index.source.put("k03", text)
        index.source.put("k04", f"{text} more")
        index.sync()
    index.source.remove("k05")
    index.sync()
    retired = generations.previous(index.ledger)
    assert retired.applied < index.ledger.rows("SELECT purged FROM status")[0][0]
    assert old.texts == []
    with pytest.raises(UsageError, match="not whole"):
        generations.make_live(index.ledger, "g1")
    generations.make_live(index.ledger, applier(index).bring_up(retired).name)
    assert sorted(old.texts) == ["four", "four more"]
    assert_whole(index.ledger, index.engine(), old)


def test_a_rebuild_leaves_the_choice_of_the_encoder_alone(index: FollowingIndex) -> None:
    fill(index)
    generations.make_live(index.ledger, "g2")
    report = rebuild(index.ledger, index.encoder, index.engine(), index.config, encoder_of=index.encoder_of)
    assert report.generation is not None and report.generation.fingerprint == "other-fingerprint"
    assert sorted(each.state for each in index.ledger.generations()) == ["live", "retired"]
    assert_whole(index.ledger, index.engine(), index.encoder_of(OTHER))
    with pytest.raises(UsageError, match=r"another encoder \(other, not hashes\)"):
        index.sync()


def test_only_the_last_one_is_kept_for_a_rollback(index: FollowingIndex) -> None:
    fill(index)
    generations.make_live(index.ledger, "g2")
    third = generations.begin_generation(
        index.ledger,
        embedding=asdict(EmbeddingConfig(model="third")),
        fingerprint="third-fingerprint",
        dimension=16,
        shape=shape_of(index.config, index.source.columns),
    )
    applier(index).bring_up(third, state="ready")
    generations.make_live(index.ledger, third.name)
    assert [(each.name, each.state) for each in index.ledger.generations()] == [("g2", "retired"), ("g3", "live")]
    assert index.encoder.fingerprint not in {name for name, count in index.ledger.stats().embeddings.items() if count}


def test_dropping_one_drops_its_vectors(index: FollowingIndex) -> None:
    fill(index)
    with pytest.raises(UsageError, match="answers queries"):
        generations.drop_generation(index.ledger, "g1")
    generations.drop_generation(index.ledger, "g2")
    assert index.ledger.stats().embeddings["other-fingerprint"] == 0
    assert begin(index).name == "g3"  # names are not given out again
    assert index.texts() == index.wanted()


def test_an_encoder_that_is_not_the_generations_is_refused(index: FollowingIndex) -> None:
    building = begin(index)
    index.others["other"] = CountingEncoder("changed")
    with pytest.raises(GenaiError, match="'g2' gives other vectors"):
        applier(index).bring_up(building)


def test_a_generation_says_what_an_engine_must_know(index: FollowingIndex) -> None:
    live = index.ledger.live()
    assert live is not None
    spec = live.spec("rows")
    assert (spec.index, spec.generation, spec.dimension, dict(spec.columns)) == ("rows", "g1", 16, {"topic": "keyword"})
    assert not spec.has_tenants
