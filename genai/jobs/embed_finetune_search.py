"""`search` of `genai embed-finetune`: tries several settings by successive halving, and takes over what is best.

Every trial is a run of its own with a job file of its own, `search/TRIAL.yaml` in the run's directory: that file run
alone gives the same model. A round trains all trials that are left for the same share of max_duration, the last round
for all of it. What counts is the metric on the validation queries; the test queries are looked at for the winner only.

Source: Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization".
"""

from __future__ import annotations

import itertools
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.dialect import dump
from genai.config.durations import Duration
from genai.config.embed_finetune import EmbedFinetuneConfig, HyperSearchConfig
from genai.config.loading import Loaded, load
from genai.errors import GenaiError, StoppedError
from genai.jobs.embed_finetune_inputs import Inputs
from genai.jobs.embed_finetune_result import EmbedFinetuneResult, SearchResult, TrialResult
from genai.jobs.training_run import write_beginning
from genai.log import get_logger
from genai.storage.atomic import atomic_directory, safe_name, write_text
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.training.parallel.ranks import Ranks

RunTrial = Callable[[Loaded[EmbedFinetuneConfig]], EmbedFinetuneResult | None]
_FOLDER = "search"
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    number: int
    settings: Mapping[str, Any]


def search(
    loaded: Loaded[EmbedFinetuneConfig],
    inputs: Inputs,
    directory: RunDirectory,
    ranks: Ranks | None,
    started: float,
    *,
    run_trial: RunTrial,
    allow_code: bool,
) -> EmbedFinetuneResult | None:
    """Try, take over the best model, and go on as after any run; the result on rank 0, None elsewhere.

    Args:
        loaded: the job file.
        inputs: what it reads.
        directory: of the run.
        ranks: who takes part in every trial; None for one process.
        started: by `time.monotonic`, when the job began.
        run_trial: runs a job file of its own, on all ranks.
        allow_code: the command line lets a model bring its own Python.

    Raises:
        GenaiError: no trial came to its end.
    """
    from genai.jobs import embed_finetune_report
    from genai.jobs.embed_finetune_data import prepare
    from genai.jobs.embed_finetune_then import follow_up

    config = loaded.config
    assert config.search is not None
    # Rows are divided as they will be in every trial; their number tells how long a share of an epoch is.
    data, _ = prepare(loaded, inputs, directory, ranks)
    is_main = ranks is None or ranks.is_main
    found, results, out_of_time = _try_all(loaded, directory, ranks, num_pairs=len(data.train), run_trial=run_trial)
    winner = _best(found)
    if winner is None:
        faults = "; ".join(sorted({trial.fault for trial in found if trial.fault}))
        raise GenaiError(f"no trial of search came to its end: {faults or 'the budget was too short'}")
    _log.info("search: %s has won with %s %.4f", winner.run, config.search.metric, winner.score)
    if not is_main:
        return None
    won = results[winner.run]
    write_beginning(directory, loaded, {"winner": winner.run, "data": data.fingerprint, "tables": dict(inputs.tables)})
    _adopt(won, directory)
    promotion = follow_up(
        loaded,
        directory,
        won.changes,
        data=data,
        kind=config.model.name,
        record={"winner": winner.run, "data": data.fingerprint, "tables": dict(inputs.tables)},
    )
    result = replace(
        won,
        run=directory.name,
        path=str(directory.path),
        model=str(directory.model),
        adapter=str(directory.adapter) if won.adapter else None,
        report=str(directory.report),
        promotion=promotion,
        search=SearchResult(
            metric=config.search.metric,
            trials=tuple(found),
            winner=winner.run,
            config=str(_file_of(directory, winner.run)),
            out_of_time=out_of_time,
        ),
        total_s=time.monotonic() - started,
    )
    embed_finetune_report.write_of_search(directory, loaded, data, RunDirectory(Path(won.path)), result)
    return result


def trials_of(settings: HyperSearchConfig, *, seed: int) -> list[Mapping[str, Any]]:
    """The settings that begin: all combinations where there are few enough, else as many drawn."""
    keys = list(settings.space)
    combinations: list[Mapping[str, Any]] = [
        dict(zip(keys, values, strict=True)) for values in itertools.product(*settings.space.values())
    ]
    if len(combinations) <= settings.num_trials:
        return combinations
    chosen = sorted(random.Random(seed).sample(range(len(combinations)), settings.num_trials))
    return [combinations[place] for place in chosen]


def rounds_of(num_trials: int, settings: HyperSearchConfig) -> list[tuple[float, int]]:
    """Share of max_duration and number of trials of each round; the last one trains all of it."""
    share, left, found = settings.shortest, num_trials, []
    while share < 1 and left > 1:
        found.append((share, left))
        left = max(1, math.ceil(left * settings.keep))
        share = share / settings.keep if settings.keep else 1.0
    return [*found, (1.0, left)]


def shortened(text: str, share: float, *, num_pairs: int) -> str:
    """A share of a duration; of epochs in samples, which can be divided."""
    if share >= 1:
        return text
    duration = Duration.parse(text)
    if duration.unit == "ep":
        return f"{max(1, round(duration.value * share * num_pairs))}sp"
    return f"{max(1, round(duration.value * share))}{duration.unit}"


def _try_all(
    loaded: Loaded[EmbedFinetuneConfig],
    directory: RunDirectory,
    ranks: Ranks | None,
    *,
    num_pairs: int,
    run_trial: RunTrial,
) -> tuple[list[TrialResult], dict[str, EmbedFinetuneResult], bool]:
    """All rounds, or as many trials as there is time for."""
    settings = loaded.config.search
    assert settings is not None
    left = [_Trial(number=n, settings=each) for n, each in enumerate(trials_of(settings, seed=loaded.config.seed))]
    found: list[TrialResult] = []
    results: dict[str, EmbedFinetuneResult] = {}
    rounds = rounds_of(len(left), settings)
    for number, (share, count) in enumerate(rounds):
        left = left[:count]
        _log.info("search: round %d, %d trials over %.0f %% of the training", number, len(left), 100 * share)
        scored: list[tuple[float, _Trial]] = []
        for trial in left:
            if not _has_time(found, share, rounds, settings, ranks):
                return found, results, True
            outcome, result = _run_trial(
                loaded, directory, trial, number, share, ranks, num_pairs=num_pairs, run_trial=run_trial
            )
            found.append(outcome)
            if result is not None:
                results[outcome.run] = result
            if outcome.score is not None:
                scored.append((outcome.score, trial))
        left = [trial for _, trial in sorted(scored, key=lambda pair: (-pair[0], pair[1].number))]
        if not left:
            break
    return found, results, False


def _has_time(
    found: Sequence[TrialResult],
    share: float,
    rounds: Sequence[tuple[float, int]],
    settings: HyperSearchConfig,
    ranks: Ranks | None,
) -> bool:
    """Whether another trial would end within the budget, going by those that have ended."""
    spent = sum(trial.seconds for trial in found)
    ended = [trial for trial in found if trial.fault is None]
    if not ended:
        return spent < settings.budget_minutes * 60
    longest = max(trial.seconds * max(1.0, share / rounds[trial.round][0]) for trial in ended[-3:])
    enough = spent + longest <= settings.budget_minutes * 60
    return bool(ranks.share(lambda: enough)) if ranks else enough


def _run_trial(
    loaded: Loaded[EmbedFinetuneConfig],
    directory: RunDirectory,
    trial: _Trial,
    number: int,
    share: float,
    ranks: Ranks | None,
    *,
    num_pairs: int,
    run_trial: RunTrial,
) -> tuple[TrialResult, EmbedFinetuneResult | None]:
    config = loaded.config
    assert config.search is not None
    name = safe_name(f"{directory.name}-t{trial.number:02d}-r{number}", kind="run name")
    whole = str(trial.settings.get("max_duration", config.max_duration))
    values = {**trial.settings, "run_name": name, "max_duration": shortened(whole, share, num_pairs=num_pairs)}
    file = _file_of(directory, name)
    if ranks is None or ranks.is_main:
        write_text(file, dump(_with(loaded.unresolved, values)))
    if ranks is not None:
        ranks.wait()
    started, cpu_started = time.monotonic(), time.process_time()
    fault, result = None, None
    try:
        result = run_trial(load(file, EmbedFinetuneConfig))
    except StoppedError:
        raise
    except GenaiError as error:
        fault = str(error)
        _log.warning("search: %s failed: %s", name, error)
    outcome = TrialResult(
        run=name,
        settings=dict(trial.settings),
        round=number,
        max_duration=str(values["max_duration"]),
        score=None if result is None else _score(result, config.search.metric),
        seconds=time.monotonic() - started if result is None else result.total_s,
        cpu_s=time.process_time() - cpu_started if result is None else result.train_cpu_s,
        fault=fault,
    )
    if ranks is not None:
        # Rank 0 alone has the result.
        outcome = TrialResult(**ranks.share(lambda: asdict(outcome)))
    if outcome.score is not None:
        _log.info("search: %s %s: %.4f (%.0f s)", name, dict(trial.settings), outcome.score, outcome.seconds)
    return outcome, result


def _score(result: EmbedFinetuneResult, metric: str) -> float | None:
    return next((change.after for change in result.validation if change.metric == metric), None)


def _best(found: Sequence[TrialResult]) -> TrialResult | None:
    """Of the trials that were trained longest the one with the best score, the earlier of two that are level."""
    scored = [trial for trial in found if trial.score is not None]
    if not scored:
        return None
    last = max(trial.round for trial in scored)
    return max((trial for trial in scored if trial.round == last), key=lambda trial: trial.score or 0.0)


def _with(unresolved: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The job file of a trial: without search and what follows, with its settings."""
    copied = {name: value for name, value in unresolved.items() if name not in ("search", "then")}
    for key, value in values.items():
        _put(copied, key.split("."), value)
    return copied


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    first, *rest = path
    if not rest:
        values[first] = value
        return
    inner = dict(values.get(first) or {})
    _put(inner, rest, value)
    values[first] = inner


def _file_of(directory: RunDirectory, run: str) -> Path:
    return directory.path / _FOLDER / f"{run}.yaml"


def _adopt(won: EmbedFinetuneResult, directory: RunDirectory) -> None:
    """Copy what the winner wrote."""
    for source, target in _copied(won, directory):
        with atomic_directory(target, existing="replace") as scratch:
            shutil.copytree(source, scratch, dirs_exist_ok=True)


def _copied(won: EmbedFinetuneResult, directory: RunDirectory) -> Iterator[tuple[Path, Path]]:
    yield Path(won.model), directory.model
    if won.adapter is not None:
        yield Path(won.adapter), directory.adapter
