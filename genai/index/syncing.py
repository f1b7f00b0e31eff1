"""The part of a sync that has something to do: takes changes over, publishes, and closes the account."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from genai.errors import GenaiError, StoppedError, UsageError
from genai.index.applying import Applier
from genai.index.cutting import content_hash
from genai.index.generations import begin_generation, drop_generation, make_live
from genai.index.interfaces import Change, Changes, Document, Encoder
from genai.index.ledger_records import Generation
from genai.index.ledger_writing import batch
from genai.index.parts import Parts, document_settings, source_settings
from genai.index.shape import Shape, columns_of, shape_of
from genai.index.sync_report import SyncReport, report_of
from genai.index.taking import Taking
from genai.index.tally import Tally
from genai.log import get_logger

_log = get_logger(__name__)


def take_and_publish(
    parts: Parts, *, kind: str, sound: bool, changes: Changes | None = None, max_delete_share: float = 1.0
) -> SyncReport:
    """Take changes over into the ledger, and publish them.

    Args:
        parts: of the index.
        kind: what the account calls it.
        sound: whether the engine holds what it should; else its points are made anew first: queries wait for that.
        changes: what to take; by default what the source says.
        max_delete_share: of the documents that may go.

    Raises:
        GenaiError: see `genai.index.sync.sync`.
    """
    started = time.monotonic()
    ledger, source = parts.ledger, parts.source
    check_encoder(parts)
    note, settings = ledger.source_note(), source_settings(parts.config)
    tally = Tally(kind=kind, source=source.uri if source else None, from_state=note.state)
    applier = applier_of(parts, tally)
    live = ledger.live()
    if live is not None and not sound:
        applier.remake(live, "the engine does not hold what it should")
    if changes is None:
        assert source is not None
        same = note.uri == source.uri and note.settings == settings
        changes = source.changes(note.state if same else None)
    taking = Taking(
        ledger,
        parts.encoder,
        parts.config,
        settings=document_settings(parts.config),
        tally=tally,
        stop=parts.stop,
    )
    taking.take(changes, max_delete_share=max_delete_share)
    if source is not None:
        with batch(ledger) as last:
            last.note_source(source.uri, changes.state, settings)
    replaced = live is not None and live.fingerprint != parts.encoder.fingerprint  # an empty one, by `check_encoder`
    return publish(parts, applier, tally, started=started, changed=not sound, replaces_live=replaced)


def publish(
    parts: Parts,
    applier: Applier,
    tally: Tally,
    *,
    started: float,
    changed: bool = False,
    replaces_live: bool = False,
) -> SyncReport:
    """Bring all generations that are fed up to the ledger, close the account, and tidy up.

    Args:
        parts: of the index.
        applier: of the same.
        tally: of what was done so far.
        started: when, by `time.monotonic`.
        changed: something did already, beside what the tally counts.
        replaces_live: a generation of the config's encoder takes the place of the live one, whatever that is.
    """
    ledger = parts.ledger
    before = {generation.name: generation.token for generation in ledger.generations()}
    began = time.monotonic()
    embedded = tally.counts["embeddings_new"]
    _bring_up_live(parts, applier, replace=replaces_live)
    _bring_up_others(parts, applier)
    _drop_leftovers(parts)
    apply_s = time.monotonic() - began
    seconds = time.monotonic() - started
    if changed or tally.number is not None or before != {each.name: each.token for each in ledger.generations()}:
        with batch(ledger) as last:
            last.count(tally.account(last), {"embeddings_new": tally.counts["embeddings_new"] - embedded})
            last.purge()
            last.end_sync(tally.account(last), seconds=seconds, to_state=ledger.source_note().state)
    applier.sweep()
    return report_of(parts, tally, seconds=seconds, apply_s=apply_s)


def remake_all(parts: Parts) -> SyncReport:
    """`genai.index.sync.rebuild`, by who holds the index."""
    started = time.monotonic()
    tally = Tally(kind="rebuild", from_state=parts.ledger.source_note().state)
    applier = applier_of(parts, tally)
    before = [generation for generation in parts.ledger.generations() if generation.token is not None]
    for generation in before:
        applier.remake(generation, "as asked for")
    with batch(parts.ledger) as changes:
        changes.remove_orphans()
    return publish(parts, applier, tally, started=started, changed=bool(before))


def applier_of(parts: Parts, tally: Tally) -> Applier:
    """What brings generations up."""

    def encoder_of(generation: Generation) -> Encoder:
        if generation.fingerprint == parts.encoder.fingerprint:
            return parts.encoder
        if parts.encoder_of is None:
            raise GenaiError(f"no encoder for generation '{generation.name}'", where=parts.ledger.name)
        return parts.encoder_of(generation.embedding_config)

    def embedded(count: int) -> None:
        tally.counts["embeddings_new"] += count
        parts.stop.check()

    return Applier(
        ledger=parts.ledger,
        engine=parts.engine,
        config=parts.config,
        shape=_shape(parts),
        encoder_of=encoder_of,
        embedded=embedded,
    )


def check_encoder(parts: Parts) -> None:
    """Whether the encoder is the one that the index was made with.

    Raises:
        UsageError: it is not, and there are chunks.
    """
    live = parts.ledger.live()
    if live is not None and live.fingerprint != parts.encoder.fingerprint and parts.ledger.num_chunks():
        was, wanted = live.embedding.get("model"), parts.config.embedding.model
        what = f"index '{parts.ledger.name}' was made with another encoder"
        if was != wanted:
            what = f"{what} ({was}, not {wanted})"
        swap = f"genai index swap {parts.ledger.name} --embedding {wanted}"
        raise UsageError(what, where="embedding", fix=f"name that one, or put the new one in beside it: {swap}")


def changes_of_documents(documents: Iterable[Document]) -> Changes:
    """Documents that came by hand. One that cannot be stored raises `DataError`: its sender is there to be told."""

    def change(document: Document) -> Change:
        version = content_hash(document).hex()
        return Change(key=document.key, kind="upsert", version=version, load=lambda: document)

    return Changes(state={}, complete=False, rows=map(change, documents))


def changes_of_keys(keys: Sequence[str]) -> Changes:
    """Documents that are to go."""
    rows = (Change(key=key, kind="delete") for key in dict.fromkeys(keys))
    return Changes(state={}, complete=False, rows=rows, total=len(keys))


def _shape(parts: Parts) -> Shape:
    """That points should have; without the source, its columns are those that the live generation has."""
    live = parts.ledger.live()
    if parts.source is None and not parts.config.source.direct and live is not None:
        return shape_of(parts.config, live.columns)
    return shape_of(parts.config, columns_of(parts.config.source, parts.source))


def _bring_up_live(parts: Parts, applier: Applier, *, replace: bool) -> None:
    live = parts.ledger.live()
    if live is not None and not replace:
        applier.bring_up(live)
        return
    first = begin_generation(
        parts.ledger,
        embedding=asdict(parts.config.embedding),
        fingerprint=parts.encoder.fingerprint,
        dimension=parts.encoder.dimension,
        shape=applier.shape,
    )
    if live is None:
        applier.bring_up(first, state="live")
        return
    applier.bring_up(first, state="ready")
    make_live(parts.ledger, first.name)
    drop_generation(parts.ledger, live.name)


def _drop_leftovers(parts: Parts) -> None:
    """A kill in the middle of making points anew leaves a generation of the live one's encoder that nobody fills."""
    live = parts.ledger.live()
    for generation in parts.ledger.generations():
        if live is not None and generation.state == "building" and generation.fingerprint == live.fingerprint:
            drop_generation(parts.ledger, generation.name)


def _bring_up_others(parts: Parts, applier: Applier) -> None:
    for generation in parts.ledger.generations():
        if generation.state != "ready":
            continue
        try:
            applier.bring_up(generation)
        except StoppedError:
            raise
        except GenaiError as error:
            name = generation.name
            _log.warning("generation '%s' of index '%s' falls behind: %s", name, parts.ledger.name, error)
