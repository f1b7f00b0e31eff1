"""`genai pretrain --dry-run`: everything a run would do, without doing it.

The model is built and a few steps are timed. No run directory is made; shards that were fetched on the way lie in the
cache, where the run will find them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.loading import Loaded
from genai.config.pretrain import PretrainConfig
from genai.jobs.pretrain_inputs import read_inputs
from genai.jobs.problems import named_keys
from genai.jobs.training_plan import disk_text, memory_lines, size_text, table, time_steps, time_text, write_lines
from genai.jobs.training_run import name_of_run
from genai.log import get_logger
from genai.storage import is_remote
from genai.storage.atomic import free_bytes
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.jobs.pretrain_parts import Parts
    from genai.training.plan.memory import MemoryPlan

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class PretrainPlan:
    """What a run would come to."""

    run: str
    status: str
    """`new`, or what the same command would do with the run that is there."""
    model: str
    num_parameters: int
    device: str
    num_ranks: int
    num_threads: int
    streams: str
    train_rows: int
    """Rows an epoch."""
    eval_rows: int
    shards: int
    shard_bytes: int
    """All training shards as they are stored."""
    stream_bytes: int
    """What the run will read of them, each epoch anew where the cache is too small."""
    batches: int
    epochs: float
    tokens: int
    rows_per_batch: int
    microbatch_size: int
    seq_len: int
    memory_bytes: Mapping[str, int]
    """Predicted peak by part, above the process with everything imported; empty where it cannot be predicted."""
    memory_moment: str
    """When the peak is."""
    available_bytes: int
    """Memory that is free for it."""
    checkpoint_bytes: int
    num_checkpoints: int
    """Most that lie on the disk at a time."""
    model_bytes: int
    free_disk_bytes: int | None
    """None for a bucket."""
    tokens_per_s: float
    """Of one device, as timed."""
    predicted_s: float
    """Training steps only, on `num_ranks` devices: evaluation, checkpoints and export come on top."""
    writes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)

    def text(self) -> str:
        """As the terminal shows it."""
        streams = f"{self.streams}: {self.train_rows:,} rows an epoch in {self.shards:,} shards"
        batch = f"{self.rows_per_batch} rows of {self.seq_len} tokens, {self.microbatch_size} a forward pass"
        speed = f"{self.tokens_per_s:,.0f} tokens/s a device, as timed"
        return table(
            [
                ("run", f"{self.run}: {self.status}; nothing was written"),
                ("model", f"{self.model}, {self.num_parameters / 1e6:,.1f} M parameters"),
                ("device", f"{self.num_ranks} x {self.device}, {self.num_threads} CPU threads each"),
                ("streams", f"{streams}, {self.eval_rows:,} rows held out"),
                ("reads", f"{size_text(self.stream_bytes)} of shards"),
                ("batch", batch),
                ("length", f"{self.batches:,} steps, {self.epochs:.2f} epochs, {self.tokens:,} tokens"),
                ("time", f"{time_text(self.predicted_s)} of training at {speed}"),
                *memory_lines(self.memory_bytes, self.memory_moment, self.available_bytes),
                (
                    "disk",
                    disk_text(self.num_checkpoints, self.checkpoint_bytes, self.model_bytes, self.free_disk_bytes),
                ),
                *write_lines(self.writes),
            ]
        )


def make_plan(
    loaded: Loaded[PretrainConfig], *, run_name: str | None = None, allow_code: bool = False, num_ranks: int = 1
) -> PretrainPlan:
    """Check everything that a run would check, and predict what it would take.

    Args:
        loaded: the job file.
        run_name: name of the run directory; by default what the job file says.
        allow_code: the command line lets a model bring its own Python.
        num_ranks: devices that the run would have; one of them is tried.

    Raises:
        GenaiError: what the run would fail with before its first step, a full disk included.
    """
    directory = RunDirectory(Path(loaded.config.runs_dir) / name_of_run(loaded, run_name))
    with named_keys(loaded):
        inputs = read_inputs(loaded, allow_code=allow_code)
        # Torch and transformers are imported from here on.
        from genai.jobs.pretrain_parts import build_parts
        from genai.jobs.training_parts import choose_device
        from genai.jobs.training_proofs import disk_needs
        from genai.training.parallel.ranks import Ranks
        from genai.training.plan.limits import available_bytes
        from genai.training.proofs.disk import prove_disk

        device = choose_device(loaded.config)
        # Asked before the model is built, since the prediction holds the model.
        available = available_bytes(device)
        parts = build_parts(loaded, inputs, Ranks(device=device), share=num_ranks)
        try:
            prove_disk(disk_needs(loaded.config, parts.model, directory.path))
            return _describe(parts, directory, available, num_ranks)
        finally:
            parts.stream.close()


def _describe(parts: Parts, directory: RunDirectory, available: int, num_ranks: int) -> PretrainPlan:
    import torch

    from genai.jobs.training_proofs import num_checkpoints
    from genai.training.plan.disk import checkpoint_bytes, model_bytes

    config, train, evaluation = parts.config, parts.inputs.train, parts.inputs.evaluation
    memory = _memory(parts, num_ranks)
    tokens_per_s = _probe(parts)
    checkpoints = config.save_folder or str(directory.checkpoints)
    return PretrainPlan(
        run=directory.name,
        status=_status(parts, directory),
        model=parts.architecture.name,
        num_parameters=parts.architecture.num_parameters,
        device=str(parts.device),
        num_ranks=num_ranks,
        num_threads=torch.get_num_threads(),
        streams=train.described,
        train_rows=train.num_samples,
        eval_rows=0 if evaluation is None else evaluation.num_samples,
        shards=train.num_shards,
        shard_bytes=train.size_bytes,
        stream_bytes=round(train.size_bytes * parts.steps.epochs),
        batches=parts.steps.batches,
        epochs=parts.steps.epochs,
        tokens=parts.steps.tokens,
        rows_per_batch=config.global_train_batch_size,
        microbatch_size=parts.microbatch_size,
        seq_len=config.max_seq_len,
        memory_bytes={} if memory is None else memory.parts,
        memory_moment="" if memory is None else memory.moment,
        available_bytes=available,
        checkpoint_bytes=checkpoint_bytes(parts.model, config.optimizer),
        num_checkpoints=num_checkpoints(config),
        model_bytes=model_bytes(parts.model),
        free_disk_bytes=None if is_remote(checkpoints) else free_bytes(Path(checkpoints)),
        tokens_per_s=tokens_per_s,
        predicted_s=parts.steps.tokens / tokens_per_s / num_ranks,
        writes=_writes(config, directory, checkpoints),
    )


def _memory(parts: Parts, num_ranks: int) -> MemoryPlan | None:
    from genai.jobs.pretrain_parts import planned
    from genai.training.plan.memory import UnpredictableError, predict

    job, rows = planned(parts.config, num_ranks), parts.microbatch_size
    try:
        meta = parts.architecture.meta
        return predict(meta, job, microbatch_size=rows, seq_len=parts.config.max_seq_len, device=parts.device)
    except UnpredictableError as error:
        _log.warning("%s", error)
        return None


def _status(parts: Parts, directory: RunDirectory) -> str:
    from genai.jobs.pretrain_parts import open_checkpoints

    if directory.path.exists() and directory.read_result() is not None:
        return "finished already"
    names = open_checkpoints(parts, directory).names()
    return f"would go on from {names[-1]}" if names else "new"


def _writes(config: PretrainConfig, directory: RunDirectory, checkpoints: str) -> tuple[str, ...]:
    paths = [f"{checkpoints}/", f"{directory.model}/"]
    if "gguf" in config.export.formats:
        paths.append(f"{directory.path / directory.name}.gguf")
    return (*paths, str(directory.report), str(directory.metrics_path))


def _probe(parts: Parts) -> float:
    """Tokens a second of one device, as timed."""
    from genai.jobs.pretrain_parts import build_trainer, open_checkpoints
    from genai.training.parallel.strategy import OneRank

    parallel = OneRank(parts.model_loss, parts.ranks)
    return time_steps(
        lambda directory, metrics: build_trainer(
            parts, parallel, open_checkpoints(parts, directory), metrics, run_name="probe"
        )
    )
