"""Who may import whom: the table of docs/architecture.md, held against every import in `genai/` and `cli/`.

Imports inside functions count like the others; those under `if TYPE_CHECKING:` are only left out of the search for
cycles and for heavy packages.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "registry", "log"}),
    frozenset({"config", "storage", "tracking", "report"}),
    frozenset({"tables", "data", "models", "metrics"}),
    frozenset(
        {"training", "embedding", "index", "features", "inference", "gateway", "guardrails", "evaluation", "monitoring"}
    ),
    frozenset({"chains", "serving"}),
    frozenset({"jobs", "launch"}),
)
LAYER_OF = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}

EXCEPTIONS = {
    "tracking": {"genai.storage.atomic"},
    "serving": {"genai.chains"},
}
"""What a room may import beside the layers below it."""

ONE_ROOM_VERBS = {"cache": "storage", "doctor": "tracking", "models": "models", "runs": "tracking"}
"""Verbs that wire nothing together but look into one room, which they may therefore call without a job in between."""

FIRST_PARTY = {"genai", "genai_cli"}
LIGHT = {
    "errors": set[str](),
    "registry": set[str](),
    "log": set[str](),
    "config": {"annotated_types", "omegaconf", "pydantic", "yaml"},
}
"""Rooms that may import nothing but the standard library and these."""

DOORS = {
    "boto3": {"genai.storage.s3"},
    "botocore": {"genai.storage.s3"},
    "s3transfer": {"genai.storage.s3"},
    "gcsfs": {"genai.storage.gcs"},
    "google": {"genai.storage.gcs"},
    "adlfs": {"genai.storage.azure"},
    "azure": {"genai.storage.azure"},
    "fsspec": {"genai.storage.gcs", "genai.storage.azure"},
    "datasets": {"genai.data.hub"},
    "pyarrow": {"genai.data.readers", "genai.index.engines.lancedb_rows", "genai.tables.delta"},
    "deltalake": {"genai.tables.delta"},
    "zstandard": {"genai.data.mds.compression"},
    "huggingface_hub": {"genai.data.hub", "genai.models.hub"},
    "peft": {"genai.models.adapters", "genai.training.lora"},
    "gguf": {"genai.models.gguf_export"},
    "onnxruntime": {"genai.embedding.onnx_encoder", "genai.embedding.onnx_export"},
    "mlflow": {"genai.tracking.loggers.mlflow"},
    "wandb": {"genai.tracking.loggers.wandb"},
    "tensorboard": {"genai.tracking.loggers.tensorboard"},
    "lancedb": {"genai.index.engines.lancedb", "genai.index.engines.lancedb_rows"},
    "httptools": {"genai.serving.protocol"},
    "uvicorn": {"genai.serving.protocol", "genai.serving.running"},
    "qdrant_client": {"genai.index.engines.qdrant", "genai.index.engines.qdrant_server"},
    "qdrant_edge": {
        "genai.index.engines.edge_filters",
        "genai.index.engines.edge_optimize",
        "genai.index.engines.edge_reader",
        "genai.index.engines.qdrant_edge",
    },
    "llguidance": {"genai.inference.constraints", "genai.inference.grammars"},
    "prometheus_client": {"genai.serving.metrics"},
    "aiohttp": {"genai.evaluation.targets.connection", "genai.storage.gcs"},
    "jsonschema": {"genai.evaluation.metrics.json_schemas"},
    "referencing": {"genai.evaluation.metrics.json_schemas"},
    "regex": {"genai.evaluation.patterns"},
    "lm_eval": {"genai.evaluation.engines.lm_eval"},
    "pypdfium2": {"genai.data.documents.pdf"},
    "rich": {"genai_cli.output"},
    "snowballstemmer": {"genai.index.words"},
}
"""Packages that can be absent or break -> the modules that may import them."""

HEAVY = {
    *(
        "accelerate",
        "adlfs",
        "aiohttp",
        "azure",
        "bitsandbytes",
        "boto3",
        "botocore",
        "datasets",
        "fsspec",
        "gcsfs",
        "gguf",
        "mlflow",
        "numpy",
        "pandas",
        "peft",
        "pyarrow",
    ),
    *("rich", "safetensors", "tensorboard", "torch", "transformers", "wandb"),
}
"""Never imported by importing the command line or layers 0 and 1, not even through another module."""

FORBIDDEN = {
    "cli": "the command line is installed as genai_cli; this would be a second copy",
    "scripts": "maintainers' tools are no part of the package",
    "tests": "tests are no part of the package",
    "pickle": "a pickle can run code",
}


@dataclass(frozen=True)
class Import:
    """One import statement: `target` is a module, first-party ones resolved to the file that is meant."""

    target: str
    line: int
    in_function: bool
    for_types: bool


def find_violations(sources: Mapping[str, str]) -> list[str]:
    """Hold all rules against modules given as dotted name -> source."""
    imports = {name: list(_imports(name, text, sources)) for name, text in sources.items()}
    found = [
        f"{name}:{item.line}: {fault}"
        for name, items in imports.items()
        for item in items
        if (fault := _fault(name, item.target))
    ]
    return sorted({*found, *_heavy_at_import(imports), *_cycles(imports)})


def _fault(name: str, target: str) -> str | None:
    top = target.partition(".")[0]
    if top in FORBIDDEN:
        return f"must not import {top}: {FORBIDDEN[top]}"
    if top in DOORS and name not in DOORS[top]:
        return f"imports {top}, whose only door is {', '.join(sorted(DOORS[top]))}"
    if top in FIRST_PARTY:
        return _layer_fault(name, target)
    room = _room(name)
    if room in LIGHT and top not in sys.stdlib_module_names and top not in LIGHT[room]:
        return f"{room} must not import {top}"
    return None


def _layer_fault(name: str, target: str) -> str | None:
    room, wanted = _room(name), _room(target)
    if room == wanted or wanted is None:
        return None
    if wanted == "cli":
        return "nobody imports the command line"
    if room is None:
        return f"the package itself imports no room, but {target}"
    if any(target == allowed or target.startswith(f"{allowed}.") for allowed in EXCEPTIONS.get(room, ())):
        return None
    if wanted in LAYERS[0]:
        return None if room not in LAYERS[0] or room == "registry" else f"{room} must not import {target}"
    if wanted not in LAYER_OF:
        return f"{wanted} is in no layer"
    if room == "cli":
        verb = name.rpartition(".")[2]
        allowed = wanted in {"config", "jobs", "launch"} or ONE_ROOM_VERBS.get(verb) == wanted
        allowed = allowed or target == "genai.storage.atomic"
        return None if allowed else f"cli must not import {target}: go through a job"
    if room not in LAYER_OF:
        return f"{room} is in no layer"
    highest = {"launch": 1, "chains": 2, "serving": 2}.get(room, LAYER_OF[room] - 1)
    return None if LAYER_OF[wanted] <= highest else f"{room} (layer {LAYER_OF[room]}) must not import {target}"


def _room(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "genai_cli":
        return "cli"
    return parts[1] if len(parts) > 1 else None


def _imports(name: str, text: str, sources: Mapping[str, str]) -> Iterator[Import]:
    is_package = any(other.startswith(f"{name}.") for other in sources)
    for node, in_function, for_types in _statements(ast.parse(text), False, False):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            base = _absolute(name, is_package, node)
            targets = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in sources or base in FIRST_PARTY else base
                for alias in node.names
            ]
            # `from genai import __version__` names an attribute of the package, not a room
            targets = [base if target.rpartition(".")[2].startswith("__") else target for target in targets]
        for target in targets:
            yield Import(target=target, line=node.lineno, in_function=in_function, for_types=for_types)


def _statements(
    tree: ast.AST, in_function: bool, for_types: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, in_function, for_types
        else:
            function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            types = for_types or (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
            yield from _statements(node, function, types)


def _absolute(name: str, is_package: bool, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    parts = name.split(".")
    parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _heavy_at_import(imports: Mapping[str, list[Import]]) -> Iterator[str]:
    at_import = {
        name: [item for item in items if not item.in_function and not item.for_types] for name, items in imports.items()
    }
    for name in at_import:
        if _room(name) != "cli" and _room(name) not in LAYERS[0] | LAYERS[1]:
            continue
        waiting, seen = [(name, name)], set[str]()
        while waiting:
            module, way = waiting.pop()
            for item in at_import.get(module, ()):
                if item.target.partition(".")[0] in HEAVY:
                    yield f"{name}: importing it imports {item.target} ({way})"
                elif item.target in imports and item.target not in seen:
                    seen.add(item.target)
                    waiting.append((item.target, f"{way} -> {item.target}"))


def _cycles(imports: Mapping[str, list[Import]]) -> Iterator[str]:
    graph = {
        name: sorted({item.target for item in items if item.target in imports and not item.for_types} - {name})
        for name, items in imports.items()
    }
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> Iterator[str]:
        if module in way:
            yield f"import cycle: {' -> '.join([*way[way.index(module) :], module])}"
            return
        if module in done:
            return
        for target in graph[module]:
            yield from visit(target, [*way, module])
        done.add(module)

    for name in sorted(graph):
        yield from visit(name, [])


def _read_sources() -> dict[str, str]:
    sources = {}
    for folder, package in (("genai", "genai"), ("cli", "genai_cli")):
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            parts = file.relative_to(REPOSITORY / folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            sources[name] = file.read_text(encoding="utf-8")
    return sources


def test_every_import_keeps_to_the_layers() -> None:
    sources = _read_sources()
    assert len(sources) > 20
    assert find_violations(sources) == []


GOOD = {
    "genai": "",
    "genai.errors": "import dataclasses",
    "genai.registry": "from genai.errors import UsageError",
    "genai.config": "import pydantic\nfrom genai.errors import ConfigError",
    "genai.storage": "",
    "genai.storage.atomic": "import os",
    "genai.storage.s3": "def store():\n    import boto3",
    "genai.tracking": "from genai.storage.atomic import write_json",
    "genai.data": "import numpy\nfrom genai.storage import open_store",
    "genai.models": "import torch",
    "genai.training": "import torch\nfrom genai.data import batches",
    "genai.jobs": "",
    "genai.jobs.finetune": "from genai import data, models, training, config",
    "genai_cli": "",
    "genai_cli.output": "def draw():\n    import rich",
    "genai_cli.finetune": "from .output import Output\ndef command():\n    from genai.jobs import finetune",
}


def test_the_sound_example_is_accepted() -> None:
    assert find_violations(GOOD) == []


@pytest.mark.parametrize(
    ("module", "line", "expected"),
    [
        ("genai.errors", "import click", "errors must not import click"),
        ("genai.errors", "from genai.registry import suggest", "errors must not import genai.registry"),
        ("genai.config", "import torch", "config must not import torch"),
        ("genai.config", "from genai.storage import open_store", "config (layer 1) must not import genai.storage"),
        ("genai.tracking", "from genai.storage import open_store", "tracking (layer 1) must not import genai.storage"),
        ("genai.data", "def f():\n    from genai.models import gallery", "data (layer 2) must not import genai.models"),
        ("genai.models", "from .training import trainer", "models (layer 2) must not import genai.training"),
        ("genai.training", "from genai.jobs import finetune", "training (layer 3) must not import genai.jobs.finetune"),
        ("genai.training", "import genai_cli.output", "nobody imports the command line"),
        ("genai.data", "import boto3", "whose only door is genai.storage.s3"),
        ("genai.data", "import pickle", "must not import pickle"),
        ("genai.data", "from genai.helpers import x", "helpers is in no layer"),
        ("genai_cli.finetune", "import cli.output", "must not import cli"),
        ("genai_cli.finetune", "def f():\n    import genai.training", "cli must not import genai.training"),
        ("genai_cli.finetune", "import genai.jobs\nimport torch", "importing it imports torch"),
        ("genai.storage", "import pyarrow", "importing it imports pyarrow"),
    ],
)
def test_a_planted_violation_is_found(module: str, line: str, expected: str) -> None:
    found = find_violations({**GOOD, module: f"{GOOD[module]}\n{line}"})
    assert any(expected in violation and violation.startswith(module) for violation in found), found


def test_a_heavy_package_is_found_behind_another_module() -> None:
    planted = {**GOOD, "genai_cli.finetune": "import genai.jobs.finetune"}
    assert any("genai_cli.finetune -> genai.jobs.finetune -> genai.models" in line for line in find_violations(planted))


def test_a_cycle_is_found() -> None:
    planted = {
        **GOOD,
        "genai.storage.atomic": "def f():\n    from genai.storage import s3",
        "genai.storage.s3": "import genai.storage.atomic",
    }
    assert find_violations(planted) == [
        "import cycle: genai.storage.atomic -> genai.storage.s3 -> genai.storage.atomic"
    ]
