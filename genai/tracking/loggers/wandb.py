"""Scalars for Weights & Biases; offline unless the job file says otherwise: nothing leaves the machine unasked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from genai.errors import CredentialsError, MissingExtraError
from genai.log import get_logger

logger = get_logger(__name__)


class WandbLogger:
    """Writes to wandb/ in the run's folder and, online, to the service; a resumed job goes on in the same W&B run.

    Args:
        run_directory: the run's folder.
        project: project that the run belongs to.
        entity: team or user.
        mode: offline writes files only (`wandb sync` sends them later).

    Raises:
        MissingExtraError: the package wandb is not installed.
    """

    def __init__(
        self,
        run_directory: Path,
        *,
        project: str = "genai",
        entity: str | None = None,
        mode: Literal["online", "offline"] = "offline",
    ) -> None:
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise MissingExtraError("wandb", extra="wandb", needed_for="loggers.wandb") from error
        self._wandb: Any = wandb
        self._folder = run_directory
        self._settings = {"project": project, "entity": entity, "mode": mode}
        self._run: Any = None

    def start(self, run_name: str, params: Mapping[str, str], *, resume_step: int = 0) -> None:
        """Open the run; its id is the run's name, so that a resumed job finds it again.

        Raises:
            CredentialsError: online, and there is no API key.
        """
        if self._settings["mode"] == "online" and not self._wandb.login(prompt=False):
            raise CredentialsError(
                "loggers.wandb.mode is online, but there is no W&B key", fix="wandb login, or mode: offline"
            )
        quiet = self._wandb.Settings(console="off", save_code=False, disable_git=True, silent=True, x_disable_meta=True)
        try:
            self._run = self._wandb.init(
                **self._settings,
                dir=str(self._folder),
                id=run_name[:64],
                name=run_name,
                config=dict(params),
                resume="allow" if resume_step else None,
                settings=quiet,
            )
        except self._wandb.errors.CommError as error:
            logger.warning("wandb: no run was opened, training goes on without: %s", error)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand `metrics` to W&B's own process."""
        if self._run is not None:
            self._run.log(dict(metrics), step=step)

    def finish(self, status: str) -> None:
        """Flush and close; anything but done counts as failed there."""
        if self._run is not None:
            self._run.finish(exit_code=0 if status == "done" else 1)
