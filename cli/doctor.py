"""`genai doctor`: what this machine has and what in it clashes. Of secrets it says only whether they are set."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .options import common_options, examples
from .output import Output

DISTRIBUTION = "genai-foundry"

BAD_PAIRS = (
    ("mosaicml", ">=0", "torch", ">=2.7.1", "mosaicml up to 0.32 is made for torch < 2.7.1"),
    ("llm-foundry", ">=0", "transformers", ">=4.52", "llm-foundry up to 0.22 is made for transformers < 4.52"),
    ("mosaicml-streaming", ">=0", "transformers", ">=5", "mosaicml-streaming up to 0.13 is made for transformers < 5"),
    ("mlflow", "==3.18.0", "mlflow-skinny", "<3.18.0", "mlflow 3.18.0 needs the mlflow-skinny of the same version"),
    ("torch", ">=2.9", "numpy", "<2", "torch from 2.9 on is built for numpy 2"),
    ("transformers", ">=5", "huggingface_hub", "<1", "transformers from 5 on needs huggingface_hub 1"),
)
"""Package, versions, other package, versions, why not both in one environment."""

CREDENTIALS: dict[str, Callable[[], bool]] = {
    "hugging face": lambda: _is_set("HF_TOKEN") or _is_file(os.environ.get("HF_HOME", "~/.cache/huggingface"), "token"),
    "s3": lambda: (
        (_is_set("AWS_ACCESS_KEY_ID") and _is_set("AWS_SECRET_ACCESS_KEY"))
        or _is_file(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
    ),
    "weights & biases": lambda: _is_set("WANDB_API_KEY") or _mentions("~/.netrc", "api.wandb.ai"),
    "mlflow": lambda: _is_set("MLFLOW_TRACKING_TOKEN") or _is_set("MLFLOW_TRACKING_PASSWORD"),
}
"""What can be signed in to, and whether there is something to sign in with."""


@dataclass(frozen=True, kw_only=True)
class Extra:
    """An optional part of genai."""

    name: str
    missing: tuple[str, ...]
    """Requirements that are not installed, or not in that version."""

    @property
    def installed(self) -> bool:
        return not self.missing


@click.command("doctor", epilog=examples("genai doctor", "genai doctor --json"))
@common_options
def command(output: Output) -> None:
    """Show versions, extras, devices, memory, disk, credentials (present or not) and known-bad combinations."""
    found = examine()
    output.result(_render(found), found)


def examine() -> dict[str, Any]:
    """Look at this machine.

    Returns:
        JSON-able: environment, torch, extras, disk, compiler, credentials, offline, problems.
    """
    from genai.tracking.environment import collect_environment

    torch = _look_at_torch()  # before the environment is collected, which names GPUs only when torch is imported
    environment = collect_environment()
    extras = list(find_extras())
    return {
        "environment": environment,
        "torch": torch,
        "extras": {extra.name: {"installed": extra.installed, "missing": extra.missing} for extra in extras},
        "disk": _free_disk(),
        "compiler": _find_compiler(),
        "credentials": {name: present() for name, present in CREDENTIALS.items()},
        "offline": [name for name in ("GENAI_OFFLINE", "HF_HUB_OFFLINE") if os.environ.get(name) == "1"],
        "problems": [*find_bad_pairs(), *_small_things(environment)],
    }


def find_extras() -> Iterator[Extra]:
    """The extras of this distribution, each with what it lacks here."""
    from packaging.requirements import Requirement

    try:
        metadata = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist") or ()]
    for name in metadata.get_all("Provides-Extra") or ():
        wanted = [item for item in requirements if item.marker and item.marker.evaluate({"extra": name})]
        missing = [f"{item.name}{item.specifier}" for item in wanted if not _is_met(item.name, item.specifier)]
        yield Extra(name=name, missing=tuple(missing))


def find_bad_pairs() -> Iterator[str]:
    """Combinations of installed versions that are known not to work."""
    from packaging.specifiers import SpecifierSet

    for package, versions, other, other_versions, why in BAD_PAIRS:
        if _is_met(package, SpecifierSet(versions)) and _is_met(other, SpecifierSet(other_versions)):
            yield f"{package} {_version(package)} with {other} {_version(other)}: {why}"


def _is_met(name: str, versions: Any) -> bool:
    installed = _version(name)
    return installed is not None and versions.contains(installed, prereleases=True)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _look_at_torch() -> dict[str, Any] | None:
    """What torch can compute on, and how long importing it took; None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    start = time.perf_counter()
    import torch

    import_s = round(time.perf_counter() - start, 2)
    gpus = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            gpus.append({"name": torch.cuda.get_device_name(index), "memory_bytes": total, "free_bytes": free})
    return {
        "version": torch.__version__,
        "import_s": import_s,
        "cuda": torch.version.cuda,
        "gpus": gpus,
        "mps": torch.backends.mps.is_available(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_threads": torch.get_num_threads(),
    }


def _free_disk() -> dict[str, Any]:
    from genai.storage.atomic import cache_dir, free_bytes

    places = {"here": Path.cwd(), "cache": cache_dir()}
    return {name: {"path": str(path), "free_bytes": free_bytes(path)} for name, path in places.items()}


def _find_compiler() -> str | None:
    names = [*os.environ.get("CXX", "").split()[:1], "g++", "clang++", "c++"]
    return next((path for name in names if (path := shutil.which(name))), None)


def _small_things(environment: dict[str, Any]) -> Iterator[str]:
    limit = environment["memory_limit_bytes"] or environment["memory_bytes"]
    if limit < 4e9:
        yield f"only {_size(limit)} of memory: fine-tuning a model of 135M parameters takes up to 4 GB"
    if _find_compiler() is None:
        yield "no C++ compiler: `compile: true` will train eagerly"


def _is_set(name: str) -> bool:
    return bool(os.environ.get(name))


def _is_file(*parts: str) -> bool:
    return Path(*parts).expanduser().is_file()


def _mentions(path: str, text: str) -> bool:
    file = Path(path).expanduser()
    return file.is_file() and text in file.read_text(encoding="utf-8", errors="replace")


def _render(found: dict[str, Any]) -> str:
    return "\n".join(f"{name:<14}{text}" for name, text in _lines(found))


def _lines(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    environment, torch = found["environment"], found["torch"]
    yield "genai", f"{environment['genai']}, Python {environment['python']}, {environment['platform']}"
    limit = environment["memory_limit_bytes"]
    memory = f"{_size(environment['memory_bytes'])} of memory" + (f", limited to {_size(limit)}" if limit else "")
    yield "machine", f"{environment['num_cores']} cores, {memory}, {environment['cpu']}"
    if torch is None:
        yield "torch", "not installed (pip install 'genai-foundry[train]')"
    else:
        yield "torch", f"{torch['version']}, imported in {torch['import_s']} s, {torch['cpu_capability']}"
        gpus = [
            f"{gpu['name']} ({_size(gpu['free_bytes'])} of {_size(gpu['memory_bytes'])} free)" for gpu in torch["gpus"]
        ]
        yield "devices", ", ".join([*gpus, *(["mps"] if torch["mps"] else []), "cpu"])
    for name, disk in found["disk"].items():
        yield f"disk {name}", f"{_size(disk['free_bytes'])} free at {disk['path']}"
    yield "compiler", found["compiler"] or "none"
    for name, extra in found["extras"].items():
        yield f"[{name}]", "installed" if extra["installed"] else f"lacks {', '.join(extra['missing'])}"
    for name, present in found["credentials"].items():
        yield "credentials", f"{name}: {'present' if present else 'none'}"
    if found["offline"]:
        yield "offline", ", ".join(found["offline"])
    for problem in found["problems"]:
        yield "problem", problem


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
