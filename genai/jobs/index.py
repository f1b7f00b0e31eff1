"""`genai index`, from the job file to an index that is in step with its source. This module reads like the verb's docs:

open source and encoder -> be the only one to change the index -> nothing new? done, and nothing heavy was imported
-> open a run -> take over what changed and publish it (`genai.index.sync`) -> note the job file -> report

In continuous mode it stays, and all its syncs are one run.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from genai.config.index import IndexConfig
from genai.config.loading import Loaded
from genai.index.ledger import LEDGER, Ledger
from genai.index.sources import open_source
from genai.index.stopping import stop_on_signals
from genai.index.sync import Parts
from genai.jobs.index_parts import CONFIG, encoder_opener, folder_of, open_index_engine, write_config
from genai.jobs.index_result import IndexResult, result_of
from genai.jobs.index_run import SyncRun
from genai.jobs.problems import at, named_keys

if TYPE_CHECKING:
    from genai.index.interfaces import Source


def run(
    loaded: Loaded[IndexConfig],
    *,
    run_name: str | None = None,
    allow_code: bool = False,
    allow_mass_delete: bool = False,
) -> IndexResult:
    """Bring an index up to its source; in continuous mode, until a signal ends it.

    Args:
        loaded: the checked job file.
        run_name: name of the run directory; by default the index's and the number of the sync.
        allow_code: the command line lets a model bring its own Python.
        allow_mass_delete: go on although many documents are gone from the source.

    Raises:
        StoppedError: a signal came; what was committed stays, and the same command goes on.
        GenaiError: see `genai.index.sync.sync` and `genai.errors` for the exit codes.
    """
    config = loaded.config
    with ExitStack() as stack:
        stack.enter_context(named_keys(loaded))
        with at(loaded, "name"):
            folder = folder_of(config.name, config.indexes_dir)
        source = open_source(config.source)
        encoder_of = encoder_opener(config, allow_code=allow_code)
        encoder = encoder_of(config.embedding)
        if source is not None and not (folder / LEDGER).is_file():
            _look_at(source)
        ledger = stack.enter_context(Ledger.open(folder, create=True))
        if source is None or not (folder / CONFIG).is_file():
            # Noted before the first sync is done: the other commands then know the engine, however that sync ends.
            write_config(ledger, loaded)
        if source is None:
            return result_of(ledger, "nothing")
        parts = Parts(
            ledger=ledger,
            encoder=encoder,
            engine=open_index_engine(config, ledger),
            config=config,
            source=source,
            encoder_of=encoder_of,
            stop=stack.enter_context(stop_on_signals()),
        )
        syncs = stack.enter_context(SyncRun(loaded, run_name=run_name))
        if config.sync.mode == "continuous":
            from genai.index.following import run_continuous

            run_continuous(parts, once=syncs.sync, allow_mass_delete=allow_mass_delete)
        else:
            with ledger.alone(), ledger.following():
                syncs.sync(parts, allow_mass_delete=allow_mass_delete)
        return syncs.result


def _look_at(source: Source) -> None:
    """Find out whether a source is there and has its columns, before a first sync makes an index for it."""
    source.position()
    assert source.columns is not None
