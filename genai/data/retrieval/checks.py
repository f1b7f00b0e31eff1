"""The thresholds of `data.checks` on pairs and documents: each one that is not met is named, with what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from genai.config.embed_finetune import RetrievalChecksConfig, RetrievalDataConfig
from genai.data.retrieval.material import Material
from genai.data.retrieval.records import RetrievalData
from genai.data.rows import BadRow
from genai.errors import DataError, GateError, Problem

_NUM_SAMPLES = 3


def check_material(material: Material, checks: RetrievalChecksConfig) -> None:
    """Stop the job when too many rows cannot be used, before any query is made.

    Raises:
        DataError: there is not one passage.
        GateError: `max_bad_rows` is not met; names three of the rows.
    """
    problems = _bad_rows(material.bad, material.num_rows, checks)
    if not problems and not material.passages:
        raise DataError("there is no text to find", where="data", fix="name pairs or a corpus that holds some")
    _raise_if_any(problems)


def check_retrieval(data: RetrievalData, config: RetrievalDataConfig) -> None:
    """Stop the job when what is left after the split does not meet the thresholds.

    Args:
        data: as `split_material` gave it.
        config: `data`.

    Raises:
        GateError: names every threshold that is not met.
    """
    checks = config.checks
    near = data.near_duplicates
    num_pairs = len(data.train) + len(near)
    problems: list[Problem] = []
    if len(near) > checks.max_near_duplicates * num_pairs:
        samples = ", ".join(f"{each.train} like {each.held_out}" for each in near[:_NUM_SAMPLES])
        allowed = f"{len(near) / num_pairs:.1%}, allowed {checks.max_near_duplicates:.1%}"
        problems.append(
            Problem(
                message=f"{len(near)} of {num_pairs} training pairs resemble held-out ones ({allowed}), e.g. {samples}",
                where="data.checks.max_near_duplicates",
                fix="put what belongs together into groups (data.split.group_by)",
            )
        )
    if len(data.train) < checks.min_pairs:
        hint = "data.split holds back the others" if data.validation or data.test else "look at data.pairs"
        message = f"{len(data.train)} pairs are left to train on, {checks.min_pairs} are needed"
        problems.append(Problem(message=message, where="data.checks.min_pairs", fix=hint))
    if len(data.test) < checks.min_queries:
        message = f"{len(data.test)} test queries are held back, {checks.min_queries} are needed"
        fix = "raise data.split.test, or name labelled queries (evaluation.queries)"
        problems.append(Problem(message=message, where="data.checks.min_queries", fix=fix))
    _raise_if_any(problems)


def check_cut(num_cut: int, data: RetrievalData, checks: RetrievalChecksConfig) -> None:
    """Stop the job when too many documents are longer than the model reads.

    Args:
        num_cut: how many passages were cut, as the tokenizer tells.
        data: what is searched.
        checks: `data.checks`.

    Raises:
        GateError: `max_cut_documents` is not met.
    """
    total = len(data.passages)
    if num_cut > checks.max_cut_documents * total:
        share = f"{num_cut / total:.1%}, allowed {checks.max_cut_documents:.1%}"
        message = f"{num_cut} of {total} passages are longer than the model reads ({share})"
        fix = "cut them into passages (data.corpus.chunking), or raise model.max_tokens"
        _raise_if_any([Problem(message=message, where="data.checks.max_cut_documents", fix=fix)])


def _bad_rows(bad: Sequence[BadRow], num_rows: int, checks: RetrievalChecksConfig) -> list[Problem]:
    if len(bad) <= checks.max_bad_rows * num_rows:
        return []
    share = f"{len(bad) / num_rows:.1%}, allowed {checks.max_bad_rows:.1%}"
    message = f"{len(bad)} of {num_rows} rows cannot be used ({share})"
    different = {row.reason: row for row in reversed(bad)}
    samples = sorted(different.values(), key=list(bad).index)[:_NUM_SAMPLES]
    problems = [Problem(message=row.reason, where=row.source) for row in samples]
    return [Problem(message=message, where="data.checks.max_bad_rows"), *problems]


def _raise_if_any(problems: Sequence[Problem]) -> None:
    if problems:
        error = GateError(problems[0].message, where=problems[0].where, fix=problems[0].fix)
        error.problems = tuple(problems)
        raise error
