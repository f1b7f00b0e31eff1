"""What an evaluation asks, opened from its section of the job file."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from genai.config.eval import EvalConfig, JudgeConfig, TargetConfig
from genai.errors import DataError, MissingExtraError
from genai.evaluation.files import EXAMPLES_FILE, RESULT_FILE, ExampleRow, read_examples, read_result
from genai.evaluation.records import EvalResult, Example, Failure, Outcome
from genai.jobs.eval_runs import content_of
from genai.models.references import resolve_model
from genai.storage.atomic import safe_name
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.evaluation.interfaces import Target

RUNS = "runs:"
BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """A run of `genai eval` that the present one is compared with: its answers are scored again, none is asked for."""

    name: str
    """In results: that of the run, unless a target is called so."""
    directory: RunDirectory
    result: EvalResult
    rows: tuple[ExampleRow, ...]
    """What its target said."""

    @property
    def run(self) -> str:
        """Its name."""
        return self.directory.name

    def content_of(self, dataset: str) -> str | None:
        """Fingerprint of a data set as that run measured it; None where it did not."""
        return content_of(self.directory, self.result, dataset)

    def outcomes(self, examples: tuple[Example, ...]) -> list[Outcome]:
        """What was said of examples then, in their order."""
        said = {row.key: row.outcome for row in self.rows}
        missing = Failure(reason=f"run {self.run} did not ask this")
        return [said.get((each.dataset, each.id), missing) for each in examples]


@dataclass(frozen=True, kw_only=True)
class Party:
    """A target or the baseline: by what name, and how it is described in the job file."""

    name: str
    """In results."""
    config: TargetConfig
    section: str
    """Of the job file, for errors."""

    @property
    def model(self) -> str:
        """What the job file says it is, for people and for the registry: a reference, a URL with a model, an index."""
        config = self.config
        if config.endpoint is not None:
            return f"{config.endpoint} {config.model}"
        return config.model or (f"index {config.index}" if config.index else f"file {config.file}")


def parties_of(config: EvalConfig) -> list[Party]:
    """The targets of a job file, in its order."""
    if config.targets:
        return [_party(each, name, f"targets.{name}") for name, each in config.targets.items()]
    assert config.target is not None, "checked with the job file"
    return [_party(config.target, None, "target")]


def baseline_of(config: EvalConfig, targets: list[Party]) -> Party | EarlierRun | None:
    """What the targets are compared with; None where the job file says nothing.

    Raises:
        DataError: the run that it names has no answers, or those of several targets.
    """
    given = config.baseline
    if given is None:
        return None
    taken = {each.name for each in targets}
    if isinstance(given, str) and given.startswith(RUNS):
        earlier = _earlier(given.removeprefix(RUNS), config.runs_dir)
        if earlier is not None:
            return replace(earlier, name=BASELINE) if earlier.name in taken else earlier
    party = _party(given, None, BASELINE)
    return replace(party, name=BASELINE) if party.name in taken else party


def open_target(party: Party, config: EvalConfig, *, allow_code: bool, examples: tuple[Example, ...] = ()) -> Target:
    """Get something ready to be asked; weights are loaded when it is.

    Args:
        party: which one.
        config: the whole job.
        allow_code: whether models may bring their own Python.
        examples: that a file of logged answers will be asked.

    Raises:
        GenaiError: there is no such model, index or file, or it could not be fetched.
    """
    given = party.config
    if given.index is not None:
        from genai.jobs.eval_index import IndexTarget

        return IndexTarget(party.name, given, allow_code=allow_code)
    if given.file is not None:
        from genai.evaluation.targets.logged import LoggedTarget

        logged = LoggedTarget(party.name, given.file)
        logged.bind(examples)
        return logged
    if given.endpoint is not None:
        from genai.evaluation.targets.endpoint import EndpointTarget

        return EndpointTarget(party.name, given, section=party.section)
    assert given.model is not None
    for package in ("torch", "transformers", "msgspec", "tokenizers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra="serve", needed_for="running a model in this process")
    from genai.jobs.eval_models import ModelTarget

    resolved = resolve_model(given.model, runs_dir=config.runs_dir)
    return ModelTarget(
        party.name, given, resolved, num_threads=config.num_threads, allow_code=allow_code, section=party.section
    )


def judge_party(name: str, judge: JudgeConfig) -> Party:
    """A judge as something that is asked."""
    given = TargetConfig(
        model=judge.model,
        endpoint=judge.endpoint,
        api_key=judge.api_key,
        sampling=judge.sampling,
        price=judge.price,
        concurrency=judge.concurrency,
        timeout_s=judge.timeout_s,
        trust_remote_code=judge.trust_remote_code,
    )
    return Party(name=name, config=given, section=f"judges.{name}")


def _party(given: TargetConfig | str, name: str | None, section: str) -> Party:
    config = TargetConfig(model=given) if isinstance(given, str) else given
    derived = config.model or config.index or Path(config.file or section).stem
    return Party(name=name or derived, config=config, section=section)


def _earlier(run: str, runs_dir: str) -> EarlierRun | None:
    """A run of `genai eval`; None where it is one of another job (a model, then)."""
    directory = RunDirectory(Path(runs_dir) / safe_name(run.partition("/")[0], kind="run name"))
    if not (directory.path / EXAMPLES_FILE).is_file():
        return None
    result = read_result(directory.path / RESULT_FILE)
    rows = read_examples(directory.path / EXAMPLES_FILE)
    if len(result.targets) != 1:
        raise DataError(
            f"run '{run}' measured {len(result.targets)} targets, a baseline is one",
            where=BASELINE,
            fix="name the model or endpoint itself",
        )
    return EarlierRun(
        name=directory.name,
        directory=directory,
        result=result,
        rows=tuple(row for row in rows if row.target == result.targets[0]),
    )
