"""`genai finetune --dry-run`: everything a run would do, without doing it.

The model is loaded and a few steps are timed. No run directory is made; what was downloaded or tokenised on the way
lies in the cache, where the run will find it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.finetune import FinetuneConfig
from genai.config.loading import Loaded
from genai.jobs.finetune_inputs import pin, read_inputs
from genai.jobs.problems import named_keys
from genai.jobs.training_plan import disk_text, memory_lines, table, time_steps, time_text, write_lines
from genai.jobs.training_run import name_of_run
from genai.log import get_logger
from genai.storage import is_remote
from genai.storage.atomic import free_bytes
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.jobs.finetune_parts import Parts
    from genai.training.plan.memory import MemoryPlan

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would come to."""

    run: str
    status: str
    """`new`, or what the same command would do with the run that is there."""
    model: str
    method: str
    device: str
    num_threads: int
    train_rows: int
    eval_rows: int
    batches: int
    epochs: float
    tokens: int
    rows_per_batch: int
    microbatch_size: int
    seq_len: int
    """Longest row in tokens, padding included."""
    num_parameters: int
    num_trained_parameters: int
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
    predicted_s: float
    """Training steps only: evaluation, checkpoints and export come on top."""
    writes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)

    def text(self) -> str:
        """As the terminal shows it."""
        share = self.num_trained_parameters / self.num_parameters
        return table(
            [
                ("run", f"{self.run}: {self.status}; nothing was written"),
                ("model", f"{self.model}, {self.num_parameters / 1e6:,.1f} M parameters"),
                ("trained", f"{self.num_trained_parameters / 1e6:,.2f} M ({share:.2%}): {self.method}"),
                ("device", f"{self.device}, {self.num_threads} CPU threads"),
                ("rows", f"{self.train_rows:,} to train on, {self.eval_rows:,} held out"),
                (
                    "batch",
                    f"{self.rows_per_batch} rows of {self.seq_len} tokens, {self.microbatch_size} a forward pass",
                ),
                ("length", f"{self.batches:,} steps, {self.epochs:.2f} epochs, {self.tokens:,} tokens"),
                ("time", f"{time_text(self.predicted_s)} of training at {self.tokens_per_s:,.0f} tokens/s, as timed"),
                *memory_lines(self.memory_bytes, self.memory_moment, self.available_bytes),
                (
                    "disk",
                    disk_text(self.num_checkpoints, self.checkpoint_bytes, self.model_bytes, self.free_disk_bytes),
                ),
                *write_lines(self.writes),
            ]
        )


def make_plan(loaded: Loaded[FinetuneConfig], *, run_name: str | None = None, allow_code: bool = False) -> Plan:
    """Check everything that a run would check, and predict what it would take.

    Raises:
        GenaiError: what the run would fail with before its first step, a full disk included.
    """
    directory = RunDirectory(Path(loaded.config.runs_dir) / name_of_run(loaded, run_name))
    inputs = read_inputs(loaded, allow_code=allow_code, tables=pin(loaded, run_name=run_name))
    # Torch and transformers are imported from here on.
    from genai.jobs.finetune_parts import build_parts
    from genai.jobs.training_parts import choose_device
    from genai.jobs.training_proofs import disk_needs
    from genai.training.plan.limits import available_bytes
    from genai.training.proofs.disk import prove_disk

    # Asked before the model is loaded, since the prediction holds the model.
    available = available_bytes(choose_device(loaded.config))
    with named_keys(loaded):
        parts = build_parts(loaded, inputs)
        prove_disk(disk_needs(parts.config, parts.model, directory.path))
        return _describe(parts, directory, available)


def _describe(parts: Parts, directory: RunDirectory, available: int) -> Plan:
    import torch

    from genai.jobs.finetune_export import method_of
    from genai.jobs.finetune_parts import longest_row
    from genai.jobs.training_proofs import num_checkpoints
    from genai.training.plan.disk import checkpoint_bytes, model_bytes

    config = parts.config
    seq_len = longest_row(config, parts.train_tokens)
    memory = _memory(parts, seq_len)
    tokens_per_s = _probe(parts)
    parameters = list(parts.model.parameters())
    checkpoints = config.save_folder or str(directory.checkpoints)
    return Plan(
        run=directory.name,
        status=_status(parts, directory),
        model=parts.resolved.reference,
        method=method_of(config),
        device=str(parts.device),
        num_threads=torch.get_num_threads(),
        train_rows=len(parts.train_tokens),
        eval_rows=0 if parts.eval_tokens is None else len(parts.eval_tokens),
        batches=parts.steps.batches,
        epochs=parts.steps.epochs,
        tokens=parts.steps.tokens,
        rows_per_batch=config.global_train_batch_size,
        microbatch_size=parts.microbatch_size,
        seq_len=seq_len,
        num_parameters=sum(p.numel() for p in parameters),
        num_trained_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        memory_bytes={} if memory is None else memory.parts,
        memory_moment="" if memory is None else memory.moment,
        available_bytes=available,
        checkpoint_bytes=checkpoint_bytes(parts.model, config.optimizer),
        num_checkpoints=num_checkpoints(config),
        model_bytes=model_bytes(parts.model),
        free_disk_bytes=None if is_remote(checkpoints) else free_bytes(Path(checkpoints)),
        tokens_per_s=tokens_per_s,
        predicted_s=parts.steps.tokens / tokens_per_s,
        writes=_writes(config, directory, checkpoints),
    )


def _memory(parts: Parts, seq_len: int) -> MemoryPlan | None:
    from genai.training.plan.memory import UnpredictableError, predict

    rows = parts.microbatch_size
    try:
        return predict(parts.meta, parts.config, microbatch_size=rows, seq_len=seq_len, device=parts.device)
    except UnpredictableError as error:
        _log.warning("%s", error)
        return None


def _status(parts: Parts, directory: RunDirectory) -> str:
    from genai.jobs.finetune_parts import open_checkpoints

    if directory.path.exists() and directory.read_result() is not None:
        return "finished already"
    names = open_checkpoints(parts, directory).names()
    return f"would go on from {names[-1]}" if names else "new"


def _writes(config: FinetuneConfig, directory: RunDirectory, checkpoints: str) -> tuple[str, ...]:
    paths = [f"{checkpoints}/", f"{directory.model}/"]
    if config.model.peft_config is not None or config.model.adapter is not None:
        paths.append(f"{directory.adapter}/")
    if "gguf" in config.export.formats:
        paths.append(f"{directory.path / directory.name}.gguf")
    return (*paths, str(directory.report), str(directory.metrics_path))


def _probe(parts: Parts) -> float:
    """Tokens a second, as timed."""
    from genai.jobs.finetune_parts import build_trainer, open_checkpoints

    return time_steps(
        lambda directory, metrics: build_trainer(parts, open_checkpoints(parts, directory), metrics, run_name="probe")
    )
