"""`genai eval`, from the job file to a verdict. This module reads like the verb's docs:

read and check everything -> open a run -> see how far judges agree with people -> ask every target every question
-> score the answers -> compare with the baseline -> gates -> report

What was answered is on the disk at once: the same command goes on where it was broken off. A finished evaluation is
not taken up again, since an endpoint may answer otherwise today: the next one is a run of its own, `NAME-2`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from genai.config.eval import EvalConfig
from genai.config.loading import Loaded
from genai.errors import GateError, UsageError
from genai.evaluation.costing import total
from genai.evaluation.engines.lm_eval import run_lm_eval
from genai.evaluation.files import EXAMPLES_FILE, RESULT_FILE, result_to_json, write_examples, write_result
from genai.evaluation.gating import judge_gates
from genai.evaluation.icl.gauntlet import averages
from genai.evaluation.interfaces import Metric, Target
from genai.evaluation.judges.calibration import Calibration, calibrate_all
from genai.evaluation.judges.kept import KeptTarget
from genai.evaluation.junit import write_junit
from genai.evaluation.measuring import correct, measure
from genai.evaluation.records import EvalResult, GateOutcome, Measured, Outcome, Scored, Usage
from genai.evaluation.running import collect
from genai.evaluation.stopping import Stop, stop_on_signals
from genai.evaluation.store import AnswerStore, open_store, scope_of
from genai.evaluation.summary_markdown import append_step_summary
from genai.jobs import eval_report
from genai.jobs.eval_costs import check_budget, estimates_of
from genai.jobs.eval_inputs import EvalInputs, gather
from genai.jobs.eval_scoring import asks_judges, doubts, judge_notes, open_judges, score_suite
from genai.jobs.eval_targets import EarlierRun, Party, open_target
from genai.jobs.problems import named_keys
from genai.jobs.training_run import held, name_of_run, write_beginning
from genai.log import get_logger
from genai.storage.atomic import cache_dir, safe_name, write_json
from genai.tracking.metrics import plain
from genai.tracking.run import RunDirectory

ANSWERS = "answers.sqlite"
"""In the run directory: answers of what nobody can fingerprint. Those of models lie in the cache, for all runs."""
CALIBRATION = "calibration.json"
"""In the run directory: how far judges agree with people."""
T = TypeVar("T")
_log = get_logger(__name__)


def run(loaded: Loaded[EvalConfig], *, run_name: str | None = None, allow_code: bool = False) -> EvalResult:
    """Carry out an evaluation, or go on with one that was broken off.

    Args:
        loaded: the checked job file.
        run_name: name of the run directory.
        allow_code: the command line lets a model bring its own Python.

    Raises:
        ConfigError: the job file cannot be carried out.
        StoppedError: a signal came; what was answered stays.
        GenaiError: see `genai.errors` for the exit codes. Gates that do not hold are no error here, see `check_gates`.
    """
    began = time.monotonic()
    with named_keys(loaded):
        inputs = gather(loaded, allow_code=allow_code)
        check_budget(estimates_of(inputs), loaded.config)
        directory = RunDirectory.open(loaded.config.runs_dir, free_name(loaded, run_name))
        with held(directory, is_main=True):
            evaluation = _Evaluation(loaded, inputs, directory, allow_code=allow_code)
            asyncio.run(evaluation.ask_and_score())
            evaluation.run_lm_eval()
            return evaluation.finish(began)


def check_gates(result: EvalResult) -> None:
    """End with exit code 3 when a gate does not hold.

    Raises:
        GateError: names each that does not.
    """
    broken = [gate for gate in result.gates if not gate.passed]
    if broken:
        reasons = "; ".join(f"{gate.gate}: {gate.reason}" for gate in broken)
        raise GateError(
            f"{len(broken)} of {len(result.gates)} gates do not hold: {reasons}", fix=f"see {result.report}"
        )


def to_json(result: EvalResult) -> dict[str, Any]:
    """As `--json` prints it."""
    return result_to_json(result)


def free_name(loaded: Loaded[EvalConfig], run_name: str | None) -> str:
    """The name of a run that is not finished."""
    base = name_of_run(loaded, run_name)
    name, number = base, 1
    while (Path(loaded.config.runs_dir) / name / RESULT_FILE).is_file():
        number += 1
        name = safe_name(f"{base}-{number}", kind="run name")
    return name


@dataclass
class _Found:
    """What was found of one target."""

    scored: dict[str, list[Scored]] = field(default_factory=dict)
    """By data set."""
    whole: list[Measured] = field(default_factory=list)
    """Figures that another product added up."""
    usage: Usage = field(default_factory=Usage)


class _Evaluation:
    """An evaluation under way."""

    def __init__(
        self, loaded: Loaded[EvalConfig], inputs: EvalInputs, directory: RunDirectory, *, allow_code: bool
    ) -> None:
        self._loaded, self._config, self._inputs = loaded, loaded.config, inputs
        self._directory, self._allow_code = directory, allow_code
        self._found: dict[str, _Found] = {}
        self._metrics: dict[str, Mapping[str, Metric]] = {suite.name: suite.metrics for suite in inputs.suites}
        self._fingerprints = {suite.name: suite.sha256 for suite in inputs.suites}
        self._num_examples = {suite.name: len(suite.examples) for suite in inputs.suites}
        self._calibrations: list[Calibration] = []
        self._spent_usd = 0.0

    # --- asking and scoring -------------------------------------------------------------------------------------------

    async def ask_and_score(self) -> None:
        """All that is asked and scored here."""
        targets = {party.name: self._open(party) for party in self._inputs.parties}
        self._note_inputs(targets)
        with ExitStack() as stack:
            stop = stack.enter_context(stop_on_signals())
            kept = stack.enter_context(open_store(cache_dir() / "answers" / "eval" / ANSWERS))
            of_run = stack.enter_context(open_store(self._directory.path / ANSWERS))
            for judge in self._inputs.judges.values():
                store = of_run if judge.target.fingerprint is None else kept
                judge.target = KeptTarget(judge.target, store, scope=self._scope(asdict(judge.config)))
            async with AsyncExitStack() as judging:
                if asks_judges(self._inputs.suites):
                    await _unless(stop, "getting judges ready", open_judges(self._inputs.judges, judging))
                    await _unless(stop, "calibrating judges", self._calibrate())
                outcomes = {
                    party.name: await self._ask(party, targets[party.name], kept, of_run, stop)
                    for party in self._inputs.parties
                }
                await _unless(stop, "scoring", self._score(outcomes))

    def _open(self, party: Party) -> Target:
        return open_target(party, self._config, allow_code=self._allow_code, examples=self._inputs.examples)

    def _scope(self, settings: Mapping[str, Any]) -> str:
        return scope_of(self._directory.name, settings)

    async def _calibrate(self) -> None:
        metrics = {label: metric for suite in self._inputs.suites for label, metric in suite.metrics.items()}
        self._calibrations = await calibrate_all(metrics, self._inputs.human_scores)
        for calibration in self._calibrations:
            _log.info("%s", "\n".join(calibration.lines()))
        if self._calibrations:
            write_json(self._directory.path / CALIBRATION, plain([asdict(each) for each in self._calibrations]))

    async def _ask(
        self, party: Party, target: Target, kept: AnswerStore, of_run: AnswerStore, stop: Stop
    ) -> dict[str, list[Outcome]]:
        """By data set."""
        examples = self._inputs.examples
        left_usd = None if self._config.max_usd is None else self._config.max_usd - self._spent_usd
        found = await collect(
            target,
            examples,
            store=of_run if target.fingerprint is None else kept,
            kept_as=self._scope(asdict(party.config)),
            max_usd=left_usd,
            max_failures=int(self._config.max_failures * len(examples)),
            stop=stop,
        )
        spent = total(found)
        self._spent_usd += spent.usd or 0.0
        self._found[party.name] = _Found(usage=spent)
        outcomes: dict[str, list[Outcome]] = {suite.name: [] for suite in self._inputs.suites}
        for example, outcome in zip(examples, found, strict=True):
            outcomes[example.dataset].append(outcome)
        return outcomes

    async def _score(self, outcomes: dict[str, dict[str, list[Outcome]]]) -> None:
        baseline = self._inputs.baseline
        if isinstance(baseline, EarlierRun):
            outcomes[baseline.name] = {suite.name: baseline.outcomes(suite.examples) for suite in self._inputs.suites}
            self._found[baseline.name] = _Found()
        for name, of_target in outcomes.items():
            others = outcomes[baseline.name] if baseline is not None and name != baseline.name else None
            for suite in self._inputs.suites:
                self._found[name].scored[suite.name] = await score_suite(
                    suite,
                    of_target[suite.name],
                    name=name,
                    baseline=None if others is None else others[suite.name],
                )

    def run_lm_eval(self) -> None:
        """Tasks of lm-eval, on every target and the baseline."""
        config = self._config.lm_eval
        if config is None:
            return
        for party in self._inputs.parties:
            result = run_lm_eval(
                config,
                party.config,
                name=party.name,
                runs_dir=self._config.runs_dir,
                seed=self._config.seed,
                confidence=self._config.statistics.confidence,
                allow_code=self._allow_code,
            )
            found = self._found[party.name]
            for task in result.tasks:
                found.scored[task.name] = list(task.scored)
                found.whole += task.whole
                self._metrics[task.name] = task.metrics
                self._fingerprints[task.name] = task.sha256
                self._num_examples[task.name] = len(task.scored)
        baseline = self._inputs.baseline
        if isinstance(baseline, EarlierRun):
            for row in baseline.rows:
                if row.dataset not in self._inputs_names:
                    self._found[baseline.name].scored.setdefault(row.dataset, []).append(row.scored())

    @property
    def _inputs_names(self) -> set[str]:
        return {suite.name for suite in self._inputs.suites}

    # --- results ------------------------------------------------------------------------------------------------------

    def finish(self, began: float) -> EvalResult:
        """Add everything up, judge the gates, and write it down; result.json is written last.

        Args:
            began: time.monotonic() of the start.
        """
        measured = correct(self._measured(), self._config.statistics)
        usage = {name: found.usage for name, found in self._found.items()}
        usage |= {name: judge.usage for name, judge in self._inputs.judges.items()}
        seconds = time.monotonic() - began
        targets = [party.name for party in self._inputs.targets]
        totals = {
            "cost_usd": sum(each.usd or 0.0 for each in usage.values()),
            "judge_cost_usd": sum(judge.usage.usd or 0.0 for judge in self._inputs.judges.values()),
            "seconds": seconds,
        }
        gauntlet = self._inputs.gauntlet
        result = EvalResult(
            run=self._directory.name,
            path=str(self._directory.path),
            targets=tuple(targets),
            baseline=self._baseline_name,
            measured=tuple(measured),
            gates=tuple(each for gate in self._config.gates for each in self._judge(gate, measured, totals)),
            usage=usage,
            num_examples=self._num_examples,
            fingerprints=self._fingerprints,
            warnings=tuple(self._warnings()),
            averages={}
            if gauntlet is None
            else {name: averages(gauntlet, [each for each in measured if each.target == name]) for name in self._found},
            report=str(self._directory.report),
            seconds=seconds,
        )
        return self._write(result)

    def _judge(self, gate: str, measured: list[Measured], totals: Mapping[str, float]) -> list[GateOutcome]:
        """One gate for every target. What it names was checked before the start but for tasks of lm-eval: a gate on
        what these did not measure does not hold, and takes no result with it.
        """
        targets = [party.name for party in self._inputs.targets]
        try:
            return judge_gates([gate], measured, totals, targets=targets, statistics=self._config.statistics)
        except UsageError as error:
            return [GateOutcome(gate=gate, target=name, passed=False, reason=str(error)) for name in targets]

    @property
    def _baseline_name(self) -> str | None:
        baseline = self._inputs.baseline
        return None if baseline is None else baseline.name

    def _measured(self) -> list[Measured]:
        measured: list[Measured] = []
        baseline = self._found.get(self._baseline_name) if self._baseline_name is not None else None
        suites = {suite.name: suite for suite in self._inputs.suites}
        for name, found in self._found.items():
            for dataset, scored in found.scored.items():
                if dataset not in self._metrics:
                    continue
                others = None if baseline is None or found is baseline else baseline.scored.get(dataset)
                suite = suites.get(dataset)
                new = measure(
                    name,
                    scored,
                    self._shown_metrics(dataset, scored),
                    baseline=others,
                    statistics=self._config.statistics,
                    seed=self._config.seed,
                    untrusted={} if suite is None else doubts(suite, self._calibrations),
                )
                notes = {} if suite is None else judge_notes(suite, scored)
                measured += [replace(each, notes=(*each.notes, *notes.get(each.metric, ()))) for each in new]
            measured += found.whole
        return measured

    def _shown_metrics(self, dataset: str, scored: list[Scored]) -> dict[str, Metric]:
        """Without those that could not be asked at all, as a comparison with nothing."""
        return {
            label: metric
            for label, metric in self._metrics[dataset].items()
            if any(label in each.scores for each in scored) or not hasattr(metric, "compare")
        }

    def _warnings(self) -> list[str]:
        warnings = [
            f"{suite.name}: {suite.num_skipped} of {suite.num_rows} rows could not be used"
            for suite in self._inputs.suites
            if suite.num_skipped
        ]
        found = self._inputs.contamination
        if found is not None and found.contaminated:
            warnings.append(found.summary())
        return warnings

    def _note_inputs(self, targets: Mapping[str, Target]) -> None:
        """Save what the run is made from, before anything is asked."""
        known = {name: target.fingerprint or "unknown" for name, target in targets.items()}
        known |= {name: judge.fingerprint for name, judge in self._inputs.judges.items()}
        self._fingerprints = known | self._fingerprints  # where a target is called like a data set
        lineage: dict[str, Any] = {
            "targets": {
                party.name: {
                    "reference": party.model,
                    "fingerprint": getattr(targets[party.name], "model_fingerprint", None) or known[party.name],
                }
                for party in self._inputs.parties
            },
            "datasets": {
                suite.name: {"path": suite.source, "fingerprint": suite.sha256, "examples": len(suite.examples)}
                for suite in self._inputs.suites
            },
        }
        baseline = self._inputs.baseline
        if isinstance(baseline, EarlierRun):
            lineage["baseline"] = {"run": baseline.run}
        if self._inputs.contamination is not None:
            lineage["contamination"] = self._inputs.contamination.to_json()
        write_beginning(self._directory, self._loaded, lineage)

    def _write(self, result: EvalResult) -> EvalResult:
        every = {name: [each for of in found.scored.values() for each in of] for name, found in self._found.items()}
        write_examples(self._directory.path / EXAMPLES_FILE, every)
        baseline = every.get(result.baseline) if result.baseline is not None else None
        eval_report.write(self._directory, self._loaded, result, every, baseline)
        if self._config.junit is not None:
            write_junit(Path(self._config.junit), result)
        append_step_summary(result)
        write_result(self._directory.path / RESULT_FILE, result)
        return result


async def _unless(stop: Stop, what: str, doing: Coroutine[Any, Any, T]) -> T:
    """Do something until it is done, or a signal comes.

    Raises:
        StoppedError: one came.
    """
    task = asyncio.create_task(doing)
    waiting = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            raise stop.error(what)
        return task.result()
    finally:
        waiting.cancel()
