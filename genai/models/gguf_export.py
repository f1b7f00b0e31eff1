"""A Hugging Face folder written as one GGUF file, for llama.cpp, Ollama and everything built on them.

Our own converter for the Llama family with byte-level BPE: Llama, Mistral, Qwen 2 and Qwen 3. Tensors are read,
converted and written one at a time, so that memory holds one tensor. What a file of this format cannot say is
refused, not dropped.

Source: the GGUF specification (ggml, docs/gguf.md); the Llama 3 position scaling is that of transformers'
`rope_type: llama3`, which llama.cpp takes as a tensor of divisors.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from genai.errors import DataError, MissingExtraError, UsageError
from genai.log import progress
from genai.models.gguf_tokenizer import add_tokenizer
from genai.storage import atomic

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter

GgufDtype = Literal["f32", "f16", "bf16", "q8_0"]
GGUF_DTYPES: tuple[str, ...] = get_args(GgufDtype)
_FLOAT16_MAX = 65504.0


@dataclass(frozen=True)
class _Family:
    architecture: str
    """llama.cpp's name."""
    permutes_rotary: bool
    """Whether llama.cpp turns pairs of neighbours where transformers turns the two halves of a head."""


_FAMILIES: Mapping[str, _Family] = {
    "llama": _Family("llama", True),
    "mistral": _Family("llama", True),
    "qwen2": _Family("qwen2", False),
    "qwen3": _Family("qwen3", False),
}


def export_gguf(hf_folder: Path, out_path: Path, *, dtype: str = "f16") -> Path:
    """Write the model in `hf_folder` to the file `out_path`, which appears whole.

    Args:
        hf_folder: config.json, safetensors, tokenizer.json.
        out_path: the file.
        dtype: f32, f16, bf16 or q8_0 (8 bits, blocks of 32); vectors always stay f32.

    Returns:
        `out_path`.

    Raises:
        UsageError: an unknown dtype, or a model this converter does not cover; says what it is about.
        DataError: a weight has no place in the format, or does not fit float16.
    """
    if dtype not in GGUF_DTYPES:
        raise UsageError(f"unknown GGUF dtype '{dtype}'", fix=f"one of {', '.join(GGUF_DTYPES)}")
    try:
        from gguf import GGUFWriter
    except ModuleNotFoundError as error:
        raise MissingExtraError("gguf", extra="train", needed_for="writing GGUF") from error
    config = json.loads((hf_folder / "config.json").read_text())
    family = _family(config)
    out_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = atomic.temporary_sibling(out_path)
    try:
        with atomic.explain_full_disk(out_path), closing(GGUFWriter(None, family.architecture)) as writer:
            _add_shape(writer, config)
            add_tokenizer(writer, hf_folder, num_rows=config["vocab_size"])
            _write_tensors(writer, temporary, hf_folder, config, family, dtype)
        atomic.fsync_file(temporary)
        os.replace(temporary, out_path)
        atomic.fsync_folder(out_path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return out_path


def _family(config: Mapping[str, Any]) -> _Family:
    model_type = config.get("model_type")
    family = _FAMILIES.get(str(model_type))
    if family is None:
        raise UsageError(f"GGUF export knows {', '.join(_FAMILIES)}, not '{model_type}'", fix="export as hf")
    window = config.get("sliding_window")
    if window and config.get("use_sliding_window", True) and window < config["max_position_embeddings"]:
        raise UsageError(f"GGUF export cannot say sliding_window: {window} for '{model_type}'", fix="export as hf")
    if _rope(config).get("rope_type", "default") not in ("default", "llama3"):
        raise UsageError(f"GGUF export does not know rope_type '{_rope(config)['rope_type']}'", fix="export as hf")
    if config.get("hidden_act", "silu") != "silu":
        raise UsageError(f"GGUF export does not know hidden_act '{config['hidden_act']}'", fix="export as hf")
    return family


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary settings in the form of transformers 5; older configs spread them over two keys."""
    if isinstance(config.get("rope_parameters"), dict):
        return dict(config["rope_parameters"])
    scaling = dict(config.get("rope_scaling") or {})
    kind = scaling.pop("rope_type", scaling.pop("type", "default"))
    return {"rope_theta": config.get("rope_theta", 10000.0), "rope_type": kind, **scaling}


def _head_dim(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _add_shape(writer: GGUFWriter, config: Mapping[str, Any]) -> None:
    heads = config["num_attention_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(_head_dim(config))
    writer.add_value_length(_head_dim(config))
    writer.add_rope_dimension_count(_head_dim(config))
    writer.add_rope_freq_base(float(_rope(config)["rope_theta"]))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(config["vocab_size"])


# --- tensors ----------------------------------------------------------------------------------------------------------


def _write_tensors(
    writer: GGUFWriter, path: Path, folder: Path, config: Mapping[str, Any], family: _Family, dtype: str
) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType, quant_shape_to_byte_shape
    from gguf.quants import quantize

    kinds = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_file_type(LlamaFileType[kinds[dtype]])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    extra = _rope_tensor(config)
    plan = _plan(folder, config, family, dtype)
    for name, values in extra.items():
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
    for item in plan:
        stored = quant_shape_to_byte_shape(item.shape, item.kind)
        numpy_dtype, nbytes = _numpy_dtype(item.kind), math.prod(stored)
        shape = stored if numpy_dtype == "uint8" else item.shape
        writer.add_tensor_info(item.name, shape, _as_dtype(numpy_dtype), nbytes, raw_dtype=item.kind)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for values in extra.values():
        writer.write_tensor_data(values)
    with progress(f"writing {path.name}", len(plan)) as task:
        for done, (item, values) in enumerate(_read(plan, config, family), start=1):
            if item.kind.name == "F16" and abs(values).max() > _FLOAT16_MAX:
                raise DataError(f"{item.source} does not fit float16", fix="export as bf16")
            writer.write_tensor_data(quantize(values, item.kind))
            task.update(done)


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """One tensor of the file to be."""

    name: str
    source: str
    file: Path
    shape: tuple[int, ...]
    kind: GGMLQuantizationType


def _plan(folder: Path, config: Mapping[str, Any], family: _Family, dtype: str) -> list[_Planned]:
    """Name, shape and number format of every tensor, file by file."""
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map
    from safetensors import safe_open

    architecture = next(key for key in MODEL_ARCH if MODEL_ARCH_NAMES[key] == family.architecture)
    names = get_tensor_name_map(architecture, config["num_hidden_layers"])
    planned = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for source in tensors.keys():  # noqa: SIM118  (safe_open is no mapping)
                if source.endswith("rotary_emb.inv_freq") or (
                    source == "lm_head.weight" and config.get("tie_word_embeddings")
                ):
                    continue
                name = names.get_name(source, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise DataError(f"{source} has no place in a GGUF file of '{family.architecture}'", where=str(file))
                shape = tuple(tensors.get_slice(source).get_shape())
                planned.append(_Planned(name=name, source=source, file=file, shape=shape, kind=_kind(shape, dtype)))
    if not planned:
        raise DataError("there are no safetensors to export", where=str(folder))
    return planned


def _kind(shape: tuple[int, ...], dtype: str) -> GGMLQuantizationType:
    """Vectors stay f32, as llama.cpp expects; rows that do not fill blocks of 32 become f16 where q8_0 was wanted."""
    from gguf import GGMLQuantizationType

    if len(shape) < 2:
        return GGMLQuantizationType.F32
    if dtype == "q8_0" and shape[-1] % 32:
        return GGMLQuantizationType.F16
    return GGMLQuantizationType[dtype.upper()]


def _read(
    plan: list[_Planned], config: Mapping[str, Any], family: _Family
) -> Iterator[tuple[_Planned, np.ndarray[Any, Any]]]:
    """The tensors of the plan in float32, rows of rotary projections in llama.cpp's order."""
    from safetensors import safe_open

    heads = config["num_attention_heads"]
    turned = {"q_proj": heads, "k_proj": config.get("num_key_value_heads") or heads}
    for item in plan:
        with safe_open(item.file, framework="pt") as tensors:
            values = tensors.get_tensor(item.source).float().numpy()
        projection = item.source.split(".")[-2]
        if family.permutes_rotary and projection in turned:
            values = _interleave_halves(values, turned[projection])
        yield item, values


def _interleave_halves(values: np.ndarray[Any, Any], num_heads: int) -> np.ndarray[Any, Any]:
    """Rows (heads, 2, half) to (heads, half, 2): what rotates together comes to stand side by side."""
    rows = values.shape[0]
    halves = values.reshape(num_heads, 2, rows // num_heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _rope_tensor(config: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """`rope_freqs.weight`, by which llama.cpp divides the rotary frequencies; empty without Llama 3's scaling."""
    import numpy as np

    rope = _rope(config)
    if rope.get("rope_type", "default") != "llama3":
        return {}
    factor, original = float(rope["factor"]), float(rope["original_max_position_embeddings"])
    low, high = float(rope.get("low_freq_factor", 1.0)), float(rope.get("high_freq_factor", 4.0))
    exponents = np.arange(0, _head_dim(config), 2, dtype=np.float64) / _head_dim(config)
    wavelengths = 2 * math.pi * float(rope["rope_theta"]) ** exponents
    smooth = np.clip((original / wavelengths - low) / (high - low), 0.0, 1.0)
    return {"rope_freqs.weight": (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)}


def _numpy_dtype(kind: GGMLQuantizationType) -> str:
    return {"F32": "float32", "F16": "float16"}.get(kind.name, "uint8")


def _as_dtype(name: str) -> Any:
    import numpy as np

    return np.dtype(name)
