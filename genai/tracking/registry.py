"""The model registry: names that stand for a model that was trained and found good, in numbered versions.

    <runs_dir>/.registry/<name>/versions/1.json, 2.json, ...    what was registered; written once, never changed
    <runs_dir>/.registry/<name>/aliases.json                    which version `production` and others name, and named

It lies among the runs, under a name that no run can have: versions name runs of that folder, so that both are moved,
copied and mounted together, and whoever resolves `runs:RUN` needs to be told of no second place for `registry:NAME`.
The weights stay where the run wrote them; a version holds their fingerprint.

One process at a time writes into a name. A process that is killed leaves the old content or the new one.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from genai.errors import DataError, GenaiError, UsageError
from genai.registry import suggest
from genai.storage.atomic import safe_name, write_json
from genai.tracking.lock import hold, now
from genai.tracking.metrics import plain

ModelKind = Literal["sentence_encoder", "cross_encoder", "causal_lm"]
"""What a registered model is for."""
DEFAULT_ALIAS = "production"
"""What `registry:NAME` alone means."""
_FORMAT = 1
"""Of the files."""
_WAIT_S = 60.0
"""How long another process that writes into the same name is waited for; it does for milliseconds."""
_PAUSE_S = 0.05
_MAX_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One registered model, as its file holds it."""

    name: str
    """Under which it is registered."""
    version: int
    """From 1."""
    kind: ModelKind
    """What it is for."""
    model: str
    """Reference of the model: runs:RUN or runs:RUN/CHECKPOINT."""
    run: str
    """The run that made it."""
    fingerprint: str
    """Of weights, config and tokenizer; see `genai.models.fingerprint`."""
    data_fingerprint: str
    """Of what it was trained and measured with."""
    tables: Mapping[str, Any]
    """Delta tables that were read: reference -> version and id."""
    metrics: Sequence[Mapping[str, Any]]
    """Each measure with its intervals, before and after."""
    tuned_from: str
    """Reference of the model that it was tuned from."""
    inputs: Mapping[str, Any]
    """What else the run notes of all that went in, such as the fingerprint of that model."""
    created_at: str
    """When it was registered, ISO 8601 in UTC."""

    @property
    def reference(self) -> str:
        """What names this very version, whatever aliases do."""
        return f"registry:{self.name}@{self.version}"


@dataclass(frozen=True, kw_only=True)
class AliasChange:
    """An alias was made to name another version."""

    alias: str
    version: int
    """That it names from then on."""
    action: Literal["set", "rollback"]
    """rollback: back to what it named before."""
    at: str
    """When, ISO 8601 in UTC."""
    eval_run: str | None = None
    """The evaluation that it rests on; of a rollback none."""


def check_name(text: str) -> str:
    """`text`, when a model can be registered under it.

    Raises:
        UsageError: it cannot.
    """
    return _without_at(safe_name(text, kind="name in the registry"), "name in the registry")


def check_alias(text: str) -> str:
    """`text`, when it can be an alias: a number would be taken for a version.

    Raises:
        UsageError: it cannot.
    """
    alias = _without_at(safe_name(text, kind="name of an alias"), "name of an alias")
    if alias.isdecimal():
        raise UsageError(f"'{alias}' cannot be used as a name of an alias", fix="a number names a version: use a word")
    return alias


def register(
    runs_dir: str | Path,
    name: str,
    *,
    kind: ModelKind,
    model: str,
    run: str,
    fingerprint: str,
    data_fingerprint: str,
    tables: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    tuned_from: str,
    inputs: Mapping[str, Any],
) -> ModelVersion:
    """Make a model the next version of `name`. A run that registered the same weights before keeps its version.

    Args:
        runs_dir: where run directories lie.
        name, kind, model, run, fingerprint, data_fingerprint, tables, metrics, tuned_from, inputs: see `ModelVersion`.

    Raises:
        UsageError: the name cannot be one.
        DataError: a version that is there cannot be read.
        GenaiError: another process does not let go of the registry, or the disk is full.
    """
    folder = _folder(runs_dir, name)
    with _alone(folder):
        there = versions(runs_dir, name)
        for known in there:
            if (known.run, known.model, known.fingerprint) == (run, model, fingerprint):
                return known
        made = ModelVersion(
            name=name,
            version=there[-1].version + 1 if there else 1,
            kind=kind,
            model=model,
            run=run,
            fingerprint=fingerprint,
            data_fingerprint=data_fingerprint,
            tables=plain(tables),
            metrics=plain(list(metrics)),
            tuned_from=tuned_from,
            inputs=plain(inputs),
            created_at=now(),
        )
        write_json(_version_file(folder, made.version), {"format": _FORMAT, **asdict(made)})
    return made


def names(runs_dir: str | Path) -> list[str]:
    """The names under which a model is registered, sorted."""
    folder = registry_folder(runs_dir)
    return sorted(path.name for path in folder.iterdir() if _numbers(path)) if folder.is_dir() else []


def versions(runs_dir: str | Path, name: str) -> list[ModelVersion]:
    """All versions of `name`, the oldest first; none where nothing was registered.

    Raises:
        DataError: one of them cannot be read.
    """
    folder = _folder(runs_dir, name)
    return [_read_version(folder, number) for number in _numbers(folder)]


def find(runs_dir: str | Path, text: str) -> ModelVersion:
    """The version that `text` names: NAME@VERSION, NAME@ALIAS, or NAME for what is in production.

    Raises:
        UsageError: there is none; the message names what was probably meant.
        DataError: a file of the registry cannot be read.
    """
    name, separator, wanted = text.partition("@")
    if separator and not wanted:
        raise UsageError(f"'registry:{text}' names no version", fix=f"write registry:{name}@1 or registry:{name}@ALIAS")
    folder = _folder(runs_dir, name)
    numbers = _numbers(folder)
    if not numbers:
        raise _unknown_name(runs_dir, name)
    if wanted.isdecimal():
        if int(wanted) not in numbers:
            raise UsageError(
                f"the model '{name}' has no version {wanted} in the registry", fix=f"it has {_listed(numbers)}"
            )
        return _read_version(folder, int(wanted))
    named = aliases(runs_dir, name)
    alias = wanted or DEFAULT_ALIAS
    if alias not in named:
        raise _unknown_alias(name, alias, named, numbers)
    return _read_version(folder, named[alias])


def aliases(runs_dir: str | Path, name: str) -> dict[str, int]:
    """Which version each alias of `name` names.

    Raises:
        DataError: the file cannot be read.
    """
    return {change.alias: change.version for change in alias_history(runs_dir, name)}


def alias_history(runs_dir: str | Path, name: str) -> list[AliasChange]:
    """What the aliases of `name` were made to name, the oldest first.

    Raises:
        DataError: the file cannot be read.
    """
    path = _folder(runs_dir, name) / "aliases.json"
    if not path.is_file():
        return []
    with _explained(path):
        values = _read(path)
        history = [AliasChange(**change) for change in values["history"]]
        _past(history)
        return history


def set_alias(runs_dir: str | Path, name: str, alias: str, version: int, *, eval_run: str | None = None) -> None:
    """Let an alias name a version; one that names it already is left as it is.

    Args:
        runs_dir: where run directories lie.
        name: under which the model is registered.
        alias: for example `production`.
        version: that it names from now on.
        eval_run: the evaluation that this rests on; it is noted even where the alias names the version already.

    Raises:
        UsageError: there is no such version, or the alias cannot be one.
        DataError: a file of the registry cannot be read.
        GenaiError: another process does not let go of the registry, or the disk is full.
    """
    check_alias(alias)
    find(runs_dir, f"{check_name(name)}@{version}")
    with _alone(_folder(runs_dir, name)):
        last = standing_of(runs_dir, name, alias)
        is_same = last is not None and last.version == version and eval_run in (None, last.eval_run)
        if not is_same:
            change = AliasChange(alias=alias, version=version, action="set", at=now(), eval_run=eval_run)
            _note(runs_dir, name, change)


def standing_of(runs_dir: str | Path, name: str, alias: str) -> AliasChange | None:
    """How an alias came to name what it names now: the change that set it, also where a rollback went back to that.

    Raises:
        DataError: the file cannot be read.
    """
    standing: list[AliasChange] = []
    for change in alias_history(runs_dir, name):
        if change.alias == alias:
            _apply(standing, change)
    return standing[-1] if standing else None


def refuse_if_named(runs_dir: str | Path, run: str) -> None:
    """Say so when an alias names a model that a run made, or rests on its evaluation: without the run it would lead
    nowhere.

    Raises:
        UsageError: one does.
        DataError: a file of the registry cannot be read.
    """
    for name in names(runs_dir):
        named = aliases(runs_dir, name)
        for version in versions(runs_dir, name):
            found = [alias for alias, number in named.items() if number == version.version]
            if version.run == run and found:
                message = f"run '{run}' made registry:{name}@{found[0]} (version {version.version})"
                raise UsageError(message, fix="let the alias name another version first")
        for alias in named:
            change = standing_of(runs_dir, name, alias)
            if change is not None and change.eval_run == run:
                message = f"registry:{name}@{alias} (version {change.version}) rests on the evaluation '{run}'"
                raise UsageError(message, fix="let the alias name another version first")


def rollback_alias(runs_dir: str | Path, name: str, alias: str = DEFAULT_ALIAS) -> ModelVersion:
    """Let an alias name again what it did before it was last set; a second time, what it did before that.

    Raises:
        UsageError: there is no such alias, or nothing to go back to.
        DataError: a file of the registry cannot be read.
        GenaiError: another process does not let go of the registry, or the disk is full.
    """
    folder = _folder(runs_dir, name)
    if not _numbers(folder):
        raise _unknown_name(runs_dir, name)
    with _alone(folder):
        past = _past(alias_history(runs_dir, name))
        if alias not in past:
            raise _unknown_alias(name, alias, past, _numbers(folder))
        if len(past[alias]) < 2:
            message = f"'{name}@{alias}' never named another version than {past[alias][0]}"
            raise UsageError(message, fix="there is nothing to go back to")
        before = _read_version(folder, past[alias][-2])
        _note(runs_dir, name, AliasChange(alias=alias, version=before.version, action="rollback", at=now()))
    return before


def registry_folder(runs_dir: str | Path) -> Path:
    """Where the registry of a folder of runs lies."""
    return Path(runs_dir) / ".registry"


def _folder(runs_dir: str | Path, name: str) -> Path:
    return registry_folder(runs_dir) / check_name(name)


def _version_file(folder: Path, version: int) -> Path:
    return folder / "versions" / f"{version}.json"


def _numbers(folder: Path) -> list[int]:
    """The versions whose files are there."""
    found = (path.name.removesuffix(".json") for path in (folder / "versions").glob("*.json"))
    return sorted(int(number) for number in found if number.isdecimal() and not number.startswith("0"))


def _read_version(folder: Path, version: int) -> ModelVersion:
    path = _version_file(folder, version)
    with _explained(path):
        values = _read(path)
        found = ModelVersion(**{field.name: values[field.name] for field in fields(ModelVersion)})
        if (found.name, found.version) != (folder.name, version) or found.kind not in get_args(ModelKind):
            raise ValueError("it is not of this model")
        return found


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_bytes())
    if values["format"] > _FORMAT:
        raise DataError("this part of the registry was written by a newer genai", where=str(path), fix="update genai")
    return values


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What a damaged file leads to, as one line."""
    try:
        yield
    except FileNotFoundError:
        raise DataError("this file of the registry is gone", where=str(path)) from None
    except (ValueError, LookupError, TypeError) as error:
        fix = "bring it back from a backup, or move it out of the registry"
        raise DataError("this file of the registry is damaged", where=str(path), fix=fix) from error


def _note(runs_dir: str | Path, name: str, change: AliasChange) -> None:
    history = [*alias_history(runs_dir, name), change]
    values = {"format": _FORMAT, "history": [asdict(each) for each in history]}
    write_json(_folder(runs_dir, name) / "aliases.json", values)


def _past(history: Sequence[AliasChange]) -> dict[str, list[int]]:
    """What each alias named, one after the other, without what was taken back; the last one is what it names now."""
    named: dict[str, list[AliasChange]] = defaultdict(list)
    for change in history:
        _apply(named[change.alias], change)
    return {alias: [change.version for change in standing] for alias, standing in named.items()}


def _apply(standing: list[AliasChange], change: AliasChange) -> None:
    """Bring one change into what an alias named, one after the other."""
    if change.action == "rollback":
        standing[-1:] = []
    elif standing and standing[-1].version == change.version:
        standing[-1] = change
    else:
        standing.append(change)
    if not standing or standing[-1].version != change.version:
        raise ValueError("the history goes back to what was never named")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only process that writes into a name of the registry, once others are done."""
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _WAIT_S
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(
                    hold(folder / "lock", what=f"'{folder.name}' in the registry", alternative="try again later")
                )
                break
            except GenaiError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE_S)
        yield


def _without_at(text: str, kind: str) -> str:
    if "@" in text:
        fix = f"e.g. {text.replace('@', '-')!r}: what follows an @ is a version or an alias"
        raise UsageError(f"{text!r} cannot be used as a {kind}", fix=fix)
    return text


def _unknown_name(runs_dir: str | Path, name: str) -> UsageError:
    known = names(runs_dir)
    near = suggest(name, known)
    fix = f"did you mean 'registry:{near}'?" if near else f"known: {', '.join(known[:_MAX_SHOWN]) or 'none yet'}"
    return UsageError(f"there is no model '{name}' in the registry of {runs_dir}", fix=fix)


def _unknown_alias(name: str, alias: str, named: Mapping[str, Any], numbers: Sequence[int]) -> UsageError:
    near = suggest(alias, [*named, *map(str, numbers)])
    words = [*(f"@{each}" for each in sorted(named)), f"versions {_listed(numbers)}"]
    fix = f"did you mean 'registry:{name}@{near}'?" if near else f"it has {', '.join(words)}"
    return UsageError(f"the model '{name}' has no alias '{alias}' in the registry", fix=fix)


def _listed(numbers: Sequence[int]) -> str:
    shown = [str(number) for number in numbers]
    return ", ".join(shown if len(shown) <= _MAX_SHOWN else [shown[0], "...", shown[-1]])
