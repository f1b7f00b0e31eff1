"""The jobs by name, and what is known of each job file beside its config class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from genai.config import foundry
from genai.config.annotations import hints
from genai.config.checks_embed_finetune import check_embed_finetune
from genai.config.checks_eval import check_eval
from genai.config.checks_finetune import check_finetune
from genai.config.checks_index import check_index
from genai.config.checks_pretrain import check_pretrain
from genai.config.checks_serve import check_serve
from genai.config.embed_finetune import EmbedFinetuneConfig
from genai.config.eval import EvalConfig
from genai.config.findings import Finding
from genai.config.finetune import FinetuneConfig
from genai.config.index import IndexConfig
from genai.config.pretrain import PretrainConfig
from genai.config.serve import ServeConfig
from genai.config.tree import Node, find
from genai.errors import Problem, UsageError
from genai.registry import suggest

SCHEMAS: dict[str, type] = {
    "finetune": FinetuneConfig,
    "pretrain": PretrainConfig,
    "embed-finetune": EmbedFinetuneConfig,
    "index": IndexConfig,
    "serve": ServeConfig,
    "eval": EvalConfig,
}
"""Name of a job -> its config class."""
_LOADERS = {"text": "pretrain", "finetuning": "finetune"}
"""Name of a training loader -> the job that has it; both jobs have nearly the same keys."""
_MODELS = {"sentence_encoder": "embed-finetune", "cross_encoder": "embed-finetune"}
"""Kind of the model -> the job that tunes such a one."""
_ONLY_EVALUATED = ("datasets", "icl_tasks", "icl_tasks_str", "eval_gauntlet", "eval_gauntlet_str")
"""Keys of an evaluation, where nothing is trained."""
_SHARDS = ("remote", "local", "streams")
"""Keys of a data set of shards."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the loader does for one config class beside checking each field."""

    check: Callable[[Any], list[Finding]]
    """Finds what contradicts itself in a config whose fields are right."""
    set_aside: Callable[[Node], tuple[Node, list[Problem], list[Problem]]]
    """Takes out keys of other products: (the rest, refused ones, ones passed over)."""


def _nothing_aside(tree: Node) -> tuple[Node, list[Problem], list[Problem]]:
    """For a job whose files no other product writes."""
    return tree, [], []


HOOKS: dict[type, Hooks] = {
    FinetuneConfig: Hooks(check=check_finetune, set_aside=partial(foundry.set_aside, job="finetune")),
    PretrainConfig: Hooks(check=check_pretrain, set_aside=partial(foundry.set_aside, job="pretrain")),
    EmbedFinetuneConfig: Hooks(check=check_embed_finetune, set_aside=_nothing_aside),
    IndexConfig: Hooks(check=check_index, set_aside=_nothing_aside),
    ServeConfig: Hooks(check=check_serve, set_aside=_nothing_aside),
    EvalConfig: Hooks(check=check_eval, set_aside=partial(foundry.set_aside, job="eval")),
}


def job_of(schema: type) -> str | None:
    """The name of the job with that config class."""
    return next((job for job, each in SCHEMAS.items() if each is schema), None)


def schema_of(job: str) -> type:
    """The config class of a job.

    Raises:
        UsageError: there is no such job.
    """
    if job in SCHEMAS:
        return SCHEMAS[job]
    near = suggest(job, SCHEMAS)
    raise UsageError(f"unknown job '{job}'", fix=f"did you mean '{near}'?" if near else f"jobs: {', '.join(SCHEMAS)}")


def guess_job(path: Path, tree: Node) -> str:
    """Which job a file is for: by a folder `configs/<job>/` above it, else by its loader or its kind of model, else by
    its first keys.

    Args:
        path: of the file.
        tree: what it says.
    """
    folders = path.resolve().parent.parts
    for above, folder in pairwise(folders):
        if above == "configs" and folder in SCHEMAS:
            return folder
    loader = find(tree, ("train_loader", "name"))
    if loader is not None and loader.value in _LOADERS:
        return _LOADERS[str(loader.value)]
    if loader is None and any(find(tree, ("train_loader", "dataset", name)) for name in _SHARDS):
        return "pretrain"
    model = find(tree, ("model", "name"))
    if model is not None and model.value in _MODELS:
        return _MODELS[str(model.value)]
    written = {str(name) for name, _ in tree.children()}
    if "train_loader" not in written and written & set(_ONLY_EVALUATED):
        return "eval"
    return max(SCHEMAS, key=lambda job: len(written & set(hints(SCHEMAS[job]))))
