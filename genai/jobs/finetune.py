"""`genai finetune`, from the job file to the trained model. This module reads like the verb's documentation:

read the rows -> open the run -> load the model -> prove labels, packing, accumulation, export -> measure the base
-> train (or go on) -> measure the tuned model -> export -> report
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from genai.config.finetune import FinetuneConfig
from genai.config.loading import Loaded, config_hash
from genai.data.prepare import PreparedRows
from genai.errors import ConfigError, GenaiError, Problem, StoppedError, UsageError
from genai.jobs.finetune_inputs import read_inputs
from genai.jobs.problems import named_keys
from genai.jobs.result import FinetuneResult
from genai.log import get_logger
from genai.storage.atomic import safe_name
from genai.tracking.environment import collect_environment
from genai.tracking.run import RunDirectory
from genai.tracking.status import RunStatus, Status
from genai.training.resume import Change, compare
from genai.training.state import TrainState

if TYPE_CHECKING:
    from genai.jobs.finetune_comparison import Measured
    from genai.jobs.finetune_export import Places
    from genai.jobs.finetune_parts import Parts
    from genai.training.checkpoints import Checkpoints, SavedState
    from genai.training.trainer import Trainer

_log = get_logger(__name__)
_FINGERPRINTS = {
    "model_fingerprint": ("model.pretrained_model_name_or_path", "the weights of the model"),
    "data_fingerprint": ("train_loader.dataset", "the training rows"),
}
"""What a checkpoint records beside the config -> the key it belongs to, and what it stands for."""


def run(loaded: Loaded[FinetuneConfig], *, run_name: str | None = None, allow_code: bool = False) -> FinetuneResult:
    """Fine-tune, or go on with a run that was stopped; a finished run gives its result again.

    Args:
        loaded: the checked job file.
        run_name: name of the run directory; by default what the job file says.
        allow_code: the command line lets a model bring its own Python.

    Raises:
        GenaiError: see `genai.errors` for the exit codes.
    """
    started = time.monotonic()
    with named_keys(loaded):
        inputs = read_inputs(loaded, allow_code=allow_code)
        directory = RunDirectory.open(loaded.config.runs_dir, name_of_run(loaded, run_name))
        with directory.lock(), directory.log_to_file(), _status(directory):
            return _finished_result(directory, loaded, inputs) or _train(loaded, inputs, directory, started)


def name_of_run(loaded: Loaded[FinetuneConfig], run_name: str | None) -> str:
    """`--run-name`, else the job file's run_name, else its stem and a hash of the config."""
    return safe_name(run_name or loaded.config.run_name or f"{loaded.path.stem}-{config_hash(loaded)}")


def _train(
    loaded: Loaded[FinetuneConfig], inputs: PreparedRows, directory: RunDirectory, started: float
) -> FinetuneResult:
    # Torch and transformers are imported from here on.
    from genai.jobs import finetune_comparison as comparison
    from genai.jobs import finetune_parts as building
    from genai.jobs import finetune_report
    from genai.jobs.finetune_export import export
    from genai.jobs.finetune_proofs import prove
    from genai.jobs.metric_sinks import open_metrics

    parts = building.build_parts(loaded, inputs)
    checkpoints = building.open_checkpoints(parts, directory)
    saved = _checkpoint_to_resume(checkpoints, loaded)
    changes = _check_changes(saved, checkpoints, loaded) if saved else ()
    _write_beginning(directory, loaded, parts)
    proofs = prove(parts, loaded, directory)
    base = comparison.measure_base(parts, directory)
    metrics = open_metrics(loaded, directory, resume_step=saved.state.batch if saved else 0)
    status = "failed"
    try:
        trainer = building.build_trainer(parts, checkpoints, metrics, run_name=directory.name)
        if saved is not None:
            _resume(trainer, checkpoints, saved, changes)
        state = trainer.fit()
        measured = comparison.measure_tuned(parts, trainer, base)
        status = "done"
    except StoppedError as stopped:
        status = "interrupted" if stopped.exit_code == 130 else "stopped"
        raise
    finally:
        metrics.finish(status)
    places = export(parts, loaded, directory, measured)
    result = _result(directory, state, measured, places, total_s=time.monotonic() - started)
    finetune_report.write(directory, loaded, parts, proofs, result)
    # Written last: a run is finished when its result is there.
    directory.write_result({**result.to_json(), **_identity(loaded, inputs)})
    return result


# --- going on ---------------------------------------------------------------------------------------------------------


def _checkpoint_to_resume(checkpoints: Checkpoints, loaded: Loaded[FinetuneConfig]) -> SavedState | None:
    name = checkpoints.newest_good()
    if name is None:
        return None
    if not loaded.config.autoresume:
        message = f"{checkpoints.url} holds checkpoints of this run already, and autoresume is off"
        fix = "choose another --run-name, remove the run (genai runs rm), or set autoresume: true"
        raise ConfigError([loaded.problem("autoresume", message, fix)])
    _log.info("going on from checkpoint %s", name)
    return checkpoints.read_state(name)


def _check_changes(saved: SavedState, checkpoints: Checkpoints, loaded: Loaded[FinetuneConfig]) -> tuple[Change, ...]:
    """Compare what the checkpoint was made with to what is here now.

    Returns:
        What keeps the continuation from being bit-equal.

    Raises:
        ConfigError: a key changed that the checkpoint's position depends on, or any that matters under `resume: exact`.
    """
    changes = compare(saved.context, checkpoints.context)
    keys = {change.key for change in changes.inexact}
    # A key of the job file that changed something about the environment is named once.
    inexact = tuple(change for change in changes.inexact if change.key.partition("environment.")[2] not in keys)
    if changes.refused:
        # Rows and weights change with the keys that name them.
        named = [change for change in changes.refused if change.key not in _FINGERPRINTS] or changes.refused
        raise ConfigError([_refusal(loaded, change) for change in named])
    if inexact and loaded.config.resume == "exact":
        raise ConfigError([_refusal(loaded, change, why=", and resume: exact is set") for change in inexact])
    for change in inexact:
        _log.warning("going on, but not bit-equal to a run that was never stopped: %s", change)
    return inexact


def _refusal(loaded: Loaded[FinetuneConfig], change: Change, *, why: str = "") -> Problem:
    fix = "put it back, or start another run with --run-name"
    if change.key in _FINGERPRINTS:
        key, what = _FINGERPRINTS[change.key]
        return loaded.problem(key, f"{what} changed since the run's last checkpoint", fix)
    key = "resume" if change.key.startswith("environment.") else change.key
    message = f"{change.key} was {change.before!r} at the run's last checkpoint and is {change.after!r} now{why}"
    return loaded.problem(key, message, fix)


def _resume(trainer: Trainer, checkpoints: Checkpoints, saved: SavedState, changes: tuple[Change, ...]) -> None:
    asked_for = trainer.microbatch_size
    checkpoints.restore(trainer, saved)
    if any(change.key == "device_train_microbatch_size" for change in changes):
        trainer.microbatch_size = asked_for
    if changes:
        reasons = (*trainer.state.inexact_reasons, *map(str, changes))
        trainer.state = replace(trainer.state, exact=False, inexact_reasons=reasons)


def _result(
    directory: RunDirectory, state: TrainState, measured: Measured, places: Places, *, total_s: float
) -> FinetuneResult:
    return FinetuneResult(
        run=directory.name,
        path=str(directory.path),
        model=str(places.model),
        adapter=str(places.adapter) if places.adapter else None,
        gguf=str(places.gguf) if places.gguf else None,
        report=str(directory.report),
        losses=measured.losses,
        answers=measured.answers,
        batches=state.batch,
        epochs=state.epoch,
        tokens=state.tokens,
        trained_tokens=state.trained_tokens,
        train_s=state.train_time_s,
        total_s=total_s,
        tokens_per_s=state.tokens / state.train_time_s if state.train_time_s else 0.0,
        exact=state.exact,
        inexact_reasons=state.inexact_reasons,
    )


# --- the run directory ------------------------------------------------------------------------------------------------


def _write_beginning(directory: RunDirectory, loaded: Loaded[FinetuneConfig], parts: Parts) -> None:
    directory.write_config(loaded.dump())
    directory.write_overrides(loaded.overrides)
    directory.write_environment(collect_environment())
    directory.write_inputs(parts.fingerprints)


def _finished_result(
    directory: RunDirectory, loaded: Loaded[FinetuneConfig], inputs: PreparedRows
) -> FinetuneResult | None:
    """The result of a run that is done already; None where there is something left to do."""
    values = directory.read_result()
    now = _identity(loaded, inputs)
    if values is None or {key: values.pop(key, None) for key in now} != now:
        return None
    _log.info("run '%s' is finished already; this is its result (--run-name NAME starts another one)", directory.name)
    return FinetuneResult.from_json(values)


def _identity(loaded: Loaded[FinetuneConfig], inputs: PreparedRows) -> dict[str, Any]:
    """What a result belongs to, as JSON gives it back."""
    values: dict[str, Any] = json.loads(json.dumps({"config": asdict(loaded.config), "rows": inputs.fingerprint}))
    return values


@contextmanager
def _status(directory: RunDirectory) -> Iterator[None]:
    before = directory.status
    directory.set_status("running")
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        # On a full disk the status cannot be written either; the error itself is what must be told.
        with suppress(GenaiError, OSError):
            directory.set_status(*_status_after(error, before))
        raise
    directory.set_status("done")


def _status_after(error: BaseException, before: RunStatus) -> tuple[Status, str]:
    """What a run is after `error`, and one line about it."""
    if isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", None) == 130:
        return "interrupted", str(error)
    if isinstance(error, StoppedError):
        return "stopped", error.message
    if isinstance(error, UsageError) and before.status in ("done", "stopped", "interrupted"):
        return before.status, before.message  # it was refused, and is what it was
    return "failed", str(error).partition("\n")[0]
