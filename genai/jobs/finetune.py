"""`genai finetune`, from the job file to the trained model. This module reads like the verb's documentation:

read the rows -> open the run -> load the model -> prove labels, packing, accumulation, export -> measure the base
-> train (or go on) -> measure the tuned model -> export -> report

On many ranks (`--nproc`) each of them runs this: all load and train, rank 0 alone proves, compares and writes.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from genai.config.finetune import FinetuneConfig
from genai.config.loading import Loaded
from genai.data.prepare import PreparedRows
from genai.errors import StoppedError
from genai.jobs import training_run
from genai.jobs.finetune_inputs import pin, read_inputs
from genai.jobs.problems import named_keys
from genai.jobs.result import FinetuneResult
from genai.tracking.run import RunDirectory
from genai.training.state import TrainState

if TYPE_CHECKING:
    from genai.jobs.finetune_comparison import Measured
    from genai.jobs.finetune_export import Places
    from genai.jobs.metric_sinks import MetricSinks
    from genai.training.parallel.ranks import Ranks

_FINGERPRINTS = {
    "model_fingerprint": ("model.pretrained_model_name_or_path", "the weights of the model"),
    "data_fingerprint": ("train_loader.dataset", "the training rows"),
}
"""What a checkpoint records beside the config -> the key it belongs to, and what it stands for."""


def run(loaded: Loaded[FinetuneConfig], *, run_name: str | None = None, allow_code: bool = False) -> FinetuneResult:
    """Fine-tune, or go on with a run that was stopped; a finished run gives its result again.

    Args:
        loaded: the checked job file.
        run_name: name of the run directory; by default what the job file says.
        allow_code: the command line lets a model bring its own Python.

    Raises:
        GenaiError: see `genai.errors` for the exit codes.
    """
    result = run_rank(loaded, run_name=run_name, allow_code=allow_code)
    assert result is not None
    return result


def run_rank(
    loaded: Loaded[FinetuneConfig], *, run_name: str | None = None, allow_code: bool = False, ranks: Ranks | None = None
) -> FinetuneResult | None:
    """`run` as one of several ranks; the result on rank 0, None elsewhere.

    Args:
        loaded: the checked job file.
        run_name: name of the run directory; by default what the job file says.
        allow_code: the command line lets a model bring its own Python.
        ranks: who takes part; None for one process.
    """
    started = time.monotonic()
    with named_keys(loaded):
        # All ranks read the same versions, whatever is committed meanwhile.
        pinning = partial(pin, loaded, run_name=run_name)
        inputs = read_inputs(loaded, allow_code=allow_code, tables=ranks.share(pinning) if ranks else pinning())
        return training_run.once(
            loaded,
            lambda directory: _train(loaded, inputs, directory, ranks, started),
            FinetuneResult.from_json,
            run_name=run_name,
            ranks=ranks,
            rows=inputs.fingerprint,
        )


def _train(
    loaded: Loaded[FinetuneConfig], inputs: PreparedRows, directory: RunDirectory, ranks: Ranks | None, started: float
) -> FinetuneResult | None:
    # Torch and transformers are imported from here on.
    from genai.jobs import finetune_comparison as comparison
    from genai.jobs import finetune_parts as building
    from genai.jobs import finetune_report
    from genai.jobs.finetune_export import export
    from genai.jobs.finetune_proofs import prove
    from genai.jobs.metric_sinks import NoMetrics, open_metrics

    parts = building.build_parts(loaded, inputs, ranks)
    checkpoints = building.open_checkpoints(parts, directory)
    saved = training_run.checkpoint_to_resume(checkpoints, loaded)
    changes = training_run.check_changes(saved, checkpoints, loaded, _FINGERPRINTS) if saved else ()
    metrics: MetricSinks | NoMetrics = NoMetrics()
    if parts.ranks.is_main:
        training_run.write_beginning(directory, loaded, parts.fingerprints)
        proofs = prove(parts, loaded, directory)
        base = comparison.measure_base(parts, directory)
        metrics = open_metrics(loaded, directory, resume_step=saved.state.batch if saved else 0)
    status = "failed"
    try:
        trainer = building.build_trainer(parts, checkpoints, metrics, run_name=directory.name)
        if saved is not None:
            training_run.go_on(trainer, checkpoints, saved, changes)
        state = trainer.fit()
        after = comparison.loss_after(trainer)
        building.gather_model(parts, loaded)
        if not parts.ranks.is_main:
            return None
        measured = comparison.measure_tuned(parts, base, after)
        status = "done"
    except StoppedError as stopped:
        status = "interrupted" if stopped.exit_code == 130 else "stopped"
        raise
    finally:
        metrics.finish(status)
    places = export(parts, loaded, directory, measured)
    result = _result(directory, state, measured, places, total_s=time.monotonic() - started)
    finetune_report.write(directory, loaded, parts, proofs, result)
    return result


def _result(
    directory: RunDirectory, state: TrainState, measured: Measured, places: Places, *, total_s: float
) -> FinetuneResult:
    return FinetuneResult(
        run=directory.name,
        path=str(directory.path),
        model=str(places.model),
        adapter=str(places.adapter) if places.adapter else None,
        gguf=str(places.gguf) if places.gguf else None,
        report=str(directory.report),
        losses=measured.losses,
        answers=measured.answers,
        batches=state.batch,
        epochs=state.epoch,
        tokens=state.tokens,
        trained_tokens=state.trained_tokens,
        train_s=state.train_time_s,
        total_s=total_s,
        tokens_per_s=state.tokens / state.train_time_s if state.train_time_s else 0.0,
        exact=state.exact,
        inexact_reasons=state.inexact_reasons,
    )


if __name__ == "__main__":
    from genai.jobs.worker import end, main

    end(main(FinetuneConfig, run_rank))
