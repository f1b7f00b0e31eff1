"""What every training job checks before anything heavy is imported: where weights come from, where results go."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from genai.config.loading import Loaded
from genai.config.secrets import resolve
from genai.errors import UsageError
from genai.jobs.problems import Problems
from genai.storage import is_remote, open_store
from genai.storage.atomic import safe_name
from genai.storage.manifest import list_folders
from genai.tracking.loggers.base import LOGGERS


def warm_start_weights(reference: str, runs_dir: str) -> Path:
    """The weights.safetensors that `load_path` means.

    Args:
        reference: the folder of a checkpoint, runs:RUN/CHECKPOINT, or runs:RUN for its newest one.
        runs_dir: where run directories lie.

    Raises:
        UsageError: there is none.
    """
    if not reference.startswith("runs:"):
        return _weights_in(Path(reference).expanduser())
    run, _, name = reference.removeprefix("runs:").partition("/")
    folder = Path(runs_dir) / safe_name(run, kind="run name") / "checkpoints"
    names = list_folders(open_store(str(folder))) if folder.is_dir() else []
    if not names:
        raise UsageError(f"there are no checkpoints in {folder}", fix="name the folder of a checkpoint")
    if name and name not in names:
        raise UsageError(f"the run '{run}' has no checkpoint '{name}'", fix=f"it has {', '.join(names)}")
    return _weights_in(folder / (name or names[-1]))


def _weights_in(folder: Path) -> Path:
    weights = folder / "weights.safetensors"
    if not weights.is_file():
        raise UsageError(
            f"{folder} is no checkpoint: there is no weights.safetensors in it",
            fix="name a checkpoint's folder, or runs:RUN; a whole model goes into model.pretrained_model_name_or_path",
        )
    return weights


def check_warm_start(loaded: Loaded[Any], problems: Problems) -> None:
    """Whether `load_path` leads to weights."""
    if loaded.config.load_path is not None:
        with problems.at("load_path"):
            warm_start_weights(loaded.config.load_path, loaded.config.runs_dir)


def check_remote_code(problems: Problems, *, wanted: bool, allow_code: bool) -> None:
    """Whether a model that brings its own Python may run it.

    Args:
        problems: collects the faults of the job file.
        wanted: what `model.trust_remote_code` says.
        allow_code: whether the command line lets it.
    """
    if wanted and not allow_code:
        problems.add(
            "model.trust_remote_code",
            "this runs Python that comes with the model",
            "read that code, then add --allow-code to the command line",
        )


def check_webhook(loaded: Loaded[Any], problems: Problems) -> None:
    """Whether the webhook's secret can be resolved."""
    webhook = loaded.config.callbacks.webhook
    if webhook is not None:
        with problems.at("callbacks.webhook.url"):
            resolve(webhook.url)


def check_destinations(loaded: Loaded[Any], problems: Problems) -> None:
    """Whether checkpoints and metrics can go where they shall: the packages are there, the bucket answers."""
    config = loaded.config
    for name, settings in asdict(config.loggers).items():
        if settings is not None:
            with problems.at(f"loggers.{name}"):
                LOGGERS.get(name)(Path(config.runs_dir), **settings)
    if config.save_folder is not None and is_remote(config.save_folder):
        with problems.at("save_folder"):
            open_store(config.save_folder).list()
