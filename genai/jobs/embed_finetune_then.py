"""What follows training: whether the model has earned its place, and what is then done with it.

    1. `then.promote_if` is held against the test queries. Not met: nothing of what follows is done.
    2. `then.onnx`: an int8 ONNX file, and what it loses.
    3. `then.reindex`: the index is swapped, unless its own gate says no; then nothing of what follows is done.
    4. `then.register`: the model becomes the next version, and the alias names it.

The index comes first: it may still refuse the model, and an alias that was moved would then name one that is not good
enough. A process may be killed between any two steps: each does nothing where it finds its work done, and what was
found out goes into promotion.json in the run directory, so that the same command goes on and ends with the same result.
Once the last step is done it stays done, even when the alias or the index has been moved on since.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.embed_finetune import EmbedFinetuneConfig, ThenConfig
from genai.config.embedding import EmbeddingConfig
from genai.config.gates import parse_gate
from genai.config.loading import Loaded
from genai.errors import UsageError
from genai.jobs.embed_finetune_reindex import check_reindex, reindex
from genai.jobs.embed_finetune_result import Promotion
from genai.jobs.problems import Problems, at
from genai.log import get_logger
from genai.models.fingerprint import fingerprint
from genai.report.contents import MetricChange
from genai.storage.atomic import atomic_file, write_json
from genai.tracking import registry
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.data.retrieval.records import RetrievalData

_log = get_logger(__name__)


def check_then(
    loaded: Loaded[EmbedFinetuneConfig],
    problems: Problems,
    *,
    keys: Collection[str] | None = None,
    allow_code: bool = False,
) -> None:
    """Find out before training what would stand in the way of what follows it.

    Args:
        loaded: the job file.
        problems: collects what is wrong.
        keys: of the documents of the corpus; None leaves open whether the index knows them.
        allow_code: whether the command line lets a model bring its own Python.
    """
    then = loaded.config.then
    if then.register is not None:
        with problems.at("then.register"):
            registry.versions(loaded.config.runs_dir, then.register)
            registry.aliases(loaded.config.runs_dir, then.register)
        with problems.at("then.alias"):
            registry.check_alias(then.alias)
    if then.onnx:
        with problems.at("then.onnx"):
            _check_onnx(loaded.config.model.name)
    if then.reindex is not None:
        with problems.at("then.reindex"):
            check_reindex(
                then.reindex,
                keys=keys,
                model=loaded.config.model.pretrained_model_name_or_path,
                runs_dir=loaded.config.runs_dir,
                allow_code=allow_code,
            )


def follow_up(
    loaded: Loaded[EmbedFinetuneConfig],
    directory: RunDirectory,
    changes: Sequence[MetricChange],
    *,
    data: RetrievalData,
    kind: registry.ModelKind,
    record: Mapping[str, Any],
    allow_code: bool = False,
) -> Promotion:
    """Decide, and do what follows. To be called by one process, which holds the run.

    Args:
        loaded: the job file.
        directory: of the run, with the model.
        changes: each measure on the test queries, before and after.
        data: what was trained and measured with.
        kind: of the model.
        record: fingerprints of all that went in, for the registry.
        allow_code: whether the command line lets a model bring its own Python.

    Raises:
        ConfigError: the condition, the name or the index's job file is wrong.
        GenaiError: a step failed; the same command does the ones that are left.
    """
    then = loaded.config.then
    with at(loaded, "then.promote_if"):
        promotion = _judge(then, changes)
    if promotion.promoted is False:
        return promotion
    weights = fingerprint(directory.model)
    notes = _Notes(directory.path / "promotion.json", _key(then, weights, data.fingerprint, promotion))
    noted, is_done = notes.read()
    if is_done:
        return noted
    if then.onnx:
        with at(loaded, "then.onnx"):
            _check_onnx(kind)
            promotion = _write_onnx(loaded, directory, data, changes, promotion)
    if promotion.promoted and then.reindex is not None:
        with at(loaded, "then.reindex"):
            swapped = reindex(loaded, directory, data, allow_code=allow_code)
        metrics = swapped.metrics or noted.index_metrics
        if swapped.refused is not None:
            reason = f"{promotion.reason}, but index '{swapped.index}' keeps its encoder: {swapped.refused}"
            return replace(promotion, promoted=False, reason=reason, index_metrics=metrics)
        promotion = replace(promotion, index=swapped.index, index_metrics=metrics)
        notes.write(promotion)
    if promotion.promoted and then.register is not None:
        with at(loaded, "then.register"):
            promotion = _register(loaded, directory, data, changes, promotion, kind, weights, record)
    if promotion.promoted:
        notes.write(promotion, is_done=True)
    return promotion


def _judge(then: ThenConfig, changes: Sequence[MetricChange]) -> Promotion:
    if then.promote_if is None:
        return Promotion(promoted=None, reason="no condition was set")
    measured = {change.metric: change for change in changes}
    gate = parse_gate(then.promote_if, known=measured)
    change = measured[gate.metric]
    verdict = gate.judge(
        change.after, baseline=change.before, interval=(change.low, change.high), significant=then.significant
    )
    return Promotion(promoted=verdict.passed, reason=verdict.reason)


# --- steps ------------------------------------------------------------------------------------------------------------


def _check_onnx(kind: str) -> None:
    from genai.embedding.onnx_export import check_packages

    if kind != "sentence_encoder":
        raise UsageError("an int8 ONNX file is made of sentence encoders only", fix="remove then.onnx")
    check_packages()


def _write_onnx(
    loaded: Loaded[EmbedFinetuneConfig],
    directory: RunDirectory,
    data: RetrievalData,
    changes: Sequence[MetricChange],
    promotion: Promotion,
) -> Promotion:
    """Write the file, and measure it where the model in float was measured."""
    from genai.embedding.onnx_export import ONNX_FILE, exported
    from genai.embedding.opening import open_encoder
    from genai.embedding.settings import read_settings
    from genai.embedding.tuning.measuring import measure
    from genai.jobs.passage_neighbours import passage_neighbours

    config = loaded.config
    trust = config.model.trust_remote_code
    made = exported(read_settings(directory.model).transformer, trust_remote_code=trust)
    target = directory.path / "onnx" / ONNX_FILE
    with open(made, "rb") as source, atomic_file(target, size_bytes=made.stat().st_size) as stream:
        shutil.copyfileobj(source, stream)
    embedding = EmbeddingConfig(model=str(directory.model.resolve()), backend="onnx", trust_remote_code=trust)
    measured = measure(
        open_encoder(embedding, runs_dir=config.runs_dir, num_threads=config.num_threads),
        data.passages,
        data.test,
        metrics=[change.metric for change in changes],
        neighbours_of=passage_neighbours(),
    )
    metrics = {change.metric: (change.after, measured.means[change.metric]) for change in changes}
    for metric, (whole, rounded) in metrics.items():
        _log.info("int8 ONNX: %s %.3f, in float %.3f (%+.3f)", metric, rounded, whole, rounded - whole)
    return replace(promotion, onnx=str(target), onnx_metrics=metrics)


def _register(
    loaded: Loaded[EmbedFinetuneConfig],
    directory: RunDirectory,
    data: RetrievalData,
    changes: Sequence[MetricChange],
    promotion: Promotion,
    kind: registry.ModelKind,
    weights: str,
    record: Mapping[str, Any],
) -> Promotion:
    """Make the model the next version of its name, and let the alias name it."""
    config, then = loaded.config, loaded.config.then
    assert then.register is not None
    version = registry.register(
        config.runs_dir,
        then.register,
        kind=kind,
        model=f"runs:{directory.name}",
        run=directory.name,
        fingerprint=weights,
        data_fingerprint=data.fingerprint,
        tables=data.tables,
        metrics=[asdict(change) for change in changes],
        tuned_from=_pinned(config.model.pretrained_model_name_or_path, config.runs_dir),
        inputs=record,
    )
    registry.set_alias(config.runs_dir, then.register, then.alias, version.version)
    _log.info("registered as %s, which is %s now", version.reference, then.alias)
    return replace(promotion, registered=f"{version.name}@{version.version}", alias=then.alias)


def _pinned(reference: str, runs_dir: str) -> str:
    """A reference that means the same model for ever: of the registry, the version and not the alias."""
    scheme, _, rest = reference.partition(":")
    return registry.find(runs_dir, rest).reference if scheme == "registry" else reference


# --- what was done ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Notes:
    """What was found out and done so far, for the process that goes on after a kill."""

    path: Path
    key: str
    """Notes of another model, other data or other wishes do not count."""

    def read(self) -> tuple[Promotion, bool]:
        """What was noted, and whether nothing is left to do."""
        try:
            values = json.loads(self.path.read_bytes())
        except (FileNotFoundError, ValueError):
            values = {}
        if values.get("key") != self.key:
            return Promotion(promoted=None, reason=""), False
        return _promotion(values["promotion"]), values["is_done"]

    def write(self, promotion: Promotion, *, is_done: bool = False) -> None:
        """Note how far it got."""
        write_json(self.path, {"key": self.key, "is_done": is_done, "promotion": asdict(promotion)})


def _promotion(values: dict[str, Any]) -> Promotion:
    for name in ("index_metrics", "onnx_metrics"):
        if values[name] is not None:
            values[name] = {metric: (before, after) for metric, (before, after) in values[name].items()}
    return Promotion(**values)


def _key(then: ThenConfig, weights: str, data: str, promotion: Promotion) -> str:
    text = json.dumps([asdict(then), weights, data, promotion.reason], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
