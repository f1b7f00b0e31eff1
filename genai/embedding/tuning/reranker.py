"""A cross-encoder in training: loaded, asked, trained on pairs of a query and a passage, written.

Shapes: B rows (queries), K negatives of each.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from genai.config.embed_finetune import (
    BinaryCrossEntropyConfig,
    CrossEncoderConfig,
    ListwiseConfig,
    MarginMSEConfig,
    RetrievalLossConfig,
)
from genai.embedding.cross_encoder import probabilities
from genai.embedding.dropout import quicken_dropout
from genai.embedding.pair_tokenizing import PairTokenizer, PairTokens
from genai.embedding.settings import FolderSettings, read_json, read_settings
from genai.embedding.torch_loading import load_trainable_classifier
from genai.embedding.tuning.chunks import ACCELERATOR_OVERHEAD_TOKENS, CPU_OVERHEAD_TOKENS, cut
from genai.embedding.tuning.interfaces import Gather, Ids, PairBatch, PairScorer
from genai.embedding.tuning.objectives.labels import labels_of
from genai.embedding.tuning.objectives.margin_mse import margin_losses
from genai.embedding.tuning.objectives.reranking import binary_cross_entropy, listwise
from genai.errors import DataError, UsageError
from genai.log import get_logger
from genai.models import adapters
from genai.models.quiet import quiet_transformers
from genai.storage import atomic

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PAIRS_AT_ONCE = 128
"""Pairs a pass where nothing is kept for a gradient."""
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
    "*.py",
)
"""What a model's folder holds beside config and weights that a reranker needs."""
_SIGMOID = "torch.nn.modules.activation.Sigmoid"


class TrainableReranker(nn.Module):
    """A transformer that reads query and passage together and gives one number.

    Args:
        network: a sequence classifier with one label, with an adapter or without.
        tokenizer: joins query and passage.
        precision: `amp_bf16`: products in bfloat16 over float32 weights; `fp32`: everything in float32.
    """

    def __init__(
        self,
        network: nn.Module,
        tokenizer: PairTokenizer,
        *,
        precision: Literal["amp_bf16", "fp32"] = "fp32",
    ) -> None:
        super().__init__()
        self.network = network
        self.tokenizer = tokenizer
        self.precision = precision

    @classmethod
    def load(
        cls,
        folder: Path,
        config: CrossEncoderConfig,
        *,
        precision: Literal["amp_bf16", "fp32"] = "fp32",
        device: torch.device | str = "cpu",
        seed: int = 17,
    ) -> TrainableReranker:
        """The model of a folder, in evaluation mode; an encoder gets a new head, and a log line says so.

        Args:
            folder: a cross-encoder, or a transformer without a head, also one of sentence-transformers.
            config: the section `model`.
            precision: see the class.
            device: where it is trained.
            seed: of a new head and of an adapter.

        Raises:
            DataError: a file is missing or damaged, or it is a classifier of several labels.
            UsageError: it reads fewer tokens than max_tokens, or an adapter does not fit it.
        """
        settings = _settings(folder, config)
        network, new = load_trainable_classifier(
            settings.transformer, seed=seed, where=torch.device(device), trust_remote_code=config.trust_remote_code
        )
        if new:
            get_logger(__name__).info(
                "%s gives no scores yet: a new head starts random (%s)",
                config.pretrained_model_name_or_path,
                ", ".join(new),
            )
        whole: nn.Module = network
        if config.peft_config is not None:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                whole = adapters.add_adapter(network, config.peft_config, task="SEQ_CLS")
        quicken_dropout(whole)
        return cls(whole, PairTokenizer(settings, max_length=config.max_tokens), precision=precision).eval()

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return next(self.network.parameters()).device

    def forward(self, pairs: Sequence[PairTokens]) -> torch.Tensor:
        """Logits, float32 (n,), in the order of the pairs; like lengths go through the model together."""
        on_cpu = self.device.type == "cpu"
        chunks = cut(
            [len(pair.ids) for pair in pairs],
            overhead_tokens=CPU_OVERHEAD_TOKENS if on_cpu else ACCELERATOR_OVERHEAD_TOKENS,
        )
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "amp_bf16"):
            found = [self._logits([pairs[row] for row in rows]) for rows in chunks]
        if not found:
            return torch.zeros(0, device=self.device)
        back = torch.from_numpy(np.argsort(np.concatenate(chunks))).to(self.device)
        return torch.cat(found)[back]

    def pairs(self, queries: Sequence[str], passages: Sequence[str]) -> list[PairTokens]:
        """Tokens of each query with its passage."""
        return [self.tokenizer.pair(query, text) for query, text in zip(queries, passages, strict=True)]

    def tokens(self, texts: Sequence[str], kind: Literal["query", "document"]) -> tuple[list[Ids], int]:
        """Token ids of texts by themselves, and how many texts are longer than the model reads.

        The model never sees a text alone; they tell what a batch costs. Query and document are cut alike.
        """
        found = [self.tokenizer.ids(text) for text in texts]
        return [np.array(ids, dtype=np.int32) for ids, _ in found], sum(is_cut for _, is_cut in found)

    def as_scorer(self) -> PairScorer:
        """Scores by the model as it is when it is asked."""
        return LiveReranker(self)

    def _logits(self, pairs: Sequence[PairTokens]) -> torch.Tensor:
        inputs = {
            name: torch.from_numpy(values).to(self.device, non_blocking=True)
            for name, values in self.tokenizer.inputs(pairs).items()
        }
        output: Any = self.network(**inputs)
        logits: torch.Tensor = output.logits[:, 0].float()
        return logits


class LiveReranker:
    """A reranker in training that answers in between; see `genai.embedding.tuning.interfaces.PairScorer`.

    Args:
        model: its mode of training is left as it was.
    """

    def __init__(self, model: TrainableReranker) -> None:
        self._model = model

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Between 0 and 1, as `genai.embedding.cross_encoder.CrossEncoder` scores.

        Raises:
            DataError: the model gives infinite numbers.
        """
        logits = self.logits([(query, text) for text in texts])
        return [float(score) for score in probabilities(logits.astype(np.float64))]

    def logits(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(n,)

        Raises:
            DataError: see `score`.
        """
        model, was_training = self._model, self._model.training
        model.eval()
        try:
            with torch.no_grad():
                parts = [
                    model(model.pairs(*zip(*pairs[start : start + _PAIRS_AT_ONCE], strict=True))).cpu().numpy()
                    for start in range(0, len(pairs), _PAIRS_AT_ONCE)
                ]
        finally:
            model.train(was_training)
        logits = np.concatenate([np.zeros(0, dtype=np.float32), *parts])
        if not np.isfinite(logits).all():
            raise DataError("the reranker gives infinite numbers", fix="lower optimizer.lr")
        return logits


class RerankerLoss:
    """What a batch of pairs costs a reranker; see `genai.training.interfaces.BatchLoss`.

    Each row costs something by itself, so no rank needs another one's rows.

    Args:
        model: the reranker.
        queries: of each pair.
        passages: the corpus.
        config: the section `loss`.
        device: where the model lies.

    Raises:
        UsageError: the loss is one of encoders.
    """

    def __init__(
        self,
        model: TrainableReranker,
        queries: Sequence[str],
        passages: Sequence[str],
        config: RetrievalLossConfig,
        *,
        device: torch.device | str,
    ) -> None:
        if not isinstance(config, BinaryCrossEntropyConfig | ListwiseConfig | MarginMSEConfig):
            raise UsageError(
                f"{config.name} is a loss of encoders",
                where="loss.name",
                fix="take binary_cross_entropy, listwise or margin_mse, or model.name: sentence_encoder",
            )
        self.model = model
        self.device = torch.device(device)
        self._queries = queries
        self._passages = passages
        self._config = config

    def accumulate(self, batch: PairBatch, microbatch_size: int, gather: Gather) -> float:
        """Add the gradient of this rank's rows, a part of the global batch's mean, to the parameters' `.grad`.

        Args:
            batch: this rank's rows of a global batch.
            microbatch_size: rows a forward pass.
            gather: not needed.

        Returns:
            This rank's part of the mean loss: the parts of all ranks add up to it.

        Raises:
            UsageError: the loss needs negatives or labels, and there are none.
        """
        total = torch.zeros((), device=self.device)
        for start in range(0, len(batch.pairs), microbatch_size):
            loss = self._row_losses(batch, slice(start, start + microbatch_size)).sum() / batch.num_examples
            loss.backward()
            total += loss.detach()
        return float(total)

    def measure(self, batch: PairBatch, gather: Gather) -> tuple[float, int]:
        """Sum of the losses of this rank's rows, and how many these are; without a graph, in the model's own mode."""
        rows = max(1, _PAIRS_AT_ONCE // batch.passages.shape[1])
        total = 0.0
        with torch.no_grad():
            for start in range(0, len(batch.pairs), rows):
                total += float(self._row_losses(batch, slice(start, start + rows)).sum(dtype=torch.float64))
        return total, len(batch.pairs)

    def _row_losses(self, batch: PairBatch, rows: slice) -> torch.Tensor:
        passages = batch.passages[rows]
        asked = [self._queries[pair] for pair in batch.pairs[rows].tolist() for _ in range(passages.shape[1])]
        texts = [self._passages[each] for each in passages.flatten().tolist()]
        scores: torch.Tensor = self.model(self.model.pairs(asked, texts)).reshape(passages.shape)
        labels = None if batch.labels is None else torch.from_numpy(batch.labels[rows]).to(self.device)
        match self._config:
            case BinaryCrossEntropyConfig(positive_weight=weight):
                return binary_cross_entropy(scores, labels, positive_weight=weight)
            case ListwiseConfig():
                return listwise(scores)
            case MarginMSEConfig(scale=scale):
                return margin_losses(scores * scale, labels_of(labels, "margin_mse"))


def save_reranker(model: TrainableReranker, source: Path, target: Path) -> None:
    """Write a folder that transformers, sentence-transformers' CrossEncoder and `genai.embedding.cross_encoder` load,
    in float32; an adapter is merged into it, and the model in training stays as it is.

    Its scores are probabilities in each of them: the sigmoid of the logit.

    Args:
        model: the trained reranker.
        source: the folder it was loaded from, for the tokenizer's files.
        target: made, or replaced as a whole.

    Raises:
        GenaiError: the disk is full.
    """
    network: Any = copy.deepcopy(model.network)
    plain: PreTrainedModel = adapters.merge(network) if hasattr(network, "peft_config") else network
    _say_sigmoid(plain.config)
    transformer = read_settings(source).transformer
    with atomic.atomic_directory(target, existing="replace") as scratch, quiet_transformers():
        for pattern in _TOKENIZER_FILES:
            for file in sorted(transformer.glob(pattern)):
                shutil.copyfile(file, scratch / file.name)
        tokenizer_config = transformer / "tokenizer_config.json"
        values = read_json(tokenizer_config) if tokenizer_config.is_file() else {}
        atomic.write_json(scratch / "tokenizer_config.json", {**values, "model_max_length": model.tokenizer.max_length})
        plain.save_pretrained(scratch)
        for file in scratch.glob("*.safetensors"):
            # safetensors writes for the owner only, whatever the umask is
            shutil.copymode(scratch / "config.json", file)


def _say_sigmoid(config: Any) -> None:
    """Let sentence-transformers put a sigmoid behind the model; some rerankers' folders say that it shall not."""
    config.sentence_transformers = {"activation_fn": _SIGMOID}
    if hasattr(config, "sbert_ce_default_activation_function"):  # what it was called before 4.0
        del config.sbert_ce_default_activation_function


def _settings(folder: Path, config: CrossEncoderConfig) -> FolderSettings:
    settings = read_settings(folder)
    wanted, readable = config.max_tokens, settings.max_positions
    if wanted is not None and readable is not None and wanted > readable:
        raise UsageError(
            f"{config.pretrained_model_name_or_path} reads at most {readable} tokens, not {wanted}",
            where="model.max_tokens",
        )
    return settings
