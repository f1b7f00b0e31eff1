"""An encoder in training: from token ids to vectors of length 1, with a graph; and the folder that it is written to.

Shapes: B texts, W width of the transformer, D numbers a vector.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import nn

from genai.config.embed_finetune import SentenceEncoderConfig
from genai.embedding.dropout import quicken_dropout
from genai.embedding.packed import Packing, find_packing
from genai.embedding.pooling import load_dense
from genai.embedding.settings import FolderSettings, Pooling, read_json, read_modules, read_settings
from genai.embedding.tokenizing import TextTokenizer, load_tokenizer
from genai.embedding.torch_encoder import padded_vectors
from genai.embedding.torch_loading import load_text_model
from genai.embedding.tuning.chunks import ACCELERATOR_OVERHEAD_TOKENS, CPU_OVERHEAD_TOKENS, cut
from genai.embedding.tuning.interfaces import Ids, Vectors
from genai.embedding.vectors import finished
from genai.errors import UsageError
from genai.models.adapters import add_adapter, merge
from genai.models.quiet import quiet_transformers
from genai.storage import atomic

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WITHOUT_CUT = 1 << 40
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "Identity": nn.Identity,
    "Tanh": nn.Tanh,
    "ReLU": nn.ReLU,
    "Sigmoid": nn.Sigmoid,
}
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".ot", ".gguf", ".pkl")
_NOT_COPIED = ("README.md", "genai-source.json")
"""They speak of the weights that were there before."""
_POOLING_MODES: dict[Pooling, str] = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "last_token": "pooling_mode_lasttoken",
}
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_MODULE = "sentence_transformers.models."


class TrainableEncoder(nn.Module):
    """A transformer, its pooling and the layers after it.

    Weights are float32; under `amp_bf16` products of the transformer are bfloat16, pooling and later layers are not.
    On a CPU a batch is packed, where the model can take that (see `genai.embedding.packed`); otherwise it is cut into
    chunks of like lengths.

    Args:
        transformer: of transformers, perhaps within peft's wrapper of an adapter.
        settings: of its folder.
        pooling: from token vectors to one.
        tokenizer: of the folder.
        prompts: before a query and before a document.
        max_length: tokens of the longest input, special ones among them.
        packing: how the transformer takes packed texts, if it does.
        precision: `amp_bf16` or `fp32`.
    """

    def __init__(
        self,
        transformer: PreTrainedModel,
        *,
        settings: FolderSettings,
        pooling: Pooling,
        tokenizer: TextTokenizer,
        prompts: Mapping[Literal["query", "document"], str],
        max_length: int,
        packing: Packing | None,
        precision: str,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.dense = nn.ModuleList([_dense_layer(folder) for folder in settings.dense])
        self.dense.to(transformer.device)
        self.pooling: Pooling = pooling
        self.prompts = dict(prompts)
        self.max_length = max_length
        self.width = settings.width
        self.device = transformer.device
        self._pad_token_id = settings.pad_token_id
        self._tokenizer = tokenizer
        self._packing = packing
        self.precision = precision

    @classmethod
    def load(
        cls,
        folder: Path,
        config: SentenceEncoderConfig,
        *,
        precision: Literal["amp_bf16", "fp32"],
        device: torch.device | str,
    ) -> TrainableEncoder:
        """The encoder of a folder, in evaluation mode, with a fresh adapter where the config has one.

        Args:
            folder: of sentence-transformers, or of a transformer alone.
            config: what differs from what the folder says.
            precision: number format of products.
            device: where it is put.

        Raises:
            DataError: a file is missing or damaged.
            UsageError: a setting that the model cannot have, or a part that genai cannot run.
            MissingExtraError: a package is not installed.
        """
        settings = read_settings(folder)
        positions = settings.max_positions
        if config.max_tokens is not None and positions is not None and config.max_tokens > positions:
            raise UsageError(
                f"{config.pretrained_model_name_or_path} reads at most {positions} tokens, not {config.max_tokens}",
                where="model.max_tokens",
            )
        transformer: Any = load_text_model(
            settings.transformer, precision="fp32", trust_remote_code=config.trust_remote_code
        )
        transformer.to(torch.device(device))
        packing = find_packing(transformer, settings.pad_token_id)
        if config.peft_config is not None:
            transformer = add_adapter(transformer, config.peft_config, task="FEATURE_EXTRACTION")
        quicken_dropout(transformer)
        stated = {"query": config.query_prompt, "document": config.document_prompt}
        found = {"query": settings.query_prompt, "document": settings.document_prompt}
        encoder = cls(
            transformer,
            settings=settings,
            pooling=config.pooling or settings.pooling or "mean",
            tokenizer=load_tokenizer(settings.transformer, lowercase=settings.lowercase),
            prompts={kind: found[kind] if text is None else text for kind, text in stated.items()},  # type: ignore[misc]
            max_length=config.max_tokens or settings.max_length,
            packing=packing,
            precision=precision,
        )
        return encoder.eval()

    def forward(self, sequences: Sequence[Ids]) -> torch.Tensor:
        """Vectors of length 1 in the order given, float32 (B, D); of a text without a token zeros."""
        rows = [row for row, ids in enumerate(sequences) if len(ids)]
        if not rows:
            return torch.zeros(len(sequences), self.width, device=self.device)
        pooled_BW, order = self._pooled([sequences[row] for row in rows])
        for layer in self.dense:
            pooled_BW = layer(pooled_BW)
        vectors_BD = nn.functional.normalize(pooled_BW, dim=1)
        places = torch.from_numpy(np.asarray(rows)[order]).to(self.device)
        # where each text's vector is now
        back = torch.full((len(sequences),), len(rows), device=self.device)
        back[places] = torch.arange(len(rows), device=self.device)
        if len(rows) < len(sequences):
            vectors_BD = torch.cat([vectors_BD, vectors_BD.new_zeros(1, vectors_BD.shape[1])])
        return vectors_BD[back]

    def tokens(self, texts: Sequence[str], kind: Literal["query", "document"]) -> tuple[list[Ids], int]:
        """The texts as the model reads them, behind their prompt, and how many were longer than that."""
        found, num_cut = [], 0
        for text in texts:
            ids = self._tokenizer.sequence(self.prompts[kind] + text, _WITHOUT_CUT)
            if len(ids) > self.max_length:
                num_cut += 1
                ids = self._tokenizer.sequence(self.prompts[kind] + text, self.max_length)
            found.append(np.asarray(ids, dtype=np.int32))
        return found, num_cut

    def _pooled(self, sequences: Sequence[Ids]) -> tuple[torch.Tensor, Any]:
        """(B, W), and which text each row is of."""
        model = self._bare()
        lengths = [len(ids) for ids in sequences]
        # One context for all chunks: weights that it has rounded once are kept.
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "amp_bf16"):
            if self._packing is not None and self._packing.fits(lengths):
                order = np.argsort(-np.asarray(lengths), kind="stable")
                return self._packing.vectors(model, [sequences[row] for row in order], self.pooling), order
            overhead = CPU_OVERHEAD_TOKENS if self.device.type == "cpu" else ACCELERATOR_OVERHEAD_TOKENS
            chunks = cut(lengths, overhead_tokens=overhead)
            parts = [
                padded_vectors(model, [sequences[row] for row in chunk], self.pooling, self._pad_token_id)
                for chunk in chunks
            ]
        return torch.cat(parts), np.concatenate(chunks)

    def _bare(self) -> Any:
        """The transformer without peft's wrapper around it; the adapter's layers are inside."""
        transformer: Any = self.transformer
        return transformer.get_base_model() if hasattr(transformer, "peft_config") else transformer


class LiveEncoder:
    """Texts to vectors by a model in training, as it is now; see `genai.embedding.tuning.interfaces.TextEmbedder`.

    Args:
        model: is asked without a graph and without dropout, and is in its own mode again afterwards.
        batch_size: texts at once.
    """

    def __init__(self, model: TrainableEncoder, *, batch_size: int = 256) -> None:
        self._model = model
        self._batch_size = batch_size

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """(n, D)

        Raises:
            DataError: the weights give infinite numbers.
        """
        return self._embed(texts, "document")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """(n, D)

        Raises:
            DataError: see `embed_documents`.
        """
        return self._embed(texts, "query")

    def _embed(self, texts: Sequence[str], kind: Literal["query", "document"]) -> Vectors:
        sequences, _ = self._model.tokens(texts, kind)
        vectors = np.zeros((len(texts), self._model.width), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda row: -len(sequences[row]))
        with _evaluating(self._model), torch.no_grad():
            for start in range(0, len(order), self._batch_size):
                rows = order[start : start + self._batch_size]
                vectors[rows] = self._model([sequences[row] for row in rows]).cpu().numpy()
        return finished(vectors, dimension=self._model.width, normalize=True, model="the model in training")


def save_encoder(model: TrainableEncoder, source: Path, target: Path) -> None:
    """Write the encoder as a folder that sentence-transformers and genai load; `model` stays as it is.

    Everything small is copied from `source`; weights are written in float32, an adapter is added into them. A
    transformer alone becomes a folder of sentence-transformers. Prompts, pooling and length are those trained with.

    Args:
        model: what was trained.
        source: the folder that it was loaded from.
        target: made, or replaced as a whole.

    Raises:
        DataError: `source` is damaged.
        GenaiError: the disk is full.
    """
    settings = read_settings(source)
    modules = read_modules(source)
    inside = settings.transformer.relative_to(source)
    with atomic.atomic_directory(target, existing="replace") as scratch:
        for folder in dict.fromkeys([source, settings.transformer, *(source / path for _, path in modules)]):
            _copy_small_files(folder, scratch / folder.relative_to(source))
        _write_transformer(model, settings, scratch / inside)
        for layer, folder in zip(model.dense, settings.dense, strict=True):
            _write_dense(cast("nn.Sequential", layer), folder, scratch / folder.relative_to(source))
        _write_modules(model, source, scratch)
        _write_prompts(model, settings, scratch)


def _dense_layer(folder: Path) -> nn.Sequential:
    """The layer of a sentence-transformers Dense module, to be trained."""
    found, config = load_dense(folder), read_json(folder / "config.json")
    num_out, num_in = found.weight.shape
    linear = nn.Linear(num_in, num_out, bias=bool(config.get("bias", True)))
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(found.weight))
        if linear.bias is not None:
            linear.bias.copy_(torch.from_numpy(found.bias))
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    return nn.Sequential(linear, _ACTIVATIONS[activation]())


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout within the block."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _copy_small_files(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    # A part without settings has no folder in a package, which knows no empty ones.
    for file in source.iterdir() if source.is_dir() else ():
        is_weight = file.suffix in _WEIGHTS or file.name.endswith(".index.json")
        if file.is_file() and not is_weight and file.name not in _NOT_COPIED and not file.name.startswith("."):
            shutil.copyfile(file, target / file.name)


def _write_transformer(model: TrainableEncoder, settings: FolderSettings, target: Path) -> None:
    plain: Any = model.transformer
    if hasattr(plain, "peft_config"):
        plain = merge(copy.deepcopy(plain))
    known = _weight_names(settings.transformer)
    # A pooler that the files did not hold was random from the start, and nobody looks at it.
    state = {
        name: tensor.detach().float().cpu().contiguous() if tensor.is_floating_point() else tensor.cpu()
        for name, tensor in plain.state_dict().items()
        if not name.startswith("pooler.") or any(known_name.endswith(name) for known_name in known)
    }
    config = read_json(settings.transformer / "config.json")
    with quiet_transformers():
        plain.save_pretrained(target, state_dict=state, max_shard_size="1000GB")
    # What transformers writes of a config is that of its own version; only what has changed is put into the old one.
    config |= {"architectures": [type(plain).__name__], "dtype": "float32"}
    config.pop("torch_dtype", None)
    atomic.write_json(target / "config.json", config)
    shutil.copymode(target / "config.json", target / "model.safetensors")  # which is its owner's alone by then


def _weight_names(folder: Path) -> set[str]:
    from safetensors import safe_open

    names: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            names.update(opened.keys())
    return names


def _write_dense(layer: nn.Sequential, source: Path, target: Path) -> None:
    from safetensors.torch import save_file

    linear = cast("nn.Linear", layer[0])
    tensors = {f"linear.{name}": values.detach().float().cpu() for name, values in linear.named_parameters()}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    shutil.copymode(target / "config.json", target / "model.safetensors")


def _write_modules(model: TrainableEncoder, source: Path, target: Path) -> None:
    """modules.json, the pooling's settings, and how long texts may be."""
    file = source / "modules.json"
    listed: list[dict[str, Any]] = (
        json.loads(file.read_text(encoding="utf-8")) if file.is_file() else [_module("Transformer", "")]
    )
    kinds = [entry["type"].rpartition(".")[2] for entry in listed]
    if "Pooling" not in kinds:
        listed.insert(1, _module("Pooling", "1_Pooling"))
        kinds.insert(1, "Pooling")
    if "Normalize" not in kinds:
        listed.append(_module("Normalize", f"{len(listed)}_Normalize"))
    for index, entry in enumerate(listed):
        entry |= {"idx": index, "name": str(entry.get("name", index))}
        (target / str(entry.get("path") or "")).mkdir(exist_ok=True)
    atomic.write_json(target / "modules.json", listed)
    pooling = target / listed[kinds.index("Pooling")]["path"] / "config.json"
    before = read_json(pooling) if pooling.is_file() else {}
    if "pooling_mode" in before:
        changed: dict[str, Any] = {"pooling_mode": "lasttoken" if model.pooling == "last_token" else model.pooling}
    else:
        modes = {*_POOLING_MODES.values(), *(key for key in before if key.startswith("pooling_mode_"))}
        changed = {key: key == _POOLING_MODES[model.pooling] for key in sorted(modes)}
        changed["word_embedding_dimension"] = before.get("word_embedding_dimension", _token_width(model))
    atomic.write_json(pooling, {**before, **changed})
    transformer = target / str(listed[0].get("path") or "")
    own = next(iter(sorted(transformer.glob("sentence_*_config.json"))), transformer / "sentence_bert_config.json")
    values = read_json(own) if own.is_file() else {"do_lower_case": False}
    atomic.write_json(own, {**values, "max_seq_length": model.max_length})


def _module(kind: str, path: str) -> dict[str, Any]:
    return {"name": path or "0", "path": path, "type": _MODULE + kind}


def _token_width(model: TrainableEncoder) -> int:
    config: Any = model.transformer.config
    return int(config.get_text_config().hidden_size)


def _write_prompts(model: TrainableEncoder, settings: FolderSettings, target: Path) -> None:
    """config_sentence_transformers.json, where the prompts are not what it says already."""
    file = target / "config_sentence_transformers.json"
    query, document = model.prompts["query"], model.prompts["document"]
    if file.is_file() and (query, document) == (settings.query_prompt, settings.document_prompt):
        return
    values: dict[str, Any] = (
        read_json(file) if file.is_file() else {"default_prompt_name": None, "similarity_fn_name": "cosine"}
    )
    prompts = dict(values.get("prompts") or {})
    # A document's prompt may stand under several names, and the first one counts.
    names = {name for name in _DOCUMENT_PROMPTS if name in prompts} | {"document"}
    prompts |= {"query": query, **dict.fromkeys(names, document)}
    atomic.write_json(file, {**values, "prompts": prompts})
