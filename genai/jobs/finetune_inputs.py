"""What `genai finetune` reads before anything heavy is imported: the model's reference and the rows.

Everything here is free of torch and transformers, so that a mistake in a job file or in the data is told in a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from genai.config.finetune import FinetuneConfig, FinetuningDatasetConfig
from genai.config.loading import Loaded
from genai.data.faults import DataConfigError
from genai.data.prepare import PreparedRows, first_rows, load_rows, prepare_rows
from genai.data.rows import RowSet
from genai.errors import ConfigError, GateError, Problem
from genai.jobs.pinned_tables import Pins, pin_tables, pinned, references_at
from genai.jobs.problems import Problems, located
from genai.jobs.training_inputs import check_destinations, check_remote_code, check_warm_start, check_webhook
from genai.models.chat_template import template_text
from genai.models.loading import tokenizer_kwargs_problems
from genai.models.references import exists_problem, resolve_adapter
from genai.tables.delta import open_delta

_BAD_ROWS = "data.checks.max_bad_rows"
_NUM_SHOWN = 3


def read_inputs(
    loaded: Loaded[FinetuneConfig], *, allow_code: bool = False, tables: Pins | None = None
) -> PreparedRows:
    """Check the references and read all rows.

    Args:
        loaded: the job file.
        allow_code: whether the command line lets a model bring its own Python.
        tables: the versions to read, from `pin`; by default the newest.

    Raises:
        ConfigError: something in the job file leads nowhere, or to rows that cannot be used; each fault has
        file:line:column.
        GateError: the rows miss a threshold of data.checks.
    """
    config = loaded.config
    problems = Problems(loaded)
    _check_model(loaded, problems, allow_code=allow_code)
    check_webhook(loaded, problems)
    pins = pin(loaded) if tables is None else tables
    train = _read(_pinned(config.train_loader.dataset, pins), "train_loader", loaded, problems)
    evaluation = None
    if config.eval_loader is not None:
        evaluation = _read(_pinned(config.eval_loader.dataset, pins), "eval_loader", loaded, problems)
    problems.raise_all()
    assert train is not None
    check_destinations(loaded, problems)
    problems.raise_all()
    return replace(_prepare(loaded, train, evaluation), tables=pins)


def pin(loaded: Loaded[FinetuneConfig], *, run_name: str | None = None) -> Pins:
    """The version of every table that the job reads; see `pin_tables`."""
    return pin_tables(loaded, _references(loaded.config), run_name=run_name)


def _references(config: FinetuneConfig) -> Iterator[tuple[str, str]]:
    for name, loader in (("train_loader", config.train_loader), ("eval_loader", config.eval_loader)):
        if loader is not None:
            yield from references_at(f"{name}.dataset.path", loader.dataset.path)


def _pinned(dataset: FinetuningDatasetConfig, pins: Pins) -> FinetuningDatasetConfig:
    return dataset if dataset.path is None else replace(dataset, path=pinned(dataset.path, pins))


def _check_model(loaded: Loaded[FinetuneConfig], problems: Problems, *, allow_code: bool) -> None:
    config = loaded.config
    references = {
        "model.pretrained_model_name_or_path": config.model.pretrained_model_name_or_path,
        "tokenizer.name": config.tokenizer.name,
    }
    for key, reference in references.items():
        problem = exists_problem(reference, runs_dir=config.runs_dir) if reference is not None else None
        if problem is not None:
            problems.add(key, problem.message, problem.fix)
    problems.extend("tokenizer.kwargs", tokenizer_kwargs_problems(config.tokenizer.kwargs))
    if config.tokenizer.chat_template is not None:
        with problems.at("tokenizer.chat_template"):
            template_text(config.tokenizer.chat_template)
    if config.model.adapter is not None:
        with problems.at("model.adapter"):
            resolve_adapter(config.model.adapter, runs_dir=config.runs_dir)
    check_warm_start(loaded, problems)
    check_remote_code(problems, wanted=config.model.trust_remote_code, allow_code=allow_code)


def _read(
    dataset: FinetuningDatasetConfig, loader: str, loaded: Loaded[FinetuneConfig], problems: Problems
) -> RowSet | None:
    try:
        rows = load_rows(dataset, loaded.config.data, open_table=open_delta)
    except DataConfigError as error:
        key = f"{loader}.{error.key}" if error.key.startswith("dataset.") else error.key
        problems.extend(key, error.problems)
        return None
    return rows if loader == "train_loader" else first_rows(rows, dataset.max_rows)


def _prepare(loaded: Loaded[FinetuneConfig], train: RowSet, evaluation: RowSet | None) -> PreparedRows:
    """Split the rows and hold them against data.checks; bad rows that no threshold was set for are a mistake, not a
    missed threshold.
    """
    config = loaded.config
    try:
        return prepare_rows(train, evaluation, config.data, max_rows=config.train_loader.dataset.max_rows)
    except DataConfigError as error:
        problems = Problems(loaded)
        problems.extend(error.key, error.problems)
        # Too few rows are left, maybe because of these.
        bad = [Problem(message=row.reason, where=row.source) for row in train.bad[:_NUM_SHOWN]]
        problems.extend("train_loader.dataset", bad)
        problems.raise_all()
        raise
    except GateError as error:
        about_bad_rows = (error.where or "").startswith(_BAD_ROWS)
        if not about_bad_rows or loaded.origin(_BAD_ROWS) != "default":
            raise
        rows = [problem for problem in error.problems if not (problem.where or "").startswith("data.checks")]
        raise ConfigError([located(loaded, "train_loader.dataset", problem) for problem in rows]) from error
