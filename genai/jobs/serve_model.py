"""`genai serve MODEL`: a job file for one model, for the impatient."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from genai.config.dialect import dump
from genai.config.loading import Loaded, load
from genai.config.serve import ServeConfig
from genai.errors import UsageError
from genai.models.references import exists_problem

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def for_model(reference: str, overrides: Sequence[str] = ()) -> Loaded[ServeConfig]:
    """A server with this model alone, under the last part of its name.

    Args:
        reference: a model reference, e.g. `runs:faq-lora`.
        overrides: `KEY=VALUE` texts, e.g. `listen.port=9000`.

    Raises:
        UsageError: there is no such model.
        ConfigError: an override is wrong.
    """
    name = name_of(reference)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "serve.yaml"
        path.write_text(dump({"endpoints": {name: {"type": "model", "model": reference}}}), encoding="utf-8")
        loaded = load(path, ServeConfig, overrides)
    problem = exists_problem(reference, runs_dir=loaded.config.runs_dir)
    if problem is not None:
        raise UsageError(problem.message, where=problem.where or reference, fix=problem.fix)
    return loaded


def name_of(reference: str) -> str:
    """What requests call the model: `runs:faq-lora` is `faq-lora`, `hf:org/name` is `name`."""
    last = reference.rstrip("/").rpartition("/")[2].rpartition(":")[2].partition("@")[0]
    name = _NOT_IN_NAMES.sub("-", last.removesuffix(".gguf")).strip("-._")
    return name or "model"
