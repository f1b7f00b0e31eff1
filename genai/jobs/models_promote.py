"""`genai models promote` and `rollback`: which version of a model an alias such as `production` names.

With an evaluation, the alias is moved only when that evaluation measured this very model and all its gates held; else
nothing is written. A model that no version has yet becomes the next version of the name, because the gates held.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genai.errors import DataError, GateError, UsageError
from genai.evaluation.files import RESULT_FILE, read_result
from genai.evaluation.gating import ALL_TARGETS
from genai.evaluation.records import GateOutcome, Measured
from genai.jobs.eval_runs import EvalRun, open_run, targets_of
from genai.jobs.pinned_tables import TABLES
from genai.log import get_logger
from genai.models.fingerprint import fingerprint
from genai.models.references import exists_problem, resolve_model
from genai.tracking import registry
from genai.tracking.catalog import find_run
from genai.tracking.registry import DEFAULT_ALIAS, ModelKind, ModelVersion
from genai.tracking.run import RunDirectory

_log = get_logger(__name__)
_SCHEME = "runs:"


@dataclass(frozen=True, kw_only=True)
class Promoted:
    """What an alias names now."""

    name: str
    alias: str
    version: int
    before: int | None
    """What it named before; None: nothing."""
    model: str
    """Reference of the version's model."""
    registered: bool
    """Whether the version was made now."""
    eval_run: str | None
    """The evaluation that this rests on."""
    gates: tuple[str, ...]
    """That held, in figures."""

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return asdict(self)


def promote(
    name: str, *, alias: str = DEFAULT_ALIAS, require_eval: str | None = None, runs_dir: str | Path = "runs"
) -> Promoted:
    """Let an alias name a version.

    Args:
        name: NAME@VERSION, or NAME for the version that the evaluation measured.
        alias: that names it from now on.
        require_eval: a run of `genai eval`, or RUN/TARGET where that has several targets.
        runs_dir: where run directories lie, and the registry among them.

    Raises:
        UsageError: there is no such run, name or version; neither a version nor an evaluation was given.
        GateError: the evaluation is not finished, has no gates, one of them does not hold, or measured another model.
        DataError: the version's model is gone, or is no longer what was registered.
    """
    wanted, _, version = name.partition("@")
    registry.check_name(wanted)
    registry.check_alias(alias)
    if require_eval is None:
        if not version:
            fix = f"write {wanted}@VERSION, or --require-eval RUN for the version that it measured"
            raise UsageError(f"'{name}' names no version", fix=fix)
        return _set(registry.find(runs_dir, name), alias, runs_dir)
    run = _finished(require_eval, runs_dir)
    gates = _held(run)
    measured = _measured_model(run)
    named = registry.find(runs_dir, name) if version else None
    found = named or _version_of(wanted, measured, runs_dir)
    if found is None:
        made = _register(wanted, run, measured, runs_dir)
        return _set(made, alias, runs_dir, run=run, gates=gates, registered=True)
    if not measured.is_of(found):
        raise GateError(
            f"the evaluation '{run.directory.name}' measured {measured.reference or run.target}, not {found.reference}",
            fix=f"evaluate it: genai eval CONFIG.yaml target.model={found.reference}",
        )
    return _set(found, alias, runs_dir, run=run, gates=gates)


def rollback(name: str, *, alias: str = DEFAULT_ALIAS, runs_dir: str | Path = "runs") -> Promoted:
    """Let an alias name again what it did before it was last set.

    Raises:
        UsageError: there is no such name or alias, or nothing to go back to.
        DataError: a file of the registry cannot be read.
    """
    before = registry.aliases(runs_dir, registry.check_name(name)).get(alias)
    version = registry.rollback_alias(runs_dir, name, alias)
    standing = registry.standing_of(runs_dir, name, alias)
    return Promoted(
        name=name,
        alias=alias,
        version=version.version,
        before=before,
        model=version.model,
        registered=False,
        eval_run=None if standing is None else standing.eval_run,
        gates=(),
    )


# --- what the evaluation says -----------------------------------------------------------------------------------------


def _finished(text: str, runs_dir: str | Path) -> EvalRun:
    """The evaluation, which must have a result: one that did not end has no gate that held."""
    directory = find_run(Path(runs_dir), text.removeprefix(_SCHEME).partition("/")[0])
    if directory.read_result() is None:
        state = directory.status
        message = f"the evaluation '{directory.name}' has no result ({state.status})"
        raise GateError(message, fix="let it finish, then promote")
    read_result(directory.path / RESULT_FILE)
    return open_run(text, runs_dir)


def _held(run: EvalRun) -> list[GateOutcome]:
    """The gates of the target and of the whole job, all of which hold.

    Raises:
        GateError: there is none, or one does not hold.
    """
    is_target = run.target in targets_of(run.result)
    gates = [gate for gate in run.result.gates if is_target and gate.target in (run.target, ALL_TARGETS)]
    if not gates:
        message = f"the evaluation '{run.directory.name}' has no gates for {run.target}"
        raise GateError(message, fix='write gates into its job file, e.g. "faq.token_f1 >= baseline", and run it again')
    broken = [gate for gate in gates if not gate.passed]
    if broken:
        reasons = "; ".join(gate.reason for gate in broken)
        fix = f"nothing was changed; look at {run.directory.report}"
        raise GateError(f"{len(broken)} of {len(gates)} gates do not hold: {reasons}", fix=fix)
    return gates


@dataclass(frozen=True, kw_only=True)
class _MeasuredModel:
    """The model that an evaluation measured, as it noted it."""

    reference: str | None
    fingerprints: frozenset[str]
    """Of the model's folder, and of all that an answer depends on."""

    def is_of(self, version: ModelVersion) -> bool:
        """Whether it is this version: by content, or by a reference that names nothing else."""
        return version.fingerprint in self.fingerprints or self.reference == version.reference


def _measured_model(run: EvalRun) -> _MeasuredModel:
    """What the run's inputs.json says of its target: {"targets": {NAME: {"reference", "fingerprint"}}}."""
    noted = ((run.directory.read_inputs() or {}).get("targets") or {}).get(run.target) or {}
    prints = [noted.get("fingerprint"), run.result.fingerprints.get(run.target)]
    return _MeasuredModel(
        reference=noted.get("reference"), fingerprints=frozenset(each for each in prints if each is not None)
    )


def _version_of(name: str, measured: _MeasuredModel, runs_dir: str | Path) -> ModelVersion | None:
    """The newest version of a name that is the model which was measured."""
    return next((each for each in reversed(registry.versions(runs_dir, name)) if measured.is_of(each)), None)


# --- the registry -----------------------------------------------------------------------------------------------------


def _set(
    version: ModelVersion,
    alias: str,
    runs_dir: str | Path,
    *,
    run: EvalRun | None = None,
    gates: list[GateOutcome] | None = None,
    registered: bool = False,
) -> Promoted:
    problem = exists_problem(version.reference, runs_dir=runs_dir)
    if problem is not None:
        raise DataError(problem.message, where=problem.where, fix=problem.fix)
    before = registry.aliases(runs_dir, version.name).get(alias)
    eval_run = None if run is None else run.directory.name
    registry.set_alias(runs_dir, version.name, alias, version.version, eval_run=eval_run)
    _log.info("%s is %s@%s now", version.reference, version.name, alias)
    return Promoted(
        name=version.name,
        alias=alias,
        version=version.version,
        before=before,
        model=version.model,
        registered=registered,
        eval_run=eval_run,
        gates=tuple(gate.reason for gate in gates or ()),
    )


def _register(name: str, run: EvalRun, measured: _MeasuredModel, runs_dir: str | Path) -> ModelVersion:
    """Make the model that was measured the next version of a name.

    Raises:
        GateError: it is no model of a run, or has changed since.
    """
    reference = measured.reference or ""
    if not reference.startswith(_SCHEME):
        raise GateError(
            f"'{run.directory.name}' measured {reference or run.target}, which is no version of '{name}'",
            fix="a version is the model of a run: measure runs:RUN, or a version as registry:NAME@VERSION",
        )
    folder = resolve_model(reference, runs_dir=runs_dir).path
    weights = fingerprint(folder)
    if weights not in measured.fingerprints:
        message = f"{reference} is no longer what the evaluation '{run.directory.name}' measured"
        raise GateError(message, where=str(folder), fix="evaluate it again, then promote")
    made_by = RunDirectory(Path(runs_dir) / reference.removeprefix(_SCHEME).partition("/")[0])
    inputs = made_by.read_inputs() or {}
    return registry.register(
        runs_dir,
        name,
        kind=_kind_of(folder),
        model=reference,
        run=made_by.name,
        fingerprint=weights,
        data_fingerprint=_data_fingerprint(inputs),
        tables=inputs.get(TABLES) or {},
        metrics=[_metric(each) for each in run.result.measured if each.target == run.target],
        tuned_from=str((inputs.get("model") or {}).get("reference", "")),
        inputs=inputs,
    )


def _kind_of(folder: Path) -> ModelKind:
    """What the model in a folder is for, by the files that say so."""
    if (folder / "modules.json").is_file():
        return "sentence_encoder"
    architectures = json.loads((folder / "config.json").read_bytes()).get("architectures") or []
    is_ranker = any(str(each).endswith("ForSequenceClassification") for each in architectures)
    return "cross_encoder" if is_ranker else "causal_lm"


def _data_fingerprint(inputs: Mapping[str, Any]) -> str:
    """Of what a run was trained with: jobs note it beside `data`, `train` or `stream`."""
    noted = (inputs.get(section) for section in ("data", "train", "stream"))
    return next((str(each["fingerprint"]) for each in noted if isinstance(each, Mapping) and "fingerprint" in each), "")


def _metric(measured: Measured) -> dict[str, Any]:
    """A measure as the registry keeps it."""
    found = measured.comparison
    compared = {} if found is None else {"before": found.baseline, "difference": found.difference}
    return {
        "metric": measured.name,
        "after": measured.value,
        "after_low": measured.low,
        "after_high": measured.high,
        "num": measured.num,
        **compared,
    }
