"""Generations in the ledger: begun, published, made live in one transaction, retired, dropped.

    building -> ready -> live -> retired -> (live again by a rollback)

Only the ledger says which generation answers queries, so that a swap is one transaction: a reader sees the one before
or the one after. Engines are not touched here.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from genai.errors import UsageError
from genai.index.ledger import Ledger
from genai.index.ledger_records import Generation, GenerationState
from genai.index.ledger_writing import now
from genai.index.shape import Shape


def begin_generation(
    ledger: Ledger,
    *,
    embedding: Mapping[str, Any],
    fingerprint: str,
    dimension: int,
    shape: Shape,
    resume: bool = True,
) -> Generation:
    """A generation of an encoder beside the others, to be filled.

    Args:
        ledger: of the index.
        embedding: the section of the config, as plain values, secrets as references.
        fingerprint: of the encoder.
        dimension: of its vectors.
        shape: of its points.
        resume: go on with one that was begun before.
    """
    for known in ledger.generations():
        if (
            resume
            and known.state in ("building", "ready")
            and known.fingerprint == fingerprint
            and known.shape == shape.fingerprint
            and known.dimension == dimension
        ):
            return known
    with ledger.transaction() as connection:
        connection.execute("UPDATE status SET generations = generations + 1")
        (number,) = connection.execute("SELECT generations FROM status").fetchone()
        connection.execute(
            "INSERT INTO generations (number, name, fingerprint, dimension, embedding, state, columns, has_tenants, "
            "shape, average_length, average_of, created_at) VALUES (?, ?, ?, ?, ?, 'building', ?, ?, ?, 0, 0, ?)",
            (
                number,
                f"g{number}",
                fingerprint,
                dimension,
                json.dumps(dict(embedding)),
                json.dumps(dict(shape.columns)),
                shape.has_tenants,
                shape.fingerprint,
                now(),
            ),
        )
    return ledger.generation(f"g{number}")


def note_average(ledger: Ledger, name: str, *, average_length: float, average_of: int) -> Generation:
    """Freeze the BM25 length that a generation's points are made with."""
    with ledger.transaction() as connection:
        connection.execute(
            "UPDATE generations SET average_length = ?, average_of = ? WHERE name = ?",
            (average_length, average_of, name),
        )
    return ledger.generation(name)


def note_published(
    ledger: Ledger,
    name: str,
    *,
    token: str,
    applied: int,
    points: int,
    state: GenerationState | None = None,
    instead_of: str | None = None,
) -> Generation:
    """An engine published a state: readers open it from now on, as soon as the generation is the live one.

    Args:
        ledger: of the index.
        name: of the generation.
        token: of the state.
        applied: the sequence that it is up to.
        points: how many it holds.
        state: of the generation from now on; None leaves it as it is.
        instead_of: a generation that this one replaces, in the same transaction.
    """
    with ledger.transaction() as connection:
        if instead_of is not None:
            _delete(connection, instead_of)
        connection.execute(
            "UPDATE generations SET token = ?, applied = ?, points = ?, state = coalesce(?, state) WHERE name = ?",
            (token, applied, points, state, name),
        )
    return ledger.generation(name)


def make_live(ledger: Ledger, name: str) -> Generation:
    """Let a generation answer queries; the one that did is kept for a rollback, and an older one dropped.

    Raises:
        UsageError: it is not whole, or not up to date.
    """
    with ledger.transaction() as connection:
        found = connection.execute(
            "SELECT state, applied = (SELECT sequence FROM status) FROM generations WHERE name = ?", (name,)
        ).fetchone()
        if found is None or found[0] == "building" or not found[1]:
            raise UsageError(f"generation '{name}' is not whole yet", where=ledger.name, fix="genai index swap")
        if found[0] != "live":
            older = connection.execute(
                "SELECT name FROM generations WHERE state = 'retired' AND name != ?", (name,)
            ).fetchall()
            for (each,) in older:
                _delete(connection, each)
            connection.execute("UPDATE generations SET state = 'retired' WHERE state = 'live'")
            connection.execute("UPDATE generations SET state = 'live' WHERE name = ?", (name,))
    return ledger.generation(name)


def previous(ledger: Ledger) -> Generation:
    """The generation that a rollback goes back to.

    Raises:
        UsageError: there is none.
    """
    retired = [generation for generation in ledger.generations() if generation.state == "retired"]
    if not retired:
        fix = "only a swap leaves one to go back to"
        raise UsageError(f"index '{ledger.name}' has no earlier generation", fix=fix)
    return retired[-1]


def drop_generation(ledger: Ledger, name: str) -> None:
    """Forget a generation, and the vectors of its encoder unless another one has the same; the engine sweeps later.

    Raises:
        UsageError: there is none, or it answers queries.
    """
    if ledger.generation(name).state == "live":
        raise UsageError(f"generation '{name}' answers queries", where=ledger.name, fix="make another one live first")
    with ledger.transaction() as connection:
        _delete(connection, name)


def _delete(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("DELETE FROM generations WHERE name = ?", (name,))
    connection.execute(
        "DELETE FROM embeddings WHERE model IN (SELECT number FROM models WHERE fingerprint NOT IN "
        "(SELECT fingerprint FROM generations))"
    )
