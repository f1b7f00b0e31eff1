"""Where something came from: from an alias to the version it names, the run that made it, and the data that went in.

    registry:faq@production
    ├─ evaluation faq-eval               whose gates held when the alias was set
    └─ registry:faq@2
       └─ run faq-lora
          ├─ model gallery:smollm2-135m-instruct
          └─ train, tables, ...          as the run's inputs.json has them

Everything is read from the registry and the run directories; what is gone is said to be gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from genai.errors import GenaiError
from genai.tracking import registry
from genai.tracking.catalog import find_run
from genai.tracking.run import RunDirectory

NodeKind = Literal["alias", "version", "run", "evaluation", "model", "data", "gone"]

_REGISTRY, _RUNS = "registry:", "runs:"
_DATA_KEYS = frozenset({"path", "pairs", "uri", "hf_name", "remote", "local", "dataset_uri", "training"})
"""Keys of job files that name data."""
_FACT_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True)
class Node:
    """Something, and what it was made from."""

    kind: NodeKind
    name: str
    facts: Mapping[str, str] = field(default_factory=dict)
    """What is known of it: fingerprints, versions, moments."""
    parents: tuple[Node, ...] = ()
    """What it came from."""


def trace(reference: str, *, runs_dir: str | Path = "runs") -> Node:
    """The lineage of a model or a run.

    Args:
        reference: registry:NAME[@ALIAS_OR_VERSION], runs:RUN, or the name of a run (or a beginning of it).
        runs_dir: where run directories lie, and the registry among them.

    Raises:
        UsageError: there is no such name, version or run.
        DataError: a file of the registry cannot be read.
    """
    tracing = _Tracing(Path(runs_dir))
    if reference.startswith(_REGISTRY):
        return tracing.registered(reference.removeprefix(_REGISTRY))
    name = reference.removeprefix(_RUNS).partition("/")[0]
    return tracing.run(find_run(Path(runs_dir), name).name)


class _Tracing:
    """One walk; whoever comes by a run for the second time is told its name only."""

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._on_the_way: list[str] = []

    def registered(self, text: str) -> Node:
        """What an alias or a version of the registry came from."""
        version = registry.find(self._runs_dir, text)
        name, _, wanted = text.partition("@")
        if wanted.isdecimal():
            return self._version(version)
        alias = wanted or registry.DEFAULT_ALIAS
        standing = registry.standing_of(self._runs_dir, name, alias)
        assert standing is not None, "find has found the alias"
        parents = [self._version(version)]
        facts = {"set": standing.at}
        if standing.eval_run is not None:
            parents.append(self.run(standing.eval_run))
        return Node(kind="alias", name=f"registry:{name}@{alias}", facts=facts, parents=tuple(parents))

    def run(self, name: str) -> Node:
        """What a run was made from."""
        path = self._runs_dir / name
        if not path.is_dir():
            return Node(kind="gone", name=f"run {name}")
        if name in self._on_the_way:
            return Node(kind="run", name=name)
        directory = RunDirectory(path)
        result = directory.read_result() or {}
        is_evaluation = result.get("kind") == "eval"
        self._on_the_way.append(name)
        parents = tuple(self._inputs(directory))
        self._on_the_way.pop()
        facts = {"began": directory.status.created_at, **(_gates(result) if is_evaluation else {})}
        return Node(
            kind="evaluation" if is_evaluation else "run",
            name=name,
            facts={key: text for key, text in facts.items() if text},
            parents=parents,
        )

    def _version(self, version: registry.ModelVersion) -> Node:
        facts = {"fingerprint": version.fingerprint, "registered": version.created_at}
        return Node(kind="version", name=version.reference, facts=facts, parents=(self.run(version.run),))

    def _inputs(self, directory: RunDirectory) -> Iterator[Node]:
        """What went into a run: its inputs.json section by section, and the data that its job file names."""
        for section, values in (directory.read_inputs() or {}).items():
            if section == "tables":
                yield from (_leaf("data", f"table {name}", each) for name, each in (values or {}).items())
            elif section in ("targets", "datasets") and isinstance(values, Mapping):
                yield from (self._input(section.removesuffix("s"), name, each) for name, each in values.items())
            elif values:
                yield self._input(section, "", values)
        for key, path in _named_data(_config(directory)):
            yield Node(kind="data", name=path, facts={"key": key})

    def _input(self, section: str, name: str, values: Any) -> Node:
        """An input: a model is followed to where it came from itself."""
        reference = values.get("reference", values.get("model")) if isinstance(values, Mapping) else None
        title = f"{section} {name}".strip()
        if isinstance(values, Mapping) and isinstance(values.get("run"), str):
            reference = f"{_RUNS}{values['run']}"
        if not isinstance(reference, str):
            return _leaf("data", title, values)
        known = {key: each for key, each in values.items() if key not in ("reference", "model", "run")}
        facts = _leaf("model", reference, {**({} if title == "model" else {"as": title}), **known}).facts
        return Node(kind="model", name=reference, facts=facts, parents=tuple(self._origin(reference)))

    def _origin(self, reference: str) -> Iterator[Node]:
        try:
            if reference.startswith(_REGISTRY):
                yield self.registered(reference.removeprefix(_REGISTRY))
            elif reference.startswith(_RUNS):
                yield self.run(reference.removeprefix(_RUNS).partition("/")[0])
        except GenaiError as error:
            yield Node(kind="gone", name=reference, facts={"why": error.message})


def _leaf(kind: NodeKind, name: str, values: Any) -> Node:
    if not isinstance(values, Mapping):
        return Node(kind=kind, name=name, facts={"value": str(values)[:_FACT_CHARACTERS]})
    facts = {key: str(each)[:_FACT_CHARACTERS] for key, each in values.items() if not isinstance(each, Mapping | list)}
    facts |= {
        f"{key}.{inner}": str(each)[:_FACT_CHARACTERS]
        for key, nested in values.items()
        if isinstance(nested, Mapping)
        for inner, each in nested.items()
    }
    return Node(kind=kind, name=name, facts=facts)


def _gates(result: Mapping[str, Any]) -> dict[str, str]:
    gates = result.get("gates") or []
    held = sum(bool(gate.get("passed")) for gate in gates)
    return {"gates": f"{held} of {len(gates)} held"} if gates else {}


def _config(directory: RunDirectory) -> Any:
    import yaml

    return yaml.safe_load(directory.read_config() or "")


def _named_data(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value) of all that a job file names as data."""
    items: Any = ()
    if isinstance(tree, Mapping):
        items = tree.items()
    elif isinstance(tree, list):
        items = enumerate(tree)
    for name, value in items:
        place = f"{key}.{name}" if key else str(name)
        if isinstance(value, str) and (name in _DATA_KEYS or (isinstance(tree, list) and key.split(".")[-1] == "path")):
            yield place, value
        else:
            yield from _named_data(value, place)
