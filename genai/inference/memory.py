"""How much memory a model will take, told from its files before any of them is loaded; no torch is needed.

    weights     in the format they will have: 2 or 4 bytes a number, or 1 for products in 8 bits
    cache       keys and values of so many tokens
    a step      what is there only while a step is computed, at its largest
    adapters    those that are to be loaded

Counted is what a processor's memory takes; measured numbers are named so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from genai.config.serve import LocalEngineConfig
from genai.config.sizes import parse_size
from genai.errors import DataError, UsageError
from genai.inference.scheduler import MAX_LOGPROB_ROWS
from genai.inference.weight_headers import StoredTensor, read_header, read_weights

TOKENS_AN_ANSWER = 1024
"""For which the cache has room by default, prompt included."""
LEAN_FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Kinds of models whose head is laid out anew, so that it is there beside the embeddings that it is tied to."""
_BYTES = {"bf16": 2, "fp32": 4}
_TOKENIZER_BYTES_A_TOKEN = 2 << 10
"""For each entry of the vocabulary: its bytes and what constraints make of them (0.9 KiB measured), and the tokenizer
(1 KiB, as training plans it)."""
_KERNEL_BYTES = 64 << 20
"""An estimate: working memory of products and code that is first touched by a step."""
_CHUNK_ROWS = 128
"""Tokens of a prompt that attend at once."""
_LOGIT_COPIES = 3
"""Logits, what penalties and bias make of them, and their probabilities."""
_CPU_FLAGS = frozenset({"avx512_bf16", "amx_tile"})
_EMBEDDINGS = re.compile(r"(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|token_embd)\.weight$")
_NO_PRODUCTS = re.compile(r"(embed\w*|wte|wpe|tok_embeddings|position\w*)\.weight$")
"""Tables that rows are looked up in."""
_OTHER_SENSES = re.compile(r"(^|\.)(vision|visual|audio|image)\w*\.")
"""Parts of a model for more than text that are not loaded."""

Precision = Literal["bf16", "fp32", "int8"]


@dataclass(frozen=True, kw_only=True)
class TextMemory:
    """What one language model takes, in bytes."""

    weights_bytes: int
    kv_bytes: int
    """Of the cache; all of it is taken at once."""
    workspace_bytes: int
    """Of a step at its largest, and of what belongs to the tokenizer."""
    adapters_bytes: int
    num_blocks: int
    """Of the cache, the reserved one included."""
    max_model_len: int
    """Tokens of prompt and answer together."""
    kv_bytes_per_token: int
    precision: Precision

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.workspace_bytes + self.adapters_bytes


@dataclass(frozen=True, kw_only=True)
class EncoderMemory:
    """What an encoder or reranker takes, in bytes."""

    weights_bytes: int
    workspace_bytes: int
    """Of a batch at its largest, and of the tokenizer."""

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.workspace_bytes


def plan_memory(
    folder: Path, config: LocalEngineConfig, *, adapters: Sequence[Path] = (), has_bf16: bool | None = None
) -> TextMemory:
    """What a language model takes.

    Args:
        folder: with config.json and safetensors.
        config: of the engine.
        adapters: folders of those that will be loaded.
        has_bf16: whether `auto` means bfloat16; by default what this machine's processor says.

    Raises:
        DataError: the files are missing or damaged, or do not tell what must be known.
        UsageError: the engine's settings do not fit the model.
    """
    shape = _read_shape(folder)
    dtype = _dtype(config.precision, has_bf16)
    precision: Precision = "int8" if config.precision == "int8" else dtype
    max_model_len = _max_model_len(shape, config, folder)
    kv_bytes_per_token = 2 * shape.kv_numbers * _BYTES[dtype]
    num_blocks = count_blocks(config, kv_bytes_per_token=kv_bytes_per_token, max_model_len=max_model_len)
    return TextMemory(
        weights_bytes=_weights_bytes(shape, precision, _BYTES[dtype]),
        kv_bytes=num_blocks * config.block_size * kv_bytes_per_token,
        workspace_bytes=_step_bytes(shape, config, precision, num_blocks, max_model_len)
        + tokens_in_rows(num_blocks * config.block_size) * kv_bytes_per_token,
        adapters_bytes=sum(_adapter_bytes(adapter, precision) for adapter in adapters),
        num_blocks=num_blocks,
        max_model_len=max_model_len,
        kv_bytes_per_token=kv_bytes_per_token,
        precision=precision,
    )


def count_blocks(config: LocalEngineConfig, *, kv_bytes_per_token: int, max_model_len: int) -> int:
    """Blocks of the cache, the reserved one included.

    Args:
        config: of the engine.
        kv_bytes_per_token: keys and values of one token in all layers.
        max_model_len: tokens of prompt and answer together.

    Raises:
        UsageError: `kv_cache` is too small for a single block.
    """
    if config.kv_cache is None:
        tokens = max(config.max_num_seqs * min(TOKENS_AN_ANSWER, max_model_len), max_model_len)
        return -(-tokens // config.block_size) + 1
    num_blocks = parse_size(config.kv_cache) // (config.block_size * kv_bytes_per_token)
    if num_blocks < 2:
        raise UsageError(
            f"kv_cache: {config.kv_cache} holds no block of {config.block_size} tokens beside the reserved one "
            f"({kv_bytes_per_token} bytes a token)",
            where="engine.kv_cache",
            fix=f"at least {2 * config.block_size * kv_bytes_per_token} bytes, or leave it out",
        )
    return num_blocks


def tokens_in_rows(num_tokens: int) -> int:
    """Tokens of answers whose keys and values lie in rows beside the cache, at most.

    Args:
        num_tokens: of the cache.
    """
    return num_tokens // 2


def plan_encoder_memory(
    folder: Path,
    *,
    max_batch_tokens: int,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    has_bf16: bool | None = None,
) -> EncoderMemory:
    """What an encoder or reranker takes.

    Args:
        folder: of transformers, sentence-transformers, or a table of token vectors.
        max_batch_tokens: of all texts that are read together.
        precision: of weights and products.
        has_bf16: see `plan_memory`.

    Raises:
        DataError: its weights are missing or damaged.
    """
    size = _BYTES[_dtype(precision, has_bf16)]
    tensors = _encoder_tensors(folder)
    matrices = [tensor.shape for tensor in tensors if len(tensor.shape) == 2]
    rows, width = max(matrices, key=lambda shape: shape[0], default=(0, 0))
    wide = max((shape[0] for shape in matrices if shape[0] != rows), default=0)
    # Hidden states, queries, keys, values, what comes out, and the inside of the feed-forward layer.
    batch_bytes = max_batch_tokens * (8 * width + 3 * wide) * size
    return EncoderMemory(
        weights_bytes=sum(_loaded_bytes(tensor, size) for tensor in tensors),
        workspace_bytes=batch_bytes + rows * _TOKENIZER_BYTES_A_TOKEN + _KERNEL_BYTES,
    )


# --- the model's shape ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What matters of a language model."""

    tensors: Sequence[StoredTensor]
    model_type: str
    is_tied: bool
    """The head has the embeddings' weights."""
    vocab_size: int
    d_model: int
    query_width: int
    """Of all heads of a layer."""
    kv_width: int
    """Of all heads of keys of a layer, at most."""
    kv_numbers: int
    """Of one token's keys in all layers."""
    mlp_width: int
    context: int | None
    """Tokens that it was made for."""


class _Values:
    """A config.json, where keys have other names in other families."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"it cannot be read: {error.strerror}", where=str(file)) from error
        except ValueError as error:
            raise DataError(f"this is no JSON: {error}", where=str(file), fix="fetch it again") from error
        if not isinstance(values, dict):
            raise DataError("this is no model's config", where=str(file))
        inner = values.get("text_config")
        self._layers = [inner, values] if isinstance(inner, dict) else [values]

    def get(self, *names: str) -> Any:
        """The first of these that is there and not null; what is said of the text's part goes first."""
        for values in self._layers:
            for name in names:
                if values.get(name) is not None:
                    return values[name]
        return None

    def number(self, *names: str) -> int | None:
        """The first of these, which must be a whole number above 0."""
        value = self.get(*names)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise DataError(f"{names[0]} is {value!r}, and not a number above 0", where=str(self._file))
        return value

    def needed(self, *names: str) -> int:
        """The same; it must be there."""
        value = self.number(*names)
        if value is None:
            raise DataError(f"{names[0]} is missing", where=str(self._file), fix="take the model's own config.json")
        return value


def _read_shape(folder: Path) -> _Shape:
    values = _Values(folder / "config.json")
    tensors = [tensor for tensor in read_weights(folder) if not _OTHER_SENSES.search(tensor.name)]
    table = next((each.shape for each in tensors if _EMBEDDINGS.search(each.name) and len(each.shape) == 2), None)
    d_model = table[1] if table else values.needed("hidden_size", "n_embd", "d_model")
    query_width, kv_width, kv_numbers = _attention(values, tensors, d_model)
    return _Shape(
        tensors=tensors,
        model_type=str(values.get("model_type")),
        is_tied=not any(tensor.name.endswith("lm_head.weight") for tensor in tensors),
        vocab_size=table[0] if table else values.needed("vocab_size"),
        d_model=d_model,
        query_width=query_width,
        kv_width=kv_width,
        kv_numbers=kv_numbers,
        mlp_width=values.number("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size") or 4 * d_model,
        context=values.number("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length"),
    )


def _attention(values: _Values, tensors: Sequence[StoredTensor], d_model: int) -> tuple[int, int, int]:
    """Widths of a layer's queries and of its keys, and of all layers' keys: by the weights where they lie apart."""
    widths = {name: _rows(tensors, f".{name}.weight") for name in ("q_proj", "k_proj")}
    if widths["k_proj"]:
        return max(widths["q_proj"], default=d_model), max(widths["k_proj"]), sum(widths["k_proj"])
    num_layers = values.needed("num_hidden_layers", "n_layer", "num_layers", "n_layers")
    num_heads = values.needed("num_attention_heads", "n_head", "num_heads", "n_heads")
    head_dim = values.number("head_dim") or d_model // num_heads
    shared = 1 if values.get("multi_query") else num_heads
    num_kv_heads = values.number("num_key_value_heads", "num_kv_heads") or shared
    return num_heads * head_dim, num_kv_heads * head_dim, num_layers * num_kv_heads * head_dim


def _rows(tensors: Sequence[StoredTensor], ending: str) -> list[int]:
    """Outputs of the layers of this name; weights packed into whole numbers do not tell."""
    return [
        tensor.shape[0]
        for tensor in tensors
        if tensor.name.endswith(ending) and len(tensor.shape) == 2 and tensor.is_floating
    ]


def _max_model_len(shape: _Shape, config: LocalEngineConfig, folder: Path) -> int:
    wanted = config.max_model_len
    if wanted is None and shape.context is None:
        raise UsageError(
            "its config.json does not say how long a text it can read",
            where=str(folder),
            fix="set engine.max_model_len",
        )
    if wanted is not None and shape.context is not None and wanted > shape.context:
        raise UsageError(
            f"max_model_len: {wanted} is more than the model can read ({shape.context} tokens)",
            where="engine.max_model_len",
            fix=f"at most {shape.context}, or leave it out",
        )
    return wanted or shape.context or 0


# --- bytes ------------------------------------------------------------------------------------------------------------


def _dtype(precision: str, has_bf16: bool | None) -> Literal["bf16", "fp32"]:
    """The format of numbers that are not in 8 bits."""
    if precision in ("bf16", "fp32"):
        return "bf16" if precision == "bf16" else "fp32"
    return "bf16" if (_processor_has_bf16() if has_bf16 is None else has_bf16) else "fp32"


def _processor_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether products in bfloat16 are quick here, as `genai.models.precision` has it, which needs torch to know."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not _CPU_FLAGS.isdisjoint(flags.split())


def _weights_bytes(shape: _Shape, precision: Precision, size: int) -> int:
    if precision == "int8":
        total = sum(_int8_bytes(tensor, size) for tensor in shape.tensors)
    else:
        total = sum(_loaded_bytes(tensor, size) for tensor in shape.tensors)
    is_laid_out = precision == "int8" or shape.model_type in LEAN_FAMILIES
    if shape.is_tied and is_laid_out:
        row_bytes = shape.d_model + 4 if precision == "int8" else shape.d_model * size
        total += shape.vocab_size * row_bytes
    return total


def _loaded_bytes(tensor: StoredTensor, size: int) -> int:
    """In the format that the model is loaded in; whole numbers stay as they are."""
    return tensor.numel * size if tensor.is_floating else tensor.num_bytes


def _int8_bytes(tensor: StoredTensor, size: int) -> int:
    """Products take a byte a number and a scale a row; the rest stays as it is."""
    is_product = len(tensor.shape) == 2 and tensor.is_floating and not _NO_PRODUCTS.search(tensor.name)
    return tensor.numel + 4 * tensor.shape[0] if is_product else _loaded_bytes(tensor, size)


def _step_bytes(
    shape: _Shape, config: LocalEngineConfig, precision: Precision, num_blocks: int, max_model_len: int
) -> int:
    """A step that is full in every way at once."""
    size = 2 if precision == "bf16" else 4
    tokens = max(config.max_num_batched_tokens, config.max_num_seqs)
    rows = min(config.max_num_seqs + MAX_LOGPROB_ROWS, tokens)
    logits = rows * shape.vocab_size * (4 * _LOGIT_COPIES + size)
    widths = 4 * shape.d_model + 3 * (shape.query_width + 2 * shape.kv_width) + 3 * shape.mlp_width
    # Answers that share blocks each gather their own copy of them.
    gathered = min(config.max_num_seqs * max_model_len, 2 * num_blocks * config.block_size)
    context = max(gathered, max_model_len)
    attention = 2 * context * shape.kv_width * size + 2 * _scores(shape, max_model_len, tokens) * size
    tokenizer = shape.vocab_size * _TOKENIZER_BYTES_A_TOKEN
    return logits + tokens * widths * size + attention + tokenizer + _KERNEL_BYTES


def _scores(shape: _Shape, max_model_len: int, tokens: int) -> int:
    """Numbers of the largest piece of attention: for each query head, of which few are narrower than 64 numbers."""
    num_heads = max(1, shape.query_width // 64)
    return num_heads * min(_CHUNK_ROWS, tokens) * max_model_len


def _adapter_bytes(folder: Path, precision: Precision) -> int:
    size = 2 if precision == "bf16" else 4
    file = folder / "adapter_model.safetensors"
    return sum(_loaded_bytes(tensor, size) for tensor in read_header(file))


def _encoder_tensors(folder: Path) -> list[StoredTensor]:
    """Of the transformer or table, and of what sentence-transformers puts behind it."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return read_weights(folder) if (folder / "config.json").is_file() else _any_tensors(folder)
    try:
        paths = [folder / str(module["path"]) for module in json.loads(modules.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("the list of the encoder's parts cannot be read", where=str(modules)) from error
    first = read_weights(paths[0]) if paths else []
    return [*first, *(tensor for path in paths[1:] for tensor in _any_tensors(path) if path != paths[0])]


def _any_tensors(folder: Path) -> list[StoredTensor]:
    return [tensor for file in sorted(folder.glob("*.safetensors")) for tensor in read_header(file)]
