"""Puts a tuned encoder into an index: a swap under the index's own gate, on the held-out test queries."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.embed_finetune import EmbedFinetuneConfig
from genai.config.embedding import EmbeddingConfig
from genai.config.index import IndexConfig
from genai.config.loading import Loaded, load
from genai.errors import DataError, GateError, UsageError
from genai.index.ledger import LEDGER, Ledger
from genai.jobs.index_parts import CONFIG, encoder_opener, folder_of, open_ledger, read_config
from genai.log import get_logger
from genai.storage.atomic import write_text
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.data.retrieval.records import RetrievalData

QUERIES_FILE = "reindex_queries.jsonl"
"""In the run directory: the held-out test queries, as `genai index query NAME --evaluate` reads them too."""
_OF_THE_INDEX = ("backend", "normalize", "dimension", "precision", "batch_size")
"""Settings of the encoder before that its successor keeps; the others belong to a model."""
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reindexed:
    """How a swap ended."""

    index: str
    """Name of the index."""
    refused: str | None = None
    """Why the index keeps the encoder that it had."""
    metrics: Mapping[str, tuple[float, float]] | None = None
    """Measure of the index -> with the encoder before and with the tuned one; None where it answered with the tuned one
    already, because an earlier process was killed after its swap."""


def check_reindex(
    path: str,
    *,
    keys: Collection[str] | None = None,
    model: str | None = None,
    runs_dir: str = "runs",
    allow_code: bool = False,
) -> None:
    """Whether an index can be embedded anew when the time comes, as far as can be told before training.

    Args:
        path: job file of the index.
        keys: of the documents that queries are measured with; None leaves open whether the index knows them.
        model: what will be tuned; None leaves open whether the index can be set to such a model.
        runs_dir: where that is looked for.
        allow_code: whether the command line lets a model bring its own Python.

    Raises:
        UsageError: the job file is wrong, the index cannot take such a model, or it is not there and has nothing to be
            filled from.
        DataError: the index cannot be read, or has no document by any of these keys.
    """
    config = load(path, IndexConfig).config
    folder = folder_of(config.name, config.indexes_dir)
    if _answers(folder):
        with open_ledger(config.name, config.indexes_dir) as ledger:
            config = read_config(ledger)
            _check_encoders(config, model, runs_dir, allow_code=allow_code)
            if keys is not None:
                _check_keys(config.name, keys, _some_keys(ledger, keys))
        return
    from genai.index.sources import open_source

    source = open_source(config.source)
    if source is None:
        fix = f"fill it first: genai index upsert {config.name} ROWS.jsonl"
        raise UsageError(f"index '{config.name}' is not there, and follows nothing it could be filled from", fix=fix)
    _check_encoders(config, model, runs_dir, allow_code=allow_code)
    if keys is not None:
        _check_keys(config.name, keys, (change.key for change in source.changes(None).rows))


def reindex(
    loaded: Loaded[EmbedFinetuneConfig], directory: RunDirectory, data: RetrievalData, *, allow_code: bool
) -> Reindexed:
    """Let an index answer with the model of a run, unless its own gate says no; one that is not there is built first.

    A process that is killed leaves the index as it was, or swapped; the next one goes on.

    Args:
        loaded: the job file, with `then.reindex`.
        directory: of the run, with the model.
        data: what is measured with.
        allow_code: whether the command line lets a model bring its own Python.

    Raises:
        UsageError: the index cannot take this model, or the job file of the index is wrong.
        DataError: the index knows none of the documents that the queries ask for.
        GenaiError: another process holds the index, or its engine fails.
    """
    from genai.jobs import index_swap

    then = loaded.config.then
    assert then.reindex is not None
    described = load(then.reindex, IndexConfig)
    name, indexes_dir = described.config.name, Path(described.config.indexes_dir)
    if not _answers(folder_of(name, indexes_dir)):
        _build(described, allow_code=allow_code)
    with open_ledger(name, indexes_dir) as ledger:
        config, live = read_config(ledger), ledger.live()
        queries = _labelled(data)
        relevant = {key for query in queries for key in query["relevant"]}
        _check_keys(name, relevant, _some_keys(ledger, relevant))
    model = _reference(loaded, directory, config)
    settings = tuple(_settings(config.embedding, trust=loaded.config.model.trust_remote_code))
    new = encoder_opener(config, allow_code=allow_code)(index_swap.new_embedding(model, settings))
    if live is not None and live.fingerprint == new.fingerprint:
        _log.info("index '%s' answers with this model already", name)
        return Reindexed(index=name)
    path = directory.path / QUERIES_FILE
    write_text(path, "".join(f"{json.dumps(query, ensure_ascii=False)}\n" for query in queries))
    report = index_swap.attempt(
        index_swap.SwapRequest(
            name=name,
            indexes_dir=indexes_dir,
            model=model,
            overrides=settings,
            queries=path,
            tolerance=then.tolerance,
            drop_if_worse=True,
            allow_code=allow_code,
        )
    )
    refused = None
    try:
        report.check()
    except GateError as error:
        refused = error.message
    metrics = {one.metric: (one.before, one.after) for one in report.comparisons}
    return Reindexed(index=name, refused=refused, metrics=metrics)


def _answers(folder: Path) -> bool:
    """Whether there is an index that a sync has built to its end."""
    if not (folder / LEDGER).is_file() or not (folder / CONFIG).is_file():
        return False
    with Ledger.open(folder, read_only=True) as ledger:
        return ledger.live() is not None


def _check_encoders(config: IndexConfig, model: str | None, runs_dir: str, *, allow_code: bool) -> None:
    """Whether the encoder that the index has can be opened, and one like `model` with its settings."""
    from genai.embedding.opening import open_encoder
    from genai.jobs.index_swap import new_embedding

    encoder_opener(config, allow_code=allow_code)(config.embedding)
    if model is not None:
        open_encoder(new_embedding(model, tuple(_settings(config.embedding, trust=False))), runs_dir=runs_dir)


def _build(described: Loaded[IndexConfig], *, allow_code: bool) -> None:
    """Fill an index from its source, once, whatever its job file says of following it."""
    from genai.jobs import index

    _log.info("index '%s' is not there yet: it is built first, with the encoder of its job file", described.config.name)
    config = replace(described.config, sync=replace(described.config.sync, mode="triggered"))
    index.run(replace(described, config=config), allow_code=allow_code)


def _reference(loaded: Loaded[EmbedFinetuneConfig], directory: RunDirectory, config: IndexConfig) -> str:
    """What the index calls the model: the run, where it looks for runs in the same folder.

    Not what the registry calls it: an alias that is moved on would leave the index with another encoder than it was
    made with.
    """
    if Path(config.runs_dir).resolve() == Path(loaded.config.runs_dir).resolve():
        return f"runs:{directory.name}"
    return str(directory.model.resolve())


def _settings(before: EmbeddingConfig, *, trust: bool) -> Iterator[str]:
    """As overrides: what the encoder before was set to and its successor shall be."""
    if trust:
        yield "embedding.trust_remote_code=true"
    if before.backend in ("static", "endpoint") or before.base_url is not None:
        return  # of another kind of model
    usual = EmbeddingConfig(model=before.model)
    for name in _OF_THE_INDEX:
        value = getattr(before, name)
        if value != getattr(usual, name):
            yield f"embedding.{name}={json.dumps(value)}"


def _labelled(data: RetrievalData) -> list[dict[str, Any]]:
    """The test queries with the documents that answer them; of several passages of a document the best one counts."""
    document_of = {passage.key: passage.document for passage in data.passages}
    queries = []
    for query in data.test:
        grades: dict[str, float] = {}
        for key, grade in query.relevant.items():
            document = document_of.get(key, key)  # labelled queries may name documents themselves
            grades[document] = max(grade, grades.get(document, 0.0))
        graded = any(grade != 1 for grade in grades.values())
        queries.append({"query": query.query, "relevant": grades if graded else list(grades)})
    return queries


def _some_keys(ledger: Ledger, wanted: Collection[str]) -> list[str]:
    """Those of `wanted` that an index knows, and one that it does."""
    from genai.index.ledger_writing import known_documents

    any_row = ledger.rows("SELECT key FROM documents WHERE removed = 0 ORDER BY number LIMIT 1")
    return [*known_documents(ledger, list(wanted)), *(key for (key,) in any_row)]


def _check_keys(name: str, wanted: Collection[str], there: Iterable[str]) -> None:
    """Whether any of the index's keys is wanted; looks no further than the first one that is.

    Raises:
        DataError: none is.
    """
    other = None
    for key in there:
        if key in wanted:
            return
        other = other or key
    here = next(iter(wanted), None)
    if other is None or here is None:
        raise DataError(f"index '{name}' is empty" if here else "there are no documents to ask the index for")
    raise DataError(
        f"index '{name}' has none of the documents that queries are measured with: it calls one '{other}', "
        f"the data of this job '{here}'",
        fix="let data.corpus.primary_key, or the pairs' column id, hold what source.primary_key of the index holds",
    )
