"""Tasks of EleutherAI's lm-evaluation-harness, on a model in this process or behind an endpoint; its only door.

The model that is measured is loaded as everywhere in genai and handed to lm-eval; an endpoint is asked through
/v1/completions, which must answer `echo` with log-probabilities, as `genai serve` and vLLM do. Both find the same
scores. For a text that is longer than the context, windows through an endpoint are two tokens shorter, because it wants
room for the token that it must write: give `max_model_len` two more there.

Task files of the user's own are read as data: what would run Python in them is refused (`lm_eval_files`), and their
Jinja runs in a sandbox.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genai.config.eval import LmEvalConfig, TargetConfig
from genai.config.finetune import HFCausalLMConfig, TokenizerConfig
from genai.config.secrets import resolve
from genai.errors import CredentialsError, DataError, GenaiError, MissingExtraError, UsageError
from genai.evaluation.engines.lm_eval_files import check_task_files
from genai.evaluation.engines.lm_eval_scores import LmEvalTask, MetricOfTask, label_of, read_task
from genai.log import get_logger
from genai.models.loading import load_model, load_tokenizer
from genai.models.precision import device, dtype_for
from genai.models.quiet import quiet_transformers
from genai.models.references import ResolvedModel, resolve_model
from genai.registry import suggest

EXTRA = "lm-eval"
"""The extra that brings it."""
_DEFAULT_CONTEXT = 2048
"""lm-eval's own guess for an endpoint."""
_ASKING_TIMEOUT_S = 10.0
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class LmEvalResult:
    """All that lm-eval found for one target."""

    tasks: tuple[LmEvalTask, ...]
    """Each task, those of groups too."""
    averages: Mapping[str, float] = field(default_factory=dict)
    """GROUP.METRIC -> lm-eval's average over the tasks of a group."""
    version: str = ""
    """Of lm-eval."""


def run_lm_eval(
    config: LmEvalConfig,
    target: TargetConfig,
    *,
    name: str,
    resolved: ResolvedModel | None = None,
    runs_dir: str | Path = "runs",
    seed: int = 17,
    confidence: float = 0.95,
    allow_code: bool = False,
) -> LmEvalResult:
    """Carry out tasks on one target. Blocks until all is done, and must not be called from within an event loop.

    Sampling of solved examples and of answers is seeded as by lm-eval's own command line, so that scores are the same.

    Args:
        config: which tasks.
        target: a model or an endpoint; of an endpoint the name that it knows the model by is needed.
        name: of the target, in results.
        resolved: its model, where it was looked up already.
        runs_dir: for references that name a run.
        seed: of resamples.
        confidence: of intervals that are made here.
        allow_code: task files may run Python of their own.

    Raises:
        MissingExtraError: lm-eval is not installed.
        UsageError: there is no such task, a task file runs Python, or the target can be asked no likelihoods.
        CredentialsError: the endpoint refuses the key.
        DataError: a task's data cannot be had.
        GenaiError: lm-eval failed otherwise.
    """
    _need("lm_eval")
    check_target(target)
    with _quiet(), _sandboxed(allow_code):
        manager, roots = _load_tasks(config, allow_code=allow_code)
        model = (
            _model(config, target, resolved, runs_dir)
            if target.endpoint is None
            else _endpoint(config, target, runs_dir)
        )
        found = _evaluate(model, manager, roots, config, target)
    return _read(found, roots, target=name, seed=seed, confidence=confidence)


def check_target(target: TargetConfig) -> None:
    """Say what lm-eval cannot measure, before anything is loaded.

    Raises:
        UsageError: the target is an index or a file, an endpoint whose model has no name, or has 8-bit arithmetic.
    """
    if target.index is not None or target.file is not None:
        raise UsageError("lm_eval measures models and endpoints only", fix="give it a target of its own job file")
    if target.model is None:
        raise UsageError("lm_eval must know the name of the endpoint's model", fix="set target.model")
    if target.precision == "int8":
        raise UsageError("lm_eval runs models in bf16 or fp32", fix="set target.precision: auto")


# --- tasks ------------------------------------------------------------------------------------------------------------


def _load_tasks(config: LmEvalConfig, *, allow_code: bool) -> tuple[Any, list[Any]]:
    """lm-eval's index, and the tasks and groups that were named."""
    manager = _manager(config, allow_code=allow_code)
    roots: list[Any] = []
    for spec in config.tasks:
        with _explained(f"the task {spec} cannot be loaded", where=spec):
            loaded = manager.load([spec])
        groups = loaded.get("groups", {})
        members = {child for group in groups.values() for child in group.child_names}
        tops = [group for name, group in groups.items() if name not in members]
        roots += tops or list(loaded["tasks"].values())
    return manager, roots


def _manager(config: LmEvalConfig, *, allow_code: bool) -> Any:
    """lm-eval's index of tasks. Its own ten thousand files are read only where a name is not found without them."""
    from lm_eval.tasks import TaskManager

    own = [Path(spec) for spec in config.tasks if Path(spec).suffix in (".yaml", ".yml")]
    for path in [*own, *([Path(config.include_path)] if config.include_path else [])]:
        if not path.exists():
            raise UsageError(f"there is no {path}", where="lm_eval", fix="name a task file or a folder of task files")
    if not allow_code:
        check_task_files(own, config.include_path, known_metrics=_known_metrics(), trusted=_package_folder())
    names = [spec for spec in config.tasks if Path(spec) not in own]
    manager = TaskManager(include_path=config.include_path, include_defaults=False)
    if all(name in manager.all_tasks for name in names):
        return manager
    manager = TaskManager(include_path=config.include_path, include_defaults=True)
    for name in names:
        if name not in manager.all_tasks:
            near = suggest(name, manager.all_tasks)
            fix = f"did you mean '{near}'?" if near else "lm-eval ls tasks lists them; files end in .yaml"
            raise UsageError(f"lm-eval knows no task '{name}'", where="lm_eval.tasks", fix=fix)
    return manager


def _known_metrics() -> frozenset[str]:
    """Metrics of lm-eval's own; any other name is looked up on the hub, and its code is run."""
    import lm_eval.api.metrics  # noqa: F401  # registers them
    from lm_eval.api.registry import METRIC_REGISTRY

    return frozenset(METRIC_REGISTRY.keys())


def _package_folder() -> Path:
    import lm_eval

    return Path(str(lm_eval.__file__)).parent


# --- models -----------------------------------------------------------------------------------------------------------


def _model(config: LmEvalConfig, target: TargetConfig, resolved: ResolvedModel | None, runs_dir: str | Path) -> Any:
    """The model in this process, as lm-eval sees it."""
    from lm_eval.models.huggingface import HFLM

    reference = str(target.model)
    resolved = resolved or resolve_model(reference, runs_dir=runs_dir)
    wanted = HFCausalLMConfig(pretrained_model_name_or_path=reference, trust_remote_code=target.trust_remote_code)
    tokenizer = load_tokenizer(wanted, TokenizerConfig(chat_template=target.chat_template), resolved)
    where = device()
    assert target.precision != "int8"  # checked before anything is loaded
    model = load_model(wanted, resolved, dtype=dtype_for(target.precision, where), device=where)
    return HFLM(
        pretrained=model,
        tokenizer=tokenizer,
        batch_size=config.batch_size,
        max_length=target.max_model_len,
        trust_remote_code=target.trust_remote_code,
    )


def _endpoint(config: LmEvalConfig, target: TargetConfig, runs_dir: str | Path) -> Any:
    """An endpoint, as lm-eval sees it; without a tokenizer of its own it asks the endpoint for tokens."""
    _need("tenacity")
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    key = resolve(target.api_key) if target.api_key is not None else ""
    root = str(target.endpoint).rstrip("/").removesuffix("/v1")
    tokenizer = None
    if config.tokenizer is not None:
        tokenizer = str(resolve_model(config.tokenizer, runs_dir=runs_dir, weights=False).path)
    with _explained("the endpoint cannot be asked for its tokenizer", where=root):
        return LocalCompletionsAPI(
            base_url=f"{root}/v1/completions",
            model=target.model,
            tokenizer=tokenizer,
            tokenizer_backend="huggingface" if tokenizer else "auto",
            auth_token=key or None,
            header={"Authorization": f"Bearer {key}"} if key else {"Content-Type": "application/json"},
            max_length=target.max_model_len or _context_of(root, str(target.model), key),
            max_gen_toks=target.sampling.max_tokens,
            batch_size=1,
            num_concurrent=config.batch_size,
            max_retries=target.max_attempts,
            timeout=int(target.timeout_s),
        )


def _context_of(root: str, model: str, key: str) -> int:
    """Tokens of the endpoint's model, as /v1/models says it (vLLM and `genai serve` do)."""
    import requests

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with _explained("the endpoint cannot be asked for its models", where=root):
        reply = requests.get(f"{root}/v1/models", headers=headers, timeout=_ASKING_TIMEOUT_S, allow_redirects=False)
        if reply.status_code in (401, 403):
            raise CredentialsError("the endpoint refuses the key", where=root, fix="set target.api_key: env:NAME")
        cards = reply.json().get("data", []) if reply.ok else []
    for card in cards:
        if card.get("id") == model and isinstance(card.get("max_model_len"), int):
            return int(card["max_model_len"])
    _log.warning("%s does not say how long a text %s reads; taking %d tokens", root, model, _DEFAULT_CONTEXT)
    return _DEFAULT_CONTEXT


# --- the run ----------------------------------------------------------------------------------------------------------


def _evaluate(
    model: Any, manager: Any, roots: Sequence[Any], config: LmEvalConfig, target: TargetConfig
) -> dict[str, Any]:
    import lm_eval

    asked = target.endpoint or target.model
    _log.info("lm-eval: %s on %s", ", ".join(config.tasks), asked)
    with _explained("lm-eval failed", where=asked):
        found = lm_eval.simple_evaluate(
            model,
            tasks=list(roots),
            task_manager=manager,
            num_fewshot=config.num_fewshot,
            limit=config.limit,
            apply_chat_template=config.apply_chat_template,
            system_instruction=target.system,
            bootstrap_iters=0,  # intervals are made here, without its pool of processes
            log_samples=True,
        )
    assert found is not None  # only other ranks of a distributed run get none
    return dict(found)


def _read(found: Mapping[str, Any], roots: Sequence[Any], *, target: str, seed: int, confidence: float) -> LmEvalResult:
    tasks = {task.task_name: task for root in roots for task in _leaves(root)}
    read = tuple(
        read_task(
            name,
            found["samples"][name],
            output_type=str(task.OUTPUT_TYPE),
            metrics=_metrics(task, found["samples"][name]),
            reported=_figures(found["results"][name]),
            target=target,
            seed=seed,
            confidence=confidence,
        )
        for name, task in tasks.items()
        if found["samples"].get(name)
    )
    groups = found.get("groups", {})
    averages = {f"{group}.{label}": value for group, row in groups.items() for label, value in _figures(row).items()}
    return LmEvalResult(tasks=read, averages=averages, version=str(found.get("lm_eval_version", "")))


def _leaves(root: Any) -> list[Any]:
    return list(root.get_all_tasks()) if hasattr(root, "get_all_tasks") else [root]


def _metrics(task: Any, samples: Sequence[Mapping[str, Any]]) -> dict[str, MetricOfTask]:
    """The metrics of a task; one that it computes without having declared it is a mean, as lm-eval has it."""
    from lm_eval.api.metrics import mean

    names = {metric for sample in samples for metric in sample["metrics"]} - {"bypass"}
    aggregations, higher = task.aggregation(), task.higher_is_better()
    return {
        name: MetricOfTask(
            name=name,
            aggregation=aggregations.get(name, mean),
            higher_is_better=higher.get(name) is not False,
        )
        for name in sorted(names)
    }


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    """Label -> figure, of a row of lm-eval's results, whose keys are `acc,none` and `acc_stderr,none`."""
    split = {key: key.rpartition(",") for key in row if "," in key}
    return {
        label_of(metric, filter_name): float(row[key])
        for key, (metric, _, filter_name) in split.items()
        if not metric.endswith("_stderr") and isinstance(row[key], int | float)
    }


# --- lm-eval's surroundings -------------------------------------------------------------------------------------------


def _need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(package, extra=EXTRA, needed_for="lm_eval")


@contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval, and the packages below it, say errors only and draw no bars where no one sees them move."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "evaluate", "httpx")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with quiet_transformers(), _without_bars():
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _without_bars() -> AbstractContextManager[object]:
    """tqdm takes sys.stderr whatever it is. genai's own log has its stream already, and goes on."""
    return nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())


@contextmanager
def _sandboxed(allow_code: bool) -> Iterator[None]:
    """Within the block the Jinja of task files reaches no attribute from which Python can be run."""
    import jinja2
    import jinja2.sandbox
    import lm_eval.utils

    before = lm_eval.utils.env
    if not allow_code:
        sandbox = jinja2.sandbox.SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
        sandbox.filters.update(before.filters)
        lm_eval.utils.env = sandbox
    try:
        yield
    finally:
        lm_eval.utils.env = before


@contextmanager
def _explained(what: str, *, where: str | None) -> Iterator[None]:
    """Turn whatever lm-eval, datasets, requests or aiohttp raise into one line; --debug shows the rest."""
    try:
        yield
    except GenaiError:
        raise
    except Exception as error:
        status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise CredentialsError("the endpoint refuses the key", where=where, fix="see target.api_key") from error
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        text = f"{what}: {type(error).__name__}{': ' if first else ''}{first}"
        if type(error).__module__.startswith("datasets") or isinstance(error, FileNotFoundError | ConnectionError):
            raise DataError(text, where=where) from error
        raise GenaiError(text, where=where) from error
