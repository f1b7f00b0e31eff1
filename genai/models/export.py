"""A model written as a folder that plain transformers loads, or as one GGUF file for llama.cpp and Ollama."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.errors import DataError
from genai.models.chat_template import stop_token_ids
from genai.models.gguf_export import GGUF_DTYPES, export_gguf
from genai.models.model_card import ModelCard
from genai.models.quiet import quiet_transformers
from genai.models.references import ResolvedModel
from genai.storage import atomic

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["GGUF_DTYPES", "ModelCard", "export_gguf", "export_hf", "stored_dtype"]

_STORED_DTYPES = ("float32", "bfloat16", "float16")


def stored_dtype(resolved: ResolvedModel) -> torch.dtype:
    """The number format in which a model's files hold its weights: what an export of its descendants should keep.

    A base published in bfloat16 was rounded once already; a merge is computed in float32 and rounded once as well.
    """
    import torch

    config = json.loads((resolved.path / "config.json").read_text())
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return torch.float32 if name not in _STORED_DTYPES else getattr(torch, name)


def export_hf(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    card: ModelCard,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write weights (safetensors), config, tokenizer, chat template, generation config and model card.

    Args:
        model: a plain model (merge an adapter first); it is not changed.
        tokenizer: the one it was trained with.
        folder: appears whole, in place of what was there.
        card: becomes README.md.
        dtype: of the weights in the files; None keeps that in memory. See `stored_dtype`.

    Returns:
        `folder`.

    Raises:
        DataError: a weight is not finite, or `model` still holds an adapter.
    """
    if any(".lora_" in name for name, _ in model.named_parameters()):
        raise DataError("the model still holds an adapter", fix="merge it before the export")
    target = dtype or model.dtype
    with atomic.atomic_directory(folder, existing="replace") as scratch, quiet_transformers():
        model.save_pretrained(scratch, state_dict=_state_in(model, target))
        _finish_config(scratch / "config.json", target, tokenizer)
        tokenizer.save_pretrained(scratch)
        _generation_config(model, tokenizer).save_pretrained(scratch)
        atomic.write_text(scratch / "README.md", card.render())
        for file in scratch.glob("*.safetensors"):  # safetensors writes for the owner only, whatever the umask is
            shutil.copymode(scratch / "config.json", file)
    return folder


def _state_in(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """All weights on the CPU in `dtype`; tied ones stay one tensor."""
    converted: dict[tuple[int, tuple[int, ...]], torch.Tensor] = {}
    state = {}
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if key not in converted:
            if not tensor.isfinite().all():
                raise DataError(f"the weight {name} is not finite", fix="go back to an earlier checkpoint")
            converted[key] = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
        state[name] = converted[key]
    return state


def _finish_config(config: Path, dtype: torch.dtype, tokenizer: PreTrainedTokenizerBase) -> None:
    """Name the number format of the files, where transformers has written that of memory, and the pad token."""
    values = json.loads(config.read_text())
    values["dtype"] = str(dtype).removeprefix("torch.")
    values["pad_token_id"] = tokenizer.pad_token_id
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def _generation_config(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """The base's settings, with every token that ends an answer: a server that does not know the template stops too."""
    from transformers import GenerationConfig

    base: GenerationConfig | Any = model.generation_config
    values: dict[str, Any] = base.to_diff_dict() if base is not None else {}
    for leftover in ("_from_model_config", "output_attentions", "output_hidden_states", "transformers_version"):
        values.pop(leftover, None)
    values |= {
        "eos_token_id": stop_token_ids(tokenizer, base.eos_token_id if base is not None else None),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    return GenerationConfig(**values)
