"""What `genai embed-finetune` reads before anything heavy is imported: references, pairs, documents. Free of torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from genai.config.embed_finetune import (
    BinaryCrossEntropyConfig,
    CoSENTConfig,
    CrossEncoderConfig,
    DistillationConfig,
    EmbedFinetuneConfig,
    GeneratorConfig,
    ListwiseConfig,
    MarginMSEConfig,
    RetrievalDataConfig,
)
from genai.config.loading import Loaded
from genai.config.secrets import resolve
from genai.data.faults import DataConfigError
from genai.data.retrieval.labelled import read_held_out
from genai.data.retrieval.material import Material, read_material
from genai.jobs.embed_finetune_base import open_base
from genai.jobs.embed_finetune_then import check_then
from genai.jobs.pinned_tables import Pins, pin_tables, pinned, references_at
from genai.jobs.problems import Problems
from genai.jobs.training_inputs import check_destinations, check_remote_code, check_warm_start, check_webhook
from genai.models.references import exists_problem
from genai.tables.delta import open_delta

if TYPE_CHECKING:
    from genai.data.retrieval.records import HeldOutQuery

_NEED_NEGATIVES = (DistillationConfig, MarginMSEConfig, BinaryCrossEntropyConfig, ListwiseConfig)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a job reads, before queries are made and anything is held back."""

    material: Material
    """Passages and pairs."""
    queries: tuple[HeldOutQuery, ...] | None
    """Of `evaluation.queries`; None where held-out pairs are measured with."""
    general: tuple[tuple[str, str], ...]
    """Queries and their positives of `evaluation.general`."""
    tables: Pins
    """Versions that were read."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that was read."""
        digest = hashlib.sha256()
        for passage in self.material.passages:
            digest.update(repr((passage.key, passage.text, passage.document, passage.title)).encode())
        digest.update(repr(self.general).encode())
        for pair in self.material.pairs:
            digest.update(repr((pair.query, pair.positive, pair.negatives, pair.score, pair.group)).encode())
        for query in self.queries or ():
            digest.update(repr((query.query, sorted(query.relevant.items()))).encode())
        return digest.hexdigest()


def pin(loaded: Loaded[EmbedFinetuneConfig], *, run_name: str | None = None) -> Pins:
    """The version of every table that the job reads; see `pin_tables`."""
    return pin_tables(loaded, _references(loaded.config), run_name=run_name)


def read_inputs(loaded: Loaded[EmbedFinetuneConfig], *, allow_code: bool = False, tables: Pins | None = None) -> Inputs:
    """Check the references and read all rows.

    Args:
        loaded: the job file.
        allow_code: whether the command line lets a model bring its own Python.
        tables: the versions to read, from `pin`; by default the newest.

    Raises:
        ConfigError: something in the job file leads nowhere, or to rows that cannot be used; each fault has
        file:line:column.
        GateError: the rows miss a threshold of data.checks.
    """
    config = loaded.config
    problems = Problems(loaded)
    _check_models(loaded, problems, allow_code=allow_code)
    check_warm_start(loaded, problems)
    check_webhook(loaded, problems)
    pins = pin(loaded) if tables is None else tables
    # Chunks are cut by the model's tokens, so that its tokenizer must be there.
    material = None if len(problems) else _read(loaded, pins, problems)
    queries = None
    general: tuple[tuple[str, str], ...] = ()
    if config.evaluation.queries is not None:
        with problems.at("evaluation.queries"):
            queries = read_held_out(config.evaluation.queries)
    if config.evaluation.general is not None:
        with problems.at("evaluation.general"):
            data = RetrievalDataConfig(pairs=config.evaluation.general)
            found = read_material(data, open_table=open_delta)
            texts = {passage.key: passage.text for passage in found.passages}
            general = tuple((pair.query, texts[pair.positive]) for pair in found.pairs)
    problems.raise_all()
    assert material is not None
    _check_loss(config, material, problems)
    check_destinations(loaded, problems)
    keys = {passage.document for passage in material.passages}
    check_then(loaded, problems, keys=keys, allow_code=allow_code)
    problems.raise_all()
    return Inputs(
        material=material,
        queries=None if queries is None else tuple(queries),
        general=general,
        tables=pins,
    )


def learns_grades(config: EmbedFinetuneConfig) -> bool:
    """Whether the loss learns from the column score."""
    loss = config.loss
    return isinstance(loss, CoSENTConfig) or (isinstance(loss, MarginMSEConfig) and loss.teacher is None)


def _check_loss(config: EmbedFinetuneConfig, material: Material, problems: Problems) -> None:
    """Whether the pairs hold what the loss learns from."""
    pairs, loss = material.pairs, config.loss
    if not pairs:
        return
    if learns_grades(config) and all(pair.score is None for pair in pairs):
        message = f"{loss.name} learns from scores, but the pairs have none"
        problems.add("loss.name", message, "name the column in data.columns (score: ...), or a teacher in loss.teacher")
    has_negatives = config.hard_negatives is not None or any(pair.negatives for pair in pairs)
    if isinstance(loss, _NEED_NEGATIVES) and not has_negatives and all(pair.score is None for pair in pairs):
        message = f"{loss.name} compares with negatives, but the pairs have none"
        problems.add("loss.name", message, "set hard_negatives, or name the column in data.columns (negative: ...)")


def _references(config: EmbedFinetuneConfig) -> Iterator[tuple[str, str]]:
    yield from references_at("data.pairs", config.data.pairs)
    if config.data.corpus is not None:
        yield from references_at("data.corpus.path", config.data.corpus.path)


def _check_models(loaded: Loaded[EmbedFinetuneConfig], problems: Problems, *, allow_code: bool) -> None:
    config = loaded.config
    references: dict[str, str | None] = {
        "model.pretrained_model_name_or_path": config.model.pretrained_model_name_or_path,
        **{f"loss.{name}": getattr(config.loss, name, None) for name in ("guide", "teacher")},
    }
    if isinstance(config.model, CrossEncoderConfig):
        references["model.first_stage"] = config.model.first_stage
    reranker = None if config.hard_negatives is None else config.hard_negatives.reranker
    if reranker is not None and reranker.base_url is None:
        references["hard_negatives.reranker.model"] = reranker.model
    for name, generator in _generators(config).items():
        if generator.base_url is None:
            references[f"{name}.model"] = generator.model
        elif generator.api_key is not None:
            with problems.at(f"{name}.api_key"):
                resolve(generator.api_key)
    for key, reference in references.items():
        problem = None if reference is None else exists_problem(reference, runs_dir=config.runs_dir)
        if problem is not None:
            problems.add(key, problem.message, problem.fix)
    check_remote_code(problems, wanted=config.model.trust_remote_code, allow_code=allow_code)


def _generators(config: EmbedFinetuneConfig) -> dict[str, GeneratorConfig]:
    synthetic = config.data.synthetic_queries
    if synthetic is None:
        return {}
    named = {"generator": synthetic.generator, "judge": synthetic.judge}
    return {f"data.synthetic_queries.{name}": each for name, each in named.items() if each is not None}


def _read(loaded: Loaded[EmbedFinetuneConfig], pins: Pins, problems: Problems) -> Material | None:
    config = loaded.config
    data = config.data
    if data.pairs is not None:
        data = replace(data, pairs=pinned(data.pairs, pins))
    offsets = None
    if data.corpus is not None:
        data = replace(data, corpus=replace(data.corpus, path=pinned(data.corpus.path, pins)))
        assert data.corpus is not None
        chunking = data.corpus.chunking
        if chunking.name != "none":
            encoder = open_base(config)
            offsets = encoder.token_offsets
            fitting = replace(chunking, max_tokens=min(chunking.max_tokens, encoder.max_tokens))
            data = replace(data, corpus=replace(data.corpus, chunking=fitting))
    try:
        return read_material(data, open_table=open_delta, token_offsets=offsets)
    except DataConfigError as error:
        problems.extend(error.key if error.key.startswith("data") else f"data.{error.key}", error.problems)
        return None
