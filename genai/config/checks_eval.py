"""What in an evaluation contradicts itself or has no effect, as far as the job file alone tells.

Whether a metric exists, and whether a gate names one that is measured, is for the job: metrics are plugins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from genai.config.checks_eval_targets import (
    RUNS,
    all_targets,
    check_endpoint,
    check_sampling,
    check_targets,
    is_priced,
    kind_of,
)
from genai.config.checks_sections import idle
from genai.config.eval import DatasetConfig, DatasetKind, EvalConfig, JudgeConfig, MetricConfig, StatisticsConfig
from genai.config.findings import Finding, fault, no_effect
from genai.config.gates import Gate, parse_gate
from genai.errors import UsageError
from genai.registry import suggest

COLUMNS = (
    *("id", "prompt", "messages", "reference", "contexts", "label", "tools", "text", "query", "choices", "gold"),
    *("context", "continuation", "context_options", "relevant", "synthetic"),
)
"""Columns of a data set, which `columns` may rename."""
LIKELIHOOD_KINDS: tuple[DatasetKind, ...] = ("text", "multiple_choice", "language_modeling", "schema")
"""Kinds of which no answer is asked, but how likely a text is."""
ASK_A_JUDGE = (
    *("answer_relevance", "citation_correctness", "context_precision", "context_recall", "groundedness", "judge"),
    *("toxicity", "win_rate"),
)
"""Metrics that are nothing without a judge."""
_ANSWERED: tuple[DatasetKind, ...] = ("generation", "classification")
_OF_ANSWERS = ("max_tokens", "stop", "json_schema")
_DATASET_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?")
_LABEL = re.compile(r"[A-Za-z_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:@[1-9][0-9]*)?")
_FEWEST_RESAMPLES = 100


def check_eval(config: EvalConfig) -> list[Finding]:
    """Faults that no single field shows, and settings without an effect."""
    return [finding for check in _CHECKS for finding in check(config)]


def metrics_of(config: EvalConfig) -> list[MetricConfig]:
    """The metrics, those given by name alone too."""
    return [MetricConfig(name=each) if isinstance(each, str) else each for each in config.metrics]


def judges_of(metric: MetricConfig, config: EvalConfig) -> list[str]:
    """Names of the judges that a metric asks; where it names none, the only one that there is."""
    if metric.judge is not None:
        return [metric.judge] if isinstance(metric.judge, str) else metric.judge
    return list(config.judges) if metric.name in ASK_A_JUDGE and len(config.judges) == 1 else []


# --- data -------------------------------------------------------------------------------------------------------------


def _datasets(config: EvalConfig) -> Iterator[Finding]:
    if not config.datasets and config.lm_eval is None and not config.icl_tasks:
        fix = "write datasets: [{name: faq, path: FILE}], or lm_eval or icl_tasks"
        yield fault("datasets", "there is nothing to measure with: datasets is missing", fix)
    names = [dataset.name for dataset in config.datasets]
    for number, dataset in enumerate(config.datasets):
        key = f"datasets.{number}"
        if dataset.name in names[:number]:
            yield fault(f"{key}.name", f"two data sets are called '{dataset.name}'", "give each a name of its own")
        if not _DATASET_NAME.fullmatch(dataset.name) or dataset.name == "baseline":
            fix = "take letters, digits, - and _, e.g. faq"
            yield fault(f"{key}.name", f"'{dataset.name}' cannot be the name of a data set", fix)
        yield from _dataset(key, dataset)
        yield from _fits_targets(key, dataset, config)


def _dataset(key: str, dataset: DatasetConfig) -> Iterator[Finding]:
    for name in dataset.columns:
        if name not in COLUMNS:
            near = suggest(name, COLUMNS)
            fix = f"did you mean '{near}'? it is our name: the file's name" if near else f"known: {', '.join(COLUMNS)}"
            yield fault(f"{key}.columns.{name}", f"no data set has a column '{name}'", fix)
    if dataset.few_shot is not None and dataset.kind in ("text", "retrieval"):
        message = f"a data set of kind {dataset.kind} has no solved examples"
        yield fault(f"{key}.few_shot", message, "remove few_shot")
    if dataset.prompt is not None and dataset.kind in ("text", "schema"):
        yield no_effect(f"{key}.prompt", f"kind {dataset.kind} has no prompt")
    if dataset.kind not in _ANSWERED:
        defaults = DatasetConfig(name=dataset.name, path=dataset.path)
        yield from idle(dataset, defaults, key, _OF_ANSWERS, f"kind {dataset.kind} asks for no answer")
    if not dataset.path.startswith("hf:"):
        yield from idle(dataset, DatasetConfig(name="x", path=""), key, ("split",), "only hf: data sets have splits")
    if dataset.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{8,64}", dataset.sha256):
        fix = "write the hash that --dry-run prints, or its first 8 characters or more"
        yield fault(f"{key}.sha256", f"{key}.sha256 is no hash", fix)
    if dataset.sha256 is not None and dataset.path.startswith("delta:") and "@" not in dataset.path:
        yield fault(f"{key}.path", "the table has a sha256, but no version", f"write {dataset.path}@VERSION")
    for name in sorted({name for name in dataset.slices if dataset.slices.count(name) > 1}):
        yield fault(f"{key}.slices", f"{key}.slices names '{name}' twice", "name each column once")


def _fits_targets(key: str, dataset: DatasetConfig, config: EvalConfig) -> Iterator[Finding]:
    for where, target in all_targets(config).items():
        kind = kind_of(target)
        if isinstance(target, str) and where == "baseline" and target.startswith(RUNS):
            continue
        if dataset.kind == "retrieval" and kind in ("model", "endpoint"):
            fix = f"write {where}: {{index: NAME}}"
            yield fault(f"{key}.kind", f"kind retrieval is for an index, and {where} is none", fix)
        elif dataset.kind != "retrieval" and kind == "index":
            message = f"kind {dataset.kind} is not for an index, which {where} is"
            yield fault(f"{key}.kind", message, "write kind: retrieval")
        elif dataset.kind in LIKELIHOOD_KINDS and kind == "file":
            message = f"kind {dataset.kind} asks how likely texts are, which the answers in {where} do not tell"
            yield fault(f"{key}.kind", message, "name a model or an endpoint")


def _contamination(config: EvalConfig) -> Iterator[Finding]:
    contamination = config.contamination
    if contamination is None:
        return
    if not config.datasets:
        yield no_effect("contamination", "there are no datasets")
    if contamination.threshold == 0:
        message = "a threshold of 0 would call every example contaminated"
        yield fault("contamination.threshold", message, "write 0.5")
    if contamination.training.startswith(RUNS) and contamination.columns:
        yield no_effect("contamination.columns", "the run knows its columns")


def _other_engines(config: EvalConfig) -> Iterator[Finding]:
    if config.lm_eval is not None and not config.lm_eval.tasks:
        yield fault("lm_eval.tasks", "lm_eval.tasks is empty", "name at least one task")
    if config.eval_gauntlet is not None and not config.icl_tasks:
        yield fault("eval_gauntlet", "eval_gauntlet averages over icl_tasks, and there are none", "write icl_tasks")
    engines = {"lm_eval": config.lm_eval is not None, "icl_tasks": bool(config.icl_tasks)}
    for engine in (name for name, wanted in engines.items() if wanted):
        for where, target in all_targets(config).items():
            if (kind := kind_of(target)) in ("index", "file"):
                message = f"{engine} asks how likely texts are, which {where} does not tell: it is of kind {kind}"
                yield fault(engine, message, "name a model or an endpoint")


# --- metrics, judges --------------------------------------------------------------------------------------------------


def _metrics(config: EvalConfig) -> Iterator[Finding]:
    names = [dataset.name for dataset in config.datasets]
    measured: dict[tuple[str, str], int] = {}
    for number, metric in enumerate(metrics_of(config)):
        key = f"metrics.{number}"
        label = metric.label or metric.name
        if not _LABEL.fullmatch(label):
            fix = "take letters, digits, - and _, e.g. label: f1"
            where = key if metric.label is None else f"{key}.label"
            yield fault(where, f"'{label}' cannot be what a metric is called", fix)
        for name in metric.datasets or []:
            if name not in names:
                near = suggest(name, names)
                fix = f"did you mean '{near}'?" if near else f"known: {', '.join(names) or 'none'}"
                yield fault(f"{key}.datasets", f"there is no data set '{name}'", fix)
        for name in dict.fromkeys(metric.datasets or names):
            before = measured.setdefault((name, label), number)
            if before != number:
                fix = "give one of them a label"
                yield fault(key, f"'{label}' is measured twice on {name}: metrics.{before} is called so too", fix)
                break
        yield from _judged(key, metric, config)
    if config.metrics and not config.datasets:
        yield no_effect("metrics", "there are no datasets; tasks of other engines have their own")


def _judged(key: str, metric: MetricConfig, config: EvalConfig) -> Iterator[Finding]:
    names = judges_of(metric, config)
    where = key if metric.judge is None else f"{key}.judge"
    for name in names:
        if name not in config.judges:
            near = suggest(name, config.judges)
            known = f"known: {', '.join(config.judges)}" if config.judges else "write judges: {NAME: {model: ...}}"
            yield fault(where, f"there is no judge '{name}'", f"did you mean '{near}'?" if near else known)
    if not names and metric.name in ASK_A_JUDGE:
        fix = f"write judge: {next(iter(config.judges))}" if config.judges else "write judges: {NAME: {model: ...}}"
        yield fault(where, f"{metric.name} needs to know which judge is asked", fix)
    if (metric.pairwise or metric.name == "win_rate") and config.baseline is None:
        message = "answers can only be compared side by side when there is a baseline"
        yield fault(where if metric.pairwise is None else f"{key}.pairwise", message, "write baseline")


def _judges(config: EvalConfig) -> Iterator[Finding]:
    used = {name for metric in metrics_of(config) for name in judges_of(metric, config)}
    for name, judge in config.judges.items():
        key = f"judges.{name}"
        if name not in used:
            yield no_effect(key, "no metric asks this judge")
        low, high = judge.scale
        if low >= high:
            yield fault(f"{key}.scale", f"{key}.scale goes from {low} to {high}", "write worst and best: [1, 5]")
        if judge.calibration is not None and not -1 <= judge.calibration.min_kappa <= 1:
            yield fault(f"{key}.calibration.min_kappa", "kappa lies between -1 and 1", "write 0.4")
        yield from check_sampling(judge.sampling, f"{key}.sampling")
        defaults = JudgeConfig(model=judge.model)
        if judge.endpoint is None:
            yield from idle(judge, defaults, key, ("api_key",), "the judge runs in this process")
        else:
            yield from check_endpoint(judge.endpoint, f"{key}.endpoint")
            yield from idle(judge, defaults, key, ("trust_remote_code",), "the endpoint decides that")


# --- gates ------------------------------------------------------------------------------------------------------------


def _gates(config: EvalConfig) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for number, text in enumerate(config.gates):
        key = f"gates.{number}"
        try:
            gate = parse_gate(text)
        except UsageError as error:
            yield fault(key, error.message, error.fix)
            continue
        if gate.from_baseline and config.baseline is None:
            fix = "write baseline: a model reference, or runs:RUN of an earlier evaluation"
            yield fault(key, f"the condition '{gate}' compares with a baseline, and there is none", fix)
        if seen.setdefault(str(gate), number) != number:
            yield no_effect(key, f"gates.{seen[str(gate)]} says the same")
        yield from _rests_on_judges(key, gate, config)


def _rests_on_judges(key: str, gate: Gate, config: EvalConfig) -> Iterator[Finding]:
    for metric in metrics_of(config):
        applies = gate.dataset is None or metric.datasets is None or gate.dataset in metric.datasets
        if (metric.label or metric.name) != gate.measure or not applies:
            continue
        for name in judges_of(metric, config):
            judge = config.judges.get(name)
            if judge is not None and judge.calibration is None:
                message = (
                    f"the condition '{gate}' rests on the judge '{name}', of whom nobody knows whether people agree"
                )
                yield fault(key, message, f"write judges.{name}.calibration.path, with answers that people have scored")


# --- the whole --------------------------------------------------------------------------------------------------------


def _statistics(config: EvalConfig) -> Iterator[Finding]:
    statistics = config.statistics
    usual = StatisticsConfig()
    for name in ("confidence", "alpha", "power"):
        if not 0 < getattr(statistics, name) < 1:
            key = f"statistics.{name}"
            yield fault(key, f"{key} must lie between 0 and 1", f"write {getattr(usual, name)}")
    if statistics.num_resamples < _FEWEST_RESAMPLES:
        message = f"{statistics.num_resamples} resamples say nothing of a {statistics.confidence:.0%} interval"
        yield fault(
            "statistics.num_resamples", message, f"write {_FEWEST_RESAMPLES} or more; {usual.num_resamples:,} is usual"
        )


def _budget(config: EvalConfig) -> Iterator[Finding]:
    parts = [*all_targets(config).values(), *config.judges.values()]
    if config.max_usd is not None and not any(is_priced(part) for part in parts):
        yield no_effect("max_usd", "no price is given, neither of a target nor of a judge")
    if config.junit is not None and not config.gates:
        yield no_effect("junit", "there are no gates")


_CHECKS: tuple[Callable[[EvalConfig], Iterator[Finding]], ...] = (
    check_targets,
    _datasets,
    _contamination,
    _other_engines,
    _metrics,
    _judges,
    _gates,
    _statistics,
    _budget,
)
