"""Brings an index up to its source, or takes rows by hand; one process at a time, while others query.

    report = sync(ledger, source, encoder, engine, config)

1. Where nothing changed, neither the source nor the settings, that is told from the ledger and the source's position:
   nothing heavy is imported.
2. What changed is taken over into the ledger, batch by batch (`genai.index.taking`); then where the source stands.
3. Every generation that is fed is brought up to the ledger and published (`genai.index.applying`).

A kill at any point costs one batch of embeddings at most: the next sync goes on from what the ledger holds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from genai.config.index import IndexConfig
from genai.errors import DataError, UsageError
from genai.index.ledger import Ledger
from genai.index.parts import EncoderOf, Parts, plain, source_settings
from genai.index.shape import columns_of, shape_of
from genai.index.stopping import Stop
from genai.index.sync_report import SyncReport, report_of
from genai.index.tally import Tally
from genai.log import get_logger

if TYPE_CHECKING:
    from genai.index.interfaces import Document, Encoder, Engine, Source

__all__ = ["EncoderOf", "Parts", "SyncReport", "delete", "is_up_to_date", "rebuild", "sync", "sync_once", "upsert"]
_log = get_logger(__name__)


def sync(
    ledger: Ledger,
    source: Source,
    encoder: Encoder,
    engine: Engine,
    config: IndexConfig,
    *,
    encoder_of: EncoderOf | None = None,
    allow_mass_delete: bool = False,
    stop: Stop | None = None,
) -> SyncReport:
    """Bring an index up to its source.

    Args:
        ledger: of the index, made where it was absent.
        source: that it follows.
        encoder: that the config names.
        engine: that the config names.
        config: of the index.
        encoder_of: opens the encoders of other generations that are fed beside the live one.
        allow_mass_delete: let any number of documents go.
        stop: ends it between two batches.

    Raises:
        UsageError: the index was made with another encoder.
        MassDeleteError: too many documents would go; nothing was removed or published.
        StoppedError: `stop` was asked; the batches so far are there.
        GenaiError: another process changes the index, the source or the encoder fails, the disk is full. Queries are
            answered as before, and the next sync goes on.
    """
    with ledger.alone():
        parts = Parts(
            ledger=ledger,
            encoder=encoder,
            engine=engine,
            config=config,
            source=source,
            encoder_of=encoder_of,
            stop=stop or Stop(),
        )
        return sync_once(parts, allow_mass_delete=allow_mass_delete)


def sync_once(parts: Parts, *, allow_mass_delete: bool = False, check: bool = True) -> SyncReport:
    """`sync`, by who holds the index already.

    Args:
        parts: of the index.
        allow_mass_delete: let any number of documents go.
        check: see whether the engine opens the live state and holds as many points as it should; else it is made anew.
    """
    assert parts.source is not None
    started = time.monotonic()
    sound = not check or _is_sound(parts)
    if sound and is_up_to_date(parts.ledger, parts.source, parts.encoder, parts.config):
        return report_of(parts, Tally(kind="sync"), seconds=time.monotonic() - started)
    from genai.index.syncing import take_and_publish

    share = 1.0 if allow_mass_delete else parts.config.sync.max_delete_share
    return take_and_publish(parts, kind="sync", sound=sound, max_delete_share=share)


def upsert(
    ledger: Ledger,
    documents: Iterable[Document],
    encoder: Encoder,
    engine: Engine,
    config: IndexConfig,
    *,
    encoder_of: EncoderOf | None = None,
    stop: Stop | None = None,
    wait_s: float = 0.4,
    check: bool = True,
) -> SyncReport:
    """Put documents into a direct index, in place of those with the same keys; what says the same costs nothing.

    Args:
        ledger: of the index, made where it was absent.
        documents: each key once; of a key that comes twice the last one counts.
        encoder, engine, config, encoder_of, stop: as for `sync`.
        wait_s: how long to wait while another process changes the index.
        check: see whether the engine opens the live state, as `sync_once` does, which takes as long as opening it.

    Raises:
        UsageError: the index follows a source, or was made with another encoder.
        HeldError: another process changes the index for longer.
        GenaiError: as for `sync`.
    """
    from genai.index.syncing import changes_of_documents, take_and_publish

    _check_direct(config)
    with ledger.alone(wait_s=wait_s):
        parts = Parts(
            ledger=ledger,
            encoder=encoder,
            engine=engine,
            config=config,
            encoder_of=encoder_of,
            stop=stop or Stop(),
        )
        changes = changes_of_documents(documents)
        return take_and_publish(parts, kind="upsert", changes=changes, sound=not check or _is_sound(parts))


def delete(
    ledger: Ledger,
    keys: Sequence[str],
    encoder: Encoder,
    engine: Engine,
    config: IndexConfig,
    *,
    encoder_of: EncoderOf | None = None,
    wait_s: float = 0.4,
    check: bool = True,
) -> SyncReport:
    """Remove documents from a direct index; keys that are not there are passed over.

    Args:
        ledger, encoder, engine, config, encoder_of, wait_s, check: as for `upsert`.
        keys: of the documents.

    Raises:
        UsageError: the index follows a source.
        HeldError, GenaiError: as for `upsert`.
    """
    from genai.index.syncing import changes_of_keys, take_and_publish

    _check_direct(config)
    with ledger.alone(wait_s=wait_s):
        parts = Parts(ledger=ledger, encoder=encoder, engine=engine, config=config, encoder_of=encoder_of, stop=Stop())
        sound = not check or _is_sound(parts)
        return take_and_publish(parts, kind="delete", changes=changes_of_keys(keys), sound=sound)


def rebuild(
    ledger: Ledger,
    encoder: Encoder,
    engine: Engine,
    config: IndexConfig,
    *,
    source: Source | None = None,
    encoder_of: EncoderOf | None = None,
) -> SyncReport:
    """Make the points of every generation anew from the ledger; nothing is embedded that was embedded before.

    Queries are answered from the old points until the new ones are there.

    Args:
        ledger, encoder, engine, config, encoder_of: as for `sync`.
        source: that the index follows, for its columns; nothing is read from it. None takes the columns of the
            generation that is live.
    """
    from genai.index.syncing import remake_all

    with ledger.alone():
        parts = Parts(
            ledger=ledger,
            encoder=encoder,
            engine=engine,
            config=config,
            source=source,
            encoder_of=encoder_of,
            stop=Stop(),
        )
        return remake_all(parts)


def is_up_to_date(ledger: Ledger, source: Source, encoder: Encoder, config: IndexConfig) -> bool:
    """Whether a sync would find nothing to do; cheap, and nothing heavy is imported.

    Raises:
        DataError, UsageError: the source cannot be read.
    """
    note, live, sequence = ledger.source_note(), ledger.live(), ledger.sequence()
    if note.uri != source.uri or note.state is None or note.settings != source_settings(config):
        return False
    if live is None or live.fingerprint != encoder.fingerprint:
        return False
    if any(fed.applied != sequence for fed in ledger.generations() if fed.state in ("live", "ready")):
        return False
    position = source.position()
    if position is None or live.shape != shape_of(config, columns_of(config.source, source)).fingerprint:
        return False
    return note.state.items() >= plain(position).items()


def _is_sound(parts: Parts) -> bool:
    """Whether the engine opens the live state, and it holds as many points as the ledger says."""
    live = parts.ledger.live()
    if live is None:
        return True
    if live.shape != shape_of(parts.config, columns_of(parts.config.source, parts.source)).fingerprint:
        return True  # its points are made anew in any case, maybe by another engine, which could not read them
    if live.token is None:
        return True
    try:
        reader = parts.engine.reader(live.spec(parts.ledger.name), live.token)
    except DataError as error:
        _log.warning("index '%s': %s", parts.ledger.name, error)
        return False
    try:
        return reader.count() == live.points
    finally:
        reader.close()


def _check_direct(config: IndexConfig) -> None:
    if not config.source.direct:
        what = f"index '{config.name}' follows {config.source.table or config.source.documents}"
        raise UsageError(what, fix="change its source, or make an index with source.direct: true")
