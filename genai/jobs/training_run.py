"""What every training job does around its training: open the run, tell whether it goes on, keep its status, go on.

Free of torch, so that a finished or refused run is told in a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from genai.config.loading import Loaded, config_hash
from genai.errors import ConfigError, GenaiError, Problem, StoppedError, UsageError
from genai.log import get_logger
from genai.storage.atomic import safe_name
from genai.tracking.environment import collect_environment
from genai.tracking.rank_reports import RankLostError, is_lost
from genai.tracking.run import RunDirectory
from genai.tracking.status import RunStatus, Status
from genai.training.resume import Change, compare

if TYPE_CHECKING:
    from genai.training.checkpoints import Checkpoints, SavedState
    from genai.training.parallel.ranks import Ranks
    from genai.training.trainer import Trainer

_log = get_logger(__name__)
Fingerprints = Mapping[str, tuple[str, str]]
"""What a checkpoint records beside the config -> the key it belongs to, and what it stands for."""


def name_of_run(loaded: Loaded[Any], run_name: str | None) -> str:
    """`--run-name`, else the job file's run_name, else its stem and a hash of the config."""
    return safe_name(run_name or loaded.config.run_name or f"{loaded.path.stem}-{config_hash(loaded)}")


class TrainingResult(Protocol):
    """What a training job hands back on rank 0."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""


Result = TypeVar("Result", bound=TrainingResult)


def once(
    loaded: Loaded[Any],
    train: Callable[[RunDirectory], Result | None],
    from_json: Callable[[dict[str, Any]], Result],
    *,
    run_name: str | None,
    ranks: Ranks | None,
    **inputs: str,
) -> Result | None:
    """Train in the run's directory, or give the result of a run that is done already.

    Args:
        loaded: the job file.
        train: trains, or goes on; gives its result on rank 0 and None elsewhere.
        from_json: a result from what `to_json` gave.
        run_name: name of the run directory; by default what the job file says.
        ranks: who takes part; None for one process.
        inputs: fingerprints of what is trained on; a result belongs to these and the config.
    """
    is_main = ranks is None or ranks.is_main
    directory = RunDirectory.open(loaded.config.runs_dir, name_of_run(loaded, run_name))
    identity = identity_of(loaded, **inputs)
    with held(directory, is_main=is_main):
        done = finished_result(directory, identity)
        if done is not None:
            return from_json(done) if is_main else None
        result = train(directory)
        if result is not None:
            # Written last: a run is finished when its result is there.
            directory.write_result({**result.to_json(), **identity})
        return result


# --- going on ---------------------------------------------------------------------------------------------------------


def checkpoint_to_resume(checkpoints: Checkpoints, loaded: Loaded[Any]) -> SavedState | None:
    """The newest good checkpoint of the run; None where it begins.

    Raises:
        ConfigError: there is one, and autoresume is off.
    """
    name = checkpoints.newest_good()
    if name is None:
        return None
    if not loaded.config.autoresume:
        message = f"{checkpoints.url} holds checkpoints of this run already, and autoresume is off"
        fix = "choose another --run-name, remove the run (genai runs rm), or set autoresume: true"
        raise ConfigError([loaded.problem("autoresume", message, fix)])
    _log.info("going on from checkpoint %s", name)
    return checkpoints.read_state(name)


def check_changes(
    saved: SavedState, checkpoints: Checkpoints, loaded: Loaded[Any], fingerprints: Fingerprints
) -> tuple[Change, ...]:
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
        named = [change for change in changes.refused if change.key not in fingerprints] or changes.refused
        raise ConfigError([_refusal(loaded, change, fingerprints) for change in named])
    if inexact and loaded.config.resume == "exact":
        why = ", and resume: exact is set"
        raise ConfigError([_refusal(loaded, change, fingerprints, why=why) for change in inexact])
    for change in inexact:
        _log.warning("going on, but not bit-equal to a run that was never stopped: %s", change)
    return inexact


def _refusal(loaded: Loaded[Any], change: Change, fingerprints: Fingerprints, *, why: str = "") -> Problem:
    fix = "put it back, or start another run with --run-name"
    if change.key in fingerprints:
        key, what = fingerprints[change.key]
        return loaded.problem(key, f"{what} changed since the run's last checkpoint", fix)
    key = "resume" if change.key.startswith("environment.") else change.key
    message = f"{change.key} was {change.before!r} at the run's last checkpoint and is {change.after!r} now{why}"
    return loaded.problem(key, message, fix)


def go_on(trainer: Trainer, checkpoints: Checkpoints, saved: SavedState, changes: tuple[Change, ...]) -> None:
    """Put a trainer where the checkpoint was taken."""
    asked_for = trainer.microbatch_size
    checkpoints.restore(trainer, saved)
    if any(change.key == "device_train_microbatch_size" for change in changes):
        trainer.microbatch_size = asked_for
    if changes:
        reasons = (*trainer.state.inexact_reasons, *map(str, changes))
        trainer.state = replace(trainer.state, exact=False, inexact_reasons=reasons)


# --- the run directory ------------------------------------------------------------------------------------------------


def write_beginning(directory: RunDirectory, loaded: Loaded[Any], inputs: Mapping[str, Any]) -> None:
    """Save what the run is made from, before anything is made."""
    directory.write_config(loaded.dump())
    directory.write_overrides(loaded.overrides)
    directory.write_environment(collect_environment())
    directory.write_inputs(inputs)


def identity_of(loaded: Loaded[Any], **inputs: str) -> dict[str, Any]:
    """What a result belongs to, as JSON gives it back: the config, and fingerprints of the inputs."""
    values: dict[str, Any] = json.loads(json.dumps({"config": asdict(loaded.config), **inputs}))
    return values


def finished_result(directory: RunDirectory, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of a run that is done already; None where there is something left to do."""
    values = directory.read_result()
    if values is None or {key: values.pop(key, None) for key in identity} != identity:
        return None
    _log.info("run '%s' is finished already; this is its result (--run-name NAME starts another one)", directory.name)
    return values


@contextmanager
def held(directory: RunDirectory, *, is_main: bool) -> Iterator[None]:
    """Within the block the run is this process's to write: locked, logged to its file, its status kept.

    Args:
        directory: of the run.
        is_main: False on a rank other than 0, which only looks on.
    """
    if not is_main:
        yield
        return
    with directory.lock(), directory.log_to_file(), keep_status(directory):
        try:
            yield
        except RuntimeError as error:
            if not is_lost(error):
                raise
            fix = "the same command goes on from the last checkpoint"
            raise RankLostError("another rank of the run went away", fix=fix) from error


@contextmanager
def keep_status(directory: RunDirectory) -> Iterator[None]:
    """The run's status.json says `running` within the block, and afterwards how it ended."""
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
