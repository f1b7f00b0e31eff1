"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is a folder `ba00000120` (named after its batch) of four files:

    weights.safetensors    the trained parameters
    trainer.safetensors    optimizer state and random streams
    state.json             position, stream, callbacks, and what it was made with
    manifest.json          size and sha256 of the others; written last: without it the folder is no checkpoint

Nothing is pickled. The folder lies on a disk or in a bucket (`genai.storage.manifest`).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from genai.errors import DataError
from genai.log import get_logger
from genai.storage import open_store
from genai.storage.manifest import FolderWriter, delete_folder, download_folder, list_folders, verify
from genai.training.optimizers import load_optimizer_tensors, optimizer_tensors
from genai.training.random_state import random_state, restore_random_state
from genai.training.state import TrainState

if TYPE_CHECKING:
    from genai.training.trainer import Trainer

_log = get_logger(__name__)
_FORMAT = 1
_RANDOM = "random/"


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """A checkpoint's state.json."""

    name: str
    """Name of the checkpoint."""
    state: TrainState
    """Where the run stood."""
    stream: Mapping[str, Any]
    """State of the training stream."""
    callbacks: Mapping[str, Any]
    """Callback's class name -> its state."""
    microbatch_size: int
    """Rows a forward pass."""
    context: Mapping[str, Any]
    """What the run was made with: config, environment, fingerprints of model and data."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        url: folder or bucket prefix that holds them.
        keep: how many of the newest stay.
        context: saved with each, compared at a resume; JSON-able.
    """

    def __init__(self, url: str, *, keep: int, context: Mapping[str, Any]) -> None:
        self.url = url
        self._store = open_store(url)
        self._keep = keep
        self.context = context

    def names(self) -> list[str]:
        """All complete checkpoints, oldest first."""
        return sorted(name for name in list_folders(self._store) if name.startswith("ba"))

    def save(self, trainer: Trainer) -> str:
        """Write a checkpoint of `trainer`; returns its name. It appears whole or not at all."""
        name = f"ba{trainer.state.batch:08d}"
        with FolderWriter(self._store, name) as writer:
            save_file(trained_parameters(trainer.model), writer.path / "weights.safetensors")
            tensors = optimizer_tensors(trainer.optimizer, dict(trainer.model.named_parameters()))
            streams = {_RANDOM + key: value for key, value in random_state().items()}
            save_file({**tensors, **streams}, writer.path / "trainer.safetensors")
            text = json.dumps(self._describe(trainer), indent=1)
            (writer.path / "state.json").write_text(text, encoding="utf-8")
            writer.commit()
        return name

    def prune(self, *, best: str | None) -> None:
        """Delete all but the newest `keep` and `best`, once the newest was read back and found whole."""
        names = self.names()
        spare = [name for name in names[: -self._keep] if name != best]
        if not spare:
            return
        if not verify(self._store, names[-1], deep=True).ok:
            _log.error("checkpoint %s cannot be read back; older ones are kept", names[-1])
            return
        for name in spare:
            delete_folder(self._store, name)

    def newest_good(self) -> str | None:
        """The newest checkpoint whose every byte is as it was written; falling back to an older one is said loudly."""
        for name in reversed(self.names()):
            check = verify(self._store, name, deep=True)
            if check.ok:
                return name
            _log.error("checkpoint %s is damaged (%s): trying the one before it", name, check.reason)
        return None

    def read_state(self, name: str) -> SavedState:
        """What a checkpoint says about itself."""
        values = json.loads(self._store.read(f"{name}/state.json"))
        if values["format"] != _FORMAT:
            raise DataError(
                f"checkpoint {name} has format {values['format']}, this genai reads {_FORMAT}",
                where=self.url,
                fix="resume it with the genai that wrote it, or start a new run with load_path",
            )
        return SavedState(
            name=name,
            state=TrainState.from_json(values["state"]),
            stream=values["stream"],
            callbacks=values["callbacks"],
            microbatch_size=values["microbatch_size"],
            context=values["context"],
        )

    def restore(self, trainer: Trainer, saved: SavedState) -> None:
        """Put `trainer` where the checkpoint was taken."""
        with tempfile.TemporaryDirectory(prefix="genai-resume-") as scratch:
            folder = self._local_folder(saved.name, Path(scratch))
            load_parameters(trainer.model, folder / "weights.safetensors")
            tensors = load_file(folder / "trainer.safetensors")
            names = dict(trainer.model.named_parameters())
            load_optimizer_tensors(
                trainer.optimizer, names, {key: t for key, t in tensors.items() if not key.startswith(_RANDOM)}
            )
            restore_random_state(
                {key.removeprefix(_RANDOM): t for key, t in tensors.items() if key.startswith(_RANDOM)}
            )
        trainer.stream.load_state_dict(saved.stream)
        for key, callback in _keyed(trainer.callbacks).items():
            if key in saved.callbacks:
                callback.load_state_dict(saved.callbacks[key])
        trainer.resume_from(saved.name, saved.state, microbatch_size=saved.microbatch_size)

    def _local_folder(self, name: str, scratch: Path) -> Path:
        folder = self._store.local_path(name)
        if folder is None:
            folder = scratch / name
            download_folder(self._store, name, folder)
        return folder

    def _describe(self, trainer: Trainer) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "state": trainer.state.to_json(),
            "stream": trainer.stream.state_dict(),
            "callbacks": {key: callback.state_dict() for key, callback in _keyed(trainer.callbacks).items()},
            "microbatch_size": trainer.microbatch_size,
            "context": dict(self.context),
        }


def trained_parameters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that training moves, by name, contiguous; tied ones once."""
    return {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def load_parameters(model: torch.nn.Module, path: Path) -> None:
    """Set the trained parameters to those of a weights.safetensors.

    Raises:
        DataError: the file's names or shapes are not the model's.
    """
    tensors = load_file(path)
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    different = sorted({*own} ^ {*tensors}) or [name for name, p in own.items() if p.shape != tensors[name].shape]
    if different:
        raise DataError(
            f"the weights do not fit the model: {len(different)} parameters differ, the first is '{different[0]}'",
            where=str(path),
            fix="use the same model and peft_config",
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def _keyed(callbacks: Sequence[Any]) -> dict[str, Any]:
    """Callbacks by class name; a run has at most one of each kind."""
    return {type(callback).__name__: callback for callback in callbacks}
