"""`genai embed-finetune`, from the job file to a better retrieval. This module reads like the verb's documentation:

read pairs and documents -> open the run -> (search) -> make queries -> hold back, remove what leaks -> load the model
-> measure it -> mine negatives -> prove -> train (or go on) -> write the model -> measure it -> decide what follows
-> report

On many ranks (`--nproc`) each of them runs this: all load and train, rank 0 alone measures, mines, proves and writes.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from genai.config.embed_finetune import EmbedFinetuneConfig
from genai.config.loading import Loaded
from genai.errors import GateError, StoppedError
from genai.jobs import training_run
from genai.jobs.embed_finetune_inputs import Inputs, pin, read_inputs
from genai.jobs.embed_finetune_result import EmbedFinetuneResult
from genai.jobs.problems import named_keys
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.jobs.metric_sinks import MetricSinks
    from genai.training.parallel.ranks import Ranks

_FINGERPRINTS = {
    "model_fingerprint": ("model.pretrained_model_name_or_path", "the weights of the model"),
    "data_fingerprint": ("data", "what is trained on"),
}
"""What a checkpoint records beside the config -> the key it belongs to, and what it stands for."""


def run(
    loaded: Loaded[EmbedFinetuneConfig], *, run_name: str | None = None, allow_code: bool = False
) -> EmbedFinetuneResult:
    """Tune, or go on with a run that was stopped; a finished run gives its result again.

    Args:
        loaded: the checked job file.
        run_name: name of the run directory; by default what the job file says.
        allow_code: the command line lets a model bring its own Python.

    Raises:
        GenaiError: see `genai.errors` for the exit codes. A promotion that was not earned is none: see
            `check_promotion`.
    """
    result = run_rank(loaded, run_name=run_name, allow_code=allow_code)
    assert result is not None
    return result


def run_rank(
    loaded: Loaded[EmbedFinetuneConfig],
    *,
    run_name: str | None = None,
    allow_code: bool = False,
    ranks: Ranks | None = None,
) -> EmbedFinetuneResult | None:
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
        tables = ranks.share(pinning) if ranks else pinning()
        inputs = read_inputs(loaded, allow_code=allow_code, tables=tables)

        def train(directory: RunDirectory) -> EmbedFinetuneResult | None:
            if loaded.config.search is not None:
                from genai.jobs.embed_finetune_search import search

                trial = partial(run_rank, allow_code=allow_code, ranks=ranks)
                return search(loaded, inputs, directory, ranks, started, run_trial=trial, allow_code=allow_code)
            return _train(loaded, inputs, directory, ranks, started, allow_code=allow_code)

        return training_run.once(
            loaded,
            train,
            EmbedFinetuneResult.from_json,
            run_name=run_name,
            ranks=ranks,
            rows=inputs.fingerprint,
        )


def check_promotion(result: EmbedFinetuneResult) -> None:
    """Say so when the model was not good enough for what should follow.

    Raises:
        GateError: it was not; the model lies in the run, everything else is as it was.
    """
    if result.promotion.promoted is False:
        fix = f"the model is kept in {result.model}; tune on more data, or change then.promote_if"
        raise GateError(f"not promoted: {result.promotion.reason}", fix=fix)


def _train(
    loaded: Loaded[EmbedFinetuneConfig],
    inputs: Inputs,
    directory: RunDirectory,
    ranks: Ranks | None,
    started: float,
    *,
    allow_code: bool,
) -> EmbedFinetuneResult | None:
    # Torch and transformers are imported from here on.
    from genai.jobs import embed_finetune_measuring as measuring
    from genai.jobs import embed_finetune_parts as building
    from genai.jobs import embed_finetune_report
    from genai.jobs.embed_finetune_data import prepare
    from genai.jobs.embed_finetune_proofs import prove
    from genai.jobs.embed_finetune_then import follow_up
    from genai.jobs.metric_sinks import NoMetrics, open_metrics
    from genai.training.callbacks.cpu_clock import CpuClock

    data, made = prepare(loaded, inputs, directory, ranks)
    parts = building.build_parts(loaded, data, inputs, directory, ranks)
    checkpoints = building.open_checkpoints(parts, directory)
    saved = training_run.checkpoint_to_resume(checkpoints, loaded)
    changes = training_run.check_changes(saved, checkpoints, loaded, _FINGERPRINTS) if saved else ()
    clock = CpuClock()
    parts.find_negatives(saved)
    metrics: MetricSinks | NoMetrics = NoMetrics()
    if parts.ranks.is_main:
        training_run.write_beginning(directory, loaded, parts.fingerprints)
        proofs, samples = prove(parts, directory)
        metrics = open_metrics(loaded, directory, resume_step=saved.state.batch if saved else 0)
    status = "failed"
    try:
        trainer = building.build_trainer(parts, checkpoints, metrics, run_name=directory.name, watching=[clock])
        if saved is not None:
            training_run.go_on(trainer, checkpoints, saved, changes)
        state = trainer.fit()
        train_cpu_s = clock.cpu_s
        if not parts.ranks.is_main:
            return None
        status = "done"
    except StoppedError as stopped:
        status = "interrupted" if stopped.exit_code == 130 else "stopped"
        raise
    finally:
        metrics.finish(status)
    parts.write_model(directory)
    outcome = measuring.compare(parts, directory)
    promotion = follow_up(
        loaded,
        directory,
        outcome.test,
        data=data,
        kind=loaded.config.model.name,
        record=parts.fingerprints,
        allow_code=allow_code,
    )
    result = building.result_of(
        parts,
        directory,
        state,
        outcome,
        made=made,
        promotion=promotion,
        train_cpu_s=train_cpu_s,
        total_s=time.monotonic() - started,
    )
    embed_finetune_report.write(directory, loaded, parts, proofs, samples, result)
    return result


if __name__ == "__main__":
    from genai.jobs.worker import end, main

    end(main(EmbedFinetuneConfig, run_rank))
