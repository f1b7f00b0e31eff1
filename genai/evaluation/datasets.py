"""Data sets of an evaluation: rows that are checked, and become examples.

What is wrong with the description of the data, and what contradicts itself in a row, stops the job, all of it at once.
A row that lacks something is skipped, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from genai.config.eval import DatasetConfig
from genai.data.columns import check_columns
from genai.data.faults import DataConfigError, data_fault
from genai.data.messages import Unusable
from genai.data.readers import Record
from genai.data.retrieval.faults import guess_columns
from genai.data.rows import BadRow
from genai.data.sources import find_files, read_records
from genai.data.tables import SCHEME, OpenTable
from genai.errors import Problem, UsageError
from genai.evaluation import templates
from genai.evaluation.example_rows import Contradiction, RowReader, missing_columns
from genai.evaluation.few_shot import place_of, with_shots
from genai.evaluation.golden import check_hash, hash_of_files, hash_of_rows
from genai.evaluation.records import Example
from genai.evaluation.run_rows import RUNS, read_run_rows
from genai.log import get_logger
from genai.registry import suggest

_PATH, _COLUMNS = "dataset.path", "dataset.columns"
_MAX_SHOWN, _NUM_REASONS = 20, 3
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "prompt": ("question", "q", "input", "instruction", "query", "problem"),
    "messages": ("conversation", "conversations", "dialogue", "chat", "turns"),
    "reference": ("answer", "a", "response", "output", "completion", "target", "solution", "gold", "expected"),
    "label": ("class", "category", "target", "y"),
    "text": ("content", "body", "document", "passage"),
    "query": ("question", "q", "prompt", "text"),
    "choices": ("options", "endings", "answers", "candidates"),
    "gold": ("label", "answer", "answer_idx", "correct", "target"),
    "context": ("prompt", "text", "prefix"),
    "continuation": ("completion", "target", "answer", "ending"),
    "context_options": ("options", "contexts", "choices"),
    "relevant": ("relevant_ids", "positives", "documents", "answers", "qrels", "keys"),
}
"""Our names -> what such columns are often called."""
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadedDataset:
    """A data set that can be asked."""

    name: str
    examples: tuple[Example, ...]
    """In the order of the rows."""
    sha256: str
    """What the data were, see `genai.evaluation.golden`."""
    num_rows: int
    """All rows that there are, before `limit`."""
    skipped: tuple[BadRow, ...] = ()
    """Rows that cannot be used."""

    @property
    def synthetic(self) -> bool:
        """Whether at least one question was made by a model."""
        return any(example.synthetic for example in self.examples)


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What was read."""

    records: Sequence[Record]
    bad: Sequence[BadRow]
    sha256: str


def load_dataset(
    config: DatasetConfig,
    *,
    seed: int,
    open_table: OpenTable | None = None,
    runs_dir: str | Path = "runs",
) -> LoadedDataset:
    """Read a data set.

    Args:
        config: one of `datasets`.
        seed: chooses the rows where `limit` takes some.
        open_table: opens what `delta:` names.
        runs_dir: where the runs lie that `runs:RUN` (the held-out rows of one) means.

    Raises:
        DataConfigError: the description does not fit the data; `key` begins with `dataset.`, which stands for
            `datasets[NUMBER].`, and all problems of the rows (up to some twenty) are named.
        GenaiError: the data cannot be fetched.
    """
    rows = _read(config, runs_dir, open_table)
    check_hash(rows.sha256, config.sha256, path=config.path)
    template = _template(config)
    if rows.records:
        _check_columns(rows.records, config, template)
    reader = RowReader(config=config, template=template)
    examples, unusable = _examples(rows.records, reader)
    skipped = (*rows.bad, *unusable)
    if not examples:
        raise _nothing_left(config, skipped)
    if skipped:
        what = "%s: %d of %d rows are skipped; the first: %s: %s"
        num_rows = len(rows.records) + len(rows.bad)
        _log.warning(what, config.name, len(skipped), num_rows, skipped[0].source, skipped[0].reason)
    chosen = limited(examples, config.limit, seed)
    return LoadedDataset(
        name=config.name,
        examples=tuple(_with_shots(chosen, examples, config, runs_dir, open_table)),
        sha256=rows.sha256,
        num_rows=len(rows.records) + len(rows.bad),
        skipped=skipped,
    )


def limited(examples: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    """At most `limit` examples, in their order. Which ones depends on the seed and their ids alone: the same ones are
    taken when rows change places, and a larger limit takes others beside them.
    """
    if limit is None or limit >= len(examples):
        return list(examples)
    ids = {each.id for each in sorted(examples, key=lambda each: place_of(each.id, seed))[:limit]}
    return [each for each in examples if each.id in ids]


# --- reading ----------------------------------------------------------------------------------------------------------


def _read(config: DatasetConfig, runs_dir: str | Path, open_table: OpenTable | None) -> _Rows:
    if config.path.startswith(RUNS):
        rows = read_run_rows(config.path, runs_dir=runs_dir, open_table=open_table)
        found: list[Record | BadRow] = list(rows.held_out_records(open_table=open_table))
    else:
        found = list(read_records(config.path, split=config.split, open_table=open_table))
    records = [each for each in found if isinstance(each, Record)]
    bad = [each for each in found if isinstance(each, BadRow)]
    if config.path.startswith((RUNS, "hf:", SCHEME)):
        sha256 = hash_of_rows(record.values for record in records)
    else:
        sha256 = hash_of_files(find_files([config.path])[config.path])
    return _Rows(records=records, bad=bad, sha256=sha256)


def _examples(records: Sequence[Record], reader: RowReader) -> tuple[list[Example], list[BadRow]]:
    examples: list[Example] = []
    unusable: list[BadRow] = []
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    id_column = reader.config.columns.get("id", "id")
    for record in records:
        try:
            example = reader.read(record)
        except Unusable as error:
            unusable.append(BadRow(source=record.source, reason=str(error)))
            continue
        except Contradiction as error:
            problems.append(Problem(message=str(error), where=record.source))
            continue
        if example.id in seen and id_column in record.values:
            message = f"the id '{example.id}' stands at {seen[example.id]} already"
            problems.append(Problem(message=message, where=record.source, fix="every row needs an id of its own"))
        elif example.id in seen:
            example = replace(example, id=_another(example.id, seen))
        seen.setdefault(example.id, record.source)
        examples.append(example)
    if problems:
        left = len(problems) - _MAX_SHOWN
        more = [Problem(message=f"and {left} more", where=reader.config.path)] if left > 0 else []
        raise DataConfigError([*problems[:_MAX_SHOWN], *more], key=_PATH)
    return examples, unusable


def _another(id_: str, taken: Mapping[str, str]) -> str:
    """Of a row that says the same as an earlier one and has no id of its own."""
    number = 2
    while f"{id_}-{number}" in taken:
        number += 1
    return f"{id_}-{number}"


def _nothing_left(config: DatasetConfig, skipped: Sequence[BadRow]) -> DataConfigError:
    reasons: dict[str, BadRow] = {}
    for row in skipped:
        reasons.setdefault(row.reason, row)
    rows = [Problem(message=row.reason, where=row.source) for row in list(reasons.values())[:_NUM_REASONS]]
    return DataConfigError([Problem(message="there is no row that can be used", where=config.path), *rows], key=_PATH)


# --- columns ----------------------------------------------------------------------------------------------------------


def _template(config: DatasetConfig) -> templates.Template | None:
    if config.prompt is None:
        return None
    try:
        return templates.parse(config.prompt)
    except UsageError as error:
        raise DataConfigError(error.problems, key="dataset.prompt") from error


def _check_columns(records: Sequence[Record], config: DatasetConfig, template: templates.Template | None) -> None:
    """Refuse columns that no row has, with the nearest that exists."""
    check_columns(records, config.columns)
    known = list(dict.fromkeys(column for record in records for column in record.values))
    ours = [name for name in config.columns if name not in known]
    for key, names in (("slices", config.slices), ("cluster", [config.cluster] if config.cluster else [])):
        for name in names:
            if name not in known:
                near = suggest(name, known)
                fix = f"did you mean '{near}'?" if near else f"the columns are: {', '.join(known)}"
                raise data_fault(f"there is no column '{name}'", key=f"dataset.{key}", where=records[0].source, fix=fix)
    if template is not None:
        try:
            template.check([*known, *ours])
        except UsageError as error:
            problem = replace(error.problems[0], where=records[0].source)
            raise DataConfigError([problem], key="dataset.prompt") from error
    missing = missing_columns([*known, *ours], config)
    if missing:
        needed = " and ".join(" or ".join(f"'{name}'" for name in each) for each in missing)
        message = f"kind {config.kind} needs {needed}; the rows have {', '.join(known)}"
        raise data_fault(message, key=_COLUMNS, where=records[0].source, fix=_suggestion(missing, known, config))
    _tell_without_reference([*known, *ours], known, config)


def _suggestion(missing: Sequence[Sequence[str]], known: Sequence[str], config: DatasetConfig) -> str:
    wanted = {each[0]: _SYNONYMS.get(each[0], ()) for each in missing}
    if config.kind == "generation":
        wanted["reference"] = _SYNONYMS["reference"]
    guessed = guess_columns(wanted, known)
    if all(each[0] in guessed for each in missing):
        pairs = ", ".join(f"{name}: {column}" for name, column in guessed.items() if name != column)
        return f"set columns: {{{pairs}}}"
    return f"set columns, e.g. {{{missing[0][0]}: {known[0]}}}" if known else "look at the file"


def _tell_without_reference(names: Sequence[str], known: Sequence[str], config: DatasetConfig) -> None:
    """Answers without a right one can be judged, but not compared: that is allowed, and said."""
    if config.kind != "generation" or "reference" in names or "messages" in names:
        return
    guessed = guess_columns({"reference": _SYNONYMS["reference"]}, known).get("reference")
    hint = f" (set columns: {{reference: {guessed}}})" if guessed else ""
    _log.warning(
        "%s: there is no column 'reference', so that no answer is compared with a right one%s", config.name, hint
    )


# --- solved examples --------------------------------------------------------------------------------------------------


def _with_shots(
    chosen: Sequence[Example],
    examples: Sequence[Example],
    config: DatasetConfig,
    runs_dir: str | Path,
    open_table: OpenTable | None,
) -> Sequence[Example]:
    shots = config.few_shot
    if shots is None:
        return chosen
    pool = examples
    if shots.path is not None:
        others = replace(config, path=shots.path, few_shot=None, limit=None, sha256=None, slices=[], cluster=None)
        try:
            pool = load_dataset(others, seed=shots.seed, open_table=open_table, runs_dir=runs_dir).examples
        except DataConfigError as error:
            raise DataConfigError(error.problems, key="dataset.few_shot.path") from error
    try:
        return with_shots(chosen, pool, num=shots.num, seed=shots.seed)
    except ValueError as error:
        where = shots.path or config.path
        raise data_fault(str(error), key="dataset.few_shot", where=where, fix="lower num, or name a path") from error
