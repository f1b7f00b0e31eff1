"""By what answers are judged: a built-in rubric, a file, or the criteria themselves.

A Markdown or text file holds the criteria as they are. A YAML file has

    name: politeness                     # in results; by default the file's name
    criteria: Judge how polite ...
    levels: [rude, neutral, polite]      # from the worst score to the best, as many as one likes
    needs: [reference]                   # rows without it are not judged: reference, contexts
    shows: [reference]                   # what the judge sees beside question and answer; by default both
    higher_is_better: true
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from genai.errors import DataError, UsageError
from genai.evaluation.judges.built_in_rubrics import BUILT_IN
from genai.evaluation.judges.criteria import NEEDS, Need, Rubric
from genai.registry import suggest

_KEYS = ("name", "criteria", "levels", "needs", "shows", "higher_is_better")
_YAML = (".yaml", ".yml")
_TEXT = (".md", ".markdown", ".txt")
_MAX_BYTES = 256 << 10


def open_rubric(rubric: str) -> Rubric:
    """The rubric that a job file means.

    Args:
        rubric: name of a built-in one; a file that ends in .md, .txt, .yaml or .yml; or the criteria in words.

    Raises:
        UsageError: no such rubric or file, or the file holds something else.
    """
    if rubric in BUILT_IN:
        return BUILT_IN[rubric]
    is_line = "\n" not in rubric.strip()
    if is_line and Path(rubric).suffix.lower() in (*_YAML, *_TEXT):
        return _read(Path(rubric.removeprefix("file://")).expanduser(), rubric)
    if len(rubric.split()) < 2:
        near = suggest(rubric, BUILT_IN)
        known = f"known: {', '.join(BUILT_IN)}; or name a .md or .yaml file, or write the criteria in words"
        raise UsageError(f"there is no rubric '{rubric}'", fix=f"did you mean '{near}'?" if near else known)
    return Rubric(name="criteria", criteria=rubric)


def _read(path: Path, written: str) -> Rubric:
    if not path.is_file():
        folder = path.parent
        near = suggest(path.name, (each.name for each in folder.iterdir())) if folder.is_dir() else None
        fix = (
            f"did you mean '{folder / near}'?" if near else "name a file that is there, or write the criteria in words"
        )
        raise UsageError("there is no such rubric", where=written, fix=fix)
    if path.stat().st_size > _MAX_BYTES:
        raise UsageError("the rubric is too long for a prompt", where=written, fix="keep it below some pages")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the rubric cannot be read: {error}", where=written, fix="save it as UTF-8") from error
    if path.suffix.lower() in _TEXT:
        return Rubric(name=path.stem, criteria=_not_empty(text, written))
    return _from_yaml(text, path.stem, written)


def _from_yaml(text: str, stem: str, written: str) -> Rubric:
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"the rubric is no YAML: {reason}", where=written, fix="see docs/eval.md") from error
    if not isinstance(values, Mapping):
        raise UsageError("the rubric has no keys", where=written, fix=f"its keys are: {', '.join(_KEYS)}")
    for key in values:
        if key not in _KEYS:
            near = suggest(str(key), _KEYS)
            fix = f"did you mean '{near}'?" if near else f"its keys are: {', '.join(_KEYS)}"
            raise UsageError(f"unknown key '{key}'", where=written, fix=fix)
    is_better = values.get("higher_is_better", True)
    if not isinstance(is_better, bool):
        raise UsageError("'higher_is_better' is neither true nor false", where=written, fix="higher_is_better: true")
    levels = _texts(values, "levels", written)
    if len(levels) == 1:
        raise UsageError("'levels' has one entry", where=written, fix="name at least the worst and the best")
    return Rubric(
        name=str(values.get("name") or stem),
        criteria=_not_empty(values.get("criteria"), written),
        levels=levels,
        needs=_needs(values, "needs", written),
        shows=_needs(values, "shows", written) if "shows" in values else frozenset(NEEDS),
        higher_is_better=is_better,
    )


def _texts(values: Mapping[str, Any], key: str, written: str) -> tuple[str, ...]:
    found = values.get(key) or []
    if not isinstance(found, Sequence) or isinstance(found, str) or not all(isinstance(each, str) for each in found):
        raise UsageError(f"'{key}' is no list of texts", where=written, fix=f"{key}: [..., ...]")
    return tuple(found)


def _needs(values: Mapping[str, Any], key: str, written: str) -> frozenset[Need]:
    words = _texts(values, key, written)
    for word in words:
        if word not in NEEDS:
            raise UsageError(f"'{key}' cannot hold '{word}'", where=written, fix=f"known: {', '.join(NEEDS)}")
    return frozenset(cast(Sequence[Need], words))


def _not_empty(criteria: object, written: str) -> str:
    if not isinstance(criteria, str) or not criteria.strip():
        raise UsageError("the rubric has no criteria", where=written, fix="criteria: Judge whether ...")
    return criteria.strip()
