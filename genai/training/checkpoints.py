"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is a folder `ba00000120` (named after its batch) of four files:

    weights.safetensors    the trained parameters
    trainer.safetensors    optimizer state and random streams
    state.json             position, stream, callbacks, and what it was made with
    manifest.json          size and sha256 of the others; written last: without it the folder is no checkpoint

Nothing is pickled. The folder lies on a disk or in a bucket (`genai.storage.manifest`). Rank 0 writes it, every rank
reads it, on any number of ranks.

Sharded weights are gathered for that one tensor at a time, or written as they are (layout `sharded`): weights and
optimizer state then lie in a folder `shards/` of `torch.distributed.checkpoint`, which any number of ranks can read
too. Its `.metadata` is a pickle; it is read only after its hash was compared with the manifest's.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file, save_file

from genai.errors import DataError
from genai.log import get_logger
from genai.storage import open_store
from genai.storage.checksums import sha256_of
from genai.storage.manifest import FolderWriter, delete_folder, download_folder, list_folders, read_manifest, verify
from genai.training.optimizers import load_optimizer_tensors, optimizer_tensors
from genai.training.parallel.ranks import Ranks
from genai.training.parallel.sharded_tensors import assign, gather
from genai.training.random_state import gather_random_states, restore_random_states
from genai.training.state import TrainState

if TYPE_CHECKING:
    from genai.training.parallel.shards import ShardWriter
    from genai.training.trainer import Trainer

Layout = Literal["whole", "sharded"]
_log = get_logger(__name__)
_FORMAT = 1
_RANDOM = "random/"
_SHARDS = "shards"


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
    layout: Layout = "whole"
    """How its tensors are written."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        url: folder or bucket prefix that holds them.
        keep: how many of the newest stay.
        context: saved with each, compared at a resume; JSON-able.
        ranks: who trains; None for one process.
        layout: `whole`: rank 0 writes plain tensors; `sharded`: every rank writes its part.
        in_background: `save` returns as soon as its copy of the tensors is made; sharded only.
    """

    def __init__(
        self,
        url: str,
        *,
        keep: int,
        context: Mapping[str, Any],
        ranks: Ranks | None = None,
        layout: Layout = "whole",
        in_background: bool = False,
    ) -> None:
        if in_background and layout != "sharded":
            raise ValueError("only shards are written in the background")
        self.url = url
        self._store = open_store(url)
        self._keep = keep
        self.context = context
        self._ranks = ranks or Ranks()
        self._layout: Layout = layout
        self._background = ThreadPoolExecutor(1, "checkpoint") if in_background else None
        self._begun: list[Future[None]] = []
        self._shard_writer: ShardWriter | None = None

    def names(self) -> list[str]:
        """All complete checkpoints, oldest first."""
        return sorted(name for name in list_folders(self._store) if name.startswith("ba"))

    def save(self, trainer: Trainer) -> str:
        """Write a checkpoint of `trainer`; returns its name. It appears whole or not at all. All ranks call it."""
        self.finish()
        name = f"ba{trainer.state.batch:08d}"
        text = json.dumps(self._describe(trainer), indent=1)
        streams = {_RANDOM + key: value for key, value in gather_random_states(self._ranks).items()}
        if self._layout == "sharded":
            self._save_shards(name, trainer, text, streams)
            return name
        weights = gather(trained_parameters(trainer.model), self._ranks)
        parameters = dict(trainer.model.named_parameters())
        tensors = gather(optimizer_tensors(trainer.optimizer, parameters), self._ranks)
        if self._ranks.is_main:
            with FolderWriter(self._store, name) as writer:
                save_file(weights, writer.path / "weights.safetensors")
                save_file({**tensors, **streams}, writer.path / "trainer.safetensors")
                (writer.path / "state.json").write_text(text, encoding="utf-8")
                writer.commit()
        self._ranks.wait()
        return name

    def finish(self) -> None:
        """Wait until the save that was begun is written, on all ranks.

        Raises:
            Exception: what that save met.
        """
        if self._begun:
            begun, self._begun = self._begun, []
            for task in begun:
                task.result()
            self._ranks.wait()

    def prune(self, *, best: str | None) -> None:
        """Delete all but the newest `keep` and `best`, once the newest was read back and found whole. Rank 0 does it,
        behind a save that is still being written.
        """
        if not self._ranks.is_main:
            return
        if self._background is not None:
            self._begun.append(self._background.submit(self._prune, best))
        else:
            self._prune(best)

    def _prune(self, best: str | None) -> None:
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
        """The newest checkpoint whose every byte is as it was written; falling back to an older one is said loudly.
        Rank 0 looks, all ranks must ask.
        """
        return self._ranks.share(self._newest_good)

    def _newest_good(self) -> str | None:
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
            layout=values.get("layout", "whole"),
        )

    def restore(self, trainer: Trainer, saved: SavedState) -> None:
        """Put `trainer` where the checkpoint was taken."""
        with tempfile.TemporaryDirectory(prefix="genai-resume-") as scratch:
            folder = self._local_folder(saved.name, Path(scratch))
            tensors = load_file(folder / "trainer.safetensors")
            streams = {key.removeprefix(_RANDOM): t for key, t in tensors.items() if key.startswith(_RANDOM)}
            if saved.layout == "sharded":
                from genai.training.parallel.shards import read_shards

                state = read_shards(self._trusted_shards(saved.name, folder), trainer.model, trainer.optimizer)
            else:
                load_parameters(trainer.model, folder / "weights.safetensors")
                state = {key: t for key, t in tensors.items() if not key.startswith(_RANDOM)}
            load_optimizer_tensors(trainer.optimizer, dict(trainer.model.named_parameters()), state)
            restore_random_states(streams, self._ranks)
        trainer.stream.load_state_dict(saved.stream)
        for key, callback in _keyed(trainer.callbacks).items():
            if key in saved.callbacks:
                callback.load_state_dict(saved.callbacks[key])
        trainer.resume_from(saved.name, saved.state, microbatch_size=saved.microbatch_size)

    def whole_weights(self, name: str) -> dict[str, torch.Tensor]:
        """The trained parameters of a checkpoint of either layout, whole and on the CPU; one process is enough.

        Raises:
            DataError: the checkpoint is damaged.
        """
        saved = self.read_state(name)
        with tempfile.TemporaryDirectory(prefix="genai-export-") as scratch:
            folder = self._local_folder(name, Path(scratch))
            if saved.layout == "sharded":
                from genai.training.parallel.shards import read_weights

                return read_weights(self._trusted_shards(name, folder))
            return {key: t.clone() for key, t in load_file(folder / "weights.safetensors").items()}

    def _save_shards(self, name: str, trainer: Trainer, text: str, streams: dict[str, torch.Tensor]) -> None:
        from genai.training.parallel.shards import ShardWriter, shard_tensors

        if self._shard_writer is None:
            self._shard_writer = ShardWriter(self._ranks, in_background=self._background is not None)
        shards = self._shard_writer
        folder = FolderWriter(self._store, name) if self._ranks.is_main else None
        if folder is not None:
            folder.__enter__()
        path = Path(self._ranks.share(lambda: str(folder.path) if folder is not None else ""))
        tensors = shards.stage(shard_tensors(trainer.model, trainer.optimizer))

        def write() -> None:
            with ExitStack() as stack:
                if folder is not None:
                    stack.push(folder)
                shards.write(tensors, path / _SHARDS)
                if folder is not None:
                    save_file(streams, path / "trainer.safetensors")
                    (path / "state.json").write_text(text, encoding="utf-8")
                    folder.commit()

        if self._background is not None:
            self._begun.append(self._background.submit(write))
            return
        write()
        self._ranks.wait()

    def _trusted_shards(self, name: str, folder: Path) -> Path:
        """The folder of shards, whose index is known to be the one that this run wrote: it is a pickle."""
        from genai.training.parallel.shards import METADATA

        manifest = read_manifest(self._store, name)
        hashes = {entry.name: entry.sha256 for entry in manifest.files} if manifest is not None else {}
        shards = folder / _SHARDS
        if hashes.get(f"{_SHARDS}/{METADATA}") != sha256_of(shards / METADATA):
            raise DataError(f"the index of checkpoint {name} is not what the manifest says", where=self.url)
        return shards

    def _local_folder(self, name: str, scratch: Path) -> Path:
        folder = self._store.local_path(name)
        if folder is None:
            folder = scratch / name
            download_folder(self._store, name, folder)
        return folder

    def _describe(self, trainer: Trainer) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "layout": self._layout,
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
            assign(parameter, tensors[name])


def _keyed(callbacks: Sequence[Any]) -> dict[str, Any]:
    """Callbacks by class name; a run has at most one of each kind."""
    return {type(callback).__name__: callback for callback in callbacks}
