"""`genai finetune --dry-run`: everything a run would do, without doing it.

The model is loaded and a few steps are timed. No run directory is made; what was downloaded or tokenised on the way
lies in the cache, where the run will find it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.finetune import FinetuneConfig
from genai.config.loading import Loaded
from genai.jobs.finetune import name_of_run
from genai.jobs.finetune_inputs import read_inputs
from genai.log import progress
from genai.storage import is_remote
from genai.storage.atomic import free_bytes

if TYPE_CHECKING:
    from genai.jobs.finetune_parts import Parts

_PROBE_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would come to."""

    run: str
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
    max_seq_len: int
    num_parameters: int
    num_trained_parameters: int
    memory_bytes: Mapping[str, int]
    """Predicted peak by part."""
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
        lines = [
            ("run", f"{self.run} (nothing was written)"),
            ("model", f"{self.model}, {self.num_parameters / 1e6:,.1f} M parameters"),
            ("trained", f"{self.num_trained_parameters / 1e6:,.2f} M ({share:.2%}): {self.method}"),
            ("device", f"{self.device}, {self.num_threads} CPU threads"),
            ("rows", f"{self.train_rows:,} to train on, {self.eval_rows:,} held out"),
            (
                "batch",
                f"{self.rows_per_batch} rows of {self.max_seq_len} tokens, {self.microbatch_size} a forward pass",
            ),
            ("length", f"{self.batches:,} steps, {self.epochs:.2f} epochs, {self.tokens:,} tokens"),
            ("time", f"{_minutes(self.predicted_s)} of training at {self.tokens_per_s:,.0f} tokens/s, as timed"),
            ("memory", self._memory()),
            *((f"  {name}", _gib(size)) for name, size in self.memory_bytes.items()),
            ("disk", self._disk()),
            ("writes", ", ".join(self.writes)),
        ]
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)

    def _memory(self) -> str:
        total = _gib(sum(self.memory_bytes.values()))
        return f"{total} at its peak ({self.memory_moment}), {_gib(self.available_bytes)} free"

    def _disk(self) -> str:
        need = (
            f"{self.num_checkpoints} x {_gib(self.checkpoint_bytes)} of checkpoints, {_gib(self.model_bytes)} of model"
        )
        return need if self.free_disk_bytes is None else f"{need}, {_gib(self.free_disk_bytes)} free"


def make_plan(loaded: Loaded[FinetuneConfig], *, run_name: str | None = None, allow_code: bool = False) -> Plan:
    """Check everything that a run would check, and predict what it would take.

    Raises:
        GenaiError: what the run would fail with before its first step, a full disk included.
    """
    name = name_of_run(loaded, run_name)
    inputs = read_inputs(loaded, allow_code=allow_code)
    # Torch and transformers are imported from here on.
    from genai.jobs.finetune_parts import build_parts
    from genai.jobs.finetune_proofs import disk_needs
    from genai.training.proofs.disk import prove_disk

    parts = build_parts(loaded, inputs)
    prove_disk(disk_needs(parts, Path(loaded.config.runs_dir) / name))
    return _describe(loaded.config, parts, name)


def _describe(config: FinetuneConfig, parts: Parts, name: str) -> Plan:
    import torch

    from genai.jobs.finetune_export import method_of
    from genai.jobs.finetune_proofs import num_checkpoints
    from genai.training.plan.disk import checkpoint_bytes, model_bytes
    from genai.training.plan.limits import available_bytes
    from genai.training.plan.microbatch import plan_memory

    memory = plan_memory(parts.meta, config, microbatch=parts.microbatch_size, device=parts.device)
    tokens_per_s = _probe(parts)
    parameters = list(parts.model.parameters())
    run = Path(config.runs_dir) / name
    checkpoints = config.save_folder or str(run / "checkpoints")
    return Plan(
        run=name,
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
        max_seq_len=config.train_loader.dataset.max_seq_len or config.max_seq_len,
        num_parameters=sum(p.numel() for p in parameters),
        num_trained_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        memory_bytes=memory.parts,
        memory_moment=memory.moment,
        available_bytes=available_bytes(parts.device),
        checkpoint_bytes=checkpoint_bytes(parts.model, config.optimizer),
        num_checkpoints=num_checkpoints(config),
        model_bytes=model_bytes(parts.model),
        free_disk_bytes=None if is_remote(checkpoints) else free_bytes(Path(checkpoints)),
        tokens_per_s=tokens_per_s,
        predicted_s=parts.steps.tokens / tokens_per_s,
        writes=(f"{run}/", f"{checkpoints}/"),
    )


def _probe(parts: Parts) -> float:
    """Tokens a second over a few steps of the real trainer, the first of which is not counted; the weights move, and
    are then dropped.
    """
    from genai.jobs.finetune_parts import build_trainer, open_checkpoints
    from genai.jobs.metric_sinks import MetricSinks
    from genai.tracking.metrics import MetricsLog
    from genai.tracking.run import RunDirectory

    with tempfile.TemporaryDirectory(prefix="genai-probe-") as scratch, progress("timing steps", _PROBE_STEPS) as task:
        directory = RunDirectory.open(scratch, "probe")
        sinks = MetricSinks(MetricsLog(directory.metrics_path), [])
        trainer = build_trainer(parts, open_checkpoints(parts, directory), sinks, run_name="probe")
        parts.model.train()
        trainer.step()
        before, started = trainer.state.tokens, time.perf_counter()
        for number in range(_PROBE_STEPS):
            trainer.step()
            task.update(number + 1)
        return (trainer.state.tokens - before) / (time.perf_counter() - started)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"


def _minutes(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.1f} min"
