"""What is wrong with the settings that `search` tries: every value is checked as if it stood in the job file."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from genai.config.annotations import default_of
from genai.config.checking import check
from genai.config.dialect import dump
from genai.config.durations import Duration
from genai.config.embed_finetune import EmbedFinetuneConfig, HyperSearchConfig
from genai.config.findings import Finding, fault
from genai.config.overrides import apply_overrides
from genai.config.tree import Node, Origin, graft
from genai.errors import Problem

Check = Callable[[EmbedFinetuneConfig], list[Finding]]

MAX_COMBINATIONS = 256
"""So many are held against each other's settings; of a larger space each value is checked by itself."""
_FIXED = {
    "data": "trials are compared on the same queries over the same documents",
    "evaluation": "trials are compared on the same queries over the same documents",
    "search": "it says how trials are made",
    "then": "it follows once the best trial is known",
    "run_name": "every trial has a name of its own",
    "runs_dir": "every trial lies beside the run",
    "variables": "it is not seen what they change",
}
"""First part of a key that no trial may change -> why."""
_DIVISIBLE = ("ep", "ba")
"""Units of max_duration that a round can train a share of, and that settings can be compared by."""


def check_search_space(config: EmbedFinetuneConfig, check_config: Check) -> Iterator[Finding]:
    """Faults of the section `search`.

    Args:
        config: the job's, without faults beside it.
        check_config: finds what contradicts itself in a whole config.
    """
    search = config.search
    if search is None:
        return
    findings = [*_shares(search), *_keys(search), *_durations(config, search)]
    yield from findings
    if findings:
        return
    tree = graft(_written(replace(config, search=None)), Origin("file", ""))
    findings = list(_values(tree, search))
    yield from findings
    if not findings:
        yield from _combinations(tree, search, check_config)


def _shares(search: HyperSearchConfig) -> Iterator[Finding]:
    if search.shortest == 0:
        yield fault("search.shortest", "search.shortest of 0 trains nothing in the first round", "write 0.25")
    if search.keep in (0, 1):
        message = f"search.keep of {search.keep:g} {'keeps no trial' if search.keep == 0 else 'drops no trial'}"
        yield fault("search.keep", message, "write 0.5")


def _keys(search: HyperSearchConfig) -> Iterator[Finding]:
    if not search.space:
        fix = "write for example {optimizer.lr: [1e-5, 5e-5, 1e-4]}"
        yield fault("search.space", "search.space names nothing to try", fix)
    for key, values in search.space.items():
        first = key.partition(".")[0]
        if first in _FIXED:
            fix = "leave it out of the space" if first != "variables" else "write the key that the variable stands in"
            yield _at(key, f"search cannot try values of {key}: {_FIXED[first]}", fix)
        elif not values:
            yield _at(key, f"search.space names no values for {key}", "write a list: [a, b]")
    for key, other in itertools.permutations(search.space, 2):
        if other.startswith(f"{key}."):
            yield _at(other, f"search.space has both {key} and {other}, which is a part of it", "keep one of them")


def _durations(config: EmbedFinetuneConfig, search: HyperSearchConfig) -> Iterator[Finding]:
    if "max_duration" not in search.space and Duration.parse(config.max_duration).unit not in _DIVISIBLE:
        message = f"max_duration of {config.max_duration} cannot be shared out among the rounds of search"
        yield fault("max_duration", message, "write epochs (2ep) or batches (200ba)")


def _values(tree: Node, search: HyperSearchConfig) -> Iterator[Finding]:
    """Each value by itself in the place of its key."""
    for key, values in search.space.items():
        for value in values:
            _, problems = _with(tree, {key: value})
            found = [_at(key, f"{problem.message} (in search.space)", problem.fix) for problem in problems]
            if key == "max_duration" and not found and Duration.parse(value).unit not in _DIVISIBLE:
                message = f"max_duration of {value} cannot be shared out among the rounds of search"
                found = [_at(key, message, "write epochs (2ep) or batches (200ba)")]
            yield from found


def _combinations(tree: Node, search: HyperSearchConfig, check_config: Check) -> Iterator[Finding]:
    """What contradicts itself when values are tried together; each such thing once."""
    said: set[str] = set()
    for settings in _trials(search):
        config, problems = _with(tree, dict(settings))
        named = ", ".join(f"{key}={_text(value)}" for key, value in settings)
        found = [(problem.message, problem.fix) for problem in problems]
        if config is not None:
            found += [(each.message, each.fix) for each in check_config(config) if not each.is_warning]
        for message, fix in found:
            if message not in said:
                yield fault("search.space", f"search would try {named}: {message}", fix)
            said.add(message)


def _trials(search: HyperSearchConfig) -> Iterator[Sequence[tuple[str, Any]]]:
    """All combinations; of a large space each value by itself."""
    if math.prod(len(values) for values in search.space.values()) > MAX_COMBINATIONS:
        yield from ([(key, value)] for key, values in search.space.items() for value in values)
        return
    for values in itertools.product(*search.space.values()):
        yield list(zip(search.space, values, strict=True))


def _with(tree: Node, settings: Mapping[str, Any]) -> tuple[EmbedFinetuneConfig | None, list[Problem]]:
    """The job file of a trial, checked as the loader does."""
    changed, problems = apply_overrides(tree, [f"{key}={_text(value)}" for key, value in settings.items()])
    if problems:
        return None, problems
    return check(EmbedFinetuneConfig, changed, job="embed-finetune")


def _text(value: Any) -> str:
    """A value as it is written after `KEY=`."""
    return dump([value], flow=True).strip()[1:-1]


def _written(section: Any) -> dict[str, Any]:
    """What a job file must say to give this section: names of variants, and all that differs from its default."""
    values: dict[str, Any] = {}
    for field in fields(section):
        value = getattr(section, field.name)
        if field.name == "name" or value != default_of(field):
            values[field.name] = _written(value) if is_dataclass(value) else json.loads(json.dumps(value))
    return values


def _at(key: str, message: str, fix: str | None) -> Finding:
    """A fault at a key of the space, which is one word there although it has dots."""
    return Finding(("search", "space", key), message, fix)
