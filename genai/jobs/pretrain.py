"""`genai pretrain`, from the job file to the trained model. This module reads like the verb's documentation:

read the indexes of all streams -> open the run -> build the model -> prove accumulation and export -> train (or go on),
measuring the held-out stream -> export -> report

On many ranks (`--nproc`) each of them runs this: all stream and train, rank 0 alone proves, writes and reports.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from genai.config.loading import Loaded
from genai.config.pretrain import PretrainConfig
from genai.errors import StoppedError
from genai.jobs import training_run
from genai.jobs.pretrain_inputs import PretrainInputs, read_inputs
from genai.jobs.pretrain_result import PretrainResult
from genai.jobs.problems import named_keys
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.jobs.metric_sinks import MetricSinks, NoMetrics
    from genai.jobs.pretrain_export import Places
    from genai.jobs.pretrain_parts import Parts
    from genai.training.parallel.ranks import Ranks
    from genai.training.trainer import Trainer

_FINGERPRINTS = {
    "model_fingerprint": ("model", "the model"),
    "data_fingerprint": ("train_loader.dataset", "what the training shards hold"),
}
"""What a checkpoint records beside the config -> the key it belongs to, and what it stands for."""


def run(loaded: Loaded[PretrainConfig], *, run_name: str | None = None, allow_code: bool = False) -> PretrainResult:
    """Pretrain in this process, or go on with a run that was stopped; a finished run gives its result again.

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
    loaded: Loaded[PretrainConfig], *, run_name: str | None = None, allow_code: bool = False, ranks: Ranks | None = None
) -> PretrainResult | None:
    """`run` as one of several ranks; the result on rank 0, None elsewhere.

    Args:
        loaded: the checked job file.
        run_name: name of the run directory; by default what the job file says.
        allow_code: the command line lets a model bring its own Python.
        ranks: who takes part; None for one process.
    """
    started = time.monotonic()
    with named_keys(loaded):
        inputs = read_inputs(loaded, allow_code=allow_code)
        return training_run.once(
            loaded,
            lambda directory: _train(loaded, inputs, directory, ranks, started),
            PretrainResult.from_json,
            run_name=run_name,
            ranks=ranks,
            shards=inputs.fingerprint,
        )


def _train(
    loaded: Loaded[PretrainConfig],
    inputs: PretrainInputs,
    directory: RunDirectory,
    ranks: Ranks | None,
    started: float,
) -> PretrainResult | None:
    # Torch and transformers are imported from here on.
    from genai.jobs import pretrain_parts as building
    from genai.jobs import pretrain_report, training_parts
    from genai.jobs.metric_sinks import NoMetrics, open_metrics
    from genai.jobs.pretrain_export import export
    from genai.jobs.pretrain_proofs import prove

    parts = building.build_parts(loaded, inputs, ranks)
    checkpoints = building.open_checkpoints(parts, directory)
    saved = training_run.checkpoint_to_resume(checkpoints, loaded)
    changes = training_run.check_changes(saved, checkpoints, loaded, _FINGERPRINTS) if saved else ()
    metrics: MetricSinks | NoMetrics = NoMetrics()
    if parts.ranks.is_main:
        training_run.write_beginning(directory, loaded, parts.fingerprints)
        proofs = prove(parts, directory)
        metrics = open_metrics(loaded, directory, resume_step=saved.state.batch if saved else 0)
    parallel = training_parts.share_work(parts.config, parts.model_loss, parts.ranks)
    trainer = building.build_trainer(parts, parallel, checkpoints, metrics, run_name=directory.name)
    if saved is not None:
        training_run.go_on(trainer, checkpoints, saved, changes)
    elif loaded.config.eval_first:
        trainer.state = replace(trainer.state, evaluation_due=True)
    _fit(trainer, parts, metrics)
    places = export(parts, trainer, checkpoints, loaded, directory)
    if places is None:
        return None
    result = _result(directory, parts, trainer, places, total_s=time.monotonic() - started)
    pretrain_report.write(directory, loaded, parts, proofs, result)
    return result


def _fit(trainer: Trainer, parts: Parts, metrics: MetricSinks | NoMetrics) -> None:
    """Train to the end, and let go of the streams and the metrics however it ends."""
    status = "failed"
    try:
        trainer.fit()
        status = "done"
    except StoppedError as stopped:
        status = "interrupted" if stopped.exit_code == 130 else "stopped"
        raise
    finally:
        parts.stream.close()
        metrics.finish(status)


def _result(
    directory: RunDirectory, parts: Parts, trainer: Trainer, places: Places, *, total_s: float
) -> PretrainResult:
    from genai.jobs.pretrain_parts import perplexity

    state, measured = trainer.state, trainer.last_eval
    return PretrainResult(
        run=directory.name,
        path=str(directory.path),
        model=str(places.model),
        gguf=str(places.gguf) if places.gguf else None,
        report=str(directory.report),
        num_parameters=parts.architecture.num_parameters,
        train_loss=trainer.last_loss,
        eval_loss=measured.loss if measured else None,
        perplexity=perplexity(measured.loss) if measured else None,
        eval_tokens=measured.num_tokens if measured else 0,
        batches=state.batch,
        epochs=state.epoch,
        tokens=state.tokens,
        num_ranks=parts.ranks.world_size,
        train_s=state.train_time_s,
        total_s=total_s,
        tokens_per_s=state.tokens / state.train_time_s if state.train_time_s else 0.0,
        exact=state.exact,
        inexact_reasons=state.inexact_reasons,
    )


if __name__ == "__main__":
    from genai.jobs.worker import end, main

    end(main(PretrainConfig, run_rank))
