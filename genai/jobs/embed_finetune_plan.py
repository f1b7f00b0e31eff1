"""`genai embed-finetune --dry-run`: everything a run would do, without doing it.

The model is loaded and a few steps are timed. Queries are not made and negatives not mined: what they would cost is
told instead. No run directory is made; what was downloaded or embedded on the way lies in the cache.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.embed_finetune import EmbedFinetuneConfig
from genai.config.loading import Loaded
from genai.jobs.embed_finetune_inputs import pin, read_inputs
from genai.jobs.problems import named_keys
from genai.jobs.training_plan import disk_text, memory_lines, table, time_steps, time_text, write_lines
from genai.jobs.training_run import name_of_run
from genai.storage import is_remote
from genai.storage.atomic import free_bytes
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.embedding.tuning.synthetic import Estimate
    from genai.jobs.embed_finetune_parts import Parts


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would come to."""

    run: str
    status: str
    """`new`, or what the same command would do with the run that is there."""
    model: str
    kind: str
    """sentence_encoder or cross_encoder."""
    loss: str
    device: str
    num_threads: int
    num_pairs: int
    """Training pairs."""
    num_passages: int
    num_validation: int
    num_test: int
    num_near_duplicates: int
    """Training pairs that are left out because held-out ones resemble them."""
    num_cut_passages: int
    """Passages that are longer than the model reads."""
    num_parameters: int
    num_trained_parameters: int
    rows_per_batch: int
    microbatch_size: int
    num_negatives: int
    batches: int
    epochs: float
    tokens: int
    memory_bytes: Mapping[str, int]
    """Peak by part, above the process with everything imported; activations as the timed steps took them."""
    available_bytes: int
    checkpoint_bytes: int
    num_checkpoints: int
    model_bytes: int
    free_disk_bytes: int | None
    """None for a bucket."""
    tokens_per_s: float
    predicted_s: float
    """Training steps only: embedding the corpus before and after comes on top."""
    estimate: Mapping[str, float] | None
    """What making the queries would take: prompts, tokens, US dollars; None where none are made."""
    trials: int
    """Settings that `search` would begin with; 0 without."""
    writes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)

    def text(self) -> str:
        """As the terminal shows it."""
        share = self.num_trained_parameters / self.num_parameters
        held_out = (
            f"{self.num_validation:,} validation and {self.num_test:,} test queries over {self.num_passages:,} passages"
        )
        return table(
            [
                ("run", f"{self.run}: {self.status}; nothing was written"),
                ("model", f"{self.model} ({self.kind}), {self.num_parameters / 1e6:,.1f} M parameters"),
                ("trained", f"{self.num_trained_parameters / 1e6:,.2f} M ({share:.2%}), {self.loss}"),
                ("device", f"{self.device}, {self.num_threads} CPU threads"),
                (
                    "pairs",
                    f"{self.num_pairs:,} to train on ({self.num_near_duplicates:,} left out: like held-out ones)",
                ),
                ("held out", held_out),
                ("cut", f"{self.num_cut_passages:,} passages are longer than the model reads"),
                *self._made(),
                (
                    "batch",
                    f"{self.rows_per_batch} queries with {self.num_negatives} negatives each, {self.microbatch_size} a "
                    "forward pass",
                ),
                ("length", f"{self.batches:,} steps, {self.epochs:.2f} epochs, {self.tokens:,} tokens"),
                ("time", f"{time_text(self.predicted_s)} of training at {self.tokens_per_s:,.0f} tokens/s, as timed"),
                *([("search", f"{self.trials} settings begin")] if self.trials else []),
                *memory_lines(self.memory_bytes, "a step, as measured", self.available_bytes),
                (
                    "disk",
                    disk_text(self.num_checkpoints, self.checkpoint_bytes, self.model_bytes, self.free_disk_bytes),
                ),
                *write_lines(self.writes),
            ]
        )

    def _made(self) -> list[tuple[str, str]]:
        if self.estimate is None:
            return []
        told = self.estimate
        tokens = f"{told['input_tokens']:,.0f} tokens in, {told['output_tokens']:,.0f} out"
        return [("queries", f"{told['num_prompts']:,.0f} prompts, {tokens}, about {told['usd']:.2f} USD")]


def make_plan(loaded: Loaded[EmbedFinetuneConfig], *, run_name: str | None = None, allow_code: bool = False) -> Plan:
    """Check everything that a run would check, and predict what it would take.

    Raises:
        GenaiError: what the run would fail with before its first step, a full disk included.
    """
    directory = RunDirectory(Path(loaded.config.runs_dir) / name_of_run(loaded, run_name))
    inputs = read_inputs(loaded, allow_code=allow_code, tables=pin(loaded, run_name=run_name))
    # Torch and transformers are imported from here on.
    from genai.jobs.embed_finetune_data import estimate, split_without_made
    from genai.jobs.embed_finetune_parts import build_parts, choose_device
    from genai.jobs.training_proofs import disk_needs
    from genai.training.plan.limits import available_bytes
    from genai.training.proofs.disk import prove_disk

    available = available_bytes(choose_device(loaded.config))
    with named_keys(loaded), tempfile.TemporaryDirectory(prefix="genai-probe-") as scratch:
        told = estimate(loaded.config, inputs)
        probe = RunDirectory.open(scratch, "probe")
        parts = build_parts(loaded, split_without_made(loaded, inputs), inputs, probe, mine=False)
        prove_disk(disk_needs(parts.config, parts.model, directory.path))
        return _describe(parts, directory, available, told)


def _describe(parts: Parts, directory: RunDirectory, available: int, told: Estimate | None) -> Plan:
    import torch

    from genai.jobs.embed_finetune_search import trials_of
    from genai.jobs.training_proofs import num_checkpoints
    from genai.training.plan.disk import checkpoint_bytes, model_bytes

    config = parts.config
    tokens_per_s, memory = _probe(parts)
    parameters = list(parts.model.parameters())
    checkpoints = config.save_folder or str(directory.checkpoints)
    return Plan(
        run=directory.name,
        status=_status(parts, directory),
        model=config.model.pretrained_model_name_or_path,
        kind=config.model.name,
        loss=config.loss.name,
        device=str(parts.device),
        num_threads=torch.get_num_threads(),
        num_pairs=len(parts.data.train),
        num_passages=len(parts.data.passages),
        num_validation=len(parts.data.validation),
        num_test=len(parts.data.test),
        num_near_duplicates=len(parts.data.near_duplicates),
        num_cut_passages=parts.tokens.num_cut_passages,
        num_parameters=sum(p.numel() for p in parameters),
        num_trained_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        rows_per_batch=config.global_train_batch_size,
        microbatch_size=parts.microbatch_size,
        num_negatives=parts.num_negatives,
        batches=parts.steps.batches,
        epochs=parts.steps.epochs,
        tokens=parts.steps.tokens,
        memory_bytes=memory,
        available_bytes=available,
        checkpoint_bytes=checkpoint_bytes(parts.model, config.optimizer),
        num_checkpoints=num_checkpoints(config),
        model_bytes=model_bytes(parts.model),
        free_disk_bytes=None if is_remote(checkpoints) else free_bytes(Path(checkpoints)),
        tokens_per_s=tokens_per_s,
        predicted_s=parts.steps.tokens / tokens_per_s,
        estimate=None if told is None else {name: float(value) for name, value in asdict(told).items()},
        trials=0 if config.search is None else len(trials_of(config.search, seed=config.seed)),
        writes=(f"{checkpoints}/", f"{directory.model}/", str(directory.report), str(directory.metrics_path)),
    )


def _status(parts: Parts, directory: RunDirectory) -> str:
    from genai.jobs.embed_finetune_parts import open_checkpoints

    if directory.path.exists() and directory.read_result() is not None:
        return "finished already"
    names = open_checkpoints(parts, directory).names()
    return f"would go on from {names[-1]}" if names else "new"


def _probe(parts: Parts) -> tuple[float, dict[str, int]]:
    """Tokens a second, and the peak of memory by part, as the timed steps took them."""
    from genai.config.training import DecoupledLionWConfig
    from genai.jobs.embed_finetune_parts import build_trainer, open_checkpoints

    before, _ = _memory(parts)
    speed = time_steps(
        lambda directory, metrics: build_trainer(parts, open_checkpoints(parts, directory), metrics, run_name="probe")
    )
    _, peak = _memory(parts)
    trained = sum(p.numel() * 4 for p in parts.model.parameters() if p.requires_grad)
    moments = 1 if isinstance(parts.config.optimizer, DecoupledLionWConfig) else 2
    fixed = {"gradients": trained, "optimizer": moments * trained}
    weights = sum(p.numel() * p.element_size() for p in parts.model.parameters())
    return speed, {"weights": weights, **fixed, "activations": max(0, peak - before - sum(fixed.values()))}


def _memory(parts: Parts) -> tuple[int, int]:
    """Bytes that are taken now, and at the peak so far."""
    import torch

    from genai.training.callbacks.memory_monitor import peak_resident_bytes, resident_bytes

    if parts.device.type == "cuda":
        return torch.cuda.memory_allocated(parts.device), torch.cuda.max_memory_allocated(parts.device)
    return resident_bytes(), peak_resident_bytes()
