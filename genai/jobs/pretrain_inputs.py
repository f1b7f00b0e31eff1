"""What `genai pretrain` reads before anything heavy is imported: references, and the indexes of all streams.

Everything here is free of torch and transformers, so that a mistake in a job file is told in a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from genai.config.loading import Loaded
from genai.config.pretrain import HFModelConfig, LlamaModelConfig, PretrainConfig, StreamConfig, TextDatasetConfig
from genai.config.sizes import parse_size
from genai.data.token_streams.mixing import choose_samples
from genai.data.token_streams.specs import Source, StreamSpec, check_length, fingerprint, open_source
from genai.jobs.problems import Problems
from genai.jobs.training_inputs import check_destinations, check_remote_code, check_warm_start, check_webhook
from genai.models.loading import tokenizer_kwargs_problems
from genai.models.references import exists_problem
from genai.models.tokenizers import tokenizer_problem
from genai.storage.atomic import cache_dir

ONE_STREAM = "data"
"""Name of the stream of a data set that has no `streams`."""


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The shards of a loader, as their indexes describe them."""

    specs: tuple[StreamSpec, ...]
    """Where they lie."""
    fingerprint: str
    """Of what they hold."""
    num_samples: int
    """Samples an epoch."""
    size_bytes: int
    """All shards as they are stored."""
    num_shards: int

    @property
    def described(self) -> str:
        """The streams in a few words."""
        return ", ".join("/".join(part for part in (s.remote or s.local, s.split) if part) for s in self.specs)


@dataclass(frozen=True, kw_only=True)
class PretrainInputs:
    """What a job streams."""

    train: Shards
    evaluation: Shards | None
    cache_dir: Path
    """Where shards of remote streams are kept."""

    @property
    def fingerprint(self) -> str:
        """Of everything that a result depends on beside the config."""
        return f"{self.train.fingerprint}:{self.evaluation.fingerprint if self.evaluation else ''}"


def read_inputs(loaded: Loaded[PretrainConfig], *, allow_code: bool = False) -> PretrainInputs:
    """Check the references and read all indexes.

    Args:
        loaded: the job file.
        allow_code: whether the command line lets a model bring its own Python.

    Raises:
        ConfigError: something in the job file leads nowhere, or to shards that do not fit; each fault has
        file:line:column.
    """
    config = loaded.config
    problems = Problems(loaded)
    _check_model(loaded, problems, allow_code=allow_code)
    check_warm_start(loaded, problems)
    check_webhook(loaded, problems)
    train = _read(config.train_loader.dataset, "train_loader.dataset", config, problems)
    evaluation = None
    if config.eval_loader is not None:
        evaluation = _read(config.eval_loader.dataset, "eval_loader.dataset", config, problems)
    problems.raise_all()
    check_destinations(loaded, problems)
    problems.raise_all()
    assert train is not None
    return PretrainInputs(train=train, evaluation=evaluation, cache_dir=cache_dir() / "shards")


def cache_limit_bytes(dataset: TextDatasetConfig) -> int | None:
    """`cache_limit` in bytes."""
    return None if dataset.cache_limit is None else parse_size(dataset.cache_limit)


def _check_model(loaded: Loaded[PretrainConfig], problems: Problems, *, allow_code: bool) -> None:
    config = loaded.config
    reference = getattr(config.model, "pretrained_model_name_or_path", None)
    if isinstance(config.model, HFModelConfig | LlamaModelConfig) and reference is not None:
        problem = exists_problem(reference, runs_dir=config.runs_dir)
        if problem is not None:
            problems.add("model.pretrained_model_name_or_path", problem.message, problem.fix)
    if config.tokenizer.name is not None:
        problem = tokenizer_problem(config.tokenizer.name, runs_dir=config.runs_dir)
        if problem is not None:
            problems.add("tokenizer.name", problem.message, problem.fix)
    problems.extend("tokenizer.kwargs", tokenizer_kwargs_problems(config.tokenizer.kwargs))
    if isinstance(config.model, HFModelConfig):
        check_remote_code(problems, wanted=config.model.trust_remote_code, allow_code=allow_code)


def _read(dataset: TextDatasetConfig, key: str, config: PretrainConfig, problems: Problems) -> Shards | None:
    """The indexes of all streams of a loader; None where one of them is wrong, which is then noted."""
    sources: list[Source] = []
    streams = dataset.streams or {ONE_STREAM: StreamConfig()}
    specs = specs_of(dataset)
    for (name, stream), spec in zip(streams.items(), specs, strict=True):
        where = f"{key}.streams.{name}" if dataset.streams is not None else key
        given = stream if dataset.streams is not None else dataset
        with problems.at(f"{where}.{'remote' if given.remote is not None else 'local'}"):
            source = open_source(spec)
            check_length([source], config.max_seq_len)
            sources.append(source)
    if len(sources) < len(specs):
        return None
    _check_hash(dataset, key, sources, problems)
    found = None
    with problems.at(f"{key}.streams" if dataset.streams is not None else key):
        counts = [int(source.sizes.sum()) for source in sources]
        num_samples = sum(choose_samples(specs, counts, dataset.epoch_size))
        shards = [shard for source in sources for shard in source.shards]
        found = Shards(
            specs=tuple(specs),
            fingerprint=fingerprint(sources),
            num_samples=num_samples,
            size_bytes=sum(shard.stored.size_bytes for shard in shards),
            num_shards=len(shards),
        )
    return found


def _check_hash(dataset: TextDatasetConfig, key: str, sources: Sequence[Source], problems: Problems) -> None:
    """Whether the indexes hold the hashes that shards shall be compared with."""
    wanted = dataset.validate_hash
    for source in sources:
        lacking = next((shard for shard in source.shards if wanted not in shard.hashes), None)
        if wanted is not None and lacking is not None:
            fix = f"write {lacking.hashes[0]}" if lacking.hashes else "leave it out"
            problems.add(f"{key}.validate_hash", f"{source.store.url}: index.json holds no {wanted} of its shards", fix)


def specs_of(dataset: TextDatasetConfig) -> Sequence[StreamSpec]:
    """The streams of a data set; one where it has no `streams`."""
    if dataset.streams is None:
        return [StreamSpec(name=ONE_STREAM, remote=dataset.remote, local=dataset.local, split=dataset.split)]
    return [StreamSpec(name=name, **asdict(stream)) for name, stream in dataset.streams.items()]
