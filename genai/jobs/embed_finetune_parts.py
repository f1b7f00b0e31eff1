"""Builds the parts of a tuning run out of the rooms: model, tokens, negatives, stream, loss, trainer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genai.config.durations import Duration
from genai.config.embed_finetune import (
    CoSENTConfig,
    CrossEncoderConfig,
    DistillationConfig,
    EmbedFinetuneConfig,
    MarginMSEConfig,
)
from genai.config.loading import Loaded
from genai.data.retrieval.checks import check_cut
from genai.data.retrieval.records import RetrievalData
from genai.embedding.opening import find_folder
from genai.embedding.tuning.interfaces import PairBatch, TokenTable
from genai.embedding.tuning.stream import Labels, PairIndex, PairStream, held_out_batches, index_pairs
from genai.embedding.tuning.synthetic.drafts import MadeCounts
from genai.embedding.tuning.teachers import open_teacher
from genai.embedding.tuning.tokenising import lengths_of, token_table
from genai.jobs import training_parts
from genai.jobs.embed_finetune_base import base_vectors
from genai.jobs.embed_finetune_inputs import Inputs, learns_grades
from genai.jobs.embed_finetune_kinds import Kind, Texts, open_kind
from genai.jobs.embed_finetune_measuring import Outcome
from genai.jobs.embed_finetune_mining import Miner, Remine
from genai.jobs.embed_finetune_result import EmbedFinetuneResult, Promotion
from genai.jobs.pinned_tables import TABLES
from genai.jobs.problems import at
from genai.models.adapters import save_adapter
from genai.models.fingerprint import fingerprint
from genai.models.references import resolve_model
from genai.storage.atomic import cache_dir
from genai.tracking.metrics import read_metrics
from genai.tracking.run import RunDirectory
from genai.training.allocator import keep_freed_memory
from genai.training.callbacks.base import Callback
from genai.training.checkpoints import Checkpoints, SavedState
from genai.training.interfaces import BatchLoss
from genai.training.parallel.ranks import Ranks
from genai.training.plan.steps import StepPlan, count_steps
from genai.training.state import TrainState
from genai.training.trainer import MetricSink, Trainer

_NUM_KERNELS = 512
"""Compiled kernels that are kept: packed texts come in more shapes than filled rows. With as many as the other jobs
keep, a step takes a quarter longer; these take some 350 MiB more."""
_AT_ONCE = 128
"""Rows of a forward pass where the job file leaves it open."""


@dataclass(kw_only=True)
class Parts:
    """Everything that a run is made of; the model's weights move."""

    config: EmbedFinetuneConfig
    inputs: Inputs
    data: RetrievalData
    device: torch.device
    ranks: Ranks
    source: Path
    """Folder of the model that was loaded."""
    kind: Kind
    texts: Texts
    index: PairIndex
    stream: PairStream
    steps: StepPlan
    microbatch_size: int
    miner: Miner | None
    loss: BatchLoss

    @property
    def model(self) -> Any:
        """What is trained."""
        return self.kind.model

    @property
    def num_negatives(self) -> int:
        """Of each row."""
        return _num_negatives(self.config, self.index)

    @property
    def tokens(self) -> TokenTable:
        """Of all texts."""
        return self.texts.tokens

    @property
    def queries(self) -> Sequence[str]:
        """Of each pair, the held-out ones for validation behind those that are trained on."""
        return self.texts.queries

    @property
    def passages(self) -> Sequence[str]:
        """Every text that is trained on or searched, the corpus first."""
        return self.texts.passages

    @cached_property
    def base_reranker(self) -> str | None:
        """The reranker before training; None for an encoder that got a new head."""
        from transformers import AutoConfig

        architectures = AutoConfig.from_pretrained(self.source).architectures or []
        is_one = any(name.endswith("ForSequenceClassification") for name in architectures)
        return str(self.source) if is_one else None

    @cached_property
    def weights_fingerprint(self) -> str:
        """Of the model that was loaded."""
        return fingerprint(self.source)

    @property
    def fingerprints(self) -> dict[str, Any]:
        """What identifies the inputs: the model, what is trained and measured with, the versions of tables."""
        reference = self.config.model.pretrained_model_name_or_path
        return {
            "model": {"reference": reference, "fingerprint": self.weights_fingerprint},
            "train": {"pairs": len(self.data.train), "passages": len(self.data.passages)},
            "data": {"fingerprint": self.data.fingerprint},
            **({TABLES: dict(self.inputs.tables)} if self.inputs.tables else {}),
        }

    def find_negatives(self, saved: SavedState | None) -> None:
        """Mine with the model as it was loaded, or take what the checkpoint was trained on. All ranks must call it.

        Args:
            saved: the checkpoint that the run goes on from.
        """
        if self.miner is None:
            return
        if saved is None:
            self.miner.mine(partial(base_vectors, self.config), batch=0)
        else:
            self.miner.take(saved.stream["negatives"])

    def write_model(self, directory: RunDirectory) -> None:
        """Write the model into the run directory, and its adapter beside it."""
        self.save(directory.model, adapter=directory.adapter)

    def save(self, folder: Path, *, adapter: Path) -> None:
        """Write the model as it is now."""
        model = self.config.model
        self.kind.save(self.source, folder)
        if model.peft_config is not None:
            base = resolve_model(str(self.source), runs_dir=self.config.runs_dir)
            save_adapter(self.kind.adapted(), adapter, base=base)

    def distance_to(self, folder: Path, count: int) -> float:
        """How far the model in that folder is from this one, over a few texts."""
        return self.kind.distance(folder, self.queries[:count], self.passages[:count])

    # --- what the proofs look at ---

    def first_batches(self, count: int) -> Iterator[PairBatch]:
        """The first batches of the run, of one rank that has all rows; the stream itself does not move."""
        stream = _stream(self.config, self.index, self.tokens, labels=None, batch_size=None)
        if self.miner is not None and self.miner.last is not None:
            stream.set_negatives(self.miner.last.negatives, "peek")
        for _ in range(min(count, self.steps.batches)):
            yield stream.next_batch()

    def first_rows(self, count: int) -> PairBatch:
        """The first rows of the run as a batch of their own."""
        labels = _labels(self.config, self.texts)
        size = min(count, len(self.data.train))
        return _stream(self.config, self.index, self.tokens, labels=labels, batch_size=size).next_batch()

    def base_scores(self, batches: Sequence[PairBatch]) -> list[NDArray[np.float32]]:
        """Scores of batches by the encoder as it is before training, (rows, 1 + K) each."""
        vectors = base_vectors(self.config)
        pairs = np.unique(np.concatenate([batch.pairs for batch in batches]))
        places = np.unique(np.concatenate([batch.passages.flatten() for batch in batches]))
        queries = vectors.embed_queries([self.queries[pair] for pair in pairs.tolist()])
        documents = vectors.embed_documents([self.passages[place] for place in places.tolist()])
        return [
            np.asarray(
                np.einsum(
                    "rd,rkd->rk",
                    queries[np.searchsorted(pairs, batch.pairs)],
                    documents[np.searchsorted(places, batch.passages)],
                ),
                dtype=np.float32,
            )
            for batch in batches
        ]


def build_parts(
    loaded: Loaded[EmbedFinetuneConfig],
    data: RetrievalData,
    inputs: Inputs,
    directory: RunDirectory,
    ranks: Ranks | None = None,
    *,
    mine: bool = True,
) -> Parts:
    """Fetch and load the model, tokenise.

    Args:
        loaded: the job file.
        data: what is trained and measured with.
        inputs: what was read.
        directory: of the run; mined negatives are kept in it.
        ranks: who trains; None for one process.
        mine: whether negatives will be mined; in a plan random passages stand in.

    Raises:
        ConfigError: the model does not fit the job file, with file:line:column.
    """
    config = loaded.config
    device = choose_device(config, ranks)
    ranks = ranks or Ranks(device=device)
    torch.manual_seed(config.seed)
    with at(loaded, "model.pretrained_model_name_or_path"), ranks.main_first():
        source = find_folder(config.model.pretrained_model_name_or_path, config.model.revision, config.runs_dir)
    with at(loaded, "model"):
        kind = open_kind(source, config, device)
    if device.type == "cpu":
        keep_freed_memory()
    training_parts.warm_start(loaded, kind.model)
    index = index_pairs(data, graded=learns_grades(config))
    tokens = token_table(kind.model.tokens, index.queries, index.texts)
    check_cut(tokens.num_cut_passages, data, config.data.checks)
    texts = Texts(queries=index.queries, passages=index.texts, tokens=tokens)
    with at(loaded, "loss"):
        labels = _labels(config, texts)
        stream = _stream(config, index, tokens, labels=labels, batch_size=None, ranks=ranks)
        loss = kind.loss(texts, device)
    steps = count_steps(
        stream,
        Duration.parse(config.max_duration),
        num_rows=len(data.train),
        num_tokens=_tokens_of_epoch(index, tokens, _num_negatives(config, index)),
    )
    miner = None
    if config.hard_negatives is not None and mine:
        miner = Miner(config, data, index, stream, directory, ranks)
    return Parts(
        config=config,
        inputs=inputs,
        data=data,
        device=device,
        ranks=ranks,
        source=source,
        kind=kind,
        texts=texts,
        index=index,
        stream=stream,
        steps=steps,
        microbatch_size=_microbatch_size(config),
        miner=miner,
        loss=loss,
    )


def choose_device(config: EmbedFinetuneConfig, ranks: Ranks | None = None) -> torch.device:
    """Where to train; see `genai.jobs.training_parts.choose_device`."""
    return training_parts.choose_device(config, ranks, num_kernels=_NUM_KERNELS)


def _microbatch_size(config: EmbedFinetuneConfig) -> int:
    wanted = config.device_train_microbatch_size
    return min(config.global_train_batch_size, _AT_ONCE) if wanted == "auto" else wanted


def _labels(config: EmbedFinetuneConfig, texts: Texts) -> Labels | None:
    """What a teacher says of rows; None where the labels come with the data, or the loss needs none."""
    if not isinstance(config.loss, MarginMSEConfig | DistillationConfig):
        return None
    teacher = open_teacher(
        config.loss,
        queries=texts.queries,
        passages=texts.passages,
        runs_dir=config.runs_dir,
        cache=cache_dir() / "teachers",
        num_threads=config.num_threads,
    )
    return None if teacher is None else teacher.labels


def _stream(
    config: EmbedFinetuneConfig,
    index: PairIndex,
    tokens: TokenTable,
    *,
    labels: Labels | None,
    batch_size: int | None,
    ranks: Ranks | None = None,
) -> PairStream:
    return PairStream(
        index,
        tokens,
        batch_size=batch_size or config.global_train_batch_size,
        num_negatives=_num_negatives(config, index),
        seed=config.seed,
        rank=ranks.data_rank if ranks else 0,
        world_size=ranks.data_world_size if ranks else 1,
        # A reranker looks at each row by itself.
        distinct=not isinstance(config.model, CrossEncoderConfig),
        labels=labels,
    )


def _tokens_of_epoch(index: PairIndex, tokens: TokenTable, num_negatives: int) -> int:
    """About how many tokens a pass has: of queries and positives exactly, negatives are taken to be as long as
    passages are in the mean.
    """
    queries, passages = lengths_of(tokens.queries), lengths_of(tokens.passages)
    rows = index.trained
    own = int(queries[rows].sum() + passages[index.positives[rows]].sum())
    return own + round(num_negatives * len(rows) * float(passages.mean()))


def _num_negatives(config: EmbedFinetuneConfig, index: PairIndex) -> int:
    """Of each row: as many as are mined, else as come with the pairs; graded pairs have none."""
    if isinstance(config.loss, CoSENTConfig):
        return 0
    return index.given.shape[1] if config.hard_negatives is None else config.hard_negatives.num_negatives


# --- the trainer ------------------------------------------------------------------------------------------------------


def open_checkpoints(parts: Parts, directory: RunDirectory) -> Checkpoints:
    """The run's checkpoints, in save_folder where one is given."""
    context = training_parts.context_of(
        parts.config,
        parts.device,
        parts.ranks,
        model_fingerprint=parts.weights_fingerprint,
        data_fingerprint=parts.data.fingerprint,
    )
    return training_parts.open_checkpoints(parts.config, directory, context, parts.ranks)


def build_trainer(
    parts: Parts, checkpoints: Checkpoints, metrics: MetricSink, *, run_name: str, watching: Sequence[Callback] = ()
) -> Trainer:
    """The trainer with all its parts, at the beginning of the run; `watching` are callbacks of the job's own."""
    config, data = parts.config, parts.data
    callbacks: list[Callback] = [*watching]
    mining = config.hard_negatives
    if parts.miner is not None and mining is not None and mining.refresh is not None:
        live = parts.kind.live()
        if live is not None:
            callbacks.append(Remine(parts.miner, live, interval=mining.refresh, total_batches=parts.steps.batches))
    return training_parts.make_trainer(
        config,
        training_parts.share_batches(config, parts.loss, parts.ranks),
        stream=parts.stream,
        steps=parts.steps,
        eval_batches=partial(_validation, parts) if data.validation else None,
        microbatch_size=parts.microbatch_size,
        checkpoints=checkpoints,
        metrics=metrics,
        run_name=run_name,
        name_row=lambda index: data.train[index].source or repr(data.train[index].query),
        more_callbacks=callbacks,
    )


def _validation(parts: Parts) -> Iterator[PairBatch]:
    """Validation queries in batches like those of training; their negatives are the batch's other documents."""
    return held_out_batches(
        parts.index,
        parts.tokens,
        batch_size=parts.config.global_train_batch_size,
        num_negatives=parts.num_negatives,
        labels=_labels(parts.config, parts.texts),
        rank=parts.ranks.data_rank,
        world_size=parts.ranks.data_world_size,
    )


# --- the result -------------------------------------------------------------------------------------------------------


def result_of(
    parts: Parts,
    directory: RunDirectory,
    state: TrainState,
    outcome: Outcome,
    *,
    made: MadeCounts | None,
    promotion: Promotion,
    train_cpu_s: float,
    total_s: float,
) -> EmbedFinetuneResult:
    """Everything as plain values."""
    config, data = parts.config, parts.data
    losses = [record["loss/train"] for record in read_metrics(directory.metrics_path) if "loss/train" in record]
    return EmbedFinetuneResult(
        run=directory.name,
        path=str(directory.path),
        kind=config.model.name,
        model=str(directory.model),
        adapter=str(directory.adapter) if config.model.peft_config is not None else None,
        report=str(directory.report),
        num_pairs=len(data.train),
        num_passages=len(data.passages),
        num_queries=len(data.test),
        num_near_duplicates=len(data.near_duplicates),
        changes=outcome.test,
        validation=outcome.validation,
        forgetting=outcome.forgetting,
        shorter=outcome.shorter,
        won=outcome.won,
        lost=outcome.lost,
        num_won=outcome.num_won,
        num_lost=outcome.num_lost,
        made=made,
        negatives=None if parts.miner is None else parts.miner.summary(),
        promotion=promotion,
        search=None,
        loss_first=losses[0] if losses else None,
        loss_last=losses[-1] if losses else None,
        batches=state.batch,
        epochs=state.epoch,
        tokens=state.tokens,
        train_s=state.train_time_s,
        train_cpu_s=train_cpu_s,
        total_s=total_s,
        pairs_per_s=state.samples / state.train_time_s if state.train_time_s else 0.0,
        exact=state.exact,
        inexact_reasons=state.inexact_reasons,
    )
