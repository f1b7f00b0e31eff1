"""A Llama read from and written to a Hugging Face folder: config.json and safetensors, in one file or in several."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from genai.errors import DataError
from genai.models.llama.config import LlamaConfig
from genai.models.llama.model import Llama
from genai.storage import atomic

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_MAX_SHARD_BYTES = 5 * 10**9


def load_llama(folder: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Llama:
    """The model in `folder`, its weights in `dtype` on `device`.

    Raises:
        UsageError: the folder holds another architecture, or a Llama with a part that this one lacks.
        DataError: files are missing or damaged, or the weights do not fit the config.
    """
    folder = Path(folder)
    config = LlamaConfig.from_hf(_read_json(folder / "config.json"), where=str(folder / "config.json"))
    with torch.device("meta"):
        model = Llama(config)
    expected = model.state_dict()
    found: dict[str, torch.Tensor] = {}
    for file in _weight_files(folder):
        found.update(_read_weights(file, device, dtype))
    if config.tie_embeddings:
        found.setdefault(_EMBEDDING, found.get(_HEAD, torch.empty(0)))
        found.pop(_HEAD, None)
    _check(expected, found, folder)
    model.load_state_dict(found, assign=True)
    return model


def save_llama(
    model: Llama,
    folder: Path | str,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    max_shard_bytes: int = _MAX_SHARD_BYTES,
) -> Path:
    """Write `model` so that plain transformers loads it as a `LlamaForCausalLM`.

    Args:
        model: with whole (not sharded) parameters.
        folder: appears whole, in place of what was there.
        tokenizer: is written with it, and names the tokens that begin and end a text.
        dtype: of the weights in the files.
        max_shard_bytes: of one file.

    Returns:
        `folder`.

    Raises:
        DataError: a weight is not finite.
    """
    folder = Path(folder)
    state = {name: _exportable(name, tensor, dtype) for name, tensor in model.state_dict().items()}
    with atomic.atomic_directory(folder, existing="replace") as scratch:
        config = {**model.config.to_hf(), "dtype": str(dtype).removeprefix("torch."), **_special_tokens(tokenizer)}
        atomic.write_json(scratch / "config.json", config)
        _write_weights(state, scratch, max_shard_bytes)
        if tokenizer is not None:
            tokenizer.save_pretrained(scratch)
            atomic.write_json(scratch / "generation_config.json", _special_tokens(tokenizer))
        for file in scratch.glob("*.safetensors"):  # safetensors writes for the owner only, whatever the umask is
            file.chmod((scratch / "config.json").stat().st_mode)
    return folder


def to_transformers(model: Llama) -> LlamaForCausalLM:
    """The same weights (shared, not copied) as a model of transformers, for generation and export."""
    from transformers import LlamaConfig as TransformersConfig
    from transformers import LlamaForCausalLM

    values = {key: value for key, value in model.config.to_hf().items() if value is not None}
    config = TransformersConfig(**values, **_special_tokens(None))
    with torch.device("meta"):
        theirs: LlamaForCausalLM = LlamaForCausalLM(config)
    report = theirs.load_state_dict(model.state_dict(), assign=True, strict=False)
    assert not report.unexpected_keys and set(report.missing_keys) <= {_HEAD}
    theirs.tie_weights()
    # The frequencies are a buffer that no state dict holds.
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config).to(model.model.embed_tokens.weight.device)
    theirs.train(model.training)
    return theirs


# --- reading ----------------------------------------------------------------------------------------------------------


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(path), fix="name a folder with a model in it") from None
    except (OSError, ValueError) as error:
        raise DataError(f"not readable as JSON: {error}", where=str(path)) from error
    if not isinstance(values, dict):
        raise DataError("holds no JSON object", where=str(path))
    return values


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        files = [folder / "model.safetensors"]
    else:
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
        if foreign := [name for name in names if Path(name).name != name]:
            raise DataError(f"the weight map points outside the folder: {foreign[0]}", where=str(index))
        files = [folder / name for name in names]
    for file in files:
        if not file.is_file():
            fix = "only safetensors are read" if len(files) == 1 else "the folder is incomplete"
            raise DataError("there is no such file", where=str(file), fix=fix)
    return files


def _read_weights(file: Path, device: torch.device | str, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    try:
        with safe_open(file, framework="pt", device="cpu") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (no mapping)
                if not name.endswith("rotary_emb.inv_freq"):  # written by transformers long ago
                    yield name, tensors.get_tensor(name).to(device, dtype)
    except SafetensorError as error:
        raise DataError(f"the weights are damaged ({error})", where=str(file), fix="copy them again") from error


def _check(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor], folder: Path) -> None:
    if missing := sorted(set(expected) - set(found)):
        raise DataError(f"{len(missing)} weights are missing, e.g. {missing[0]}", where=str(folder))
    if unknown := sorted(set(found) - set(expected)):
        raise DataError(f"{len(unknown)} weights have no place in the model, e.g. {unknown[0]}", where=str(folder))
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            shapes = f"{tuple(found[name].shape)}, not {tuple(tensor.shape)}"
            raise DataError(f"the weight {name} has shape {shapes} as config.json says", where=str(folder))


# --- writing ----------------------------------------------------------------------------------------------------------


def _exportable(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if not tensor.isfinite().all():
        raise DataError(f"the weight {name} is not finite", fix="go back to an earlier checkpoint")
    return tensor.detach().to("cpu", dtype).contiguous()


def _write_weights(state: dict[str, torch.Tensor], folder: Path, max_shard_bytes: int) -> None:
    shards = list(_shards(state, max_shard_bytes))
    if len(shards) == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for file, names in zip(files, shards, strict=True):
        save_file({name: state[name] for name in names}, folder / file, metadata={"format": "pt"})
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in state.values())},
        "weight_map": {name: file for file, names in zip(files, shards, strict=True) for name in names},
    }
    atomic.write_json(folder / "model.safetensors.index.json", index)


def _shards(state: dict[str, torch.Tensor], max_shard_bytes: int) -> Iterator[list[str]]:
    """Names file by file, in their order; a weight that is larger than a file may be has one of its own."""
    names: list[str] = []
    size = 0
    for name, tensor in state.items():
        if names and size + tensor.nbytes > max_shard_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += tensor.nbytes
    yield names


def _special_tokens(tokenizer: PreTrainedTokenizerBase | None) -> dict[str, Any]:
    if tokenizer is None:
        return {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    return {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
