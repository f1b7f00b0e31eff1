"""`genai eval --dry-run`: what would be asked of whom, and what it would cost, without asking or writing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genai.config.eval import EvalConfig
from genai.config.loading import Loaded
from genai.config.secrets import resolve
from genai.evaluation.costing import Estimate
from genai.jobs.eval import free_name
from genai.jobs.eval_costs import check_budget, estimates_of
from genai.jobs.eval_inputs import EvalInputs, gather
from genai.jobs.eval_targets import EarlierRun
from genai.jobs.problems import named_keys
from genai.jobs.training_plan import table, write_lines


@dataclass(frozen=True, kw_only=True)
class EvalPlan:
    """What an evaluation would come to."""

    run: str
    targets: Mapping[str, str]
    """Name -> what it is."""
    baseline: str | None
    datasets: Mapping[str, Mapping[str, Any]]
    """Name -> kind, examples, sha256, metrics."""
    estimates: Mapping[str, Estimate]
    """Target or judge -> what asking it takes at most; answers that are there already are asked for no more."""
    usd: float | None
    """Of all; None where no price is known."""
    gates: tuple[str, ...]
    contamination: str | None
    """In one sentence."""
    writes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)

    def text(self) -> str:
        """As the terminal shows it."""
        lines = [("run", f"{self.run}; nothing was asked")]
        lines += [("target", f"{name}: {what}" if name != what else name) for name, what in self.targets.items()]
        if self.baseline is not None:
            lines.append(("baseline", self.baseline))
        for name, each in self.datasets.items():
            skipped = f", {each['skipped']} rows skipped" if each["skipped"] else ""
            lines.append(("data", f"{name}: {each['examples']:,} examples of kind {each['kind']}{skipped}"))
            lines.append(("", f"metrics {', '.join(each['metrics'])}"))
            lines.append(("", f"sha256 {each['sha256']}"))
        if self.contamination is not None:
            lines.append(("training", self.contamination))
        for name, asked in self.estimates.items():
            price = "" if asked.usd is None else f", ${asked.usd:.4f}"
            tokens = f"{asked.prompt_tokens:,} tokens read and {asked.completion_tokens:,} written"
            lines.append(("asks", f"{name}: {asked.num_questions:,} questions, at most about {tokens}{price}"))
        if self.usd is not None:
            lines.append(("cost", f"at most about ${self.usd:.4f}"))
        lines += [("gate", gate) for gate in self.gates]
        return table([*lines, *write_lines(self.writes)])


def make_plan(loaded: Loaded[EvalConfig], *, run_name: str | None = None, allow_code: bool = False) -> EvalPlan:
    """Read and check everything that an evaluation would, credentials too.

    Args:
        loaded: the job file.
        run_name: name of the run directory.
        allow_code: the command line lets a model bring its own Python.

    Raises:
        GenaiError: what the evaluation would fail with.
    """
    config = loaded.config
    with named_keys(loaded):
        inputs = gather(loaded, allow_code=allow_code)
        keys = [party.config.api_key for party in inputs.parties]
        for key in [*keys, *(judge.api_key for judge in config.judges.values())]:
            if key is not None:
                resolve(key)
    estimates = estimates_of(inputs)
    check_budget(estimates, config)
    priced = [each.usd for each in estimates.values() if each.usd is not None]
    folder = Path(config.runs_dir) / free_name(loaded, run_name)
    return EvalPlan(
        run=folder.name,
        targets={party.name: party.model for party in inputs.targets},
        baseline=_baseline(inputs),
        datasets={
            suite.name: {
                "kind": suite.kind,
                "examples": len(suite.examples),
                "skipped": suite.num_skipped,
                "sha256": suite.sha256,
                "metrics": list(suite.metrics),
            }
            for suite in inputs.suites
        },
        estimates=estimates,
        usd=sum(priced) if priced else None,
        gates=tuple(config.gates),
        contamination=None if inputs.contamination is None else inputs.contamination.summary(),
        writes=tuple([str(folder), *([config.junit] if config.junit else [])]),
    )


def _baseline(inputs: EvalInputs) -> str | None:
    baseline = inputs.baseline
    if baseline is None:
        return None
    return f"run {baseline.run}" if isinstance(baseline, EarlierRun) else f"{baseline.name}: {baseline.model}"
