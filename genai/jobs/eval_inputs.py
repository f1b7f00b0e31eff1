"""Everything that an evaluation needs, opened and checked before anything is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from genai.config.checks_eval import metrics_of
from genai.config.eval import DatasetConfig, DatasetKind, EvalConfig, GauntletConfig, IclTaskConfig, MetricConfig
from genai.config.gates import parse_gate
from genai.config.icl_files import load_gauntlet, load_icl_tasks
from genai.config.loading import Loaded
from genai.errors import DataError, UsageError
from genai.evaluation.contamination import Contamination, act_on, find_contamination
from genai.evaluation.datasets import load_dataset
from genai.evaluation.engines.lm_eval import check_target
from genai.evaluation.example_hash import hash_of_examples
from genai.evaluation.gating import check_gate, known_names
from genai.evaluation.icl.gauntlet import problems_of
from genai.evaluation.icl.metrics import metrics_of as metrics_of_task
from genai.evaluation.icl.tasks import kind_of as kind_of_task
from genai.evaluation.icl.tasks import load_icl
from genai.evaluation.interfaces import Metric
from genai.evaluation.judges.human_scores import HumanScore, read_human_scores
from genai.evaluation.judges.judge import Judge
from genai.evaluation.metrics.preparing import prepared
from genai.evaluation.metrics.registry import defaults_for, kinds_of, open_metric
from genai.evaluation.records import Example
from genai.jobs.eval_targets import EarlierRun, Party, baseline_of, judge_party, open_target, parties_of
from genai.jobs.problems import Problems, at
from genai.models.references import exists_problem
from genai.tables.delta import open_delta

TOTALS = ("cost_usd", "judge_cost_usd", "seconds")
"""Figures of a whole job, which gates can name."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A data set and what is measured on it."""

    name: str
    kind: DatasetKind
    examples: tuple[Example, ...]
    metrics: Mapping[str, Metric]
    """By label."""
    sha256: str
    """Of the data."""
    source: str
    """Where they come from."""
    num_rows: int
    num_skipped: int = 0
    """Rows that cannot be used."""


@dataclass(frozen=True, kw_only=True)
class EvalInputs:
    """What a job file names, checked."""

    config: EvalConfig
    targets: tuple[Party, ...]
    baseline: Party | EarlierRun | None
    suites: tuple[Suite, ...]
    judges: Mapping[str, Judge]
    human_scores: Mapping[str, Sequence[HumanScore]]
    """Judge -> what people said, for its calibration."""
    gauntlet: GauntletConfig | None
    contamination: Contamination | None

    @property
    def parties(self) -> list[Party]:
        """Who is asked: the targets, and the baseline unless an earlier run has its answers."""
        return [*self.targets, *([self.baseline] if isinstance(self.baseline, Party) else [])]

    @property
    def examples(self) -> tuple[Example, ...]:
        """Of all data sets."""
        return tuple(example for suite in self.suites for example in suite.examples)


def gather(loaded: Loaded[EvalConfig], *, allow_code: bool) -> EvalInputs:
    """Read the data, open the metrics, look up models; nothing is asked, and no weights are loaded.

    Args:
        loaded: the job file.
        allow_code: whether models may bring their own Python.

    Raises:
        ConfigError: with every fault that can be told by now.
        GateError: examples were trained on, and `contamination.action` is fail.
        GenaiError: data or a model cannot be fetched.
    """
    config, problems = loaded.config, Problems(loaded)
    targets = parties_of(config)
    baseline: Party | EarlierRun | None = None
    with problems.at("baseline"):
        baseline = baseline_of(config, targets)
    parties = [*targets, *([baseline] if isinstance(baseline, Party) else [])]
    _check_parties(parties, config, problems)
    judges = _judges(config, problems, allow_code=allow_code)
    human_scores: dict[str, Sequence[HumanScore]] = {}
    for name, judge in config.judges.items():
        with problems.at(f"judges.{name}.calibration.path"):
            human_scores[name] = read_human_scores(judge, judge=name, open_table=open_delta)
    _check_metrics(config, problems)
    suites = _suites(config, judges, problems) + _icl_suites(loaded, problems)
    gauntlet = _gauntlet(loaded, [suite.name for suite in suites], problems)
    # Where data could not be read, nobody knows what is measured on them.
    if not len(problems):
        _check_gates(config, suites, problems, has_baseline=baseline is not None)
    if isinstance(baseline, EarlierRun):
        _check_same_data(baseline, suites, problems)
    problems.raise_all()
    found = None
    if config.contamination is not None:
        every = [example for suite in suites for example in suite.examples]
        with at(loaded, "contamination.training"):
            found = find_contamination(every, config.contamination, runs_dir=config.runs_dir, open_table=open_delta)
        kept = {(each.dataset, each.id) for each in act_on(every, found, config.contamination)}
        suites = [
            replace(each, examples=tuple(one for one in each.examples if (one.dataset, one.id) in kept))
            for each in suites
        ]
    return EvalInputs(
        config=config,
        targets=tuple(targets),
        baseline=baseline,
        suites=tuple(suites),
        judges=judges,
        human_scores=human_scores,
        gauntlet=gauntlet,
        contamination=found,
    )


# --- who is asked -----------------------------------------------------------------------------------------------------


def _check_parties(parties: Sequence[Party], config: EvalConfig, problems: Problems) -> None:
    for party in parties:
        given = party.config
        if given.model is not None and given.endpoint is None:
            found = exists_problem(given.model, runs_dir=config.runs_dir)
            if found is not None:
                key = party.section if isinstance(_at(config, party.section), str) else f"{party.section}.model"
                problems.extend(key, [found])
        if config.lm_eval is not None:
            with problems.at("lm_eval"):
                check_target(given)


def _at(config: EvalConfig, section: str) -> Any:
    """What the job file says there: a section, or the text in its place."""
    first, _, name = section.partition(".")
    value = getattr(config, first)
    return value[name] if name else value


def _judges(config: EvalConfig, problems: Problems, *, allow_code: bool) -> dict[str, Judge]:
    judges: dict[str, Judge] = {}
    for name, judge in config.judges.items():
        with problems.at(f"judges.{name}"):
            target = open_target(judge_party(name, judge), config, allow_code=allow_code)
            judges[name] = Judge(name, judge, target)
    return judges


# --- what is asked, and how it is scored ------------------------------------------------------------------------------


def _check_metrics(config: EvalConfig, problems: Problems) -> None:
    """Metrics that nothing can be measured by."""
    kinds = {dataset.name: dataset.kind for dataset in config.datasets}
    for number, metric in enumerate(metrics_of(config)):
        key = f"metrics.{number}"
        with problems.at(key):
            known = kinds_of(metric.name)
            if metric.datasets is None and config.datasets and not set(kinds.values()) & set(known):
                raise UsageError(
                    f"metric '{metric.name}' is for data of kind {', '.join(known)}, and there is no such data set",
                    fix="take it out, or see genai eval metrics",
                )


def _metrics(dataset: DatasetConfig, config: EvalConfig, judges: Mapping[str, Judge]) -> dict[str, Metric]:
    """Label -> metric of a data set."""
    found = [each for each in metrics_of(config) if _is_for(each, dataset)] or defaults_for(dataset.kind)
    metrics: dict[str, Metric] = {}
    for each in found:
        label = each.label or each.name
        if label in metrics:
            fix = "give one of them another label"
            raise UsageError(f"two metrics of data set '{dataset.name}' are called '{label}'", fix=fix)
        metrics[label] = open_metric(each, judges=judges, kind=dataset.kind)
    return metrics


def _is_for(metric: MetricConfig, dataset: DatasetConfig) -> bool:
    if metric.datasets is not None:
        return dataset.name in metric.datasets
    try:
        return dataset.kind in kinds_of(metric.name)
    except UsageError:  # told once, by `_check_metrics`
        return False


def _suites(config: EvalConfig, judges: Mapping[str, Judge], problems: Problems) -> list[Suite]:
    suites: list[Suite] = []
    for number, dataset in enumerate(config.datasets):
        metrics: dict[str, Metric] = {}
        with problems.at("metrics"):
            metrics = _metrics(dataset, config, judges)
        try:
            data = load_dataset(dataset, seed=config.seed, open_table=open_delta, runs_dir=config.runs_dir)
            suites.append(
                Suite(
                    name=dataset.name,
                    kind=dataset.kind,
                    examples=tuple(prepared(data.examples, list(metrics.values()))),
                    metrics=metrics,
                    sha256=data.sha256,
                    source=dataset.path,
                    num_rows=data.num_rows,
                    num_skipped=len(data.skipped),
                )
            )
        except (UsageError, DataError) as error:
            problems.extend(_key_in_dataset(error, number), error.problems)
    return suites


def _key_in_dataset(error: UsageError | DataError, number: int) -> str:
    """The key of the job file that a fault of a data set belongs to."""
    key = getattr(error, "key", None) or "dataset.path"
    return f"datasets.{number}.{str(key).removeprefix('dataset.')}"


def _icl_suites(loaded: Loaded[EvalConfig], problems: Problems) -> list[Suite]:
    suites: list[Suite] = []
    for number, task in enumerate(icl_tasks(loaded)):
        with problems.at(f"icl_tasks.{number}" if not isinstance(loaded.config.icl_tasks, str) else "icl_tasks"):
            metrics = metrics_of_task(task)
            for label, examples in load_icl(task, loaded.config.seed, open_table=open_delta):
                suites.append(
                    Suite(
                        name=label,
                        kind=kind_of_task(task),
                        examples=tuple(examples),
                        metrics=metrics,
                        sha256=hash_of_examples(examples),
                        source=task.dataset_uri,
                        num_rows=len(examples),
                    )
                )
    return suites


def icl_tasks(loaded: Loaded[EvalConfig]) -> list[IclTaskConfig]:
    """The tasks, from the job file or the file that it names."""
    given = loaded.config.icl_tasks
    return load_icl_tasks(given) if isinstance(given, str) else given


def _gauntlet(loaded: Loaded[EvalConfig], labels: Sequence[str], problems: Problems) -> GauntletConfig | None:
    given = loaded.config.eval_gauntlet
    if given is None:
        return None
    gauntlet: GauntletConfig | None = None
    with problems.at("eval_gauntlet"):
        gauntlet = load_gauntlet(given) if isinstance(given, str) else given
    if gauntlet is not None:
        problems.extend("eval_gauntlet", problems_of(gauntlet, labels))
    return gauntlet


# --- gates ------------------------------------------------------------------------------------------------------------


def _check_gates(config: EvalConfig, suites: Sequence[Suite], problems: Problems, *, has_baseline: bool) -> None:
    """Each gate names something that is measured. What tasks of lm-eval measure turns out at the end."""
    known = known_names({suite.name: list(suite.metrics) for suite in suites}, TOTALS)
    names = {suite.name for suite in suites}
    for number, text in enumerate(config.gates):
        with problems.at(f"gates.{number}"):
            gate = parse_gate(text)
            if config.lm_eval is None or gate.dataset is None or gate.dataset in names:
                check_gate(text, known, totals=TOTALS, has_baseline=has_baseline)


def _check_same_data(baseline: EarlierRun, suites: Sequence[Suite], problems: Problems) -> None:
    for suite in suites:
        before = baseline.content_of(suite.name)
        if before is None:
            problems.add("baseline", f"run '{baseline.run}' did not measure data set '{suite.name}'")
        elif before != suite.sha256:
            fix = "run that evaluation again, or name the model or endpoint itself"
            problems.add("baseline", f"data set '{suite.name}' is not what run '{baseline.run}' measured", fix)
