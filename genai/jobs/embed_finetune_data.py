"""What a run of `genai embed-finetune` learns from and is measured by: queries are made where that is asked for, then
documents are held back with all their queries, and what would leak is removed.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.config.embed_finetune import EmbedFinetuneConfig, GeneratorConfig, SyntheticQueriesConfig
from genai.config.loading import Loaded
from genai.data.retrieval.checks import check_material, check_retrieval
from genai.data.retrieval.records import Pair, RetrievalData
from genai.data.retrieval.splitting import split_material
from genai.embedding.tuning.synthetic.drafts import MadeCounts
from genai.jobs.embed_finetune_base import base_vectors
from genai.jobs.embed_finetune_inputs import Inputs
from genai.log import get_logger
from genai.storage.atomic import cache_dir, write_json, write_text
from genai.tracking.run import RunDirectory

if TYPE_CHECKING:
    from genai.embedding.tuning.interfaces import Generator
    from genai.embedding.tuning.synthetic import Estimate
    from genai.training.parallel.ranks import Ranks

MADE_FILE = "synthetic_queries.json"
"""In the run directory: the queries that were made, and examples of those that were not kept."""
ANSWERS = "generated/answers.sqlite"
"""In the cache: what generators and judges have answered."""
_STAND_IN = 60
"""Characters, about as long as a query."""
_log = get_logger(__name__)


def prepare(
    loaded: Loaded[EmbedFinetuneConfig], inputs: Inputs, directory: RunDirectory, ranks: Ranks | None
) -> tuple[RetrievalData, MadeCounts | None]:
    """Make queries, split, check.

    Args:
        loaded: the job file.
        inputs: what was read.
        directory: of the run; made queries are kept in it.
        ranks: who takes part; rank 0 makes the queries.

    Raises:
        GateError: too few of the queries that were made are any good, or the data misses a threshold of data.checks.
    """
    config = loaded.config
    check_material(inputs.material, config.data.checks)
    made_pairs: tuple[Pair, ...] = ()
    made = None
    if config.data.synthetic_queries is not None:
        values = ranks.share(lambda: _make(loaded, inputs, directory)) if ranks else _make(loaded, inputs, directory)
        made_pairs = tuple(Pair(**{**pair, "negatives": tuple(pair["negatives"])}) for pair in values["pairs"])
        made = MadeCounts(**values["made"])
    data = split_material(inputs.material, config.data, made=made_pairs, queries=inputs.queries)
    check_retrieval(data, config.data)
    _log.info(
        "%s training pairs, %s validation and %s test queries over %s passages; %s pairs like held-out ones left out",
        f"{len(data.train):,}",
        f"{len(data.validation):,}",
        f"{len(data.test):,}",
        f"{len(data.passages):,}",
        f"{len(data.near_duplicates):,}",
    )
    if ranks is None or ranks.is_main:
        write_split(directory.path / "data", data)
    return data, made


def write_split(folder: Path, data: RetrievalData) -> None:
    """Write what is trained and measured with as JSONL: `train`, `validation` and `test`, `left_out`.

    The held-out files are labelled queries, as `evaluation.queries`, `genai index query --evaluate` and `genai eval`
    read them; queries that were made say so.
    """
    texts = {passage.key: passage.text for passage in data.passages}
    rows: dict[str, list[dict[str, Any]]] = {
        "train": [
            {
                "query": pair.query,
                "positive": pair.positive_text or texts[pair.positive],
                "id": pair.positive,
                "score": pair.score,
                "source": pair.source,
                "provenance": dict(pair.provenance),
            }
            for pair in data.train
        ],
        "left_out": [asdict(each) for each in data.near_duplicates],
    }
    for name, queries in (("validation", data.validation), ("test", data.test)):
        rows[name] = [
            {"query": query.query, "relevant": dict(query.relevant), "synthetic": bool(query.provenance) or None}
            for query in queries
        ]
    for name, lines in rows.items():
        given = [{key: value for key, value in line.items() if value not in (None, {}, "")} for line in lines]
        write_text(folder / f"{name}.jsonl", "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in given))


def split_without_made(loaded: Loaded[EmbedFinetuneConfig], inputs: Inputs) -> RetrievalData:
    """The split for a plan: the beginnings of passages stand in for the queries that a run would make of them."""
    config = loaded.config
    stand_ins: list[Pair] = []
    synthetic = config.data.synthetic_queries
    if synthetic is not None:
        chosen = inputs.material.passages[: synthetic.max_chunks]
        stand_ins = [
            Pair(query=f"{passage.text[:_STAND_IN]} {number}", positive=passage.key, provenance={"method": "stand-in"})
            for passage in chosen
            for number in range(synthetic.queries_per_chunk)
        ]
    return split_material(inputs.material, config.data, made=stand_ins, queries=inputs.queries)


def estimate(config: EmbedFinetuneConfig, inputs: Inputs) -> Estimate | None:
    """What making the queries would take; None where none are made."""
    from genai.embedding.tuning import synthetic as making

    synthetic = config.data.synthetic_queries
    if synthetic is None:
        return None
    generator, judge = open_generators(config, synthetic)
    return making.estimate(
        inputs.material.passages, synthetic, generator, judge, seed=config.seed, cache=cache_dir() / ANSWERS
    )


def _make(loaded: Loaded[EmbedFinetuneConfig], inputs: Inputs, directory: RunDirectory) -> dict[str, Any]:
    """Make the queries, or read those that the run made before: plain values."""
    from genai.embedding.tuning.synthetic import make_queries
    from genai.jobs.passage_neighbours import passage_neighbours

    config = loaded.config
    synthetic = config.data.synthetic_queries
    assert synthetic is not None
    key = json.loads(json.dumps({"inputs": inputs.fingerprint, "settings": asdict(synthetic), "seed": config.seed}))
    path = directory.path / MADE_FILE
    if path.is_file():
        saved: dict[str, Any] = json.loads(path.read_bytes())
        if saved["key"] == key:
            return saved
    generator, judge = open_generators(config, synthetic)
    found = make_queries(
        inputs.material.passages,
        synthetic,
        generator=generator,
        judge=judge,
        embedder=base_vectors(config),
        neighbours_of=passage_neighbours(),
        corpus=inputs.material.passages,
        cache=cache_dir() / ANSWERS,
        seed=config.seed,
    )
    values = {
        "key": key,
        "pairs": [asdict(pair) for pair in found.pairs],
        "made": asdict(found.counts),
        "dropped": [asdict(each) for each in found.dropped],
    }
    plain: dict[str, Any] = json.loads(json.dumps(values))
    write_json(path, plain)
    return plain


def open_generators(
    config: EmbedFinetuneConfig, synthetic: SyntheticQueriesConfig
) -> tuple[Generator | None, Generator | None]:
    """What writes queries, and what judges them."""
    from genai.jobs.generators import open_generator

    def opened(name: str, section: GeneratorConfig | None) -> Generator | None:
        if section is None:
            return None
        return open_generator(
            section,
            runs_dir=config.runs_dir,
            num_threads=config.num_threads,
            seed=config.seed,
            section=f"data.synthetic_queries.{name}",
        )

    return opened("generator", synthetic.generator), opened("judge", synthetic.judge)
