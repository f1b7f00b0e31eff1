"""Checkpoints of which every rank writes and reads its own part, with `torch.distributed.checkpoint`.

A folder of shards can be read by any number of ranks, sharded or not: each takes the parts of the files that it needs.
Its index `.metadata` is a pickle, so callers hand over only folders of their own run, after comparing its hash.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from genai.errors import DataError
from genai.training.optimizers import optimizer_tensors
from genai.training.parallel.ranks import Ranks

METADATA = ".metadata"
_WEIGHTS, _OPTIMIZER = "weights/", "optimizer/"
Tensors = dict[str, torch.Tensor]


def shard_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    """What a checkpoint of shards holds: trained parameters and the optimizer's state, this rank's parts."""
    parameters = dict(model.named_parameters())
    weights = {_WEIGHTS + name: p.detach() for name, p in parameters.items() if p.requires_grad}
    state = optimizer_tensors(optimizer, parameters)
    return {**weights, **{_OPTIMIZER + name: tensor for name, tensor in state.items()}}


class ShardWriter:
    """Writes shards, one save at a time.

    Args:
        ranks: who takes part.
        in_background: whether saves run beside the training: they then work on a copy in the host's memory and talk to
            each other through a group of their own.
    """

    def __init__(self, ranks: Ranks, *, in_background: bool) -> None:
        self._ranks = ranks
        self._group = dist.new_group(backend="gloo") if in_background and ranks.world_size > 1 else None
        self._stager: DefaultStager | None = None
        if in_background:
            on_gpu = ranks.device.type == "cuda"
            options = StagingOptions(
                use_pinned_memory=on_gpu,
                use_shared_memory=False,
                use_async_staging=False,
                use_non_blocking_copy=on_gpu,
            )
            self._stager = DefaultStager(options)

    def stage(self, tensors: Tensors) -> Tensors:
        """A copy that further training steps leave as it is; without a background the tensors themselves."""
        if self._stager is None:
            return tensors
        staged: Any = self._stager.stage(tensors)
        return dict(staged)

    def write(self, tensors: Tensors, folder: Path) -> None:
        """Write this rank's part into `folder`, which all ranks see. All ranks must call it.

        Raises:
            DataError: this rank does not see the folder.
        """
        if not folder.parent.is_dir():
            raise DataError(
                f"rank {self._ranks.rank} does not see the folder in which rank 0 writes the checkpoint",
                where=str(folder.parent),
                fix="put save_folder (for a bucket: GENAI_CACHE) on a disk that all machines share",
            )
        writer = FileSystemWriter(folder)
        with _quiet():
            save(tensors, storage_writer=writer, process_group=self._group, no_dist=self._ranks.world_size == 1)


def read_shards(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    """Set the trained parameters to those in `folder`, each rank its own part.

    Returns:
        The optimizer's state as `optimizer_tensors` names it, laid out like the parameters that it belongs to.

    Raises:
        DataError: the parameters' names or shapes are not the model's.
    """
    own = {_WEIGHTS + name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    saved = _saved_tensors(folder)
    weights = {name: entry for name, entry in saved.items() if name.startswith(_WEIGHTS)}
    different = sorted({*own} ^ {*weights}) or [name for name, p in own.items() if p.shape != weights[name].size]
    if different:
        first = different[0].removeprefix(_WEIGHTS)
        raise DataError(
            f"the weights do not fit the model: {len(different)} parameters differ, the first is '{first}'",
            where=str(folder),
            fix="use the same model and peft_config",
        )
    state = {name: _like(own, name, entry) for name, entry in saved.items() if name.startswith(_OPTIMIZER)}
    _load({**own, **state}, folder)
    return {name.removeprefix(_OPTIMIZER): tensor for name, tensor in state.items()}


def read_weights(folder: Path) -> Tensors:
    """All trained parameters of a folder of shards, whole and on the CPU, by name; no ranks are needed."""
    saved = _saved_tensors(folder)
    weights = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in saved.items()
        if name.startswith(_WEIGHTS)
    }
    _load(weights, folder)
    return {name.removeprefix(_WEIGHTS): tensor for name, tensor in weights.items()}


def _saved_tensors(folder: Path) -> dict[str, TensorStorageMetadata]:
    metadata = FileSystemReader(folder).read_metadata()
    entries = metadata.state_dict_metadata.items()
    return {name: entry for name, entry in entries if isinstance(entry, TensorStorageMetadata)}


def _like(weights: Tensors, name: str, entry: TensorStorageMetadata) -> torch.Tensor:
    """Room for a tensor of the optimizer's: like its parameter where it has that shape, such as a moment."""
    parameter = weights.get(_WEIGHTS + name.removeprefix(_OPTIMIZER).partition("/")[2])
    dtype = entry.properties.dtype
    if parameter is not None and parameter.shape == entry.size and len(entry.size):
        return torch.empty_like(parameter, dtype=dtype)
    return torch.empty(entry.size, dtype=dtype)


def _load(tensors: Tensors, folder: Path) -> None:
    with _quiet():
        load(tensors, storage_reader=FileSystemReader(folder), no_dist=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remark that a single process saves or loads alone, which is what is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*single process.*")
        yield
