"""The proof that every training job has: the disk holds what the run will write."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from genai.config.training import TrainingJobConfig
from genai.storage import is_remote
from genai.tracking.catalog import size_bytes
from genai.training.plan.disk import checkpoint_bytes, model_bytes
from genai.training.proofs.disk import DiskNeed


def disk_needs(config: TrainingJobConfig, model: nn.Module, run: Path) -> list[DiskNeed]:
    """What the run in the folder `run` will write: its checkpoints, and the model while it is replaced."""
    folder = config.save_folder or str(run / "checkpoints")
    exported = DiskNeed(what="the exported model", path=run, size_bytes=2 * model_bytes(model))
    if is_remote(folder):
        return [exported]
    count = num_checkpoints(config)
    size = count * checkpoint_bytes(model, config.optimizer)
    # A run that goes on has most of them already, and replaces them.
    missing = max(0, size - size_bytes(Path(folder)))
    return [DiskNeed(what=f"{count} checkpoints", path=Path(folder), size_bytes=missing), exported]


def num_checkpoints(config: TrainingJobConfig) -> int:
    """The most that lie on the disk at a time: those kept, the best one, and the one being written."""
    return config.save_num_checkpoints_to_keep + 2
