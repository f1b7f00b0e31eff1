"""Removes an index with all that belongs to it."""

from __future__ import annotations

from genai.index.interfaces import Engine
from genai.index.ledger import Ledger
from genai.storage.atomic import remove_directory


def drop(ledger: Ledger, engine: Engine) -> None:
    """Remove the index: what its engine keeps elsewhere (a server, a bucket) and its folder, renamed first, so that it
    is whole or gone.

    Args:
        ledger: of the index, opened for writing; closed afterwards.
        engine: of the index.

    Raises:
        GenaiError: another process changes or follows the index, or the engine cannot be reached; it is still there.
    """
    with ledger.following(), ledger.alone():
        engine.sweep({})
        ledger.close()
        remove_directory(ledger.folder)
